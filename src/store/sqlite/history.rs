//! What was done to tasks.

use sqlx::{Connection, SqliteConnection};

use super::error;
use crate::domain::limits::HISTORY_MAX;
use crate::domain::{DeadLetter, HistoryEntry, HistoryKind, Operator, TaskId};
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

/// Whether a message about it may be noted, and was not yet.
const HAS_NO_LETTER: &str = "
select not exists (select 1 from task_history where task = ?1 and what = ?2)
from task where id = ?1 and finished_at is null";

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

/// As [`crate::store::Store::note_dead_letter`].
pub(super) async fn note_dead_letter(
    connection: &mut SqliteConnection,
    letter: &DeadLetter,
    now: Time,
) -> Result<(), StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let is_new: Option<bool> = sqlx::query_scalar(HAS_NO_LETTER)
        .bind(letter.task.as_uuid())
        .bind(HistoryKind::DeadLettered.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    if is_new == Some(true) {
        enter(
            &mut transaction,
            NewEntry::dead_letter(letter, &Operator::broker()),
            now,
        )
        .await?;
    }
    transaction.commit().await.map_err(error::of)
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
