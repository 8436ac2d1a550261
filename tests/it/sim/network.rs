//! The network between processes and servers, and what goes wrong in it.

use std::time::Duration;

use super::chance::Chance;

/// How often what goes wrong, in calls of a thousand, and who is away just now.
#[derive(Debug, Clone, Default)]
pub(super) struct Network {
    /// The longest that anything is on its way.
    pub(super) latency_max: Duration,
    /// A call of the store that never reaches it.
    pub(super) unheard: u32,
    /// A call of the store that is carried out, and whose answer is lost.
    pub(super) unanswered: u32,
    /// A call of the store that takes seconds.
    pub(super) slow: u32,
    /// A message that the broker takes and loses.
    pub(super) dropped: u32,
    /// A message that the broker refuses.
    pub(super) refused: u32,
    /// A message that the broker takes, and its confirm is lost.
    pub(super) unconfirmed: u32,
    /// A message that arrives twice.
    pub(super) doubled: u32,
    /// A message that arrives seconds later.
    pub(super) delayed: u32,
    /// A delivery that reaches its consumer seconds later.
    pub(super) late: u32,
    pub(super) is_store_away: bool,
    pub(super) is_broker_away: bool,
}

/// The shortest way.
const LATENCY_MIN: Duration = Duration::from_micros(50);

/// How long slow things take at most. Less than a store call may take (30 s), more than half a lease.
const SLOW_MAX: Duration = Duration::from_secs(9);

/// What becomes of one call of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreFate {
    pub(super) way_there: Duration,
    pub(super) way_back: Duration,
    pub(super) is_unheard: bool,
    pub(super) is_unanswered: bool,
}

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MessageFate {
    Arrives,
    Dropped,
    Refused,
    Unconfirmed,
    Doubled(Duration),
    Delayed(Duration),
}

impl Network {
    /// Nothing goes wrong.
    pub(super) fn calm() -> Self {
        Self {
            latency_max: Duration::from_millis(1),
            ..Self::default()
        }
    }

    /// Nothing is lost, and some takes seconds.
    pub(super) fn slow() -> Self {
        Self {
            slow: 300,
            ..Self::calm()
        }
    }

    /// A network of its own kind for each seed: some faults, and not all of them, so that one does not hide another.
    pub(super) fn faulty(chance: &mut Chance) -> Self {
        // A store that fails now and then is never trusted for a whole lease, and so nobody is found lost: the faults of
        // whole processes need a network that works.
        if chance.hits(400) {
            return Self::calm();
        }
        let mut rate = || match chance.below(3) {
            0 => 0,
            1 => 20,
            _ => 150,
        };
        let (unheard, unanswered, slow) = (rate(), rate(), rate() / 3);
        let (dropped, refused, unconfirmed) = (rate(), rate(), rate());
        let (doubled, delayed, late) = (rate(), rate(), rate());
        let latency_max = Duration::from_millis([1, 5, 200][chance.below(3)]);
        Self {
            latency_max,
            unheard,
            unanswered,
            slow,
            dropped,
            refused,
            unconfirmed,
            doubled,
            delayed,
            late,
            ..Self::default()
        }
    }

    /// The way of something through the network.
    pub(super) fn way(&self, chance: &mut Chance) -> Duration {
        chance.between(LATENCY_MIN, self.latency_max.max(LATENCY_MIN))
    }

    pub(super) fn of_call(&self, chance: &mut Chance) -> StoreFate {
        let (mut way_there, mut way_back) = (self.way(chance), self.way(chance));
        if chance.hits(self.slow) {
            let slowness = chance.between(Duration::ZERO, SLOW_MAX);
            if chance.hits(500) {
                way_there += slowness;
            } else {
                way_back += slowness;
            }
        }
        StoreFate {
            way_there,
            way_back,
            is_unheard: chance.hits(self.unheard),
            is_unanswered: chance.hits(self.unanswered),
        }
    }

    pub(super) fn of_message(&self, chance: &mut Chance) -> MessageFate {
        let later = chance.between(Duration::ZERO, SLOW_MAX);
        let fates = [
            (self.dropped, MessageFate::Dropped),
            (self.refused, MessageFate::Refused),
            (self.unconfirmed, MessageFate::Unconfirmed),
            (self.doubled, MessageFate::Doubled(later)),
            (self.delayed, MessageFate::Delayed(later)),
        ];
        let hit = fates.into_iter().find(|(rate, _)| chance.hits(*rate));
        hit.map_or(MessageFate::Arrives, |(_, fate)| fate)
    }

    /// How long a delivery is on its way.
    pub(super) fn of_delivery(&self, chance: &mut Chance) -> Duration {
        let way = self.way(chance);
        if chance.hits(self.late) {
            way + chance.between(Duration::ZERO, SLOW_MAX)
        } else {
            way
        }
    }
}
