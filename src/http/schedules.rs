//! Schedules. What makes one fire or not is a wish in JSON, like a task: no page of another site can send it unasked.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::request::{Asked, Named, page_limit};
use super::submit::{check_content_type, too_large};
use super::{App, Problem};
use crate::client::{CreateScheduleError, ScheduleClientError};
use crate::domain::limits::FIRINGS_KEPT;
use crate::domain::{ScheduleError, ScheduleName};
use crate::store::{ScheduleList, ScheduleRefusal};
use crate::wire::{
    FiringJson, NewScheduleJson, ScheduleDetailJson, ScheduleJson, SchedulePage,
    UnreadableScheduleJson, parse_object,
};

/// `POST /v1/schedules`: 201 with the schedule, or 200 when the same was there already.
pub(super) async fn create(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    check_content_type(&headers)?;
    let body = body.map_err(|rejection| too_large(&rejection, app.client.limits()))?;
    let spec = parse_object::<NewScheduleJson>(&body)?.into_domain()?;
    let (record, is_new) = app.client.create_schedule(spec).await?;
    let json = Json(ScheduleJson::from(&record));
    if !is_new {
        return Ok(json.into_response());
    }
    let address = format!("/v1/schedules/{}", record.spec.name);
    Ok((StatusCode::CREATED, [(header::LOCATION, address)], json).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListQuery {
    cursor: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/schedules`: by name, with a cursor to the next page.
pub(super) async fn list(
    State(app): State<App>,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<SchedulePage>, Problem> {
    let list = ScheduleList {
        after: query.cursor,
        limit: page_limit(query.limit.as_deref())?,
    };
    let listed = app.client.schedules(&list).await?;
    let unreadable = listed.unreadable.iter().map(|row| UnreadableScheduleJson {
        name: row.name.clone(),
        reason: row.to_string(),
    });
    Ok(Json(SchedulePage {
        schedules: listed.schedules.iter().map(ScheduleJson::from).collect(),
        unreadable: unreadable.collect(),
        next: listed.next(list.limit),
    }))
}

/// `GET /v1/schedules/{name}`: with its next firings and its last ones.
pub(super) async fn show(
    State(app): State<App>,
    Named(name): Named<ScheduleName>,
) -> Result<Json<ScheduleDetailJson>, Problem> {
    detail(&app, &name).await
}

/// `POST /v1/schedules/{name}/pause`.
pub(super) async fn pause(
    State(app): State<App>,
    Named(name): Named<ScheduleName>,
    headers: HeaderMap,
) -> Result<Json<ScheduleDetailJson>, Problem> {
    check_content_type(&headers)?;
    app.client.pause_schedule(&name).await?;
    detail(&app, &name).await
}

/// `POST /v1/schedules/{name}/resume`.
pub(super) async fn resume(
    State(app): State<App>,
    Named(name): Named<ScheduleName>,
    headers: HeaderMap,
) -> Result<Json<ScheduleDetailJson>, Problem> {
    check_content_type(&headers)?;
    app.client.resume_schedule(&name).await?;
    detail(&app, &name).await
}

/// What a trigger came to.
#[derive(Serialize)]
pub(super) struct TriggeredJson {
    #[serde(flatten)]
    firing: FiringJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
}

/// `POST /v1/schedules/{name}/trigger`: 202 when its task is submitted or waits, 409 when it is skipped.
pub(super) async fn trigger(
    State(app): State<App>,
    Named(name): Named<ScheduleName>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_content_type(&headers)?;
    let triggered = app.client.trigger_schedule(&name).await?;
    if let Some(detail) = triggered.skipped_because(&name) {
        return Err(Problem::new(StatusCode::CONFLICT, detail).with_hint(
            "wait for that task or cancel it; or make the schedule with another overlap policy",
        ));
    }
    let json = TriggeredJson {
        firing: FiringJson::from(&triggered.firing),
        previous: triggered.previous.map(|task| task.to_string()),
    };
    Ok((StatusCode::ACCEPTED, Json(json)).into_response())
}

/// `DELETE /v1/schedules/{name}`: 204.
pub(super) async fn delete(
    State(app): State<App>,
    Named(name): Named<ScheduleName>,
) -> Result<StatusCode, Problem> {
    app.client.delete_schedule(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn detail(app: &App, name: &ScheduleName) -> Result<Json<ScheduleDetailJson>, Problem> {
    let record = app.client.schedule(name).await?;
    let firings = app.client.firings(name, FIRINGS_KEPT).await?;
    Ok(Json(ScheduleDetailJson::new(&record, &firings)))
}

impl From<ScheduleClientError> for Problem {
    fn from(error: ScheduleClientError) -> Self {
        match error {
            ScheduleClientError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, error.to_string())
                .with_hint("`GET /v1/schedules` lists those that there are"),
            ScheduleClientError::Store(error) => error.into(),
        }
    }
}

impl From<CreateScheduleError> for Problem {
    fn from(error: CreateScheduleError) -> Self {
        let hint = error.hint();
        let problem = match error {
            CreateScheduleError::Task(error) => return error.into(),
            CreateScheduleError::Spec(ScheduleError::Task(error)) => {
                return crate::client::SubmitError::Submission(error).into();
            }
            CreateScheduleError::Spec(error) => Self::bad_request(error.to_string()),
            CreateScheduleError::Refused { ref refusal, .. } => {
                let status = match refusal {
                    ScheduleRefusal::Taken { .. } => StatusCode::CONFLICT,
                    ScheduleRefusal::UnknownQueue(_)
                    | ScheduleRefusal::Over(_)
                    | ScheduleRefusal::Many => StatusCode::UNPROCESSABLE_ENTITY,
                };
                Self::new(status, error.to_string())
            }
            CreateScheduleError::Store(error) => Self::from(error),
        };
        match hint {
            Some(hint) => problem.with_hint(hint),
            None => problem,
        }
    }
}
