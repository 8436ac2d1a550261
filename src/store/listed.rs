//! Tasks that are read for people and for waiters: a row that cannot be read hides no other.

use super::StoreError;
use super::row::{TaskRow, text};
use crate::domain::{Task, TaskId};

/// Tasks that were asked for. A row that nobody could have written is told beside them and hides no other.
#[must_use]
#[derive(Debug, Default)]
pub struct Listed {
    /// Those that can be read, in the order asked for.
    pub tasks: Vec<Task>,
    /// Those that cannot.
    pub unreadable: Vec<Unreadable>,
}

/// A task whose row cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// Which task.
    pub id: TaskId,
    /// Which column, and what is wrong with it.
    pub error: StoreError,
}

impl Listed {
    /// Whether nothing was found at all.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.unreadable.is_empty()
    }

    /// The cursor of the page after this one, of at most `limit` tasks; `None` when this is the last.
    pub fn next(&self, limit: usize) -> Option<TaskId> {
        let ids = self.tasks.iter().map(|task| task.id);
        let oldest = ids.chain(self.unreadable.iter().map(|row| row.id)).min();
        oldest.filter(|_| self.tasks.len() + self.unreadable.len() >= limit)
    }

    /// The only task that was asked for; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`]: its row cannot be read.
    pub fn only(mut self) -> Result<Option<Task>, StoreError> {
        match self.unreadable.pop() {
            Some(row) => Err(row.error),
            None => Ok(self.tasks.pop()),
        }
    }
}

/// Tasks of rows, and those that cannot be read apart from them.
pub(super) fn listed(rows: Vec<TaskRow>) -> Listed {
    let mut listed = Listed::default();
    for row in rows {
        let id = TaskId::from_uuid(row.id);
        match row.into_task() {
            Ok(task) => listed.tasks.push(task),
            Err(error) => listed.unreadable.push(Unreadable { id, error }),
        }
    }
    listed
}

/// What the column `labels` holds when a task has the label `name`: at its beginning, or after another.
///
/// Compared as text, because a database refuses a whole list for one row whose text is no JSON. It is exact for what
/// [`super::row::labels_text`] writes: a quotation mark inside a name or a value has a backslash before it.
pub(super) fn label_marks(name: &str, value: &str) -> [String; 2] {
    let pair = format!("{}:{}", text(name), text(value));
    [format!("{{{pair}"), format!(",{pair}")]
}
