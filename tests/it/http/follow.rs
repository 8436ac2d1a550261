//! One task as it goes on: server-sent events of its log, and of what happens to it.

use serde_json::json;

use super::tap::Events;
use super::{Server, text};

/// A program that says one word, waits for the file `go` in `folder`, and says another.
fn program(folder: &std::path::Path) -> serde_json::Value {
    let go = folder.join("go");
    let script = format!(
        "echo one; while [ ! -e {} ]; do sleep 0.02; done; echo two",
        go.display()
    );
    json!({"action": "command", "input": {"program": "sh", "args": ["-c", script]}})
}

#[tokio::test]
async fn a_log_is_told_as_it_grows_and_ends_with_its_task() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let submitted = server.door.post("/v1/tasks", &program(folder.path())).await;
    let path = format!("/v1/tasks/{}/logs", text(&submitted.body, "id"));
    let mut log = Events::at(&server, &path, None).await;
    let one = log.next().await;
    assert_eq!((one.kind.as_str(), one.id.as_str()), ("log", "1:4"));
    assert_eq!(one.data["text"], "one\n");
    let mut later = Events::at(&server, &path, Some("1:4")).await;
    std::fs::write(folder.path().join("go"), "").unwrap();
    for log in [&mut log, &mut later] {
        let two = log.next().await;
        assert_eq!(
            (two.id.as_str(), &two.data["text"]),
            ("1:8", &json!("two\n"))
        );
        let end = log.next().await;
        assert_eq!(
            (end.kind.as_str(), &end.data),
            ("end", &json!({"state": "succeeded"}))
        );
    }
    assert!(log.is_over().await);
    // What has ended is told at once, from anywhere.
    let mut rest = Events::at(&server, &format!("{path}?after=1:4"), None).await;
    assert_eq!(rest.next().await.data["text"], "two\n");
    assert_eq!(rest.next().await.kind, "end");
    let page = server.door.get(&path).await;
    assert_eq!(
        page.body["chunks"].as_array().unwrap().len(),
        2,
        "{}",
        page.text
    );
    let wrong = server.door.get(&format!("{path}?after=1")).await;
    assert_eq!(wrong.status, 400);
    server.stop().await;
}

#[tokio::test]
async fn what_happens_to_a_task_is_told_until_it_is_final() {
    let server = Server::start().await;
    let pausing = json!({"action": "fail", "on_failure": "pause", "input": {"message": "no"}});
    let task = text(&server.door.run(&pausing).await, "id");
    let path = format!("/v1/tasks/{task}/events");
    let mut events = Events::at(&server, &path, None).await;
    server.door.run(&json!({"action": "echo"})).await; // Another's are not told.
    server
        .door
        .post(&format!("/v1/tasks/{task}/resume"), &json!({}))
        .await;
    let woken = events.next().await;
    assert_eq!(
        (woken.kind.as_str(), text(&woken.data, "subject")),
        ("woken", task.clone())
    );
    assert_eq!(events.next().await.kind, "paused");
    server
        .door
        .post(&format!("/v1/tasks/{task}/abandon"), &json!({}))
        .await;
    assert_eq!(events.next().await.kind, "abandon");
    assert_eq!(events.next().await.kind, "failed");
    let end = events.next().await;
    assert_eq!(
        (end.kind.as_str(), &end.data),
        ("end", &json!({"state": "failed"}))
    );
    assert!(events.is_over().await);
    // Where it was left off it goes on, also when the task is final by then.
    let mut resumed = Events::at(&server, &path, Some(&woken.id)).await;
    assert_eq!(resumed.next().await.kind, "paused");
    for _ in 0..2 {
        resumed.next().await;
    }
    assert_eq!(resumed.next().await.kind, "end");
    let mut over = Events::at(&server, &path, None).await;
    assert_eq!(over.next().await.kind, "end");
    assert!(over.is_over().await);
    let nobody = "/v1/tasks/00000000-03e8-7000-8000-000000000001/events";
    assert_eq!(server.door.get(nobody).await.status, 404);
    server.stop().await;
}
