//! Why an attempt failed, as it is stored with the task.

use std::fmt;
use std::time::Duration;

use super::{Payload, StepName};

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt may succeed, as the task's retry policy allows.
    Retry {
        /// Not before this long after the failure; wins over the policy's own pause.
        after: Option<Duration>,
    },
    /// Another attempt would fail the same way.
    Fatal,
}

/// Why an attempt failed.
///
/// It outlives the process that made it, so it is data: one sentence for people, and the action's own error
/// as JSON. Any `std::error::Error` becomes a failure that may be retried, so that `?` works in an action:
///
/// ```
/// use longshore::domain::{Failure, Verdict};
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     if text.is_empty() {
///         return Err(Failure::fatal("there is no number"));
///     }
///     Ok(text.parse::<u32>()?)
/// }
/// assert_eq!(parse("").unwrap_err().verdict, Verdict::Fatal);
/// assert_eq!(parse("x").unwrap_err().message, "invalid digit found in string");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What follows.
    pub verdict: Verdict,
    /// One sentence for people.
    pub message: String,
    /// The action's own error, as JSON.
    pub detail: Option<Payload>,
    /// The step that failed, when the attempt failed because of one: it runs again with the next attempt, or an operator
    /// lets the task go on without it.
    pub step: Option<StepName>,
}

/// Bytes of a failure's message that are kept; the rest belongs into its detail or the log.
const MESSAGE_BYTES_MAX: usize = 8 * 1024;

impl Failure {
    /// A failure that another attempt would repeat.
    pub fn fatal(message: impl fmt::Display) -> Self {
        Self {
            verdict: Verdict::Fatal,
            message: sentence(&message),
            detail: None,
            step: None,
        }
    }

    /// A failure that another attempt may avoid.
    pub fn retry(message: impl fmt::Display) -> Self {
        Self {
            verdict: Verdict::Retry { after: None },
            message: sentence(&message),
            detail: None,
            step: None,
        }
    }

    /// The same failure, to be tried again not before `after`.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self {
            verdict: Verdict::Retry { after: Some(after) },
            ..self
        }
    }

    /// The same failure with the action's own error. A detail that cannot be a payload is left out.
    #[must_use]
    pub fn with_detail<T: serde::Serialize + ?Sized>(self, detail: &T) -> Self {
        Self {
            detail: Payload::of(detail).ok(),
            ..self
        }
    }

    /// The same failure, of the step `step`.
    #[must_use]
    pub fn of_step(self, step: StepName) -> Self {
        Self {
            step: Some(step),
            ..self
        }
    }

    /// Whether another attempt may follow.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.verdict, Verdict::Retry { .. })
    }
}

/// The text of `message` without what a store cannot hold, cut at a character.
fn sentence(message: &dyn fmt::Display) -> String {
    let mut text = message.to_string().replace('\0', "\u{fffd}");
    let cut = text.floor_char_boundary(MESSAGE_BYTES_MAX);
    text.truncate(cut);
    text
}

impl<E: std::error::Error> From<E> for Failure {
    /// The error and all its sources, joined by `: `.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self::retry(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_never_holds_what_a_store_refuses() {
        assert_eq!(Failure::fatal("a\0b").message, "a\u{fffd}b");
        assert_eq!(
            Failure::fatal("é".repeat(MESSAGE_BYTES_MAX)).message.len(),
            MESSAGE_BYTES_MAX
        );
    }
}
