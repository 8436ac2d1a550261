//! A row of a queue, for both stores.

use super::StoreError;
use super::row::{RowName, name};
use super::time::Time;
use crate::domain::{Operator, QueueName, QueuePause, QueueRecord};

/// A queue with the counts of its open tasks.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct QueueRow {
    name: String,
    scheduled: i64,
    ready: i64,
    running: i64,
    paused_at: Option<Time>,
    paused_by: Option<String>,
}

impl QueueRow {
    /// The queue that the row says.
    pub(super) fn into_record(self) -> Result<QueueRecord, StoreError> {
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        Ok(QueueRecord {
            paused: pause(&self.name, self.paused_at, self.paused_by.as_deref())?,
            name: name("queue", &self.name)?,
            scheduled: count(self.scheduled),
            ready: count(self.ready),
            running: count(self.running),
        })
    }
}

/// The pause that the row of the queue `name` says.
pub(super) fn pause(
    name: &str,
    at: Option<Time>,
    by: Option<&str>,
) -> Result<Option<QueuePause>, StoreError> {
    let row = RowName("queue", &name);
    let Some(at) = at else { return Ok(None) };
    Ok(Some(QueuePause {
        at: row.time("paused_at", at)?,
        by: row.read("paused_by", Operator::new(by.unwrap_or_default()))?,
    }))
}

/// The names of paused queues that can be read: one that nobody could have written pauses nothing.
pub(super) fn names(texts: &[String]) -> Vec<QueueName> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
