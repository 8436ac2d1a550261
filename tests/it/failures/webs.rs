//! What can go wrong between a client and an executor.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::eventually::eventually;
use crate::support::fleet::{Fleet, Way};
use crate::support::gate::{gated, open_gate, pids};
use crate::support::proxy::Direction;

/// How long a web server may take to connect again.
const NOTICE_PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn web_server_killed_while_clients_wait() {
    let fleet = Fleet::begin().await;
    let (mut one, two) = (fleet.web("w1").await, fleet.web("w2").await);
    let executor = fleet.executor("x1", &["--allow-command", "sh"]).await;
    let id = "01900000-0000-7000-8000-00000000000a";
    let mut command = gated(&fleet, "gate");
    command["id"] = json!(id);
    let request = one.request(Method::POST, "/v1/tasks").json(&command);
    let waits = request.header("Prefer", "wait=60").send();
    let kills = async {
        pids(&fleet, "gate", 1).await;
        one.process.kill();
    };
    let (answer, ()) = futures_util::join!(waits, kills);
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(two.until(id, "running").await["attempt"], 1);
    let repeated = two.request(Method::POST, "/v1/tasks").json(&command);
    let repeats = repeated.header("Prefer", "wait=30").send();
    let opens = async { open_gate(&fleet, "gate") };
    let (repeated, waited, ()) = futures_util::join!(repeats, two.finished(id), opens);
    assert_eq!(
        (&waited["state"], &waited["attempt"]),
        (&json!("succeeded"), &json!(1))
    );
    let repeated: Value = repeated.unwrap().json().await.unwrap();
    assert_eq!(repeated["output"], waited["output"]);
    fleet.is_idle().await;
    drop(executor);
}

#[tokio::test]
async fn confirm_lost_between_commit_and_publish() {
    let fleet = Fleet::begin().await;
    let proxy = fleet.broker_proxy();
    let way = Way {
        broker: Some(&proxy),
        ..Way::default()
    };
    let (web, other) = (fleet.web_by(way, "w1", &[]).await, fleet.web("w2").await);
    let executor = fleet.executor("x1", &[]).await;
    let task = json!({"action": "echo"});
    let mut ids = Vec::new();
    for is_heard in [false, true] {
        web.is_ready(200, NOTICE_PATIENCE).await;
        if is_heard {
            proxy.lose_answer_to("longshore.tasks");
        } else {
            proxy.lose("longshore.tasks");
        }
        let task = web.run(&task).await;
        assert!(proxy.has_sprung());
        assert_eq!(
            (&task["state"], &task["attempt"]),
            (&json!("succeeded"), &json!(1))
        );
        ids.push(task["id"].as_str().unwrap().to_owned());
    }
    web.is_ready(200, NOTICE_PATIENCE).await;
    let mut tap = fleet.tap().await;
    tap.listen_to_the_end(&web).await;
    tap.listen_to_the_end(&other).await;
    fleet.is_idle().await;
    for (id, announced) in ids.iter().zip([0, 1]) {
        let count = |kind: &str| tap.kinds(id).iter().filter(|it| **it == kind).count();
        let counts = (count("created"), count("succeeded"));
        assert_eq!(counts, (announced, 1), "{:?}", tap.kinds(id));
    }
    tap.close().await;
    drop(executor);
}

#[tokio::test]
async fn web_server_killed_between_commit_and_publish() {
    let fleet = Fleet::begin().await;
    let proxy = fleet.broker_proxy();
    let way = Way {
        broker: Some(&proxy),
        ..Way::default()
    };
    let (mut web, other) = (fleet.web_by(way, "w1", &[]).await, fleet.web("w2").await);
    let executor = fleet.executor("x1", &[]).await;
    proxy.hold_one(Direction::ToServer);
    let id = web.submit(&json!({"action": "echo"})).await;
    web.process.kill();
    let task = other.finished(&id).await;
    assert_eq!(
        (&task["state"], &task["attempt"]),
        (&json!("succeeded"), &json!(1))
    );
    let mut tap = fleet.tap().await;
    tap.listen_to_the_end(&other).await;
    assert_eq!(tap.kinds(&id), ["succeeded"], "it was announced by nobody");
    fleet.is_idle().await;
    tap.close().await;
    drop(executor);
}

/// What is refused, and words of the reason.
fn refused() -> Vec<(&'static str, String, &'static str)> {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let submission = |input: &str| format!(r#"{{"action": "echo", "input": {input}}}"#);
    vec![
        (
            "too large",
            submission(&format!("\"{}\"", "x".repeat(1024 * 1024))),
            "bytes",
        ),
        ("too deep", submission(&deep), "deep"),
        ("NUL", submission(r#""\u0000""#), "NUL"),
        ("wrong JSON", r#"{"action": "echo""#.to_owned(), "EOF"),
        ("no object", "7".to_owned(), "object"),
        (
            "unknown field",
            r#"{"action": "echo", "inptu": 1}"#.to_owned(),
            "inptu",
        ),
        (
            "unknown queue",
            r#"{"action": "echo", "queue": "nowhere"}"#.to_owned(),
            "nowhere",
        ),
    ]
}

#[tokio::test]
async fn payload_too_large_too_deep_nul_wrong_json_unknown_action_or_queue() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let unknown_action = r#"{"action": "ecko"}"#;
    let at_the_door = ("unknown action", unknown_action.to_owned(), "ecko");
    for (what, body, words) in refused().into_iter().chain([at_the_door]) {
        let request = web.request(Method::POST, "/v1/tasks").body(body);
        let request = request.header("Content-Type", "application/json");
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let problem: Value = response.json().await.unwrap();
        assert!([400, 413, 422].contains(&status), "{what}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{what}: {detail}");
    }
    let address = fleet.broker("longshore-client");
    let connection = Connection::connect(&address, ConnectionProperties::default());
    let connection = connection.await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let publish = async |body: &str| {
        let id = Uuid::now_v7();
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(id.to_string().into())
            .with_content_type("application/json".into());
        let options = BasicPublishOptions::default();
        let exchange = "longshore.submissions".into();
        let sent = channel.basic_publish(
            exchange,
            "submit".into(),
            options,
            body.as_bytes(),
            properties,
        );
        assert!(sent.await.unwrap().await.unwrap().is_ack());
        id.to_string()
    };
    let dead = async || fleet.vhost.depth("longshore.dead").await;
    for (count, (what, body, words)) in (1..).zip(refused()) {
        let id = publish(&body).await;
        let line = executor.said_of("to the dead", &id).await;
        let line = line.to_string();
        assert!(line.contains(words), "{what}: {line}");
        eventually(what, dead, |depth| *depth == Some(count)).await;
    }
    // An executor that knows it may come: it is stored, and said to be nobody's yet.
    let waiting = publish(unknown_action).await;
    assert_eq!(web.until(&waiting, "ready").await["attempt"], 0);
    let good = publish(r#"{"action": "echo", "input": "good"}"#).await;
    let good = web.until(&good, "succeeded").await;
    assert_eq!(good["output"], "good");
    let full = async || fleet.messages();
    let is_clean = |full: &Value| {
        full.as_array()
            .unwrap()
            .iter()
            .all(|it| it["name"] == "longshore.dead")
    };
    eventually("nothing is stuck", full, is_clean).await;
    connection.close(200, "OK".into()).await.unwrap();
    drop(executor);
}

#[tokio::test]
async fn web_server_whose_broker_is_connected_and_silent() {
    let fleet = Fleet::begin().await;
    let executor = fleet.executor("x1", &[]).await;
    for direction in [Direction::ToServer, Direction::ToClient] {
        let proxy = fleet.broker_proxy();
        let way = Way {
            broker: Some(&proxy),
            ..Way::default()
        };
        let web = fleet.web_by(way, "w1", &[]).await;
        web.is_ready(200, NOTICE_PATIENCE).await;
        proxy.hold_one(direction);
        let said = web.is_ready(503, NOTICE_PATIENCE).await;
        let broker = said["broker"].as_str().unwrap();
        assert!(broker.contains("to ourselves did not come back"), "{said}");
        // It takes tasks all the same, which are found in the store.
        let task = web.run(&json!({"action": "echo"})).await;
        assert_eq!(task["state"], "succeeded", "{task}");
        proxy.resume();
        web.is_ready(200, NOTICE_PATIENCE).await;
    }
    fleet.is_idle().await;
    drop(executor);
}
