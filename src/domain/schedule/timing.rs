//! When a schedule fires.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp, ToSpan};

use super::{Cron, Zone};
use crate::domain::duration_words;

/// When a schedule fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timing {
    /// By the clocks of a time zone.
    Cron {
        /// At which minutes.
        cron: Cron,
        /// On whose clocks.
        zone: Zone,
    },
    /// Again and again after the same time.
    Interval {
        /// Which time. From `EVERY_MIN` to `DURATION_MAX`, whole microseconds.
        every: Duration,
        /// A time at which a firing falls; the others lie around it. When the schedule was made, if absent.
        anchor: Option<Timestamp>,
    },
    /// One time only.
    Once(Timestamp),
}

impl Timing {
    /// The first firing after `after`; `None` when there is none any more. `made_at` is when the schedule was made.
    pub fn next_after(&self, after: Timestamp, made_at: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { cron, zone } => cron.next_after(after, zone),
            Self::Interval { every, anchor } => {
                let anchor = anchor.unwrap_or(made_at).as_microsecond();
                let every = i64::try_from(every.as_micros()).ok()?.max(1);
                let since = after.as_microsecond().checked_sub(anchor)?;
                let next = since.div_euclid(every).checked_add(1)?.checked_mul(every)?;
                Timestamp::from_microsecond(anchor.checked_add(next)?).ok()
            }
            Self::Once(at) => Some(*at).filter(|at| *at > after),
        }
    }

    /// The next firings after `after`, at most `count`.
    pub fn upcoming(
        &self,
        after: Timestamp,
        made_at: Timestamp,
        count: usize,
    ) -> impl Iterator<Item = Timestamp> {
        let first = self.next_after(after, made_at);
        std::iter::successors(first, move |last| self.next_after(*last, made_at)).take(count)
    }

    /// The newest firings from `since` to `until`, both included, at most `count`, in order.
    ///
    /// Looks back over longer and longer times, so that an outage of a year costs little more than one of an hour.
    pub(super) fn newest(
        &self,
        since: Timestamp,
        until: Timestamp,
        made_at: Timestamp,
        count: usize,
    ) -> VecDeque<Timestamp> {
        let mut back = SignedDuration::from_mins(1);
        loop {
            let begin = until.checked_sub(back).unwrap_or(since).max(since);
            let mut found = VecDeque::with_capacity(count);
            let before = begin.checked_sub(1.microsecond()).unwrap_or(begin);
            let mut next = self.next_after(before, made_at);
            while let Some(due) = next.filter(|due| *due <= until) {
                if found.len() == count {
                    found.pop_front();
                }
                found.push_back(due);
                next = self.next_after(due, made_at);
            }
            if found.len() == count || begin <= since {
                return found;
            }
            back = back.saturating_mul(4);
        }
    }
}

impl fmt::Display for Timing {
    /// For people: `0 3 * * * Europe/Prague`, `every 15m 0s`, `at 2026-12-24T18:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cron { cron, zone } => write!(f, "{cron} {zone}"),
            Self::Interval { every, .. } => write!(f, "every {}", duration_words(*every)),
            Self::Once(at) => write!(f, "at {at}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hourly() -> Timing {
        Timing::Cron {
            cron: Cron::new("0 * * * *").unwrap(),
            zone: Zone::utc(),
        }
    }

    #[test]
    fn an_interval_goes_by_its_anchor_or_by_when_it_was_made() {
        let made_at = time("2026-01-01T00:00:07Z");
        for (anchor, after, expected) in [
            (None, "2026-01-01T00:00:07Z", "2026-01-01T00:15:07Z"),
            (None, "2026-01-01T00:15:06.999999Z", "2026-01-01T00:15:07Z"),
            (None, "2026-01-01T00:15:07Z", "2026-01-01T00:30:07Z"),
            (
                Some("2026-01-01T00:05:00Z"),
                "2026-01-01T00:00:07Z",
                "2026-01-01T00:05:00Z",
            ),
            (
                Some("2030-01-01T00:05:00Z"),
                "2026-01-01T00:00:07Z",
                "2026-01-01T00:05:00Z",
            ),
            (
                Some("1999-01-01T00:00:00Z"),
                "2026-01-01T00:00:07Z",
                "2026-01-01T00:15:00Z",
            ),
        ] {
            let timing = Timing::Interval {
                every: Duration::from_mins(15),
                anchor: anchor.map(time),
            };
            let next = timing.next_after(time(after), made_at);
            assert_eq!(next, Some(time(expected)), "{anchor:?} {after}");
        }
    }

    #[test]
    fn one_time_is_one_time() {
        let at = time("2026-12-24T18:00:00Z");
        let next = |after: Timestamp| Timing::Once(at).next_after(after, after);
        assert_eq!(next(time("2026-12-24T17:59:59Z")), Some(at));
        assert_eq!(next(at), None);
        let never = Timing::Interval {
            every: Duration::from_hours(24),
            anchor: None,
        };
        assert_eq!(never.next_after(Timestamp::MAX, at), None);
    }

    #[test]
    fn the_newest_firings_are_found_however_long_nobody_looked() {
        let until = time("2026-06-01T12:30:00Z");
        let newest = |since: &str, count| {
            let found = hourly().newest(time(since), until, until, count);
            found
                .iter()
                .map(|due| format!("{due:.0}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            newest("1970-01-01T00:00:00Z", 2),
            ["2026-06-01T11:00:00Z", "2026-06-01T12:00:00Z"]
        );
        assert_eq!(newest("2026-06-01T12:00:00Z", 2), ["2026-06-01T12:00:00Z"]);
        assert_eq!(newest("2026-06-01T12:00:01Z", 2), [""; 0]);
        assert_eq!(newest("2020-01-01T00:00:00Z", 100).len(), 100);
    }
}
