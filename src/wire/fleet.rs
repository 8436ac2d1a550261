//! Queues and executors in JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{ExecutorRecord, ExecutorState, QueueRecord};

/// A queue in JSON, with how many of its tasks are where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueJson {
    /// Its name.
    pub name: String,
    /// Tasks that are due later.
    pub scheduled: u64,
    /// Tasks that are announced.
    pub ready: u64,
    /// Tasks that run.
    pub running: u64,
    /// Since when nobody takes its tasks; absent unless an operator has paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_at: Option<Timestamp>,
    /// Who has paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
}

/// An executor in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutorJson {
    /// Which start of it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// `live` or `lost`.
    pub state: String,
    /// The host it runs on.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The version of Longshore it runs.
    pub version: String,
    /// Its concurrency limit for each queue.
    pub queues: BTreeMap<String, u16>,
    /// What it can run.
    pub actions: Vec<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// The end of its lease, by the store's clock.
    pub lease_ends_at: Timestamp,
}

impl From<&ExecutorRecord> for ExecutorJson {
    fn from(record: &ExecutorRecord) -> Self {
        let state = match record.state {
            ExecutorState::Live => "live",
            ExecutorState::Lost => "lost",
        };
        Self {
            id: record.id.to_string(),
            name: record.name.to_string(),
            state: state.to_owned(),
            host: record.host.clone(),
            pid: record.pid,
            version: record.version.clone(),
            queues: record
                .slots
                .iter()
                .map(|(queue, count)| (queue.to_string(), *count))
                .collect(),
            actions: record.actions.iter().map(ToString::to_string).collect(),
            started_at: record.started_at,
            lease_ends_at: record.lease_ends_at,
        }
    }
}

impl From<&QueueRecord> for QueueJson {
    fn from(queue: &QueueRecord) -> Self {
        Self {
            name: queue.name.to_string(),
            scheduled: queue.scheduled,
            ready: queue.ready,
            running: queue.running,
            paused_at: queue.paused.as_ref().map(|pause| pause.at),
            paused_by: queue.paused.as_ref().map(|pause| pause.by.to_string()),
        }
    }
}
