//! The attempts that run in this executor, and how to stop them.

use std::collections::{BTreeMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Notify, watch};

use crate::action::Stop;
use crate::action::durable::Journal;
use crate::domain::{Attempt, Delivery, Task, TaskId};

/// The attempts that run in this executor.
#[derive(Debug, Default)]
pub(super) struct RunningAttempts {
    attempts: Arc<Mutex<BTreeMap<TaskId, Entry>>>,
    /// The tasks that are being claimed, run or settled here.
    held: Arc<Held>,
    /// Whether the lease is about to end, so that nothing may begin that may run only once, and no new step.
    is_fenced: watch::Sender<bool>,
}

/// The tasks that somebody here holds, and a bell for when one is let go of.
#[derive(Debug, Default)]
struct Held {
    tasks: Mutex<HashSet<TaskId>>,
    freed: Notify,
}

/// The right of one part of this executor to claim and run a task; others here leave it alone. Given back when
/// dropped.
///
/// It is what makes a claim repeatable: the store answers a claim again to the executor that owns the task.
#[must_use = "dropped at once it protects nothing"]
#[derive(Debug)]
pub(super) struct Hold {
    task: TaskId,
    held: Arc<Held>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.tasks().remove(&self.task);
        self.held.freed.notify_waiters();
    }
}

impl Held {
    fn tasks(&self) -> MutexGuard<'_, HashSet<TaskId>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Entry {
    attempt: Attempt,
    delivery: Delivery,
    stop: watch::Sender<Option<Stop>>,
    /// What its steps wait by, once it has begun.
    journal: Weak<Journal>,
}

/// An attempt's place in the list; gone when dropped.
#[derive(Debug)]
pub(super) struct Running {
    task: TaskId,
    attempt: Attempt,
    attempts: Arc<Mutex<BTreeMap<TaskId, Entry>>>,
    stop: watch::Receiver<Option<Stop>>,
}

impl RunningAttempts {
    /// Takes a task for one part of this executor; `None` when another has it.
    pub(super) fn hold(&self, task: TaskId) -> Option<Hold> {
        let is_free = self.held.tasks().insert(task);
        is_free.then(|| Hold {
            task,
            held: Arc::clone(&self.held),
        })
    }

    /// Takes a task as soon as no other part of this executor has it.
    ///
    /// Cancel safe: a dropped call takes nothing.
    pub(super) async fn hold_soon(&self, task: TaskId) -> Hold {
        loop {
            let mut freed = pin!(self.held.freed.notified());
            freed.as_mut().enable(); // Before the look: a task that is let go of during it must not be missed.
            if let Some(hold) = self.hold(task) {
                return hold;
            }
            freed.await;
        }
    }

    /// Enters an attempt that begins.
    pub(super) fn enter(&self, task: &Task) -> Running {
        let mut attempts = self.lock(); // First: the fence falls under the same lock.
        let is_late = task.options.delivery == Delivery::Once && *self.is_fenced.borrow();
        let (stop, stopped) = watch::channel(is_late.then_some(Stop::LeaseEnds));
        attempts.insert(
            task.id,
            Entry {
                attempt: task.attempt,
                delivery: task.options.delivery,
                stop,
                journal: Weak::new(),
            },
        );
        drop(attempts);
        Running {
            task: task.id,
            attempt: task.attempt,
            attempts: Arc::clone(&self.attempts),
            stop: stopped,
        }
    }

    /// Which attempt of `task` runs here, or has run and is being settled.
    pub(super) fn attempt(&self, task: TaskId) -> Option<Attempt> {
        self.lock().get(&task).map(|entry| entry.attempt)
    }

    /// Whether this very attempt of `task` runs here.
    pub(super) fn runs(&self, task: &Task) -> bool {
        self.attempt(task.id) == Some(task.attempt)
    }

    /// Asks the attempt of `task` to stop; whether it runs here. The first reason stays.
    pub(super) fn stop(&self, task: TaskId, stop: Stop) -> bool {
        match self.lock().get(&task) {
            Some(entry) => {
                entry.ask(stop);
                true
            }
            None => false,
        }
    }

    /// Asks every attempt to stop.
    pub(super) fn stop_all(&self, stop: &Stop) {
        self.lock()
            .values()
            .for_each(|entry| entry.ask(stop.clone()));
    }

    /// The lease is renewed: what may run only once may begin again.
    pub(super) fn unfence(&self) {
        self.is_fenced.send_replace(false);
    }

    /// Returns when a new step may begin: while nobody knows who the task belongs to, none does.
    pub(super) async fn unfenced(&self) {
        let mut is_fenced = self.is_fenced.subscribe();
        // The sender lives as long as the executor.
        drop(is_fenced.wait_for(|is_fenced| !is_fenced).await);
    }

    /// Something happened that the steps of `task` may wait for: they look again. Whether it runs here.
    pub(super) fn nudge(&self, task: TaskId) -> bool {
        let attempts = self.lock();
        let Some(entry) = attempts.get(&task) else {
            return false;
        };
        if let Some(journal) = entry.journal.upgrade() {
            journal.nudge();
        }
        true
    }

    /// Asks every attempt that may run only once to stop, and lets none begin; how many there are.
    pub(super) fn stop_once(&self, stop: &Stop) -> usize {
        let attempts = self.lock();
        self.is_fenced.send_replace(true);
        let once = attempts
            .values()
            .filter(|entry| entry.delivery == Delivery::Once);
        once.map(|entry| entry.ask(stop.clone())).count()
    }

    /// Which tasks run, for people.
    pub(super) fn tasks(&self) -> Vec<TaskId> {
        self.lock().keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn ask(&self, stop: Stop) {
        self.stop.send_if_modified(|asked| {
            let is_first = asked.is_none();
            if is_first {
                *asked = Some(stop);
            }
            is_first
        });
    }
}

impl Running {
    /// Where the attempt hears that it shall stop.
    pub(super) fn stop(&self) -> watch::Receiver<Option<Stop>> {
        self.stop.clone()
    }

    /// The attempt has begun: from now on its steps can be told to look again.
    pub(super) fn begun(&self, journal: &Arc<Journal>) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = attempts
            .get_mut(&self.task)
            .filter(|entry| entry.attempt == self.attempt)
        {
            entry.journal = Arc::downgrade(journal);
        }
    }

    /// Asks this attempt itself to stop.
    pub(super) fn ask(&self, stop: Stop) {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = attempts
            .get(&self.task)
            .filter(|entry| entry.attempt == self.attempt)
        {
            entry.ask(stop);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        // A later attempt of the same task may have taken the place: after this one was fenced.
        if attempts
            .get(&self.task)
            .is_some_and(|entry| entry.attempt == self.attempt)
        {
            attempts.remove(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use jiff::Timestamp;

    use super::*;

    #[tokio::test]
    async fn a_task_is_held_by_one_and_then_by_the_next() {
        let attempts = RunningAttempts::default();
        let task = TaskId::new(Timestamp::UNIX_EPOCH, 1);
        let first = attempts.hold(task).unwrap();
        assert!(attempts.hold(task).is_none());
        assert!(
            attempts.hold(task).is_none(),
            "to ask in vain frees nothing"
        );
        let mut next = pin!(attempts.hold_soon(task));
        assert!(poll!(&mut next).is_pending());
        drop(first);
        let second = next.await;
        assert!(attempts.hold(task).is_none());
        drop(second);
        assert!(attempts.hold(task).is_some());
    }
}
