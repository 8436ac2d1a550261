//! `POST /v1/tasks`.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{App, Problem};
use crate::client::Waited;
use crate::domain::limits::WAIT_MAX;
use crate::domain::{PayloadLimits, TaskFacts};
use crate::wire::{SubmissionJson, TaskJson, parse_object};

/// What is known of a task the moment it is accepted.
#[derive(Serialize)]
struct AcceptedJson {
    id: String,
    action: String,
    queue: String,
    state: String,
    attempt: u32,
}

/// Stores a task: 202 with its address, or with `Prefer: wait=N` 200 with the task when it ended in time.
pub(super) async fn submit(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let wait = preferred_wait(&headers)?;
    check_content_type(&headers)?;
    let key = given_key(&headers)?;
    let body = body.map_err(|rejection| too_large(&rejection, app.client.limits()))?;
    // The size is the client's to judge, so that the answer is 413 and not 400.
    let submission = with_key(parse_object(&body)?, key)?.into_domain(PayloadLimits::NONE)?;
    match wait {
        None => {
            let receipt = app.client.submit(submission).await?;
            if receipt.is_new {
                return Ok(accepted(&receipt.task, None));
            }
            let task = app.client.task(receipt.task.id).await?;
            Ok(Json(TaskJson::from(&task)).into_response())
        }
        Some(limit) => match app.client.submit_and_wait(submission, limit).await? {
            Waited::Ended(task) => Ok(Json(TaskJson::from(&task)).into_response()),
            Waited::StillOpen(task) => Ok(accepted(&task.facts(), Some(limit))),
        },
    }
}

fn accepted(facts: &TaskFacts, waited: Option<Duration>) -> Response {
    let body = AcceptedJson {
        id: facts.id.to_string(),
        action: facts.action.to_string(),
        queue: facts.queue.to_string(),
        state: facts.state.to_string(),
        attempt: facts.attempt.0,
    };
    let location = format!("/v1/tasks/{}", facts.id);
    let mut response = (
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(body),
    )
        .into_response();
    if let Some(limit) = waited
        && let Ok(applied) = format!("wait={}", limit.as_secs_f64()).parse()
    {
        response.headers_mut().insert("preference-applied", applied);
    }
    response
}

/// Only JSON: what a page of another site can send without asking (a form, plain text) must not start tasks.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .map(|given| given.to_str().unwrap_or("?"));
    let media_type = given
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if media_type == "application/json" || media_type.ends_with("+json") {
        return Ok(());
    }
    let given = given.map_or("of no type".to_owned(), |given| format!("`{given}`"));
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        format!("the body is {given}"),
    )
    .with_hint("send `Content-Type: application/json`"))
}

/// The header `Idempotency-Key`. The quotes that a draft asks for are no part of the key: nearly nobody sends them.
///
/// Source: draft-ietf-httpapi-idempotency-key-header-07, section 2.1.
pub(super) fn given_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all("idempotency-key").iter();
    let Some(key) = given.next() else {
        return Ok(None);
    };
    if given.next().is_some() {
        let detail = "the header `Idempotency-Key` is there more than once";
        return Err(Problem::bad_request(detail));
    }
    let key = key
        .to_str()
        .map_err(|_| Problem::bad_request("the header `Idempotency-Key` is not ASCII"))?;
    let bare = key
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    Ok(Some(bare.unwrap_or(key).to_owned()))
}

/// The submission with the key of the header, which may be in the body as well.
fn with_key(json: SubmissionJson, key: Option<String>) -> Result<SubmissionJson, Problem> {
    match (&json.idempotency_key, &key) {
        (Some(inner), Some(outer)) if inner != outer => {
            let detail = format!(
                "the header `Idempotency-Key` is `{outer}`, and `idempotency_key` is `{inner}`"
            );
            Err(Problem::bad_request(detail).with_hint("send one of the two"))
        }
        (inner, _) => Ok(SubmissionJson {
            idempotency_key: inner.clone().or(key),
            ..json
        }),
    }
}

pub(super) fn too_large(rejection: &BytesRejection, limits: PayloadLimits) -> Problem {
    let status = rejection.status();
    let detail = if status == StatusCode::PAYLOAD_TOO_LARGE {
        format!(
            "the body is longer than a payload of {} bytes can be",
            limits.bytes_max
        )
    } else {
        rejection.body_text()
    };
    Problem::new(status, detail).with_hint("store large data elsewhere and pass its address")
}

/// The `wait` of the header `Prefer`.
///
/// Source: RFC 7240, section 4.3: a number of seconds. Other preferences are for others.
pub(super) fn preferred_wait(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    for value in headers.get_all("prefer") {
        let text = value
            .to_str()
            .map_err(|_| Problem::bad_request("the header `Prefer` is not text"))?;
        for preference in text.split([',', ';']) {
            if let Some((name, seconds)) = preference.trim().split_once('=')
                && name.trim().eq_ignore_ascii_case("wait")
            {
                return wait_limit(seconds.trim().trim_matches('"')).map(Some);
            }
        }
    }
    Ok(None)
}

/// A number of seconds to wait, at most [`WAIT_MAX`].
pub(super) fn wait_limit(seconds: &str) -> Result<Duration, Problem> {
    let limit = seconds
        .parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let Some(limit) = limit else {
        let detail = format!("`{seconds}` is not a number of seconds to wait");
        return Err(Problem::bad_request(detail).with_hint("for example `Prefer: wait=30`"));
    };
    Ok(limit.min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_with_quotes_and_without() {
        let key = |value: &'static str| {
            let headers = [("idempotency-key".parse().unwrap(), value.parse().unwrap())];
            given_key(&HeaderMap::from_iter(headers)).unwrap().unwrap()
        };
        assert_eq!(key("order-7"), "order-7");
        assert_eq!(key("\"order-7\""), "order-7");
        assert_eq!(key("\"order-7"), "\"order-7");
    }

    #[test]
    fn the_wait_is_found_among_other_preferences() {
        let wait = |value: &'static str| {
            preferred_wait(&HeaderMap::from_iter([(
                "prefer".parse().unwrap(),
                value.parse().unwrap(),
            )]))
        };
        assert_eq!(
            wait("respond-async, wait=10").unwrap(),
            Some(Duration::from_secs(10))
        );
        assert_eq!(
            wait("Wait=\"2\"; foo").unwrap(),
            Some(Duration::from_secs(2))
        );
        assert_eq!(wait("return=minimal").unwrap(), None);
        assert_eq!(wait("wait=99999999").unwrap(), Some(WAIT_MAX));
        for wrong in ["wait=soon", "wait=-1", "wait=NaN"] {
            assert!(wait(wrong).is_err(), "{wrong}");
        }
    }
}
