//! Everything that can be wrong with a request, and what it is answered with.

use std::fmt::{Display, Write as _};

use longshore::domain::{TaskId, TaskState};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, text};

const UNKNOWN: &str = "00000000-03e8-7000-8000-000000000001";

/// A request that is wrong.
struct Wrong {
    method: Method,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

fn submit(body: impl Display) -> Wrong {
    Wrong {
        method: Method::POST,
        path: "/v1/tasks".to_owned(),
        headers: vec![("content-type", "application/json")],
        body: body.to_string(),
    }
}

fn get(path: &str) -> Wrong {
    Wrong {
        method: Method::GET,
        path: path.to_owned(),
        headers: Vec::new(),
        body: String::new(),
    }
}

impl Wrong {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    fn to(mut self, method: Method, path: &str) -> Self {
        (self.method, self.path) = (method, path.to_owned());
        self
    }

    /// Sends it, and answers with a line of the table. Every answer has the one shape that there is.
    async fn line(self, server: &Server) -> String {
        let mut request = server.door.request(self.method.clone(), &self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let answer = Answer::of(request.body(self.body.clone())).await;
        let problem = answer.body.as_object();
        let problem = problem.unwrap_or_else(|| panic!("{}: {answer:?}", self.path));
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{answer:?}"
        );
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["status"], answer.status);
        let status = reqwest::StatusCode::from_u16(answer.status).unwrap();
        assert_eq!(problem["title"], status.canonical_reason().unwrap());
        let known = ["type", "title", "status", "detail", "hint"];
        assert!(problem.keys().all(|key| known.contains(&key.as_str())));
        let body: String = self.body.chars().take(70).collect();
        let hint = problem.get("hint").and_then(Value::as_str);
        let hint = hint.map(|hint| format!("\n    hint: {hint}"));
        let mut said = format!("{} {} {body}", self.method, self.path);
        for (name, value) in &self.headers {
            if *value != "application/json" {
                write!(said, " [{name}: {value}]").unwrap();
            }
        }
        let said = said.trim_end();
        let detail = problem["detail"].as_str().unwrap();
        format!(
            "{said}\n    {} {detail}{}",
            answer.status,
            hint.unwrap_or_default()
        )
    }
}

fn wrong_submissions() -> Vec<Wrong> {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let large = "x".repeat(1024 * 1024);
    let echo = |field: &str, value: Value| submit(json!({"action": "echo", field: value}));
    vec![
        submit(json!({"action": "ecko"})),
        submit(json!({"action": "weigh_anchor"})),
        submit(json!({"action": "Weigh anchor!"})),
        echo("queue", json!("defualt")),
        echo("queue", json!("night")),
        echo("queue", json!("A B")),
        submit(r#"{"action": "echo""#),
        submit(r#"{"action": "echo"} {}"#),
        submit(""),
        submit(r#"["echo"]"#),
        submit("\"echo\""),
        submit(json!({"input": 1})),
        echo("inptu", json!(1)),
        echo("colour", json!("red")),
        submit(json!({"action": 7})),
        echo("priority", json!("high")),
        echo("priority", json!(101)),
        echo("priority", json!(1_000_000)),
        echo("labels", json!({"team": 7})),
        echo("labels", json!({"": "red"})),
        echo("labels", json!({"a": "x".repeat(256)})),
        echo("timeout", json!(0)),
        echo("timeout", json!(-1)),
        echo("timeout", json!("5s")),
        echo("retry", json!({"attempts": 0})),
        echo("retry", json!({"tries": 3})),
        echo("on_failure", json!("explode")),
        echo("delivery", json!("twice")),
        echo("run_at", json!("tomorrow")),
        submit(
            json!({"action": "echo", "run_at": "2100-01-02T00:00:00Z", "deadline": "2100-01-01T00:00:00Z"}),
        ),
        echo("parent", json!(UNKNOWN)),
        echo("parent", json!("me")),
        echo("id", json!("7")),
        echo("resources", json!([])),
        echo("after", json!([UNKNOWN])),
        echo("idempotency_key", json!("a b")),
        submit(r#"{"action": "echo", "input": "a\u0000b"}"#),
        submit(format!(r#"{{"action": "echo", "input": {deep}}}"#)),
        submit(format!(r#"{{"action": "echo", "input": "{large}"}}"#)),
        submit(format!(
            r#"{{"action": "echo", "input": "{large}{}"}}"#,
            "x".repeat(80_000)
        )),
        submit("{}").with("content-type", "text/plain"),
        submit("{}").with("content-type", "application/x-www-form-urlencoded"),
        submit("{}").with("prefer", "wait=soon"),
        submit("{}").with("prefer", "wait=-1"),
        submit(json!({"action": "echo"})).with("idempotency-key", "a b"),
        echo("idempotency_key", json!("k")).with("idempotency-key", "l"),
    ]
}

fn wrong_questions() -> Vec<Wrong> {
    let cancel = format!("/v1/tasks/{UNKNOWN}/cancel");
    let below = |rest: &str| get(&format!("/v1/tasks/{UNKNOWN}{rest}"));
    vec![
        get("/v1/tasks/7"),
        get("/v1/tasks/%ff"),
        below(""),
        below("/wait"),
        below("/wait?timeout=long"),
        below("/tree"),
        below("/why"),
        below("/logs"),
        below("/logs?after=7"),
        below("/logs?limit=0"),
        below("/logs?colour=red"),
        get("/v1/tasks?cursor=7"),
        get("/v1/tasks?limit=0"),
        get("/v1/tasks?limit=1001"),
        get("/v1/tasks?limit=many"),
        get("/v1/tasks?state=done"),
        get("/v1/tasks?queue=A"),
        get("/v1/tasks?action=a%20b"),
        get("/v1/tasks?label=team"),
        get("/v1/tasks?parent=me"),
        get("/v1/tasks?stat=failed"),
        get("/v1/tasks?zebra=1"),
        get("/v1/tasks?state=failed&state=ready"),
        get("/v1/taps?since=soon"),
        get("/v1/taps?filer=x"),
        get("/v1/taps").with("last-event-id", "x"),
        submit("{}").to(Method::POST, &cancel),
        submit(r#"{"why": "x"}"#).to(Method::POST, &cancel),
        submit("[]").to(Method::POST, &cancel),
        submit("{").to(Method::POST, &cancel),
        get(&cancel),
        get("/v1/tasks").to(Method::DELETE, "/v1/tasks"),
        get("/v2/tasks"),
        get("/"),
    ]
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one table of what is wrong and what is said, to be read as a whole"
)]
async fn every_wrong_request_is_told_what_is_wrong_and_leaves_nothing_behind() {
    let server = Server::start().await;
    let mut table = Vec::new();
    for wrong in wrong_submissions() {
        table.push(wrong.line(&server).await);
    }
    insta::assert_snapshot!(table.join("\n"), @r#"
    POST /v1/tasks {"action":"ecko"}
        422 no executor has ever offered the action `ecko`
        hint: did you mean `echo`?
    POST /v1/tasks {"action":"weigh_anchor"}
        422 no executor has ever offered the action `weigh_anchor`
        hint: start an executor that has the action, or set `web.strict_actions = false`
    POST /v1/tasks {"action":"Weigh anchor!"}
        400 `action`: not a name of an action (letters, digits, `_`, `-`, in words joined by dots, at most 100): `Weigh anchor!`
    POST /v1/tasks {"action":"echo","queue":"defualt"}
        422 there is no queue `defualt`
        hint: did you mean `default`?
    POST /v1/tasks {"action":"echo","queue":"night"}
        422 there is no queue `night`
        hint: type `longshore queue create night`
    POST /v1/tasks {"action":"echo","queue":"A B"}
        400 `queue`: not a name of a queue (lower-case letters, digits, `_`, `-`, beginning with a letter or digit, at most 64): `A B`
    POST /v1/tasks {"action": "echo"
        400 EOF while parsing an object at line 1 column 17
    POST /v1/tasks {"action": "echo"} {}
        400 trailing characters at line 1 column 20
    POST /v1/tasks
        400 it is empty
    POST /v1/tasks ["echo"]
        400 it is not a JSON object
    POST /v1/tasks "echo"
        400 it is not a JSON object
    POST /v1/tasks {"input":1}
        400 missing field `action` at line 1 column 11
    POST /v1/tasks {"action":"echo","inptu":1}
        400 unknown field `inptu`, did you mean `input`?, at `inptu`
    POST /v1/tasks {"action":"echo","colour":"red"}
        400 unknown field `colour`, expected one of `action`, `input`, `id`, `queue`, `priority`, `labels`, `run_at`, `deadline`, `timeout`, `retry`, `on_failure`, `delivery`, `parent`, `outlives_parent`, `resources`, `after`, `idempotency_key` at line 1 column 25, at `colour`
    POST /v1/tasks {"action":7}
        400 invalid type: integer `7`, expected a string at line 1 column 11, at `action`
    POST /v1/tasks {"action":"echo","priority":"high"}
        400 invalid type: string "high", expected i16 at line 1 column 34, at `priority`
    POST /v1/tasks {"action":"echo","priority":101}
        400 `priority` is 101, it must be from -100 to 100
    POST /v1/tasks {"action":"echo","priority":1000000}
        400 invalid value: integer `1000000`, expected i16 at line 1 column 35, at `priority`
    POST /v1/tasks {"action":"echo","labels":{"team":7}}
        400 invalid type: integer `7`, expected a string at line 1 column 35, at `labels.team`
    POST /v1/tasks {"action":"echo","labels":{"":"red"}}
        400 the label `` or its value is empty, longer than 255 bytes, or holds NUL
    POST /v1/tasks {"action":"echo","labels":{"a":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        400 the label `a` or its value is empty, longer than 255 bytes, or holds NUL
    POST /v1/tasks {"action":"echo","timeout":0}
        400 `timeout` must be above 0 and at most ten years
    POST /v1/tasks {"action":"echo","timeout":-1}
        400 `-1` is not a number of seconds from 0 up at line 1 column 30, at `timeout`
    POST /v1/tasks {"action":"echo","timeout":"5s"}
        400 invalid type: string "5s", expected f64 at line 1 column 31, at `timeout`
    POST /v1/tasks {"action":"echo","retry":{"attempts":0}}
        400 `retry.attempts` is 0, it must be from 1 to 1000
    POST /v1/tasks {"action":"echo","retry":{"tries":3}}
        400 unknown field `tries`, expected one of `attempts`, `delay`, `delay_max` at line 1 column 33, at `retry.tries`
    POST /v1/tasks {"action":"echo","on_failure":"explode"}
        400 `on_failure`: not a choice for `on_failure` (`fail` or `pause`): `explode`
    POST /v1/tasks {"action":"echo","delivery":"twice"}
        400 `delivery`: not a delivery (`rerun` or `once`): `twice`
    POST /v1/tasks {"action":"echo","run_at":"tomorrow"}
        400 failed to parse four digit integer as year: invalid digit, expected 0-9 but got t at line 1 column 36, at `run_at`
    POST /v1/tasks {"action":"echo","deadline":"2100-01-01T00:00:00Z","run_at":"2100-01-0
        400 `deadline` lies before `run_at`, so the task could never run
    POST /v1/tasks {"action":"echo","parent":"00000000-03e8-7000-8000-000000000001"}
        422 there is no task `00000000-03e8-7000-8000-000000000001` to be the parent
        hint: leave `parent` out to submit a task of its own
    POST /v1/tasks {"action":"echo","parent":"me"}
        400 `parent`: not a task id (a UUID): `me`
    POST /v1/tasks {"action":"echo","id":"7"}
        400 `id`: not a task id (a UUID): `7`
    POST /v1/tasks {"action":"echo","resources":[]}
        400 `resources` is not supported by this version of longshore; leave it out
    POST /v1/tasks {"action":"echo","after":["00000000-03e8-7000-8000-000000000001"]}
        400 `after` is not supported by this version of longshore; leave it out
    POST /v1/tasks {"action":"echo","idempotency_key":"a b"}
        400 `idempotency_key`: not an idempotency key (from 1 to 255 visible ASCII characters): `a b`
    POST /v1/tasks {"action": "echo", "input": "a\u0000b"}
        400 the payload holds the character NUL (`\u0000`) at byte 2; encode binary data, for example as Base64 at line 1 column 39, at `input`
    POST /v1/tasks {"action": "echo", "input": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
        400 the payload nests deeper than 64 levels at line 1 column 159, at `input`
    POST /v1/tasks {"action": "echo", "input": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        413 `input` is refused: the payload has 1048578 bytes, more than the limit of 1048576; store large data elsewhere and pass its address
    POST /v1/tasks {"action": "echo", "input": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        413 the body is longer than a payload of 1048576 bytes can be
        hint: store large data elsewhere and pass its address
    POST /v1/tasks {} [content-type: text/plain]
        415 the body is `text/plain`
        hint: send `Content-Type: application/json`
    POST /v1/tasks {} [content-type: application/x-www-form-urlencoded]
        415 the body is `application/x-www-form-urlencoded`
        hint: send `Content-Type: application/json`
    POST /v1/tasks {} [prefer: wait=soon]
        400 `soon` is not a number of seconds to wait
        hint: for example `Prefer: wait=30`
    POST /v1/tasks {} [prefer: wait=-1]
        400 `-1` is not a number of seconds to wait
        hint: for example `Prefer: wait=30`
    POST /v1/tasks {"action":"echo"} [idempotency-key: a b]
        400 `idempotency_key`: not an idempotency key (from 1 to 255 visible ASCII characters): `a b`
    POST /v1/tasks {"action":"echo","idempotency_key":"k"} [idempotency-key: l]
        400 the header `Idempotency-Key` is `l`, and `idempotency_key` is `k`
        hint: send one of the two
    "#);
    table.clear();
    for wrong in wrong_questions() {
        table.push(wrong.line(&server).await);
    }
    insta::assert_snapshot!(table.join("\n"), @r#"
    GET /v1/tasks/7
        400 not a task id (a UUID): `7`
    GET /v1/tasks/%ff
        400 not a task id (a UUID): it is not UTF-8
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001
        404 there is no task `00000000-03e8-7000-8000-000000000001`
        hint: finished tasks are deleted when their retention is over
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/wait
        404 there is no task `00000000-03e8-7000-8000-000000000001`
        hint: finished tasks are deleted when their retention is over
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/wait?timeout=long
        400 `long` is not a number of seconds to wait
        hint: for example `Prefer: wait=30`
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/tree
        404 there is no task `00000000-03e8-7000-8000-000000000001`
        hint: finished tasks are deleted when their retention is over
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/why
        404 there is no task `00000000-03e8-7000-8000-000000000001`
        hint: finished tasks are deleted when their retention is over
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/logs
        404 there is no task `00000000-03e8-7000-8000-000000000001`
        hint: finished tasks are deleted when their retention is over
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/logs?after=7
        400 `after`: not a place in a log (`attempt:offset`): `7`
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/logs?limit=0
        400 `limit` must be from 1 to 1000, not `0`
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/logs?colour=red
        400 there is no parameter `colour`
        hint: there are `after`, `limit`
    GET /v1/tasks?cursor=7
        400 `cursor`: not a task id (a UUID): `7`
    GET /v1/tasks?limit=0
        400 `limit` must be from 1 to 1000, not `0`
    GET /v1/tasks?limit=1001
        400 `limit` must be from 1 to 1000, not `1001`
    GET /v1/tasks?limit=many
        400 `limit` must be from 1 to 1000, not `many`
    GET /v1/tasks?state=done
        400 `state`: not a state (scheduled, blocked, ready, running, suspended, paused, succeeded, failed, cancelled): `done`
    GET /v1/tasks?queue=A
        400 `queue`: not a name of a queue (lower-case letters, digits, `_`, `-`, beginning with a letter or digit, at most 64): `A`
    GET /v1/tasks?action=a%20b
        400 `action`: not a name of an action (letters, digits, `_`, `-`, in words joined by dots, at most 100): `a b`
    GET /v1/tasks?label=team
        400 `label` is not of the form `name=value`
    GET /v1/tasks?parent=me
        400 `parent`: not a task id (a UUID): `me`
    GET /v1/tasks?stat=failed
        400 there is no parameter `stat`
        hint: did you mean `state`?
    GET /v1/tasks?zebra=1
        400 there is no parameter `zebra`
        hint: there are `state`, `queue`, `action`, `label`, `parent`, `cursor`, `limit`
    GET /v1/tasks?state=failed&state=ready
        400 the query cannot be read: duplicate field `state`
    GET /v1/taps?since=soon
        400 `since` is not an offset in the history: `soon`
    GET /v1/taps?filer=x
        400 there is no parameter `filer`
        hint: did you mean `filter`?
    GET /v1/taps  [last-event-id: x]
        400 `Last-Event-ID` is not an offset in the history: `x`
    POST /v1/tasks/00000000-03e8-7000-8000-000000000001/cancel {}
        404 there is no task `00000000-03e8-7000-8000-000000000001`
        hint: finished tasks are deleted when their retention is over
    POST /v1/tasks/00000000-03e8-7000-8000-000000000001/cancel {"why": "x"}
        400 unknown field `why`, expected `reason` at line 1 column 6, at `why`
    POST /v1/tasks/00000000-03e8-7000-8000-000000000001/cancel []
        400 it is not a JSON object
    POST /v1/tasks/00000000-03e8-7000-8000-000000000001/cancel {
        400 EOF while parsing an object at line 1 column 1
    GET /v1/tasks/00000000-03e8-7000-8000-000000000001/cancel
        405 `/v1/tasks/00000000-03e8-7000-8000-000000000001/cancel` does not take `GET`
    DELETE /v1/tasks
        405 `/v1/tasks` does not take `DELETE`
    GET /v2/tasks
        404 there is no `/v2/tasks`
        hint: the interface begins at `/v1/tasks`; see `docs/http.md`
    GET /
        404 there is no `/`
        hint: the interface begins at `/v1/tasks`; see `docs/http.md`
    "#);
    let listed = server.door.get("/v1/tasks").await;
    assert_eq!(listed.body, json!({"tasks": []}), "nothing is stored");
    let task = server
        .door
        .run(&json!({"action": "echo", "input": "still well"}))
        .await;
    assert_eq!(task["output"], "still well");
    server.stop().await;
}

#[tokio::test]
async fn a_parent_that_has_ended_takes_no_children() {
    let server = Server::start().await;
    let parent = text(&server.door.run(&json!({"action": "echo"})).await, "id");
    let child = json!({"action": "echo", "parent": parent});
    let refused = server.door.post("/v1/tasks", &child).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let detail = text(&refused.body, "detail").replace(&parent, "[id]");
    insta::assert_snapshot!(detail, @"the parent `[id]` is final or being cancelled");
    let id: TaskId = parent.parse().unwrap();
    let state = server.world.client.task(id).await.unwrap().state;
    assert_eq!(state, TaskState::Succeeded);
    server.stop().await;
}
