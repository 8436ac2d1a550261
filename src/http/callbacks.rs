//! `POST /v1/callbacks/{task}/{token}`: the answer that the action `http` waits for.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::submit::{check_content_type, too_large};
use super::{App, Problem};
use crate::action::Action;
use crate::action::builtin::http::{CallbackToken, Http};
use crate::domain::{IdempotencyKey, NewSignal, Payload, PayloadError, PayloadLimits, TaskId};
use crate::store::Signalled;

/// One token is one answer.
const KEY: &str = "callback";

/// What became of an answer.
#[derive(Serialize)]
struct CalledJson {
    task: String,
    /// `stored`: the task goes on with it. `known`: there was an answer before, and this one says nothing.
    status: &'static str,
}

/// Takes an answer: 202 once it is stored, 200 when there was one before. The token is all the right that is needed, so
/// whoever has not got it learns nothing: neither whether there is such a task, nor what it waits for.
pub(super) async fn answer(
    State(app): State<App>,
    Path((id, token)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let task: TaskId = id.parse().map_err(|_| nobody())?;
    let token = CallbackToken::given(&token);
    let found = app.store.task(task).await?.ok_or_else(nobody)?;
    if found.action.as_str() != Http::NAME {
        return Err(nobody());
    }
    let steps = app.store.steps(task).await?;
    if !token.is_asked_for(&steps) {
        return Err(nobody());
    }
    let body = body.map_err(|rejection| too_large(&rejection, app.client.limits()))?;
    let signal = NewSignal {
        task,
        name: token
            .signal()
            .map_err(|error| Problem::bad_request(error.to_string()))?,
        key: Some(
            KEY.parse::<IdempotencyKey>()
                .map_err(|error| Problem::bad_request(error.to_string()))?,
        ),
        payload: payload(&headers, &body)?,
    };
    let (status, word) = match app.client.signal(signal).await? {
        Signalled::Stored { .. } => (StatusCode::ACCEPTED, "stored"),
        Signalled::Known => (StatusCode::OK, "known"),
        Signalled::Final(_) if token.is_taken(&steps) => (StatusCode::OK, "known"),
        Signalled::Final(state) => {
            let detail = format!("nobody waits for an answer any more: the task is {state}");
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        Signalled::Unknown => return Err(nobody()),
        Signalled::Full => {
            let detail = "too many signals wait for the task already";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
    };
    let body = CalledJson {
        task: task.to_string(),
        status: word,
    };
    Ok((status, Json(body)).into_response())
}

fn nobody() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "nobody waits for an answer at this address",
    )
}

/// JSON as such; a body that does not say that it is JSON, and is none, as text. The size is the client's to judge.
fn payload(headers: &HeaderMap, body: &Bytes) -> Result<Payload, Problem> {
    if body.is_empty() {
        return Ok(Payload::null());
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::bad_request("the body is neither JSON nor a text in UTF-8"))?;
    let read = match Payload::parse(text, PayloadLimits::NONE) {
        Err(PayloadError::NotJson(_)) if check_content_type(headers).is_err() => Payload::of(text),
        read => read,
    };
    Ok(read?)
}
