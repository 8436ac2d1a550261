//! Why a rehearsal has no answer.

use super::crash::CrashPoint;
use crate::domain::{ActionName, Failure, NameError, PayloadError};

/// Why a rehearsal has no answer. That the action failed is an answer, and none of these.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// A word of the rehearsal is not the name that it should be.
    #[error("the rehearsal is told a wrong name")]
    Name(#[source] NameError),
    /// A value cannot be written as JSON, or not be stored.
    #[error("{what} cannot be a payload")]
    Payload {
        /// Which value.
        what: String,
        /// Why not.
        #[source]
        source: PayloadError,
    },
    /// The outcome of a sub-task is told twice.
    #[error("the outcome of sub-tasks of the action `{0}` is told twice")]
    ToldTwice(ActionName),
    /// Nobody knows how to run this action.
    #[error(
        "the action `{0}` is not registered; register it, or say what its sub-tasks come to by `with_subtask`"
    )]
    UnknownAction(ActionName),
    /// A task waits for what will never happen.
    #[error("nothing will ever happen again, and the task has not ended: {waits}")]
    Stuck {
        /// Each task that is open, with what it waits for.
        waits: String,
    },
    /// An attempt is kept loaded by something that is no step, and nothing happens.
    #[error(
        "an attempt of the action `{action}` has done nothing for {seconds} s, and waits for something that is no step"
    )]
    Hangs {
        /// Whose.
        action: ActionName,
        /// For how long, on the machine's clock.
        seconds: u64,
    },
    /// A task is `paused`, so that a person would have to decide.
    #[error("a task of the action `{action}` is paused until a person decides: {}", .failure.message)]
    Paused {
        /// Whose.
        action: ActionName,
        /// What it failed with.
        failure: Failure,
    },
    /// A task began so many attempts that it will not come to an end.
    #[error("a task of the action `{action}` has not ended after {attempts} attempts")]
    Endless {
        /// Whose.
        action: ActionName,
        /// How many.
        attempts: u32,
    },
    /// The action failed, and its output was asked for.
    #[error("the action failed: {}", .0.message)]
    Failed(Failure),
    /// The output is of another type.
    #[error("the output `{output}` is not of the type that the test asks for")]
    Output {
        /// As JSON.
        output: String,
        /// Where it does not fit.
        #[source]
        source: serde_path_to_error::Error<serde_json::Error>,
    },
    /// A crash made a difference.
    #[error("after {crash}: {difference}")]
    Differs {
        /// Which crash.
        crash: Box<CrashPoint>,
        /// What came, and what was expected.
        difference: String,
    },
    /// The rehearsal with this crash has no answer.
    #[error("after {crash}: {source}")]
    Crashed {
        /// Which crash.
        crash: Box<CrashPoint>,
        /// Why not.
        #[source]
        source: Box<RehearsalError>,
    },
    /// The run without a crash is not what the test expects.
    #[error("without any crash: {difference}")]
    Unexpected {
        /// What the test says of it.
        difference: String,
    },
}
