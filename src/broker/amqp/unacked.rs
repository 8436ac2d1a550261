//! What one channel has in hand, and how it is given back: many acknowledgements in one frame.
//!
//! For each acknowledgement RabbitMQ goes through the channel's deliveries from the oldest on. With a thousand in hand that end
//! in any order this was a quarter of the channel's work, so they are gathered: what has ended at the beginning is acknowledged
//! by one frame, the rest in its order. At most half of a credit waits so, nothing once nothing else is in hand, and no
//! longer than [`GATHERED_FOR`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use tokio::sync::Notify;

use super::super::Settle;
use super::credit::Tag;

/// Acknowledgements that wait for others, at most.
const GATHERED_MAX: usize = 32;

/// How long an acknowledgement waits for others.
pub(super) const GATHERED_FOR: Duration = Duration::from_millis(20);

/// The deliveries that one channel has in hand.
pub(super) struct Unacked {
    channel: Channel,
    /// Rings when the first of some acknowledgements begins to wait.
    waits: Notify,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// By their numbers, which grow.
    in_hand: BTreeMap<u64, InHand>,
    /// How many of them have ended.
    ended: usize,
}

struct InHand {
    tag: Arc<Tag>,
    has_ended: bool,
}

/// Frames that acknowledge what has ended.
#[derive(Debug, PartialEq, Eq)]
struct Acks {
    /// Up to this one all have.
    up_to: Option<u64>,
    /// These as well, in their order.
    each: Vec<u64>,
}

impl Unacked {
    pub(super) fn new(channel: Channel) -> Arc<Self> {
        Arc::new(Self {
            channel,
            waits: Notify::new(),
            book: Mutex::default(),
        })
    }

    /// Takes `delivery` in hand.
    pub(super) fn lend(self: &Arc<Self>, delivery: u64, tag: &Arc<Tag>) -> Box<dyn Settle> {
        tag.lend();
        self.book().lend(delivery, tag);
        Box::new(Lent {
            unacked: Arc::clone(self),
            delivery,
        })
    }

    /// Acknowledges what has ended.
    pub(super) fn flush(&self) {
        self.send(&mut self.book());
    }

    fn ack(&self, delivery: u64) {
        let mut book = self.book();
        if book.end(delivery) {
            self.send(&mut book);
        } else if book.ended == 1 {
            self.waits.notify_one();
        }
    }

    /// Resolves when an acknowledgement begins to wait for others.
    ///
    /// Cancel safe.
    pub(super) async fn waits(&self) {
        self.waits.notified().await;
    }

    fn reject(&self, delivery: u64) {
        let mut book = self.book();
        let options = BasicRejectOptions { requeue: false };
        // The first poll queues the frame.
        drop(self.channel.basic_reject(delivery, options).now_or_never());
        book.forget(delivery);
    }

    /// Under the lock, so that the frames go out in the order of the numbers: one that went before a later one that covers
    /// it would name a delivery which the broker does not know any more.
    fn send(&self, book: &mut Book) {
        let acks = book.take_ended();
        let several = BasicAckOptions { multiple: true };
        let up_to = acks.up_to.map(|delivery| (delivery, several));
        let each = acks.each.into_iter();
        for (delivery, options) in up_to
            .into_iter()
            .chain(each.map(|delivery| (delivery, BasicAckOptions::default())))
        {
            drop(self.channel.basic_ack(delivery, options).now_or_never());
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn lend(&mut self, delivery: u64, tag: &Arc<Tag>) {
        let tag = Arc::clone(tag);
        let in_hand = InHand {
            tag,
            has_ended: false,
        };
        self.in_hand.insert(delivery, in_hand);
    }

    /// Notes that `delivery` has ended; whether it is time to say so.
    fn end(&mut self, delivery: u64) -> bool {
        let all = self.in_hand.len();
        let Some(in_hand) = self.in_hand.get_mut(&delivery) else {
            return false;
        };
        in_hand.has_ended = true;
        self.ended += 1;
        let half = usize::from(in_hand.tag.prefetch).div_ceil(2);
        self.ended >= half.min(GATHERED_MAX)
            || self.ended == all
            // Whoever lowers the credit waits for what is out.
            || in_hand.tag.is_cancelled()
    }

    fn forget(&mut self, delivery: u64) {
        if let Some(in_hand) = self.in_hand.remove(&delivery) {
            in_hand.tag.settled();
        }
    }

    fn take_ended(&mut self) -> Acks {
        let first_open = self.in_hand.iter().find(|(_, one)| !one.has_ended);
        let first_open = first_open.map(|(delivery, _)| *delivery);
        let up_to = match first_open {
            Some(open) => self.in_hand.range(..open).next_back(),
            None => self.in_hand.last_key_value(),
        };
        let up_to = up_to.map(|(delivery, _)| *delivery);
        let ended = self.in_hand.iter().filter(|(_, one)| one.has_ended);
        let ended: Vec<u64> = ended.map(|(delivery, _)| *delivery).collect();
        for delivery in &ended {
            self.forget(*delivery);
        }
        self.ended = 0;
        let each = ended.into_iter().filter(|delivery| Some(*delivery) > up_to);
        Acks {
            up_to,
            each: each.collect(),
        }
    }
}

/// A delivery that the broker waits for. Settling queues a frame, now or with others, and returns: nobody waits for it to be
/// written, and on a channel that is gone it does nothing.
struct Lent {
    unacked: Arc<Unacked>,
    delivery: u64,
}

impl Settle for Lent {
    fn ack(self: Box<Self>) {
        self.unacked.ack(self.delivery);
    }

    fn reject(self: Box<Self>) {
        self.unacked.reject(self.delivery);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(prefetch: u16, count: u64) -> (Book, Arc<Tag>) {
        let tag = Tag::new(1, prefetch, Arc::new(Notify::new()));
        let mut book = Book::default();
        for delivery in 1..=count {
            tag.lend();
            book.lend(delivery, &tag);
        }
        (book, tag)
    }

    fn acks(up_to: Option<u64>, each: &[u64]) -> Acks {
        Acks {
            up_to,
            each: each.to_vec(),
        }
    }

    #[test]
    fn the_only_one_in_hand_waits_for_nobody() {
        let (mut book, tag) = book(1000, 1);
        assert!(book.end(1));
        assert_eq!(book.take_ended(), acks(Some(1), &[]));
        assert_eq!(tag.held(), 0);
    }

    #[test]
    fn the_beginning_is_one_frame_and_the_rest_goes_in_its_order() {
        let (mut book, tag) = book(8, 8);
        assert!(!book.end(7) && !book.end(1) && !book.end(4));
        assert!(book.end(2), "half of the credit");
        assert_eq!(book.take_ended(), acks(Some(2), &[4, 7]));
        assert_eq!((tag.held(), book.in_hand.len()), (4, 4));
        assert!(!book.end(8));
        book.end(5);
        assert_eq!(book.take_ended(), acks(None, &[5, 8]));
    }

    #[test]
    fn no_more_than_half_of_a_credit_waits() {
        for prefetch in 1..200 {
            let (mut book, _) = book(prefetch, u64::from(prefetch) + 1);
            let due = (1..=u64::from(prefetch)).find(|delivery| book.end(*delivery));
            let half = u64::from(prefetch).div_ceil(2);
            assert_eq!(due, Some(half.min(GATHERED_MAX as u64)));
        }
    }

    #[test]
    fn what_was_lent_by_a_consumer_that_is_cancelled_is_given_back_at_once() {
        let (mut book, tag) = book(1000, 3);
        tag.cancel();
        assert!(book.end(2));
        assert_eq!(book.take_ended(), acks(None, &[2]));
    }

    #[test]
    fn what_is_rejected_holds_nothing_up() {
        let (mut book, tag) = book(1000, 2);
        book.forget(1);
        assert!(book.end(2));
        assert_eq!(book.take_ended(), acks(Some(2), &[]));
        assert_eq!(tag.held(), 0);
    }
}
