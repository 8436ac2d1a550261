//! The executor in the same process, if there is one: a task that it has room for begins there at once, without the way
//! through the broker. Claimed in the transaction that stores it, so that nobody else can have it; said to taps all the same.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::domain::{ExecutorId, Submission, Task, TaskId};

/// An executor, as a client in its process sees it.
pub trait LocalExecutor: fmt::Debug + Send + Sync {
    /// A place for the task `id` that `submission` makes, if there is a free slot for it now and the executor knows its
    /// action. Takes nothing otherwise.
    fn reserve(&self, id: TaskId, submission: &Submission) -> Option<Box<dyn LocalPlace>>;
}

/// A slot that is kept for a task which is being stored. Dropped before the store has answered, with the call or because the
/// answer was lost, it is free again, and the executor looks whether the task is its own.
pub trait LocalPlace: Send {
    /// Whose slot it is.
    fn executor(&self) -> ExecutorId;

    /// Runs the task, which is stored and claimed, and tells taps that it was created; calls `ended` when the end of its
    /// attempt is stored.
    fn begin(self: Box<Self>, task: Task, ended: Box<dyn FnOnce() + Send>);

    /// The store has answered, and did not give the task to this executor.
    fn let_go(self: Box<Self>);
}

/// The executors of this process. Clones share them; one that is dropped is forgotten.
#[derive(Debug, Clone, Default)]
pub struct LocalExecutors(Arc<Mutex<Vec<Weak<dyn LocalExecutor>>>>);

impl LocalExecutors {
    /// Clients of this process may use `executor` for as long as it lives.
    pub fn add(&self, executor: &Arc<dyn LocalExecutor>) {
        let mut executors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        executors.retain(|one| one.strong_count() > 0);
        executors.push(Arc::downgrade(executor));
    }

    /// A place for the task `id` in one of them.
    pub(super) fn reserve(
        &self,
        id: TaskId,
        submission: &Submission,
    ) -> Option<Box<dyn LocalPlace>> {
        let executors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live = executors.iter().filter_map(Weak::upgrade);
        live.find_map(|executor| executor.reserve(id, submission))
    }
}
