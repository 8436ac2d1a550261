//! A task as it is stored, and the small choices that come with it.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::submission::{Labels, Options};
use super::{
    ActionName, ExecutorId, Failure, FanOutPlace, IdError, IdempotencyKey, OriginToken, Payload,
    Progress, QueueName, TaskId, TaskState, WaitingFor,
};

/// The number of a run of a task, counted from 1; 0 before the first. It is the fencing token: a write that
/// carries an older one changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $expected:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The word for it, in rows and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(IdError { expected: $expected, found: text.chars().take(80).collect() }),
                }
            }
        }
    };
}

choice! {
    /// What happens when a task's executor dies in the middle of it.
    Delivery, "a delivery (`rerun` or `once`)" {
        /// It runs again elsewhere: at least once.
        #[default]
        Rerun = "rerun",
        /// It is never run twice: it fails or pauses at once, with the cause.
        Once = "once",
    }
}

choice! {
    /// What a failure for good leads to.
    OnFailure, "a choice for `on_failure` (`fail` or `pause`)" {
        /// The task is `failed`.
        #[default]
        Fail = "fail",
        /// The task is `paused` until an operator decides.
        Pause = "pause",
    }
}

/// One task, as its row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Who it is.
    pub id: TaskId,
    /// The submitter's own word for it: nobody else has it while this task is stored.
    pub idempotency_key: Option<IdempotencyKey>,
    /// What it runs.
    pub action: ActionName,
    /// Where it is announced.
    pub queue: QueueName,
    /// Where it stands.
    pub state: TaskState,
    /// How often it was claimed.
    pub attempt: Attempt,
    /// Attempts that failed, which the retry policy counts; a lost executor is not the task's failure.
    pub failures: u32,
    /// Executors that died while it was the only task that can have killed them. Counted apart from failures.
    pub crashes: u32,
    /// Executors that died while it ran beside others: it is suspected, and charged with nothing.
    pub suspicions: u32,
    /// Who runs it, or ran it last.
    pub executor: Option<ExecutorId>,
    /// What it was given.
    pub input: Payload,
    /// What it returned.
    pub output: Option<Payload>,
    /// Why it failed, last.
    pub error: Option<Failure>,
    /// The task that made it.
    pub parent: Option<TaskId>,
    /// Where it belongs, if its parent has spawned it with others.
    pub fan_out: Option<FanOutPlace>,
    /// Whether it goes on when its parent has ended.
    pub outlives_parent: bool,
    /// The topmost task of its tree; itself when it has no parent.
    pub root: TaskId,
    /// The web server process that submitted it.
    pub origin: Option<OriginToken>,
    /// Words of its submitter, to find it by.
    pub labels: Labels,
    /// Higher first, among tasks that wait in the store. From -100 to 100.
    pub priority: i16,
    /// How it is to be run.
    pub options: Options,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When it became `ready` last.
    pub ready_at: Option<Timestamp>,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// Not after.
    pub deadline: Option<Timestamp>,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
    /// When somebody asked for its cancellation while it ran.
    pub cancel_requested_at: Option<Timestamp>,
    /// What wakes it while it is suspended.
    pub waiting_for: Option<WaitingFor>,
    /// How far an attempt last said that it is.
    pub progress: Option<Progress>,
}

/// What announcements, events and taps say of a task: ids and routing facts, never a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFacts {
    /// Who it is.
    pub id: TaskId,
    /// What it runs.
    pub action: ActionName,
    /// Where it is announced.
    pub queue: QueueName,
    /// Where it stands now.
    pub state: TaskState,
    /// How often it was claimed.
    pub attempt: Attempt,
    /// The task that made it.
    pub parent: Option<TaskId>,
    /// The web server process that submitted it.
    pub origin: Option<OriginToken>,
}

impl Task {
    /// Whether it is to run on trial, alone among its like: it is charged with a crash, or was there twice.
    pub const fn is_suspect(&self) -> bool {
        self.crashes > 0 || self.suspicions > 1
    }

    /// The task that a store makes of `submission`, for tests.
    #[cfg(test)]
    pub(crate) fn stored(submission: &super::Submission) -> Self {
        let now = Timestamp::UNIX_EPOCH;
        let id = submission.id.unwrap_or_else(|| TaskId::new(now, 1));
        Self {
            id,
            idempotency_key: submission.idempotency_key.clone(),
            action: submission.action.clone(),
            queue: submission.queue.clone(),
            state: TaskState::at_submission(true),
            attempt: Attempt(0),
            failures: 0,
            crashes: 0,
            suspicions: 0,
            executor: None,
            input: submission.input.clone(),
            output: None,
            error: None,
            parent: submission.parent,
            fan_out: None,
            outlives_parent: submission.outlives_parent,
            root: id,
            origin: None,
            labels: submission.labels.clone(),
            priority: submission.priority,
            options: submission.options,
            created_at: now,
            ready_at: Some(now),
            run_at: submission.run_at,
            deadline: submission.deadline,
            started_at: None,
            finished_at: None,
            cancel_requested_at: None,
            waiting_for: None,
            progress: None,
        }
    }

    /// What may be said of it in public.
    pub fn facts(&self) -> TaskFacts {
        TaskFacts {
            id: self.id,
            action: self.action.clone(),
            queue: self.queue.clone(),
            state: self.state,
            attempt: self.attempt,
            parent: self.parent,
            origin: self.origin.clone(),
        }
    }
}
