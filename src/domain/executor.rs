//! An executor as it is stored.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{ActionName, ExecutorId, ExecutorName, QueueName};

/// The concurrency limit of an executor, for each queue that it serves. From 1 to `SLOTS_MAX` each.
pub type Slots = BTreeMap<QueueName, u16>;

/// Whether an executor takes tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorState {
    /// Its lease lives.
    Live,
    /// Its lease ended; its tasks are taken over.
    Lost,
}

/// One incarnation of an executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorRecord {
    /// Which start of it.
    pub id: ExecutorId,
    /// What people call it.
    pub name: ExecutorName,
    /// The host it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The version of Longshore it runs.
    pub version: String,
    /// What it serves.
    pub slots: Slots,
    /// What it can run.
    pub actions: Vec<ActionName>,
    /// When it started.
    pub started_at: Timestamp,
    /// The end of its lease, by the store's clock.
    pub lease_ends_at: Timestamp,
    /// Whether that end has come, by the store's clock.
    pub state: ExecutorState,
}
