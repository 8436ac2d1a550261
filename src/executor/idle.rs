//! Ready tasks whose announcement was lost, found in the store by whoever has nothing else to do.

use std::sync::Arc;
use std::time::Duration;

use super::slots::QueueSlots;
use super::{Shared, attempt};
use crate::background::Background;
use crate::broker::Health;
use crate::domain::limits::BATCH_MAX;
use crate::store::IdleLook;

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
            () = shared.clock.sleep(pause) => {}
            () = background.stopping() => return,
        }
        for slots in &queues {
            let silence = if has_broker { SILENCE } else { Duration::ZERO };
            // While it finds some it goes on at once: a lost backlog is worked off at full speed.
            while !background.is_stopping() && look_once(&shared, slots, silence).await > 0 {}
        }
    }
}

/// One look for one queue. Answers how many tasks it found.
async fn look_once(shared: &Arc<Shared>, slots: &Arc<QueueSlots>, silence: Duration) -> usize {
    let limit = slots.free().min(BATCH_MAX);
    if limit == 0 || slots.silence(&shared.clock) < silence {
        return 0;
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
    match shared.store.claim_idle(shared.id, &look).await {
        Ok(tasks) => {
            let found = tasks.len();
            for (task, slot) in tasks.into_iter().zip(reserved) {
                let shared = Arc::clone(shared);
                shared.attempts.clone().spawn(async move {
                    attempt::run(&shared, task).await;
                    drop(slot);
                });
            }
            found
        }
        Err(error) => {
            tracing::debug!(error = %error, "The look for ready tasks failed; it is repeated soon");
            0
        }
    }
}
