//! What an action sees of the world.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

use super::durable::Journal;
use super::host::Host;
use crate::domain::limits::LOG_CHUNK_BYTES_MAX;
use crate::domain::{Attempt, LogStream, Task};

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

/// What an action sees of the world. Clones are the same.
#[derive(Clone)]
pub struct Context {
    task: Arc<Task>,
    host: Arc<dyn Host>,
    stop: watch::Receiver<Option<Stop>>,
    journal: Arc<Journal>,
}

impl Context {
    /// The context of one attempt of `task`, which is stopped through `stop`.
    pub fn new(task: Arc<Task>, host: Arc<dyn Host>, stop: watch::Receiver<Option<Stop>>) -> Self {
        let may_be_stored = task.attempt > Attempt(1);
        Self {
            task,
            journal: Journal::new(Arc::clone(&host), may_be_stored),
            host,
            stop,
        }
    }

    /// The steps of this attempt: for whoever drives the action.
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The task that runs.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Which attempt this is, from 1. It grows with each run, also when the task was only woken: an effect outside is made
    /// idempotent by the task's id and the step's name.
    pub fn attempt(&self) -> Attempt {
        self.task.attempt
    }

    /// Resolves once the attempt is asked to stop; soon after, the action's future is dropped.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn stopped(&self) -> Stop {
        // Asked by whoever drives the action it holds no waker, so that it does not keep a task loaded that only waits.
        self.journal.until_stopped().await;
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
