//! `fail`: fails.

use serde::Deserialize;

use crate::action::{Action, Context};
use crate::domain::{Failure, Payload};

/// `fail`: fails as its input says, to try out retries and alarms.
#[derive(Debug, Clone, Copy)]
pub struct Fail;

/// How to fail: `{"message": "no", "retryable": true, "detail": {"code": 7}}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailInput {
    /// One sentence for people.
    #[serde(default = "default_message")]
    pub message: String,
    /// Whether another attempt may follow; `false` when absent.
    #[serde(default)]
    pub retryable: bool,
    /// The error's detail, any JSON.
    #[serde(default)]
    pub detail: Option<Payload>,
}

impl Action for Fail {
    const NAME: &'static str = "fail";
    type Input = FailInput;
    type Output = ();

    async fn run(&self, _context: Context, input: FailInput) -> Result<(), Failure> {
        let failure = if input.retryable {
            Failure::retry(input.message)
        } else {
            Failure::fatal(input.message)
        };
        Err(Failure {
            detail: input.detail,
            ..failure
        })
    }
}

fn default_message() -> String {
    "this action always fails".to_owned()
}
