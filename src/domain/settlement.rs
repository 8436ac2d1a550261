//! How an attempt ended, and what that makes of the task.

use std::time::Duration;

use jiff::Timestamp;

use super::limits::CRASHES_MAX;
use super::{
    Attempt, Delivery, Failure, FanOutPlace, OnFailure, Options, Payload, TaskEvent, TaskId,
    Verdict, WaitingFor,
};

/// What an attempt leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It returned an output.
    Succeeded(Payload),
    /// It failed, and nothing follows.
    Failed(Failure),
    /// It failed, and a human shall decide.
    Paused(Failure),
    /// It failed, and another attempt follows after the pause.
    RetryPlanned {
        /// Why it failed.
        failure: Failure,
        /// How long from now, by the store's clock.
        pause: Duration,
    },
    /// It was cancelled; the failure says by whom or why.
    Cancelled(Failure),
    /// It was given back unfinished: its executor stops.
    Released,
    /// Only durable waits are left.
    Suspended {
        /// What wakes the task.
        waiting_for: WaitingFor,
        /// When its timer does, by the store's clock; `None` without [`WaitingFor::has_timer`].
        wakes_at: Option<Timestamp>,
    },
}

impl Ending {
    /// What it means for the task's state.
    pub const fn event(&self) -> TaskEvent {
        match self {
            Self::Succeeded(_) => TaskEvent::Succeeded,
            Self::Failed(_) => TaskEvent::Failed,
            Self::Paused(_) => TaskEvent::Paused,
            Self::RetryPlanned { .. } => TaskEvent::RetryPlanned,
            Self::Cancelled(_) => TaskEvent::Cancelled,
            Self::Released => TaskEvent::Released,
            Self::Suspended { .. } => TaskEvent::Suspended,
        }
    }
}

/// One attempt's ending, with the token that proves whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// Which task.
    pub task: TaskId,
    /// Which attempt of it; a stale one changes nothing.
    pub attempt: Attempt,
    /// How it ended.
    pub ending: Ending,
    /// Where the task belongs that its parent has spawned with others: its end is counted there.
    pub fan_out: Option<FanOutPlace>,
}

/// What follows when an attempt fails: the only place where retry, failure and pause are chosen.
///
/// `failures` counts the failed attempts including this one; `chance` is from 0 to 1.
pub fn ending_of_failure(
    options: &Options,
    failures: u32,
    failure: Failure,
    chance: f64,
) -> Ending {
    match failure.verdict {
        Verdict::Retry { after } if options.retry.allows_another(failures) => {
            let pause = after.unwrap_or_else(|| options.retry.pause(failures, chance));
            Ending::RetryPlanned { failure, pause }
        }
        Verdict::Retry { .. } | Verdict::Fatal => match options.on_failure {
            OnFailure::Fail => Ending::Failed(failure),
            OnFailure::Pause => Ending::Paused(failure),
        },
    }
}

/// What becomes of an attempt that its executor cannot bring to an end: it was lost, or it stops. The only place
/// that knows what `once` means; `cause` says why, for a task that is not run again.
pub fn ending_of_loss(options: &Options, cause: Failure) -> Ending {
    match (options.delivery, options.on_failure) {
        (Delivery::Rerun, _) => Ending::Released,
        (Delivery::Once, OnFailure::Fail) => Ending::Failed(cause),
        (Delivery::Once, OnFailure::Pause) => Ending::Paused(cause),
    }
}

/// What becomes of a task that has just been charged with its crash number `crashes`: as any other whose executor is
/// gone, until it has killed too many. Then it is quarantined: `paused`, whatever it asked for, until a human decides.
pub fn ending_of_crash(options: &Options, crashes: u32, cause: Failure) -> Ending {
    match options.delivery {
        Delivery::Rerun if crashes >= CRASHES_MAX => Ending::Paused(cause),
        Delivery::Rerun | Delivery::Once => ending_of_loss(options, cause),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RetryPolicy;

    fn check(failures: u32, on_failure: OnFailure, failure: Failure, expected: TaskEvent) {
        let retry = RetryPolicy::new(3, Duration::from_secs(1), Duration::from_mins(1)).unwrap();
        let options = Options {
            retry,
            on_failure,
            ..Options::default()
        };
        assert_eq!(
            ending_of_failure(&options, failures, failure, 0.5).event(),
            expected
        );
    }

    #[test]
    fn a_failure_is_retried_until_the_policy_ends_and_then_as_the_task_chose() {
        check(
            1,
            OnFailure::Fail,
            Failure::retry("x"),
            TaskEvent::RetryPlanned,
        );
        check(
            2,
            OnFailure::Pause,
            Failure::retry("x"),
            TaskEvent::RetryPlanned,
        );
        check(3, OnFailure::Fail, Failure::retry("x"), TaskEvent::Failed);
        check(3, OnFailure::Pause, Failure::retry("x"), TaskEvent::Paused);
        check(1, OnFailure::Fail, Failure::fatal("x"), TaskEvent::Failed);
        check(1, OnFailure::Pause, Failure::fatal("x"), TaskEvent::Paused);
    }

    #[test]
    fn what_may_run_only_once_is_not_given_to_another_executor() {
        let end = |delivery, on_failure| {
            let options = Options {
                on_failure,
                delivery,
                ..Options::default()
            };
            ending_of_loss(&options, Failure::fatal("lost")).event()
        };
        assert_eq!(end(Delivery::Rerun, OnFailure::Fail), TaskEvent::Released);
        assert_eq!(end(Delivery::Once, OnFailure::Fail), TaskEvent::Failed);
        assert_eq!(end(Delivery::Once, OnFailure::Pause), TaskEvent::Paused);
    }

    #[test]
    fn what_keeps_killing_its_executors_is_quarantined() {
        let end = |delivery, crashes| {
            let options = Options {
                delivery,
                ..Options::default()
            };
            ending_of_crash(&options, crashes, Failure::fatal("killed")).event()
        };
        assert_eq!(end(Delivery::Rerun, CRASHES_MAX - 1), TaskEvent::Released);
        assert_eq!(end(Delivery::Rerun, CRASHES_MAX), TaskEvent::Paused);
        assert_eq!(end(Delivery::Once, 1), TaskEvent::Failed);
    }

    #[test]
    fn the_error_knows_best_when_to_try_again() {
        let failure = Failure::retry("busy").retry_after(Duration::from_secs(77));
        let retry = RetryPolicy::new(3, Duration::from_secs(1), Duration::from_secs(5)).unwrap();
        let options = Options {
            retry,
            ..Options::default()
        };
        let ending = ending_of_failure(&options, 1, failure, 0.5);
        assert!(
            matches!(ending, Ending::RetryPlanned { pause, .. } if pause == Duration::from_secs(77))
        );
    }
}
