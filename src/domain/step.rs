//! Steps: the named pieces of an action's run whose outcomes are stored.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::{Attempt, Failure, IdError, Payload, StepName, TaskId};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// It runs a piece of the action.
    Step,
    /// It waits for a time.
    Sleep,
    /// It waits for a signal.
    Signal,
    /// It creates sub-tasks.
    Spawn,
    /// It waits for sub-tasks.
    Join,
}

impl StepKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Step,
        Self::Sleep,
        Self::Signal,
        Self::Spawn,
        Self::Join,
    ];

    /// The word for it, in rows and for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Sleep => "sleep",
            Self::Signal => "signal",
            Self::Spawn => "spawn",
            Self::Join => "join",
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StepKind {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| IdError::new("a kind of step (step, sleep, signal, spawn, join)", text))
    }
}

/// What a step came to. Once stored it is what every later attempt is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// It returned this.
    Done(Payload),
    /// It failed, and its own policy allows no further try.
    Failed(Failure),
    /// An operator let the task go on without it; this is what it returns instead.
    Skipped(Payload),
    /// What it waited for did not come in time.
    Expired,
}

/// How far a step is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepProgress {
    /// It waits for a time: a sleep for its end, a wait for its deadline, a step for its next try.
    Waiting {
        /// Tries that failed.
        tries: u32,
        /// Until when, by the store's clock.
        due_at: Timestamp,
    },
    /// It has ended.
    Ended {
        /// Which of the task's steps it was to end, counted from 1: a later attempt is told of them in this order.
        place: u32,
        /// What it came to.
        outcome: StepOutcome,
    },
}

/// A step of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: StepName,
    /// What it does.
    pub kind: StepKind,
    /// How far it is.
    pub progress: StepProgress,
}

/// A step as an attempt writes it, with the token that proves whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// Which task.
    pub task: TaskId,
    /// Which attempt of it; a stale one changes nothing.
    pub attempt: Attempt,
    /// The step.
    pub step: Step,
}
