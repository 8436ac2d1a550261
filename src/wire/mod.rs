//! What crosses a wire, as types of its own: a task, a submission and an event in JSON, the same over HTTP,
//! on the command line, on the broker and in taps. `docs/wire.md` is the contract.
//!
//! **Invariant:** pure, like `domain`, of which it is the outside. Domain types do not derive `Serialize`,
//! so a rename inside breaks nobody.

mod drain;
mod event;
mod fleet;
mod history;
mod log;
mod progress;
mod schedule;
mod seconds;
mod submission;
mod task;
mod why;

pub use drain::{DrainData, drain_envelope, parse_drain};
pub use event::{Envelope, Event, EventData, EventKind, parse_events};
pub use fleet::{ExecutorJson, QueueJson};
pub use history::{HistoryJson, HistoryPage};
pub use log::LogChunkJson;
pub use progress::ProgressJson;
pub use schedule::{
    FiringJson, NewScheduleJson, ScheduleDetailJson, ScheduleJson, SchedulePage, TimingJson,
    UnreadableScheduleJson,
};
pub use submission::{
    RetryJson, SUBMISSION_TYPE, SubmissionJson, parse_submission, parse_submission_message,
};
pub use task::{ErrorJson, TaskJson, TaskPage, UnreadableJson};
pub use why::WhyJson;

/// A document that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not JSON, or not of the right shape.
    #[error("{reason}{}", place(.path))]
    Shape {
        /// What is wrong, and what would be right.
        reason: String,
        /// The path to it; empty at the top.
        path: String,
    },
    /// A type of event that this version does not know.
    #[error("the event type `{0}` is not known to this version")]
    UnknownType(String),
    /// A value that is well-formed but refused.
    #[error("{0}")]
    Refused(String),
}

fn place(path: &str) -> String {
    if ["", ".", "?"].contains(&path) {
        String::new()
    } else {
        format!(", at `{path}`")
    }
}

/// Reads `json` as a `T`.
///
/// # Errors
///
/// [`WireError::Shape`] with the path; an unknown field comes with the nearest known one.
pub fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, WireError> {
    // Nearly everything can be read; to know the path of an error each step on the way is written down.
    match serde_json::from_slice(json) {
        Ok(value) => Ok(value),
        Err(_) => parse_with_path(json),
    }
}

fn parse_with_path<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, WireError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        WireError::Shape {
            reason: with_suggestion(&error.into_inner().to_string()),
            path,
        }
    })?;
    deserializer.end().map_err(|error| WireError::Shape {
        reason: error.to_string(),
        path: String::new(),
    })?;
    Ok(value)
}

/// Reads `json`, an object, as a `T`: serde would read an array as well, field by field.
///
/// # Errors
///
/// As [`parse`]; [`WireError::Refused`] for what is no object.
pub fn parse_object<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, WireError> {
    match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => parse(json),
        Some(_) => Err(WireError::Refused("it is not a JSON object".to_owned())),
        None => Err(WireError::Refused("it is empty".to_owned())),
    }
}

/// Adds `, did you mean …` to serde's message of an unknown field.
fn with_suggestion(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), words.next()) {
        (true, Some(found)) => match nearest(found, words) {
            Some(near) => format!("unknown field `{found}`, did you mean `{near}`?"),
            None => message.to_owned(),
        },
        _ => message.to_owned(),
    }
}

/// The one of `known` that `found` was probably meant to be.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(found, word), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_comes_with_the_nearest_known_one() {
        let error = parse::<SubmissionJson>(br#"{"action": "echo", "inptu": 1}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown field `inptu`, did you mean `input`?, at `inptu`"
        );
    }

    #[test]
    fn an_object_is_no_array() {
        let read = |json: &str| {
            parse_object::<SubmissionJson>(json.as_bytes()).map_err(|error| error.to_string())
        };
        assert!(read(r#" {"action": "echo"}"#).is_ok());
        assert_eq!(read(r#"["echo"]"#).unwrap_err(), "it is not a JSON object");
        assert_eq!(read(" ").unwrap_err(), "it is empty");
    }

    #[test]
    fn a_wrong_type_comes_with_its_path() {
        let error = parse::<SubmissionJson>(br#"{"action": "echo", "retry": {"attempts": "x"}}"#)
            .unwrap_err();
        assert!(error.to_string().contains("at `retry.attempts`"), "{error}");
        let error = parse::<SubmissionJson>(b"{").unwrap_err();
        assert!(
            error.to_string().starts_with("EOF while parsing"),
            "{error}"
        );
        let error = parse::<SubmissionJson>(br#"{"action": "echo"} {}"#).unwrap_err();
        assert!(
            error.to_string().starts_with("trailing characters"),
            "{error}"
        );
    }
}
