//! What operators have done to tasks.

use sqlx::SqliteConnection;

use super::error;
use crate::domain::limits::HISTORY_MAX;
use crate::domain::{HistoryEntry, TaskId};
use crate::store::StoreError;
use crate::store::row::number;
use crate::store::time::Time;
use crate::store::verb::{HistoryRow, NewEntry};

const ENTER: &str = "
insert into task_history (task, entry, at, what, who, note)
select ?1, ifnull(max(entry), 0) + 1, ?2, ?3, ?4, ?5 from task_history where task = ?1";

const FORGET: &str = "
delete from task_history
where task = ?1 and entry <= (select max(entry) from task_history where task = ?1) - ?2";

const HISTORY: &str = "
select task, at, what, who, note from task_history where task = ?1 order by entry limit +?2";

/// Appends an entry to the history of a task; the oldest go.
pub(super) async fn enter(
    connection: &mut SqliteConnection,
    entry: NewEntry<'_>,
    now: Time,
) -> Result<(), StoreError> {
    sqlx::query(ENTER)
        .bind(entry.task.as_uuid())
        .bind(now)
        .bind(entry.what.as_str())
        .bind(entry.who.as_str())
        .bind(entry.note)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    sqlx::query(FORGET)
        .bind(entry.task.as_uuid())
        .bind(number(HISTORY_MAX))
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// As [`crate::store::Store::history`].
pub(super) async fn history(
    connection: &mut SqliteConnection,
    task: TaskId,
) -> Result<Vec<HistoryEntry>, StoreError> {
    let rows: Vec<HistoryRow> = sqlx::query_as(HISTORY)
        .bind(task.as_uuid())
        .bind(number(HISTORY_MAX))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    rows.into_iter().map(HistoryRow::into_entry).collect()
}
