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
    slot: Slot,
    hold: Hold,
    /// Dropped behind the others: what is found of the task must not be held any more.
    doubt: Doubt,
}

/// Whether the store has given a task to this executor: not known. Dropped so, the executor looks.
struct Doubt {
    shared: Arc<Shared>,
    is_over: bool,
}

impl Doubt {
    /// The store has answered.
    fn end(mut self) -> Arc<Shared> {
        self.is_over = true;
        Arc::clone(&self.shared)
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.is_over {
            self.shared.doubt.notify_one();
        }
    }
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
            slot,
            hold,
            doubt: Doubt {
                shared: Arc::clone(&self.shared),
                is_over: false,
            },
        }))
    }
}

impl LocalPlace for Place {
    fn executor(&self) -> ExecutorId {
        self.doubt.shared.id
    }

    fn begin(self: Box<Self>, task: Task, ended: Box<dyn FnOnce() + Send>) {
        let Self {
            mut slot,
            hold,
            doubt,
        } = *self;
        let shared = doubt.end();
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

    fn let_go(self: Box<Self>) {
        drop(self.doubt.end());
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("executor", &self.shared.id)
            .finish_non_exhaustive()
    }
}
