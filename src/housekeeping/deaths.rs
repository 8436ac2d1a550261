//! Deaths of executors, found before their leases end.
//!
//! * Death notices: the broker tells that an executor's connection ended without a farewell.
//! * Silence: of an executor that holds no token, because its broker is away, nobody would tell; the store knows which.
//!
//! Either way only the lease can say whether the executor is dead. One that lives renews it several times a second as long
//! as its connection is in question. So whoever suspects it looks twice, and ends the lease of one that has not moved.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};

use super::House;
use crate::background::Background;
use crate::broker::topology::dead_executor;
use crate::broker::{Credit, Deliveries, Delivery};
use crate::clock::Pauses;
use crate::domain::ExecutorId;
use crate::domain::limits::{BATCH_MAX, LEASE_DURATION};
use crate::store::StoreError;

/// Notices that are judged at a time: a host with many executors may die.
pub(super) const CREDIT: Credit = 64;

/// How long an executor has to show that it lives: at least two of its renewals.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long one has to that is merely silent: with [`SILENCE`] longer than a renewal waits for a connection to the store.
const PATIENCE_WITH_SILENCE: Duration = Duration::from_secs(3);

/// For how long the store must have answered: after an outage the living need a moment to reach it again.
const STEADY_DURATION: Duration = Duration::from_secs(5);

/// How long a notice is kept while the store is away. After that the lease ends by itself: the broker asks for an answer.
const JUDGING_DURATION_MAX: Duration = Duration::from_mins(1);

/// How long a lease is not renewed until its executor counts as silent: three renewals are missing.
const SILENCE: Duration = Duration::from_secs(1);

/// What is left of the lease of an executor that counts as silent.
pub(super) const LEASE_LEFT_OF_SILENT: Duration = LEASE_DURATION.saturating_sub(SILENCE);

/// Silent executors that are judged at a time.
const AT_ONCE: usize = 16;

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

/// Judges executors that were silent, beside everything else, until `background` stops. Does nothing while others are being
/// judged: who is still silent then is seen again.
pub(super) fn suspect(house: &Arc<House>, silent: Vec<ExecutorId>, background: &Background) {
    if silent.is_empty() {
        return;
    }
    let Ok(turn) = Arc::clone(&house.judging).try_acquire_owned() else {
        return;
    };
    let (house, stop) = (Arc::clone(house), background.clone());
    background.spawn(async move {
        tokio::select! {
            biased;
            () = stop.stopping() => {}
            judged = judge_the_silent(&house, silent) => if let Err(error) = judged {
                house.has_failed();
                tracing::debug!(error = %error, "Silent executors could not be judged; it is repeated soon");
            }
        }
        drop(turn);
    });
}

async fn judge_the_silent(house: &House, silent: Vec<ExecutorId>) -> Result<(), StoreError> {
    let judged = stream::iter(silent)
        .map(|executor| end(house, executor, PATIENCE_WITH_SILENCE))
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    judged.await.into_iter().collect()
}

async fn judge(house: &House, notice: Delivery) {
    let Some(executor) = dead_executor(&notice.key) else {
        tracing::warn!(
            message.key = notice.key,
            "A death notice names no executor: to the dead"
        );
        return notice.reject();
    };
    let heard_at = house.clock.monotonic();
    let mut pauses = Pauses::new(&house.clock);
    while let Err(error) = end(house, executor, PATIENCE).await {
        house.has_failed();
        let waited = house.clock.monotonic().saturating_sub(heard_at);
        if !error.is_transient() || waited > JUDGING_DURATION_MAX {
            tracing::debug!(executor.id = %executor, error = %error, "A death notice could not be judged; the lease ends by itself");
            break;
        }
        house.clock.sleep(pauses.next()).await;
    }
    notice.ack();
}

/// Ends the lease of an executor that does not renew it for `patience`, and takes over what it ran. It may be repeated.
async fn end(house: &House, executor: ExecutorId, patience: Duration) -> Result<(), StoreError> {
    // None: it said farewell, or was found lost or dead before; then there may be something left to take over.
    if let Some(ends_at) = house.store.lease_end(executor).await? {
        let steady_in = STEADY_DURATION.saturating_sub(house.is_steady_for());
        house.clock.sleep(patience.max(steady_in)).await;
        if !house.store.end_lease(executor, ends_at).await? {
            return Ok(()); // It lives, or another was faster.
        }
    }
    // Of this one only: after an outage of the store the leases of others may look ended that are not.
    while house.take_over(Some(executor)).await? >= BATCH_MAX {}
    Ok(())
}
