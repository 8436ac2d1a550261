//! What an action needs of whoever runs it: the only way from here to the store.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::{
    Failure, FanOut, FanOutPlan, LogStream, Payload, PayloadLimits, SignalName, Step, StepName,
    Submission, Task, TaskId,
};

/// What runs an action does for it. What it stores is the attempt's: once another attempt has begun, its calls never
/// return, and the action is stopped.
#[async_trait]
pub trait Host: Send + Sync {
    /// The store's time, as well as it is known here.
    fn now(&self) -> Timestamp;

    /// Waits for `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// A number from 0 to 1, evenly spread.
    fn chance(&self) -> f64;

    /// What outputs may weigh.
    fn payload_limits(&self) -> PayloadLimits;

    /// Returns when a new step may begin: not while nobody knows whether the attempt is still the task's.
    async fn may_go_on(&self);

    /// The steps that former attempts have stored.
    async fn steps(&self) -> Result<Vec<Step>, Failure>;

    /// Stores a step.
    async fn record(&self, step: Step);

    /// Takes the oldest signal `signal` for the step `step`, which ends with it as the one at `place`.
    async fn take_signal(
        &self,
        signal: &SignalName,
        step: &StepName,
        place: u32,
    ) -> Option<Payload>;

    /// Stores sub-tasks and announces them.
    async fn spawn(&self, batch: SpawnBatch) -> Result<SpawnedAs, Failure>;

    /// The counts of the sub-tasks that were spawned as `name`.
    async fn fan_out(&self, name: &StepName) -> Result<Option<FanOut>, Failure>;

    /// The sub-tasks that were spawned as `name`, from the place `from` on, at most `limit`.
    async fn spawned(&self, name: &StepName, from: u32, limit: usize)
    -> Result<Vec<Task>, Failure>;

    /// Cancels what is open of the sub-tasks that were spawned as `name`.
    async fn cancel_spawned(&self, name: &StepName) -> Result<(), Failure>;

    /// Keeps a piece of log of at most `LOG_CHUNK_BYTES_MAX` bytes. Returns once it is stored, or dropped because the
    /// attempt's log is full.
    async fn write_log(&self, stream: LogStream, text: String);

    /// Takes how much is done, and of how much if that is known, with a message for people. Never waits; of what comes
    /// faster than it can be stored the newest counts.
    fn report_progress(&self, counts: (u64, Option<u64>), message: &str);
}

/// Sub-tasks that are spawned together, or the next batch of them.
#[derive(Debug, Clone)]
pub struct SpawnBatch {
    /// The name of all of them.
    pub name: StepName,
    /// How they are run.
    pub plan: FanOutPlan,
    /// The place of the first of the batch, counted from 0.
    pub first_place: u32,
    /// The batch.
    pub submissions: Vec<Submission>,
    /// With the last batch: which of the task's steps the spawn is to end.
    pub last: Option<u32>,
}

/// What became of sub-tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnedAs {
    /// They are stored.
    Stored,
    /// The only one has the id or the key of this task, which is not one of them: nothing was stored.
    Known(TaskId),
}
