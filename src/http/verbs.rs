//! What operators do to a task, and the history that tells of it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::request::Named;
use super::submit::too_large;
use super::{App, Problem};
use crate::client::ClientError;
use crate::domain::{Operator, Payload, TaskId, TaskState, Verb, VerbError, note};
use crate::store::{Cancelled, Operated};
use crate::wire::{HistoryJson, HistoryPage, TaskJson, parse_object};

/// The header that says who acts.
const OPERATOR: &str = "longshore-operator";

/// Who acts when nobody says so.
const SOMEBODY: &str = "http";

/// A body without fields.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NoBody {}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SkipBody {
    output: Option<Payload>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReasonBody {
    reason: Option<String>,
}

/// What an operator asks for: who it is, and what the body says, which may be left out.
pub(super) struct Act<T> {
    pub(super) by: Operator,
    body: T,
}

impl<T: Default + DeserializeOwned> FromRequest<App> for Act<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let by = operator(request.headers())?;
        let body = Bytes::from_request(request, app).await;
        let body = body.map_err(|rejection| too_large(&rejection, app.client.limits()))?;
        let body = if body.is_empty() {
            T::default()
        } else {
            parse_object(&body)?
        };
        Ok(Self { by, body })
    }
}

/// `POST /v1/tasks/{id}/resume`: 200 with the task, 409 when it is not paused.
pub(super) async fn resume(
    State(app): State<App>,
    Named(id): Named,
    Act { by, .. }: Act<NoBody>,
) -> Result<Response, Problem> {
    answer(&app, id, app.client.resume(id, &by).await?).await
}

/// `POST /v1/tasks/{id}/skip`: 200 with the task, 409 when it is not paused, or no step failed.
pub(super) async fn skip(
    State(app): State<App>,
    Named(id): Named,
    Act { by, body }: Act<SkipBody>,
) -> Result<Response, Problem> {
    let output = body.output.unwrap_or_else(Payload::null);
    answer(&app, id, app.client.skip(id, output, &by).await?).await
}

/// `POST /v1/tasks/{id}/retry`: 200 with the task when it was paused, 201 with a copy when it had failed or was
/// cancelled, 409 otherwise.
pub(super) async fn retry(
    State(app): State<App>,
    Named(id): Named,
    Act { by, .. }: Act<NoBody>,
) -> Result<Response, Problem> {
    answer(&app, id, app.client.retry(id, &by).await?).await
}

/// `POST /v1/tasks/{id}/abandon`: 200 with the task, which has failed; 409 when it is not paused.
pub(super) async fn abandon(
    State(app): State<App>,
    Named(id): Named,
    Act { by, body }: Act<ReasonBody>,
) -> Result<Response, Problem> {
    let reason = body.reason.as_deref().unwrap_or(Verb::ABANDONED);
    answer(&app, id, app.client.abandon(id, reason, &by).await?).await
}

/// `POST /v1/tasks/{id}/cancel`: 200 when the task is cancelled, 202 when it runs and was asked to stop, 409 when
/// it had ended otherwise.
pub(super) async fn cancel(
    State(app): State<App>,
    Named(id): Named,
    Act { by, body }: Act<ReasonBody>,
) -> Result<Response, Problem> {
    let reason = note(body.reason.as_deref().unwrap_or("cancelled over HTTP"));
    let status = match app.client.cancel_by(id, &reason, &by).await? {
        Cancelled::Unknown => return Err(ClientError::Unknown(id).into()),
        Cancelled::Final(TaskState::Cancelled) => StatusCode::OK,
        Cancelled::Final(state) => {
            let detail = format!("the task `{id}` is final already: {state}");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Cancelled::Accepted { running, .. } if running.iter().any(|(task, _)| *task == id) => {
            StatusCode::ACCEPTED
        }
        Cancelled::Accepted { .. } => StatusCode::OK,
    };
    let task = app.client.task(id).await?;
    Ok((status, Json(TaskJson::from(&task))).into_response())
}

/// `GET /v1/tasks/{id}/history`: what operators have done, and what the broker gave up on, the oldest first.
pub(super) async fn history(
    State(app): State<App>,
    Named(id): Named,
) -> Result<Json<HistoryPage>, Problem> {
    let entries = app.client.history(id).await?;
    Ok(Json(HistoryPage {
        entries: entries.iter().map(HistoryJson::from).collect(),
    }))
}

async fn answer(app: &App, id: TaskId, operated: Operated) -> Result<Response, Problem> {
    match operated {
        Operated::Unknown => Err(ClientError::Unknown(id).into()),
        Operated::Refused(refusal) => Err(refused(&refusal)),
        Operated::Moved { .. } => {
            let task = app.client.task(id).await?;
            Ok(Json(TaskJson::from(&task)).into_response())
        }
        Operated::Copied(copy) => {
            let task = app.client.task(copy.id).await?;
            let location = [(header::LOCATION, format!("/v1/tasks/{}", copy.id))];
            let body = Json(TaskJson::from(&task));
            Ok((StatusCode::CREATED, location, body).into_response())
        }
    }
}

fn refused(refusal: &VerbError) -> Problem {
    let problem = Problem::new(StatusCode::CONFLICT, refusal.to_string());
    match refusal.hint() {
        Some(hint) => problem.with_hint(hint),
        None => problem,
    }
}

/// Who acts, as the header says.
fn operator(headers: &HeaderMap) -> Result<Operator, Problem> {
    let named = headers.get(OPERATOR).map(|value| value.to_str());
    let name = named.unwrap_or(Ok(SOMEBODY)).unwrap_or_default();
    Operator::new(name)
        .map_err(|error| Problem::bad_request(format!("`Longshore-Operator`: {error}")))
}
