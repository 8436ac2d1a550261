//! Queues: listed, paused, resumed.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::request::Named;
use super::verbs::{Act, NoBody};
use super::{App, Problem};
use crate::domain::QueueName;
use crate::wire::QueueJson;

/// `GET /v1/queues`.
pub(super) async fn list(State(app): State<App>) -> Result<Json<Vec<QueueJson>>, Problem> {
    let queues = app.store.queues().await?;
    Ok(Json(queues.iter().map(QueueJson::from).collect()))
}

/// `POST /v1/queues/{name}/pause`: 200 with the queue, also when it was paused already; 404 when there is none.
pub(super) async fn pause(
    State(app): State<App>,
    Named(queue): Named<QueueName>,
    Act { by, .. }: Act<NoBody>,
) -> Result<Json<QueueJson>, Problem> {
    let is_there = app.store.pause_queue(&queue, &by).await?;
    one(&app, &queue, is_there).await
}

/// `POST /v1/queues/{name}/resume`: 200 with the queue, also when it was not paused; 404 when there is none.
pub(super) async fn resume(
    State(app): State<App>,
    Named(queue): Named<QueueName>,
    Act { .. }: Act<NoBody>,
) -> Result<Json<QueueJson>, Problem> {
    let is_there = app.store.resume_queue(&queue).await?;
    one(&app, &queue, is_there).await
}

async fn one(app: &App, queue: &QueueName, is_there: bool) -> Result<Json<QueueJson>, Problem> {
    let queues = app.store.queues().await?;
    let found = queues.iter().find(|one| is_there && one.name == *queue);
    found.map(|queue| Json(queue.into())).ok_or_else(|| {
        let detail = format!("there is no queue `{queue}`");
        Problem::new(StatusCode::NOT_FOUND, detail)
            .with_hint("`GET /v1/queues` lists those that there are")
    })
}
