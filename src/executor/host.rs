//! What an executor does for the actions it runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};

use super::Shared;
use super::progress::ProgressKeeper;
use crate::action::{Host, SpawnBatch, SpawnedAs, Stop};
use crate::domain::limits::{BATCH_MAX, LOG_BYTES_MAX};
use crate::domain::{
    Failure, FanOut, FanOutPlace, LogChunk, LogPosition, LogStream, NewTask, Payload,
    PayloadLimits, SignalName, Step, StepName, StepRecord, Submission, Task, TaskId,
};
use crate::store::{CancelSpawned, Recorded, Spawn, Spawned, StoreError, TakeSignal, TookSignal};
use crate::wire::EventKind;

/// Why what was spawned together is cancelled.
const SIBLINGS_FAILED: &str = "too many of its siblings have failed";

/// The host of one attempt.
pub(super) struct AttemptHost {
    shared: Arc<Shared>,
    task: Arc<Task>,
    /// When the attempt was begun, on the process's monotonic clock: the store's clock goes on from `started_at`.
    begun_at: Duration,
    /// Bytes of log so far, kept or not.
    logged: AtomicU64,
    progress: ProgressKeeper,
    /// What is stored of the task and cannot be read.
    unreadable: watch::Sender<Option<Failure>>,
}

impl AttemptHost {
    pub(super) fn new(shared: Arc<Shared>, task: Arc<Task>) -> Self {
        Self {
            begun_at: shared.clock.monotonic(),
            progress: ProgressKeeper::new(Arc::clone(&shared), Arc::clone(&task)),
            shared,
            task,
            logged: AtomicU64::new(0),
            unreadable: watch::Sender::new(None),
        }
    }

    /// Returns when something that is stored of the task could not be read, and what. Never otherwise.
    pub(super) async fn unreadable(&self) -> Failure {
        let mut unreadable = self.unreadable.subscribe();
        let found = unreadable.wait_for(Option::is_some).await;
        match found.ok().and_then(|found| found.clone()) {
            Some(failure) => failure,
            None => self.stopped().await, // Never: the sender lives as long as the host.
        }
    }

    /// How far the attempt says that it is.
    pub(super) fn progress(&self) -> &ProgressKeeper {
        &self.progress
    }

    /// Asks the store until it has answered. Never returns when the executor stops meanwhile, nor when what is stored
    /// cannot be read: then the attempt ends, and its task waits for an operator.
    ///
    /// The question goes on beside the action: one that is not polled any more, or dropped, must neither keep a connection
    /// of the store nor leave a transaction in its middle.
    async fn ask<T, R>(
        &self,
        ask: impl Fn(Arc<Shared>) -> R + Send + Sync + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        R: Future<Output = Result<T, StoreError>> + Send,
    {
        let (answer, answered) = oneshot::channel();
        let (shared, task) = (Arc::clone(&self.shared), self.task.id);
        self.shared.attempts.spawn(async move {
            let asked = shared
                .until_answered(task, || ask(Arc::clone(&shared)))
                .await;
            if let Some(asked) = asked {
                drop(answer.send(asked)); // Nobody waits any more: the action was dropped.
            }
        });
        match answered.await {
            Ok(Err(error @ StoreError::Corrupt { .. })) => self.cannot_be_read(error).await,
            Ok(answer) => Ok(answer?),
            Err(_) => self.stopped().await,
        }
    }

    /// The attempt is not the task's any more: whatever it waits for will not come.
    async fn stale<T>(&self) -> T {
        self.shared.running.stop(self.task.id, Stop::Released);
        self.stopped().await
    }

    /// What is stored cannot be read: the attempt ends by it.
    async fn cannot_be_read<T>(&self, error: StoreError) -> T {
        self.unreadable.send_replace(Some(Failure::fatal(error)));
        self.stopped().await
    }

    async fn stopped<T>(&self) -> T {
        std::future::pending().await
    }

    /// The sub-task that `submission` makes.
    fn subtask(
        &self,
        submission: Submission,
        name: &StepName,
        place: u32,
    ) -> Result<NewTask, Failure> {
        let submission = Submission {
            parent: Some(self.task.id),
            ..submission
        };
        let submission = submission
            .checked(self.shared.limits)
            .map_err(|error| Failure::fatal(sentence(&error)))?;
        let id = submission
            .id
            .unwrap_or_else(|| TaskId::of_subtask(self.task.id, &format!("{name}/{place}")));
        Ok(NewTask {
            id,
            origin: self.task.origin.clone(),
            submission,
            fan_out: Some(FanOutPlace {
                parent: self.task.id,
                name: name.clone(),
                place,
            }),
        })
    }

    /// The task `known`, which has the id or the idempotency key of `submission`, if it is the same wish.
    async fn same(&self, submission: &Submission, known: TaskId) -> Result<SpawnedAs, Failure> {
        let submission = submission.clone();
        let ask = move |shared: Arc<Shared>| {
            let submission = submission.clone();
            async move { shared.group.differences(&submission, known).await }
        };
        let differences = self.ask(ask).await?;
        match differences.first() {
            None => Ok(SpawnedAs::Known(known)),
            Some(difference) => Err(Failure::fatal(format_args!(
                "the idempotency key of the sub-task belongs to the task `{known}`, which differs in `{}`",
                difference.field
            ))),
        }
    }
}

#[async_trait]
impl Host for AttemptHost {
    fn now(&self) -> Timestamp {
        let elapsed = self.shared.clock.monotonic().saturating_sub(self.begun_at);
        let started = self.task.started_at.unwrap_or(Timestamp::UNIX_EPOCH);
        started.saturating_add(elapsed).unwrap_or(Timestamp::MAX)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.shared.clock.sleep(duration)
    }

    fn chance(&self) -> f64 {
        self.shared.clock.chance()
    }

    fn payload_limits(&self) -> PayloadLimits {
        self.shared.limits
    }

    async fn may_go_on(&self) {
        self.shared.running.unfenced().await;
    }

    async fn steps(&self) -> Result<Vec<Step>, Failure> {
        let task = self.task.id;
        self.ask(move |shared| async move { shared.store.steps(task).await })
            .await
    }

    async fn record(&self, step: Step) {
        let record = StepRecord {
            task: self.task.id,
            attempt: self.task.attempt,
            step,
        };
        let ask = move |shared: Arc<Shared>| {
            let record = record.clone();
            async move { shared.group.record(shared.id, record).await }
        };
        match self.ask(ask).await {
            Ok(Recorded::Stored) => {}
            Ok(Recorded::Stale) => self.stale().await,
            Err(failure) => {
                // Whether it is stored nobody knows: the next attempt will see.
                tracing::error!(task.id = %self.task.id, error = failure.message, "A step of task `{}` cannot be stored", self.task.id);
                self.stale::<()>().await;
            }
        }
    }

    async fn take_signal(
        &self,
        signal: &SignalName,
        step: &StepName,
        place: u32,
    ) -> Option<Payload> {
        let wish = TakeSignal {
            task: self.task.id,
            attempt: self.task.attempt,
            signal: signal.clone(),
            step: step.clone(),
            place,
        };
        let ask = move |shared: Arc<Shared>| {
            let wish = wish.clone();
            async move { shared.store.take_signal(shared.id, &wish).await }
        };
        match self.ask(ask).await {
            Ok(TookSignal::Taken(payload)) => Some(payload),
            Ok(TookSignal::NoneYet) => None,
            Ok(TookSignal::Stale) => self.stale().await,
            Err(failure) => {
                tracing::error!(task.id = %self.task.id, error = failure.message, "A signal of task `{}` cannot be taken", self.task.id);
                self.stale().await
            }
        }
    }

    async fn spawn(&self, batch: SpawnBatch) -> Result<SpawnedAs, Failure> {
        let SpawnBatch {
            name,
            plan,
            first_place,
            submissions,
            last,
        } = batch;
        let numbered = submissions.into_iter().zip(first_place..);
        let subtasks = numbered.map(|(submission, place)| self.subtask(submission, &name, place));
        let spawn = Arc::new(Spawn {
            parent: self.task.id,
            attempt: self.task.attempt,
            subtasks: subtasks.collect::<Result<_, _>>()?,
            name,
            plan,
            place: last,
        });
        let batch = Arc::clone(&spawn);
        let ask = move |shared: Arc<Shared>| {
            let batch = Arc::clone(&batch);
            async move { shared.store.spawn(shared.id, &batch).await }
        };
        match self.ask(ask).await? {
            Spawned::Stored(ready) => {
                for facts in &ready {
                    let outgoing = &self.shared.outgoing;
                    outgoing.announce(EventKind::Created, facts).await;
                }
                Ok(SpawnedAs::Stored)
            }
            Spawned::Known(facts) => match spawn.subtasks.as_slice() {
                [only] => self.same(&only.submission, facts.id).await,
                _ => Ok(SpawnedAs::Known(facts.id)),
            },
            Spawned::Refused(refusal) => Err(Failure::fatal(refusal)),
            Spawned::Stale => self.stale().await,
        }
    }

    async fn fan_out(&self, name: &StepName) -> Result<Option<FanOut>, Failure> {
        let (task, name) = (self.task.id, name.clone());
        let ask = move |shared: Arc<Shared>| {
            let name = name.clone();
            async move { shared.store.fan_out(task, &name).await }
        };
        self.ask(ask).await
    }

    async fn spawned(
        &self,
        name: &StepName,
        from: u32,
        limit: usize,
    ) -> Result<Vec<Task>, Failure> {
        let (task, name) = (self.task.id, name.clone());
        let ask = move |shared: Arc<Shared>| {
            let name = name.clone();
            async move { shared.store.spawned(task, &name, from, limit).await }
        };
        let listed = self.ask(ask).await?;
        match listed.unreadable.into_iter().next() {
            Some(row) => self.cannot_be_read(row.error).await,
            None => Ok(listed.tasks),
        }
    }

    async fn cancel_spawned(&self, name: &StepName) -> Result<(), Failure> {
        loop {
            let wish = CancelSpawned {
                parent: self.task.id,
                attempt: self.task.attempt,
                name: name.clone(),
                reason: SIBLINGS_FAILED.to_owned(),
            };
            let ask = move |shared: Arc<Shared>| {
                let wish = wish.clone();
                async move {
                    let store = &shared.store;
                    store.cancel_spawned(shared.id, &wish, BATCH_MAX).await
                }
            };
            let Some(below) = self.ask(ask).await? else {
                return self.stale().await;
            };
            let has_more = below.has_more;
            self.shared.tell_of_below(below, SIBLINGS_FAILED).await;
            if !has_more {
                return Ok(());
            }
        }
    }

    async fn write_log(&self, stream: LogStream, text: String) {
        let length = text.len() as u64;
        let offset = self.logged.fetch_add(length, Ordering::Relaxed);
        let full = LOG_BYTES_MAX as u64;
        let text = match (offset > full, offset + length > full) {
            (true, _) => return, // What is said no longer matters as much as the room it takes.
            (false, true) => "\n-- the log is full: what follows is not kept --\n".to_owned(),
            (false, false) => text,
        };
        let position = LogPosition {
            attempt: self.task.attempt,
            offset,
        };
        let chunk = LogChunk {
            task: self.task.id,
            position,
            stream,
            at: self.shared.clock.now(),
            text,
        };
        if let Err(error) = self.shared.logs.call(chunk).await {
            tracing::debug!(task.id = %self.task.id, error = %error, "A piece of log of task `{}` is lost", self.task.id);
        }
    }

    fn report_progress(&self, counts: (u64, Option<u64>), message: &str) {
        self.progress.say(counts, message);
    }
}

fn sentence(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
