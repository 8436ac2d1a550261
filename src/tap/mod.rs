//! Listening to everything that happens, without taking part: every event of the four flows.
//!
//! A tap reads the history and takes nothing away; however slow it is, work goes on. What it missed because the
//! history no longer keeps it is said as a [`Seen::Gap`].

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::{
    Broker, BrokerError, Credit, Deliveries, Since, Source, topology::topic_matches,
};
use crate::wire::{Event, parse_events};

/// Messages that a tap may hold unread.
const CREDIT: Credit = 200;

/// What a tap sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Something happened.
    Event {
        /// What.
        event: Box<Event>,
        /// The exchange it was published to. By `longshore.announced` come two flows, and the event's source says which.
        exchange: String,
        /// Its message's place in the history. A message may hold many events.
        offset: u64,
        /// Whether its message holds no other that comes after it and is wanted: read on from `offset + 1`. After any other
        /// read on from `offset`, and see some again, to miss nothing.
        is_last: bool,
    },
    /// Messages that are no longer kept.
    Gap {
        /// How many.
        missed: u64,
    },
}

/// A passive listener.
#[derive(Debug)]
pub struct Tap {
    deliveries: Deliveries,
    filter: Filter,
    next_offset: Option<u64>,
    seen: VecDeque<Seen>,
}

/// Which events a tap wants: topic patterns over `kind.queue.action`, such as `failed.#` or `*.bulk.#`; none means
/// all. `*` is one word, `#` any number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    patterns: Vec<String>,
}

impl Filter {
    /// Everything that matches one of `patterns`.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        Self {
            patterns: patterns
                .into_iter()
                .filter(|pattern| !pattern.is_empty())
                .collect(),
        }
    }

    /// Whether `event` is wanted.
    pub fn wants(&self, event: &Event) -> bool {
        let key = event.filter_key();
        self.patterns.is_empty()
            || self
                .patterns
                .iter()
                .any(|pattern| topic_matches(pattern, &key))
    }
}

impl Tap {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Denied`] or [`BrokerError::NoQueue`]; a broker that is away is no error: the tap begins when
    /// it is back.
    pub async fn open(
        broker: &Arc<dyn Broker>,
        filter: Filter,
        since: Since,
    ) -> Result<Self, BrokerError> {
        let deliveries = broker.consume(Source::History(since), CREDIT).await?;
        let next_offset = match since {
            Since::Offset(offset) => Some(offset),
            Since::Next | Since::First => None,
        };
        Ok(Self {
            deliveries,
            filter,
            next_offset,
            seen: VecDeque::new(),
        })
    }

    /// What is seen next; `None` once the broker was closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some(seen) = self.seen.pop_front() {
                return Some(seen);
            }
            let delivery = self.deliveries.next().await?;
            let offset = delivery.offset.or(self.next_offset).unwrap_or(0);
            let missed = self
                .next_offset
                .map_or(0, |expected| offset.saturating_sub(expected));
            if missed > 0 {
                self.seen.push_back(Seen::Gap { missed });
            }
            self.next_offset = Some(offset + 1);
            // What cannot be read is not ours: a tap shows events.
            let events = parse_events(&delivery.body).unwrap_or_default();
            let mut wanted = events
                .into_iter()
                .filter(|event| self.filter.wants(event))
                .peekable();
            while let Some(event) = wanted.next() {
                self.seen.push_back(Seen::Event {
                    event: Box::new(event),
                    exchange: delivery.exchange.clone(),
                    offset,
                    is_last: wanted.peek().is_none(),
                });
            }
            delivery.ack();
        }
    }
}
