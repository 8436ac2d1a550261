//! `docs/wire.md` by its word: a program of another language, which knows that document and AMQP and nothing of
//! ours. The examples are read out of the document.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use longshore::action::{Context, Registry};
use longshore::domain::limits::{PAYLOAD_BYTES_DEFAULT, SIGNALS_MAX};
use serde_json::{Value, json};

use crate::support::eventually::eventually;
use crate::support::fleet::{Fleet, Web, own_executor};
use crate::support::world::PATIENCE;

const DOCUMENT: &str = include_str!("../../docs/wire.md");

const EVENT: &str = "application/cloudevents+json";

/// The example of the document that stands below the comment `name`.
fn example(name: &str) -> Value {
    let mark = format!("<!-- {name} -->\n```json\n");
    let (_, rest) = DOCUMENT.split_once(&mark).expect(name);
    let (text, _) = rest.split_once("```").unwrap();
    serde_json::from_str(text).expect(name)
}

/// A program that speaks AMQP.
struct Stranger {
    connection: Connection,
    channel: Channel,
}

impl Stranger {
    async fn connect(fleet: &Fleet, role: &str) -> Self {
        let url = fleet.broker(role);
        let connection = Connection::connect(&url, ConnectionProperties::default());
        let connection = connection.await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let confirms = channel.confirm_select(ConfirmSelectOptions::default());
        confirms.await.unwrap();
        Self {
            connection,
            channel,
        }
    }

    /// Publishes, and waits until the broker has it.
    async fn say(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) {
        let properties = properties.with_delivery_mode(2);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let published =
            self.channel
                .basic_publish(exchange.into(), key.into(), options, body, properties);
        let confirmed = published.await.unwrap().await.unwrap();
        assert!(confirmed.is_ack(), "{confirmed:?}");
    }

    async fn submit(&self, properties: BasicProperties, body: &Value) {
        let body = body.to_string();
        self.say(
            "longshore.submissions",
            "submit.default",
            properties,
            body.as_bytes(),
        )
        .await;
    }

    /// Sends what is to go to `longshore.signals`, under the key that the document says.
    async fn signal(&self, kind: &str, event: &Value) {
        let key = format!("{kind}.{}", word(event, "subject"));
        let body = event.to_string();
        self.say("longshore.signals", &key, of_type(EVENT), body.as_bytes())
            .await;
    }

    async fn close(self) {
        self.connection.close(200, "OK".into()).await.unwrap();
    }
}

fn of_type(content: &str) -> BasicProperties {
    BasicProperties::default().with_content_type(content.into())
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().expect(name)
}

/// Every field of a document, as paths. What is in a list has the fields of its first.
fn shape(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                shape(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(parts) => {
            for part in parts.iter().take(1) {
                shape(part, &format!("{path}[]"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.insert(path.to_owned());
        }
    }
}

fn shape_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    shape(value, "", &mut found);
    found
}

/// Reads the history from its beginning until an event of the type `last` about `task`; the message of each.
async fn history_until(tap: &Stranger, task: &str, last: &str) -> Vec<Value> {
    let qos = tap.channel.basic_qos(100, BasicQosOptions::default());
    qos.await.unwrap();
    let mut arguments = FieldTable::default();
    let first = AMQPValue::LongString("first".into());
    arguments.insert("x-stream-offset".into(), first);
    let options = BasicConsumeOptions::default();
    let consumer =
        tap.channel
            .basic_consume("longshore.history".into(), "".into(), options, arguments);
    let mut consumer = consumer.await.unwrap();
    let mut found = Vec::new();
    loop {
        let delivery = tokio::time::timeout(Duration::from_secs(30), consumer.next());
        let delivery = delivery.await.expect(last).unwrap().unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        let headers = delivery.properties.headers().as_ref().unwrap();
        assert!(headers.inner().contains_key("x-stream-offset"));
        let message: Value = serde_json::from_slice(&delivery.data).unwrap();
        let events = message.as_array().cloned();
        let events = events.unwrap_or_else(|| vec![message.clone()]);
        for event in events.iter().filter(|event| event["subject"] == task) {
            found.push(message.clone());
            if event["type"] == last {
                return found;
            }
        }
    }
}

#[tokio::test]
async fn a_whole_task_by_message_is_one_task_however_often_it_is_sent() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let plain = example("submission");
    for _ in 0..2 {
        client.submit(of_type("application/json"), &plain).await;
    }
    let event = example("submission event");
    client.submit(of_type(EVENT), &event).await;
    let unnamed = example("submission without id");
    let id = "01900000-0000-7000-8000-0000000000aa";
    let named = of_type("application/json").with_message_id(id.into());
    client.submit(named, &unnamed).await;
    let tasks = [
        (word(&plain, "id"), &plain["input"]),
        (word(&event, "subject"), &event["data"]["input"]),
        (id, &unnamed["input"]),
    ];
    for (id, input) in tasks {
        let task = web.until(id, "succeeded").await;
        assert_eq!((&task["output"], &task["attempt"]), (input, &json!(1)));
    }
    fleet.is_idle().await;
    let (_, page) = web.read("/v1/tasks").await;
    assert_eq!(page["tasks"].as_array().unwrap().len(), tasks.len());
    let tap = Stranger::connect(&fleet, "longshore-tap").await;
    let seen = history_until(&tap, tasks[0].0, "longshore.task.succeeded").await;
    let [created, succeeded] = seen.as_slice() else {
        panic!("{seen:#?}")
    };
    // An executor was brought the event alone; taps are told of many at once.
    assert_eq!(shape_of(created), shape_of(&json!([example("created")])));
    assert_eq!(shape_of(succeeded), shape_of(&example("results")));
    client.close().await;
    tap.close().await;
    drop(executor);
}

#[tokio::test]
async fn a_key_makes_one_task_of_messages_and_another_wish_goes_to_the_dead() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let keyed = example("submission with key");
    for _ in 0..3 {
        client.submit(of_type("application/json"), &keyed).await;
    }
    fleet.is_idle().await;
    let (_, page) = web.read("/v1/tasks").await;
    let [task] = page["tasks"].as_array().unwrap().as_slice() else {
        panic!("{page:#}");
    };
    assert_eq!(task["idempotency_key"], keyed["idempotency_key"]);
    web.until(word(task, "id"), "succeeded").await;
    let mut other = keyed.clone();
    other["input"] = json!("a secret");
    client.submit(of_type("application/json"), &other).await;
    let said = executor.said("differs in `input`: to the dead").await;
    assert!(!said.to_string().contains("a secret"), "{said}");
    assert_eq!(said["level"], "WARN");
    let only_dead = json!([{"name": "longshore.dead", "messages": 1}]);
    let messages = async || fleet.messages();
    eventually("it is with the dead", messages, |left| *left == only_dead).await;
    client.close().await;
    drop(executor);
}

#[tokio::test]
async fn a_cancel_by_message_ends_a_task_that_runs() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let other = fleet.executor("x2", &[]).await;
    let nap = json!({"action": "sleep", "input": {"seconds": 1000}});
    let id = web.submit(&nap).await;
    web.until(&id, "running").await;
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let mut cancel = example("cancel");
    cancel["subject"] = json!(id);
    client.signal("cancel", &cancel).await;
    let task = web.until(&id, "cancelled").await;
    assert_eq!(task["error"]["message"], cancel["data"]["reason"]);
    fleet.is_idle().await;
    client.close().await;
    drop((executor, other));
}

#[tokio::test]
async fn a_paused_task_is_resumed_by_a_web_server_and_given_up_by_message() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let mut tap = fleet.tap().await;
    let fail = json!({"action": "fail", "on_failure": "pause"});
    let task = web.run(&fail).await;
    let id = word(&task, "id");
    let resume = format!("/v1/tasks/{id}/resume");
    assert_eq!(web.post(&resume, &json!({})).await.0, 200);
    let task = web.finished(id).await;
    assert_eq!(
        (&task["state"], &task["attempt"]),
        (&json!("paused"), &json!(2))
    );
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let mut abandon = example("abandon");
    abandon["subject"] = json!(id);
    client.signal("abandon", &abandon).await;
    let task = web.until(id, "failed").await;
    assert_eq!(task["error"]["message"], abandon["data"]["reason"]);
    let history = web.read(&format!("/v1/tasks/{id}/history")).await.1;
    assert_eq!(history["entries"][0]["who"], "http");
    assert_eq!(history["entries"][1]["who"], "/billing");
    tap.listen_until(|event| event.kind.as_str() == "failed")
        .await;
    assert_eq!(
        tap.kinds(id),
        ["created", "paused", "woken", "paused", "abandon", "failed"]
    );
    tap.close().await;
    fleet.is_idle().await;
    client.close().await;
    drop(executor);
}

#[tokio::test]
async fn a_message_that_cannot_be_used_goes_to_the_dead_and_nothing_is_stuck() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let mut unknown_field = example("submission");
    unknown_field["colour"] = json!("red");
    let mut unknown_type = example("submission event");
    unknown_type["type"] = json!("longshore.task.sung");
    let without_id = example("submission without id");
    let bad = [
        json!("no task"),
        unknown_field,
        unknown_type.clone(),
        without_id,
    ];
    for body in &bad {
        client.submit(of_type("application/json"), body).await;
    }
    let event = unknown_type.to_string();
    for body in [event.as_bytes(), b"{", b"\xff"] {
        client
            .say("longshore.signals", "cancel.x", of_type(EVENT), body)
            .await;
    }
    let expected = bad.len() + 3;
    let depth = async || fleet.vhost.depth("longshore.dead").await;
    eventually("all are with the dead", depth, |depth| {
        *depth == Some(expected)
    })
    .await;
    client
        .submit(of_type("application/json"), &example("submission"))
        .await;
    web.until(word(&example("submission"), "id"), "succeeded")
        .await;
    let messages = async || fleet.messages();
    let only_dead = json!([{"name": "longshore.dead", "messages": expected}]);
    eventually("nothing else is left", messages, |left| *left == only_dead).await;
    client.close().await;
    drop(executor);
}

/// Waits until a task is suspended in its attempt number `attempt`.
async fn suspended(web: &Web, id: &str, attempt: u32) {
    let path = format!("/v1/tasks/{id}");
    let look = async || web.read(&path).await.1;
    let is_there = |task: &Value| task["state"] == "suspended" && task["attempt"] == attempt;
    eventually("it is suspended", look, is_there).await;
}

#[tokio::test]
async fn a_signal_by_message_wakes_the_task_that_waits_and_sent_twice_it_is_one() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    // Signals come to any executor, the one that knows the action or not.
    let stranger = fleet.executor("x1", &[]).await;
    fleet.create_queue("approvals");
    let registry = Registry::new().with_fn("approval", |context: Context, (): ()| async move {
        let first: Value = context.wait_for("approved").await?;
        let second: Value = context.wait_for("approved").await?;
        Ok([first, second])
    });
    let runtime = fleet.runtime("longshore-executor").await;
    let executor = own_executor(&runtime, registry, "approvals").await;
    let task = json!({"action": "approval", "queue": "approvals"});
    let id = web.submit(&task).await;
    suspended(&web, &id, 1).await;
    let messages = async || fleet.messages();
    eventually(
        "no queue holds anything for it, also not unacknowledged",
        messages,
        |full| *full == json!([]),
    )
    .await;
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let mut signal = example("signal");
    signal["subject"] = json!(id);
    client.signal("signal", &signal).await;
    suspended(&web, &id, 2).await;
    // Its key was seen, though the task waits for that name again.
    signal["id"] = json!("5");
    for _ in 0..2 {
        client.signal("signal", &signal).await;
    }
    let data = signal["data"].as_object_mut().unwrap();
    data.remove("key");
    data["payload"] = json!({"by": "bob"});
    // Without a key, source and id are the key.
    for _ in 0..2 {
        client.signal("signal", &signal).await;
    }
    let task = web.until(&id, "succeeded").await;
    let payload = &example("signal")["data"]["payload"];
    assert_eq!(task["output"], json!([payload, {"by": "bob"}]));
    assert_eq!(task["attempt"], 3);
    client.close().await;
    assert_eq!(executor.drain(PATIENCE).await.given_back, 0);
    drop(executor);
    runtime.stop().await;
    fleet.is_idle().await;
    drop(stranger);
}

/// Signals for `task` that nobody can use, each with the reason that is said.
fn bad_signals(task: &str) -> Vec<(Value, &'static str)> {
    let mut right = example("signal");
    right["subject"] = json!(task);
    let with = |field: &str, value: Value| {
        let mut event = right.clone();
        event[field] = value;
        event
    };
    let data = |field: &str, value: Value| {
        let mut event = right.clone();
        event["data"][field] = value;
        event
    };
    let nobody = "019e3c00-0000-7000-8000-0000000000aa";
    let large = "x".repeat(PAYLOAD_BYTES_DEFAULT);
    vec![
        (json!("approved"), "invalid type: string"),
        (with("specversion", json!("2.0")), "`specversion` is `2.0`"),
        (
            with("type", json!("longshore.task.signal.v2")),
            "`longshore.task.signal.v2` is not known",
        ),
        (
            with("type", json!("longshore.task.woken")),
            "an event `woken` asks for nothing",
        ),
        (with("subject", json!("task 7")), "`subject`: not a task id"),
        (with("subject", json!(nobody)), "there is no such task"),
        (data("signal", json!("")), "`data.signal`: "),
        (data("signal", json!("a b")), "`data.signal`: "),
        (
            data("signal", json!(null)),
            "`data.signal`, its name, is missing",
        ),
        (data("key", json!("k".repeat(256))), "`data.key`: "),
        (data("key", json!("for Änne")), "`data.key`: "),
        (data("payload", json!(large)), "`data.payload`: "),
        (data("payload", json!("a\0b")), "NUL"),
    ]
}

#[tokio::test]
async fn a_signal_that_cannot_be_used_is_with_the_dead_and_the_right_one_is_heard() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let step = json!({"name": "a", "action": "fail", "rescue": "pause"});
    let workflow = json!({"action": "workflow", "input": {"sequence": [step]}});
    let id = web.submit(&workflow).await;
    suspended(&web, &id, 1).await;
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let bad = bad_signals(&id);
    for (event, _) in &bad {
        let key = format!("signal.{id}");
        let body = event.to_string();
        client
            .say("longshore.signals", &key, of_type(EVENT), body.as_bytes())
            .await;
    }
    let path = format!("/v1/tasks/{id}/history");
    let history = async || web.read(&path).await.1["entries"].clone();
    let noted = |entries: &Value| entries[0]["what"] == "dead-lettered";
    let entries = eventually("its task is flagged", history, noted).await;
    let words = format!("the message `signal.{id}` went to `longshore.dead`");
    let note = entries[0]["note"].as_str().unwrap();
    assert!(note.starts_with(&words), "{note}");
    let mut signal = example("signal");
    signal["subject"] = json!(id);
    let mut skip = signal.clone();
    skip["data"] = json!({"signal": "skip.a", "payload": {"by": "hand"}});
    // One that is wrong holds up nothing that comes in the same message.
    let batch = json!([bad[5].0, skip]);
    let many = of_type("application/cloudevents-batch+json");
    let key = format!("signal.{id}");
    let body = batch.to_string();
    client
        .say("longshore.signals", &key, many, body.as_bytes())
        .await;
    let task = web.until(&id, "succeeded").await;
    assert_eq!(task["output"], json!({"a": {"by": "hand"}}));
    let dead = bad.len() + 1;
    let only_dead = json!([{"name": "longshore.dead", "messages": dead}]);
    let messages = async || fleet.messages();
    eventually("they are with the dead", messages, |left| {
        *left == only_dead
    })
    .await;
    for (_, reason) in &bad {
        executor.said_of("to the dead", reason).await;
    }
    // Late is no mistake.
    client.signal("signal", &signal).await;
    executor.said("came too late").await;
    eventually("it is dropped", messages, |left| *left == only_dead).await;
    client.close().await;
    drop(executor);
}

#[tokio::test]
async fn the_signals_that_are_too_many_are_with_the_dead() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let later = json!({"action": "echo", "run_at": "2999-01-01T00:00:00Z"});
    let id = web.submit(&later).await;
    let client = Stranger::connect(&fleet, "longshore-client").await;
    let mut signal = example("signal");
    signal["subject"] = json!(id);
    let events: Vec<Value> = (0..=SIGNALS_MAX)
        .map(|number| {
            signal["data"]["key"] = json!(format!("approval-{number}"));
            signal.clone()
        })
        .collect();
    let key = format!("signal.{id}");
    let body = json!(events).to_string();
    let many = of_type("application/cloudevents-batch+json");
    client
        .say("longshore.signals", &key, many, body.as_bytes())
        .await;
    executor.said_of("to the dead", "signals wait for").await;
    let depth = async || fleet.vhost.depth("longshore.dead").await;
    eventually("it is with the dead", depth, |depth| *depth == Some(1)).await;
    client.close().await;
    drop(executor);
}
