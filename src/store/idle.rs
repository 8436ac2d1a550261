//! Looks for ready tasks whose announcement was lost.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::{ActionName, QueueName, Task};

/// What an executor with free slots looks for in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleLook {
    /// In which queue.
    pub queue: QueueName,
    /// What it can run.
    pub actions: Vec<ActionName>,
    /// How long a task must have been `ready`: its announcement may still be under way.
    pub older_than: Duration,
    /// Only tasks that became `ready` at this time or later: all that are older were looked through before.
    pub since: Option<Timestamp>,
    /// Where the last look stopped, when it found as many as it asked for: what lies before that is passed by.
    pub resume: Option<IdleResume>,
    /// Only tasks that became `ready` before this time: those after it may still be announced.
    pub before: Option<Timestamp>,
    /// How many at most.
    pub limit: usize,
}

impl IdleLook {
    /// Up to when everything was looked through at `looked_at`, less what may still come of transactions that take as long
    /// as `overlap`; `None` when that is before all times.
    pub fn searched(&self, looked_at: Timestamp, overlap: Duration) -> Option<Timestamp> {
        let searched = looked_at.checked_sub(self.older_than).ok()?;
        let searched = self.before.map_or(searched, |before| searched.min(before));
        searched.checked_sub(overlap).ok()
    }
}

/// Where an idle look stopped: higher priorities were looked through, and this one up to a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleResume {
    /// The priority of the last task that was found.
    pub priority: i16,
    /// When that task became `ready`: of its priority only tasks that became `ready` then or later.
    pub ready_at: Timestamp,
    /// Of higher priorities only tasks that became `ready` at this time or later.
    pub above_since: Timestamp,
}

/// What an idle look found.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleFound {
    /// The tasks that were taken.
    pub tasks: Vec<Task>,
    /// When it looked, by the store's clock.
    pub looked_at: Timestamp,
}
