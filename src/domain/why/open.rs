//! Tasks that have not ended: what each waits for.

use std::time::Duration;

use jiff::Timestamp;

use super::{Announcements, Case, Why, between, counted, executors, names, offers, serves};
use crate::domain::limits::{AHEAD_MAX, CLAIM_EXPECTED, CRASHES_MAX};
use crate::domain::{Delivery, ExecutorRecord, ExecutorState, OnFailure};

impl Case<'_> {
    pub(super) fn scheduled(&self) -> Why {
        let task = self.task;
        let is_retry = task.failures > 0;
        let mut evidence = Vec::new();
        if is_retry {
            evidence.push(format!("attempt {} failed: {}", task.attempt, self.error()));
            let (failures, max) = (task.failures, task.options.retry.attempts_max());
            evidence.push(format!(
                "{failures} of {} failed so far",
                counted(max.into(), "attempt")
            ));
        }
        let what = if is_retry {
            "its next attempt"
        } else {
            "its time"
        };
        let Some(run_at) = task.run_at else {
            return Why::new(
                format!("it waits for {what}, and no time is stored"),
                evidence,
            );
        };
        evidence.push(format!(
            "{} {run_at}",
            if is_retry {
                "the next attempt is due at"
            } else {
                "`run_at` is"
            }
        ));
        let verdict = match (self.until(run_at), self.live().next().is_some()) {
            (Some(left), _) => format!("it waits for {what}, which is due in {left}"),
            (None, true) => format!(
                "{what} came {}: an executor is about to make it ready",
                self.ago(run_at)
            ),
            (None, false) => format!(
                "{what} came {}, and no executor lives to make it ready",
                self.ago(run_at)
            ),
        };
        Why::new(verdict, evidence)
    }

    pub(super) fn blocked(&self) -> Why {
        let Some(place) = &self.task.fan_out else {
            return Why::new(
                "it is blocked, and what it waits for is not known to this version",
                ["a newer version of longshore has put it there".to_owned()],
            );
        };
        let evidence = vec![format!("its parent is `{}`", place.parent)];
        let counts = self
            .circumstances
            .fan_outs
            .first()
            .map(|(_, counts)| counts);
        let Some(counts) = counts else {
            let verdict = format!("it waits for its turn among the sub-tasks `{}`", place.name);
            return Why::new(verdict, evidence);
        };
        let max = counts.plan.in_flight_max.unwrap_or(u32::MAX);
        let verdict = format!(
            "it waits for its turn: {} of the sub-tasks `{}` may be in flight, and {} are",
            max, place.name, counts.in_flight
        );
        let before = place.place.saturating_sub(counts.granted);
        let before = format!("{before} of its siblings have their turn before it");
        Why::new(verdict, evidence.into_iter().chain([before]))
    }

    pub(super) fn suspended(&self) -> Why {
        let Some(waiting_for) = &self.task.waiting_for else {
            return Why::new(
                "it is suspended, and its row does not say what it waits for: `longshore audit` tells more",
                [],
            );
        };
        let mut whats: Vec<String> = waiting_for
            .signals
            .iter()
            .map(|name| format!("the signal `{name}`"))
            .collect();
        let mut evidence = Vec::new();
        for name in &waiting_for.fan_outs {
            whats.push(format!("the sub-tasks `{name}`"));
            let mut known = self.circumstances.fan_outs.iter();
            if let Some((_, counts)) = known.find(|(known, _)| known == name) {
                evidence.push(format!(
                    "{} of {} sub-tasks `{name}` have not ended, {} have failed or were cancelled",
                    counts.open, counts.stored, counts.failed
                ));
            }
        }
        if waiting_for.has_timer {
            whats.push(match self.circumstances.wakes_at {
                None => "a time".to_owned(),
                Some(wakes_at) => match self.until(wakes_at) {
                    Some(left) => format!("a time, which comes in {left}"),
                    None => "a time, which has just come".to_owned(),
                },
            });
        }
        for name in &waiting_for.signals {
            evidence.push(format!(
                "send it: `longshore task signal {} {name} PAYLOAD`",
                self.task.id
            ));
        }
        Why::new(format!("it waits for {}", whats.join(", or ")), evidence)
    }

    pub(super) fn ready(&self) -> Why {
        let (queue, action) = (&self.task.queue, &self.task.action);
        if let Some(pause) = &self.circumstances.paused {
            let (by, ago) = (&pause.by, self.ago(pause.at));
            return Why::new(
                format!("the queue `{queue}` is paused"),
                [
                    format!("`{by}` has paused it {ago}"),
                    format!("let it go on: `longshore queue resume {queue}`"),
                ],
            );
        }
        if self.live().next().is_none() {
            return Why::new("no executor lives", self.last_one("was the last", |_| true));
        }
        let serving: Vec<_> = self.live().filter(|one| serves(one, queue)).collect();
        if serving.is_empty() {
            let verdict = format!("no live executor serves the queue `{queue}`");
            let served = names(self.live().flat_map(|one| one.slots.keys()));
            let evidence = [format!("those that live serve {served}")];
            let last = self.last_one("served it", |one| serves(one, queue));
            return Why::new(verdict, evidence.into_iter().chain(last));
        }
        if !serving.iter().any(|one| offers(one, action)) {
            let verdict =
                format!("no live executor of the queue `{queue}` offers the action `{action}`");
            let offered = names(serving.iter().flat_map(|one| &one.actions));
            let elsewhere = names(
                self.live()
                    .filter(|one| offers(one, action))
                    .map(|one| &one.name),
            );
            let elsewhere = (!elsewhere.is_empty())
                .then(|| format!("{elsewhere} offers it, and serves other queues"));
            let last = self.last_one("offered it", |one| offers(one, action));
            let evidence = std::iter::once(format!("those of the queue offer {offered}"));
            return Why::new(verdict, evidence.chain(elsewhere).chain(last));
        }
        let slots: u64 = serving
            .iter()
            .filter_map(|one| one.slots.get(queue))
            .map(|slots| u64::from(*slots))
            .sum();
        let mut evidence = vec![format!(
            "{} of the queue `{queue}`, on {}: {} in use",
            counted(slots, "slot"),
            names(serving.iter().map(|one| &one.name)),
            self.circumstances.running
        )];
        evidence.extend(self.last_attempt());
        evidence.extend(self.unannounced());
        Why::new(self.turn(slots), evidence)
    }

    /// Why it is ready again, although it has run.
    fn last_attempt(&self) -> Option<String> {
        let task = self.task;
        if task.attempt.0 == 0 {
            return None;
        }
        let attempt = format!("attempt {}", task.attempt);
        let owner = task.executor.and_then(|id| self.executor(id));
        if let Some(lost) = owner.filter(|owner| owner.state == ExecutorState::Lost) {
            let ago = self.ago(lost.lease_ends_at);
            return Some(format!(
                "{attempt} did not end: its executor `{}` was lost {ago}",
                lost.name
            ));
        }
        Some(if task.crashes > 0 || task.suspicions > 0 {
            format!("{attempt} did not end: its executor was lost")
        } else if task.failures > 0 {
            format!("{attempt} has ended; the last failure: {}", self.error())
        } else {
            format!("{attempt} was interrupted: it waited for something, or its executor stopped")
        })
    }

    /// Why a task that somebody could run has not been taken.
    fn turn(&self, slots: u64) -> String {
        let queue = &self.task.queue;
        let ready_for = self
            .task
            .ready_at
            .map(|at| between(at, self.circumstances.now));
        let ready_for = ready_for.unwrap_or_default();
        let is_late = self.task.ready_at.is_some_and(|at| {
            let waited = self.circumstances.now.duration_since(at);
            Duration::try_from(waited).is_ok_and(|waited| waited > CLAIM_EXPECTED)
        });
        match self.circumstances.ahead {
            0 => {}
            1 => return format!("1 task stands before it in the queue `{queue}`"),
            AHEAD_MAX.. => {
                return format!("{AHEAD_MAX} tasks or more stand before it in the queue `{queue}`");
            }
            ahead => return format!("{ahead} tasks stand before it in the queue `{queue}`"),
        }
        if self.circumstances.running >= slots {
            return format!("it is the next in the queue `{queue}`, and all its slots are taken");
        }
        match (&self.circumstances.announcements, is_late) {
            (Announcements::Held(_), _) => {
                format!(
                    "it has been ready for {ready_for}, and the broker does not announce it: executors look in the store themselves, within seconds"
                )
            }
            (Announcements::Travel | Announcements::Unused, false) => {
                format!("it has been ready for {ready_for}, and is about to be taken")
            }
            (Announcements::Travel, true) => {
                format!(
                    "it has been ready for {ready_for}, and its announcement may be lost: executors look in the store themselves, within seconds"
                )
            }
            (Announcements::Unused, true) => {
                format!(
                    "it has been ready for {ready_for}, and nobody has taken it: executors look in the store without a pause"
                )
            }
        }
    }

    fn unannounced(&self) -> Option<String> {
        match &self.circumstances.announcements {
            Announcements::Travel => None,
            Announcements::Held(reason) => Some(format!("the broker: {reason}")),
            Announcements::Unused => Some("this system has no broker".to_owned()),
        }
    }

    /// The one that did it last, among those that were lost in the last day.
    fn last_one(&self, did: &str, is_one: impl Fn(&ExecutorRecord) -> bool) -> Option<String> {
        let executors = self.circumstances.executors.iter();
        let last = executors
            .filter(|one| one.state == ExecutorState::Lost && is_one(one))
            .max_by_key(|one| one.lease_ends_at)?;
        Some(format!(
            "`{}` {did}; it was lost {}",
            last.name,
            self.ago(last.lease_ends_at)
        ))
    }

    pub(super) fn running(&self) -> Why {
        let task = self.task;
        let Some(id) = task.executor else {
            return Why::new("it runs, and no executor is stored", self.history());
        };
        let began = task
            .started_at
            .map_or_else(String::new, |at| format!(" {}", self.ago(at)));
        let runs = format!(
            "attempt {} began{began} on {}",
            task.attempt,
            self.executor_words(id)
        );
        let owner = self.executor(id);
        let is_lost = owner.is_none_or(|owner| {
            owner.state == ExecutorState::Lost || owner.lease_ends_at <= self.circumstances.now
        });
        if is_lost {
            let ended = owner.map_or_else(
                || "its executor is gone".to_owned(),
                |owner| {
                    format!(
                        "its executor `{}` was lost {}",
                        owner.name,
                        self.ago(owner.lease_ends_at)
                    )
                },
            );
            let verdict = format!("{ended}: {}", self.after_loss());
            return Why::new(verdict, std::iter::once(runs).chain(self.history()));
        }
        let left = owner.and_then(|owner| self.until(owner.lease_ends_at));
        let lease = left
            .map(|left| format!("the lease of its executor ends in {left}, and is renewed before"));
        if let Some(asked) = task.cancel_requested_at {
            let verdict = format!(
                "somebody asked {} to cancel it, and its action has not stopped yet",
                self.ago(asked)
            );
            return Why::new(
                verdict,
                std::iter::once(runs).chain(self.history()).chain(lease),
            );
        }
        match self.time_limit() {
            Some(verdict) if self.is_past_its_limit() => Why::new(
                verdict,
                std::iter::once(runs).chain(self.history()).chain(lease),
            ),
            limit => Why::new(
                format!("it runs: {runs}"),
                self.history().into_iter().chain(limit).chain(lease),
            ),
        }
    }

    /// When its attempt is to be stopped.
    fn limit_ends_at(&self) -> Option<Timestamp> {
        let (limit, started_at) = self.task.options.timeout.zip(self.task.started_at)?;
        started_at.checked_add(limit).ok()
    }

    fn is_past_its_limit(&self) -> bool {
        self.limit_ends_at()
            .is_some_and(|at| self.until(at).is_none())
    }

    fn time_limit(&self) -> Option<String> {
        let ends_at = self.limit_ends_at()?;
        Some(match self.until(ends_at) {
            Some(left) => format!("its time limit ends in {left}"),
            None => format!(
                "its time limit ended {}, and its action is being stopped",
                self.ago(ends_at)
            ),
        })
    }

    /// What follows when its executor is lost.
    fn after_loss(&self) -> &'static str {
        let is_cancelled = self.task.cancel_requested_at.is_some();
        let options = &self.task.options;
        match (is_cancelled, options.delivery, options.on_failure) {
            (true, ..) => "it is about to be cancelled",
            (false, Delivery::Rerun, _) if self.live().next().is_none() => {
                "no executor lives to take it over"
            }
            (false, Delivery::Rerun, _) => "it is about to be taken over by another",
            (false, Delivery::Once, OnFailure::Fail) => {
                "it is about to fail, because it may run only once"
            }
            (false, Delivery::Once, OnFailure::Pause) => {
                "it is about to pause, because it may run only once"
            }
        }
    }

    /// What became of the attempts before this one.
    fn history(&self) -> Vec<String> {
        let task = self.task;
        let before = task.attempt.0.saturating_sub(1);
        let failed = task.failures.min(before);
        let unfinished = before - failed;
        let mut said = Vec::new();
        if failed > 0 {
            let failed = counted(failed.into(), "attempt");
            said.push(format!(
                "{failed} before it failed, the last: {}",
                self.error()
            ));
        }
        if unfinished > 0 {
            let unfinished = counted(unfinished.into(), "attempt");
            // Each wait that lasted has ended an attempt as well: nobody is blamed for those.
            said.push(if task.crashes > 0 || task.suspicions > 0 {
                format!(
                    "{unfinished} before it did not end: suspended, or the executor stopped or was lost"
                )
            } else {
                format!("{unfinished} before it did not end: suspended, or given back")
            });
        }
        said
    }

    pub(super) fn paused(&self) -> Why {
        let task = self.task;
        let is_quarantined =
            task.crashes >= CRASHES_MAX && task.options.delivery == Delivery::Rerun;
        let verdict = if is_quarantined {
            format!(
                "it is quarantined: {} died of it, and nobody runs it any more",
                executors(task.crashes)
            )
        } else {
            format!("it waits for a person: {}", self.error())
        };
        let reason = is_quarantined.then(|| self.error().to_owned());
        let asked = (task.options.on_failure == OnFailure::Pause)
            .then(|| "`on_failure` is `pause`: a person is to decide".to_owned());
        let ran = task.executor.map(|id| {
            format!(
                "attempt {} ran on {}",
                task.attempt,
                self.executor_words(id)
            )
        });
        let remedy = format!(
            "`longshore task resume {}` gives it one more try; `retry`, `skip`, `abandon` and `cancel` are the others",
            task.id
        );
        let evidence = reason.into_iter().chain(asked).chain(ran).chain([remedy]);
        Why::new(verdict, evidence)
    }
}
