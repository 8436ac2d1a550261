//! The lease of everything that runs here: one statement per interval, whatever the number of tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Shared;
use crate::action::Stop;
use crate::background::Background;
use crate::clock::Pauses;
use crate::domain::limits::{HEARTBEAT_INTERVAL, LEASE_DURATION};
use crate::store::{Renewal, StoreError};

/// How long after the last renewal what may run only once is stopped: before the lease ends, with time for
/// [`FENCE_GRACE`] and for a wake-up that comes late.
const FENCE_AFTER: Duration = Duration::from_secs(11);

/// How long such an attempt may still go on before its future is dropped.
pub(super) const FENCE_GRACE: Duration = Duration::from_secs(2);

// Two renewals may fail before anything is stopped, and all has stopped before others may take over.
const _: () = assert!(FENCE_AFTER.as_secs() > 2 * HEARTBEAT_INTERVAL.as_secs());
const _: () = assert!(FENCE_AFTER.as_secs() + FENCE_GRACE.as_secs() < LEASE_DURATION.as_secs());

/// Renews the lease until the executor is gone, and acts when that fails for too long.
pub(super) async fn keep(shared: Arc<Shared>, background: Background) {
    let (renewed, seen) = watch::channel(shared.clock.monotonic());
    tokio::select! {
        biased; // A renewal that has just been answered is seen before the fence falls.
        () = background.stopping() => {}
        () = renew_again_and_again(&shared, renewed) => {}
        () = fence(&shared, seen) => {}
    }
}

async fn renew_again_and_again(shared: &Arc<Shared>, renewed: watch::Sender<Duration>) {
    let mut pauses = Pauses::new(&shared.clock);
    let mut pause = HEARTBEAT_INTERVAL;
    let mut is_away = false;
    loop {
        shared.clock.sleep(pause).await;
        let asked_at = shared.clock.monotonic();
        match renew(shared).await {
            Ok(()) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("The store answers again; the lease is renewed");
                }
                renewed.send_replace(asked_at); // Not the time of the answer: the store counts from before that.
                pauses.reset();
                pause = HEARTBEAT_INTERVAL;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(error = %error, "The lease could not be renewed; trying again");
                }
                pause = pauses.next().min(HEARTBEAT_INTERVAL);
            }
        }
    }
}

/// Stops what may run only once when the last renewal is [`FENCE_AFTER`] ago. The other attempts go on: hours of work
/// shall survive a restart of the store, and if others have taken over, their late ends change nothing.
async fn fence(shared: &Arc<Shared>, mut renewed: watch::Receiver<Duration>) {
    loop {
        let age = shared
            .clock
            .monotonic()
            .saturating_sub(*renewed.borrow_and_update());
        tokio::select! {
            biased;
            changed = renewed.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = shared.clock.sleep(FENCE_AFTER.saturating_sub(age)) => {}
        }
        let stopped = shared.running.stop_once(&Stop::LeaseEnds);
        if stopped > 0 {
            tracing::warn!(
                tasks = stopped,
                "The lease ends: what may run only once is stopped ({stopped})"
            );
        }
        if renewed.changed().await.is_err() {
            return;
        }
    }
}

async fn renew(shared: &Arc<Shared>) -> Result<(), StoreError> {
    match shared.store.renew(shared.id, LEASE_DURATION).await? {
        Renewal::Held { cancels } => {
            for (task, reason) in cancels {
                shared.running.stop(task, Stop::Cancelled(reason));
            }
        }
        Renewal::Fenced => {
            tracing::warn!(
                "The lease had ended: what ran here was taken over, its attempts are stopped"
            );
            shared.running.stop_all(&Stop::Released);
            // Safe under the same id: what is claimed from now on has a newer attempt, the token of every write.
            shared.store.enroll(&shared.record, LEASE_DURATION).await?;
        }
    }
    Ok(())
}
