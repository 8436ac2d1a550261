//! What durable actions ask of a store: steps, signals and sub-tasks that are spawned together.

use crate::domain::{
    Attempt, ExecutorId, FanOutPlan, NewTask, Payload, SignalName, StepName, TaskFacts, TaskId,
    TaskState,
};

use super::Refusal;

/// What became of a step that an attempt wrote.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// It is stored; one that had ended before is left as it was.
    Stored,
    /// The attempt is not the task's any more. Nothing was changed.
    Stale,
}

/// The wish of an attempt to take the next signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeSignal {
    /// Whose.
    pub task: TaskId,
    /// Which attempt of it asks.
    pub attempt: Attempt,
    /// Which signal.
    pub signal: SignalName,
    /// The step that takes it.
    pub step: StepName,
    /// Which of the task's steps that is to end.
    pub place: u32,
}

/// What an attempt hears of the signal it asked for.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TookSignal {
    /// It is taken, and the step has ended with this payload.
    Taken(Payload),
    /// None has come yet.
    NoneYet,
    /// The attempt is not the task's any more. Nothing was changed.
    Stale,
}

/// What became of a signal.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signalled {
    /// There is no such task.
    Unknown,
    /// The task has ended: nobody will take it.
    Final(TaskState),
    /// So many wait for the task already that this one is not taken in.
    Full,
    /// It was stored before, by the same key.
    Known,
    /// It is stored, until the task takes it.
    Stored {
        /// The task, if it waited for the signal: it is `ready` now, to be announced.
        woken: Option<TaskFacts>,
        /// Who runs the task, if somebody does: it is to be nudged.
        executor: Option<ExecutorId>,
    },
}

/// Sub-tasks that an attempt spawns together, or the next batch of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spawn {
    /// The parent.
    pub parent: TaskId,
    /// Which attempt of it.
    pub attempt: Attempt,
    /// The name of all of them.
    pub name: StepName,
    /// How they are run.
    pub plan: FanOutPlan,
    /// The batch: each with the next place.
    pub subtasks: Vec<NewTask>,
    /// With the last batch: which of the parent's steps the spawn is to end.
    pub place: Option<u32>,
}

/// The wish of an attempt to cancel what is open of the sub-tasks that were spawned together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelSpawned {
    /// The parent.
    pub parent: TaskId,
    /// Which attempt of it asks.
    pub attempt: Attempt,
    /// The name of all of them.
    pub name: StepName,
    /// Why, for people.
    pub reason: String,
}

/// What became of a batch of sub-tasks.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spawned {
    /// They are stored. Those that may run are `ready` or `scheduled`, and to be announced.
    Stored(Vec<TaskFacts>),
    /// The only one has an idempotency key that is another task's: nothing was stored.
    Known(TaskFacts),
    /// One cannot be stored: none was.
    Refused(Refusal),
    /// The attempt is not the task's any more. Nothing was changed.
    Stale,
}

/// What was cancelled below a task.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Below {
    /// The tasks that are `cancelled` now.
    pub cancelled: Vec<TaskFacts>,
    /// The tasks that run, and whose executor is to be nudged.
    pub running: Vec<(TaskId, ExecutorId)>,
    /// Whether there may be more.
    pub has_more: bool,
}

/// The reason of those that are cancelled because the task above them has ended.
pub const PARENT_ENDED: &str = "its parent has ended";
