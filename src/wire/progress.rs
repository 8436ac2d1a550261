//! How far an attempt is, in JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::Progress;

/// How far an attempt says that it is, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressJson {
    /// Which attempt said so.
    pub attempt: u32,
    /// How much is done, in whatever the action counts.
    pub done: u64,
    /// How much there is in all, when the action knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What it is at, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it said so, by the executor's clock.
    pub at: Timestamp,
}

impl From<&Progress> for ProgressJson {
    fn from(progress: &Progress) -> Self {
        Self {
            attempt: progress.attempt.0,
            done: progress.done,
            total: progress.total,
            message: progress.message.clone(),
            at: progress.at,
        }
    }
}
