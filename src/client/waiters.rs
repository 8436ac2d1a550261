//! Who waits for which task: one map, whatever their number.
//!
//! The row is the truth and an event only the wake-up: who is woken looks, and one batched query per interval
//! covers every event that was lost. So a waiter never hangs, and never hears "done" before the row says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{ClientError, Waited};
use crate::clock::Clock;
use crate::domain::TaskId;
use crate::domain::limits::BATCH_MAX;
use crate::store::{GroupCommit, Store};

/// How often the store is asked for all waiters together: the longest that a lost event delays an answer, and
/// what a waiter for another origin's task is late at most.
const RESYNC_INTERVAL: Duration = Duration::from_millis(500);

/// How many times a task was reported, for its waiters to see that it was.
type Wakes = watch::Sender<u64>;

/// The waiters of one process.
pub(super) struct Waiters {
    tasks: Mutex<BTreeMap<TaskId, Wakes>>,
    any: watch::Sender<()>,
}

/// One waiter. Dropped, it waits no more.
pub(super) struct Waiter {
    task: TaskId,
    wakes: Option<watch::Receiver<u64>>,
    waiters: Arc<Waiters>,
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self {
            tasks: Mutex::default(),
            any: watch::Sender::new(()),
        }
    }

    /// Registers a waiter: from now on no event is missed.
    pub(super) fn register(self: &Arc<Self>, task: TaskId) -> Waiter {
        let wakes = self
            .tasks()
            .entry(task)
            .or_insert_with(|| watch::Sender::new(0))
            .subscribe();
        self.any.send_replace(());
        Waiter {
            task,
            wakes: Some(wakes),
            waiters: Arc::clone(self),
        }
    }

    /// Tells the waiters of `task`, if there are any, to look.
    pub(super) fn wake(&self, task: TaskId) {
        if let Some(wakes) = self.tasks().get(&task) {
            wakes.send_modify(|count| *count += 1);
        }
    }

    fn waited_for(&self) -> Vec<TaskId> {
        self.tasks().keys().copied().collect()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<TaskId, Wakes>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Waits until the row says that the task ended, at most for `limit`. With `is_fresh` the first look is
    /// spared: a task that was stored a moment ago is open.
    pub(super) async fn wait(
        mut self,
        group: &GroupCommit,
        clock: &Arc<dyn Clock>,
        limit: Duration,
        is_fresh: bool,
    ) -> Result<Waited, ClientError> {
        let mut limit = clock.sleep(limit);
        let mut is_over = false;
        let mut looks = !is_fresh;
        loop {
            if looks || is_over {
                let task = group
                    .look(self.task)
                    .await?
                    .ok_or(ClientError::Unknown(self.task))?;
                if task.state.ends_a_wait() {
                    return Ok(Waited::Ended(task));
                }
                if is_over {
                    return Ok(Waited::StillOpen(task));
                }
            }
            looks = true;
            let Some(wakes) = self.wakes.as_mut() else {
                return Err(ClientError::Unknown(self.task));
            };
            tokio::select! {
                biased;
                _ = wakes.changed() => {}
                () = &mut limit => is_over = true,
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.wakes = None; // Before the count below: this one no longer counts.
        let mut tasks = self.waiters.tasks();
        if tasks
            .get(&self.task)
            .is_some_and(|wakes| wakes.receiver_count() == 0)
        {
            tasks.remove(&self.task);
        }
    }
}

/// Asks the store about all waiters together, again and again; costs nothing while nobody waits.
pub(super) async fn resync(waiters: Arc<Waiters>, store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
    let mut registered = waiters.any.subscribe();
    loop {
        let tasks = waiters.waited_for();
        if tasks.is_empty() {
            // Marked as seen before the next look at the map, so that no registration is slept through.
            if registered.changed().await.is_err() {
                return;
            }
        }
        clock.sleep(RESYNC_INTERVAL).await;
        for batch in waiters.waited_for().chunks(BATCH_MAX * 4) {
            match store.ended(batch).await {
                Ok(ended) => ended.into_iter().for_each(|task| waiters.wake(task)),
                Err(error) => {
                    tracing::debug!(error = %error, "Waiters could not be checked; they are again soon");
                }
            }
        }
    }
}
