//! Events as they happen: server-sent events.

use jiff::Timestamp;
use longshore::domain::TaskId;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{Server, text};
use crate::support::world::PATIENCE;
use crate::taps::announce_together;

/// A stream of server-sent events.
pub(super) struct Events {
    response: Response,
    unread: String,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) data: Value,
}

impl Events {
    async fn open(server: &Server, query: &str, last: Option<&str>) -> Self {
        Self::at(server, &format!("/v1/taps{query}"), last).await
    }

    pub(super) async fn at(server: &Server, path: &str, last: Option<&str>) -> Self {
        let request = server.door.request(Method::GET, path);
        let request = request.header("accept", "text/event-stream");
        let request = match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        };
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            unread: String::new(),
        }
    }

    /// Whether the server has ended the stream.
    pub(super) async fn is_over(&mut self) -> bool {
        let end = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
        self.unread.is_empty() && end.expect("an end comes").unwrap().is_none()
    }

    pub(super) async fn next(&mut self) -> Seen {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = event.lines().filter_map(|line| line.split_once(": "));
                    let found = lines.find(|(field, _)| *field == name);
                    found.map(|(_, value)| value.to_owned()).unwrap_or_default()
                };
                let seen = Seen {
                    id: field("id"),
                    kind: field("event"),
                    data: serde_json::from_str(&field("data")).unwrap_or_default(),
                };
                let read = self.unread.len() - rest.len();
                drop(self.unread.drain(..read));
                return seen;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("an event comes").unwrap().expect("no end");
            self.unread.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn a_listener_hears_of_each_task_and_resumes_where_it_was() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "", None).await;
    let task = server.door.run(&json!({"action": "echo"})).await;
    let created = events.next().await;
    let succeeded = events.next().await;
    assert_eq!(
        (created.kind.as_str(), succeeded.kind.as_str()),
        ("created", "succeeded")
    );
    assert_eq!(text(&created.data, "subject"), text(&task, "id"));
    assert_eq!(text(&created.data, "type"), "longshore.task.created");
    assert!(created.data.get("input").is_none(), "{created:?}");
    drop(events);
    let mut resumed = Events::open(&server, "?since=first", Some(&created.id)).await;
    assert_eq!(resumed.next().await.id, succeeded.id);
    let mut from = Events::open(&server, &format!("?since={}", succeeded.id), None).await;
    assert_eq!(from.next().await.kind, "succeeded");
    drop((resumed, from));
    server.stop().await;
}

#[tokio::test]
async fn a_listener_that_was_cut_off_within_a_message_hears_all_of_it_again() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "", None).await;
    server.door.run(&json!({"action": "echo"})).await;
    let (_, before) = (events.next().await, events.next().await);
    let tasks = [1, 2, 3].map(|number| TaskId::new(Timestamp::UNIX_EPOCH, number));
    announce_together(&*server.world.broker, tasks).await;
    let first = events.next().await;
    assert_eq!(first.id, "", "it is not the last of its message");
    drop(events);
    // As a browser does: it knows the last id that there was.
    let mut resumed = Events::open(&server, "", Some(&before.id)).await;
    let mut heard = Vec::new();
    for _ in tasks {
        heard.push(resumed.next().await);
    }
    let subjects: Vec<_> = heard
        .iter()
        .map(|seen| text(&seen.data, "subject"))
        .collect();
    assert_eq!(subjects, tasks.map(|task| task.to_string()));
    assert!(!heard[2].id.is_empty());
    drop(resumed);
    server.stop().await;
}

#[tokio::test]
async fn a_filter_lets_only_its_events_through() {
    let server = Server::start().await;
    let mut events = Events::open(&server, "?filter=failed.%23,*.*.sleep", None).await;
    server.door.run(&json!({"action": "echo"})).await;
    server
        .door
        .run(&json!({"action": "fail", "input": {"message": "no"}}))
        .await;
    server
        .door
        .run(&json!({"action": "sleep", "input": {"seconds": 0}}))
        .await;
    let mut heard = Vec::new();
    for _ in 0..3 {
        let seen = events.next().await;
        heard.push(format!(
            "{} {}",
            seen.kind,
            text(&seen.data["data"], "action")
        ));
    }
    assert_eq!(heard, ["failed fail", "created sleep", "succeeded sleep"]);
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn the_last_offset_there_can_be_harms_nobody() {
    let server = Server::start().await;
    let last = u64::MAX.to_string();
    drop(Events::open(&server, "", Some(&last)).await);
    drop(Events::open(&server, &format!("?since={last}"), None).await);
    assert_eq!(server.door.get("/livez").await.status, 200);
    server.stop().await;
}
