//! Tasks that the clients of this process submit: begun here when there is room.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::running::Hold;
use super::slots::{QueueSlots, Slot};
use super::{Shared, attempt};
use crate::client::{LocalExecutor, LocalPlace};
use crate::domain::{
    Attempt, ExecutorId, QueueName, Submission, Task, TaskFacts, TaskId, TaskState,
};

/// How long a task holds its slot before the broker may lend one delivery less. Short ones are over by then, and each
/// change of the credit costs the broker a consumer.
const LET_GO_AFTER: Duration = Duration::from_millis(500);

/// This executor, for the clients of its process.
pub(super) struct Local {
    pub(super) shared: Arc<Shared>,
    pub(super) queues: BTreeMap<QueueName, Arc<QueueSlots>>,
}

struct Place {
    shared: Arc<Shared>,
    slot: Slot,
    hold: Hold,
}

impl LocalExecutor for Local {
    fn reserve(&self, id: TaskId, submission: &Submission) -> Option<Box<dyn LocalPlace>> {
        // With a parent its row would be locked before that of the executor: the other way round than in a take-over.
        let is_for_here = submission.parent.is_none()
            && submission.run_at.is_none()
            && !self.shared.intake.is_stopping()
            && self.shared.registry.has(&submission.action);
        if !is_for_here {
            return None;
        }
        let slot = self.queues.get(&submission.queue)?.free_slot()?;
        let hold = self.shared.running.hold(id)?;
        Some(Box::new(Place {
            shared: Arc::clone(&self.shared),
            slot,
            hold,
        }))
    }
}

impl LocalPlace for Place {
    fn executor(&self) -> ExecutorId {
        self.shared.id
    }

    fn begin(self: Box<Self>, task: Task, ended: Box<dyn FnOnce() + Send>) {
        let Self {
            shared,
            mut slot,
            hold,
        } = *self;
        shared.outgoing.tell_created(TaskFacts {
            state: TaskState::Ready, // As it was created, like any other.
            attempt: Attempt(0),
            ..task.facts()
        });
        let work = Arc::clone(&shared);
        shared.spawn_attempt(async move {
            let mut running = Box::pin(attempt::run(&work, task));
            tokio::select! {
                biased;
                () = &mut running => {}
                () = work.clock.sleep(LET_GO_AFTER) => {
                    slot.let_go_of_delivery();
                    running.await;
                }
            }
            drop((slot, hold));
            ended();
        });
    }

    fn in_doubt(self: Box<Self>) {
        let shared = Arc::clone(&self.shared);
        drop(self); // What is found of it must not be held any more.
        shared.doubt.notify_one();
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("executor", &self.shared.id)
            .finish_non_exhaustive()
    }
}
