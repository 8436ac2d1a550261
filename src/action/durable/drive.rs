//! Polls an action, and notices when only durable waits are left.
//!
//! Whoever can wake the action holds a clone of its waker. Our own waits hold none: the driver asks them itself. So when
//! there is no clone, nothing but a durable wait can make the action go on, and its future may be dropped.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use jiff::Timestamp;

use super::journal::{Journal, Standing};
use crate::action::Running;
use crate::domain::{Failure, Payload, WaitingFor};

/// How long an action that only waits is kept loaded: what happens at once needs no second attempt.
const LINGER: Duration = Duration::from_millis(20);

/// How often waits look again while something else keeps the action loaded: a message about it may have been lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long an action may go without asking for what is stored, while it waits for something else.
const REPLAY_MAX: Duration = Duration::from_secs(10);

/// The driver, its waker and the journal.
const OWN_CLONES: usize = 3;

/// A wait that ends by itself.
type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What became of polling an action.
#[must_use]
#[derive(Debug)]
pub enum Driven {
    /// It has ended.
    Ended(Result<Payload, Failure>),
    /// Only durable waits are left; the action may be dropped.
    Suspended {
        /// What wakes it.
        waiting_for: WaitingFor,
        /// When its timer does, by the store's clock.
        wakes_at: Option<Timestamp>,
    },
}

/// An action under way.
#[must_use = "a future does nothing unless it is polled"]
pub struct Drive {
    action: Running,
    journal: Arc<Journal>,
    wakes: Arc<Wakes>,
    waker: Waker,
    linger: Option<Pause>,
    look: Option<Pause>,
    replay: Option<Pause>,
    /// Until the first time that the action waits for.
    due: Option<(Timestamp, Pause)>,
}

impl Drive {
    /// Drives `action`, whose context has `journal`.
    pub fn new(action: Running, journal: Arc<Journal>) -> Self {
        let wakes = Arc::clone(journal.wakes());
        Self {
            action,
            waker: Waker::from(Arc::clone(&wakes)),
            wakes,
            journal,
            linger: None,
            look: None,
            replay: None,
            due: None,
        }
    }

    /// Polls the action until it cannot go on by itself.
    fn run(&mut self, context: &mut Context<'_>) -> Result<Standing, Result<Payload, Failure>> {
        loop {
            self.wakes.begin(context.waker());
            let mut inner = Context::from_waker(&self.waker);
            if let Poll::Ready(result) = self.action.as_mut().poll(&mut inner) {
                return Err(result);
            }
            let standing = self.journal.standing(self.journal.host().now());
            let is_woken = self.wakes.is_woken();
            if !is_woken && !matches!(standing, Standing::GoesOn) {
                return Ok(standing);
            }
            if is_woken && !matches!(standing, Standing::GoesOn) {
                // Somebody else woke it: let others run before it is polled again.
                context.waker().wake_by_ref();
                return Ok(standing);
            }
        }
    }

    /// Whether anybody but a durable wait can make the action go on.
    fn is_awaited_elsewhere(&self) -> bool {
        self.wakes.is_woken()
            || self.wakes.is_asking()
            || Arc::strong_count(&self.wakes) > OWN_CLONES
    }

    fn pause(&self, duration: Duration) -> Pause {
        self.journal.host().sleep(duration)
    }

    fn skip(&mut self) {
        self.replay = None;
        if let Some(name) = self.journal.skip() {
            tracing::debug!(step = %name, "A stored step is passed over: the action asks for something else");
        }
    }

    /// Polls the time that the action waits for, and the look for what was missed. Whether one of them is over.
    fn poll_times(&mut self, first_due: Option<Timestamp>, context: &mut Context<'_>) -> bool {
        if self.due.as_ref().map(|(due, _)| *due) != first_due {
            let host = self.journal.host();
            self.due = first_due.map(|due| {
                let left = due.duration_since(host.now());
                (
                    due,
                    host.sleep(Duration::try_from(left).unwrap_or(Duration::ZERO)),
                )
            });
        }
        let due = self
            .due
            .as_mut()
            .map(|(_, pause)| pause.as_mut().poll(context));
        if due.is_some_and(|poll| poll.is_ready()) {
            self.due = None;
            return true; // The next standing sees that it is over.
        }
        let mut look = self
            .look
            .take()
            .unwrap_or_else(|| self.pause(LOOK_INTERVAL));
        if look.as_mut().poll(context).is_ready() {
            self.journal.nudge();
            return true;
        }
        self.look = Some(look);
        false
    }

    fn poll_standing(
        &mut self,
        standing: Standing,
        context: &mut Context<'_>,
    ) -> Poll<Option<Driven>> {
        let is_awaited = self.is_awaited_elsewhere();
        match standing {
            Standing::GoesOn => Poll::Ready(None),
            Standing::Stalled if !is_awaited => {
                self.skip();
                Poll::Ready(None)
            }
            Standing::Stalled => {
                let mut replay = self.replay.take().unwrap_or_else(|| self.pause(REPLAY_MAX));
                if replay.as_mut().poll(context).is_ready() {
                    self.skip();
                    return Poll::Ready(None);
                }
                self.replay = Some(replay);
                Poll::Pending
            }
            Standing::Unknown => Poll::Pending,
            Standing::Waits {
                waiting_for,
                first_due,
            } => {
                if self.poll_times(first_due, context) {
                    return Poll::Ready(None);
                }
                if is_awaited {
                    self.linger = None;
                    return Poll::Pending;
                }
                let mut linger = self.linger.take().unwrap_or_else(|| self.pause(LINGER));
                if linger.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Some(Driven::Suspended {
                        waiting_for,
                        wakes_at: first_due,
                    }));
                }
                self.linger = Some(linger);
                Poll::Pending
            }
        }
    }
}

impl Future for Drive {
    type Output = Driven;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Driven> {
        let this = self.get_mut();
        loop {
            let standing = match this.run(context) {
                Ok(standing) => standing,
                Err(result) => return Poll::Ready(Driven::Ended(result)),
            };
            if !matches!(standing, Standing::Waits { .. }) {
                this.linger = None;
                this.due = None;
            }
            match this.poll_standing(standing, context) {
                Poll::Ready(Some(driven)) => return Poll::Ready(driven),
                Poll::Ready(None) => {} // Something may go on.
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl fmt::Debug for Drive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drive").finish_non_exhaustive()
    }
}

/// What the waker of an action is made of.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    is_woken: AtomicBool,
    /// Questions to the host whose answer has not come.
    asking: AtomicUsize,
    outer: Mutex<Option<Waker>>,
}

impl Wakes {
    /// The action is about to be polled by `outer`.
    fn begin(&self, outer: &Waker) {
        let mut known = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.as_ref().is_some_and(|known| known.will_wake(outer)) {
            *known = Some(outer.clone());
        }
        drop(known);
        self.is_woken.store(false, Ordering::Release);
    }

    fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Acquire)
    }

    /// A question to the host is under way.
    pub(super) fn asked(&self) {
        self.asking.fetch_add(1, Ordering::AcqRel);
    }

    /// One has its answer, or nobody wants it any more.
    pub(super) fn answered(&self) {
        self.asking.fetch_sub(1, Ordering::AcqRel);
    }

    fn is_asking(&self) -> bool {
        self.asking.load(Ordering::Acquire) > 0
    }

    /// Whether `waker` is the driver's own. By what it points to: [`Waker::will_wake`] compares tables of functions as well, of
    /// which an optimised program has several for one type. Then the driver's own waits would count as somebody else's,
    /// and nothing would ever be suspended.
    pub(super) fn is_of(self: &Arc<Self>, waker: &Waker) -> bool {
        waker.data() == Arc::as_ptr(self).cast()
    }

    /// Has the action polled.
    pub(super) fn wake_all(&self) {
        self.is_woken.store(true, Ordering::Release);
        let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
        let outer = outer.clone();
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_knows_its_own_waker_from_others() {
        let (own, other) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let waker = Waker::from(Arc::clone(&own));
        assert!(own.is_of(&waker) && own.is_of(&waker.clone()));
        assert!(!other.is_of(&waker) && !own.is_of(Waker::noop()));
    }
}
