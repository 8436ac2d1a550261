//! Errors over HTTP.

use std::error::Error as _;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::client::{ClientError, SubmitError};
use crate::domain::{Difference, PayloadError, SubmissionError};
use crate::store::StoreError;
use crate::wire::WireError;

/// A problem: what is wrong, and what to do about it.
///
/// Shape: `{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "…", "hint": "…"}`.
///
/// When a task exists already that was asked for otherwise: `"task"`, its id, and `"differences"`, a list of
/// `{"field", "stored", "asked"}`.
///
/// Source: RFC 9457, section 3.1; the others are our extension members.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    type_uri: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    known: Option<Box<KnownJson>>,
}

/// The task that stands in the way.
#[derive(Debug, Clone, Serialize)]
struct KnownJson {
    task: String,
    differences: Vec<DifferenceJson>,
}

/// A field that a submission has otherwise than the task that is stored.
#[derive(Debug, Clone, Serialize)]
struct DifferenceJson {
    field: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
}

impl From<Difference> for DifferenceJson {
    fn from(difference: Difference) -> Self {
        Self {
            field: difference.field,
            stored: difference.stored,
            asked: difference.asked,
        }
    }
}

impl Problem {
    /// The problem of `status`, with a sentence about this case.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            type_uri: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            hint: None,
            known: None,
        }
    }

    /// The same problem with what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// A request that is not what it should be.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        (
            status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            body,
        )
            .into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).with_hint(
                "try again; a submission with an `id` or an idempotency key stays one task",
            );
        }
        tracing::error!(error = %error, "A request met a store that cannot be used");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, error.to_string())
                .with_hint("finished tasks are deleted when their retention is over"),
            ClientError::Payload(error) => error.into(),
            ClientError::Store(error) => error.into(),
        }
    }
}

impl From<PayloadError> for Problem {
    fn from(error: PayloadError) -> Self {
        let status = match error {
            PayloadError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            PayloadError::TooDeep { .. } | PayloadError::Nul { .. } | PayloadError::NotJson(_) => {
                StatusCode::BAD_REQUEST
            }
        };
        let cause = error.source().map(|cause| format!(": {cause}"));
        Self::new(status, format!("{error}{}", cause.unwrap_or_default()))
    }
}

impl From<WireError> for Problem {
    fn from(error: WireError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        let hint = error.hint();
        let problem = match error {
            SubmitError::Submission(SubmissionError::Input(
                cause @ PayloadError::TooLarge { .. },
            )) => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("`input` is refused: {cause}"),
            ),
            SubmitError::Submission(error) => Self::bad_request(error.to_string()),
            SubmitError::UnknownAction { .. } | SubmitError::Refused { .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            SubmitError::KeyTaken {
                task,
                ref differences,
                ..
            } => Self {
                known: Some(Box::new(KnownJson {
                    task: task.to_string(),
                    differences: differences.iter().cloned().map(Into::into).collect(),
                })),
                ..Self::new(StatusCode::CONFLICT, error.to_string())
            },
            SubmitError::Vanished(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            SubmitError::Store(error) => return error.into(),
        };
        match hint {
            Some(hint) => problem.with_hint(hint),
            None => problem,
        }
    }
}

/// The answer to a path that does not exist.
pub(super) async fn no_such_path(request: Request) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is no `{}`", request.uri().path()),
    )
    .with_hint("the interface begins at `/v1/tasks`; see `docs/http.md`")
}

/// The answer to a method that a path does not have.
pub(super) async fn no_such_method(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("`{path}` does not take `{method}`"),
    )
}
