//! The log of a task: append-only pieces with offsets.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::{Attempt, IdError, TaskId};

/// Where a log chunk came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// The standard output of a program.
    Stdout,
    /// The standard error of a program.
    Stderr,
    /// The action itself.
    Log,
}

impl LogStream {
    /// The word for it, in rows and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Log => "log",
        }
    }
}

/// A place in a task's log: the end of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// In which attempt.
    pub attempt: Attempt,
    /// Bytes of that attempt's log before it.
    pub offset: u64,
}

impl fmt::Display for LogPosition {
    /// As it is read back: `attempt:offset`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.attempt, self.offset)
    }
}

impl FromStr for LogPosition {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let parts = text
            .split_once(':')
            .and_then(|(attempt, offset)| Some((attempt.parse().ok()?, offset.parse().ok()?)));
        let (attempt, offset) =
            parts.ok_or_else(|| IdError::new("a place in a log (`attempt:offset`)", text))?;
        Ok(Self {
            attempt: Attempt(attempt),
            offset,
        })
    }
}

/// A piece of a task's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Of which task.
    pub task: TaskId,
    /// Of which attempt, and where in it the chunk begins.
    pub position: LogPosition,
    /// Where it came from.
    pub stream: LogStream,
    /// When it was written, by the executor's clock.
    pub at: Timestamp,
    /// What was written, at most `LOG_CHUNK_BYTES_MAX` bytes, without NUL.
    pub text: String,
}

impl LogChunk {
    /// The place behind it: where to read on.
    pub fn end(&self) -> LogPosition {
        let offset = self.position.offset + self.text.len() as u64;
        LogPosition {
            offset,
            ..self.position
        }
    }
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for LogStream {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            "log" => Ok(Self::Log),
            _ => {
                let found = text.chars().take(80).collect();
                Err(IdError {
                    expected: "a log stream (`stdout`, `stderr` or `log`)",
                    found,
                })
            }
        }
    }
}
