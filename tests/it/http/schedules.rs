//! Schedules over HTTP.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, redacted, text};

fn nightly() -> Value {
    json!({"name": "nightly", "cron": "0 3 * * *", "time_zone": "Europe/Prague",
        "task": {"action": "echo", "input": {"a": 1}, "labels": {"team": "red"}}})
}

impl Server {
    async fn create(&self, body: &Value) -> Answer {
        self.door.post("/v1/schedules", body).await
    }

    async fn verb(&self, verb: &str) -> Answer {
        let path = format!("/v1/schedules/nightly/{verb}");
        self.door.post(&path, &json!({})).await
    }

    async fn delete(&self, name: &str) -> Answer {
        let path = format!("/v1/schedules/{name}");
        Answer::of(self.door.request(Method::DELETE, &path)).await
    }
}

#[tokio::test]
async fn a_schedule_is_made_shown_and_deleted() {
    let server = Server::start().await;
    let created = server.create(&nightly()).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.header("location"), Some("/v1/schedules/nightly"));
    let same = server.create(&nightly()).await;
    assert_eq!((same.status, &same.body), (200, &created.body));
    let shown = server.door.get("/v1/schedules/nightly").await;
    assert_eq!(shown.status, 200);
    let upcoming = shown.body["upcoming"].as_array().unwrap();
    assert_eq!(upcoming.len(), 5);
    assert_eq!(upcoming[0], shown.body["next_at"]);
    let mut shown = redacted(shown.body);
    shown["upcoming"] = Value::from("[five times]");
    shown["created_by"] = Value::from("[process]");
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).unwrap(), @r#"
    {
      "catch_up": "last",
      "created_at": "[created_at]",
      "created_by": "[process]",
      "cron": "0 3 * * *",
      "firings": [],
      "name": "nightly",
      "next_at": "[next_at]",
      "overlap": "skip",
      "state": "active",
      "task": {
        "action": "echo",
        "delivery": "rerun",
        "input": {
          "a": 1
        },
        "labels": {
          "team": "red"
        },
        "on_failure": "fail",
        "priority": 0,
        "queue": "default",
        "retry": {
          "attempts": 1,
          "delay": 1.0,
          "delay_max": 600.0
        }
      },
      "time_zone": "Europe/Prague",
      "upcoming": "[five times]"
    }
    "#);
    let deleted = server.delete("nightly").await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(server.delete("nightly").await.status, 404);
    server.stop().await;
}

#[tokio::test]
async fn schedules_are_listed_page_by_page() {
    let server = Server::start().await;
    for name in ["c", "a", "b"] {
        let body = json!({"name": name, "every": 3600, "task": {"action": "echo"}});
        assert_eq!(server.create(&body).await.status, 201);
    }
    let first = server.door.get("/v1/schedules?limit=2").await;
    assert_eq!(first.all("/schedules", "name"), ["a", "b"]);
    let next = text(&first.body, "next");
    let path = format!("/v1/schedules?limit=2&cursor={next}");
    let rest = server.door.get(&path).await;
    assert_eq!(rest.all("/schedules", "name"), ["c"]);
    assert_eq!(rest.body.get("next"), None);
    server.stop().await;
}

#[tokio::test]
async fn a_schedule_is_triggered_paused_and_resumed() {
    let server = Server::start().await;
    let mut body = nightly();
    body["task"]["action"] = json!("gate");
    assert_eq!(server.create(&body).await.status, 201);
    let paused = server.verb("pause").await;
    assert_eq!(
        (paused.status, text(&paused.body, "state")),
        (200, "paused".to_owned())
    );
    assert_eq!(paused.body.get("next_at"), None);
    let triggered = server.verb("trigger").await;
    assert_eq!(triggered.status, 202, "{}", triggered.text);
    let task = text(&triggered.body, "task");
    server.world.wait_at_gate(1).await;
    let skipped = server.verb("trigger").await;
    assert_eq!(skipped.status, 409);
    assert_eq!(
        text(&skipped.body, "detail"),
        format!("the schedule `nightly` is skipped, because its previous task `{task}` is open")
    );
    server.world.gate.add_permits(1);
    let ended = server.door.get(&format!("/v1/tasks/{task}/wait")).await;
    assert_eq!(ended.body["output"], json!({"a": 1}));
    assert_eq!(
        ended.body["labels"],
        json!({"team": "red", "schedule": "nightly"})
    );
    let resumed = server.verb("resume").await;
    assert_eq!(text(&resumed.body, "state"), "active");
    assert_eq!(resumed.all("/firings", "state"), ["skipped", "fired"]);
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_said_with_what_would_be_right() {
    let server = Server::start().await;
    assert_eq!(server.create(&nightly()).await.status, 201);
    let with = |field: &str, value: Value| {
        let mut body = nightly();
        body["name"] = json!("other");
        let (outer, inner) = field.split_once('.').unwrap_or((field, ""));
        match inner {
            "" => body[outer] = value,
            inner => body[outer][inner] = value,
        }
        body
    };
    let mut taken = nightly();
    taken["cron"] = json!("0 4 * * *");
    let mut said = String::new();
    for body in [
        with("cron", json!("0 25 * * *")),
        with("time_zone", json!("Europe/Prag")),
        with("every", json!(60)),
        with("overlap", json!("drop")),
        with("catch_up", json!("all")),
        with("name", json!("a b")),
        with("colour", json!("red")),
        with("task.action", json!("ecko")),
        with("task.queue", json!("defolt")),
        with("task.id", json!("00000000-03e8-7000-8000-000000000001")),
        with("task.priority", json!(101)),
        with("task.colour", json!("red")),
        json!({"name": "past", "at": "2020-01-01T00:00:00Z", "task": {"action": "echo"}}),
        json!({"name": "when", "task": {"action": "echo"}}),
        taken,
    ] {
        let answer = server.create(&body).await;
        let hint = answer.body.get("hint").map(ToString::to_string);
        let detail = text(&answer.body, "detail");
        let line = [answer.status.to_string(), detail, hint.unwrap_or_default()].join(" | ");
        said.push_str(line.trim_end_matches(" | "));
        said.push('\n');
    }
    insta::assert_snapshot!(said, @r#"
    400 | `cron`: the field `hour` is `*`, or numbers from 0 to 23 such as `3`, `8,20`, `9-17` or `*/2`, not `25`
    400 | `time_zone`: there is no time zone `Europe/Prag`; it is a name such as `Europe/Prague` or `UTC`, did you mean `Europe/Prague`?
    400 | only one of `cron`, `every` and `at` can be there
    400 | `overlap`: not an overlap policy (`skip`, `queue` or `cancel_previous`): `drop`
    400 | the catch-up policy `all` needs the overlap policy `queue`, not `skip` | "what was missed is made up for one after the other; without a queue only one of it would run"
    400 | `name`: not a name of a schedule (letters, digits, `_`, `-`, `.`, beginning with a letter or digit, at most 64): `a b`
    400 | unknown field `colour`, expected one of `name`, `cron`, `time_zone`, `every`, `anchor`, `at`, `overlap`, `catch_up`, `task` at line 1 column 9, at `colour`
    422 | no executor has ever offered the action `ecko` | "did you mean `echo`?"
    422 | there is no queue `defolt` | "did you mean `default`?"
    400 | `id` belongs to one task, and each firing of a schedule is another; leave it out
    400 | `task`: `priority` is 101, it must be from -100 to 100
    400 | unknown field `colour`, expected one of `action`, `input`, `id`, `queue`, `priority`, `labels`, `run_at`, `deadline`, `timeout`, `retry`, `on_failure`, `delivery`, `parent`, `outlives_parent`, `resources`, `after`, `idempotency_key` at line 1 column 67, at `task.colour`
    422 | the schedule `past` is refused: it would never fire, because `2020-01-01T00:00:00Z` has passed | "choose a time that is to come"
    400 | it says not when: one of `cron`, `every` and `at` must be there
    409 | the schedule `nightly` is refused: there is a schedule of this name already, which differs in `timing` | "delete it first, or choose another name; a schedule is not changed"
    "#);
    // What another site could send without asking.
    let bare = server
        .door
        .request(Method::POST, "/v1/schedules/nightly/trigger");
    assert_eq!(Answer::of(bare).await.status, 415);
    assert_eq!(server.door.get("/v1/schedules/nobody").await.status, 404);
    assert_eq!(server.door.get("/v1/schedules/a%20b").await.status, 400);
    server.stop().await;
}
