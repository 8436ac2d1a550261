//! Clocks that go faster than the machine's.

use std::sync::Arc;
use std::time::Duration;

use longshore::clock::{Clock, Sleep, SystemClock};
use tokio::sync::watch;

/// A clock on which waiting takes a hundredth of the time.
#[derive(Debug)]
pub(crate) struct Hurried(pub(crate) Arc<dyn Clock>);

impl Clock for Hurried {
    fn now(&self) -> jiff::Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic() * 100
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.0.sleep(duration / 100)
    }

    fn random(&self) -> u128 {
        self.0.random()
    }
}

/// The machine's clock, which a test may push forward. Between two pushes nothing is hurried: what the product waits for a
/// moment only is not over before a busy machine has come to it.
#[derive(Debug)]
pub(crate) struct Pushed {
    machine: Arc<dyn Clock>,
    ahead: watch::Sender<Duration>,
}

impl Pushed {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            machine: SystemClock::shared(),
            ahead: watch::Sender::new(Duration::ZERO),
        })
    }

    /// So much time is over at once, for whoever waits already.
    pub(crate) fn push(&self, time: Duration) {
        self.ahead.send_modify(|ahead| *ahead += time);
    }
}

impl Clock for Pushed {
    fn now(&self) -> jiff::Timestamp {
        self.machine.now() + *self.ahead.borrow()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + *self.ahead.borrow()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let (machine, mut ahead) = (Arc::clone(&self.machine), self.ahead.subscribe());
        let until = self.monotonic() + duration;
        Box::pin(async move {
            loop {
                let now = machine.monotonic() + *ahead.borrow_and_update();
                let left = until.saturating_sub(now);
                tokio::select! {
                    biased;
                    () = machine.sleep(left) => return,
                    // When the sender is gone nobody pushes any more.
                    Ok(()) = ahead.changed() => {}
                }
            }
        })
    }

    fn random(&self) -> u128 {
        self.machine.random()
    }
}
