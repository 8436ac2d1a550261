//! What operators do to a task.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, redacted, text};

const NOBODY: &str = "00000000-03e8-7000-8000-000000000001";

/// A task that failed and waits for a human.
async fn paused(server: &Server) -> String {
    let fail = json!({"action": "fail", "on_failure": "pause", "input": {"message": "no crane"}});
    let task = server.door.run(&fail).await;
    assert_eq!(text(&task, "state"), "paused");
    text(&task, "id")
}

async fn act(server: &Server, task: &str, verb: &str, body: Option<Value>) -> Answer {
    let path = format!("/v1/tasks/{task}/{verb}");
    let request = server.door.request(Method::POST, &path);
    let request = request.header("longshore-operator", "ann@crane-7");
    Answer::of(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

async fn waited(server: &Server, task: &str) -> Value {
    let path = format!("/v1/tasks/{task}/wait?timeout=30");
    server.door.get(&path).await.body
}

async fn history(server: &Server, task: &str) -> Vec<Value> {
    let answer = server.door.get(&format!("/v1/tasks/{task}/history")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let entries = answer.body["entries"].as_array().unwrap();
    entries.iter().cloned().map(redacted).collect()
}

#[tokio::test]
async fn a_resumed_task_runs_again_and_its_history_says_who_did_it() {
    let server = Server::start().await;
    let task = paused(&server).await;
    let answer = act(&server, &task, "resume", None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let ended = waited(&server, &task).await;
    assert_eq!(
        (text(&ended, "state").as_str(), &ended["attempt"]),
        ("paused", &json!(2))
    );
    let answer = server
        .door
        .post(&format!("/v1/tasks/{task}/retry"), &json!({}))
        .await;
    assert_eq!(
        (answer.status, text(&answer.body, "id")),
        (200, task.clone())
    );
    waited(&server, &task).await;
    let reason = json!({"reason": "it is too late"});
    let answer = act(&server, &task, "abandon", Some(reason)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(text(&answer.body, "state"), "failed");
    assert_eq!(
        answer.body["error"],
        json!({
            "message": "it is too late", "retryable": false,
            "detail": {"former": {"message": "no crane", "retryable": false, "detail": null}}
        })
    );
    assert_eq!(
        history(&server, &task).await,
        [
            json!({"at": "[at]", "what": "resumed", "who": "ann@crane-7"}),
            json!({"at": "[at]", "what": "retried", "who": "http"}),
            json!({"at": "[at]", "what": "abandoned", "who": "ann@crane-7", "note": "it is too late"}),
        ]
    );
    let why = server.door.get(&format!("/v1/tasks/{task}/why")).await;
    assert!(
        why.text.contains("by `ann@crane-7`: it is too late"),
        "{}",
        why.text
    );
    server.stop().await;
}

#[tokio::test]
async fn an_abandoned_task_is_reported_to_taps() {
    let server = Server::start().await;
    let task = paused(&server).await;
    let mut tap = server.world.tap().await;
    act(&server, &task, "abandon", None).await;
    loop {
        let (key, about) = crate::support::world::next_event(&mut tap).await;
        if key == "failed.default.fail" {
            assert_eq!(about.to_string(), task);
            break;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn of_a_task_that_has_failed_a_copy_is_run() {
    let server = Server::start().await;
    let fail = json!({
        "action": "fail", "input": {"message": "no"}, "labels": {"team": "red"}, "idempotency_key": "order-7"
    });
    let task = text(&server.door.run(&fail).await, "id");
    let answer = act(&server, &task, "retry", None).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let copy = text(&answer.body, "id");
    assert_ne!(copy, task);
    assert_eq!(
        answer.header("location"),
        Some(format!("/v1/tasks/{copy}").as_str())
    );
    let ended = waited(&server, &copy).await;
    assert_eq!(
        (text(&ended, "state").as_str(), &ended["labels"]),
        ("failed", &json!({"team": "red"}))
    );
    assert!(ended.get("idempotency_key").is_none(), "{ended}");
    let note = |entries: &[Value]| text(&entries[0], "note");
    assert_eq!(
        note(&history(&server, &task).await),
        format!("as task {copy}")
    );
    assert_eq!(
        note(&history(&server, &copy).await),
        format!("from task {task}")
    );
    server.stop().await;
}

#[tokio::test]
async fn a_cancel_is_noted_with_who_did_it() {
    let server = Server::start().await;
    let gate = json!({"action": "gate", "run_at": "2100-01-01T00:00:00Z"});
    let task = text(&server.door.post("/v1/tasks", &gate).await.body, "id");
    let cancelled = act(&server, &task, "cancel", None).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    assert_eq!(
        history(&server, &task).await,
        [
            json!({"at": "[at]", "what": "cancelled", "who": "ann@crane-7", "note": "cancelled over HTTP"})
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_said_with_a_hint() {
    let server = Server::start().await;
    let done = text(&server.door.run(&json!({"action": "echo"})).await, "id");
    let task = paused(&server).await;
    for (id, verb, body, status, detail, hint) in [
        (
            &done,
            "resume",
            None,
            409,
            "a task that is `succeeded` cannot be resumed",
            "submit a new task",
        ),
        (
            &done,
            "retry",
            None,
            409,
            "a task that is `succeeded` cannot be retried",
            "submit a new task",
        ),
        (
            &task,
            "skip",
            Some(json!({"output": [1]})),
            409,
            "no step of the task failed",
            "",
        ),
        (
            &task,
            "abandon",
            Some(json!({"resaon": "x"})),
            400,
            "did you mean `reason`?",
            "",
        ),
        (
            &task,
            "resume",
            Some(json!([])),
            400,
            "it is not a JSON object",
            "",
        ),
        (
            &NOBODY.to_owned(),
            "resume",
            None,
            404,
            "there is no task",
            "retention",
        ),
    ] {
        let answer = act(&server, id, verb, body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(
            text(&answer.body, "detail").contains(detail),
            "{}",
            answer.text
        );
        let said = answer.body["hint"].as_str().unwrap_or_default();
        assert!(said.contains(hint), "{}", answer.text);
    }
    assert_eq!(history(&server, &task).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn who_acts_is_a_short_name() {
    let server = Server::start().await;
    let task = paused(&server).await;
    let path = format!("/v1/tasks/{task}/resume");
    let long = "a".repeat(200);
    let request = server.door.request(Method::POST, &path);
    let refused = Answer::of(request.header("longshore-operator", long)).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert!(text(&refused.body, "detail").starts_with("`Longshore-Operator`"));
    let unknown = server
        .door
        .get(&format!("/v1/tasks/{NOBODY}/history"))
        .await;
    assert_eq!(unknown.status, 404);
    assert_eq!(history(&server, &task).await, Vec::<Value>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() {
    let server = Server::start().await;
    let task = paused(&server).await;
    let path = format!("/v1/tasks/{task}/resume");
    let foreign = server.door.request(Method::POST, &path);
    let foreign = Answer::of(foreign.header("sec-fetch-site", "cross-site")).await;
    assert_eq!(foreign.status, 403, "{}", foreign.text);
    assert_eq!(text(&foreign.body, "title"), "Forbidden");
    assert_eq!(history(&server, &task).await, Vec::<Value>::new());
    let own = server.door.request(Method::POST, &path);
    let own = Answer::of(own.header("sec-fetch-site", "same-origin")).await;
    assert_eq!(own.status, 200, "{}", own.text);
    server.stop().await;
}
