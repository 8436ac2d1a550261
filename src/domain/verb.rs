//! What an operator does to a task that needs a human, and the history that tells of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use super::limits::{HISTORY_NOTE_BYTES_MAX, OPERATOR_BYTES_MAX};
use super::{IdError, OriginToken, Payload, StepName, TaskEvent, TaskId, TaskState, Transition};

/// Who acts on a task, as it is said: `ann@crane-7`. Nobody has proven it. From 1 to [`OPERATOR_BYTES_MAX`] bytes
/// without control characters.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Operator(Arc<str>);

impl Operator {
    /// The operator that `text` names.
    ///
    /// # Errors
    ///
    /// [`IdError`] says which lengths and characters are right.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let is_name = (1..=OPERATOR_BYTES_MAX).contains(&text.len())
            && !text.chars().any(char::is_control)
            && text.trim() == text;
        if is_name {
            Ok(Self(Arc::from(text)))
        } else {
            Err(IdError::new(
                "an operator (from 1 to 100 bytes, without control characters or blanks around it)",
                text,
            ))
        }
    }

    /// The broker, which has done it by itself. Whoever acts may call himself so, too: what was done says more.
    pub fn broker() -> Self {
        Self(Arc::from("broker"))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Operator {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

/// What an operator wants of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// A paused task goes on. Its failures stay counted, so it is one more try.
    Resume,
    /// A paused task goes on without the step that failed, which counts as done. When no step in it failed, and it is a
    /// sub-task that its parent joins, it is itself that step: it succeeds with `output`.
    Skip {
        /// What the step returns.
        output: Payload,
    },
    /// A paused task goes on as if it had never failed; of one that failed or was cancelled a copy is made.
    Retry {
        /// The id of the copy.
        copy: TaskId,
        /// The web server that may wait for the copy.
        origin: Option<OriginToken>,
    },
    /// A paused task is given up.
    Abandon {
        /// Why, for people; it becomes the task's error.
        reason: String,
    },
}

/// What a verb makes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It moves on.
    Move(Transition),
    /// It stays as it is, and a copy of it begins.
    Copy,
}

/// Why a verb cannot be carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// The task is in a state that the verb is not for.
    #[error("a task that is `{state}` cannot be {}", .verb.done())]
    State {
        /// Where it stands.
        state: TaskState,
        /// What was tried.
        verb: VerbKind,
    },
    /// Nothing is known to skip.
    #[error("no step of the task failed, and it is no step of another: resume or abandon it")]
    NoStep,
    /// The error names a step that cannot be skipped: it was not stored, or has ended well.
    #[error(
        "the error of the task names the step `{step}`, which is not stored as failed, so there is nothing to skip: resume or \
         abandon it"
    )]
    NoFailedStep {
        /// The step that the error names.
        step: StepName,
    },
}

/// Which verb, without what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerbKind {
    /// [`Verb::Resume`].
    Resume,
    /// [`Verb::Skip`].
    Skip,
    /// [`Verb::Retry`].
    Retry,
    /// [`Verb::Abandon`].
    Abandon,
}

impl VerbKind {
    /// The word for what was done: `resumed`.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Resume => "resumed",
            Self::Skip => "skipped",
            Self::Retry => "retried",
            Self::Abandon => "abandoned",
        }
    }

    /// The states of tasks that it is for.
    pub const fn states(self) -> &'static [TaskState] {
        match self {
            Self::Resume | Self::Skip | Self::Abandon => &[TaskState::Paused],
            Self::Retry => &[TaskState::Paused, TaskState::Failed, TaskState::Cancelled],
        }
    }
}

impl Verb {
    /// Why a task failed that was given up without a word.
    pub const ABANDONED: &str = "abandoned by an operator";

    /// Which verb it is.
    pub const fn kind(&self) -> VerbKind {
        match self {
            Self::Resume => VerbKind::Resume,
            Self::Skip { .. } => VerbKind::Skip,
            Self::Retry { .. } => VerbKind::Retry,
            Self::Abandon { .. } => VerbKind::Abandon,
        }
    }

    /// What it makes of a task in `state`: the only place that knows which verb is for which state.
    ///
    /// # Errors
    ///
    /// [`VerbError::State`]: nothing may be written.
    pub fn course(&self, state: TaskState) -> Result<Course, VerbError> {
        let event = match self {
            Self::Resume | Self::Retry { .. } => TaskEvent::Resumed,
            Self::Skip { .. } => TaskEvent::Skipped,
            Self::Abandon { .. } => TaskEvent::Abandoned,
        };
        match (self, state) {
            (Self::Retry { .. }, TaskState::Failed | TaskState::Cancelled) => Ok(Course::Copy),
            _ => state
                .transition(event)
                .map(Course::Move)
                .map_err(|_| VerbError::State {
                    state,
                    verb: self.kind(),
                }),
        }
    }
}

/// What skipping makes of a task in `state` that is itself the step: of no step in it is known that it failed, and its
/// parent joins it.
///
/// # Errors
///
/// [`VerbError::State`]: nothing may be written.
pub fn course_of_a_step(state: TaskState) -> Result<Transition, VerbError> {
    let step = state.transition(TaskEvent::Concluded);
    step.map_err(|_| VerbError::State {
        state,
        verb: VerbKind::Skip,
    })
}

impl VerbError {
    /// What to do about it, for people.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoStep | Self::NoFailedStep { .. } => None,
            Self::State { state, verb } => match (verb, state) {
                (_, TaskState::Succeeded) => Some("submit a new task to run it again"),
                (VerbKind::Retry, _) => {
                    Some("only what is paused, failed or cancelled can be retried")
                }
                (_, TaskState::Failed | TaskState::Cancelled) => {
                    Some("it is final: `longshore task retry` runs a copy of it")
                }
                (VerbKind::Abandon, _) => {
                    Some("it does not wait for a human: `longshore task cancel` ends it")
                }
                _ => Some("it goes on by itself: `longshore task why` says what it waits for"),
            },
        }
    }
}

/// What was done, in a task's history: by an operator, or by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryKind {
    /// It was resumed.
    Resumed,
    /// It was resumed without the step that failed.
    Skipped,
    /// It was resumed as if it had never failed, or a copy of it was made: the note names the copy.
    Retried,
    /// It was made as a copy: the note names the task.
    Copied,
    /// It was given up.
    Abandoned,
    /// Its cancellation was asked for.
    Cancelled,
    /// The broker gave up a message about it: the note says which. See [`DeadLetter`](super::DeadLetter).
    DeadLettered,
}

impl HistoryKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Resumed,
        Self::Skipped,
        Self::Retried,
        Self::Copied,
        Self::Abandoned,
        Self::Cancelled,
        Self::DeadLettered,
    ];

    /// The word for it, in rows and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Skipped => "skipped",
            Self::Retried => "retried",
            Self::Copied => "copied",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
            Self::DeadLettered => "dead-lettered",
        }
    }
}

impl fmt::Display for HistoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for HistoryKind {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| IdError::new("a kind of history entry", text))
    }
}

impl From<VerbKind> for HistoryKind {
    fn from(verb: VerbKind) -> Self {
        match verb {
            VerbKind::Resume => Self::Resumed,
            VerbKind::Skip => Self::Skipped,
            VerbKind::Retry => Self::Retried,
            VerbKind::Abandon => Self::Abandoned,
        }
    }
}

/// One thing that was done to a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// What.
    pub what: HistoryKind,
    /// Who.
    pub who: Operator,
    /// More about it, for people: a reason, another task. At most [`HISTORY_NOTE_BYTES_MAX`] bytes.
    pub note: Option<String>,
}

impl HistoryEntry {
    /// One sentence for people.
    pub fn sentence(&self) -> String {
        let Self {
            at,
            what,
            who,
            note,
        } = self;
        let note = note
            .as_deref()
            .map(|note| format!(": {note}"))
            .unwrap_or_default();
        format!("{what} at {at:.0} by `{who}`{note}")
    }
}

/// A sentence of an operator's as it may be kept: without what a store cannot hold, cut at a character.
pub fn note(text: &str) -> String {
    let mut text = text.replace('\0', "\u{fffd}");
    let cut = text.floor_char_boundary(HISTORY_NOTE_BYTES_MAX);
    text.truncate(cut);
    text
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn which_verb_is_for_which_state() {
        let verbs = [
            Verb::Resume,
            Verb::Skip {
                output: Payload::null(),
            },
            Verb::Retry {
                copy: TaskId::new(Timestamp::UNIX_EPOCH, 1),
                origin: None,
            },
            Verb::Abandon {
                reason: Verb::ABANDONED.to_owned(),
            },
        ];
        let mut table = String::new();
        for state in TaskState::ALL {
            write!(table, "{state:<10}").unwrap();
            for verb in &verbs {
                let course = match verb.course(state) {
                    Ok(Course::Move(step)) => step.to().as_str(),
                    Ok(Course::Copy) => "a copy",
                    Err(_) => "-",
                };
                assert_eq!(course != "-", verb.kind().states().contains(&state));
                if verb.kind() == VerbKind::Skip {
                    let itself = course_of_a_step(state).map(Transition::to).ok();
                    let ended = (course == "ready").then_some(TaskState::Succeeded);
                    assert_eq!(itself, ended);
                }
                write!(table, " {course:<7}").unwrap();
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        }
        insta::assert_snapshot!(table, @r"
        scheduled  -       -       -       -
        blocked    -       -       -       -
        ready      -       -       -       -
        running    -       -       -       -
        suspended  -       -       -       -
        paused     ready   ready   ready   failed
        succeeded  -       -       -       -
        failed     -       -       a copy  -
        cancelled  -       -       a copy  -
        ");
    }

    #[test]
    fn an_operator_is_a_short_line_of_text() {
        assert_eq!(
            Operator::new("ann@crane-7").unwrap().as_str(),
            "ann@crane-7"
        );
        for wrong in ["", " ", "a\nb", " ann", &"a".repeat(OPERATOR_BYTES_MAX + 1)] {
            assert!(Operator::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(note("a\0b"), "a\u{fffd}b");
        assert_eq!(
            note(&"é".repeat(HISTORY_NOTE_BYTES_MAX)).len(),
            HISTORY_NOTE_BYTES_MAX
        );
        for kind in HistoryKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
    }
}
