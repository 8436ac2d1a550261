//! Where tasks live. The port speaks in transitions, never in rows; no transaction crosses it.
//!
//! Two backends, both complete, both passing `tests/it/contract/store.rs`: [`postgres`] and [`sqlite`].
//! Time is the store's clock: due times and leases are judged by it alone.
//!
//! **Invariant:** `sqlx` is named only below this folder.

mod address;
mod audit;
mod blame;
mod change;
mod durable;
mod durable_row;
mod error;
mod failure;
mod glance;
mod group;
mod idle;
mod listed;
mod log;
mod overview;
pub mod postgres;
mod progress;
mod queue;
mod row;
mod schedule;
mod signalled;
mod spawned;
pub mod sqlite;
mod submission;
mod time;
mod tree;
mod verb;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

pub use address::StoreAddress;
pub use durable::{
    Below, CancelSpawned, PARENT_ENDED, Recorded, Signalled, Spawn, Spawned, TakeSignal, TookSignal,
};
pub use error::StoreError;
pub use glance::Glance;
pub use group::{GroupCommit, Grouped};
pub use idle::{IdleFound, IdleLook, IdleResume};
pub use listed::{Listed, Unreadable};
pub use overview::{OpenTask, Overview, QueueOverview};
pub use schedule::{
    Fired, ScheduleCreated, ScheduleList, ScheduleRefusal, SchedulesListed, Triggered,
    UnreadableSchedule,
};
pub use submission::Receipt;

use crate::domain::{
    ActionName, Attempt, Audit, AuditDepth, DeadLetter, ExecutorId, ExecutorRecord, FanOut, Firing,
    HistoryEntry, LogChunk, LogPosition, NewSignal, NewTask, Operator, Progress, QueueName,
    QueueRecord, ScheduleName, ScheduleRecord, ScheduleSpec, Settlement, Step, StepName,
    StepRecord, Task, TaskFacts, TaskId, TaskState, Verb, VerbError, Violation,
};

/// The number of the schema that this program works with: the version of the last migration.
pub const SCHEMA_VERSION: i64 = 8;

/// What a store promises, whichever it is.
///
/// All methods are cancel safe in this sense: a dropped call has either done all of its work or none of it,
/// and every one may be called again.
///
/// # Errors
///
/// All methods: [`StoreError::Unavailable`] (try again), [`StoreError::Corrupt`] (a row that nobody could
/// have written; it is named), [`StoreError::Schema`] (another version: migrate).
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Brings the schema to [`SCHEMA_VERSION`]. Idempotent; safe to run by several processes at once.
    async fn migrate(&self) -> Result<(), StoreError>;

    /// The version of the schema found; `None` when there is none yet.
    async fn schema_version(&self) -> Result<Option<i64>, StoreError>;

    /// The store's clock, and its name and version for people: `PostgreSQL 15.18`.
    async fn identity(&self) -> Result<StoreIdentity, StoreError>;

    /// Stores tasks, each as `ready` or, with a `run_at` to come, `scheduled`; all in one transaction.
    ///
    /// Answers in order. A task whose idempotency key or id is known already is left as it is:
    /// [`Submitted::Known`], with the task that has the key, or else the id. A task whose queue or parent does not exist, or whose parent is final or being cancelled, is
    /// [`Submitted::Refused`]; the others are stored all the same.
    async fn submit(&self, tasks: &[NewTask]) -> Result<Vec<Submitted>, StoreError>;

    /// As [`Store::submit`], and what is new and `ready` is given to `executor` at once, as by [`Store::claim`]: in the
    /// same transaction where the backend can, so that nobody else gets it. Answers in order.
    async fn submit_and_claim(
        &self,
        executor: ExecutorId,
        tasks: &[NewTask],
    ) -> Result<Vec<(Submitted, Option<Task>)>, StoreError> {
        let submitted = self.submit(tasks).await?;
        let claimed = self.claim(executor, &new_and_ready(&submitted)).await?;
        Ok(with_claimed(submitted, claimed))
    }

    /// Takes those of `tasks` that are `ready`, for `executor`: attempt + 1, state `running`.
    ///
    /// Answers with the tasks taken, in any order; a task that is not among them was not `ready`, or not
    /// known. Takes nothing when the executor's lease has ended. A task whose row cannot be read is taken and
    /// paused at once, with the row and the column in its error: an operator sees it, and it holds up no other. So is
    /// one whose attempts can be counted no further.
    ///
    /// A task that runs for this same executor already is answered again as it is, because the answer to its first
    /// claim may have been lost: nobody asks for what it knows to run.
    async fn claim(&self, executor: ExecutorId, tasks: &[TaskId]) -> Result<Vec<Task>, StoreError>;

    /// Takes up to `look.limit` tasks that were `ready` for `look.older_than` at least: the announcements
    /// that were lost. Higher priority first, then the oldest.
    async fn claim_idle(
        &self,
        executor: ExecutorId,
        look: &IdleLook,
    ) -> Result<IdleFound, StoreError>;

    /// Stores how attempts of `executor` ended. Answers in order; once it returns, no crash can make an
    /// attempt that was [`Settled::Stored`] run again. When somebody asked for the task's cancellation, an
    /// ending that would leave it open (released, retried, paused) makes it `cancelled` instead.
    async fn settle(
        &self,
        executor: ExecutorId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError>;

    /// Cancels a task and all tasks below it, at most `TREE_MAX`: those that do not run are `cancelled` in this
    /// transaction; for those that run the wish is noted, and their executor is to be nudged. `reason` is a
    /// sentence for people; it becomes the error of the cancelled tasks.
    async fn cancel(&self, task: TaskId, reason: &str) -> Result<Cancelled, StoreError>;

    /// Enters an executor, with its lease of `lease` from now. Its actions become known for ever, its host
    /// and slots are replaced when it enters again.
    async fn enroll(&self, executor: &ExecutorRecord, lease: Duration) -> Result<(), StoreError>;

    /// The same store on a connection of its own, opened when it is first used: for work that must not wait for others,
    /// nor for the runtime they run on. Its calls are given up after 3 s. A store in memory has only one connection, and
    /// answers with that.
    fn apart(&self) -> Arc<dyn Store>;

    /// Renews the lease of `executor`; tells which of its running tasks somebody wants cancelled. An executor
    /// that is late, because the store was away from everybody, still holds what nobody has taken over.
    async fn renew(&self, executor: ExecutorId, lease: Duration) -> Result<Renewal, StoreError>;

    /// When the lease of `executor` ends; `None` when it is not known, or was found lost.
    async fn lease_end(&self, executor: ExecutorId) -> Result<Option<Timestamp>, StoreError>;

    /// Finds `executor` dead before its lease has ended, if that still ends at `ends_at`: it has not been renewed since.
    /// Answers whether it did; then [`Store::take_over`] finds the executor lost. It may be cut off and alive, so what may
    /// run only once is left to it until its lease has ended.
    async fn end_lease(&self, executor: ExecutorId, ends_at: Timestamp)
    -> Result<bool, StoreError>;

    /// Notes whether `executor` holds its token, so that the broker would tell of its death.
    async fn note_token(&self, executor: ExecutorId, is_held: bool) -> Result<(), StoreError>;

    /// Whether housekeeping has anything to do: one small query. Whose lease ends in less than `lease_left` was silent for
    /// the rest of it. What it tells may be over the moment after; each of the calls it points to looks for itself.
    async fn glance(&self, lease_left: Duration) -> Result<Glance, StoreError>;

    /// Notes that `executor` begins to run this attempt of `task` on trial: if the executor dies, the task is to blame and no
    /// other. Nothing if the attempt is not the executor's any more.
    async fn put_on_trial(
        &self,
        executor: ExecutorId,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<(), StoreError>;

    /// Ends an executor for good: what it still owns is released as in [`Store::take_over`], and it is not
    /// listed any more.
    async fn retire(&self, executor: ExecutorId) -> Result<TakenOver, StoreError>;

    /// Releases the tasks of executors whose lease ended, of all of them or of `whose`, at most `limit` tasks. An action with delivery
    /// `once` is not run again: its task fails, or pauses if it asked for that.
    ///
    /// The task that ran on trial, or was the only one to run, is charged with the crash, and pauses after
    /// `CRASHES_MAX`; several that ran beside each other are only suspected. A failure is counted for none.
    async fn take_over(
        &self,
        whose: Option<ExecutorId>,
        limit: usize,
    ) -> Result<TakenOver, StoreError>;

    /// Moves tasks whose time has come: `scheduled` and due to `ready`; open and past the deadline to
    /// `failed` (those that run are left to their executor). At most `limit` tasks.
    async fn due(&self, limit: usize) -> Result<Due, StoreError>;

    /// Deletes tasks that have been final for longer than `keep`, with their logs; at most `limit` tasks,
    /// oldest first. Answers how many. Forgets firings of schedules that are as old.
    async fn prune(&self, keep: Duration, limit: usize) -> Result<u64, StoreError>;

    /// Every executor that is live, or was lost less than a day ago; the newest first.
    async fn executors(&self) -> Result<Vec<ExecutorRecord>, StoreError>;

    /// Every action that any executor ever offered, sorted.
    async fn known_actions(&self) -> Result<Vec<ActionName>, StoreError>;

    /// Makes a queue known. Idempotent.
    async fn create_queue(&self, queue: &QueueName) -> Result<(), StoreError>;

    /// Pauses a queue: executors hear of it with their next renewal, and take none of its tasks from then on. What runs goes
    /// on. One that is paused stays so, by whoever paused it first. Whether there is such a queue.
    async fn pause_queue(&self, queue: &QueueName, by: &Operator) -> Result<bool, StoreError>;

    /// Ends the pause of a queue, if it is paused. Whether there is such a queue.
    async fn resume_queue(&self, queue: &QueueName) -> Result<bool, StoreError>;

    /// Every queue, sorted by name, with how many of its tasks are in which open state.
    async fn queues(&self) -> Result<Vec<QueueRecord>, StoreError>;

    /// Everything that is open, at a glance: counts, executors, and up to `limit` tasks that are `paused`, `running` and
    /// `ready` each. A task whose row cannot be read is counted and not told. Scans the tasks up to four times; for
    /// people.
    async fn overview(&self, limit: usize) -> Result<Overview, StoreError>;

    /// One task; [`StoreError::Corrupt`] when its row cannot be read.
    async fn task(&self, task: TaskId) -> Result<Option<Task>, StoreError>;

    /// Those of `tasks` that are known, in any order: for waiters.
    async fn tasks(&self, tasks: &[TaskId]) -> Result<Listed, StoreError>;

    /// Tasks that run for `executor`, at most `limit`: to find those whose claim was answered to nobody. Scans; for
    /// the moment after a failure. A row that cannot be read is left out: nobody here could run it.
    async fn owned(&self, executor: ExecutorId, limit: usize) -> Result<Vec<Task>, StoreError>;

    /// Those of `tasks` that nobody needs to wait for any more: final, paused, or not there. Reads no payload.
    async fn ended(&self, tasks: &[TaskId]) -> Result<Vec<TaskId>, StoreError>;

    /// How many `ready` tasks stand before `task` in its queue: those of higher priority, and of the same those that were
    /// ready before; counted up to `limit`. 0 for a task that is not `ready`. Passes what the queue's retained history
    /// holds; for people.
    async fn ahead(&self, task: TaskId, limit: u64) -> Result<u64, StoreError>;

    /// Tasks that match, the newest first, at most `list.limit`.
    async fn list(&self, list: &List) -> Result<Listed, StoreError>;

    /// A task and all below it, at most `TREE_MAX`, parents before children, siblings by age, and those that were spawned together in their order.
    async fn tree(&self, task: TaskId) -> Result<Listed, StoreError>;

    /// Holds everything against the rules of [`ViolationKind`], all at one moment, and reads each row that `depth` asks
    /// for. Tells at most `AUDIT_MAX` violations. Changes nothing; reads every task.
    ///
    /// [`ViolationKind`]: crate::domain::ViolationKind
    async fn audit(&self, depth: AuditDepth) -> Result<Audit, StoreError>;

    /// Makes right what of `violations` can be made right without inventing an output or an end: what runs without an
    /// owner is released as in [`Store::take_over`], and told; timers, requests and `ready_at` are set, stray ones
    /// deleted. A violation that is none any more is left alone. Another audit tells what is left.
    async fn repair(&self, violations: &[Violation]) -> Result<TakenOver, StoreError>;

    /// The steps of a task, in the order in which they ended, and then those that wait.
    async fn steps(&self, task: TaskId) -> Result<Vec<Step>, StoreError>;

    /// Stores steps of tasks that `executor` runs. Answers in order. What has ended before is never changed. Once it
    /// returns, whoever runs the task next sees them.
    async fn record(
        &self,
        executor: ExecutorId,
        records: &[StepRecord],
    ) -> Result<Vec<Recorded>, StoreError>;

    /// Stores signals until their tasks take them, and wakes those that wait for them. Answers in order. A key that is
    /// known for the task, from any time, is [`Signalled::Known`].
    async fn signal(&self, signals: &[NewSignal]) -> Result<Vec<Signalled>, StoreError>;

    /// Takes the oldest signal of a name for a step of a task that `executor` runs, and ends the step with it. A step that
    /// has taken one is told it again.
    async fn take_signal(
        &self,
        executor: ExecutorId,
        wish: &TakeSignal,
    ) -> Result<TookSignal, StoreError>;

    /// Stores a batch of sub-tasks for a task that `executor` runs; what is stored of it already is left as it is. Those
    /// that are not allowed to be in flight are `blocked` until their turn has come.
    async fn spawn(&self, executor: ExecutorId, spawn: &Spawn) -> Result<Spawned, StoreError>;

    /// The counts of the sub-tasks that `task` has spawned as `name`; `None` when there are none.
    async fn fan_out(&self, task: TaskId, name: &StepName) -> Result<Option<FanOut>, StoreError>;

    /// The sub-tasks that `task` has spawned as `name`, in their order, from the place `from` on, at most `limit`.
    async fn spawned(
        &self,
        task: TaskId,
        name: &StepName,
        from: u32,
        limit: usize,
    ) -> Result<Listed, StoreError>;

    /// Cancels what is open of the sub-tasks that an attempt has spawned together; what outlives its parent is left alone.
    /// At most `limit` tasks: with [`Below::has_more`] call it again. `None`, and nothing done, if the attempt is not the
    /// executor's any more.
    async fn cancel_spawned(
        &self,
        executor: ExecutorId,
        wish: &CancelSpawned,
        limit: usize,
    ) -> Result<Option<Below>, StoreError>;

    /// Cancels what is open below tasks that have ended, at most `limit` tasks, as [`Store::cancel_spawned`].
    async fn clear_below(&self, limit: usize) -> Result<Below, StoreError>;

    /// Keeps log chunks. A chunk that is known already (task, attempt, offset) is left as it is; a chunk of
    /// an unknown task, or of another attempt than the task's newest, is dropped.
    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError>;

    /// Log chunks of a task that begin at a position or after it, in order (attempt, offset), at most `limit`.
    /// A position is the end of what was read before: after a chunk it is its offset plus its length.
    async fn logs(
        &self,
        task: TaskId,
        after: Option<LogPosition>,
        limit: usize,
    ) -> Result<Vec<LogChunk>, StoreError>;

    /// As [`Store::cancel`], by an operator: noted in the history of `task` in the same transaction.
    async fn cancel_by(
        &self,
        task: TaskId,
        reason: &str,
        by: &Operator,
    ) -> Result<Cancelled, StoreError>;

    /// Carries out what an operator wants of a task, and notes it in the task's history, in one transaction. A copy is
    /// `ready` at once; both histories name the other.
    async fn operate(
        &self,
        task: TaskId,
        verb: &Verb,
        by: &Operator,
    ) -> Result<Operated, StoreError>;

    /// Notes in a task's history that the broker gave up a message about it, once for each task: whoever makes bad messages
    /// shall not push out what operators have done. Nothing is noted of a task that is final, or not known. Tells whether it was.
    async fn note_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError>;

    /// What was done to a task by operators, and what the broker gave up on; the oldest first, at most `HISTORY_MAX` entries;
    /// nothing for a task that is not known.
    async fn history(&self, task: TaskId) -> Result<Vec<HistoryEntry>, StoreError>;

    /// How many tasks match, counted up to `list.limit`. Looks at all that are stored; for people.
    async fn count(&self, list: &List) -> Result<u64, StoreError>;

    /// Stores how far attempts of `executor` are. Answers in order whether each was written: not when the attempt is not
    /// that task's any more. Of several that concern one attempt the last counts.
    async fn note_progress(
        &self,
        executor: ExecutorId,
        progress: &[(TaskId, Progress)],
    ) -> Result<Vec<bool>, StoreError>;

    /// Makes a schedule; `created_by` tells people who asked for it. A name that is known is left as it is:
    /// [`ScheduleCreated::Known`] when the same was asked for, [`ScheduleRefusal::Taken`] otherwise.
    async fn create_schedule(
        &self,
        spec: &ScheduleSpec,
        created_by: &str,
    ) -> Result<ScheduleCreated, StoreError>;

    /// Schedules, sorted by name, at most `list.limit`.
    async fn schedules(&self, list: &ScheduleList) -> Result<SchedulesListed, StoreError>;

    /// One schedule; [`StoreError::Corrupt`] when its row cannot be read.
    async fn schedule(&self, name: &ScheduleName) -> Result<Option<ScheduleRecord>, StoreError>;

    /// The last firings of a schedule, the newest first, at most `limit`.
    async fn firings(&self, name: &ScheduleName, limit: usize) -> Result<Vec<Firing>, StoreError>;

    /// Stops a schedule from firing, the firings that wait included. Answers whether it is known. Idempotent.
    async fn pause_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError>;

    /// Lets a schedule fire again: next at its first time that is to come, because a pause is no outage. Answers whether
    /// it is known. Idempotent.
    async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError>;

    /// Deletes a schedule with its firings. Their tasks stay. Answers whether it was known.
    async fn delete_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError>;

    /// Lets a schedule fire now, out of turn, paused or not. Its overlap policy holds. `None` when it is not known.
    async fn trigger_schedule(&self, name: &ScheduleName) -> Result<Option<Triggered>, StoreError>;

    /// Looks at the schedules whose time has come, at most `limit`: each firing is a row that can be written once, and
    /// its task, in one transaction for each schedule. A schedule that cannot go on, because its row cannot be read or
    /// its queue is gone, is paused with the reason, and holds up no other.
    ///
    /// When nothing is due it is one small query.
    async fn fire_schedules(&self, limit: usize) -> Result<Fired, StoreError>;

    /// Lets go of every connection. Further calls are [`StoreError::Unavailable`].
    async fn close(&self);
}

/// Who the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Its name and version: `PostgreSQL 15.18`.
    pub version: String,
    /// Its clock.
    pub now: Timestamp,
}

/// What became of one submission.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It is stored; a `ready` one is to be announced.
    Stored(TaskFacts),
    /// A task with this key, or else with this id, was stored before. With the key its id may be another.
    Known(TaskFacts),
    /// It was not stored.
    Refused(Refusal),
}

/// The tasks that were stored just now and can be claimed.
fn new_and_ready(submitted: &[Submitted]) -> Vec<TaskId> {
    let ready = |one: &Submitted| match one {
        Submitted::Stored(facts) => (facts.state == TaskState::Ready).then_some(facts.id),
        Submitted::Known(_) | Submitted::Refused(_) => None,
    };
    submitted.iter().filter_map(ready).collect()
}

/// What was submitted, each with the task if it was claimed.
fn with_claimed(submitted: Vec<Submitted>, claimed: Vec<Task>) -> Vec<(Submitted, Option<Task>)> {
    let mut claimed: std::collections::HashMap<TaskId, Task> =
        claimed.into_iter().map(|task| (task.id, task)).collect();
    let mut paired = |one: Submitted| {
        let task = match &one {
            Submitted::Stored(facts) => claimed.remove(&facts.id),
            Submitted::Known(_) | Submitted::Refused(_) => None,
        };
        (one, task)
    };
    submitted.into_iter().map(&mut paired).collect()
}

/// Why a store does not take a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its queue was never created.
    #[error("there is no queue `{0}`")]
    UnknownQueue(QueueName),
    /// Its parent is not stored.
    #[error("there is no task `{0}` to be the parent")]
    UnknownParent(TaskId),
    /// Its parent ended, or is being cancelled.
    #[error("the parent `{0}` is final or being cancelled")]
    ParentEnded(TaskId),
}

/// What became of one settlement.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It is stored; the task's facts afterwards, and when.
    Stored {
        /// The task's new state.
        state: TaskState,
        /// By the store's clock.
        at: Timestamp,
        /// Tasks that became `ready` by it or by others of its batch, to be announced: sub-tasks whose turn came, and
        /// parents. Told with one answer of the batch.
        ready: Vec<TaskFacts>,
    },
    /// The token was not the row's: somebody else owns the task, or it is final. Nothing was changed.
    Stale,
}

/// What became of a wish to cancel.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// There is no such task.
    Unknown,
    /// The task was final before.
    Final(TaskState),
    /// The wish is stored.
    Accepted {
        /// The tasks that are `cancelled` now.
        cancelled: Vec<TaskFacts>,
        /// The tasks that run, and whose executor is to be nudged.
        running: Vec<(TaskId, ExecutorId)>,
        /// Tasks that became `ready` by it, to be announced: siblings whose turn came, and the parent.
        ready: Vec<TaskFacts>,
    },
}

/// What became of an operator's wish.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operated {
    /// There is no such task.
    Unknown,
    /// It cannot be; nothing was changed.
    Refused(VerbError),
    /// The task has moved: `ready`, to be announced, or `failed`, to be reported.
    Moved {
        /// The task.
        task: TaskFacts,
        /// Tasks that became `ready` by its end, to be announced: siblings whose turn came, and the parent.
        ready: Vec<TaskFacts>,
    },
    /// A copy of the task is `ready`, to be announced.
    Copied(TaskFacts),
}

/// What an executor hears when it renews its lease.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    /// The lease is renewed.
    Held {
        /// Its running tasks that somebody wants cancelled, with the reason.
        cancels: Vec<(TaskId, String)>,
        /// How many living executors serve each queue, this one included.
        fleet: BTreeMap<QueueName, u32>,
        /// The queues that are paused.
        paused: Vec<QueueName>,
    },
    /// Its tasks were taken over after its lease had ended: cancel all, enter as a new incarnation.
    Fenced,
}

/// What was released from executors that are gone.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The executors that were found lost by this call.
    pub lost: Vec<ExecutorId>,
    /// `ready` again, to be announced; and what became `ready` because others ended.
    pub released: Vec<TaskFacts>,
    /// Delivery `once`: `failed` or `paused`.
    pub ended: Vec<TaskFacts>,
    /// Cancelled while they ran, and confirmed by their executor's end.
    pub cancelled: Vec<TaskFacts>,
}

/// What time has moved.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// `ready` now, to be announced.
    pub ready: Vec<TaskFacts>,
    /// `failed`, because their deadline passed.
    pub failed: Vec<TaskFacts>,
    /// How long until the next one is due, by the store's clock; `None` when nothing waits for a time.
    pub next_in: Option<Duration>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// In one of these states; empty: in any.
    pub states: Vec<TaskState>,
    /// In this queue.
    pub queue: Option<QueueName>,
    /// Of this action.
    pub action: Option<ActionName>,
    /// Of an action whose name begins so.
    pub action_prefix: Option<String>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
    /// Below this task.
    pub parent: Option<TaskId>,
    /// Stored before this time.
    pub created_before: Option<Timestamp>,
    /// Older than this one: the cursor.
    pub before: Option<TaskId>,
    /// How many at most.
    pub limit: usize,
}
