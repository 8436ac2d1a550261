//! Submitting, reading and cancelling.

use longshore::domain::QueueName;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, redacted, text};
use crate::support::world::gate;

const ID: &str = "00000000-03e8-7000-8000-0000000000aa";

#[tokio::test]
async fn a_submission_is_accepted_with_the_address_of_its_task() {
    let server = Server::start().await;
    let answer = server
        .door
        .post("/v1/tasks", &json!({"action": "echo", "input": {"a": 1}}))
        .await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    insta::assert_snapshot!(redacted(answer.body.clone()), @r#"{"action":"echo","attempt":0,"id":"[id]","queue":"default","state":"ready"}"#);
    let location = answer.header("location").unwrap();
    assert_eq!(
        location,
        format!("/v1/tasks/{}", text(&answer.body, "id")).as_str()
    );
    let task = server
        .door
        .get(&format!("{location}/wait?timeout=30"))
        .await;
    assert_eq!(
        (task.status, &task.body["output"]),
        (200, &json!({"a": 1})),
        "{}",
        task.text
    );
    server.stop().await;
}

#[tokio::test]
async fn a_preference_to_wait_is_answered_with_the_whole_task() {
    let server = Server::start().await;
    let echo = json!({"action": "echo", "input": {"a": [1.50, "ü"]}, "labels": {"team": "red"}, "priority": 5});
    let task = server.door.run(&echo).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&redacted(task)).unwrap(), @r#"
    {
      "action": "echo",
      "attempt": 1,
      "created_at": "[created_at]",
      "executor": "[executor]",
      "finished_at": "[finished_at]",
      "id": "[id]",
      "input": {
        "a": [
          1.5,
          "ü"
        ]
      },
      "labels": {
        "team": "red"
      },
      "origin": "[origin]",
      "output": {
        "a": [
          1.5,
          "ü"
        ]
      },
      "priority": 5,
      "queue": "default",
      "started_at": "[started_at]",
      "state": "succeeded"
    }
    "#);
    let fail = json!({"action": "fail", "input": {"message": "no crane", "detail": {"crane": 7}}});
    let task = server.door.run(&fail).await;
    insta::assert_snapshot!(serde_json::to_string_pretty(&redacted(task)).unwrap(), @r#"
    {
      "action": "fail",
      "attempt": 1,
      "created_at": "[created_at]",
      "error": {
        "detail": {
          "crane": 7
        },
        "message": "no crane",
        "retryable": false
      },
      "executor": "[executor]",
      "finished_at": "[finished_at]",
      "id": "[id]",
      "input": {
        "detail": {
          "crane": 7
        },
        "message": "no crane"
      },
      "origin": "[origin]",
      "priority": 0,
      "queue": "default",
      "started_at": "[started_at]",
      "state": "failed"
    }
    "#);
    server.stop().await;
}

#[tokio::test]
async fn a_wait_that_is_over_says_how_long_it_was() {
    let server = Server::start().await;
    let request = server.door.request(Method::POST, "/v1/tasks");
    let request = request.json(&json!({"action": "gate", "id": ID}));
    let answer = Answer::of(request.header("prefer", "wait=0.1")).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.header("preference-applied"), Some("wait=0.1"));
    assert!(answer.header("location").unwrap().ends_with(ID));
    let waited = server
        .door
        .get(&format!("/v1/tasks/{ID}/wait?timeout=0"))
        .await;
    assert_eq!(waited.status, 202, "{}", waited.text);
    server.world.gate.add_permits(1);
    let waited = server.door.get(&format!("/v1/tasks/{ID}/wait")).await;
    assert_eq!(
        (waited.status, text(&waited.body, "state").as_str()),
        (200, "succeeded")
    );
    server.stop().await;
}

#[tokio::test]
async fn the_same_id_twice_is_one_task() {
    let server = Server::start().await;
    let body = json!({"action": "echo", "input": 1, "id": ID});
    assert_eq!(server.door.post("/v1/tasks", &body).await.status, 202);
    let again = server.door.post("/v1/tasks", &body).await;
    assert_eq!(
        (again.status, text(&again.body, "id").as_str()),
        (200, ID),
        "{}",
        again.text
    );
    let task = server.door.run(&body).await;
    assert_eq!(
        (text(&task, "state").as_str(), &task["attempt"]),
        ("succeeded", &json!(1))
    );
    let listed = server.door.get("/v1/tasks").await;
    assert_eq!(listed.all("/tasks", "id"), [ID]);
    server.stop().await;
}

#[tokio::test]
async fn a_list_is_filtered_by_each_of_its_parameters() {
    let server = Server::start().await;
    let bulk = QueueName::new("bulk").unwrap();
    server.world.store().create_queue(&bulk).await.unwrap();
    let echo = server
        .door
        .run(&json!({"action": "echo", "labels": {"team": "red"}}))
        .await;
    let fail = server
        .door
        .run(&json!({"action": "fail", "input": {"message": "no"}}))
        .await;
    let waits = json!({"action": "echo", "queue": "bulk", "run_at": "2100-01-01T00:00:00Z"});
    let waits = server.door.post("/v1/tasks", &waits).await.body;
    let child = json!({"action": "echo", "parent": text(&waits, "id"), "queue": "bulk"});
    let child = server.door.post("/v1/tasks", &child).await.body;
    let [echo, fail, waits, child] = [echo, fail, waits, child].map(|task| text(&task, "id"));
    for (query, expected) in [
        ("", vec![&child, &waits, &fail, &echo]),
        ("?state=failed", vec![&fail]),
        ("?state=failed,succeeded", vec![&fail, &echo]),
        ("?queue=bulk", vec![&child, &waits]),
        ("?action=fail", vec![&fail]),
        ("?label=team=red", vec![&echo]),
        ("?label=team%3Dblue", vec![]),
        (&format!("?parent={waits}"), vec![&child]),
        ("?queue=bulk&state=scheduled", vec![&waits]),
    ] {
        let answer = server.door.get(&format!("/v1/tasks{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        assert_eq!(
            answer.all("/tasks", "id").iter().collect::<Vec<_>>(),
            expected,
            "{query}"
        );
    }
    let tree = server.door.get(&format!("/v1/tasks/{waits}/tree")).await;
    assert_eq!(tree.all("/tasks", "id"), [waits, child]);
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_leads_through_all_pages() {
    let server = Server::start().await;
    let mut submitted = Vec::new();
    for number in 0..7 {
        let body = json!({"action": "echo", "input": number});
        submitted.push(text(&server.door.post("/v1/tasks", &body).await.body, "id"));
    }
    let (mut seen, mut pages, mut next) = (Vec::new(), 0, Some(String::new()));
    while let Some(cursor) = next.take() {
        let page = server.door.get(&format!("/v1/tasks?limit=3{cursor}")).await;
        seen.extend(page.all("/tasks", "id"));
        pages += 1;
        next = page.body["next"]
            .as_str()
            .map(|next| format!("&cursor={next}"));
    }
    // The newest first, by their ids: those of one millisecond are in any order.
    submitted.sort_unstable();
    submitted.reverse();
    assert_eq!((seen, pages), (submitted, 3));
    server.stop().await;
}

#[tokio::test]
async fn a_log_is_read_on_from_its_cursor() {
    let server = Server::start().await;
    let script = "echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three";
    let input = json!({"program": "sh", "args": ["-c", script]});
    let task = server
        .door
        .run(&json!({"action": "command", "input": input}))
        .await;
    let path = format!("/v1/tasks/{}/logs", text(&task, "id"));
    let whole = server.door.get(&path).await;
    assert_eq!(whole.all("/chunks", "text").concat(), "one\ntwo\nthree\n");
    let (mut read, mut after) = (String::new(), String::new());
    loop {
        let page = server.door.get(&format!("{path}?limit=1{after}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let Some(next) = page.body["next"].as_str() else {
            break;
        };
        read.push_str(&page.all("/chunks", "text").concat());
        after = format!("&after={next}");
    }
    assert_eq!(read, "one\ntwo\nthree\n");
    server.stop().await;
}

#[tokio::test]
async fn a_cancellation_says_what_became_of_it() {
    let server = Server::start().await;
    let waits = json!({"action": "echo", "run_at": "2100-01-01T00:00:00Z"});
    let waits = text(&server.door.post("/v1/tasks", &waits).await.body, "id");
    let runs = server.world.submit(gate()).await.to_string();
    server.world.wait_at_gate(1).await;
    let ended = text(&server.door.run(&json!({"action": "echo"})).await, "id");
    let reason = json!({"reason": "changed my mind"});
    let mut said = Vec::new();
    for (what, id) in [
        ("waits", waits.as_str()),
        ("again", waits.as_str()),
        ("runs", runs.as_str()),
        ("ended", ended.as_str()),
        ("unknown", ID),
    ] {
        let path = format!("/v1/tasks/{id}/cancel");
        let answer = server.door.post(&path, &reason).await;
        let word = |key: &str| answer.body[key].as_str().unwrap_or("-").replace(id, "[id]");
        said.push(format!(
            "{what}: {} {} {}",
            answer.status,
            word("state"),
            word("detail")
        ));
    }
    insta::assert_snapshot!(said.join("\n"), @r#"
    waits: 200 cancelled -
    again: 200 cancelled -
    runs: 202 running -
    ended: 409 - the task `[id]` is final already: succeeded
    unknown: 404 - there is no task `[id]`
    "#);
    let stopped = server.door.get(&format!("/v1/tasks/{runs}/wait")).await;
    assert_eq!(text(&stopped.body, "state"), "cancelled");
    assert_eq!(text(&stopped.body["error"], "message"), "changed my mind");
    let again = server
        .door
        .request(Method::POST, &format!("/v1/tasks/{runs}/cancel"));
    assert_eq!(Answer::of(again).await.status, 200, "without a body");
    server.stop().await;
}

#[tokio::test]
async fn queues_and_executors_are_listed() {
    let server = Server::start().await;
    let waits = json!({"action": "echo", "run_at": "2100-01-01T00:00:00Z"});
    assert_eq!(server.door.post("/v1/tasks", &waits).await.status, 202);
    let queues = server.door.get("/v1/queues").await;
    insta::assert_snapshot!(queues.text, @r#"[{"name":"default","scheduled":1,"ready":0,"running":0}]"#);
    let paused = server
        .door
        .request(Method::POST, "/v1/queues/default/pause")
        .header("longshore-operator", "ann");
    let paused = Answer::of(paused).await;
    assert_eq!(
        (paused.status, text(&paused.body, "paused_by")),
        (200, "ann".to_owned())
    );
    let listed = server.door.get("/v1/queues").await;
    assert_eq!(listed.body[0], paused.body);
    let resume = |name: &str| {
        let path = format!("/v1/queues/{name}/resume");
        Answer::of(server.door.request(Method::POST, &path))
    };
    assert_eq!(
        resume("default").await.text,
        queues.text[1..queues.text.len() - 1]
    );
    let nowhere = resume("nowhere").await;
    insta::assert_snapshot!(nowhere.text, @r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no queue `nowhere`","hint":"`GET /v1/queues` lists those that there are"}"#);
    assert_eq!(nowhere.status, 404);
    assert_eq!(resume("no%20name").await.status, 400);
    let executors: Value = redacted(server.door.get("/v1/executors").await.body);
    insta::assert_snapshot!(executors, @r#"[{"actions":["command","echo","fail","gate","http","sleep","workflow"],"host":"localhost","id":"[id]","lease_ends_at":"[lease_ends_at]","name":"x","pid":"[pid]","queues":{"default":4},"started_at":"[started_at]","state":"live","version":"0.1.0"}]"#);
    server.stop().await;
}
