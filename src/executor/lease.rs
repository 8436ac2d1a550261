//! The lease of everything that runs here: one statement per interval, whatever the number of tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Shared;
use crate::action::Stop;
use crate::background::Background;
use crate::broker::Health;
use crate::clock::Pauses;
use crate::domain::limits::{HEARTBEAT_INTERVAL, LEASE_DURATION};
use crate::store::{Renewal, Store, StoreError};

/// How long after the last renewal what may run only once is stopped: before the lease ends, with time for
/// [`FENCE_GRACE`] and for a wake-up that comes late.
const FENCE_AFTER: Duration = Duration::from_secs(11);

/// The longest pause before a renewal that failed is tried again: when the store is back, everybody shall show soon that
/// they live.
const RETRY_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// How long such an attempt may still go on before its future is dropped.
pub(super) const FENCE_GRACE: Duration = Duration::from_secs(2);

// Two renewals may fail before anything is stopped, and all has stopped before others may take over.
const _: () = assert!(FENCE_AFTER.as_secs() > 2 * HEARTBEAT_INTERVAL.as_secs());
const _: () = assert!(FENCE_AFTER.as_secs() + FENCE_GRACE.as_secs() < LEASE_DURATION.as_secs());

/// How often the lease is renewed while the broker may think this executor dead: who reads the notice waits a second for
/// a renewal.
const HASTE_INTERVAL: Duration = Duration::from_millis(300);

/// How long after a change of its connection an executor shows that it lives. The broker may notice the end of the former
/// connection by three of its heartbeats only (30 s), long after the executor has the next; then the notice is judged.
const HASTE_DURATION: Duration = Duration::from_secs(40);

/// How often the threads that all others share show that they are not blocked.
const PULSE_INTERVAL: Duration = Duration::from_secs(5);

/// After how long without a pulse the broker may soon find the connection dead, which those threads keep alive.
const PULSE_MAX: Duration = Duration::from_secs(10);

/// Shows that the threads that all others share go on.
pub(super) async fn pulse(shared: Arc<Shared>, background: Background) {
    loop {
        shared.pulse.send_replace(shared.clock.monotonic());
        tokio::select! {
            biased;
            () = background.stopping() => return,
            () = shared.clock.sleep(PULSE_INTERVAL) => {}
        }
    }
}

/// Renews the lease of an executor that asked to be entered at `entered_at` until it is gone, and acts when that fails for too long. By a store of its own: neither a
/// busy store nor blocked threads may delay it.
pub(super) async fn keep(
    shared: Arc<Shared>,
    store: Arc<dyn Store>,
    entered_at: Duration,
    background: Background,
) {
    let (renewed, seen) = watch::channel(entered_at);
    tokio::select! {
        biased; // A renewal that has just been answered is seen before the fence falls.
        () = background.stopping() => {}
        () = renew_again_and_again(&shared, &store, renewed) => {}
        () = fence(&shared, seen) => {}
    }
    store.close().await;
}

async fn renew_again_and_again(
    shared: &Arc<Shared>,
    store: &Arc<dyn Store>,
    renewed: watch::Sender<Duration>,
) {
    let mut pauses = Pauses::new(&shared.clock);
    let mut pause = HEARTBEAT_INTERVAL;
    let mut health = shared.broker.health();
    let mut tokens = shared.token.losses();
    let mut haste_until = Duration::ZERO;
    // What the store knows of the token; it believes the best of whoever enters. Unknown after an answer that was lost: a
    // store that took us for silent, while we think otherwise, would have us found dead between two renewals.
    let mut noted = Some(true);
    loop {
        // A change of the connection means that somebody may be told of our death: the lease says otherwise, at once.
        let is_connection_changed = tokio::select! {
            biased;
            changed = health.changed() => changed.is_ok(),
            lost = tokens.changed() => lost.is_ok(),
            () = shared.clock.sleep(pause) => false,
        };
        let asked_at = shared.clock.monotonic();
        if is_connection_changed {
            haste_until = asked_at + HASTE_DURATION;
        }
        let is_down = matches!(*health.borrow_and_update(), Health::Down(_));
        match renew(shared, store).await {
            Ok(has_entered) => {
                if has_entered {
                    noted = None;
                }
                shared.running.unfence();
                renewed.send_replace(asked_at); // Not the time of the answer: the store counts from before that.
                pauses.reset();
                if noted != Some(!is_down) {
                    let noting = store.note_token(shared.id, !is_down).await;
                    noted = noting.is_ok().then_some(!is_down);
                }
                let pulse = asked_at.saturating_sub(*shared.pulse.borrow());
                // Until the store knows of the token: silence looks like death.
                let is_hasty = noted != Some(true) || asked_at < haste_until || pulse > PULSE_MAX;
                pause = if is_hasty {
                    HASTE_INTERVAL
                } else {
                    HEARTBEAT_INTERVAL
                };
            }
            Err(error) => {
                tracing::debug!(error = %error, "The lease could not be renewed; trying again");
                noted = None; // It may have entered again.
                pause = pauses.next().min(RETRY_INTERVAL_MAX);
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

/// Renews the lease, or enters again when it had ended: whether that was so.
async fn renew(shared: &Arc<Shared>, store: &Arc<dyn Store>) -> Result<bool, StoreError> {
    match store.renew(shared.id, LEASE_DURATION).await? {
        Renewal::Held {
            cancels,
            fleet,
            paused,
        } => {
            for (name, slots) in &shared.queues {
                slots.set_fleet(fleet.get(name).copied().unwrap_or(0));
                slots.set_paused(paused.contains(name));
            }
            for (task, reason) in cancels {
                shared.running.stop(task, Stop::Cancelled(reason));
            }
            Ok(false)
        }
        Renewal::Fenced => {
            tracing::warn!(
                "The lease had ended: what ran here was taken over, its attempts are stopped"
            );
            shared.running.stop_all(&Stop::Released);
            if shared.intake.is_stopping() {
                return Ok(false); // It leaves, and has nothing left to do: entered again it would be found lost later.
            }
            // Safe under the same id: what is claimed from now on has a newer attempt, the token of every write.
            store.enroll(&shared.record, LEASE_DURATION).await?;
            Ok(true)
        }
    }
}
