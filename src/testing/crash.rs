//! Crashes: where they can come, and what must be the same after each.

use std::collections::BTreeMap;
use std::fmt;

use super::error::RehearsalError;
use super::rehearsed::Rehearsed;
use super::stage::{Plan, Played};
use crate::domain::{ActionName, StepName, TaskId};

/// On which side of a write the executor dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Before it: what was done is done, and nobody knows.
    Before,
    /// After it: it is stored, and the action was not told.
    After,
}

/// What an attempt writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Until when a step waits.
    Wait,
    /// How a step ended.
    End,
    /// A signal that is taken.
    Signal,
    /// Sub-tasks.
    Spawn,
    /// How the attempt ended.
    Ending,
}

/// One write of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) task: TaskId,
    pub(super) action: ActionName,
    pub(super) is_root: bool,
    pub(super) step: Option<StepName>,
    pub(super) what: What,
    /// Which of its like, from 1: a step that runs again ends twice.
    pub(super) nth: u32,
}

/// A moment at which an executor may die: right before or right after something is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashPoint {
    pub(super) side: Side,
    write: Write,
}

impl CrashPoint {
    /// On which side of the write.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// The action whose attempt is lost: the rehearsed one, or that of a sub-task.
    pub const fn action(&self) -> &ActionName {
        &self.write.action
    }

    /// The step that is written; `None` for the end of an attempt.
    pub const fn step(&self) -> Option<&StepName> {
        self.write.step.as_ref()
    }
}

impl fmt::Display for CrashPoint {
    /// As in `a crash right after the end of the step "charge" was stored`, with back quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::After => "after",
        };
        let write = &self.write;
        let step = write.step.as_ref().map_or("", StepName::as_str);
        write!(f, "a crash right {side} ")?;
        match write.what {
            What::Wait => write!(f, "it was stored until when the step `{step}` waits"),
            What::End => write!(f, "the end of the step `{step}` was stored"),
            What::Signal => write!(f, "the step `{step}` took its signal"),
            What::Spawn => write!(f, "the sub-tasks of `{step}` were stored"),
            What::Ending => f.write_str("the end of the attempt was stored"),
        }?;
        if write.nth > 1 {
            write!(f, " (number {})", write.nth)?;
        }
        if !write.is_root {
            write!(f, " in the sub-task `{}`", write.action)?;
        }
        Ok(())
    }
}

/// A crash that is to come.
#[derive(Debug)]
pub(super) struct Crash {
    pub(super) point: CrashPoint,
    /// By its number among all writes, instead of by what is written.
    index: Option<usize>,
}

impl Crash {
    pub(super) fn is_at(&self, write: &Write, index: usize) -> bool {
        match self.index {
            Some(own) => own == index,
            None => self.point.write == *write,
        }
    }
}

/// What a rehearsal with crashes came to: every run ended in the same way.
#[derive(Debug)]
pub struct CrashReport {
    /// The run without a crash.
    pub undisturbed: Rehearsed,
    /// The crashes, each of a run of its own.
    pub crashes: Vec<CrashPoint>,
    /// Crashes that never came: the run did not write that, as when `select!` polls its branches in another order.
    pub missed: Vec<CrashPoint>,
    runs_max: BTreeMap<StepName, u32>,
}

impl CrashReport {
    /// How often the code of the step `name` ran at most in one run. A step whose effect cannot be done twice must be
    /// idempotent, for it is 2 wherever a crash came between the effect and its being stored.
    pub fn runs_max(&self, name: &str) -> u32 {
        let mut runs = self.runs_max.iter();
        runs.find(|(step, _)| step.as_str() == name)
            .map_or(0, |(_, runs)| *runs)
    }

    fn count(&mut self, rehearsed: &Rehearsed) {
        for (name, runs) in &rehearsed.runs {
            let max = self.runs_max.entry(name.clone()).or_default();
            *max = (*max).max(*runs);
        }
    }
}

/// What a test says of one run.
pub(super) type Check<'a> = &'a mut (dyn FnMut(&Rehearsed) -> Result<(), String> + Send);

/// Runs `plan` without a crash, and once with each.
pub(super) async fn everywhere(
    plan: &Plan,
    mut check: Option<Check<'_>>,
) -> Result<CrashReport, RehearsalError> {
    let Played {
        rehearsed, writes, ..
    } = plan.play(None).await?;
    if let Some(check) = &mut check {
        check(&rehearsed).map_err(|difference| RehearsalError::Unexpected { difference })?;
    }
    let mut report = CrashReport {
        undisturbed: rehearsed,
        crashes: Vec::new(),
        missed: Vec::new(),
        runs_max: BTreeMap::new(),
    };
    report.runs_max.clone_from(&report.undisturbed.runs);
    for (index, write) in writes.into_iter().enumerate() {
        let sides: &[Side] = match write.what {
            What::Ending => &[Side::Before], // After it there is nothing to lose.
            What::Wait | What::End | What::Signal | What::Spawn => &[Side::Before, Side::After],
        };
        for side in sides {
            let point = CrashPoint {
                side: *side,
                write: write.clone(),
            };
            let played = crashed(plan, &point, index).await?;
            let difference = difference(&report.undisturbed, &played, check.is_none());
            let checked = match (difference, &mut check) {
                (Some(difference), _) => Err(difference),
                (None, Some(check)) => check(&played.rehearsed),
                (None, None) => Ok(()),
            };
            if let Err(difference) = checked {
                let crash = Box::new(point);
                return Err(RehearsalError::Differs { crash, difference });
            }
            report.count(&played.rehearsed);
            if played.is_crashed {
                report.crashes.push(point);
            } else {
                report.missed.push(point);
            }
        }
    }
    Ok(report)
}

/// The run in which a crash comes at `point`. If that is never written, then at the write of this number: an action that
/// gives its steps other names each time is to crash all the same.
async fn crashed(plan: &Plan, point: &CrashPoint, index: usize) -> Result<Played, RehearsalError> {
    let run = async |index| {
        let crash = Crash {
            point: point.clone(),
            index,
        };
        let played = plan.play(Some(crash)).await;
        played.map_err(|error| RehearsalError::Crashed {
            crash: Box::new(point.clone()),
            source: Box::new(error),
        })
    };
    let played = run(None).await?;
    if played.is_crashed {
        return Ok(played);
    }
    run(Some(index)).await
}

/// What a crash has made different.
fn difference(expected: &Rehearsed, played: &Played, are_results_compared: bool) -> Option<String> {
    if let Some((action, step)) = &played.ran_again {
        return Some(format!(
            "the step `{step}` of `{action}` ran once more though its outcome was stored"
        ));
    }
    let found = &played.rehearsed;
    if are_results_compared && !found.is_same_result(expected) {
        return Some(format!(
            "{}, instead of: {}; does the action read the time, chance or something outside between its steps?",
            found.result_words(),
            expected.result_words()
        ));
    }
    let (left, left_before) = (found.all_not_asked_for(), expected.all_not_asked_for());
    let names: Vec<String> = left
        .difference(&left_before)
        .map(|name| format!("`{name}`"))
        .collect();
    if !names.is_empty() {
        return Some(format!(
            "the action did not ask again for what is stored ({}): its steps have other names, or come in another way, \
             in another attempt",
            names.join(", ")
        ));
    }
    let (spawned, before) = (found.spawned(), expected.spawned());
    (spawned != before).then(|| {
        format!(
            "{} sub-tasks were made ({}), instead of {} ({})",
            spawned.len(),
            spawned.join(", "),
            before.len(),
            before.join(", ")
        )
    })
}
