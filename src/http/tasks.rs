//! Reading tasks, and the verbs on one of them.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::request::{Asked, Named, page_limit};
use super::submit::wait_limit;
use super::{App, Problem, follow};
use crate::client::Waited;
use crate::store::{List, Listed};
use crate::wire::{ExecutorJson, LogChunkJson, TaskJson, TaskPage, UnreadableJson, WhyJson};

/// `GET /v1/tasks/{id}`.
pub(super) async fn show(
    State(app): State<App>,
    Named(id): Named,
) -> Result<Json<TaskJson>, Problem> {
    let task = app.client.task(id).await?;
    Ok(Json(TaskJson::from(&task)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListQuery {
    state: Option<String>,
    queue: Option<String>,
    action: Option<String>,
    label: Option<String>,
    parent: Option<String>,
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/tasks`: the newest first, with a cursor to the next page.
pub(super) async fn list(
    State(app): State<App>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<TaskPage>, Problem> {
    let list = asked(&query)?;
    let listed = app.client.list(&list).await?;
    let next = listed.next(list.limit).map(|cursor| cursor.to_string());
    Ok(Json(TaskPage {
        next,
        ..page(&listed)
    }))
}

/// Tasks, and beside them those whose rows cannot be read.
fn page(listed: &Listed) -> TaskPage {
    let unreadable = listed.unreadable.iter().map(|row| UnreadableJson {
        id: row.id.to_string(),
        reason: row.to_string(),
    });
    TaskPage {
        tasks: listed.tasks.iter().map(TaskJson::from).collect(),
        unreadable: unreadable.collect(),
        next: None,
    }
}

fn asked(query: &ListQuery) -> Result<List, Problem> {
    let states = query
        .state
        .as_deref()
        .unwrap_or_default()
        .split(',')
        .filter(|word| !word.is_empty());
    let states = states
        .map(|word| parameter("state", word))
        .collect::<Result<_, _>>()?;
    let labels = match query.label.as_deref().map(|label| label.split_once('=')) {
        None => Vec::new(),
        Some(Some((name, value))) => vec![(name.to_owned(), value.to_owned())],
        Some(None) => {
            return Err(Problem::bad_request(
                "`label` is not of the form `name=value`",
            ));
        }
    };
    Ok(List {
        states,
        queue: optional("queue", query.queue.as_deref())?,
        action: optional("action", query.action.as_deref())?,
        labels,
        parent: optional("parent", query.parent.as_deref())?,
        before: optional("cursor", query.cursor.as_deref())?,
        limit: page_limit(query.limit.as_deref())?,
        ..List::default()
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WaitQuery {
    timeout: Option<String>,
}

/// `GET /v1/tasks/{id}/wait?timeout=30`: 200 with the task when it ended, 202 when it goes on.
pub(super) async fn wait(
    State(app): State<App>,
    Named(id): Named,
    Asked(query): Asked<WaitQuery>,
) -> Result<Response, Problem> {
    let limit = wait_limit(query.timeout.as_deref().unwrap_or("30"))?;
    Ok(match app.client.wait(id, limit).await? {
        Waited::Ended(task) => Json(TaskJson::from(&task)).into_response(),
        Waited::StillOpen(task) => {
            (StatusCode::ACCEPTED, Json(TaskJson::from(&task))).into_response()
        }
    })
}

/// `GET /v1/tasks/{id}/tree`: the task and all below it, parents first.
pub(super) async fn tree(
    State(app): State<App>,
    Named(id): Named,
) -> Result<Json<TaskPage>, Problem> {
    Ok(Json(page(&app.client.tree(id).await?)))
}

/// `GET /v1/tasks/{id}/why`: one verdict and its evidence.
pub(super) async fn why(
    State(app): State<App>,
    Named(id): Named,
) -> Result<Json<WhyJson>, Problem> {
    let (task, why) = app.client.why(id).await?;
    Ok(Json(WhyJson::new(&task, why)))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogsQuery {
    after: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
pub(super) struct LogsPage {
    chunks: Vec<LogChunkJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /v1/tasks/{id}/logs?after=1:4096`: pieces of the log in order, with a cursor to what follows. To those who accept
/// server-sent events: the same as a stream that ends with the task.
pub(super) async fn logs(
    State(app): State<App>,
    Named(id): Named,
    headers: HeaderMap,
    Asked(query): Asked<LogsQuery>,
) -> Result<Response, Problem> {
    let after = optional("after", query.after.as_deref())?;
    let accepted = headers
        .get(header::ACCEPT)
        .and_then(|types| types.to_str().ok());
    if accepted.is_some_and(|types| types.contains("text/event-stream")) {
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let after = optional("Last-Event-ID", last)?.or(after);
        app.client.task(id).await?;
        return Ok(follow::logs(&app, id, after).into_response());
    }
    let limit = page_limit(query.limit.as_deref())?;
    let chunks = app.client.logs(id, after, limit).await?;
    let next = chunks.last().map(|last| last.end().to_string());
    Ok(Json(LogsPage {
        chunks: chunks.iter().map(LogChunkJson::from).collect(),
        next,
    })
    .into_response())
}

/// `GET /v1/executors`.
pub(super) async fn executors(State(app): State<App>) -> Result<Json<Vec<ExecutorJson>>, Problem> {
    Ok(Json(
        app.store
            .executors()
            .await?
            .iter()
            .map(ExecutorJson::from)
            .collect(),
    ))
}

fn parameter<T: FromStr>(name: &str, text: &str) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error| Problem::bad_request(format!("`{name}`: {error}")))
}

fn optional<T: FromStr>(name: &str, text: Option<&str>) -> Result<Option<T>, Problem>
where
    T::Err: std::fmt::Display,
{
    text.map(|text| parameter(name, text)).transpose()
}
