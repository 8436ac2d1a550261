//! The concurrency limit of one queue, and the credit that follows from it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::clock::Clock;
use crate::domain::QueueName;

/// Below this tasks are short: the way of a delivery takes longer than the task, so some are lent ahead.
const SHORT: Duration = Duration::from_millis(20);

/// Above this nothing is lent ahead: others could have begun it meanwhile.
const LONG: Duration = Duration::from_millis(50);

/// What one measurement weighs: a sixteenth.
const WEIGHT: u32 = 16;

/// Deliveries ahead for each slot. One waits while an end is stored, one while it is acknowledged, one under way.
const AHEAD_FACTOR: u16 = 3;

/// Deliveries ahead at most: a batch of the store.
const AHEAD_MAX: u16 = 256;

/// The slots of one queue in one executor.
#[derive(Debug)]
pub(super) struct QueueSlots {
    queue: QueueName,
    count: u16,
    free: Arc<Semaphore>,
    /// How many executors serve the queue, by the last renewal.
    fleet: AtomicU32,
    /// What the credit is made of.
    lent: watch::Sender<Lent>,
    /// How long the actions of the last tasks took.
    pace: Mutex<Duration>,
    /// When the last delivery came, on the process's monotonic clock.
    delivered_at: watch::Sender<Duration>,
    /// When the newest task that was delivered had become ready, by the store's clock.
    watermark: watch::Sender<Option<Timestamp>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lent {
    /// Slots whose task holds no delivery: it was acknowledged early, or never had one.
    without_delivery: u16,
    /// Deliveries beyond the slots, while tasks are short.
    ahead: u16,
    /// Whether the queue is paused: then nothing is lent.
    is_paused: bool,
}

/// A slot in use; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<QueueSlots>,
    holds_delivery: bool,
    _permit: OwnedSemaphorePermit,
}

impl QueueSlots {
    pub(super) fn new(queue: QueueName, count: u16) -> Self {
        Self {
            queue,
            count,
            free: Arc::new(Semaphore::new(usize::from(count))),
            fleet: AtomicU32::new(1),
            lent: watch::Sender::new(Lent {
                without_delivery: 0,
                ahead: 0,
                is_paused: false,
            }),
            pace: Mutex::new(LONG * 2), // Until it is measured.
            delivered_at: watch::Sender::new(Duration::ZERO),
            watermark: watch::Sender::new(None),
        }
    }

    pub(super) fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// Slots that are free now.
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// The share of the slots that is taken, from 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "slots are few")]
    pub(super) fn busy(&self) -> f64 {
        1.0 - self.free() as f64 / f64::from(self.count.max(1))
    }

    /// How many living executors serve the queue, this one included.
    pub(super) fn fleet(&self) -> u32 {
        self.fleet.load(Ordering::Relaxed)
    }

    /// So many executors serve the queue, by the store.
    pub(super) fn set_fleet(&self, count: u32) {
        self.fleet.store(count, Ordering::Relaxed);
    }

    /// How many deliveries the broker may lend: one for each slot whose task could hold one, and some more while tasks are
    /// short.
    pub(super) fn credit(&self) -> u16 {
        let lent = *self.lent.borrow();
        let own = self.count - lent.without_delivery.min(self.count);
        // With every slot taken by what holds no delivery nothing goes on soon, however short it was.
        if own == 0 || lent.is_paused {
            0
        } else {
            own.saturating_add(lent.ahead)
        }
    }

    /// Resolves when the credit may have changed since it was last looked at.
    pub(super) fn credit_changes(&self) -> watch::Receiver<Lent> {
        self.lent.subscribe()
    }

    /// Whether the queue is paused: no task of it may begin.
    pub(super) fn is_paused(&self) -> bool {
        self.lent.borrow().is_paused
    }

    /// The queue is paused, or its pause is over.
    pub(super) fn set_paused(&self, is_paused: bool) {
        let changes = self.lent.send_if_modified(|lent| {
            let changes = lent.is_paused != is_paused;
            lent.is_paused = is_paused;
            changes
        });
        if changes && is_paused {
            tracing::info!(
                "The queue `{}` is paused: no task of it begins here",
                self.queue
            );
        } else if changes {
            tracing::info!("The queue `{}` goes on", self.queue);
        }
    }

    /// Returns when the queue is not paused.
    ///
    /// Cancel safe.
    pub(super) async fn resumed(&self) {
        let mut lent = self.lent.subscribe();
        // The sender is this value's own.
        drop(lent.wait_for(|lent| !lent.is_paused).await);
    }

    /// The action of a task that had a delivery took so long.
    fn ran_for(&self, duration: Duration) {
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        *pace = (*pace * (WEIGHT - 1) + duration) / WEIGHT;
        let pace = *pace;
        if pace < SHORT {
            self.lend_ahead(self.count.saturating_mul(AHEAD_FACTOR).min(AHEAD_MAX));
        } else if pace > LONG {
            self.lend_ahead(0);
        }
    }

    /// A task took so long that others waited for its slot: what was lent ahead is too much, until many were short again.
    pub(super) fn took_long(&self) {
        *self.pace.lock().unwrap_or_else(PoisonError::into_inner) = LONG * 2;
        self.lend_ahead(0);
    }

    fn lend_ahead(&self, ahead: u16) {
        self.lent.send_if_modified(|lent| {
            let changes = lent.ahead != ahead;
            lent.ahead = ahead;
            changes
        });
    }

    /// Waits for a free slot, for a task that holds a delivery.
    ///
    /// Cancel safe: a dropped call takes nothing.
    pub(super) async fn slot(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(self.taken(permit))
    }

    /// A slot that is free now, for a task that comes without a delivery and is soon over: the credit stays as it is. One
    /// that takes longer lets go ([`Slot::let_go_of_delivery`]).
    pub(super) fn free_slot(self: &Arc<Self>) -> Option<Slot> {
        if self.is_paused() {
            return None;
        }
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.taken(permit))
    }

    fn taken(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        Slot {
            slots: Arc::clone(self),
            holds_delivery: true,
            _permit: permit,
        }
    }

    /// A slot that is free now, for a task that holds no delivery.
    pub(super) fn slot_without_delivery(self: &Arc<Self>) -> Option<Slot> {
        let mut slot = self.free_slot()?;
        slot.let_go_of_delivery();
        Some(slot)
    }

    pub(super) fn delivered(&self, clock: &Arc<dyn Clock>) {
        self.delivered_at.send_replace(clock.monotonic());
    }

    /// A task was delivered and claimed that had become ready at this time.
    pub(super) fn claimed(&self, ready_at: Option<Timestamp>) {
        self.watermark
            .send_modify(|newest| *newest = (*newest).max(ready_at));
    }

    /// When the newest task that was delivered had become ready. Nothing that became ready well before it will still be
    /// delivered.
    pub(super) fn watermark(&self) -> Option<Timestamp> {
        *self.watermark.borrow()
    }

    /// How long the queue has been silent.
    pub(super) fn silence(&self, clock: &Arc<dyn Clock>) -> Duration {
        clock
            .monotonic()
            .saturating_sub(*self.delivered_at.borrow())
    }
}

impl Slot {
    /// The action of a task that had a delivery has ended after so long: the slot is free.
    pub(super) fn free_after(self, took: Duration) {
        let slots = Arc::clone(&self.slots);
        drop(self); // First: the next one finds it.
        slots.ran_for(took);
    }

    /// The action takes so long that the slot goes on without its delivery.
    pub(super) fn takes_long(&mut self) {
        self.slots.took_long();
        self.let_go_of_delivery();
    }

    /// The slot goes on without a delivery, so the broker may lend one less.
    pub(super) fn let_go_of_delivery(&mut self) {
        if std::mem::take(&mut self.holds_delivery) {
            let count = |lent: &mut Lent| lent.without_delivery += 1;
            self.slots.lent.send_modify(count);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.holds_delivery {
            let count = |lent: &mut Lent| lent.without_delivery -= 1;
            self.slots.lent.send_modify(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_credit_is_the_slots_whose_task_could_hold_a_delivery() {
        let slots = Arc::new(QueueSlots::new(QueueName::default_queue(), 3));
        let mut delivered = slots.slot().await.unwrap();
        assert_eq!((slots.free(), slots.credit()), (2, 3));
        delivered.let_go_of_delivery();
        delivered.let_go_of_delivery();
        assert_eq!((slots.free(), slots.credit()), (2, 2));
        let found = slots.slot_without_delivery().unwrap();
        assert_eq!((slots.free(), slots.credit()), (1, 1));
        drop(delivered);
        drop(found);
        assert_eq!((slots.free(), slots.credit()), (3, 3));
    }

    #[test]
    fn deliveries_are_lent_ahead_while_tasks_are_short() {
        let slots = QueueSlots::new(QueueName::default_queue(), 3);
        let (short, long) = (Duration::from_millis(1), Duration::from_secs(2));
        slots.ran_for(short);
        assert_eq!(slots.credit(), 3, "one says little");
        (0..100).for_each(|_| slots.ran_for(short));
        assert_eq!(slots.credit(), 12);
        slots.ran_for(long);
        assert_eq!(slots.credit(), 3);
        (0..100).for_each(|_| slots.ran_for(short));
        assert_eq!(slots.credit(), 12);
        slots.took_long();
        assert_eq!(slots.credit(), 3);
    }

    #[test]
    fn nothing_is_lent_ahead_when_no_slot_could_hold_a_delivery() {
        let slots = Arc::new(QueueSlots::new(QueueName::default_queue(), 1));
        (0..100).for_each(|_| slots.ran_for(Duration::ZERO));
        assert_eq!(slots.credit(), 4);
        let long = slots.slot_without_delivery().unwrap();
        assert_eq!(slots.credit(), 0);
        drop(long);
        assert_eq!(slots.credit(), 4);
    }
}
