//! Death notices: the broker tells that an executor's connection ended without a farewell. Whether the executor is dead too
//! only its lease can say.
//!
//! An executor that lives renews its lease several times a second as long as its connection is in question. So whoever
//! reads the notice looks twice, and ends the lease of one that has not moved.

use std::sync::Arc;
use std::time::Duration;

use super::House;
use crate::background::Background;
use crate::broker::topology::dead_executor;
use crate::broker::{Credit, Deliveries, Delivery};
use crate::domain::ExecutorId;
use crate::domain::limits::BATCH_MAX;
use crate::store::StoreError;

/// Notices that are judged at a time: a host with many executors may die.
pub(super) const CREDIT: Credit = 64;

/// How long an executor has to show that it lives: at least two of its renewals.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long the store must have answered: after an outage the living need a moment to reach it again.
const STEADY_DURATION: Duration = Duration::from_secs(5);

/// Judges each notice, until `background` stops.
pub(super) async fn hear(house: Arc<House>, mut notices: Deliveries, background: Background) {
    loop {
        let notice = tokio::select! {
            biased;
            () = background.stopping() => return,
            notice = notices.next() => notice,
        };
        let Some(notice) = notice else { return };
        let house = Arc::clone(&house);
        let stop = background.clone();
        background.spawn(async move {
            tokio::select! {
                biased;
                // Unsettled: another executor gets it.
                () = stop.stopping() => {}
                () = judge(&house, notice) => {}
            }
        });
    }
}

async fn judge(house: &House, notice: Delivery) {
    let Some(executor) = dead_executor(&notice.key) else {
        tracing::warn!(
            message.key = notice.key,
            "A death notice names no executor: to the dead"
        );
        return notice.reject();
    };
    if let Err(error) = end(house, executor).await {
        tracing::debug!(executor.id = %executor, error = %error, "A death notice could not be judged; the lease ends by itself");
    }
    notice.ack();
}

/// Ends the lease of an executor that does not renew it, and takes over what it ran.
async fn end(house: &House, executor: ExecutorId) -> Result<(), StoreError> {
    let Some(ends_at) = house.store.lease_end(executor).await? else {
        return Ok(()); // It said farewell, or was found lost before.
    };
    let steady_in = STEADY_DURATION.saturating_sub(house.answers_for());
    house.clock.sleep(PATIENCE.max(steady_in)).await;
    if !house.store.end_lease(executor, ends_at).await? {
        return Ok(()); // It lives, or another was faster.
    }
    // Of this one only: after an outage of the store the leases of others may look ended that are not.
    while house.take_over(Some(executor)).await? >= BATCH_MAX {}
    Ok(())
}
