//! A submission in JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::known_version;
use super::{WireError, parse, parse_object};
use crate::domain::{
    ActionName, Labels, OnFailure, Options, Payload, PayloadLimits, QueueName, RetryPolicy,
    Submission,
};

/// A submission in JSON: `action` and `input`, and any of the others. An unknown field is an error.
///
/// Unit: durations in seconds; times RFC 3339.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmissionJson {
    /// The name of the action.
    pub action: String,
    /// What it is given; `null` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Payload>,
    /// The task's id, a UUID; chosen by the receiver when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The queue; `default` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// From -100 to 100; 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Words to find the task by.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Not after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The time limit of one attempt, in seconds.
    #[serde(
        default,
        with = "super::seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// When a failed attempt is followed by another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryJson>,
    /// `fail` or `pause`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// `rerun` or `once`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// The task it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Whether it goes on when its parent has ended or is cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outlives_parent: bool,
    /// Reserved for reservations; refused by this version.
    #[serde(default, skip_serializing)]
    pub resources: Option<serde_json::Value>,
    /// Reserved for prerequisites; refused by this version.
    #[serde(default, skip_serializing)]
    pub after: Option<serde_json::Value>,
    /// The submitter's own word for this wish: sent twice it is one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// A retry policy in JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryJson {
    /// Attempts in all, from 1 to 1000.
    pub attempts: u32,
    /// The bound of the first pause, in seconds; 1 when absent. It doubles each time.
    #[serde(
        default,
        with = "super::seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub delay: Option<Duration>,
    /// The bound of every pause, in seconds; 600 when absent.
    #[serde(
        default,
        with = "super::seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub delay_max: Option<Duration>,
}

/// Reads a submission and holds it against all bounds.
///
/// # Errors
///
/// [`WireError`], with the field and what would be right.
pub fn parse_submission(json: &[u8], limits: PayloadLimits) -> Result<Submission, WireError> {
    parse_object::<SubmissionJson>(json)?.into_domain(limits)
}

/// The CloudEvents type of a submission.
pub const SUBMISSION_TYPE: &str = "longshore.task.submitted";

/// Reads the submission that a message brought: plain, or as the data of a CloudEvent of the type
/// [`SUBMISSION_TYPE`] whose subject is the task's id.
///
/// # Errors
///
/// As [`parse_submission`]; [`WireError::UnknownType`] for another event.
pub fn parse_submission_message(
    json: &[u8],
    limits: PayloadLimits,
) -> Result<Submission, WireError> {
    #[derive(Deserialize)]
    struct Probe {
        specversion: Option<serde::de::IgnoredAny>,
    }
    let is_event =
        serde_json::from_slice::<Probe>(json).is_ok_and(|probe| probe.specversion.is_some());
    if !is_event {
        return parse_submission(json, limits);
    }
    let event: SubmissionEvent = parse(json)?;
    known_version(&event.specversion)?;
    if event.type_name != SUBMISSION_TYPE {
        return Err(WireError::UnknownType(
            event.type_name.chars().take(80).collect(),
        ));
    }
    let subject = field("subject", event.subject.as_deref())?;
    let submission = event.data.into_domain(limits)?;
    let id = submission.id.or(subject);
    Ok(Submission { id, ..submission })
}

/// What matters of a CloudEvent around a submission; its other attributes are for others.
#[derive(Deserialize)]
struct SubmissionEvent {
    specversion: String,
    #[serde(rename = "type")]
    type_name: String,
    subject: Option<String>,
    data: SubmissionJson,
}

impl SubmissionJson {
    /// The submission that it says.
    ///
    /// # Errors
    ///
    /// [`WireError::Refused`], with the field and what would be right.
    pub fn into_domain(self, limits: PayloadLimits) -> Result<Submission, WireError> {
        let reserved = [("resources", &self.resources), ("after", &self.after)];
        if let Some((field, _)) = reserved.iter().find(|(_, value)| value.is_some()) {
            let refused =
                format!("`{field}` is not supported by this version of longshore; leave it out");
            return Err(WireError::Refused(refused));
        }
        let submission = Submission {
            outlives_parent: self.outlives_parent,
            id: field("id", self.id.as_deref())?,
            idempotency_key: field("idempotency_key", self.idempotency_key.as_deref())?,
            action: ActionName::new(&self.action).map_err(|error| refused("action", &error))?,
            input: self.input.unwrap_or_else(Payload::null),
            queue: field("queue", self.queue.as_deref())?.unwrap_or_else(QueueName::default_queue),
            priority: self.priority.unwrap_or(0),
            labels: self.labels,
            run_at: self.run_at,
            deadline: self.deadline,
            parent: field("parent", self.parent.as_deref())?,
            options: Options {
                retry: self
                    .retry
                    .map_or(Ok(RetryPolicy::default()), RetryJson::into_domain)?,
                timeout: self.timeout,
                on_failure: field::<OnFailure>("on_failure", self.on_failure.as_deref())?
                    .unwrap_or_default(),
                delivery: field("delivery", self.delivery.as_deref())?.unwrap_or_default(),
            },
        };
        submission.checked(limits).map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            WireError::Refused(format!("{error}{cause}"))
        })
    }
}

impl RetryJson {
    fn into_domain(self) -> Result<RetryPolicy, WireError> {
        let default = RetryPolicy::default();
        let delay = self.delay.unwrap_or(default.delay());
        let delay_max = self.delay_max.unwrap_or(default.delay_max());
        RetryPolicy::new(self.attempts, delay, delay_max)
            .map_err(|error| WireError::Refused(error.to_string()))
    }
}

impl From<&Submission> for SubmissionJson {
    fn from(submission: &Submission) -> Self {
        let retry = submission.options.retry;
        Self {
            action: submission.action.to_string(),
            input: Some(submission.input.clone()),
            id: submission.id.map(|id| id.to_string()),
            queue: Some(submission.queue.to_string()),
            priority: Some(submission.priority),
            labels: submission.labels.clone(),
            run_at: submission.run_at,
            deadline: submission.deadline,
            timeout: submission.options.timeout,
            retry: Some(RetryJson {
                attempts: retry.attempts_max(),
                delay: Some(retry.delay()),
                delay_max: Some(retry.delay_max()),
            }),
            on_failure: Some(submission.options.on_failure.to_string()),
            delivery: Some(submission.options.delivery.to_string()),
            parent: submission.parent.map(|parent| parent.to_string()),
            outlives_parent: submission.outlives_parent,
            resources: None,
            after: None,
            idempotency_key: submission.idempotency_key.as_ref().map(ToString::to_string),
        }
    }
}

pub(super) fn field<T: std::str::FromStr>(
    name: &str,
    text: Option<&str>,
) -> Result<Option<T>, WireError>
where
    T::Err: std::fmt::Display,
{
    text.map(|text| text.parse().map_err(|error| refused(name, &error)))
        .transpose()
}

fn refused(field: &str, error: &dyn std::fmt::Display) -> WireError {
    WireError::Refused(format!("`{field}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Submission, WireError> {
        parse_submission(json.as_bytes(), PayloadLimits::default())
    }

    #[test]
    fn a_submission_survives_the_wire() {
        let text = r#"{"action":"echo","input":{"a":[1,2.50]},"queue":"bulk","priority":5,
            "labels":{"team":"a"},"run_at":"2026-01-01T00:00:00Z","timeout":1.5,
            "retry":{"attempts":3,"delay":0.5},"on_failure":"pause","delivery":"once",
            "idempotency_key":"order-7"}"#;
        let submission = read(text).unwrap();
        assert_eq!(submission.input.as_str(), r#"{"a":[1,2.50]}"#);
        let json = serde_json::to_string(&SubmissionJson::from(&submission)).unwrap();
        assert_eq!(read(&json).unwrap(), submission);
    }

    #[test]
    fn a_submission_by_message_is_plain_or_a_cloud_event() {
        let read = |json: &str| parse_submission_message(json.as_bytes(), PayloadLimits::default());
        let id = "00000000-03e8-7000-8000-000000000001";
        let plain = read(&format!(r#"{{"action":"echo","id":"{id}"}}"#)).unwrap();
        let event = read(&format!(
            r#"{{"specversion":"1.0","type":"longshore.task.submitted","subject":"{id}","source":"/me","id":"1",
                "data":{{"action":"echo"}}}}"#
        ));
        assert_eq!(event.unwrap(), plain);
        let newer = read(
            r#"{"specversion":"2.0","type":"longshore.task.submitted","data":{"action":"echo"}}"#,
        );
        assert_eq!(
            newer.unwrap_err().to_string(),
            "`specversion` is `2.0`, this version reads `1.0`"
        );
        let other = read(r#"{"specversion":"1.0","type":"x","data":{"action":"echo"}}"#);
        assert_eq!(
            other.unwrap_err().to_string(),
            "the event type `x` is not known to this version"
        );
    }

    #[test]
    fn every_field_says_what_would_be_right() {
        let check = |json: &str, expected: &str| {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        };
        check(
            r#"{"action": "a b"}"#,
            "`action`: not a name of an action (letters",
        );
        check(
            r#"{"action": "echo", "queue": "A"}"#,
            "`queue`: not a name of a queue",
        );
        check(
            r#"{"action": "echo", "id": "7"}"#,
            "`id`: not a task id (a UUID): `7`",
        );
        check(
            r#"{"action": "echo", "timeout": -1}"#,
            "not a number of seconds",
        );
        check(
            r#"{"action": "echo", "retry": {"attempts": 0}}"#,
            "from 1 to 1000",
        );
        check(
            r#"{"action": "echo", "on_failure": "x"}"#,
            "(`fail` or `pause`): `x`",
        );
        check(
            r#"{"action": "echo", "delivery": "x"}"#,
            "(`rerun` or `once`): `x`",
        );
        check(
            r#"{"action": "echo", "idempotency_key": "a b"}"#,
            "`idempotency_key`: not an idempotency key (from 1 to 255",
        );
        check(r#"{"action": "echo", "run_at": "soon"}"#, "at `run_at`");
        check(r#"{"action": "echo", "input": "\u0000"}"#, "NUL");
        check(
            r#"{"action": "echo", "resources": []}"#,
            "`resources` is not supported",
        );
        check(r#"{"input": 1}"#, "missing field `action`");
    }
}
