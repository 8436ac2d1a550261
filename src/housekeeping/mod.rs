//! What time alone moves: due tasks, deadlines, executors that are gone, retention. It runs in every executor;
//! the store lets each row be taken by one of them, so it moves by itself when a process dies.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::background::Background;
use crate::broker::Outgoing;
use crate::clock::Clock;
use crate::domain::limits::{BATCH_MAX, LEASE_DURATION};
use crate::store::{Store, StoreError};
use crate::wire::EventKind;

/// How often a process looks when nothing is known to be due, give or take a half.
const INTERVAL: Duration = Duration::from_secs(5);

/// The shortest pause between two looks, so that many tasks due within a moment are moved together.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// How often old tasks are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// Keeps the house of a store.
#[derive(Debug)]
pub struct Housekeeper {
    store: Arc<dyn Store>,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    scheduled: Arc<Notify>,
    /// How long final tasks are kept.
    retention: Duration,
    /// Since when the store has answered without a break; on the process's monotonic clock.
    answers_since: Option<Duration>,
    pruned_at: Option<Duration>,
}

/// What one pass did.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// Tasks that became `ready`.
    pub woken: usize,
    /// Tasks that failed by their deadline.
    pub failed: usize,
    /// Tasks of lost executors.
    pub taken_over: usize,
    /// Tasks that were deleted.
    pub pruned: u64,
    /// How long until the next task is due.
    pub next_in: Option<Duration>,
}

impl Housekeeper {
    /// A housekeeper that is told by `scheduled` to look again.
    pub fn new(
        store: Arc<dyn Store>,
        outgoing: Outgoing,
        clock: Arc<dyn Clock>,
        scheduled: Arc<Notify>,
        retention: Duration,
    ) -> Self {
        Self {
            store,
            outgoing,
            clock,
            scheduled,
            retention,
            answers_since: None,
            pruned_at: None,
        }
    }

    /// Passes over the store again and again, until `background` stops.
    pub async fn run(mut self, background: Background) {
        loop {
            let pause = match self.run_once().await {
                Ok(kept) => {
                    let regular = INTERVAL.mul_f64(0.5 + self.clock.chance());
                    kept.next_in
                        .map_or(regular, |next_in| next_in.min(regular))
                        .max(INTERVAL_MIN)
                }
                Err(error) => {
                    tracing::debug!(error = %error, "Housekeeping failed; it is repeated soon");
                    self.answers_since = None;
                    INTERVAL
                }
            };
            tokio::select! {
                biased;
                () = background.stopping() => return,
                () = self.scheduled.notified() => {}
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// One pass.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: what was done until then is done.
    pub async fn run_once(&mut self) -> Result<Kept, StoreError> {
        let due = self.store.due(BATCH_MAX).await?;
        let mut kept = Kept {
            woken: due.ready.len(),
            failed: due.failed.len(),
            ..Kept::default()
        };
        for facts in &due.ready {
            self.outgoing.announce(EventKind::Woken, facts).await;
        }
        due.failed
            .into_iter()
            .for_each(|facts| self.outgoing.report(facts));
        let is_full = kept.woken + kept.failed >= BATCH_MAX;
        kept.next_in = if is_full {
            Some(Duration::ZERO)
        } else {
            due.next_in
        };
        let now = self.clock.monotonic();
        // After an outage of the store every lease looks expired: everybody gets one lease to renew first.
        if now.saturating_sub(*self.answers_since.get_or_insert(now)) >= LEASE_DURATION {
            kept.taken_over = self.take_over().await?;
        }
        if self
            .pruned_at
            .is_none_or(|at| now.saturating_sub(at) >= PRUNE_INTERVAL)
        {
            kept.pruned = self.store.prune(self.retention, BATCH_MAX).await?;
            // A full batch means that there is more: the next pass goes on with it.
            self.pruned_at = (kept.pruned < BATCH_MAX as u64).then_some(now);
        }
        Ok(kept)
    }

    async fn take_over(&self) -> Result<usize, StoreError> {
        let taken = self.store.take_over(BATCH_MAX).await?;
        for executor in &taken.lost {
            tracing::warn!(executor.id = %executor, "Executor `{executor}` is lost: its lease ended");
        }
        for facts in &taken.released {
            self.outgoing.announce(EventKind::Released, facts).await;
        }
        let count = taken.released.len() + taken.ended.len() + taken.cancelled.len();
        if count > 0 {
            tracing::info!(tasks = count, "Took over what lost executors ran: {count}");
        }
        taken
            .ended
            .into_iter()
            .chain(taken.cancelled)
            .for_each(|facts| self.outgoing.report(facts));
        Ok(count)
    }
}
