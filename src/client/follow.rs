//! Reading a task's log while it grows.

use std::sync::Arc;
use std::time::Duration;

use super::ClientError;
use crate::clock::Clock;
use crate::domain::{Attempt, LogChunk, LogPosition, Task, TaskId, TaskState};
use crate::store::Store;

/// How often a log is read on while it grows: a person does not read faster.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Log chunks that are read at once.
const LOG_PAGE: usize = 500;

/// What a follower finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// What was written since, in order.
    Chunks(Vec<LogChunk>),
    /// The task is final, and all of its log was read.
    Ended(Box<Task>),
}

/// Reads a task's log to its end, also while it grows. It needs the store only.
#[derive(Debug)]
pub struct LogFollower {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    task: TaskId,
    after: Option<LogPosition>,
    /// The task, once it is final.
    ended: Option<Box<Task>>,
    /// The chunk behind a gap that was waited for.
    waited_for: Option<LogPosition>,
}

impl LogFollower {
    /// Begins to read the log of `task` at the beginning, or after a position.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        task: TaskId,
        after: Option<LogPosition>,
    ) -> Self {
        Self {
            store,
            clock,
            task,
            after,
            ended: None,
            waited_for: None,
        }
    }

    /// Waits for what is written next, or for the end of the task.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`]: there is no such task (any more). [`ClientError::Store`]: call again, and nothing is
    /// missed.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped call has read nothing.
    pub async fn next(&mut self) -> Result<Followed, ClientError> {
        loop {
            // First the end, then the log: what was written before the end is read behind it.
            if self.ended.is_none() {
                self.ended = self.final_task().await?;
            }
            let chunks = self.store.logs(self.task, self.after, LOG_PAGE).await?;
            let chunks = self.without_gap(chunks);
            if let Some(last) = chunks.last() {
                self.after = Some(last.end());
                return Ok(Followed::Chunks(chunks));
            }
            match &self.ended {
                Some(task) => return Ok(Followed::Ended(task.clone())),
                None => self.clock.sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Reads the whole task only when it may be final.
    async fn final_task(&self) -> Result<Option<Box<Task>>, ClientError> {
        if self.store.ended(&[self.task]).await?.is_empty() {
            return Ok(None);
        }
        let task = self.store.task(self.task).await?;
        let task = task.ok_or(ClientError::Unknown(self.task))?;
        Ok(TaskState::is_final(task.state).then(|| Box::new(task)))
    }

    /// The chunks before the first gap: what is written by two hands at once may be stored in another order. A gap that is
    /// still there at the next look stays: what was there is lost.
    fn without_gap(&mut self, mut chunks: Vec<LogChunk>) -> Vec<LogChunk> {
        if self.ended.is_some() {
            return chunks;
        }
        let mut before = self.after;
        for (index, chunk) in chunks.iter().enumerate() {
            let begin = chunk.position;
            if !follows(before, begin) && self.waited_for != Some(begin) {
                self.waited_for = Some(begin);
                chunks.truncate(index);
                break;
            }
            before = Some(chunk.end());
        }
        chunks
    }
}

/// Whether a chunk that begins at `begin` is the next one after what ended at `before`.
fn follows(before: Option<LogPosition>, begin: LogPosition) -> bool {
    let before = before.unwrap_or(LogPosition {
        attempt: Attempt(0),
        offset: 0,
    });
    if before.attempt == begin.attempt {
        before.offset == begin.offset
    } else {
        begin.offset == 0
    }
}
