//! A question to the host. Its answer may come when the action has stopped polling whatever asked, for instance one side
//! of a `select!` that is kept for later; so it is not told by a clone of the driver's waker, which would stay there.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use super::drive::Wakes;

/// A question under way.
#[must_use = "a future does nothing unless it is polled"]
pub(super) struct Asking<'a, T> {
    question: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    answer: Arc<Answer>,
}

/// Told when there is an answer.
struct Answer {
    wakes: Weak<Wakes>,
    /// Whether it has not come: counted with the driver.
    is_open: AtomicBool,
    /// Who is to be woken apart from the driver.
    waker: Mutex<Option<Waker>>,
}

impl<'a, T> Asking<'a, T> {
    pub(super) fn new(wakes: &Arc<Wakes>, question: impl Future<Output = T> + Send + 'a) -> Self {
        Self {
            question: Box::pin(question),
            answer: Arc::new(Answer {
                wakes: Arc::downgrade(wakes),
                is_open: AtomicBool::new(false),
                waker: Mutex::default(),
            }),
        }
    }
}

impl Answer {
    fn open(&self, waker: &Waker) {
        let Some(driver) = self.wakes.upgrade() else {
            return;
        };
        let other = (!driver.is_of(waker)).then(|| waker.clone());
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = other;
        if !self.is_open.swap(true, Ordering::AcqRel) {
            driver.asked();
        }
    }

    fn close(&self) {
        if self.is_open.swap(false, Ordering::AcqRel)
            && let Some(wakes) = self.wakes.upgrade()
        {
            wakes.answered();
        }
    }
}

impl Wake for Answer {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.close();
        let waker = self
            .waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waker) = waker {
            waker.wake();
        }
        if let Some(driver) = self.wakes.upgrade() {
            driver.wake_all();
        }
    }
}

impl<T> Future for Asking<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        // Before it is asked: the answer may come at once.
        this.answer.open(context.waker());
        let waker = Waker::from(Arc::clone(&this.answer));
        let poll = this
            .question
            .as_mut()
            .poll(&mut Context::from_waker(&waker));
        if poll.is_ready() {
            this.answer.close();
        }
        poll
    }
}

impl<T> Drop for Asking<'_, T> {
    fn drop(&mut self) {
        self.answer.close();
    }
}

impl<T> fmt::Debug for Asking<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}
