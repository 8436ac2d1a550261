//! Why a task is where it is: one verdict for people, and what it rests on.

mod open;

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::words::{counted, duration_words};
use super::{
    ActionName, ExecutorRecord, ExecutorState, FanOut, QueueName, QueuePause, StepName, Task,
    TaskState,
};

/// What is known around a task, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// The moment, by the store's clock.
    pub now: Timestamp,
    /// The executors that are live, or were lost less than a day ago.
    pub executors: Vec<ExecutorRecord>,
    /// `ready` tasks that stand before it in its queue, counted up to `AHEAD_MAX`.
    pub ahead: u64,
    /// Tasks that run in its queue.
    pub running: u64,
    /// The pause of its queue, if it is paused.
    pub paused: Option<QueuePause>,
    /// Whether announcements travel, as the process sees it that was asked.
    pub announcements: Announcements,
    /// The sub-tasks that matter to it: of a `suspended` task those that it waits for, of a `blocked` one its siblings.
    pub fan_outs: Vec<(StepName, FanOut)>,
    /// When its timer wakes a `suspended` task.
    pub wakes_at: Option<Timestamp>,
}

/// Whether announcements travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcements {
    /// The broker takes them.
    Travel,
    /// They do not, for this reason.
    Held(String),
    /// This system has no broker.
    Unused,
}

/// Why a task is where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// One sentence.
    pub verdict: String,
    /// What it rests on, and what else matters: a sentence each.
    pub evidence: Vec<String>,
}

/// Why `task` is where it is.
pub fn why(task: &Task, circumstances: &Circumstances) -> Why {
    let case = Case {
        task,
        circumstances,
    };
    let mut why = match task.state {
        TaskState::Scheduled => case.scheduled(),
        TaskState::Blocked => case.blocked(),
        TaskState::Ready => case.ready(),
        TaskState::Running => case.running(),
        TaskState::Suspended => case.suspended(),
        TaskState::Paused => case.paused(),
        TaskState::Succeeded => case.succeeded(),
        TaskState::Failed => case.failed(),
        TaskState::Cancelled => case.cancelled(),
    };
    why.evidence.extend(case.crashes());
    if task.state.is_final() {
        why.evidence.extend(case.course());
    } else {
        why.evidence.extend(case.deadline());
    }
    why
}

impl Why {
    fn new(verdict: impl Into<String>, evidence: impl IntoIterator<Item = String>) -> Self {
        Self {
            verdict: verdict.into(),
            evidence: evidence.into_iter().collect(),
        }
    }
}

/// One task in its circumstances.
struct Case<'a> {
    task: &'a Task,
    circumstances: &'a Circumstances,
}

impl Case<'_> {
    fn succeeded(&self) -> Why {
        Why::new(format!("it succeeded{}", self.ended_ago()), [])
    }

    fn failed(&self) -> Why {
        let verdict = format!("it failed{}: {}", self.ended_ago(), self.error());
        let kind = self.task.error.as_ref().map(|error| {
            match (error.is_retryable(), self.task.failures) {
                (true, failures) => format!(
                    "the error would have allowed another attempt; {failures} of {} failed",
                    counted(self.task.options.retry.attempts_max().into(), "attempt")
                ),
                (false, _) => "the error allows no other attempt".to_owned(),
            }
        });
        Why::new(verdict, kind)
    }

    fn cancelled(&self) -> Why {
        let verdict = format!("it was cancelled{}: {}", self.ended_ago(), self.error());
        let asked = self.task.cancel_requested_at.zip(self.task.finished_at);
        let evidence = asked.map(|(asked, ended)| {
            format!(
                "it ran then, and stopped {} after it was asked to",
                between(asked, ended)
            )
        });
        Why::new(verdict, evidence)
    }

    /// How it went: who ran it, for how long, after how long a wait.
    fn course(&self) -> Vec<String> {
        let task = self.task;
        let Some(started) = task.started_at else {
            return vec!["it never ran".to_owned()];
        };
        let by = task.executor.map_or_else(
            || "an executor that is not known".to_owned(),
            |executor| self.executor_words(executor),
        );
        let took = task.finished_at.map_or_else(String::new, |ended| {
            format!(", and took {}", between(started, ended))
        });
        let waited = task.ready_at.map(|ready| {
            format!(
                "that attempt began {} after the task was ready",
                between(ready, started)
            )
        });
        std::iter::once(format!("attempt {} ran on {by}{took}", task.attempt))
            .chain(waited)
            .collect()
    }

    /// The executors that it has cost.
    fn crashes(&self) -> Vec<String> {
        let (crashes, suspicions) = (self.task.crashes, self.task.suspicions);
        let charged = (crashes > 0).then(|| {
            format!(
                "{} died while nothing else can have killed it",
                executors(crashes)
            )
        });
        let suspected = (suspicions > 0)
            .then(|| format!("{} died while it ran beside others", executors(suspicions)));
        let is_open = matches!(self.task.state, TaskState::Ready | TaskState::Running);
        let on_trial = (is_open && self.task.is_suspect()).then(|| {
            "so it is on trial: an executor begins suspects one after the other".to_owned()
        });
        charged
            .into_iter()
            .chain(suspected)
            .chain(on_trial)
            .collect()
    }

    fn deadline(&self) -> Option<String> {
        let deadline = self.task.deadline?;
        Some(match self.until(deadline) {
            Some(left) => format!("its deadline comes in {left}: open then, it fails"),
            None => format!(
                "its deadline passed {}, and it is about to fail",
                self.ago(deadline)
            ),
        })
    }

    fn ended_ago(&self) -> String {
        self.task
            .finished_at
            .map_or_else(String::new, |ended| format!(" {}", self.ago(ended)))
    }

    /// What it failed with, on one line.
    fn error(&self) -> &str {
        let message = self.task.error.as_ref().map_or("", |error| &error.message);
        match message.lines().next() {
            None | Some("") => "no reason is stored",
            Some(line) => line,
        }
    }

    fn executor(&self, id: super::ExecutorId) -> Option<&ExecutorRecord> {
        let executors = &self.circumstances.executors;
        executors.iter().find(|executor| executor.id == id)
    }

    fn executor_words(&self, id: super::ExecutorId) -> String {
        match self.executor(id) {
            Some(executor) => format!(
                "`{}` (host `{}`, process {})",
                executor.name, executor.host, executor.pid
            ),
            None => format!("`{id}`, an executor that is gone"),
        }
    }

    fn live(&self) -> impl Iterator<Item = &ExecutorRecord> {
        let executors = self.circumstances.executors.iter();
        executors.filter(|executor| executor.state == ExecutorState::Live)
    }

    /// How long until `time`; `None` when it has come.
    fn until(&self, time: Timestamp) -> Option<String> {
        (time > self.circumstances.now).then(|| between(self.circumstances.now, time))
    }

    fn ago(&self, time: Timestamp) -> String {
        format!("{} ago", between(time, self.circumstances.now))
    }
}

fn executors(count: u32) -> String {
    counted(count.into(), "executor")
}

/// How long it is from one time to another; nothing when the other is not later.
fn between(from: Timestamp, to: Timestamp) -> String {
    let duration = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    // Milliseconds are noise where seconds pass.
    let rounded = if duration < Duration::from_secs(10) {
        duration
    } else {
        Duration::from_secs(duration.as_secs())
    };
    duration_words(rounded)
}

fn serves(executor: &ExecutorRecord, queue: &QueueName) -> bool {
    executor.slots.contains_key(queue)
}

fn offers(executor: &ExecutorRecord, action: &ActionName) -> bool {
    executor.actions.contains(action)
}

/// Names for a sentence, a few of them.
fn names<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    const NAMES_MAX: usize = 5;
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let listed = names.join(", ");
    if more > 0 {
        format!("{listed} and {more} more")
    } else {
        listed
    }
}

#[cfg(test)]
mod tests;
