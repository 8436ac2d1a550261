//! Why a task is where it is: what the store and the broker know around it.

use jiff::Timestamp;

use super::{Client, ClientError};
use crate::broker::Health;
use crate::domain::limits::AHEAD_MAX;
use crate::domain::{
    Announcements, Circumstances, FanOut, HistoryKind, StepName, StepProgress, Task, TaskId,
    TaskState, Why, why,
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
        let (ahead, queue) = if task.state == TaskState::Ready {
            let queues = store.queues().await?;
            let queue = queues.into_iter().find(|queue| queue.name == task.queue);
            (store.ahead(task.id, AHEAD_MAX).await?, queue)
        } else {
            (0, None)
        };
        let (fan_outs, wakes_at) = self.waits_of(&task).await?;
        let circumstances = Circumstances {
            fan_outs,
            wakes_at,
            executors: store.executors().await?,
            ahead,
            running: queue.as_ref().map_or(0, |queue| queue.running),
            paused: queue.and_then(|queue| queue.paused),
            announcements: self.announcements(),
            now: store.identity().await?.now, // Last, so that nothing above happened after it.
        };
        let mut why = why(&task, &circumstances);
        // What an operator did last explains more than all that came before; and what the broker gave up on, why nobody comes.
        let history = store.history(task.id).await?;
        let (by_broker, by_operators): (Vec<_>, Vec<_>) = history
            .iter()
            .partition(|entry| entry.what == HistoryKind::DeadLettered);
        let told = by_operators.last().into_iter().chain(by_broker.last());
        why.evidence.extend(told.map(|entry| entry.sentence()));
        Ok((task, why))
    }

    /// The sub-tasks that matter to a task that waits, and when its timer wakes it.
    async fn waits_of(
        &self,
        task: &Task,
    ) -> Result<(Vec<(StepName, FanOut)>, Option<Timestamp>), ClientError> {
        let store = self.store();
        let mut fan_outs = Vec::new();
        if let (TaskState::Blocked, Some(place)) = (task.state, &task.fan_out) {
            let counts = store.fan_out(place.parent, &place.name).await?;
            fan_outs.extend(counts.map(|counts| (place.name.clone(), counts)));
        }
        let Some(waiting_for) = &task.waiting_for else {
            return Ok((fan_outs, None));
        };
        for name in &waiting_for.fan_outs {
            let counts = store.fan_out(task.id, name).await?;
            fan_outs.extend(counts.map(|counts| (name.clone(), counts)));
        }
        let mut wakes_at = None;
        if waiting_for.has_timer {
            let steps = store.steps(task.id).await?;
            let due = steps.into_iter().filter_map(|step| match step.progress {
                StepProgress::Waiting { due_at, .. } => Some(due_at),
                StepProgress::Ended { .. } => None,
            });
            wakes_at = due.min();
        }
        Ok((fan_outs, wakes_at))
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
