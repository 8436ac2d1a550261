//! Time and chance: the two things a pure program cannot have. Everything above takes them from here, so
//! that tests can move them.

mod pause;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use pause::Pauses;

/// A wait that ends by itself.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + 'static>>;

/// Waits until `sleep` is over, for ever when there is none.
///
/// # Cancel safety
///
/// Safe: what is left of the wait is waited for the next time.
pub async fn passed(sleep: Option<&mut Sleep>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => std::future::pending().await,
    }
}

/// A source of time and chance.
///
/// [`Clock::now`] is this host's wall clock: for ids and for people. Nobody compares two hosts' clocks: due
/// times and leases are the store's to judge.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock, UTC.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process; never goes back. For deadlines.
    fn monotonic(&self) -> Duration;

    /// Waits for `duration`. Cancel safe: dropped, it has done nothing.
    fn sleep(&self, duration: Duration) -> Sleep;

    /// 128 bits that nobody can guess.
    fn random(&self) -> u128;

    /// A number from 0 to 1, evenly spread.
    fn chance(&self) -> f64 {
        let bits = u32::try_from(self.random() & u128::from(u32::MAX)).unwrap_or(0);
        f64::from(bits) / f64::from(u32::MAX)
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The machine's clock, shared.
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self {
            started: Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn now(&self) -> Timestamp {
        Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(duration))
    }

    fn random(&self) -> u128 {
        rand::random()
    }
}
