//! Ready tasks whose announcement was lost, found in the store.
//!
//! * A silent queue: whoever has nothing else to do looks for what has been ready for a while.
//! * A queue that is never silent: it is first in, first out, so what became ready long before what is being delivered just
//!   now has lost its announcement (the watermark).
//! * No broker: everything is found here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::running::Hold;
use super::slots::{QueueSlots, Slot};
use super::{Shared, attempt};
use crate::background::Background;
use crate::broker::Health;
use crate::domain::Task;
use crate::domain::limits::{BATCH_MAX, TREE_MAX};
use crate::store::{IdleLook, StoreError};

/// How long a queue must be silent, and a task ready, before the store is searched: an announcement that is
/// merely under way must not be raced.
const SILENCE: Duration = Duration::from_secs(3);

/// How long before what is delivered just now a task must have become ready to count as lost.
const LAG: Duration = Duration::from_secs(10);

/// How often an executor looks that is alone, give or take a half. In a fleet each looks as much less often, so that all
/// together look as often as one.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often an idle executor looks while there is no broker to announce anything, give or take a half.
const INTERVAL_WITHOUT_BROKER: Duration = Duration::from_millis(250);

/// How much less often it looks then when its slots are nearly all taken: those with room shall find the tasks.
const BUSY_FACTOR: f64 = 7.0;

/// Executors up to which the pauses grow: alone in serving its queue, an executor still looks every minute.
const FLEET_MAX: u32 = 12;

/// Executors that together look without a broker as often as each would alone.
const FLEET_WITHOUT_BROKER: f64 = 8.0;

/// How far a look goes back behind the end of the last one: a task may be stored by a transaction that began so long ago.
const OVERLAP: Duration = Duration::from_mins(1);

/// How often a look goes back to the beginning, for what came of still longer transactions.
const WHOLE_INTERVAL: Duration = Duration::from_mins(1);

/// The search for ready tasks of one queue.
struct Search {
    slots: Arc<QueueSlots>,
    /// What became ready before this time was looked through.
    searched_to: Option<Timestamp>,
    /// When everything was looked through, on the process's monotonic clock.
    whole_at: Option<Duration>,
}

/// Looks until the intake stops.
pub(super) async fn look(
    shared: Arc<Shared>,
    queues: Vec<Arc<QueueSlots>>,
    background: Background,
) {
    let mut is_in_doubt = false;
    let mut searches: Vec<Search> = queues.into_iter().map(Search::new).collect();
    loop {
        let has_broker = matches!(*shared.broker.health().borrow(), Health::Up)
            && shared.broker.promises().announces;
        tokio::select! {
            biased;
            () = background.stopping() => return,
            () = shared.clock.sleep(pause(&shared, &searches, has_broker)) => {}
        }
        if is_in_doubt {
            is_in_doubt = adopt(&shared).await.is_err();
        }
        for search in &mut searches {
            // While it finds some it goes on at once: a lost backlog is worked off at full speed.
            while !background.is_stopping() {
                match search.look(&shared, has_broker).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = %error, "The look for ready tasks failed; it is repeated soon");
                        is_in_doubt = true;
                        search.searched_to = None;
                        break;
                    }
                }
            }
        }
    }
}

/// How long until the next look.
fn pause(shared: &Shared, searches: &[Search], has_broker: bool) -> Duration {
    let fleet = *shared.fleet.borrow();
    let pause = if has_broker {
        INTERVAL * fleet.clamp(1, FLEET_MAX)
    } else {
        let count = |of: fn(&QueueSlots) -> usize| -> usize {
            searches.iter().map(|search| of(&search.slots)).sum()
        };
        let (all, free) = (count(QueueSlots::count), count(QueueSlots::free));
        #[expect(clippy::cast_precision_loss, reason = "slots are few")]
        let busy = 1.0 - free as f64 / all.max(1) as f64;
        let fleet = (f64::from(fleet) / FLEET_WITHOUT_BROKER).max(1.0);
        INTERVAL_WITHOUT_BROKER.mul_f64((1.0 + BUSY_FACTOR * busy) * fleet)
    };
    pause.mul_f64(0.5 + shared.clock.chance())
}

/// Runs what the store says this executor runs and nobody here knows of: its claim was stored, and the answer lost.
async fn adopt(shared: &Arc<Shared>) -> Result<(), StoreError> {
    for task in shared.store.owned(shared.id, TREE_MAX).await? {
        let Some(hold) = shared.running.hold(task.id) else {
            continue;
        };
        // Asked again, now that it is held: it may have ended since it was listed.
        if let Some(task) = shared.group.claim(shared.id, task.id).await? {
            tracing::info!(task.id = %task.id, "Task `{}` was claimed and the answer lost: it runs now", task.id);
            begin(shared, task, hold, None);
        }
    }
    Ok(())
}

/// Runs a task that no delivery brought.
fn begin(shared: &Arc<Shared>, task: Task, hold: Hold, slot: Option<Slot>) {
    let work = Arc::clone(shared);
    shared.spawn_attempt(async move {
        attempt::run(&work, task).await;
        drop((slot, hold));
    });
}

impl Search {
    fn new(slots: Arc<QueueSlots>) -> Self {
        Self {
            slots,
            searched_to: None,
            whole_at: None,
        }
    }

    /// One look. Answers how many tasks it found.
    async fn look(&mut self, shared: &Arc<Shared>, has_broker: bool) -> Result<usize, StoreError> {
        if !has_broker {
            return self
                .take(shared, self.free_slots(), Duration::ZERO, None)
                .await;
        }
        if self.slots.silence(&shared.clock) >= SILENCE {
            return self.take(shared, self.free_slots(), SILENCE, None).await;
        }
        let Some(before) = self
            .slots
            .watermark()
            .and_then(|at| at.checked_sub(LAG).ok())
        else {
            return Ok(0);
        };
        // Deliveries take every slot that becomes free; this stands in line for one of them.
        let slot = tokio::select! {
            biased;
            slot = self.slots.slot() => slot,
            () = shared.clock.sleep(INTERVAL) => None,
        };
        let slot = slot.map(|mut slot| {
            slot.let_go_of_delivery();
            slot
        });
        self.take(shared, slot.into_iter().collect(), SILENCE, Some(before))
            .await
    }

    fn free_slots(&self) -> Vec<Slot> {
        std::iter::from_fn(|| self.slots.slot_without_delivery())
            .take(BATCH_MAX)
            .collect()
    }

    /// Takes as many tasks as there are `slots`, and begins them.
    async fn take(
        &mut self,
        shared: &Arc<Shared>,
        slots: Vec<Slot>,
        older_than: Duration,
        before: Option<Timestamp>,
    ) -> Result<usize, StoreError> {
        if slots.is_empty() {
            return Ok(0);
        }
        let now = shared.clock.monotonic();
        let is_fresh = |at: Duration| {
            now.saturating_sub(at) < WHOLE_INTERVAL * (*shared.fleet.borrow()).clamp(1, FLEET_MAX)
        };
        let since = self
            .searched_to
            .filter(|_| self.whole_at.is_some_and(is_fresh));
        let look = IdleLook {
            queue: self.slots.queue().clone(),
            actions: shared.registry.names().cloned().collect(),
            older_than,
            since,
            before,
            limit: slots.len(),
        };
        let found = shared.store.claim_idle(shared.id, &look).await?;
        let count = found.tasks.len();
        if count < look.limit {
            let searched = found.looked_at.checked_sub(older_than).ok();
            let searched = searched.map(|at| before.map_or(at, |before| at.min(before)));
            self.searched_to = searched.and_then(|at| at.checked_sub(OVERLAP).ok());
            if since.is_none() {
                self.whole_at = Some(now);
            }
        }
        for (task, slot) in found.tasks.into_iter().zip(slots) {
            // An announcement may have come at the same moment: whoever asked for the task by its id has it then.
            if let Some(hold) = shared.running.hold(task.id) {
                begin(shared, task, hold, Some(slot));
            }
        }
        Ok(count)
    }
}
