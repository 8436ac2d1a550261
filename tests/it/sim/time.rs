//! Simulated time: it stands still until nothing can run, and then goes to the next timer.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use jiff::{SignedDuration, Timestamp};
use longshore::clock::{Clock, Sleep};
use tokio::sync::oneshot;

use super::chance::Chance;
use super::process::Process;

/// When every simulation begins, for people: 2026-01-01.
const BEGINNING: i64 = 1_767_225_600;

/// How late a timer of a process may fire: no two hosts count alike.
const LATENESS_MAX: Duration = Duration::from_millis(2);

/// The one time of a simulation, and everything that waits for it.
#[derive(Debug, Default)]
pub(super) struct Timeline(Mutex<Timers>);

#[derive(Debug, Default)]
struct Timers {
    now: Duration,
    count: u64,
    waiting: BTreeMap<(Duration, u64), Timer>,
}

#[derive(Debug)]
struct Timer {
    wake: oneshot::Sender<()>,
    owner: Option<Arc<Process>>,
}

impl Timeline {
    pub(super) fn now(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    /// Waits for `duration`; for ever, when its owner dies.
    pub(super) fn sleep(&self, duration: Duration, owner: Option<Arc<Process>>) -> Sleep {
        let (wake, woken) = oneshot::channel();
        let mut timers = self.0.lock().unwrap();
        timers.count += 1;
        let key = (timers.now.saturating_add(duration), timers.count);
        timers.waiting.insert(key, Timer { wake, owner });
        drop(timers);
        Box::pin(async move {
            if woken.await.is_err() {
                pending::<()>().await;
            }
        })
    }

    /// Goes to the next timer that somebody still waits for and fires it; when that is after `until`, only goes there.
    /// Tells whether it fired one.
    pub(super) fn go(&self, until: Duration) -> bool {
        let mut timers = self.0.lock().unwrap();
        while let Some(entry) = timers.waiting.first_entry() {
            let timer = entry.get();
            if timer.wake.is_closed() || timer.owner.as_ref().is_some_and(|owner| owner.is_dead()) {
                entry.remove();
                continue;
            }
            if entry.key().0 > until {
                break;
            }
            let ((at, _), timer) = entry.remove_entry();
            timers.now = timers.now.max(at);
            drop(timers);
            match timer.owner {
                Some(owner) => owner.wake(timer.wake),
                None => {
                    timer.wake.send(()).unwrap_or_default();
                }
            }
            return true;
        }
        timers.now = timers.now.max(until);
        false
    }
}

/// Tells when every task of the runtime waits.
#[derive(Debug, Default)]
pub(super) struct Idle {
    is_asked: AtomicBool,
    is_reached: AtomicBool,
    waker: AtomicWaker,
}

impl Idle {
    /// To be called by the runtime when it has nothing left to run.
    pub(super) fn parked(&self) {
        if self.is_asked.swap(false, Ordering::Relaxed) {
            self.is_reached.store(true, Ordering::Relaxed);
            self.waker.wake();
        }
    }

    /// Resolves once every other task waits.
    pub(super) async fn reached(&self) {
        self.is_reached.store(false, Ordering::Relaxed);
        std::future::poll_fn(|context| {
            self.waker.register(context.waker());
            if self.is_reached.load(Ordering::Relaxed) {
                return Poll::Ready(());
            }
            self.is_asked.store(true, Ordering::Relaxed);
            Poll::Pending
        })
        .await;
    }
}

/// The clock of one process, or of the store: no two show the same.
pub(super) struct SimClock {
    timeline: Arc<Timeline>,
    owner: Option<Arc<Process>>,
    /// How far its wall clock is off.
    skew: SignedDuration,
    /// What its monotonic clock showed when the simulation began.
    uptime: Duration,
    chance: Mutex<Chance>,
}

impl SimClock {
    /// The store's clock: the one that is right.
    pub(super) fn of_store(timeline: &Arc<Timeline>) -> Self {
        Self {
            timeline: Arc::clone(timeline),
            owner: None,
            skew: SignedDuration::ZERO,
            uptime: Duration::ZERO,
            chance: Mutex::new(Chance::new(0)),
        }
    }

    /// The clock of a process, up to an hour off.
    pub(super) fn of_process(
        timeline: &Arc<Timeline>,
        owner: &Arc<Process>,
        mut chance: Chance,
    ) -> Self {
        let skew = i64::try_from(chance.below(7_200)).unwrap() - 3_600;
        let uptime = chance.between(Duration::ZERO, Duration::from_hours(24));
        Self {
            timeline: Arc::clone(timeline),
            owner: Some(Arc::clone(owner)),
            skew: SignedDuration::from_secs(skew),
            uptime,
            chance: Mutex::new(chance),
        }
    }
}

/// The true wall clock at `now` of a simulation.
pub(super) fn wall(now: Duration) -> Timestamp {
    Timestamp::from_second(BEGINNING).unwrap() + now
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        wall(self.timeline.now()) + self.skew
    }

    fn monotonic(&self) -> Duration {
        self.timeline.now() + self.uptime
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let late = self
            .chance
            .lock()
            .unwrap()
            .between(Duration::ZERO, LATENESS_MAX);
        let owner = self.owner.as_ref().map(Arc::clone);
        self.timeline.sleep(duration.saturating_add(late), owner)
    }

    fn random(&self) -> u128 {
        self.chance.lock().unwrap().bits()
    }
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimClock").finish_non_exhaustive()
    }
}
