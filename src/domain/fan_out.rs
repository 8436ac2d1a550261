//! Sub-tasks that were spawned together: how many run at once, and what their failures mean.

use std::fmt;
use std::str::FromStr;

use super::{IdError, StepName, TaskId};

/// What failures of sub-tasks mean for whoever joins them. A cancelled sub-task counts as failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailurePolicy {
    /// The first failure ends the join, and the others are cancelled.
    #[default]
    FailFast,
    /// All are waited for, whatever they come to.
    Collect,
    /// As `Collect` up to this share, in percent of all; beyond it as `FailFast`. From 0 to 100.
    Tolerate(u8),
}

impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailFast => f.pad("fail_fast"),
            Self::Collect => f.pad("collect"),
            Self::Tolerate(percent) => write!(f, "tolerate:{percent}"),
        }
    }
}

impl FromStr for FailurePolicy {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let percent = text
            .strip_prefix("tolerate:")
            .and_then(|percent| percent.parse().ok())
            .filter(|percent| *percent <= 100);
        match (text, percent) {
            ("fail_fast", _) => Ok(Self::FailFast),
            ("collect", _) => Ok(Self::Collect),
            (_, Some(percent)) => Ok(Self::Tolerate(percent)),
            (_, None) => Err(IdError::new(
                "a policy (fail_fast, collect, tolerate:PERCENT)",
                text,
            )),
        }
    }
}

/// How sub-tasks are to be run that are spawned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FanOutPlan {
    /// How many may be ready or run at the same time; `None` for all. The others are `blocked` until it is their turn.
    pub in_flight_max: Option<u32>,
    /// What failures mean.
    pub on_failure: FailurePolicy,
}

/// Sub-tasks that were spawned together, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FanOut {
    /// How they are run.
    pub plan: FanOutPlan,
    /// How many are stored so far.
    pub stored: u32,
    /// Whether no more follow.
    pub is_complete: bool,
    /// Those of places below it have had their turn.
    pub granted: u32,
    /// Of those that have had their turn, how many have not ended.
    pub in_flight: u32,
    /// How many have not ended.
    pub open: u32,
    /// How many have failed or were cancelled.
    pub failed: u32,
}

impl FanOut {
    /// Whether more have failed than the policy allows. A share is one of all, so it is judged when all are stored.
    pub fn is_broken(&self) -> bool {
        match self.plan.on_failure {
            FailurePolicy::FailFast => self.failed > 0,
            FailurePolicy::Collect => false,
            FailurePolicy::Tolerate(percent) => {
                self.is_complete
                    && u64::from(self.failed) * 100 > u64::from(self.stored) * u64::from(percent)
            }
        }
    }

    /// Whether there is nothing more to wait for.
    pub fn is_over(&self) -> bool {
        self.is_broken() || self.is_complete && self.open == 0
    }

    /// How many of those that wait may have their turn now.
    pub fn allowance(&self) -> u32 {
        if self.is_broken() {
            return 0;
        }
        let waiting = self.stored.saturating_sub(self.granted);
        let room = self
            .plan
            .in_flight_max
            .map_or(u32::MAX, |max| max.saturating_sub(self.in_flight));
        waiting.min(room)
    }
}

/// Where a sub-task belongs: who spawned it, by which name, and which of its siblings it is, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOutPlace {
    /// The parent.
    pub parent: TaskId,
    /// The name that the parent gave to all of them.
    pub name: StepName,
    /// Which it is.
    pub place: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(on_failure: FailurePolicy, failed: u32, is_complete: bool) -> (bool, bool) {
        let fan_out = FanOut {
            plan: FanOutPlan {
                in_flight_max: None,
                on_failure,
            },
            stored: 10,
            is_complete,
            granted: 10,
            in_flight: 1,
            open: 1,
            failed,
        };
        (fan_out.is_broken(), fan_out.is_over())
    }

    #[test]
    fn failures_end_a_join_as_its_policy_says() {
        assert_eq!(check(FailurePolicy::FailFast, 0, true), (false, false));
        assert_eq!(check(FailurePolicy::FailFast, 1, false), (true, true));
        assert_eq!(check(FailurePolicy::Collect, 9, true), (false, false));
        assert_eq!(check(FailurePolicy::Tolerate(20), 2, true), (false, false));
        assert_eq!(check(FailurePolicy::Tolerate(20), 3, true), (true, true));
        assert_eq!(check(FailurePolicy::Tolerate(20), 3, false), (false, false));
    }

    #[test]
    fn no_more_have_their_turn_than_may_be_in_flight() {
        let fan_out = FanOut {
            plan: FanOutPlan {
                in_flight_max: Some(3),
                on_failure: FailurePolicy::Collect,
            },
            stored: 10,
            granted: 4,
            in_flight: 1,
            open: 7,
            ..FanOut::default()
        };
        assert_eq!(fan_out.allowance(), 2);
        assert_eq!(
            FanOut {
                stored: 5,
                ..fan_out
            }
            .allowance(),
            1
        );
        let unlimited = FanOutPlan::default();
        assert_eq!(
            FanOut {
                plan: unlimited,
                ..fan_out
            }
            .allowance(),
            6
        );
        assert_eq!(
            FanOut {
                plan: unlimited,
                failed: 1,
                ..fan_out
            }
            .allowance(),
            0
        );
    }

    #[test]
    fn a_policy_is_read_back_from_its_text() {
        for policy in [
            FailurePolicy::FailFast,
            FailurePolicy::Collect,
            FailurePolicy::Tolerate(7),
        ] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("tolerate:101".parse::<FailurePolicy>().is_err());
    }
}
