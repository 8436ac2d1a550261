//! `GET /v1/taps`: every event, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::Stream;
use serde::Deserialize;
use serde_json::json;

use super::request::Asked;
use super::{App, Problem};
use crate::broker::{Health, Since};
use crate::tap::{Filter, Seen, Tap};

/// How often a silent stream says that it lives, so that proxies keep it.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TapQuery {
    filter: Option<String>,
    since: Option<String>,
}

/// Every event from now on, or from `since` (`first`, an offset), or after `Last-Event-ID`. `filter` is a list of
/// topic patterns over `kind.queue.action`, joined by commas.
///
/// A listener that is slow slows nobody: it reads a history that is kept for a while, and what it missed is one
/// event `gap` with `{"missed": n}`.
pub(super) async fn listen(
    State(app): State<App>,
    headers: HeaderMap,
    Asked(query): Asked<TapQuery>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let since = since(&headers, query.since.as_deref())?;
    let filter = Filter::new(
        query
            .filter
            .unwrap_or_default()
            .split(',')
            .map(str::to_owned),
    );
    let tap = open(&app, filter, since).await?;
    let events = futures_util::stream::unfold(tap, |mut tap| async move {
        let seen = tap.next().await?;
        Some((Ok(sse_event(seen)), tap))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// Where a request begins: after the last event that it saw, or where it says.
pub(super) fn since(headers: &HeaderMap, asked: Option<&str>) -> Result<Since, Problem> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    Ok(match (last, asked) {
        (Some(last), _) => Since::Offset(offset("Last-Event-ID", last)?.saturating_add(1)),
        (None, None | Some("next")) => Since::Next,
        (None, Some("first")) => Since::First,
        (None, Some(since)) => Since::Offset(offset("since", since)?),
    })
}

/// Opens a tap. One that is open outlives the broker's absence; one that cannot begin says so instead of nothing.
pub(super) async fn open(app: &App, filter: Filter, since: Since) -> Result<Tap, Problem> {
    if let Health::Down(reason) = app.broker.health().borrow().clone() {
        return Err(away(&format!("the broker does not answer: {reason}")));
    }
    Tap::open(&app.broker, filter, since)
        .await
        .map_err(|error| away(&error.to_string()))
}

fn away(detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .with_hint("try again when `/readyz` says that the broker is up")
}

pub(super) fn sse_event(seen: Seen) -> sse::Event {
    match seen {
        Seen::Event {
            event,
            offset,
            is_last,
            ..
        } => {
            let data = serde_json::to_string(&event.to_envelope()).unwrap_or_default();
            let told = sse::Event::default().event(event.kind.as_str()).data(data);
            // Who lost the connection within a message has heard of the one before: all of it comes again.
            if is_last {
                told.id(offset.to_string())
            } else {
                told
            }
        }
        Seen::Gap { missed } => sse::Event::default()
            .event("gap")
            .data(json!({ "missed": missed }).to_string()),
    }
}

fn offset(name: &str, text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| {
        Problem::bad_request(format!(
            "`{name}` is not an offset in the history: `{text}`"
        ))
    })
}
