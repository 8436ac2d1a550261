//! What came of it: violations, of which there must be none, and numbers.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use uuid::Uuid;

use super::Plan;
use super::faults::{Faults, Kill};
use super::tasks::{FAN, Kind, ONCE_RUNS, Planned, RERUN_RUNS};
use crate::support::fleet::Fleet;
use crate::support::ledger::Entry;

/// What came of it.
#[derive(Debug)]
pub(super) struct Report {
    plan: Plan,
    /// What was done, by kind.
    faults: BTreeMap<&'static str, usize>,
    /// What ran when its executor was killed: the attempt, and when by the store's clock.
    lost: HashMap<Uuid, (i32, f64)>,
    /// Unit: seconds from the death of an executor to the next attempt of what it ran; sorted.
    take_overs: Vec<f64>,
    /// Unit: seconds from the death of an executor until it was found lost; sorted.
    found: Vec<f64>,
    /// The same of those whose broker was away.
    found_without_broker: Vec<f64>,
    /// Tasks by their last state.
    states: BTreeMap<String, usize>,
    /// Clients that waited and were answered.
    pub(super) waited: usize,
    /// Runs beyond the first of tasks that may run again.
    doubled_runs: usize,
    /// Tasks that may run only once, and were lost in the middle.
    lost_once: usize,
    /// What must not be.
    pub(super) violations: Vec<String>,
}

impl Report {
    pub(super) fn of(plan: Plan, faults: &Faults<'_>) -> Self {
        Self {
            plan,
            faults: faults.counts(),
            lost: faults.lost(),
            take_overs: Vec::new(),
            found: Vec::new(),
            found_without_broker: Vec::new(),
            states: BTreeMap::new(),
            waited: 0,
            doubled_runs: 0,
            lost_once: 0,
            violations: Vec::new(),
        }
    }

    /// Holds every task against what it was to come to.
    pub(super) async fn judge(
        &mut self,
        fleet: &Fleet,
        kills: &[Kill],
        planned: &[Planned],
        rows: &[(Uuid, Entry)],
    ) {
        let (once, rerun) = (runs(fleet, ONCE_RUNS), runs(fleet, RERUN_RUNS));
        for (task, (_, row)) in planned.iter().zip(rows) {
            *self.states.entry(row.state.clone()).or_default() += 1;
            let ran = match task.kind {
                Kind::Once => once.get(&task.id),
                Kind::Echo
                | Kind::Nap
                | Kind::Failing
                | Kind::Rerun
                | Kind::FanOut
                | Kind::Poison => rerun.get(&task.id),
            };
            self.judge_one(task, row, ran.copied().unwrap_or(0));
            self.note_take_over(task, row);
        }
        self.take_overs.sort_by(f64::total_cmp);
        self.note_losses(kills, &fleet.ledger().losses().await);
        let children = fleet.ledger().children().await;
        for task in planned.iter().filter(|task| task.kind == Kind::FanOut) {
            let count = children.get(&task.id).copied().unwrap_or(0);
            if count != FAN {
                self.violations
                    .push(format!("{count} sub-tasks instead of {FAN}: {}", task.id));
            }
        }
        let open = fleet.ledger().tasks().await;
        let open = open.into_values().filter(Entry::is_open);
        self.violations
            .extend(open.map(|entry| format!("has not ended: {entry:?}")));
    }

    fn judge_one(&mut self, task: &Planned, row: &Entry, runs: usize) {
        let is_right = match (task.kind, row.state.as_str()) {
            (Kind::Echo | Kind::Nap | Kind::FanOut, state) => state == "succeeded",
            (Kind::Failing, state) => state == "failed",
            (Kind::Poison, state) => {
                let error = row.error.as_deref().unwrap_or_default();
                state == "paused" && error.contains("quarantined: ")
            }
            (Kind::Rerun, state) => {
                self.doubled_runs += runs.saturating_sub(1);
                state == "succeeded" && runs > 0
            }
            (Kind::Once, "succeeded") => runs == 1,
            (Kind::Once, state) => {
                self.lost_once += 1;
                let error = row.error.as_deref().unwrap_or_default();
                state == "failed" && error.contains("`once`") && runs <= 1
            }
        };
        if !is_right {
            self.violations
                .push(format!("{:?} that ran {runs} times: {row:?}", task.kind));
        }
    }

    /// How long what was lost waited for its next attempt, if it had just one more.
    fn note_take_over(&mut self, task: &Planned, row: &Entry) {
        let lost = self.lost.get(&task.id);
        if let (Some((attempt, at)), Some(started_at)) = (lost, row.started_at)
            && row.attempt == attempt + 1
            && ![Kind::Failing, Kind::Poison].contains(&task.kind)
        {
            self.take_overs.push(started_at - at);
        }
    }

    /// How long the dead were taken for living.
    fn note_losses(&mut self, kills: &[Kill], losses: &HashMap<Uuid, f64>) {
        for kill in kills {
            let found = if kill.lacks_token {
                &mut self.found_without_broker
            } else {
                &mut self.found
            };
            found.extend(losses.get(&kill.executor).map(|at| at - kill.at));
        }
        self.found.sort_by(f64::total_cmp);
        self.found_without_broker.sort_by(f64::total_cmp);
    }

    /// Says it, as it stands in `docs/reliability.md`.
    #[expect(clippy::print_stderr, reason = "the report is what the run is for")]
    pub(super) fn print(&self) {
        let list = |counts: Vec<String>| counts.join(", ");
        let faults = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"));
        let states = self
            .states
            .iter()
            .map(|(state, count)| format!("{state} {count}"));
        let rows = [
            (
                "seed, duration",
                format!("{}, {:?}", self.plan.seed, self.plan.duration),
            ),
            ("faults", self.faults.values().sum::<usize>().to_string()),
            ("faults by kind", list(faults.collect())),
            ("tasks submitted", self.plan.tasks.to_string()),
            ("tasks by state", list(states.collect())),
            ("clients that waited, all answered", self.waited.to_string()),
            (
                "attempts cut off by `kill -9` and taken over",
                self.take_overs.len().to_string(),
            ),
            (
                "from the kill to the next attempt, p50",
                percentile(&self.take_overs, 50),
            ),
            (
                "from the kill to the next attempt, p99",
                percentile(&self.take_overs, 99),
            ),
            (
                "from `kill -9` until the executor was found lost",
                spread(&self.found),
            ),
            (
                "the same while its broker was away",
                spread(&self.found_without_broker),
            ),
            (
                "`rerun`: runs of a program beyond the first",
                self.doubled_runs.to_string(),
            ),
            (
                "`once`: lost in the middle, failed with the cause",
                self.lost_once.to_string(),
            ),
            (
                "tasks lost",
                (self.plan.tasks - self.states.values().sum::<usize>()).to_string(),
            ),
            ("violations", self.violations.len().to_string()),
        ];
        eprintln!("| what | how much |\n| --- | --- |");
        for (what, how_much) in rows {
            eprintln!("| {what} | {how_much} |");
        }
    }
}

/// A part of what is sorted. Unit: seconds.
fn percentile(sorted: &[f64], percent: usize) -> String {
    let last = sorted.len().saturating_sub(1);
    match sorted.get(last * percent / 100) {
        Some(seconds) => format!("{seconds:.1} s"),
        None => "none".to_owned(),
    }
}

fn spread(sorted: &[f64]) -> String {
    let (middle, most) = (percentile(sorted, 50), percentile(sorted, 99));
    format!("p50 {middle}, p99 {most}, of {}", sorted.len())
}

/// How often each program has run.
fn runs(fleet: &Fleet, file: &str) -> HashMap<Uuid, usize> {
    let mut counts = HashMap::new();
    for line in fs::read_to_string(fleet.path(file))
        .unwrap_or_default()
        .lines()
    {
        *counts.entry(line.parse().unwrap()).or_default() += 1;
    }
    counts
}
