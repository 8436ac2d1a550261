//! Whose fault it is that an executor died, as far as the store can tell.
//!
//! A crash is charged to the task that ran on trial, or that was the only one to run. Of several that ran beside each
//! other nobody can say which it was: they are suspected, and a suspect of two crashes runs on trial. So the innocent are
//! charged with nothing, and what keeps killing is found.

use serde_json::json;
use uuid::Uuid;

use super::row::TaskRow;
use crate::domain::Failure;
use crate::domain::limits::CRASHES_MAX;

/// Log lines that a quarantined task shows.
pub(super) const LAST_WORDS_MAX: usize = 20;

/// What a crash means for one of the tasks that ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Nothing: another task is to blame, or its executor left in peace.
    Innocent,
    /// It may have been this one, or another.
    Suspected,
    /// It was this one.
    Charged,
}

/// How an executor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// Nobody knows how.
    Lost,
    /// It said farewell.
    Retired,
}

/// An executor that is gone.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LostExecutor {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) host: String,
    pub(super) pid: i64,
    /// Whether this call is the first to find it gone.
    pub(super) is_new: bool,
    /// Whether its lease has ended.
    pub(super) is_over: bool,
    /// The task that ran on trial in it.
    pub(super) trial: Option<Uuid>,
}

impl LostExecutor {
    /// An executor of which only the id is left.
    pub(super) fn unknown(id: Uuid) -> Self {
        Self {
            id,
            name: "unknown".to_owned(),
            host: "unknown".to_owned(),
            pid: 0,
            is_new: false,
            is_over: true,
            trial: None,
        }
    }

    fn blame(&self, row: &TaskRow, rows: usize, has_more: bool) -> Blame {
        match self.trial {
            Some(trial) if trial == row.id => Blame::Charged,
            // Most likely not, but the one on trial may be innocent too.
            Some(_) => Blame::Suspected,
            None if rows == 1 && !has_more && self.is_new => Blame::Charged,
            None => Blame::Suspected,
        }
    }

    /// Who is to blame, of all `rows`. An executor that leaves in peace is nobody's fault.
    pub(super) fn verdicts(
        &self,
        rows: &[TaskRow],
        leaving: Leaving,
        has_more: bool,
    ) -> Vec<Blame> {
        let blame = |row| match leaving {
            Leaving::Lost => self.blame(row, rows.len(), has_more),
            Leaving::Retired => Blame::Innocent,
        };
        rows.iter().map(blame).collect()
    }

    /// The failure of a task that may run only once.
    pub(super) fn failure(&self) -> Failure {
        Failure::fatal(format_args!(
            "the executor `{}` ({}) was lost while it ran the task, whose delivery is `once`",
            self.name, self.id
        ))
    }

    /// The failure of a task that is charged with this death, its crash number `crashes`.
    pub(super) fn charge(&self, row: &TaskRow, crashes: u32, last_words: &[String]) -> Failure {
        let Self {
            name,
            id,
            host,
            pid,
            ..
        } = self;
        let message = if crashes >= CRASHES_MAX {
            format!(
                "quarantined: {crashes} executors died while it ran, the last was `{name}` ({id}), process {pid} on `{host}`"
            )
        } else {
            self.failure().message
        };
        Failure::fatal(message).with_detail(&json!({
            "crashes": crashes,
            "suspicions": row.suspicions(),
            "attempt": row.attempt,
            "executor": {"id": id, "name": name, "host": host, "pid": pid},
            "last_log_lines": last_words,
            "last_progress": row.progress(),
        }))
    }
}

/// The ids of those with `blame`.
pub(super) fn with_blame(rows: &[TaskRow], verdicts: &[Blame], blame: Blame) -> Vec<Uuid> {
    let wanted = rows.iter().zip(verdicts).filter(|(_, one)| **one == blame);
    wanted.map(|(row, _)| row.id).collect()
}

/// The last lines of a log that came in `chunks`, the newest first.
pub(super) fn last_words(chunks: &[String]) -> Vec<String> {
    let text: String = chunks.iter().rev().map(String::as_str).collect();
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LAST_WORDS_MAX);
    lines[first..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_joined_across_chunks() {
        let chunks = ["and\nc\n".to_owned(), "a\nb ".to_owned()];
        assert_eq!(last_words(&chunks), ["a", "b and", "c"]);
        let many = (0..50)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join("\n");
        let words = last_words(&[many]);
        assert_eq!((words.len(), words[0].as_str()), (LAST_WORDS_MAX, "30"));
    }
}
