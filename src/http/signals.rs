//! `POST /v1/tasks/{id}/signals/{name}`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::submit::{check_content_type, given_key, too_large};
use super::{App, Problem};
use crate::domain::limits::SIGNALS_MAX;
use crate::domain::{IdempotencyKey, NewSignal, Payload, PayloadLimits, SignalName, TaskId};
use crate::store::Signalled;

/// What became of a signal.
#[derive(Serialize)]
struct SignalledJson {
    task: String,
    signal: String,
    /// `woken`: the task waited for it. `stored`: it is kept until the task takes it. `known`: it was stored before.
    status: &'static str,
}

/// Sends a signal: 202 once it is stored. The body is its payload, `null` when empty; `Idempotency-Key` makes it one
/// signal however often it is sent.
pub(super) async fn signal(
    State(app): State<App>,
    Path((id, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let wrong = |error: &dyn std::fmt::Display| Problem::bad_request(error.to_string());
    let task: TaskId = id.parse().map_err(|error| wrong(&error))?;
    let name = SignalName::new(&name).map_err(|error| wrong(&error))?;
    let body = body.map_err(|rejection| too_large(&rejection, app.client.limits()))?;
    if !body.is_empty() {
        check_content_type(&headers)?;
    }
    let key = given_key(&headers)?;
    let key = key
        .map(|key| key.parse::<IdempotencyKey>())
        .transpose()
        .map_err(|error| wrong(&error))?;
    let signal = NewSignal {
        task,
        name,
        key,
        payload: payload(&body)?,
    };
    let answer = app.client.signal(signal.clone()).await?;
    answered(&signal, &answer)
}

/// The size is the client's to judge.
fn payload(body: &Bytes) -> Result<Payload, Problem> {
    if body.is_empty() {
        return Ok(Payload::null());
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::bad_request("the body is not UTF-8, so it is not JSON"))?;
    Payload::parse(text, PayloadLimits::NONE).map_err(|error| {
        Problem::from(error).with_hint("the body is the payload, as JSON; a text is in quotes")
    })
}

fn answered(signal: &NewSignal, answer: &Signalled) -> Result<Response, Problem> {
    let task = signal.task;
    let status = match answer {
        Signalled::Stored { woken: Some(_), .. } => "woken",
        Signalled::Stored { woken: None, .. } => "stored",
        Signalled::Known => "known",
        Signalled::Unknown => return Err(crate::client::ClientError::Unknown(task).into()),
        Signalled::Final(state) => {
            let detail = format!("the task `{task}` is final already: {state}");
            return Err(Problem::new(StatusCode::CONFLICT, detail)
                .with_hint("nobody will take a signal to it"));
        }
        Signalled::Full => {
            let detail = format!("{SIGNALS_MAX} signals wait for the task `{task}` already");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
                .with_hint("send further ones once it has taken some"));
        }
    };
    let body = SignalledJson {
        task: task.to_string(),
        signal: signal.name.to_string(),
        status,
    };
    Ok((StatusCode::ACCEPTED, Json(body)).into_response())
}
