//! Signals over HTTP.

use longshore::client::ClientError;
use longshore::domain::limits::{PAYLOAD_BYTES_DEFAULT, SIGNALS_MAX};
use longshore::domain::{NewSignal, Payload, PayloadError, PayloadLimits, SignalName, TaskId};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, text};
use crate::support::eventually::eventually;

/// A task id that nobody has.
const NOBODY: &str = "019e3c00-0000-7000-8000-0000000000aa";

impl Server {
    /// Sends `body` as it is, with a key if there is one.
    async fn signal(&self, task: &str, name: &str, body: &str, key: Option<&str>) -> Answer {
        let path = format!("/v1/tasks/{task}/signals/{name}");
        let mut request = self.door.request(Method::POST, &path);
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Answer::of(request.body(body.to_owned())).await
    }

    /// A task that nobody runs before the year 2999.
    async fn later(&self) -> String {
        let later = json!({"action": "echo", "run_at": "2999-01-01T00:00:00Z"});
        text(&self.door.post("/v1/tasks", &later).await.body, "id")
    }
}

#[tokio::test]
async fn a_signal_wakes_the_task_that_waits_for_it_and_is_kept_for_any_other() {
    let server = Server::start().await;
    let step = json!({"name": "a", "action": "fail", "rescue": "pause"});
    let workflow = json!({"action": "workflow", "input": {"sequence": [step]}});
    let id = text(&server.door.post("/v1/tasks", &workflow).await.body, "id");
    let path = format!("/v1/tasks/{id}");
    let look = async || server.door.get(&path).await.body;
    eventually("it waits", look, |task| task["state"] == "suspended").await;
    for (name, key, status) in [
        ("other", Some("k"), "stored"),
        ("other", Some("k"), "known"),
        ("skip.a", Some("k"), "known"),
        ("skip.a", None, "woken"),
    ] {
        let answer = server.signal(&id, name, "[7]", key).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        let said = json!({"task": id, "signal": name, "status": status});
        assert_eq!(answer.body, said);
    }
    let task = server.door.get(&format!("{path}/wait?timeout=30")).await;
    assert_eq!(task.body["output"], json!({"a": [7]}));
    let late = server.signal(&id, "other", "", None).await;
    assert_eq!(late.status, 409, "{}", late.text);
    assert!(text(&late.body, "detail").contains("succeeded"));
    server.stop().await;
}

#[tokio::test]
async fn a_signal_that_cannot_be_is_said_and_not_stored() {
    let server = Server::start().await;
    let id = server.later().await;
    let large = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_DEFAULT));
    let key = "k".repeat(256);
    for (task, name, body, key, status, detail) in [
        (
            id.as_str(),
            "a",
            large.as_str(),
            None,
            413,
            "more than the limit",
        ),
        (&id, "a", "{", None, 400, "not JSON: EOF"),
        (&id, "a", "\"\\u0000\"", None, 400, "NUL"),
        (
            &id,
            "a",
            "1",
            Some(key.as_str()),
            400,
            "not an idempotency key",
        ),
        (&id, "a%20b", "1", None, 400, "not a name of a signal"),
        ("7", "a", "1", None, 400, "not a task id"),
        (NOBODY, "a", "1", None, 404, "there is no task"),
    ] {
        let answer = server.signal(task, name, body, key).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        let said = text(&answer.body, "detail");
        assert!(said.contains(detail), "{said}");
    }
    let path = format!("/v1/tasks/{id}/signals/a");
    let form = server.door.request(Method::POST, &path).body("a=1");
    assert_eq!(Answer::of(form).await.status, 415);
    for number in 0..SIGNALS_MAX {
        let signal = NewSignal {
            task: id.parse().unwrap(),
            name: SignalName::new("a").unwrap(),
            key: None,
            payload: Payload::of(&number).unwrap(),
        };
        drop(server.world.client.signal(signal).await.unwrap());
    }
    let full = server.signal(&id, "a", "1", None).await;
    assert_eq!(full.status, 429, "nothing was stored before: {}", full.text);
    server.stop().await;
}

#[tokio::test]
async fn a_client_refuses_what_is_longer_than_its_limit() {
    let server = Server::start().await;
    let task: TaskId = server.later().await.parse().unwrap();
    let large = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_DEFAULT));
    let payload = Payload::parse(&large, PayloadLimits::NONE).unwrap();
    let signal = NewSignal {
        task,
        name: SignalName::new("a").unwrap(),
        key: None,
        payload: payload.clone(),
    };
    let client = &server.world.client;
    let by = longshore::domain::Operator::new("ann").unwrap();
    for refused in [
        client.signal(signal).await.map(drop),
        client.skip(task, payload, &by).await.map(drop),
    ] {
        let error = refused.unwrap_err();
        let is_too_large = matches!(error, ClientError::Payload(PayloadError::TooLarge { .. }));
        assert!(is_too_large, "{error}");
    }
    let skip = format!("/v1/tasks/{task}/skip");
    let body: Value = json!({"output": "x".repeat(PAYLOAD_BYTES_DEFAULT)});
    assert_eq!(server.door.post(&skip, &body).await.status, 413);
    server.stop().await;
}
