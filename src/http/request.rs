//! What a request says in its path and its query. What cannot be read is a [`Problem`], as every other error is.

use std::error::Error;
use std::str::FromStr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Problem;
use crate::domain::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::domain::{QueueName, ScheduleName, TaskId};
use crate::wire::nearest;

/// What a path can name.
pub(super) trait InPath: FromStr<Err: ToString> {
    /// What a text is not that is none.
    const WHAT: &'static str;
}

impl InPath for TaskId {
    const WHAT: &'static str = "a task id (a UUID)";
}

impl InPath for ScheduleName {
    const WHAT: &'static str = "a name of a schedule";
}

impl InPath for QueueName {
    const WHAT: &'static str = "a name of a queue";
}

/// What the path names: a task unless it is said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<T = TaskId>(pub(super) T);

impl<S: Send + Sync, T: InPath> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) =
            path.map_err(|_| Problem::bad_request(format!("not {}: it is not UTF-8", T::WHAT)))?;
        text.parse()
            .map(Self)
            .map_err(|error| Problem::bad_request(error.to_string()))
    }
}

/// The parameters of the query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|rejection| refused(&rejection))
    }
}

/// How many things a page may hold: the parameter `limit`.
pub(super) fn page_limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else {
        return Ok(PAGE_DEFAULT);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=PAGE_MAX).contains(limit))
        .ok_or_else(|| {
            Problem::bad_request(format!(
                "`limit` must be from 1 to {PAGE_MAX}, not `{text}`"
            ))
        })
}

/// Serde says "`NAME`: unknown field `NAME`, expected one of `A`, `B`"; people are told the nearest.
fn refused(rejection: &QueryRejection) -> Problem {
    let reason = rejection
        .source()
        .map_or_else(|| rejection.body_text(), ToString::to_string);
    let mut words = reason.split('`').skip(1).step_by(2);
    if reason.contains("unknown field")
        && let Some(found) = words.next()
    {
        let known: Vec<&str> = words.collect();
        let hint = nearest(found, known.iter().copied()).map_or_else(
            || format!("there are `{}`", known.join("`, `")),
            |near| format!("did you mean `{near}`?"),
        );
        return Problem::bad_request(format!("there is no parameter `{found}`")).with_hint(hint);
    }
    Problem::bad_request(format!("the query cannot be read: {reason}"))
}
