//! Submissions as they are typed: for a task, and for the tasks of a schedule.

use std::io::Read;
use std::time::Duration;

use jiff::Timestamp;

use super::args::SubmissionFlags;
use super::complaint::Complaint;
use crate::domain::{Labels, Payload, PayloadLimits};
use crate::wire::{RetryJson, SubmissionJson};

/// What `flags` say of a request to run `action`.
pub(super) fn submission_json(
    action: String,
    input: Option<&str>,
    flags: SubmissionFlags,
    limits: PayloadLimits,
) -> Result<SubmissionJson, Complaint> {
    let mut labels = Labels::new();
    for label in &flags.labels {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| Complaint::usage(format!("`--label` is NAME=VALUE, not `{label}`")))?;
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(SubmissionJson {
        action,
        input: input.map(|input| payload(input, limits)).transpose()?,
        queue: flags.queue,
        priority: flags.priority,
        labels,
        timeout: flags.timeout.map(seconds).transpose()?,
        retry: flags.retry.map(|attempts| RetryJson {
            attempts,
            delay: None,
            delay_max: None,
        }),
        on_failure: flags.on_failure,
        delivery: flags.delivery,
        ..SubmissionJson::default()
    })
}

/// The time that `flag` was given.
pub(super) fn time(flag: &str, text: Option<&str>) -> Result<Option<Timestamp>, Complaint> {
    let parse = |text: &str| {
        text.parse().map_err(|_| {
            Complaint::usage(format!(
                "`{flag}` is a time such as `2026-12-24T18:00:00Z`, not `{text}`"
            ))
        })
    };
    text.map(parse).transpose()
}

/// A number of seconds.
pub(super) fn seconds(seconds: f64) -> Result<Duration, Complaint> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Complaint::usage(format!("`{seconds}` is not a number of seconds from 0 up")))
}

/// The payload that is typed: JSON as text, `@FILE`, or `-` for stdin.
pub(super) fn payload(input: &str, limits: PayloadLimits) -> Result<Payload, Complaint> {
    let text = match input.strip_prefix('@') {
        _ if input == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Complaint::usage(format!("the input cannot be read from `{path}`: {error}"))
        })?,
        None => input.to_owned(),
    };
    Payload::parse(&text, limits).map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map(|cause| format!(" ({cause})"))
            .unwrap_or_default();
        Complaint::usage(format!("{error}{cause}"))
            .with_hint("a text is JSON in quotes: '\"hello\"'")
    })
}
