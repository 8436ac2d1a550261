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
use serde_json::{Value, json};

use crate::support::eventually::eventually;
use crate::support::fleet::Fleet;

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
    assert_eq!(shape_of(created), shape_of(&example("created")));
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
    let key = format!("cancel.{id}");
    let body = cancel.to_string();
    client
        .say("longshore.signals", &key, of_type(EVENT), body.as_bytes())
        .await;
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
    let (key, body) = (format!("abandon.{id}"), abandon.to_string());
    client
        .say("longshore.signals", &key, of_type(EVENT), body.as_bytes())
        .await;
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
