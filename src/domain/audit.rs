//! What must be so of what is stored, and what an audit tells when it is not.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{
    ExecutorId, ExecutorRecord, ExecutorState, IdError, QueueName, TaskFacts, TaskId, TaskState,
};

/// What an audit found.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// What must not be, at most `AUDIT_MAX`.
    pub violations: Vec<Violation>,
    /// Whether there are more than that.
    pub is_cut: bool,
    /// Tasks that have been `ready` for longer than `READY_SUSPECT`, the oldest first, at most `AUDIT_MAX`: whether
    /// somebody was told of them, [`unannounced`] judges.
    pub waiting: Vec<TaskFacts>,
    /// The executors whose rows can be read.
    pub executors: Vec<ExecutorRecord>,
    /// What they run.
    pub loads: Vec<ExecutorLoad>,
}

/// Tasks of one queue that run for one executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorLoad {
    /// For whom.
    pub executor: ExecutorId,
    /// Of which queue.
    pub queue: QueueName,
    /// How many.
    pub running: u64,
}

/// Which rows an audit reads one by one, to see whether they can be read at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AuditDepth {
    /// Those of tasks that are not final.
    #[default]
    Open,
    /// Every row.
    All,
}

/// Something that is stored and must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule it breaks.
    pub kind: ViolationKind,
    /// What it is about.
    pub subject: Subject,
    /// What was found, a sentence for people.
    pub what: String,
}

/// What a violation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A task, which may be gone.
    Task(TaskId),
    /// An executor.
    Executor(ExecutorId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => task.fmt(f),
            Self::Executor(executor) => executor.fmt(f),
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)+) => {
        /// The rules that an audit holds rows against. Each follows from what the transitions write.
        ///
        /// Not among them: a parent that is gone. Retention deletes a task that has ended while what it made may go
        /// on, so a missing parent proves nothing.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ViolationKind {
            $($(#[$doc])* $kind,)+
        }

        impl ViolationKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// The word for it, in tables and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $word,)+
                }
            }
        }
    };
}

kinds! {
    /// A task has its end's time if, and only if, its state is final.
    End = "end",
    /// A task has an output if, and only if, it succeeded; an error if it failed, was cancelled or is paused.
    Outcome = "outcome",
    /// A task was claimed as often as its attempt says, by somebody, at some time; not more often than can be counted.
    Attempt = "attempt",
    /// What runs is owned: by a live executor, or by a lost one whose tasks are still to be taken over.
    Owner = "owner",
    /// What is ready says since when: the idle claim goes by it.
    ReadyAt = "ready_at",
    /// What is scheduled has the timer that starts it.
    Start = "start",
    /// What is open, does not run and has a deadline has the timer that ends it.
    Deadline = "deadline",
    /// A timer belongs to a task that can use it.
    StrayTimer = "stray_timer",
    /// A request to cancel belongs to a task that runs and shall be cancelled.
    StrayRequest = "stray_request",
    /// What runs and shall be cancelled has its request, by which its executor hears of it.
    Request = "request",
    /// A wish to cancel is whole, and no task waits beside it.
    Wish = "wish",
    /// What waits has somebody to wake it: a `blocked` task has siblings before it, a `suspended` one says what it waits
    /// for, and that has not happened.
    Waker = "waker",
    /// A task's root is its parent's; without a parent itself.
    Tree = "tree",
    /// What is below a task that has ended is cancelled, asked to stop, or about to be; or it outlives its parent.
    Outlived = "outlived",
    /// What sub-tasks were spawned together, and how many of them are open, is what their parent counts.
    FanOut = "fan_out",
    /// An open task's queue exists.
    Queue = "queue",
    /// No more attempts failed than were made.
    Counts = "counts",
    /// An executor's tasks are released only after it was found lost.
    Executor = "executor",
    /// Every column can be read.
    Unreadable = "unreadable",
    /// What is ready was announced, or an executor with room finds it.
    Unannounced = "unannounced",
}

impl ViolationKind {
    /// What is wrong with a task in `state`, a sentence for people.
    pub fn sentence(self, state: Option<TaskState>) -> String {
        let state = state.map_or("gone", TaskState::as_str);
        match self {
            Self::End => format!("it is `{state}`, and its `finished_at` says otherwise"),
            Self::Outcome => {
                format!("it is `{state}`, and its `output` or `error` says otherwise")
            }
            Self::Attempt => format!(
                "it is `{state}`, and its `attempt` does not fit that, or its `executor` and `started_at`"
            ),
            Self::Owner => "it is `running`, and its executor was released or never existed: nobody will take it over".to_owned(),
            Self::ReadyAt => "it is `ready` without `ready_at`: no idle executor finds it".to_owned(),
            Self::Start => "it is `scheduled` and has no timer for its `run_at`: it never starts".to_owned(),
            Self::Deadline => format!("it is `{state}` and has no timer for its `deadline`: that never ends it"),
            Self::StrayTimer => format!("there is a timer for it, and it is {}", quoted(state)),
            Self::StrayRequest => format!("there is a request to cancel it, and it is {}", quoted(state)),
            Self::Request => "it runs and shall be cancelled, and has no `cancel_request`: its executor is never told".to_owned(),
            Self::Wish => format!("it is `{state}` and shall be cancelled, or the wish is only half there"),
            Self::Waker => format!("it is `{state}`, and nothing wakes it that it says to wait for: cancel it"),
            Self::Tree => "its `root` is not its parent's, or it is its own parent".to_owned(),
            Self::Outlived => format!("it is `{state}` below a task that has ended: cancel it"),
            Self::FanOut => "it counts its sub-tasks wrongly, so its join may never end: cancel it".to_owned(),
            Self::Queue => format!("it is `{state}` in a queue that was never created"),
            Self::Counts => "it has more `failures` than attempts".to_owned(),
            Self::Executor => "it was released and never found lost".to_owned(),
            Self::Unreadable => "it cannot be read".to_owned(),
            Self::Unannounced => "it is `ready` for long and nobody seems to know of it".to_owned(),
        }
    }

    /// Whether it can be made right without inventing an output or an end, and without guessing.
    pub const fn is_repairable(self) -> bool {
        match self {
            Self::Owner
            | Self::ReadyAt
            | Self::Start
            | Self::Deadline
            | Self::StrayTimer
            | Self::StrayRequest
            | Self::Request
            | Self::Unannounced => true,
            Self::End
            | Self::Outcome
            | Self::Attempt
            | Self::Wish
            | Self::Waker
            | Self::Tree
            | Self::Outlived
            | Self::FanOut
            | Self::Queue
            | Self::Counts
            | Self::Executor
            | Self::Unreadable => false,
        }
    }
}

/// A state as a word of the machine; what is no state stays as it is.
fn quoted(state: &str) -> String {
    if state == "gone" {
        state.to_owned()
    } else {
        format!("`{state}`")
    }
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ViolationKind {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let found = Self::ALL.iter().find(|kind| kind.as_str() == text);
        found.copied().ok_or_else(|| IdError {
            expected: "a rule of the audit",
            found: text.chars().take(80).collect(),
        })
    }
}

impl Violation {
    /// The task that it is about, if it is about one.
    pub const fn task(&self) -> Option<TaskId> {
        match self.subject {
            Subject::Task(task) => Some(task),
            Subject::Executor(_) => None,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.subject, self.what)
    }
}

/// Those tasks of `audit.waiting` that an executor could run and that nobody seems to have been told of.
///
/// With `messages`, what the broker holds for each queue: there is none for its queue. Without: an executor has room
/// for it, and would have found it by now. A task that no live executor can run waits rightly.
pub fn unannounced(audit: &Audit, messages: Option<&BTreeMap<QueueName, u64>>) -> Vec<Violation> {
    let can_run = |executor: &&ExecutorRecord, task: &TaskFacts| {
        executor.state == ExecutorState::Live
            && executor.slots.contains_key(&task.queue)
            && executor.actions.contains(&task.action)
    };
    let has_room = |executor: &ExecutorRecord, queue: &QueueName| {
        let of_it = |load: &&ExecutorLoad| load.executor == executor.id && load.queue == *queue;
        let running = audit
            .loads
            .iter()
            .find(of_it)
            .map_or(0, |load| load.running);
        let slots = executor.slots.get(queue).copied().unwrap_or(0);
        running < u64::from(slots)
    };
    let is_lost = |task: &TaskFacts| {
        let mut servers = audit
            .executors
            .iter()
            .filter(|one| can_run(one, task))
            .peekable();
        match messages {
            Some(messages) => {
                servers.peek().is_some() && messages.get(&task.queue).is_none_or(|held| *held == 0)
            }
            None => servers.any(|executor| has_room(executor, &task.queue)),
        }
    };
    let lost = audit.waiting.iter().filter(|task| is_lost(task));
    lost.map(|task| Violation {
        kind: ViolationKind::Unannounced,
        subject: Subject::Task(task.id),
        what: ViolationKind::Unannounced.sentence(Some(task.state)),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::{ActionName, Attempt, ExecutorName, Slots};

    fn queue(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    fn echo() -> ActionName {
        ActionName::new("echo").unwrap()
    }

    fn executor(state: ExecutorState, queue: QueueName, action: ActionName) -> ExecutorRecord {
        ExecutorRecord {
            id: ExecutorId::new(Timestamp::UNIX_EPOCH, 7),
            name: ExecutorName::new("x").unwrap(),
            host: "h".to_owned(),
            pid: 1,
            version: "1".to_owned(),
            slots: Slots::from([(queue, 2)]),
            actions: vec![action],
            started_at: Timestamp::UNIX_EPOCH,
            lease_ends_at: Timestamp::UNIX_EPOCH,
            state,
        }
    }

    /// One task that waits in `default`, one executor, and what that one runs.
    fn audit(executor: ExecutorRecord, running: u64) -> Audit {
        let load = ExecutorLoad {
            executor: executor.id,
            queue: queue("default"),
            running,
        };
        let task = TaskFacts {
            id: TaskId::new(Timestamp::UNIX_EPOCH, 1),
            action: echo(),
            queue: queue("default"),
            state: TaskState::Ready,
            attempt: Attempt(0),
            parent: None,
            origin: None,
        };
        Audit {
            waiting: vec![task],
            executors: vec![executor],
            loads: vec![load],
            ..Audit::default()
        }
    }

    fn live() -> ExecutorRecord {
        executor(ExecutorState::Live, queue("default"), echo())
    }

    #[test]
    fn a_task_that_somebody_has_room_for_should_have_been_found() {
        assert_eq!(unannounced(&audit(live(), 1), None).len(), 1);
        assert_eq!(unannounced(&audit(live(), 2), None), [], "no room");
    }

    #[test]
    fn a_task_that_nobody_can_run_waits_rightly() {
        let nobody = BTreeMap::new();
        for other in [
            executor(ExecutorState::Lost, queue("default"), echo()),
            executor(ExecutorState::Live, queue("bulk"), echo()),
            executor(
                ExecutorState::Live,
                queue("default"),
                ActionName::new("other").unwrap(),
            ),
        ] {
            let audit = audit(other, 0);
            assert_eq!(unannounced(&audit, None), []);
            assert_eq!(unannounced(&audit, Some(&nobody)), []);
        }
    }

    #[test]
    fn the_broker_knows_whether_a_task_is_announced() {
        let held = |count| BTreeMap::from([(queue("default"), count)]);
        assert_eq!(unannounced(&audit(live(), 0), Some(&held(1))), []);
        assert_eq!(unannounced(&audit(live(), 2), Some(&held(0))).len(), 1);
        let other = BTreeMap::from([(queue("bulk"), 5)]);
        assert_eq!(unannounced(&audit(live(), 2), Some(&other)).len(), 1);
    }

    #[test]
    fn every_rule_is_read_back_from_its_word_and_has_a_sentence() {
        for kind in ViolationKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert!(!kind.sentence(Some(TaskState::Ready)).is_empty());
        }
        assert!("x".parse::<ViolationKind>().is_err());
    }
}
