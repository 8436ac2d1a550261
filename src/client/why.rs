//! Why a task is where it is: what the store and the broker know around it.

use super::{Client, ClientError};
use crate::broker::Health;
use crate::domain::limits::AHEAD_MAX;
use crate::domain::{
    Announcements, Circumstances, HistoryEntry, Task, TaskId, TaskState, Why, why,
};

impl Client {
    /// Why a task is where it is, for people; with the task that this was said of. Reads what it needs one after the
    /// other, so a task that moves meanwhile may be told what was so a moment ago.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`] or [`ClientError::Store`].
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn why(&self, task: TaskId) -> Result<(Task, Why), ClientError> {
        let task = self.task(task).await?;
        let store = self.store();
        // What concerns a `ready` task only costs a look at many others.
        let (ahead, running) = if task.state == TaskState::Ready {
            let queues = store.queues().await?;
            let queue = queues.into_iter().find(|queue| queue.name == task.queue);
            let running = queue.map_or(0, |queue| queue.running);
            (store.ahead(task.id, AHEAD_MAX).await?, running)
        } else {
            (0, 0)
        };
        let circumstances = Circumstances {
            executors: store.executors().await?,
            ahead,
            running,
            announcements: self.announcements(),
            now: store.identity().await?.now, // Last, so that nothing above happened after it.
        };
        let mut why = why(&task, &circumstances);
        // What an operator did last explains more than all that came before.
        let history = store.history(task.id).await?;
        why.evidence
            .extend(history.last().map(HistoryEntry::sentence));
        Ok((task, why))
    }

    fn announcements(&self) -> Announcements {
        let broker = &self.inner.broker;
        if !broker.promises().announces {
            return Announcements::Unused;
        }
        match broker.health().borrow().clone() {
            Health::Up => Announcements::Travel,
            Health::Blocked(reason) => {
                Announcements::Held(format!("it takes no messages: {reason}"))
            }
            Health::Down(reason) => Announcements::Held(format!("it is away: {reason}")),
        }
    }
}
