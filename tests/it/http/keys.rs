//! Idempotency keys over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, text};

impl Server {
    /// Submits with the header, and perhaps a wish to wait.
    async fn submit(&self, key: &str, body: &Value, wait: Option<&str>) -> Answer {
        let mut request = self.door.request(Method::POST, "/v1/tasks").json(body);
        request = request.header("idempotency-key", key);
        if let Some(wait) = wait {
            request = request.header("prefer", wait);
        }
        Answer::of(request).await
    }
}

#[tokio::test]
async fn the_same_key_twice_is_one_task() {
    let server = Server::start().await;
    let body = json!({"action": "echo", "input": {"order": 7, "lines": [1.0]}});
    let first = server.submit("order-7", &body, None).await;
    assert_eq!(first.status, 202, "{}", first.text);
    let id = text(&first.body, "id");
    // In the header or the body, with quotes or without, and however the same is written.
    let same = json!({"action": "echo", "queue": "default", "input": {"lines": [1], "order": 7},
        "idempotency_key": "order-7"});
    for answer in [
        server.submit("order-7", &body, None).await,
        server.submit("\"order-7\"", &body, None).await,
        server.submit("order-7", &same, None).await,
        server.door.post("/v1/tasks", &same).await,
        server.submit("order-7", &body, Some("wait=30")).await,
    ] {
        assert_eq!((answer.status, text(&answer.body, "id")), (200, id.clone()));
        assert_eq!(text(&answer.body, "idempotency_key"), "order-7");
    }
    let listed = server.door.get("/v1/tasks").await;
    assert_eq!(listed.all("/tasks", "id"), [id]);
    server.stop().await;
}

#[tokio::test]
async fn a_known_key_is_waited_for_whatever_id_is_asked_for() {
    let server = Server::start().await;
    let body = json!({"action": "gate", "input": "through"});
    let id = text(&server.submit("k", &body, None).await.body, "id");
    server.world.wait_at_gate(1).await;
    let mut other = body.clone();
    other["id"] = json!("00000000-03e8-7000-8000-000000000001");
    let open = server.submit("k", &other, Some("wait=0.05")).await;
    assert_eq!((open.status, text(&open.body, "id")), (202, id.clone()));
    let waits = server.submit("k", &other, Some("wait=30"));
    let (waited, ()) = tokio::join!(waits, async { server.world.gate.add_permits(1) });
    assert_eq!(waited.status, 200, "{}", waited.text);
    assert_eq!(
        (text(&waited.body, "id"), text(&waited.body, "output")),
        (id, "through".to_owned())
    );
    server.stop().await;
}

#[tokio::test]
async fn the_same_key_for_something_else_is_a_conflict_that_shows_the_difference() {
    let server = Server::start().await;
    let body = json!({"action": "echo", "input": {"order": 7}});
    let id = text(&server.submit("order-7", &body, None).await.body, "id");
    let other = json!({"action": "echo", "input": {"order": 8}, "labels": {"team": "red"}});
    for wait in [None, Some("wait=30")] {
        let answer = server.submit("order-7", &other, wait).await;
        let said = serde_json::to_string_pretty(&answer.body).unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(said.replace(&id, "[id]"), @r#"
            {
              "detail": "the idempotency key `order-7` belongs to the task `[id]`, which differs in `labels`, `input`",
              "differences": [
                {
                  "asked": "{\"team\": \"red\"}",
                  "field": "labels"
                },
                {
                  "asked": "{\"order\":8}",
                  "field": "input",
                  "stored": "{\"order\":7}"
                }
              ],
              "hint": "send the same submission again, or choose another key",
              "status": 409,
              "task": "[id]",
              "title": "Conflict",
              "type": "about:blank"
            }
            "#);
        }
    }
    // The id of a task that has no key, or another, is no way around it.
    let free = json!({"action": "echo", "id": id, "input": {"order": 7}});
    assert_eq!(server.submit("order-8", &free, None).await.status, 409);
    assert_eq!(server.door.post("/v1/tasks", &free).await.status, 200);
    server.stop().await;
}
