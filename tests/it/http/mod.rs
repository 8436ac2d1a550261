//! The HTTP interface, asked as a stranger asks: the real router on a port, requests over the network.

mod errors;
mod follow;
mod health;
mod keys;
mod schedules;
mod signals;
mod tap;
mod tasks;
mod verbs;
mod why;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use longshore::background::Background;
use longshore::client::ClientSettings;
use longshore::http::{App, bind, serve};
use longshore::runtime::RunningExecutor;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::support::world::World;

/// A served world, with an executor unless a test took it away.
struct Server {
    world: World,
    executors: Vec<RunningExecutor>,
    door: Door,
}

/// Where requests go.
struct Door {
    address: SocketAddr,
    client: reqwest::Client,
    background: Background,
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
    body: Value,
}

impl Server {
    /// Strict: an action that nobody offered is refused.
    async fn start() -> Self {
        let world = World::embedded().await;
        let executors = vec![world.executor(4).await];
        let settings = ClientSettings {
            refuses_unknown_actions: true,
            ..ClientSettings::default()
        };
        let app = App {
            client: world.runtime.client(settings).await.unwrap(),
            store: Arc::clone(world.runtime.store()),
            broker: Arc::clone(world.runtime.broker()),
        };
        let door = Door::open(app).await;
        Self {
            world,
            executors,
            door,
        }
    }

    async fn stop(self) {
        self.door.close().await;
        self.world.stop(self.executors).await;
    }
}

impl Door {
    async fn open(app: App) -> Self {
        longshore::broker::install_tls();
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let background = Background::new();
        let stop = background.stop_token();
        background.spawn(async move {
            let stop = async move { stop.cancelled().await };
            serve(listener, app, stop).await.unwrap();
        });
        Self {
            address,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            background,
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.request(method, url)
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// Submits, and answers with the whole task when it has ended.
    async fn run(&self, submission: &Value) -> Value {
        let request = self.request(Method::POST, "/v1/tasks").json(submission);
        let answer = Answer::of(request.header("prefer", "wait=30")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    /// Ends the connections that are kept, then the server.
    async fn close(self) {
        drop(self.client);
        self.background.stop();
        self.background.ended().await;
    }
}

impl Answer {
    async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Self {
            status,
            headers,
            text,
            body,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The strings that the things below `list` have at `key`.
    fn all(&self, list: &str, key: &str) -> Vec<String> {
        let things = self.body.pointer(list).and_then(Value::as_array);
        let things = things.unwrap_or_else(|| panic!("no list: {}", self.text));
        things.iter().map(|thing| text(thing, key)).collect()
    }
}

/// The string at `key`.
fn text(thing: &Value, key: &str) -> String {
    let found = thing[key].as_str();
    found
        .unwrap_or_else(|| panic!("no `{key}`: {thing}"))
        .to_owned()
}

/// The same with what differs each time replaced by its name.
fn redacted(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                let differs = name.ends_with("_at")
                    || ["id", "executor", "origin", "parent", "pid", "at"].contains(&name.as_str());
                *field = if differs {
                    Value::from(format!("[{name}]"))
                } else {
                    redacted(field.take())
                };
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = redacted(item.take())),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

#[test]
fn each_route_is_in_the_documentation() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let router = std::fs::read_to_string(top.join("src/http/mod.rs")).unwrap();
    let page = std::fs::read_to_string(top.join("docs/http.md")).unwrap();
    let mut missing = Vec::new();
    for line in router.lines() {
        let Some(route) = line.trim().strip_prefix(".route(\"") else {
            continue;
        };
        let (path, handlers) = route.split_once('"').unwrap();
        for (method, word) in [("GET", "get("), ("POST", "post(")] {
            if handlers.contains(word) {
                missing.push(format!("`{method} {path}`"));
            }
        }
    }
    assert!(missing.len() > 10, "{missing:?}");
    missing.retain(|request| !page.contains(request));
    assert!(missing.is_empty(), "not in docs/http.md: {missing:?}");
}
