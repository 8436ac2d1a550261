//! What an action sees of the world.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::domain::limits::LOG_CHUNK_BYTES_MAX;
use crate::domain::{Attempt, Failure, LogStream, Submission, Task, TaskId};

/// Why an attempt is asked to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Somebody cancelled the task; the reason, for people.
    Cancelled(String),
    /// The attempt's time limit is over.
    TimeLimit,
    /// The executor lost the right to run it, or stops: another executor will run it.
    Released,
    /// The executor could not renew its lease in time: soon others may think that it is lost. Only for a task with
    /// delivery `once`; there is little time.
    LeaseEnds,
}

/// What the executor does for an action. The only thing an action needs of it.
#[async_trait]
pub trait Host: Send + Sync {
    /// Stores a sub-task of the running task and announces it.
    async fn submit_subtask(&self, id: TaskId, submission: Submission) -> Result<TaskId, Failure>;

    /// Keeps a piece of log of at most `LOG_CHUNK_BYTES_MAX` bytes. Returns once it is stored, or dropped because the
    /// attempt's log is full.
    async fn write_log(&self, stream: LogStream, text: String);

    /// Takes how much is done, and of how much if that is known, with a message for people. Never waits; of what comes
    /// faster than it can be stored the newest counts.
    fn report_progress(&self, counts: (u64, Option<u64>), message: &str);
}

/// What an action sees of the world. Clones are the same.
#[derive(Clone)]
pub struct Context {
    task: Arc<Task>,
    host: Arc<dyn Host>,
    stop: watch::Receiver<Option<Stop>>,
    subtasks: Arc<AtomicU64>,
}

impl Context {
    /// The context of one attempt of `task`, which is stopped through `stop`.
    pub fn new(task: Arc<Task>, host: Arc<dyn Host>, stop: watch::Receiver<Option<Stop>>) -> Self {
        Self {
            task,
            host,
            stop,
            subtasks: Arc::default(),
        }
    }

    /// The task that runs.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Which attempt this is, from 1. With the task's id it is the key that makes an effect outside idempotent.
    pub fn attempt(&self) -> Attempt {
        self.task.attempt
    }

    /// Resolves once the attempt is asked to stop; soon after, the action's future is dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn stopped(&self) -> Stop {
        let mut stop = self.stop.clone();
        let stopped = stop
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|stop| stop.clone());
        match stopped {
            Some(stop) => stop,
            // The executor is gone without a word: nothing will ever be asked.
            None => std::future::pending().await,
        }
    }

    /// Creates a sub-task: a task of its own, which any executor runs and which is cancelled with this one.
    ///
    /// The n-th call of each attempt names the same sub-task, so an action that runs again makes none twice, if it
    /// creates them in the same order. Give the submission an id to choose otherwise.
    ///
    /// # Errors
    ///
    /// A [`Failure`] to return: its queue or action is unknown (fatal), or the store is away (retryable).
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have created the sub-task.
    pub async fn spawn(&self, submission: Submission) -> Result<TaskId, Failure> {
        let count = self.subtasks.fetch_add(1, Ordering::Relaxed);
        let id = submission
            .id
            .unwrap_or_else(|| TaskId::of_subtask(self.task.id, &count.to_string()));
        self.host.submit_subtask(id, submission).await
    }

    /// Writes a line to the task's log. Returns once it is stored.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have written a part.
    pub async fn log(&self, line: impl fmt::Display) {
        self.write(LogStream::Log, &format!("{line}\n")).await;
    }

    /// Says how far the attempt is: how much is `done`, of how much in all if that is known, and what it is at, for
    /// people. Seen in the task and by taps, so no secrets. Say it as often as you like: the first word is stored at
    /// once, then one a second at most, and the last one always. A message of more than `PROGRESS_MESSAGE_BYTES_MAX`
    /// bytes is cut.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn progress(
        &self,
        done: u64,
        total: impl Into<Option<u64>>,
        message: impl fmt::Display,
    ) {
        self.host
            .report_progress((done, total.into()), &message.to_string());
        // So that it is stored also for an action that never waits for anything else.
        tokio::task::yield_now().await;
    }

    /// Appends `text` to the task's log, in pieces that the store takes.
    pub async fn write(&self, stream: LogStream, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.floor_char_boundary(LOG_CHUNK_BYTES_MAX));
            self.host
                .write_log(stream, piece.replace('\0', "\u{fffd}"))
                .await;
            rest = later;
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("task", &self.task.id)
            .field("attempt", &self.task.attempt)
            .finish_non_exhaustive()
    }
}
