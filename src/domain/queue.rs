//! A queue as it is stored.

use super::QueueName;

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
}
