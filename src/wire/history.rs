//! A task's history in JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::HistoryEntry;

/// One thing that was done to a task, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryJson {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// `resumed`, `skipped`, `retried`, `copied`, `abandoned`, `cancelled` or `dead-lettered`.
    pub what: String,
    /// Who says to have done it; `broker` when it was the broker.
    pub who: String,
    /// More about it, for people: a reason, another task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A task's history, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// What was done.
    pub entries: Vec<HistoryJson>,
}

impl From<&HistoryEntry> for HistoryJson {
    fn from(entry: &HistoryEntry) -> Self {
        Self {
            at: entry.at,
            what: entry.what.to_string(),
            who: entry.who.to_string(),
            note: entry.note.clone(),
        }
    }
}
