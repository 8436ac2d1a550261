//! What time alone moves: due tasks, deadlines, schedules, executors that are gone, retention. It runs in every executor;
//! the store lets each row be taken by one of them, so it moves by itself when a process dies.
//!
//! An executor is lost when its lease has ended. The broker's death notices (`deaths`) let that be found sooner. What the broker
//! gave up on (`dead_letters`) is told of its task.

mod dead_letters;
mod deaths;
mod schedules;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};

use crate::background::Background;
use crate::broker::{Broker, BrokerError, Health, Outgoing, Source};
use crate::clock::Clock;
use crate::domain::ExecutorId;
use crate::domain::limits::{BATCH_MAX, HEARTBEAT_INTERVAL, LEASE_DURATION};
use crate::store::{PARENT_ENDED, Store, StoreError};
use crate::wire::EventKind;

/// How often a process looks when nothing is known to be due, give or take a half.
const INTERVAL: Duration = Duration::from_millis(5_500);

/// How often it looks while no announcements come: then it hears of no death, and of no task that is due soon.
const INTERVAL_WITHOUT_BROKER: Duration = Duration::from_secs(1);

/// How soon a pass that failed is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time between two answers of the store that is no break: longer than a regular pause and a call that failed,
/// and short enough that no lease ends in it for want of a renewal.
const BREAK_MAX: Duration = Duration::from_secs(9);

// Whoever renewed just before the break still has a lease after it.
const _: () =
    assert!(BREAK_MAX.as_secs() + HEARTBEAT_INTERVAL.as_secs() < LEASE_DURATION.as_secs());

/// The shortest pause between two looks, so that many tasks due within a moment are moved together.
const INTERVAL_MIN: Duration = Duration::from_millis(20);

/// How often old tasks are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// What housekeeping is built on.
#[derive(Debug, Clone)]
pub struct HousekeepingParts {
    /// Where tasks live.
    pub store: Arc<dyn Store>,
    /// What brings death notices and dead letters.
    pub broker: Arc<dyn Broker>,
    /// What it has to say.
    pub outgoing: Outgoing,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// Tells it to look again.
    pub scheduled: Arc<Notify>,
    /// Told when executors were found lost.
    pub losses: watch::Sender<()>,
}

/// Keeps the house of a store.
#[derive(Debug)]
pub struct Housekeeper {
    house: Arc<House>,
    scheduled: Arc<Notify>,
    /// How long final tasks are kept.
    retention: Duration,
    pruned_at: Option<Duration>,
}

/// Answers of the store without a break.
#[derive(Debug, Clone, Copy)]
struct Answers {
    /// The first.
    since: Duration,
    /// The last.
    last: Duration,
}

/// What all that is done here goes by.
#[derive(Debug)]
struct House {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    losses: watch::Sender<()>,
    /// When the store has answered; on the process's monotonic clock.
    answers: Mutex<Option<Answers>>,
    /// When it last did not; on the same clock.
    failed_at: Mutex<Option<Duration>>,
    /// Held by whoever judges the silent: one at a time, since it takes seconds.
    judging: Arc<Semaphore>,
}

/// What one pass did.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// Tasks that became `ready`.
    pub woken: usize,
    /// Tasks that failed by their deadline.
    pub failed: usize,
    /// Tasks that were cancelled because their parent had ended.
    pub cancelled: usize,
    /// Tasks of lost executors.
    pub taken_over: usize,
    /// Tasks that were deleted.
    pub pruned: u64,
    /// Tasks that schedules submitted.
    pub fired: usize,
    /// How long until the next task or schedule is due.
    pub next_in: Option<Duration>,
    /// Executors that were silent, of whose death the broker would not tell: somebody is to judge them.
    pub silent: Vec<ExecutorId>,
}

impl Housekeeper {
    /// A housekeeper that keeps final tasks for `retention`.
    pub fn new(parts: HousekeepingParts, retention: Duration) -> Self {
        let HousekeepingParts {
            store,
            broker,
            outgoing,
            clock,
            scheduled,
            losses,
        } = parts;
        let house = House {
            store,
            broker,
            outgoing,
            clock,
            losses,
            answers: Mutex::default(),
            failed_at: Mutex::default(),
            judging: Arc::new(Semaphore::new(1)),
        };
        Self {
            house: Arc::new(house),
            scheduled,
            retention,
            pruned_at: None,
        }
    }

    /// Begins to listen for death notices and dead letters, until `background` stops.
    ///
    /// # Errors
    ///
    /// The broker refuses it. A broker that is away is no error.
    pub async fn listen(&self, background: &Background) -> Result<(), BrokerError> {
        let notices = self
            .house
            .broker
            .consume(Source::Deaths, deaths::CREDIT)
            .await?;
        let (house, stop) = (Arc::clone(&self.house), background.clone());
        background.spawn(deaths::hear(house, notices, stop));
        let letters = self
            .house
            .broker
            .consume(Source::Flags, dead_letters::CREDIT)
            .await?;
        let (house, stop) = (Arc::clone(&self.house), background.clone());
        background.spawn(dead_letters::flag(house, letters, stop));
        Ok(())
    }

    /// Passes over the store again and again, until `background` stops.
    pub async fn run(mut self, background: Background) {
        let clock = Arc::clone(&self.house.clock);
        let health = self.house.broker.health();
        loop {
            let pause = match self.run_once().await {
                Ok(kept) => {
                    deaths::suspect(&self.house, kept.silent, &background);
                    let announces = self.house.broker.promises().announces;
                    let regular = interval(&health.borrow(), announces);
                    let regular = regular.mul_f64(0.5 + clock.chance());
                    kept.next_in
                        .map_or(regular, |next_in| next_in.min(regular))
                        .max(INTERVAL_MIN)
                }
                Err(error) => {
                    self.house.has_failed();
                    tracing::debug!(error = %error, "Housekeeping failed; it is repeated soon");
                    RETRY_INTERVAL
                }
            };
            tokio::select! {
                biased;
                () = background.stopping() => return,
                () = self.scheduled.notified() => {}
                () = clock.sleep(pause) => {}
            }
        }
    }

    /// One pass: a glance, and then only what there is to do.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the store is away, and what was done is done. A part that fails for another reason is told in the log,
    /// and holds up no other.
    pub async fn run_once(&mut self) -> Result<Kept, StoreError> {
        let house = &self.house;
        let seen = house.store.glance(deaths::LEASE_LEFT_OF_SILENT).await?;
        let mut kept = Kept {
            silent: seen.silent,
            next_in: seen.due_in,
            ..Kept::default()
        };
        let mut parts = Parts::default();
        if seen.due_in == Some(Duration::ZERO) {
            parts.note(house.move_due(&mut kept).await)?;
        }
        if seen.has_below {
            kept.cancelled = parts.note(house.clear_below().await)?;
        }
        let now = house.clock.monotonic();
        if self
            .pruned_at
            .is_none_or(|at| now.saturating_sub(at) >= PRUNE_INTERVAL)
        {
            kept.pruned = parts.note(house.store.prune(self.retention, BATCH_MAX).await)?;
            // A full batch means that there is more: the next pass goes on with it.
            self.pruned_at = (kept.pruned < BATCH_MAX as u64).then_some(now);
            if self.pruned_at.is_none() {
                kept.next_in = Some(Duration::ZERO);
            }
        }
        // After an outage of the store every lease looks expired: everybody gets one lease to renew first.
        if house.answers_for() >= LEASE_DURATION && seen.has_lost {
            kept.taken_over = parts.note(house.take_over(None).await)?;
            if kept.taken_over >= BATCH_MAX {
                kept.next_in = Some(Duration::ZERO);
            }
        }
        let mut fires_in = seen.schedules_in;
        if fires_in == Some(Duration::ZERO) {
            let fired = parts.note(house.fire().await)?;
            kept.fired = fired.created.len();
            fires_in = fired.next_in;
        }
        kept.next_in = kept.next_in.into_iter().chain(fires_in).min();
        if parts.has_failed {
            kept.next_in = None; // What is due stays due: not at once again.
        }
        Ok(kept)
    }
}

/// The parts of a pass: one that trips over a row which nobody can read holds up no other.
#[derive(Debug, Default)]
struct Parts {
    has_failed: bool,
}

impl Parts {
    /// What a part did, nothing when it failed. A store that is away fails the whole pass: the other parts would wait for it,
    /// too.
    fn note<T: Default>(&mut self, part: Result<T, StoreError>) -> Result<T, StoreError> {
        match part {
            Err(error) if !error.is_transient() => {
                tracing::error!(error = %error, "A part of housekeeping failed; the others go on");
                self.has_failed = true;
                Ok(T::default())
            }
            other => other,
        }
    }
}

impl House {
    /// For how long the store has answered without a break, now that it has answered.
    fn answers_for(&self) -> Duration {
        let now = self.clock.monotonic();
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match *answers {
            Some(known) if now.saturating_sub(known.last) <= BREAK_MAX => known.since,
            Some(_) | None => now,
        };
        *answers = Some(Answers { since, last: now });
        now.saturating_sub(since)
    }

    /// Moves what is due, at most a batch.
    async fn move_due(&self, kept: &mut Kept) -> Result<(), StoreError> {
        let due = self.store.due(BATCH_MAX).await?;
        (kept.woken, kept.failed) = (due.ready.len(), due.failed.len());
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
        Ok(())
    }

    /// Cancels what is left open below tasks that have ended; how many.
    async fn clear_below(&self) -> Result<usize, StoreError> {
        let mut count = 0;
        loop {
            let below = self.store.clear_below(BATCH_MAX).await?;
            count += below.cancelled.len();
            for facts in below.cancelled {
                self.outgoing.report(facts);
            }
            for (task, executor) in below.running {
                let nudge = self.outgoing.speaker().nudge(executor, task, PARENT_ENDED);
                self.outgoing.say(nudge).await;
            }
            if !below.has_more {
                return Ok(count);
            }
        }
    }

    /// Notes that the store did not answer.
    fn has_failed(&self) {
        let now = self.clock.monotonic();
        *self
            .failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// As [`House::answers_for`], and without a single failure.
    fn is_steady_for(&self) -> Duration {
        let answers_for = self.answers_for();
        let failed_at = *self
            .failed_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        failed_at.map_or(answers_for, |at| answers_for.min(now.saturating_sub(at)))
    }

    /// Takes over the tasks of executors whose lease has ended, or of `whose` alone, at most a batch; how many.
    async fn take_over(&self, whose: Option<ExecutorId>) -> Result<usize, StoreError> {
        let taken = self.store.take_over(whose, BATCH_MAX).await?;
        for executor in &taken.lost {
            tracing::warn!(executor.id = %executor, "Executor `{executor}` is lost: its lease ended");
        }
        for facts in &taken.released {
            self.outgoing.announce(EventKind::Released, facts).await;
        }
        if !taken.lost.is_empty() {
            self.losses.send_replace(());
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

/// How often to look when nothing is known to be due, give or take a half.
fn interval(health: &Health, announces: bool) -> Duration {
    match health {
        Health::Up if announces => INTERVAL,
        Health::Up | Health::Blocked(_) | Health::Down(_) => INTERVAL_WITHOUT_BROKER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_more_often_while_it_hears_of_nothing() {
        let why = || "an alarm".to_owned();
        assert_eq!(interval(&Health::Up, true), INTERVAL);
        for (health, announces) in [
            (Health::Up, false),
            (Health::Blocked(why()), true),
            (Health::Down(why()), true),
        ] {
            assert_eq!(interval(&health, announces), INTERVAL_WITHOUT_BROKER);
        }
    }
}
