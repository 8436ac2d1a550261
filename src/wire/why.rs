//! Why a task is where it is, in JSON.

use serde::{Deserialize, Serialize};

use crate::domain::{Task, Why};

/// Why a task is where it is: one verdict for people, and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyJson {
    /// The task's id.
    pub id: String,
    /// Its state at that moment.
    pub state: String,
    /// One sentence.
    pub verdict: String,
    /// A sentence each.
    pub evidence: Vec<String>,
}

impl WhyJson {
    /// The JSON for `why`, which was said of `task`.
    pub fn new(task: &Task, why: Why) -> Self {
        Self {
            id: task.id.to_string(),
            state: task.state.to_string(),
            verdict: why.verdict,
            evidence: why.evidence,
        }
    }
}
