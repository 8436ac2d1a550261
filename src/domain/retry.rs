//! When a failed attempt is followed by another.

use std::time::Duration;

use super::limits::{ATTEMPTS_MAX, DURATION_MAX};

/// How often, and how long after a failure, a task is tried again.
///
/// Unit: durations in seconds on the wire. The delay before attempt `n + 1` is chosen evenly between zero
/// and `delay * 2^(n-1)`, at most `delay_max`.
///
/// Source: exponential back-off with full jitter, M. Brooker, AWS Architecture Blog, 2015.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    attempts_max: u32,
    delay: Duration,
    delay_max: Duration,
}

/// A retry policy that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// No attempt, or too many.
    #[error("`retry.attempts` is {found}, it must be from 1 to {ATTEMPTS_MAX}")]
    Attempts {
        /// What was asked for.
        found: u32,
    },
    /// A delay that is longer than anybody waits.
    #[error("`retry.{field}` is longer than ten years")]
    Delay {
        /// Which field.
        field: &'static str,
    },
}

impl Default for RetryPolicy {
    /// One attempt: what is not known to be repeatable is not repeated.
    fn default() -> Self {
        Self {
            attempts_max: 1,
            delay: Duration::from_secs(1),
            delay_max: Duration::from_mins(10),
        }
    }
}

impl RetryPolicy {
    /// A policy of `attempts_max` attempts in all; `delay` bounds the first pause and doubles up to `delay_max`.
    ///
    /// # Errors
    ///
    /// [`RetryError`], when a number is out of its bounds.
    pub fn new(
        attempts_max: u32,
        delay: Duration,
        delay_max: Duration,
    ) -> Result<Self, RetryError> {
        if attempts_max == 0 || attempts_max > ATTEMPTS_MAX {
            return Err(RetryError::Attempts {
                found: attempts_max,
            });
        }
        for (field, duration) in [("delay", delay), ("delay_max", delay_max)] {
            if duration > DURATION_MAX {
                return Err(RetryError::Delay { field });
            }
        }
        Ok(Self {
            attempts_max,
            delay,
            delay_max,
        })
    }

    /// Attempts in all.
    pub const fn attempts_max(&self) -> u32 {
        self.attempts_max
    }

    /// The bound of the first pause.
    pub const fn delay(&self) -> Duration {
        self.delay
    }

    /// The bound of every pause.
    pub const fn delay_max(&self) -> Duration {
        self.delay_max
    }

    /// Whether another attempt follows after `failures` failed ones.
    pub const fn allows_another(&self, failures: u32) -> bool {
        failures < self.attempts_max
    }

    /// The pause after `failures` failed attempts. `chance` is from 0 to 1 and spreads the tasks that failed
    /// together.
    pub fn pause(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(40);
        let bound = self
            .delay
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX));
        bound.min(self.delay_max).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pause_is_never_longer_than_its_bounds(
            failures in 0_u32..2000, chance in 0.0_f64..=1.0, delay in 0_u64..1000, delay_max in 0_u64..100_000,
        ) {
            let policy =
                RetryPolicy::new(5, Duration::from_secs(delay), Duration::from_secs(delay_max)).unwrap();
            let pause = policy.pause(failures, chance);
            prop_assert!(pause <= policy.delay_max());
            prop_assert!(failures > 1 || pause <= policy.delay());
        }
    }

    #[test]
    fn the_pause_doubles() {
        let policy = RetryPolicy::new(5, Duration::from_secs(1), Duration::from_mins(1)).unwrap();
        let pauses: Vec<u64> = (1..=8)
            .map(|failures| policy.pause(failures, 1.0).as_secs())
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(policy.allows_another(4));
        assert!(!policy.allows_another(5));
    }

    #[test]
    fn the_whole_pause_is_spread() {
        let policy = RetryPolicy::new(5, Duration::from_secs(8), Duration::from_mins(1)).unwrap();
        let pauses = [0.0, 0.25, 1.0].map(|chance| policy.pause(2, chance).as_secs());
        assert_eq!(pauses, [0, 4, 16]);
    }

    #[test]
    fn bounds_are_said() {
        let error = RetryPolicy::new(0, Duration::ZERO, Duration::ZERO).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`retry.attempts` is 0, it must be from 1 to 1000"
        );
    }
}
