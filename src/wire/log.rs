//! A piece of a task's log in JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::LogChunk;

/// A piece of a task's log in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogChunkJson {
    /// In which attempt.
    pub attempt: u32,
    /// Bytes of that attempt's log before it.
    pub offset: u64,
    /// `stdout`, `stderr` or `log`.
    pub stream: String,
    /// When it was written, by the executor's clock.
    pub at: Timestamp,
    /// What was written.
    pub text: String,
}

impl From<&LogChunk> for LogChunkJson {
    fn from(chunk: &LogChunk) -> Self {
        Self {
            attempt: chunk.position.attempt.0,
            offset: chunk.position.offset,
            stream: chunk.stream.to_string(),
            at: chunk.at,
            text: chunk.text.clone(),
        }
    }
}
