//! One task as it goes on, as server-sent events: its log, and what happens to it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use futures_util::Stream;
use serde_json::json;

use super::request::Named;
use super::taps::{KEEP_ALIVE, open, since, sse_event};
use super::{App, Problem};
use crate::broker::Since;
use crate::client::{Client, ClientError, Followed, LogFollower, Waited};
use crate::clock::Clock;
use crate::domain::limits::WAIT_MAX;
use crate::domain::{LogChunk, LogPosition, Task, TaskId, TaskState};
use crate::tap::{Filter, Seen, Tap};
use crate::wire::LogChunkJson;

/// How long it takes to look again at what did not answer, or needs a human.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long the event of a task's end may take once its row has it. It may be lost, and then the stream ends without it.
const LAST_EVENT_MAX: Duration = Duration::from_secs(2);

type Events<S> = Sse<sse::KeepAliveStream<S>>;

/// The log of a task after a position, until the task is final: an event `log` for each chunk, whose id is the position
/// behind it, and one event `end` with the task's state.
pub(super) fn logs(
    app: &App,
    task: TaskId,
    after: Option<LogPosition>,
) -> Events<impl Stream<Item = Result<sse::Event, Infallible>> + use<>> {
    let clock = Arc::clone(app.client.clock());
    let follower = LogFollower::new(Arc::clone(&app.store), Arc::clone(&clock), task, after);
    let batches = futures_util::stream::unfold(Some(follower), move |follower| {
        let clock = Arc::clone(&clock);
        async move {
            let mut follower = follower?;
            loop {
                match follower.next().await {
                    Ok(Followed::Chunks(chunks)) => {
                        let events: Vec<_> = chunks.iter().map(log_event).collect();
                        return Some((events, Some(follower)));
                    }
                    Ok(Followed::Ended(task)) => return Some((vec![end(task.state)], None)),
                    Err(ClientError::Store(error)) if error.is_transient() => {
                        clock.sleep(LOOK_INTERVAL).await;
                    }
                    Err(error) => return Some((vec![broken(&error)], None)),
                }
            }
        }
    });
    let events = futures_util::StreamExt::flat_map(batches, |events| {
        futures_util::stream::iter(events.into_iter().map(Ok))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn log_event(chunk: &LogChunk) -> sse::Event {
    let data = serde_json::to_string(&LogChunkJson::from(chunk)).unwrap_or_default();
    sse::Event::default()
        .id(chunk.end().to_string())
        .event("log")
        .data(data)
}

fn end(state: TaskState) -> sse::Event {
    sse::Event::default()
        .event("end")
        .data(json!({ "state": state.as_str() }).to_string())
}

fn broken(error: &ClientError) -> sse::Event {
    sse::Event::default()
        .event("error")
        .data(json!({ "detail": error.to_string() }).to_string())
}

/// `GET /v1/tasks/{id}/events`: what happens to a task from now on, or after `Last-Event-ID`, until it is final; then one
/// event `end` with its state.
pub(super) async fn events(
    State(app): State<App>,
    Named(id): Named,
    headers: HeaderMap,
) -> Result<Events<impl Stream<Item = Result<sse::Event, Infallible>>>, Problem> {
    let since = since(&headers, None)?;
    app.client.task(id).await?;
    let tap = open(&app, Filter::default(), since).await?;
    // Looked at when the tap is open: what happens after this look is seen by it.
    let task = app.client.task(id).await?;
    let stage = match (task.state.is_final(), since) {
        (true, Since::Next | Since::First) => Stage::Over(task.state),
        (true, Since::Offset(_)) | (false, _) => Stage::Open,
    };
    let told = Told {
        clock: Arc::clone(app.client.clock()),
        ended: Box::pin(ended(app.client.clone(), id)),
        id,
        tap,
        stage,
    };
    let events = futures_util::stream::unfold(told, |mut told| async move {
        let event = told.next().await?;
        Some((Ok(event), told))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What happens to one task.
struct Told {
    clock: Arc<dyn Clock>,
    tap: Tap,
    id: TaskId,
    /// Resolves when the row of the task is final, or gone.
    ended: Pin<Box<dyn Future<Output = Result<Task, ClientError>> + Send>>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// The task goes on.
    Open,
    /// It is final, and its last event is awaited until this time.
    Final(TaskState, Duration),
    /// Its last event was seen, or does not come.
    Over(TaskState),
    /// All is said.
    Done,
}

impl Told {
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            let seen = match self.stage {
                Stage::Done => return None,
                Stage::Over(state) => {
                    self.stage = Stage::Done;
                    return Some(end(state));
                }
                Stage::Final(state, until) => {
                    let left = until.saturating_sub(self.clock.monotonic());
                    tokio::select! {
                        biased;
                        seen = self.tap.next() => seen,
                        () = self.clock.sleep(left) => {
                            self.stage = Stage::Over(state);
                            continue;
                        }
                    }
                }
                Stage::Open => tokio::select! {
                    biased;
                    seen = self.tap.next() => seen,
                    ended = &mut self.ended => match ended {
                        Ok(task) => {
                            let until = self.clock.monotonic() + LAST_EVENT_MAX;
                            self.stage = Stage::Final(task.state, until);
                            continue;
                        }
                        Err(error) => {
                            self.stage = Stage::Done;
                            return Some(broken(&error));
                        }
                    },
                },
            };
            let seen = seen?;
            if let Some(event) = self.tell(seen) {
                return Some(event);
            }
        }
    }

    /// What was seen, if it is about this task.
    fn tell(&mut self, seen: Seen) -> Option<sse::Event> {
        if let Seen::Event { event, .. } = &seen {
            if event.task != self.id {
                return None;
            }
            let state = event.data.state.as_deref();
            let state: Option<TaskState> = state.and_then(|state| state.parse().ok());
            if let Some(state) = state.filter(|state| state.is_final()) {
                self.stage = Stage::Over(state);
            }
        }
        Some(sse_event(seen))
    }
}

/// Waits until the row of a task is final.
async fn ended(client: Client, task: TaskId) -> Result<Task, ClientError> {
    loop {
        match client.wait(task, WAIT_MAX).await {
            Ok(Waited::Ended(task)) if task.state.is_final() => return Ok(task),
            Ok(Waited::StillOpen(_)) => {}
            // Paused: a human has to act, and that takes a while. Or the store does not answer.
            Ok(Waited::Ended(_)) => client.clock().sleep(LOOK_INTERVAL).await,
            Err(ClientError::Store(error)) if error.is_transient() => {
                client.clock().sleep(LOOK_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
    }
}
