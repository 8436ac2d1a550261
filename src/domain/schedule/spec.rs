//! What a schedule is, and what became of its firings.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::Timing;
use crate::domain::limits::{DURATION_MAX, EVERY_MIN};
use crate::domain::{
    IdError, NewTask, PayloadLimits, ScheduleName, Submission, SubmissionError, TaskId,
};

/// The label of a task that a schedule submitted. Its value is the schedule's name.
pub const SCHEDULE_LABEL: &str = "schedule";

/// What somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleSpec {
    /// What it is called.
    pub name: ScheduleName,
    /// When it fires.
    pub timing: Timing,
    /// What each firing submits.
    pub task: Submission,
    /// What a firing does while the task of the one before is open.
    pub overlap: Overlap,
    /// What is done about firings that were missed.
    pub catch_up: CatchUp,
}

/// Why a schedule was refused.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// The task.
    #[error("the task is refused: {0}")]
    Task(#[source] SubmissionError),
    /// A field of the task that can be no schedule's.
    #[error("`{0}` belongs to one task, and each firing of a schedule is another; leave it out")]
    OneTask(&'static str),
    /// The label that we set.
    #[error("the label `{SCHEDULE_LABEL}` is set by the schedule itself; choose another name")]
    Label,
    /// An interval out of its bounds.
    #[error("the interval must be from 1 second to ten years")]
    Every,
    /// Policies that exclude each other.
    #[error("the catch-up policy `all` needs the overlap policy `queue`, not `{0}`")]
    CatchUpOverlaps(Overlap),
}

impl ScheduleError {
    /// What to do about it, for people.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::CatchUpOverlaps(_) => Some(
                "what was missed is made up for one after the other; without a queue only one of it would run",
            ),
            Self::Task(_) | Self::OneTask(_) | Self::Label | Self::Every => None,
        }
    }
}

macro_rules! policy {
    ($(#[$doc:meta])* $name:ident, $expected:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// The word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(IdError::new($expected, text)),
                }
            }
        }
    };
}

policy!(
    /// What a firing does while the task of the one before is open.
    Overlap, "an overlap policy (`skip`, `queue` or `cancel_previous`)" {
        /// It is left out.
        #[default]
        Skip = "skip",
        /// It waits until that task has ended.
        Queue = "queue",
        /// That task is cancelled, with all below it.
        CancelPrevious = "cancel_previous",
    }
);
policy!(
    /// What is done about firings that were missed, because no executor lived or the store was away.
    CatchUp, "a catch-up policy (`none`, `last` or `all`)" {
        /// They are dropped.
        None = "none",
        /// One firing stands for all of them.
        #[default]
        Last = "last",
        /// Each is made up for, at most the newest `CATCH_UP_MAX`.
        All = "all",
    }
);
policy!(
    /// What became of a firing.
    FiringState, "the state of a firing (`waiting`, `fired` or `skipped`)" {
        /// It waits for the task of the one before.
        #[default]
        Waiting = "waiting",
        /// Its task was submitted.
        Fired = "fired",
        /// It was left out, because the task of the one before was open.
        Skipped = "skipped",
    }
);

/// Whether a schedule fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleState {
    /// It does.
    Active,
    /// Somebody stopped it, or it could not go on.
    Paused,
    /// Nothing is left to fire.
    Ended,
}

impl ScheduleState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }
}

impl fmt::Display for ScheduleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A schedule as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleRecord {
    /// What was asked for.
    pub spec: ScheduleSpec,
    /// Whether it was paused.
    pub is_paused: bool,
    /// Why it was paused, when nobody asked for that.
    pub error: Option<String>,
    /// When it fires next, by the store's clock. `None` when it is paused or nothing is left.
    pub next_at: Option<Timestamp>,
    /// The task of its last firing. It may be deleted.
    pub last_task: Option<TaskId>,
    /// When it was made, by the store's clock.
    pub created_at: Timestamp,
    /// Who made it: the process, as it signs its events.
    pub created_by: String,
}

/// One firing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// For when it was due; when it was asked for, if somebody triggered it.
    pub due_at: Timestamp,
    /// What became of it.
    pub state: FiringState,
    /// Its task. It may be deleted.
    pub task: Option<TaskId>,
    /// When that was decided, by the store's clock.
    pub at: Timestamp,
}

impl ScheduleSpec {
    /// Holds it against the bounds that types cannot express.
    ///
    /// # Errors
    ///
    /// [`ScheduleError`] says what is wrong and what would be right.
    pub fn checked(self, limits: PayloadLimits) -> Result<Self, ScheduleError> {
        let task = &self.task;
        let of_one_task = [
            ("id", task.id.is_some()),
            ("idempotency_key", task.idempotency_key.is_some()),
            ("run_at", task.run_at.is_some()),
            ("deadline", task.deadline.is_some()),
            ("parent", task.parent.is_some()),
        ];
        if let Some((field, _)) = of_one_task.iter().find(|(_, is_there)| *is_there) {
            return Err(ScheduleError::OneTask(field));
        }
        if task.labels.contains_key(SCHEDULE_LABEL) {
            return Err(ScheduleError::Label);
        }
        if let Timing::Interval { every, .. } = &self.timing
            && !(EVERY_MIN..=DURATION_MAX).contains(every)
        {
            return Err(ScheduleError::Every);
        }
        if self.catch_up == CatchUp::All && self.overlap != Overlap::Queue {
            return Err(ScheduleError::CatchUpOverlaps(self.overlap));
        }
        // With the label that each task gets.
        let task = task
            .clone()
            .with_label(SCHEDULE_LABEL, self.name.as_str())
            .checked(limits)
            .map_err(ScheduleError::Task)?;
        let mut checked = Self { task, ..self };
        checked.task.labels.remove(SCHEDULE_LABEL);
        Ok(checked)
    }

    /// What `other` asks for otherwise: the names of the fields.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (task, theirs) = (&self.task, &other.task);
        let fields = [
            ("timing", self.timing == other.timing),
            ("overlap", self.overlap == other.overlap),
            ("catch_up", self.catch_up == other.catch_up),
            ("action", task.action == theirs.action),
            ("input", task.input.is_same_value(&theirs.input)),
            ("queue", task.queue == theirs.queue),
            ("priority", task.priority == theirs.priority),
            ("labels", task.labels == theirs.labels),
            ("retry", task.options.retry == theirs.options.retry),
            ("timeout", task.options.timeout == theirs.options.timeout),
            (
                "on_failure",
                task.options.on_failure == theirs.options.on_failure,
            ),
            ("delivery", task.options.delivery == theirs.options.delivery),
        ];
        let differ = fields.into_iter().filter(|(_, is_same)| !is_same);
        differ.map(|(field, _)| field).collect()
    }

    /// The task that the firing of `due_at` submits.
    pub fn task_due(&self, due_at: Timestamp) -> NewTask {
        NewTask {
            fan_out: None,
            id: TaskId::of_firing(&self.name, due_at),
            origin: None,
            submission: self
                .task
                .clone()
                .with_label(SCHEDULE_LABEL, self.name.as_str()),
        }
    }
}

impl ScheduleRecord {
    /// Whether it fires.
    pub fn state(&self) -> ScheduleState {
        match self.next_at {
            _ if self.is_paused => ScheduleState::Paused,
            Some(_) => ScheduleState::Active,
            None => ScheduleState::Ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{ActionName, IdempotencyKey, Payload};

    fn spec() -> ScheduleSpec {
        ScheduleSpec {
            name: ScheduleName::new("nightly").unwrap(),
            timing: Timing::Interval {
                every: Duration::from_mins(1),
                anchor: None,
            },
            task: Submission::new(ActionName::new("echo").unwrap(), Payload::null()),
            overlap: Overlap::Skip,
            catch_up: CatchUp::Last,
        }
    }

    fn refused(spec: ScheduleSpec) -> String {
        spec.checked(PayloadLimits::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_belongs_to_one_task_is_refused() {
        assert_eq!(spec().checked(PayloadLimits::default()).unwrap(), spec());
        let mut keyed = spec();
        keyed.task = keyed.task.with_key(IdempotencyKey::new("k").unwrap());
        assert!(refused(keyed).starts_with("`idempotency_key` belongs to one task"));
        let mut labelled = spec();
        labelled.task = labelled.task.with_label("schedule", "x");
        assert!(refused(labelled).contains("set by the schedule itself"));
        let mut urgent = spec();
        urgent.task.priority = 101;
        assert!(refused(urgent).contains("`priority` is 101"));
    }

    #[test]
    fn an_interval_has_bounds_and_policies_must_go_together() {
        let mut restless = spec();
        restless.timing = Timing::Interval {
            every: Duration::from_millis(999),
            anchor: None,
        };
        assert!(refused(restless).contains("from 1 second"));
        let all = ScheduleSpec {
            catch_up: CatchUp::All,
            ..spec()
        };
        assert!(refused(all).contains("needs the overlap policy `queue`, not `skip`"));
    }

    #[test]
    fn the_same_is_the_same_however_its_input_is_written() {
        let input = |text| {
            let mut spec = spec();
            spec.task.input = Payload::parse(text, PayloadLimits::default()).unwrap();
            spec
        };
        assert!(input("1").differences(&input("1.0")).is_empty());
        let mut other = input("2");
        other.overlap = Overlap::Queue;
        assert_eq!(input("1").differences(&other), ["overlap", "input"]);
    }

    #[test]
    fn the_task_of_a_firing_says_whose_it_is() {
        let task = spec().task_due(Timestamp::UNIX_EPOCH);
        assert_eq!(task.submission.labels["schedule"], "nightly");
        assert_eq!(
            task.id,
            TaskId::of_firing(&spec().name, Timestamp::UNIX_EPOCH)
        );
    }

    #[test]
    fn a_policy_that_is_none_says_which_there_are() {
        let error = "drop".parse::<Overlap>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "not an overlap policy (`skip`, `queue` or `cancel_previous`): `drop`"
        );
        for policy in [CatchUp::None, CatchUp::Last, CatchUp::All] {
            assert_eq!(policy.as_str().parse::<CatchUp>().unwrap(), policy);
        }
    }
}
