//! Where messages lie until somebody takes them: queues, and the history.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::{Content, Message, Since};

/// Messages in one queue. Enough for any test and for one host; a tenth of what RabbitMQ's policy allows,
/// because here they are in this process's memory.
const QUEUE_LENGTH_MAX: usize = 100_000;

/// Bytes of bodies in one queue: a process that falls behind may not take the machine with it.
const QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Messages that the history keeps: some seconds of full speed, hours of a calm system.
pub const HISTORY_LENGTH_MAX: usize = 20_000;

/// Bytes of bodies that the history keeps.
const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Who consumes: a number that is given once.
pub(super) type ConsumerId = u64;

/// A message on its way; queues share it.
#[derive(Debug)]
pub(super) struct Parcel {
    /// The exchange it was published to, or dead-lettered to.
    pub(super) exchange: &'static str,
    pub(super) key: String,
    pub(super) message_id: String,
    pub(super) content: Content,
    pub(super) body: Vec<u8>,
}

impl From<Message> for Parcel {
    fn from(message: Message) -> Self {
        Self {
            exchange: message.ingress.exchange(),
            key: message.key,
            message_id: message.id,
            content: message.content,
            body: message.body,
        }
    }
}

/// A message in a queue, or lent from it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) parcel: Arc<Parcel>,
    pub(super) is_redelivered: bool,
}

/// What a full queue does with the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The publisher is refused.
    Refuse,
    /// The oldest message makes room.
    DropOldest,
}

/// A first-in first-out queue and the consumers that wait for it.
#[derive(Debug)]
pub(super) struct Queue {
    ready: VecDeque<Entry>,
    bytes: usize,
    overflow: Overflow,
    /// Consumers with free credit, in the order of their turns. One that has none any more, or is gone, is
    /// passed over.
    pub(super) waiting: VecDeque<ConsumerId>,
    /// Whether rejected messages go to `longshore.dead`.
    pub(super) is_dead_lettered: bool,
    /// How many consumers it has.
    pub(super) consumers: usize,
}

impl Queue {
    pub(super) fn new(overflow: Overflow) -> Self {
        Self {
            ready: VecDeque::new(),
            bytes: 0,
            overflow,
            waiting: VecDeque::new(),
            is_dead_lettered: overflow == Overflow::Refuse,
            consumers: 0,
        }
    }

    /// How many messages nobody holds.
    pub(super) fn len(&self) -> usize {
        self.ready.len()
    }

    /// Puts a message at the end; `false` when the queue is full.
    #[must_use]
    pub(super) fn push(&mut self, parcel: Arc<Parcel>) -> bool {
        while self.ready.len() >= QUEUE_LENGTH_MAX || self.bytes >= QUEUE_BYTES_MAX {
            match self.overflow {
                Overflow::Refuse => return false,
                Overflow::DropOldest => drop(self.pop()),
            }
        }
        self.bytes += parcel.body.len();
        self.ready.push_back(Entry {
            parcel,
            is_redelivered: false,
        });
        true
    }

    /// Puts a message that was lent back to the front. A queue may be over its bound by what was lent.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.bytes += entry.parcel.body.len();
        self.ready.push_front(entry);
    }

    pub(super) fn pop(&mut self) -> Option<Entry> {
        let entry = self.ready.pop_front()?;
        self.bytes -= entry.parcel.body.len();
        Some(entry)
    }
}

/// The newest messages, numbered.
#[derive(Debug, Default)]
pub(super) struct History {
    kept: VecDeque<Arc<Parcel>>,
    bytes: usize,
    /// The number of the oldest that is kept.
    first: u64,
}

impl History {
    /// The number that the next message gets.
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    pub(super) fn push(&mut self, parcel: Arc<Parcel>) {
        self.bytes += parcel.body.len();
        self.kept.push_back(parcel);
        while self.kept.len() > HISTORY_LENGTH_MAX || self.bytes > HISTORY_BYTES_MAX {
            let oldest = self.kept.pop_front();
            self.bytes -= oldest.map_or(0, |parcel| parcel.body.len());
            self.first += 1;
        }
    }

    /// Where a reader begins.
    pub(super) fn begin(&self, since: Since) -> u64 {
        match since {
            Since::Next => self.next(),
            Since::First => self.first,
            Since::Offset(offset) => offset,
        }
    }

    /// The message at `offset` or, when that is not kept any more, the oldest; with its number.
    pub(super) fn read(&self, offset: u64) -> Option<(u64, &Arc<Parcel>)> {
        let offset = offset.max(self.first);
        let place = usize::try_from(offset - self.first).ok()?;
        self.kept.get(place).map(|parcel| (offset, parcel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Ingress;

    fn parcel() -> Arc<Parcel> {
        Arc::new(Parcel::from(Message {
            ingress: Ingress::Tasks,
            key: String::new(),
            id: String::new(),
            content: Content::Json,
            body: Vec::new(),
        }))
    }

    #[test]
    fn a_full_queue_refuses_or_drops_its_oldest() {
        for (overflow, is_taken) in [(Overflow::Refuse, false), (Overflow::DropOldest, true)] {
            let mut queue = Queue::new(overflow);
            for _ in 0..QUEUE_LENGTH_MAX {
                assert!(queue.push(parcel()));
            }
            assert_eq!(queue.push(parcel()), is_taken);
            assert_eq!(queue.len(), QUEUE_LENGTH_MAX);
        }
    }

    #[test]
    fn a_reader_of_the_history_that_falls_behind_goes_on_with_the_oldest() {
        let mut history = History::default();
        let begun = history.begin(Since::Next);
        for _ in 0..HISTORY_LENGTH_MAX + 5 {
            history.push(parcel());
        }
        let (offset, _) = history.read(begun).unwrap();
        assert_eq!(offset, 5);
        assert!(history.read(history.begin(Since::Next)).is_none());
        assert_eq!(history.begin(Since::First), 5);
    }
}
