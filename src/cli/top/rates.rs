//! How many tasks came and ended in each of the last seconds.

use std::time::Duration;

/// Whole seconds that are remembered; beside them the one that is not over yet.
pub(super) const SECONDS: u32 = 60;

/// What happened in one second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) created: u32,
    pub(super) succeeded: u32,
    pub(super) failed: u32,
    pub(super) cancelled: u32,
}

impl Counts {
    const fn plus(self, other: Self) -> Self {
        Self {
            created: self.created.saturating_add(other.created),
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
            cancelled: self.cancelled.saturating_add(other.cancelled),
        }
    }

    const fn ended(self) -> u32 {
        self.succeeded
            .saturating_add(self.failed)
            .saturating_add(self.cancelled)
    }
}

/// How many of each in a second, on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct PerSecond {
    pub(super) created: f64,
    pub(super) succeeded: f64,
    pub(super) failed: f64,
    pub(super) cancelled: f64,
}

/// The last [`SECONDS`], each with what happened in it. Seconds are counted from the moment at which listening began.
#[derive(Debug, Clone)]
pub(super) struct Rates {
    ring: Vec<Counts>,
    began: Duration,
    /// The second that is not over yet.
    current: u64,
}

impl Rates {
    /// Nothing heard yet.
    pub(super) fn new(began: Duration) -> Self {
        Self {
            ring: vec![Counts::default(); SECONDS as usize + 1],
            began,
            current: 0,
        }
    }

    /// Forgets what is too old.
    pub(super) fn advance(&mut self, now: Duration) {
        let second = now.saturating_sub(self.began).as_secs();
        let passed = second.saturating_sub(self.current);
        for step in 1..=passed.min(self.ring.len() as u64) {
            let place = self.place(second + 1 - step);
            self.ring[place] = Counts::default();
        }
        self.current = self.current.max(second);
    }

    /// What happens now.
    pub(super) fn now(&mut self, now: Duration) -> &mut Counts {
        self.advance(now);
        let place = self.place(self.current);
        &mut self.ring[place]
    }

    /// How many seconds are over since listening began.
    pub(super) const fn heard(&self) -> u64 {
        self.current
    }

    /// On average over the last `seconds` whole ones, or as many as there were; `None` before the first is over.
    pub(super) fn per_second(&self, seconds: u32) -> Option<PerSecond> {
        let seconds = u64::from(seconds.min(SECONDS)).min(self.current);
        let seconds = u32::try_from(seconds).ok().filter(|count| *count > 0)?;
        let sum = self.last(seconds).fold(Counts::default(), Counts::plus);
        let average = |count| f64::from(count) / f64::from(seconds);
        Some(PerSecond {
            created: average(sum.created),
            succeeded: average(sum.succeeded),
            failed: average(sum.failed),
            cancelled: average(sum.cancelled),
        })
    }

    /// How many ended in each of the last `seconds` whole ones, the oldest first.
    pub(super) fn ended(&self, seconds: u32) -> Vec<u64> {
        self.last(seconds.min(SECONDS))
            .map(|counts| u64::from(counts.ended()))
            .collect()
    }

    fn last(&self, seconds: u32) -> impl Iterator<Item = Counts> {
        let begin = self.current.saturating_sub(u64::from(seconds));
        (begin..self.current).map(|second| self.ring[self.place(second)])
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than the length of the ring"
    )]
    fn place(&self, second: u64) -> usize {
        (second % self.ring.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn rates_are_of_whole_seconds() {
        let mut rates = Rates::new(at(100.5));
        rates.now(at(100.6)).created += 4;
        assert_eq!(rates.per_second(10), None);
        rates.now(at(101.4)).succeeded += 2;
        rates.now(at(101.6)).failed += 1;
        rates.advance(at(102.5));
        let ten = rates.per_second(10).unwrap();
        assert_eq!((ten.created, ten.succeeded, ten.failed), (2.0, 1.0, 0.5));
        let one = rates.per_second(1).unwrap();
        assert_eq!((one.created, one.succeeded, one.failed), (0.0, 0.0, 1.0));
        assert_eq!(rates.ended(3), [2, 1]);
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten() {
        let mut rates = Rates::new(at(0.0));
        for second in 0..200_u32 {
            rates.now(Duration::from_secs(second.into())).created += second;
        }
        let seen = rates.per_second(60).unwrap();
        let expected = f64::from((139..199).sum::<u32>()) / 60.0;
        assert!((seen.created - expected).abs() < 1e-9, "{seen:?}");
        rates.advance(at(1000.0));
        let seen = rates.per_second(60).unwrap();
        assert!(seen.created.abs() < 1e-9, "{seen:?}");
    }
}
