//! The concurrency limit of one queue, and the credit that follows from it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::clock::Clock;
use crate::domain::QueueName;

/// The slots of one queue in one executor.
#[derive(Debug)]
pub(super) struct QueueSlots {
    queue: QueueName,
    count: u16,
    free: Arc<Semaphore>,
    /// Slots whose task holds no delivery: it was acknowledged early, or never had one.
    without_delivery: watch::Sender<u16>,
    /// When the last delivery came, on the process's monotonic clock.
    delivered_at: watch::Sender<Duration>,
    /// When the newest task that was delivered had become ready, by the store's clock.
    watermark: watch::Sender<Option<Timestamp>>,
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
            without_delivery: watch::Sender::new(0),
            delivered_at: watch::Sender::new(Duration::ZERO),
            watermark: watch::Sender::new(None),
        }
    }

    pub(super) fn queue(&self) -> &QueueName {
        &self.queue
    }

    /// How many slots there are.
    pub(super) fn count(&self) -> usize {
        self.count.into()
    }

    /// Slots that are free now.
    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// How many deliveries the broker may lend: one for each slot whose task could hold one.
    pub(super) fn credit(&self) -> u16 {
        self.count - (*self.without_delivery.borrow()).min(self.count)
    }

    /// Resolves when the credit changed since `seen` was last looked at.
    pub(super) fn credit_changes(&self) -> watch::Receiver<u16> {
        self.without_delivery.subscribe()
    }

    /// Waits for a free slot, for a task that holds a delivery.
    ///
    /// Cancel safe: a dropped call takes nothing.
    pub(super) async fn slot(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Slot {
            slots: Arc::clone(self),
            holds_delivery: true,
            _permit: permit,
        })
    }

    /// A slot that is free now, for a task that comes without a delivery and is soon over: the credit stays as it is. One
    /// that takes longer lets go ([`Slot::let_go_of_delivery`]).
    pub(super) fn free_slot(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(Slot {
            slots: Arc::clone(self),
            holds_delivery: true,
            _permit: permit,
        })
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
    /// The slot goes on without a delivery, so the broker may lend one less.
    pub(super) fn let_go_of_delivery(&mut self) {
        if std::mem::take(&mut self.holds_delivery) {
            self.slots.without_delivery.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.holds_delivery {
            self.slots.without_delivery.send_modify(|count| *count -= 1);
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
}
