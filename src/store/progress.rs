//! How progress is written, and what is written of a batch, for both stores.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::StoreError;
use super::change::attempt;
use super::row::{RowName, text};
use crate::domain::{Attempt, Progress, TaskId};

/// How a [`Progress`] is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgressJson {
    attempt: u32,
    done: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    message: String,
    at: Timestamp,
}

/// The text for progress.
fn progress_text(progress: &Progress) -> String {
    text(&ProgressJson {
        attempt: progress.attempt.0,
        done: progress.done,
        total: progress.total,
        message: progress.message.clone(),
        at: progress.at,
    })
}

/// The progress that the column of `row` says.
pub(super) fn progress(
    row: &RowName<'_>,
    column: Option<&str>,
) -> Result<Option<Progress>, StoreError> {
    let Some(column) = column else {
        return Ok(None);
    };
    let json: ProgressJson = row.json("progress", column)?;
    Ok(Some(Progress {
        attempt: Attempt(json.attempt),
        done: json.done,
        total: json.total,
        message: json.message,
        at: json.at,
    }))
}

/// What is written for one attempt. Fenced by the task, the attempt, its executor, and `running`.
pub(super) struct Note {
    pub(super) task: Uuid,
    pub(super) attempt: i32,
    pub(super) text: String,
}

/// What is written of a batch: for each attempt the last that it says.
pub(super) fn notes(batch: &[(TaskId, Progress)]) -> Vec<Note> {
    let last: HashMap<(TaskId, Attempt), &Progress> = batch
        .iter()
        .map(|(task, progress)| ((*task, progress.attempt), progress))
        .collect();
    let mut notes: Vec<Note> = last
        .into_iter()
        .map(|((task, number), progress)| Note {
            task: task.as_uuid(),
            attempt: attempt(number.0),
            text: progress_text(progress),
        })
        .collect();
    notes.sort_by_key(|note| (note.task, note.attempt));
    notes
}

/// The answers of a batch, in its order.
pub(super) fn noted(batch: &[(TaskId, Progress)], written: &[(Uuid, i32)]) -> Vec<bool> {
    let is_written = |(task, progress): &(TaskId, Progress)| {
        written.contains(&(task.as_uuid(), attempt(progress.attempt.0)))
    };
    batch.iter().map(is_written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_back_as_it_was() {
        for total in [None, Some(10)] {
            let said = Progress::new(Attempt(2), (3, total), "copying", Timestamp::UNIX_EPOCH);
            let row = RowName("task", &"x");
            let read = progress(&row, Some(&progress_text(&said))).unwrap();
            assert_eq!(read, Some(said));
        }
        assert_eq!(progress(&RowName("task", &"x"), None).unwrap(), None);
        assert!(progress(&RowName("task", &"x"), Some("{}")).is_err());
    }
}
