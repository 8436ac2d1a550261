//! What is to be done under faults.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Dice;
use crate::support::fleet::Fleet;

/// Sub-tasks of one task that makes some.
pub(super) const FAN: usize = 3;

/// The file in which programs that may run only once leave a line for each run.
pub(super) const ONCE_RUNS: &str = "once.runs";

/// The same for programs that may run again.
pub(super) const RERUN_RUNS: &str = "rerun.runs";

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It says what it was told.
    Echo,
    /// It takes a moment.
    Nap,
    /// It fails, is tried again, and fails for good.
    Failing,
    /// It leaves a line in a file, and may run only once.
    Once,
    /// It leaves a line in a file, and runs again if need be.
    Rerun,
    /// It makes sub-tasks.
    FanOut,
    /// It kills the executor that runs it, each time.
    Poison,
}

/// A task that is to be submitted.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) id: Uuid,
    pub(super) kind: Kind,
    pub(super) submission: Value,
}

/// Every so many tasks one is poison.
const POISONED_EVERY: usize = 7_000;

/// Which of them: when all is under way.
const POISONED_AT: usize = 501;

/// Tasks of all kinds.
pub(super) fn plan(fleet: &Fleet, count: usize, seed: u64) -> Vec<Planned> {
    let mut dice = Dice(seed);
    let draw = |number: usize| {
        let kind = match dice.below(100) {
            _ if number % POISONED_EVERY == POISONED_AT => Kind::Poison,
            0..60 => Kind::Echo,
            60..80 => Kind::Nap,
            80..87 => Kind::Failing,
            87..93 => Kind::Once,
            93..98 => Kind::Rerun,
            _ => Kind::FanOut,
        };
        let id = Uuid::now_v7();
        let mut submission = match kind {
            Kind::Echo => json!({"action": "echo", "input": id}),
            Kind::Nap => {
                let nap = dice.millis(100, 1_500);
                json!({"action": "sleep", "input": {"seconds": nap.as_secs_f64()}})
            }
            Kind::Failing => {
                json!({"action": "fail", "input": {"message": "as asked", "retryable": true},
                "retry": {"attempts": 2, "delay": 0.2, "delay_max": 0.4}})
            }
            Kind::Once => leaves_a_line(fleet, id, ONCE_RUNS),
            Kind::Rerun => leaves_a_line(fleet, id, RERUN_RUNS),
            Kind::Poison => {
                let script = "echo this will end badly; kill -9 $PPID";
                json!({"action": "command", "input": {"program": "sh", "args": ["-c", script]}})
            }
            Kind::FanOut => json!({"action": "fan_out", "queue": "fans", "input": FAN}),
        };
        submission["id"] = json!(id);
        if kind == Kind::Once {
            submission["delivery"] = json!("once");
        }
        if submission["queue"] == Value::Null && dice.below(10) == 0 {
            submission["queue"] = json!("bulk");
        }
        Planned {
            id,
            kind,
            submission,
        }
    };
    (0..count).map(draw).collect()
}

/// A program that notes its run at once, and then takes a moment in which it may be lost.
fn leaves_a_line(fleet: &Fleet, id: Uuid, file: &str) -> Value {
    let script = format!("echo {id} >> {file}; sleep 0.2");
    json!({"action": "command", "input": {"program": "sh", "args": ["-c", script], "dir": fleet.path("")}})
}
