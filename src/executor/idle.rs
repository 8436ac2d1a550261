//! Ready tasks whose announcement was lost, found in the store by whoever has nothing else to do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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

/// How often an idle executor looks, give or take a half.
const INTERVAL: Duration = Duration::from_secs(5);

/// How often it looks while there is no broker to announce anything.
const INTERVAL_WITHOUT_BROKER: Duration = Duration::from_millis(250);

/// Looks until the intake stops.
pub(super) async fn look(
    shared: Arc<Shared>,
    queues: Vec<Arc<QueueSlots>>,
    background: Background,
) {
    loop {
        let has_broker = matches!(*shared.broker.health().borrow(), Health::Up)
            && shared.broker.promises().announces;
        let interval = if has_broker {
            INTERVAL
        } else {
            INTERVAL_WITHOUT_BROKER
        };
        let pause = interval.mul_f64(0.5 + shared.clock.chance());
        tokio::select! {
            biased;
            () = background.stopping() => return,
            () = shared.clock.sleep(pause) => {}
        }
        // Taken back before the look: a doubt that comes during it is for the next.
        if shared.is_in_doubt.swap(false, Ordering::Relaxed) && adopt(&shared).await.is_err() {
            shared.doubt();
        }
        for slots in &queues {
            let silence = if has_broker { SILENCE } else { Duration::ZERO };
            // While it finds some it goes on at once: a lost backlog is worked off at full speed.
            while !background.is_stopping() {
                match look_once(&shared, slots, silence).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = %error, "The look for ready tasks failed; it is repeated soon");
                        shared.doubt();
                        break;
                    }
                }
            }
        }
    }
}

/// Runs what the store says this executor runs and nobody here knows of: its claim was stored, and the answer lost.
async fn adopt(shared: &Arc<Shared>) -> Result<(), StoreError> {
    for task in shared.store.owned(shared.id, TREE_MAX).await? {
        if shared.running.runs(&task) {
            continue;
        }
        let Some(hold) = shared.running.hold(task.id) else {
            shared.doubt(); // It is being claimed, or a former attempt of it comes to its end.
            continue;
        };
        // Asked again, now that it is held: it may have ended since it was listed.
        match shared.group.claim(shared.id, task.id).await? {
            Some(task) => {
                tracing::info!(task.id = %task.id, "Task `{}` was claimed and the answer lost: it runs now", task.id);
                begin(shared, task, hold, None);
            }
            None => shared.doubt(), // Or the lease is not renewed yet.
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

/// One look for one queue. Answers how many tasks it found.
async fn look_once(
    shared: &Arc<Shared>,
    slots: &Arc<QueueSlots>,
    silence: Duration,
) -> Result<usize, StoreError> {
    let limit = slots.free().min(BATCH_MAX);
    if limit == 0 || slots.silence(&shared.clock) < silence {
        return Ok(0);
    }
    let reserved: Vec<_> = std::iter::from_fn(|| slots.slot_without_delivery())
        .take(limit)
        .collect();
    let look = IdleLook {
        queue: slots.queue().clone(),
        actions: shared.registry.names().cloned().collect(),
        older_than: silence,
        limit: reserved.len(),
    };
    let tasks = shared.store.claim_idle(shared.id, &look).await?;
    let found = tasks.len();
    for (task, slot) in tasks.into_iter().zip(reserved) {
        // An announcement may have come at the same moment: whoever asked for the task by its id has it then.
        match shared.running.hold(task.id) {
            Some(hold) => begin(shared, task, hold, Some(slot)),
            None => shared.doubt(), // Or a former attempt of it is still about to end here, and asks for nothing.
        }
    }
    Ok(found)
}
