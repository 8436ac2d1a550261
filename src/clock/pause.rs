//! All waiting between tries: exponential, with jitter. The only user of the crate `backoff`.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// What is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PausesKind {
    /// A connection to a server: 0.1 s at first, at most 5 s, so that a restarted server is found soon and
    /// a fleet does not arrive at once.
    Reconnect,
    /// A statement that met a conflict or a busy store: 10 ms at first, at most 1 s.
    Statement,
    /// A look at something that may have changed: 25 ms at first, at most 1 s.
    Look,
}

/// The pauses between tries of one thing: they grow until [`Pauses::reset`].
#[derive(Debug)]
pub struct Pauses {
    policy: ExponentialBackoff,
}

impl Pauses {
    /// The pauses for tries of `kind`. They never end by themselves: who waits decides when to give up.
    pub fn new(kind: PausesKind) -> Self {
        let (first, longest) = match kind {
            PausesKind::Reconnect => (Duration::from_millis(100), Duration::from_secs(5)),
            PausesKind::Statement => (Duration::from_millis(10), Duration::from_secs(1)),
            PausesKind::Look => (Duration::from_millis(25), Duration::from_secs(1)),
        };
        let policy = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: 0.5,
            multiplier: 2.0,
            max_interval: longest,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { policy }
    }

    /// The next pause: within half and one and a half of a bound that doubles each time.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends, so it is no iterator that one would loop over"
    )]
    pub fn next(&mut self) -> Duration {
        self.policy
            .next_backoff()
            .unwrap_or(self.policy.max_interval)
    }

    /// Begins again with the shortest pause, after a success.
    pub fn reset(&mut self) {
        self.policy.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_begin_again_after_a_success() {
        let mut pauses = Pauses::new(PausesKind::Reconnect);
        assert!(pauses.next() <= Duration::from_millis(150));
        for _ in 0..20 {
            assert!(pauses.next() <= Duration::from_millis(7_500));
        }
        assert!(pauses.next() >= Duration::from_millis(2_500));
        pauses.reset();
        assert!(pauses.next() <= Duration::from_millis(150));
    }
}
