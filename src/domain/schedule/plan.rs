//! What one look at a schedule leads to.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{CatchUp, FiringState, Overlap, ScheduleRecord};
use crate::domain::limits::{CATCH_UP_MAX, FIRINGS_WAITING_MAX, PUNCTUAL_MAX, WAITING_INTERVAL};

/// Why a schedule is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Its time has come.
    Due,
    /// Somebody wants it to fire now.
    Triggered,
}

/// What a look at a schedule leads to. At most one task is started by a look: all policies let one run at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Firings that are skipped, or wait from now on; in order.
    pub noted: Vec<(Timestamp, FiringState)>,
    /// The firing whose task is submitted. It may have waited.
    pub starts: Option<Timestamp>,
    /// Whether the task of the firing before is cancelled first.
    pub cancels: bool,
    /// When it fires next.
    pub next_at: Option<Timestamp>,
    /// When it is to be looked at again: then, or sooner when firings wait.
    pub look_at: Option<Timestamp>,
}

impl ScheduleRecord {
    /// What a look at `now` leads to.
    ///
    /// `waiting` are the firings that wait, in order; `is_open` tells whether the task of the last firing has not ended.
    pub fn plan(&self, turn: Turn, now: Timestamp, waiting: &[Timestamp], is_open: bool) -> Plan {
        let due = match turn {
            Turn::Triggered => vec![now],
            Turn::Due => self.due(now),
        };
        let is_over = self.next_at.is_some_and(|next| next <= now);
        let next_at = match turn {
            Turn::Due if is_over => self.spec.timing.next_after(now, self.created_at),
            Turn::Due | Turn::Triggered => self.next_at,
        };
        let mut plan = Plan {
            noted: Vec::new(),
            starts: None,
            cancels: false,
            next_at,
            look_at: next_at,
        };
        match self.spec.overlap {
            Overlap::Skip if is_open => plan.skip(&due),
            Overlap::Skip => plan.start_last(&due),
            Overlap::CancelPrevious => {
                plan.start_last(&due);
                plan.cancels = is_open && plan.starts.is_some();
            }
            Overlap::Queue => plan.enqueue(&due, waiting, is_open, now),
        }
        if self.is_paused {
            plan.look_at = None;
        }
        plan
    }

    /// The firings that are made, of all that are due.
    fn due(&self, now: Timestamp) -> Vec<Timestamp> {
        let Some(since) = self.next_at.filter(|next| *next <= now) else {
            return Vec::new();
        };
        let count = match self.spec.catch_up {
            CatchUp::None | CatchUp::Last => 1,
            CatchUp::All => CATCH_UP_MAX,
        };
        let mut due = self.spec.timing.newest(since, now, self.created_at, count);
        // The store may have been told a time that the timing does not know, such as one before a change of the rules.
        if due.is_empty() {
            due.push_back(since);
        }
        if self.spec.catch_up == CatchUp::None {
            let late = SignedDuration::try_from(PUNCTUAL_MAX).unwrap_or_default();
            due.retain(|due| now.duration_since(*due) <= late);
        }
        due.into()
    }
}

impl Plan {
    fn skip(&mut self, due: &[Timestamp]) {
        let skipped = due.iter().map(|due| (*due, FiringState::Skipped));
        self.noted.extend(skipped);
    }

    fn start_last(&mut self, due: &[Timestamp]) {
        if let Some((last, others)) = due.split_last() {
            self.skip(others);
            self.starts = Some(*last);
        }
    }

    fn enqueue(&mut self, due: &[Timestamp], waiting: &[Timestamp], is_open: bool, now: Timestamp) {
        let mut line = waiting.iter().chain(due);
        if !is_open {
            self.starts = line.next().copied();
        }
        let is_left = line.next().is_some();
        let started_waiting = self.starts.is_some() && !waiting.is_empty();
        let room = FIRINGS_WAITING_MAX - waiting.len().min(FIRINGS_WAITING_MAX)
            + usize::from(started_waiting);
        let new = due.iter().filter(|due| self.starts != Some(**due));
        for (place, due) in new.enumerate() {
            let state = if place < room {
                FiringState::Waiting
            } else {
                FiringState::Skipped
            };
            self.noted.push((*due, state));
        }
        if is_left {
            let soon = later(now, WAITING_INTERVAL);
            self.look_at = Some(self.next_at.map_or(soon, |next| next.min(soon)));
        }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or_default();
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ActionName, Cron, Payload, ScheduleName, ScheduleSpec, Submission, Timing, Zone,
    };

    /// So many seconds after ten o'clock.
    fn time(seconds: i64) -> Timestamp {
        let ten: Timestamp = "2026-05-05T10:00:00Z".parse().unwrap();
        ten + SignedDuration::from_secs(seconds)
    }

    /// Fires every minute; due at ten o'clock.
    fn record(overlap: Overlap, catch_up: CatchUp) -> ScheduleRecord {
        ScheduleRecord {
            spec: ScheduleSpec {
                name: ScheduleName::new("often").unwrap(),
                timing: Timing::Cron {
                    cron: Cron::new("* * * * *").unwrap(),
                    zone: Zone::utc(),
                },
                task: Submission::new(ActionName::new("echo").unwrap(), Payload::null()),
                overlap,
                catch_up,
            },
            is_paused: false,
            error: None,
            next_at: Some(time(0)),
            last_task: None,
            created_at: time(-3600),
            created_by: "me".to_owned(),
        }
    }

    #[test]
    fn what_was_missed_is_dropped_or_made_up_for_once_or_each() {
        for (catch_up, now, expected) in [
            (CatchUp::None, 1, vec![0]),
            (CatchUp::None, 60, vec![60]),
            (CatchUp::None, 150, vec![120]),
            (CatchUp::Last, 1, vec![0]),
            (CatchUp::Last, 3600, vec![3600]),
            (CatchUp::All, 1, vec![0]),
            (CatchUp::All, 130, vec![0, 60, 120]),
        ] {
            let due = record(Overlap::Queue, catch_up).due(time(now));
            let expected: Vec<_> = expected.into_iter().map(time).collect();
            assert_eq!(due, expected, "{catch_up} {now}");
        }
        let day = record(Overlap::Queue, CatchUp::All).due(time(86_400));
        assert_eq!(day.len(), CATCH_UP_MAX, "the newest of them");
        assert_eq!(day.last(), Some(&time(86_400)));
        let mut nightly = record(Overlap::Skip, CatchUp::None);
        nightly.spec.timing = Timing::Once(time(0));
        assert_eq!(nightly.due(time(61)), [], "dropped");
        let plan = nightly.plan(Turn::Due, time(61), &[], false);
        assert_eq!((plan.starts, plan.next_at), (None, None));
    }

    #[test]
    fn a_firing_that_overlaps_is_skipped_or_waits_or_ends_the_one_before() {
        let plan = |overlap, is_open| {
            let plan = record(overlap, CatchUp::Last).plan(Turn::Due, time(1), &[], is_open);
            assert_eq!(plan.next_at, Some(time(60)));
            plan
        };
        for overlap in [Overlap::Skip, Overlap::Queue, Overlap::CancelPrevious] {
            let plan = plan(overlap, false);
            assert_eq!(plan.starts, Some(time(0)), "{overlap}");
            assert_eq!((plan.noted, plan.cancels), (vec![], false));
            assert_eq!(plan.look_at, Some(time(60)));
        }
        let skipped = plan(Overlap::Skip, true);
        assert_eq!(skipped.noted, [(time(0), FiringState::Skipped)]);
        assert_eq!((skipped.starts, skipped.look_at), (None, Some(time(60))));
        let waits = plan(Overlap::Queue, true);
        assert_eq!(waits.noted, [(time(0), FiringState::Waiting)]);
        assert_eq!((waits.starts, waits.look_at), (None, Some(time(6))));
        let cancels = plan(Overlap::CancelPrevious, true);
        assert_eq!((cancels.starts, cancels.cancels), (Some(time(0)), true));
    }

    #[test]
    fn firings_that_wait_start_one_after_the_other() {
        let schedule = ScheduleRecord {
            next_at: Some(time(60)),
            ..record(Overlap::Queue, CatchUp::All)
        };
        let waiting = [time(-120), time(-60)];
        let plan = schedule.plan(Turn::Due, time(1), &waiting, false);
        assert_eq!((plan.starts, plan.noted), (Some(time(-120)), vec![]));
        assert_eq!(plan.look_at, Some(time(6)));
        let plan = schedule.plan(Turn::Due, time(1), &waiting[1..], false);
        assert_eq!(
            (plan.starts, plan.look_at),
            (Some(time(-60)), Some(time(60)))
        );
        let plan = schedule.plan(Turn::Due, time(61), &waiting[..1], false);
        assert_eq!(plan.starts, Some(time(-120)), "the oldest first");
        assert_eq!(plan.noted, [(time(60), FiringState::Waiting)]);
    }

    #[test]
    fn no_more_wait_than_there_is_room_for() {
        let waiting: Vec<_> = (1..=100).map(|n| time(-60 * n)).rev().collect();
        let schedule = record(Overlap::Queue, CatchUp::All);
        let full = schedule.plan(Turn::Due, time(61), &waiting, true);
        let states: Vec<_> = full.noted.iter().map(|(_, state)| *state).collect();
        assert_eq!(states, [FiringState::Skipped; 2]);
        let starts = schedule.plan(Turn::Due, time(61), &waiting, false);
        let states: Vec<_> = starts.noted.iter().map(|(_, state)| *state).collect();
        assert_eq!(states, [FiringState::Waiting, FiringState::Skipped]);
    }

    #[test]
    fn a_trigger_fires_now_and_moves_no_time() {
        let schedule = ScheduleRecord {
            next_at: None,
            is_paused: true,
            ..record(Overlap::Skip, CatchUp::Last)
        };
        let plan = schedule.plan(Turn::Triggered, time(7), &[], false);
        assert_eq!((plan.starts, plan.next_at), (Some(time(7)), None));
        let active = record(Overlap::Skip, CatchUp::Last);
        let plan = active.plan(Turn::Triggered, time(7), &[], true);
        assert_eq!(plan.noted, [(time(7), FiringState::Skipped)]);
        assert_eq!(plan.next_at, Some(time(0)), "what is due stays due");
    }
}
