//! What an executor does for the actions it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;

use super::Shared;
use super::progress::ProgressKeeper;
use crate::action::Host;
use crate::domain::limits::LOG_BYTES_MAX;
use crate::domain::{
    Failure, LogChunk, LogPosition, LogStream, NewTask, Submission, Task, TaskId, TaskState,
};
use crate::store::Submitted;
use crate::wire::EventKind;

/// The host of one attempt.
pub(super) struct AttemptHost {
    shared: Arc<Shared>,
    task: Arc<Task>,
    /// Bytes of log so far, kept or not.
    logged: AtomicU64,
    progress: ProgressKeeper,
}

impl AttemptHost {
    pub(super) fn new(shared: Arc<Shared>, task: Arc<Task>) -> Self {
        Self {
            progress: ProgressKeeper::new(Arc::clone(&shared), Arc::clone(&task)),
            shared,
            task,
            logged: AtomicU64::new(0),
        }
    }

    /// How far the attempt says that it is.
    pub(super) fn progress(&self) -> &ProgressKeeper {
        &self.progress
    }
}

impl AttemptHost {
    /// The task `known`, which has the idempotency key of `submission`, if it is the same wish.
    async fn same(&self, submission: &Submission, known: TaskId) -> Result<TaskId, Failure> {
        let differences = self.shared.group.differences(submission, known).await?;
        match differences.first() {
            None => Ok(known),
            Some(difference) => Err(Failure::fatal(format_args!(
                "the idempotency key of the sub-task belongs to the task `{known}`, which differs in `{}`",
                difference.field
            ))),
        }
    }
}

#[async_trait]
impl Host for AttemptHost {
    async fn submit_subtask(&self, id: TaskId, submission: Submission) -> Result<TaskId, Failure> {
        let submission = Submission {
            parent: Some(self.task.id),
            ..submission
        };
        let submission = submission
            .checked(self.shared.limits)
            .map_err(|error| Failure::fatal(sentence(&error)))?;
        let task = NewTask {
            id,
            origin: self.task.origin.clone(),
            submission: submission.clone(),
        };
        // Its id makes it the same sub-task however often it is submitted, so a store that is away is waited for: it
        // is no failure of the action.
        let submit = || self.shared.group.submit(task.clone());
        let Some(submitted) = self.shared.until_answered(id, submit).await else {
            return Err(Failure::retry("the executor stops"));
        };
        let facts = match submitted? {
            Submitted::Stored(facts) => facts,
            Submitted::Known(facts) if facts.id == id => facts,
            // Somebody else made it, with the same idempotency key.
            Submitted::Known(facts) => return self.same(&submission, facts.id).await,
            Submitted::Refused(refusal) => return Err(Failure::fatal(refusal)),
        };
        // Known before, by a try whose answer was lost or by a former attempt: whether it was announced, nobody knows.
        if [TaskState::Ready, TaskState::Scheduled].contains(&facts.state) {
            let outgoing = &self.shared.outgoing;
            outgoing.announce(EventKind::Created, &facts).await;
        }
        Ok(id)
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
