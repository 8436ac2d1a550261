//! How failures are written: in rows of tasks and of steps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::row::text;
use crate::domain::{Failure, Payload, StepName, Verdict};

/// How a [`Failure`] is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailureJson {
    message: String,
    retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<Payload>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
}

/// The text for a failure.
pub(super) fn failure_text(failure: &Failure) -> String {
    text(&FailureJson {
        message: failure.message.clone(),
        retryable: failure.is_retryable(),
        retry_after: match failure.verdict {
            Verdict::Retry { after } => after,
            Verdict::Fatal => None,
        },
        detail: failure.detail.clone(),
        step: failure.step.as_ref().map(|step| step.as_str().to_owned()),
    })
}

/// The failure that a text says.
pub(super) fn failure(text: &str) -> Result<Failure, serde_json::Error> {
    let failure: FailureJson = serde_json::from_str(text)?;
    let step = failure.step.as_deref().map(StepName::stored).transpose();
    Ok(Failure {
        step: step.map_err(serde::de::Error::custom)?,
        verdict: if failure.retryable {
            Verdict::Retry {
                after: failure.retry_after,
            }
        } else {
            Verdict::Fatal
        },
        message: failure.message,
        detail: failure.detail,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_comes_back_as_it_was() {
        for written in [
            Failure::fatal("no").with_detail(&[1, 2]),
            Failure::retry("later").retry_after(Duration::new(1, 5)),
            Failure::retry("perhaps"),
        ] {
            assert_eq!(failure(&failure_text(&written)).unwrap(), written);
        }
    }
}
