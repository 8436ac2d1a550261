//! Rows of logs, and their way into the domain.

use uuid::Uuid;

use super::StoreError;
use super::row::RowName;
use super::time::Time;
use crate::domain::{Attempt, LogChunk, LogPosition, TaskId};

/// A row of `task_log`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LogRow {
    task: Uuid,
    attempt: i32,
    log_offset: i64,
    stream: String,
    at: Time,
    text: String,
}

impl LogRow {
    /// The chunk that the row says.
    pub(super) fn into_chunk(self) -> Result<LogChunk, StoreError> {
        let row = RowName("task_log", &self.task);
        Ok(LogChunk {
            task: TaskId::from_uuid(self.task),
            position: LogPosition {
                attempt: Attempt(row.count("attempt", self.attempt)?),
                offset: row.read("log_offset", u64::try_from(self.log_offset))?,
            },
            stream: row.word("stream", &self.stream)?,
            at: row.time("at", self.at)?,
            text: self.text,
        })
    }
}
