//! All waiting between tries: exponential, with jitter. The only user of the crate `backoff`.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

use super::Clock;

/// The first bound, so that a restarted server is found soon.
const FIRST: Duration = Duration::from_millis(100);

/// The last bound, so that a server that comes back does not meet its whole fleet at once, nor wait for it long.
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses between tries of one thing: they grow until [`Pauses::reset`].
#[derive(Debug)]
pub struct Pauses {
    bounds: ExponentialBackoff,
    clock: Arc<dyn Clock>,
}

impl Pauses {
    /// The pauses from the shortest on. They never end by themselves: who waits decides when to give up. Chance is
    /// the clock's, so that a test can repeat it.
    pub fn new(clock: &Arc<dyn Clock>) -> Self {
        let bounds = ExponentialBackoff {
            current_interval: FIRST,
            initial_interval: FIRST,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: LONGEST,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self {
            bounds,
            clock: Arc::clone(clock),
        }
    }

    /// The next pause: within half and one and a half of a bound that doubles each time.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator that one would loop over"
    )]
    pub fn next(&mut self) -> Duration {
        let bound = self.bounds.next_backoff();
        let bound = bound.unwrap_or(self.bounds.max_interval);
        bound.mul_f64(0.5 + self.clock.chance())
    }

    /// Begins again with the shortest pause, after a success.
    pub fn reset(&mut self) {
        self.bounds.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_whole_fleet_that_lost_the_same_server_does_not_come_back_at_once() {
        let first = |_| Pauses::new(&SystemClock::shared()).next();
        let mut firsts: Vec<Duration> = (0..100).map(first).collect();
        firsts.sort();
        firsts.dedup();
        assert!(firsts.len() > 90, "{firsts:?}");
        let spread = firsts[firsts.len() - 1].saturating_sub(firsts[0]);
        assert!(spread > FIRST / 2, "{spread:?}");
    }

    #[test]
    fn pauses_grow_to_their_bound_and_begin_again_after_a_success() {
        let mut pauses = Pauses::new(&SystemClock::shared());
        assert!(pauses.next() <= Duration::from_millis(150));
        for _ in 0..20 {
            assert!(pauses.next() <= Duration::from_millis(7_500));
        }
        assert!(pauses.next() >= Duration::from_millis(2_500));
        pauses.reset();
        assert!(pauses.next() <= Duration::from_millis(150));
    }
}
