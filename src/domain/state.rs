//! The life of a task: one table, and no way around it.

use std::fmt;
use std::str::FromStr;

use super::IdError;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskState {
    /// Due later. In: submission with `run_at`, or a failed attempt with retries left. Out: housekeeping,
    /// when it is due.
    Scheduled,
    /// Waits for reservations or prerequisites. In: submission. Out: whoever finishes the task it waits for.
    Blocked,
    /// Announced, or about to be. In: submission, housekeeping, an operator. Out: the executor that claims it.
    Ready,
    /// Owned by an executor under its lease. In: a claim. Out: that executor, or whoever takes over from it.
    Running,
    /// Waits for a signal, sub-tasks or a timer; holds no slot. In: its own attempt. Out: what it waits for.
    Suspended,
    /// Needs a human. In: a failure with `on_failure = pause`, or a lost attempt. Out: an operator.
    Paused,
    /// Final: its output is stored.
    Succeeded,
    /// Final: its error is stored.
    Failed,
    /// Final: somebody cancelled it.
    Cancelled,
}

/// What happens to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskEvent {
    /// Its time came, and it waits for nothing else.
    Due,
    /// Its time came, but what it needs is taken.
    Blocked,
    /// What it needed is its own now.
    Granted,
    /// An executor took it: attempt + 1.
    Claimed,
    /// The attempt returned an output.
    Succeeded,
    /// The attempt failed for good.
    Failed,
    /// The attempt failed, or was lost, and a human shall decide.
    Paused,
    /// The attempt failed and another will follow later.
    RetryPlanned,
    /// Only durable waits are left.
    Suspended,
    /// The executor gives it back, or was lost: somebody else goes on.
    Released,
    /// What it waited for has happened.
    Woken,
    /// An operator lets it go on.
    Resumed,
    /// An operator lets it go on without the step that failed.
    Skipped,
    /// An operator says what it returns, and it counts as done.
    Concluded,
    /// An operator gives it up.
    Abandoned,
    /// Somebody cancelled it.
    Cancelled,
    /// Its deadline passed.
    DeadlinePassed,
}

/// A step of the state machine that exists: made by [`TaskState::transition`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    from: TaskState,
    to: TaskState,
}

impl Transition {
    /// The state that the task must be in.
    pub const fn from(self) -> TaskState {
        self.from
    }

    /// The state that it is in afterwards.
    pub const fn to(self) -> TaskState {
        self.to
    }
}

/// An event that cannot happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task that is `{state}` cannot be {event}")]
pub struct IllegalTransition {
    /// Where the task stands.
    pub state: TaskState,
    /// What was tried.
    pub event: TaskEvent,
}

impl TaskState {
    /// All states, in the order of a task's life.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Blocked,
        Self::Ready,
        Self::Running,
        Self::Suspended,
        Self::Paused,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The state of a task that was just submitted.
    pub const fn at_submission(is_due: bool) -> Self {
        if is_due { Self::Ready } else { Self::Scheduled }
    }

    /// The state after `event`. The only place where a state follows from another.
    ///
    /// # Errors
    ///
    /// [`IllegalTransition`]: the event cannot happen in this state, and nothing may be written.
    pub const fn after(self, event: TaskEvent) -> Result<Self, IllegalTransition> {
        use TaskEvent as E;
        use TaskState as S;
        Ok(match (self, event) {
            (S::Scheduled, E::Due) => S::Ready,
            (S::Scheduled, E::Blocked) => S::Blocked,
            (S::Blocked, E::Granted) => S::Ready,
            (S::Ready, E::Claimed) => S::Running,
            (S::Running, E::Succeeded) => S::Succeeded,
            (S::Running, E::Failed) => S::Failed,
            (S::Running, E::Paused) => S::Paused,
            (S::Running, E::RetryPlanned) => S::Scheduled,
            (S::Running, E::Suspended) => S::Suspended,
            (S::Running, E::Released) => S::Ready,
            (S::Running, E::Cancelled) => S::Cancelled,
            (S::Suspended, E::Woken) => S::Ready,
            (S::Paused, E::Resumed) => S::Ready,
            (S::Paused, E::Skipped) => S::Ready,
            (S::Paused, E::Concluded) => S::Succeeded,
            (S::Paused, E::Abandoned) => S::Failed,
            (S::Scheduled | S::Blocked | S::Ready | S::Suspended | S::Paused, E::Cancelled) => {
                S::Cancelled
            }
            (
                S::Scheduled | S::Blocked | S::Ready | S::Suspended | S::Paused,
                E::DeadlinePassed,
            ) => S::Failed,
            (state, event) => return Err(IllegalTransition { state, event }),
        })
    }

    /// The step that `event` makes from this state, for a store to write.
    ///
    /// # Errors
    ///
    /// As [`TaskState::after`].
    pub const fn transition(self, event: TaskEvent) -> Result<Transition, IllegalTransition> {
        match self.after(event) {
            Ok(to) => Ok(Transition { from: self, to }),
            Err(illegal) => Err(illegal),
        }
    }

    /// Whether nothing can happen to the task any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Whether a client that waits for the task is told: final, or a human has to decide.
    pub const fn ends_a_wait(self) -> bool {
        self.is_final() || matches!(self, Self::Paused)
    }

    /// The word for it, in rows, in JSON and for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Suspended => "suspended",
            Self::Paused => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for TaskState {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| IdError {
            expected: "a state (scheduled, blocked, ready, running, suspended, paused, succeeded, failed, cancelled)",
            found: text.chars().take(80).collect(),
        })
    }
}

impl TaskEvent {
    /// All events, in the order of the table.
    pub const ALL: [Self; 17] = [
        Self::Due,
        Self::Blocked,
        Self::Granted,
        Self::Claimed,
        Self::Succeeded,
        Self::Failed,
        Self::Paused,
        Self::RetryPlanned,
        Self::Suspended,
        Self::Released,
        Self::Woken,
        Self::Resumed,
        Self::Skipped,
        Self::Concluded,
        Self::Abandoned,
        Self::Cancelled,
        Self::DeadlinePassed,
    ];
}

impl fmt::Display for TaskEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Due => "due",
            Self::Blocked => "blocked",
            Self::Granted => "granted",
            Self::Claimed => "claimed",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::RetryPlanned => "retried",
            Self::Suspended => "suspended",
            Self::Released => "released",
            Self::Woken => "woken",
            Self::Resumed => "resumed",
            Self::Skipped => "skipped",
            Self::Concluded => "concluded",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
            Self::DeadlinePassed => "past its deadline",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_whole_machine() {
        let mut table = format!("{:<10}", "");
        for event in TaskEvent::ALL {
            write!(table, " {:<10.10}", event.to_string()).unwrap();
        }
        for state in TaskState::ALL {
            write!(table, "\n{state:<10}").unwrap();
            for event in TaskEvent::ALL {
                let to = state.after(event).map_or("-", TaskState::as_str);
                write!(table, " {to:<10}").unwrap();
            }
        }
        let table: Vec<&str> = table.lines().map(str::trim_end).collect();
        insta::assert_snapshot!(table.join("\n"), @r"
                   due        blocked    granted    claimed    succeeded  failed     paused     retried    suspended  released   woken      resumed    skipped    concluded  abandoned  cancelled  past its d
        scheduled  ready      blocked    -          -          -          -          -          -          -          -          -          -          -          -          -          cancelled  failed
        blocked    -          -          ready      -          -          -          -          -          -          -          -          -          -          -          -          cancelled  failed
        ready      -          -          -          running    -          -          -          -          -          -          -          -          -          -          -          cancelled  failed
        running    -          -          -          -          succeeded  failed     paused     scheduled  suspended  ready      -          -          -          -          -          cancelled  -
        suspended  -          -          -          -          -          -          -          -          -          -          ready      -          -          -          -          cancelled  failed
        paused     -          -          -          -          -          -          -          -          -          -          -          ready      ready      succeeded  failed     cancelled  failed
        succeeded  -          -          -          -          -          -          -          -          -          -          -          -          -          -          -          -          -
        failed     -          -          -          -          -          -          -          -          -          -          -          -          -          -          -          -          -
        cancelled  -          -          -          -          -          -          -          -          -          -          -          -          -          -          -          -          -
        ");
    }

    fn any_event() -> impl Strategy<Value = TaskEvent> {
        proptest::sample::select(TaskEvent::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn a_final_state_stays(events in proptest::collection::vec(any_event(), 0..40)) {
            let mut state = TaskState::at_submission(false);
            for event in events {
                match state.after(event) {
                    Ok(next) => {
                        prop_assert!(!state.is_final(), "{} left its final state", state);
                        state = next;
                    }
                    Err(illegal) => prop_assert_eq!(illegal.state, state),
                }
            }
        }

        #[test]
        fn every_open_state_can_end(state in proptest::sample::select(TaskState::ALL.to_vec())) {
            let ends = TaskEvent::ALL.into_iter().any(|event| state.after(event).is_ok_and(TaskState::is_final));
            prop_assert_eq!(ends, !state.is_final());
        }
    }

    #[test]
    fn every_state_is_read_back_from_its_word() {
        for state in TaskState::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        assert!(
            "done"
                .parse::<TaskState>()
                .unwrap_err()
                .to_string()
                .ends_with("`done`")
        );
    }
}
