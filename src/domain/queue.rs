//! A queue as it is stored.

use jiff::Timestamp;

use super::{Operator, QueueName};

/// A queue and what waits in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// Its name.
    pub name: QueueName,
    /// Tasks that are due later.
    pub scheduled: u64,
    /// Tasks that are announced.
    pub ready: u64,
    /// Tasks that run.
    pub running: u64,
    /// Since when nobody takes its tasks, if an operator wants it so.
    pub paused: Option<QueuePause>,
}

/// A queue whose tasks wait: those that run go on, and no other begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePause {
    /// Since when, by the store's clock.
    pub at: Timestamp,
    /// Who wants it so.
    pub by: Operator,
}
