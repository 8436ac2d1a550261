//! What operators do to tasks that need a human.

use super::{Client, ClientError};
use crate::domain::{HistoryEntry, Operator, Payload, TaskId, TaskState, Verb, note};
use crate::store::{Cancelled, List, Operated};
use crate::wire::EventKind;

impl Client {
    /// Lets a paused task go on. Its failures stay counted: it is one more try.
    ///
    /// # Errors
    ///
    /// [`ClientError::Store`]. A task that is unknown, or not paused, is an answer and no error.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have resumed the task; then some executor finds it.
    pub async fn resume(&self, task: TaskId, by: &Operator) -> Result<Operated, ClientError> {
        self.operate(task, &Verb::Resume, by).await
    }

    /// Lets a paused task go on without the step that failed: it counts as done and returns `output`. When no step in it
    /// failed, and it is a sub-task that its parent joins, such as a step of a workflow, it is itself that step: it
    /// succeeds with `output`, and its parent goes on.
    ///
    /// # Errors
    ///
    /// As [`Client::resume`]; [`ClientError::Payload`]: the output is longer than the limit. A task without such a step is an
    /// answer too.
    ///
    /// # Cancel safety
    ///
    /// As [`Client::resume`].
    pub async fn skip(
        &self,
        task: TaskId,
        output: Payload,
        by: &Operator,
    ) -> Result<Operated, ClientError> {
        let output = output.within(self.limits())?;
        self.operate(task, &Verb::Skip { output }, by).await
    }

    /// Lets a paused task go on as if it had never failed. Of a task that failed or was cancelled a copy is made, which runs
    /// at once: the answer has it.
    ///
    /// # Errors
    ///
    /// As [`Client::resume`]; in doubt the copy may be there, and the history of the task names it.
    ///
    /// # Cancel safety
    ///
    /// As [`Client::resume`].
    pub async fn retry(&self, task: TaskId, by: &Operator) -> Result<Operated, ClientError> {
        let inner = &self.inner;
        let verb = Verb::Retry {
            copy: TaskId::new(inner.clock.now(), inner.clock.random()),
            origin: Some(inner.origin.clone()),
        };
        self.operate(task, &verb, by).await
    }

    /// Gives up a paused task: it fails with `reason`, and the former error becomes its detail.
    ///
    /// # Errors
    ///
    /// As [`Client::resume`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have given the task up.
    pub async fn abandon(
        &self,
        task: TaskId,
        reason: &str,
        by: &Operator,
    ) -> Result<Operated, ClientError> {
        let reason = note(reason);
        self.operate(task, &Verb::Abandon { reason }, by).await
    }

    /// As [`Client::cancel`], by an operator: noted in the task's history.
    ///
    /// # Errors
    ///
    /// As [`Client::cancel`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::cancel`].
    pub async fn cancel_by(
        &self,
        task: TaskId,
        reason: &str,
        by: &Operator,
    ) -> Result<Cancelled, ClientError> {
        let answer = self.inner.store.cancel_by(task, reason, by).await?;
        self.tell_cancelled(&answer, reason).await;
        Ok(answer)
    }

    /// What operators have done to a task, and what the broker gave up on, the oldest first.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`] or [`ClientError::Store`].
    pub async fn history(&self, task: TaskId) -> Result<Vec<HistoryEntry>, ClientError> {
        let history = self.inner.store.history(task).await?;
        if history.is_empty() {
            self.task(task).await?;
        }
        Ok(history)
    }

    /// How many tasks match, counted up to `list.limit`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Store`].
    pub async fn count(&self, list: &List) -> Result<u64, ClientError> {
        Ok(self.inner.store.count(list).await?)
    }

    async fn operate(
        &self,
        task: TaskId,
        verb: &Verb,
        by: &Operator,
    ) -> Result<Operated, ClientError> {
        let inner = &self.inner;
        let answer = inner.store.operate(task, verb, by).await?;
        match (&answer, verb) {
            (Operated::Copied(copy), _) => inner.outgoing.announce(EventKind::Created, copy).await,
            (Operated::Moved { task: facts, ready }, verb) if facts.state.is_final() => {
                for woken in ready {
                    inner.outgoing.announce(EventKind::Woken, woken).await;
                }
                // An executor reports the end: results are not a web server's to say.
                let speaker = inner.outgoing.speaker();
                let signal = match verb {
                    Verb::Abandon { reason } => speaker.abandon(task, reason),
                    Verb::Resume | Verb::Skip { .. } | Verb::Retry { .. } => speaker.skipped(task),
                };
                inner.outgoing.say(signal).await;
                inner.waiters.wake(facts.id);
            }
            (Operated::Moved { task: facts, .. }, _) if facts.state == TaskState::Ready => {
                inner.outgoing.announce(EventKind::Woken, facts).await;
            }
            (Operated::Moved { .. } | Operated::Unknown | Operated::Refused(_), _) => {}
        }
        Ok(answer)
    }
}
