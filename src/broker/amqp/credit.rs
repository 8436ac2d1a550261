//! How a credit that changes is kept: by several AMQP consumers on one channel, each with a prefetch of its own.
//!
//! A prefetch cannot be changed, and a new consumer does not count what a cancelled one still holds. So credit
//! grows by adding a consumer, and shrinks by cancelling some and waiting for what they hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::super::Credit;

/// One AMQP consumer, seen from the deliveries that it lends.
#[derive(Debug)]
pub(super) struct Tag {
    /// Its number on the channel.
    pub(super) number: u32,
    /// Deliveries that it may lend at a time.
    pub(super) prefetch: Credit,
    held: AtomicUsize,
    is_cancelled: AtomicBool,
    /// Rings when a cancelled consumer gets a delivery back.
    freed: Arc<Notify>,
}

impl Tag {
    pub(super) fn new(number: u32, prefetch: Credit, freed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            number,
            prefetch,
            held: AtomicUsize::new(0),
            is_cancelled: AtomicBool::new(false),
            freed,
        })
    }

    /// The name of the consumer on the channel.
    pub(super) fn name(&self) -> String {
        format!("longshore-{}", self.number)
    }

    pub(super) fn lend(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn settled(&self) {
        self.held.fetch_sub(1, Ordering::SeqCst);
        if self.is_cancelled() {
            self.freed.notify_one();
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    pub(super) fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::SeqCst)
    }
}

/// What brings the consumers closer to the credit that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Add a consumer with this prefetch.
    Add(Credit),
    /// Cancel the consumer at this place.
    Cancel(usize),
}

/// The next step towards `asked`, with consumers of the prefetches `live`, when cancelled ones still hold
/// `held` deliveries. Afterwards no more than `asked` can be lent, except for what was lent before.
pub(super) fn step(asked: Credit, live: &[Credit], held: usize) -> Option<Step> {
    let asked = usize::from(asked);
    let sum: usize = live.iter().copied().map(usize::from).sum();
    if let Some(excess) = (sum + held).checked_sub(asked).filter(|excess| *excess > 0) {
        let places = || live.iter().copied().map(usize::from).enumerate();
        let enough = places().filter(|(_, prefetch)| *prefetch >= excess);
        let chosen = enough
            .min_by_key(|(_, prefetch)| *prefetch)
            .or_else(|| places().max_by_key(|(_, prefetch)| *prefetch));
        return chosen.map(|(place, _)| Step::Cancel(place));
    }
    let gain = asked - sum - held;
    // Not one by one while the old ones trickle back: that would make a consumer for each delivery.
    let is_worth_it = held == 0 || gain * 4 >= asked;
    let gain = Credit::try_from(gain).unwrap_or(Credit::MAX);
    (gain > 0 && is_worth_it).then_some(Step::Add(gain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_grows_by_adding_and_shrinks_by_cancelling() {
        assert_eq!(step(10, &[], 0), Some(Step::Add(10)));
        assert_eq!(step(10, &[10], 0), None);
        assert_eq!(step(12, &[10], 0), Some(Step::Add(2)));
        assert_eq!(step(11, &[10, 2], 0), Some(Step::Cancel(1)));
        assert_eq!(step(9, &[10, 2], 0), Some(Step::Cancel(0)));
        assert_eq!(step(0, &[10], 3), Some(Step::Cancel(0)));
        assert_eq!(step(0, &[], 3), None);
    }

    #[test]
    fn what_cancelled_consumers_hold_counts_until_it_comes_back() {
        assert_eq!(step(8, &[], 10), None);
        assert_eq!(step(8, &[], 7), None);
        assert_eq!(step(8, &[], 6), Some(Step::Add(2)));
        assert_eq!(step(8, &[2], 6), None);
        assert_eq!(step(8, &[2, 4], 1), None);
        assert_eq!(step(8, &[2, 4], 0), Some(Step::Add(2)));
        assert_eq!(step(2, &[], 1), Some(Step::Add(1)));
    }

    #[test]
    fn steps_end_and_never_promise_more_than_was_asked() {
        for asked in 0..20 {
            for first in 0..20 {
                for held in 0..20 {
                    let mut live = vec![first, 3, 1];
                    let mut steps = 0;
                    let mut owed = held;
                    while let Some(next) = step(asked, &live, owed) {
                        match next {
                            Step::Add(prefetch) => live.push(prefetch),
                            Step::Cancel(place) => owed += usize::from(live.remove(place)),
                        }
                        steps += 1;
                        assert!(steps < 10);
                    }
                    let sum: u16 = live.iter().sum();
                    assert!(live.is_empty() || usize::from(sum) + owed <= usize::from(asked));
                }
            }
        }
    }
}
