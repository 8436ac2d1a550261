//! The action `http` against a server of the test's own, and callbacks through the real routes.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use longshore::action::Registry;
use longshore::action::builtin::http::{Hosts, Http, HttpRights};
use longshore::background::Background;
use longshore::client::ClientSettings;
use longshore::domain::{RetryPolicy, Task, TaskId, TaskState};
use longshore::http::{App, bind, serve};
use longshore::runtime::RunningExecutor;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::eventually::eventually;
use crate::support::world::{World, error, output, submission};

/// What the other side has seen.
#[derive(Clone, Default)]
struct Seen {
    calls: Arc<AtomicU32>,
    last: Arc<Mutex<Option<(HeaderMap, Value)>>>,
    keys: Arc<Mutex<Vec<HeaderValue>>>,
    /// Ends the silence.
    speak: Arc<Notify>,
}

/// A world, the other side, and the routes of a web server.
struct Both {
    world: World,
    http: Http,
    executors: Vec<RunningExecutor>,
    seen: Seen,
    background: Background,
    /// The other side's address.
    there: String,
    /// The web server's.
    here: String,
    client: reqwest::Client,
}

async fn hello(State(seen): State<Seen>, headers: HeaderMap, body: Bytes) -> Response {
    seen.calls.fetch_add(1, Ordering::SeqCst);
    let said = serde_json::from_slice(&body).unwrap_or(Value::Null);
    *seen.last.lock().unwrap() = Some((headers, said.clone()));
    ([("x-request-id", "r1")], axum::Json(json!({"said": said}))).into_response()
}

/// Busy for the first call.
async fn busy(State(seen): State<Seen>) -> Response {
    match seen.calls.fetch_add(1, Ordering::SeqCst) {
        0 => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, "0")],
            "later",
        )
            .into_response(),
        _ => "text".into_response(),
    }
}

/// Silent to the first call.
async fn silent(State(seen): State<Seen>, headers: HeaderMap) -> &'static str {
    let key = headers.get("idempotency-key").cloned();
    seen.keys.lock().unwrap().extend(key);
    if seen.calls.fetch_add(1, Ordering::SeqCst) == 0 {
        seen.speak.notified().await;
    }
    "at last"
}

/// A redirect to the same server by another name: for a client it is another host.
async fn by_name(headers: HeaderMap) -> Redirect {
    let port = headers["host"].to_str().unwrap().rsplit(':').next();
    Redirect::temporary(&format!("http://localhost:{}/hello", port.unwrap()))
}

async fn listen(router: Router, background: &Background) -> String {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = background.stop_token();
    background.spawn(async move {
        let stop = async move { stop.cancelled().await };
        axum::serve(listener, router)
            .with_graceful_shutdown(stop)
            .await
            .unwrap();
    });
    format!("http://{address}")
}

impl Both {
    async fn start() -> Self {
        longshore::broker::install_tls();
        let world = World::embedded().await;
        let (seen, background) = (Seen::default(), Background::new());
        let router = Router::new()
            .route("/hello", any(hello))
            .route("/busy", any(busy))
            .route("/silent", any(silent))
            .route(
                "/away",
                get(|| async { Redirect::temporary("http://elsewhere.example/") }),
            )
            .route("/by-name", get(by_name))
            .route("/long", any(|| async { "\u{1}".repeat(200_000) }))
            .route("/moved", get(|| async { Redirect::temporary("/hello") }))
            .route(
                "/refused",
                any(|| async { (StatusCode::FORBIDDEN, "no entry") }),
            )
            .with_state(seen.clone());
        let there = listen(router, &background).await;
        let app = App {
            client: world
                .runtime
                .client(ClientSettings::default())
                .await
                .unwrap(),
            store: Arc::clone(world.runtime.store()),
            broker: Arc::clone(world.runtime.broker()),
        };
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let here = format!("http://{}", listener.local_addr().unwrap());
        let stop = background.stop_token();
        background.spawn(async move {
            let stop = async move { stop.cancelled().await };
            serve(listener, app, stop).await.unwrap();
        });
        let rights = HttpRights {
            hosts: Hosts::new([there.trim_start_matches("http://"), "localhost"]).unwrap(),
            callback_url: Some(format!("{here}/")),
        };
        let http = Http::new(Arc::clone(world.runtime.clock()), rights);
        let mut both = Self {
            world,
            http,
            executors: Vec::new(),
            seen,
            background,
            there,
            here,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        both.execute().await;
        both
    }

    /// Starts an executor.
    async fn execute(&mut self) {
        let registry = Registry::new().with(self.http.clone());
        let executor = self.world.executor_with(registry, &[("default", 2)]);
        self.executors.push(executor.await);
    }

    async fn called(&self, count: u32) {
        let calls = async || self.seen.calls.load(Ordering::SeqCst);
        eventually("it is called", calls, |calls| *calls == count).await;
    }

    async fn run(&self, path: &str, more: &Value) -> Task {
        let retry = RetryPolicy::new(3, Duration::from_mins(1), Duration::from_mins(1)).unwrap();
        self.world
            .run(self.input(path, more).with_retry(retry))
            .await
    }

    fn input(&self, path: &str, more: &Value) -> longshore::domain::Submission {
        let mut input = json!({"url": format!("{}{path}", self.there)});
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        submission("http", &input)
    }

    fn last(&self) -> (HeaderMap, Value) {
        self.seen.last.lock().unwrap().clone().unwrap()
    }

    /// Posts an answer, and tells how it was taken.
    async fn call(&self, url: &str, body: &'static str) -> (u16, Value) {
        let request = self.client.request(Method::POST, url).body(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn suspended(&self, task: TaskId) -> Task {
        eventually(
            "it waits",
            async || self.world.client.task(task).await.unwrap(),
            |task| task.state == TaskState::Suspended,
        )
        .await
    }

    async fn stop(self) {
        drop(self.client);
        self.background.stop();
        self.world.stop(self.executors).await;
        self.background.ended().await;
    }
}

#[tokio::test]
async fn an_answer_is_the_output() {
    let both = Both::start().await;
    let task = both
        .run(
            "/hello",
            &json!({"body": {"order": 7}, "headers": {"X-Team": "red"}}),
        )
        .await;
    let said = output(&task);
    assert_eq!(
        (&said["status"], &said["body"]),
        (&json!(200), &json!({"said": {"order": 7}}))
    );
    assert_eq!(said["headers"]["x-request-id"], "r1");
    let (headers, _) = both.last();
    assert_eq!(
        (&headers["x-team"], &headers["content-type"]),
        (
            &"red".parse().unwrap(),
            &"application/json".parse().unwrap()
        )
    );
    assert_eq!(headers["idempotency-key"], task.id.to_string().as_str());
    let task = both.run("/moved", &json!({})).await;
    assert_eq!(output(&task)["body"], json!({"said": null}));
    let task = both.run("/refused", &json!({"expect": [403]})).await;
    assert_eq!(output(&task)["body"], "no entry");
    both.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_to_be_stored_is_cut_and_not_asked_for_again() {
    let both = Both::start().await;
    // Each of its characters takes six in JSON.
    let task = both.run("/long", &json!({"method": "post"})).await;
    assert_eq!(task.state, TaskState::Succeeded, "{task:?}");
    let output = output(&task);
    assert_eq!(output["is_cut"], true);
    let kept = output["body"].as_str().unwrap().len();
    assert!((50_000..200_000).contains(&kept), "{kept}");
    both.stop().await;
}

#[tokio::test]
async fn what_is_busy_is_asked_again_when_it_said_so() {
    let both = Both::start().await;
    // The policy's own pause would be a minute.
    let task = both.run("/busy", &json!({})).await;
    assert_eq!(output(&task)["body"], "text");
    assert_eq!(
        (task.failures, both.seen.calls.load(Ordering::SeqCst)),
        (1, 2)
    );
    both.stop().await;
}

#[tokio::test]
async fn what_was_refused_fails_with_what_was_said() {
    let both = Both::start().await;
    let task = both.run("/refused", &json!({"method": "delete"})).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(
        error(&task).starts_with("`DELETE` to `127.0.0.1:"),
        "{task:?}"
    );
    assert!(
        error(&task).ends_with("was answered with 403 Forbidden"),
        "{task:?}"
    );
    let detail: Value = task.error.unwrap().detail.unwrap().decode().unwrap();
    assert_eq!(detail["body"], "no entry");
    both.stop().await;
}

#[tokio::test]
async fn only_hosts_that_are_allowed_are_called() {
    let both = Both::start().await;
    let elsewhere = submission("http", &json!({"url": "http://elsewhere.example/"}));
    let task = both.world.run(elsewhere).await;
    assert_eq!(
        error(&task),
        "this executor may not call it; the setting `executor.http_hosts` names what it may: `elsewhere.example`"
    );
    let task = both.run("/away", &json!({})).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(
        error(&task).contains("it leads to another host"),
        "{task:?}"
    );
    // Although that may be called, too: the headers are for the first.
    let task = both.run("/by-name", &json!({})).await;
    assert!(
        error(&task).contains("it leads to another host"),
        "{task:?}"
    );
    assert_eq!(both.seen.calls.load(Ordering::SeqCst), 0);
    let task = both
        .world
        .run(submission("http", &json!({"url": "file:///etc/passwd"})))
        .await;
    assert!(error(&task).contains("begins with `http://`"), "{task:?}");
    both.stop().await;
    // As it is without any setting.
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let task = world
        .run(submission("http", &json!({"url": "http://a.example/"})))
        .await;
    assert!(
        error(&task).starts_with("this executor calls no hosts; the setting `executor.http_hosts`"),
        "{task:?}"
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_callback_is_the_output_and_only_its_token_opens_the_door() {
    let both = Both::start().await;
    let wish =
        json!({"body": {"answer_to": "{callback}", "list": ["<{callback}>"]}, "callback": {}});
    let task = both.world.submit(both.input("/hello", &wish)).await;
    both.suspended(task).await;
    assert_eq!(both.executors[0].running(), 0);
    let (headers, said) = both.last();
    let address = headers["longshore-callback"].to_str().unwrap().to_owned();
    assert_eq!(
        said,
        json!({"answer_to": address, "list": [format!("<{address}>")]})
    );
    assert!(
        address.starts_with(&format!("{}/v1/callbacks/{task}/", both.here)),
        "{address}"
    );

    let (door, token) = address.rsplit_once('/').unwrap();
    let wrong = format!("{door}/{}", token.chars().rev().collect::<String>());
    let (status, problem) = both.call(&wrong, "1").await;
    assert_eq!(
        (status, &problem["detail"]),
        (404, &json!("nobody waits for an answer at this address"))
    );
    let waits = both.suspended(task).await.waiting_for.unwrap().to_string();
    assert!(!waits.contains(token), "{waits}");

    let (status, said) = both.call(&address, r#"{"done": true}"#).await;
    assert_eq!((status, &said["status"]), (202, &json!("stored")));
    let ended = both.world.ended(task).await;
    assert_eq!(output(&ended), json!({"done": true}));
    let (status, said) = both.call(&address, "2").await;
    assert_eq!((status, &said["status"]), (200, &json!("known")));
    assert_eq!(
        both.seen.calls.load(Ordering::SeqCst),
        1,
        "the request is made once"
    );
    both.stop().await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_fails_the_task() {
    let both = Both::start().await;
    let wish = json!({"callback": {"timeout": 0.05}});
    let task = both.world.run(both.input("/hello", &wish)).await;
    assert_eq!(error(&task), "nobody called back within 0.05 seconds");
    let (headers, _) = both.last();
    let address = headers["longshore-callback"].to_str().unwrap().to_owned();
    let (status, problem) = both.call(&address, "1").await;
    assert_eq!(status, 409, "{problem}");
    both.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_while_no_executor_lives_is_kept_and_the_first_counts() {
    let mut both = Both::start().await;
    let wish = json!({"body": 1, "callback": {}});
    let task = both.world.submit(both.input("/hello", &wish)).await;
    both.suspended(task).await;
    both.executors.clear();
    let (headers, _) = both.last();
    let address = headers["longshore-callback"].to_str().unwrap().to_owned();
    for (body, expected) in [("1", (202, "stored")), ("2", (200, "known"))] {
        let (status, said) = both.call(&address, body).await;
        assert_eq!((status, said["status"].as_str().unwrap()), expected);
    }
    both.execute().await;
    assert_eq!(output(&both.world.ended(task).await), 1);
    assert_eq!(both.seen.calls.load(Ordering::SeqCst), 1);
    both.stop().await;
}

#[tokio::test]
async fn a_request_whose_executor_dies_is_made_again_with_the_same_key() {
    let mut both = Both::start().await;
    let wish = json!({"method": "post", "timeout": 3600});
    let task = both.world.submit(both.input("/silent", &wish)).await;
    both.called(1).await;
    both.executors.clear();
    both.execute().await;
    assert_eq!(output(&both.world.ended(task).await)["body"], "at last");
    let keys = both.seen.keys.lock().unwrap().clone();
    assert_eq!(keys, [task.to_string().as_str(); 2]);
    both.seen.speak.notify_one(); // The first attempt hears of it, too late.
    both.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_refused_and_a_late_answer_are_tried_again() {
    let both = Both::start().await;
    let soon = Duration::from_millis(1);
    let retry = RetryPolicy::new(2, soon, soon).unwrap();
    let late = both.input("/silent", &json!({"timeout": 0.05}));
    let task = both.world.run(late.with_retry(retry)).await;
    assert_eq!(
        (output(&task)["body"].as_str(), task.failures),
        (Some("at last"), 1)
    );
    // Nobody listens there.
    let refused = submission("http", &json!({"url": "http://localhost:1/"}));
    let task = both.world.run(refused.with_retry(retry)).await;
    assert_eq!((task.state, task.failures), (TaskState::Failed, 2));
    assert!(
        error(&task).starts_with("`GET` to `localhost:1` was not answered: "),
        "{task:?}"
    );
    both.stop().await;
}
