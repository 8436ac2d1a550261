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

/// Whether a message about it is noted already.
const HAS_LETTER: &str = "select exists (select 1 from task_history where task = ?1 and what = ?2)";

const IS_OPEN: &str = "select exists (select 1 from task where id = ?1 and finished_at is null)";

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
) -> Result<bool, StoreError> {
    // Many bad messages about one task shall hold nobody up.
    if has_letter(connection, letter).await? {
        return Ok(false);
    }
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let is_open: bool = sqlx::query_scalar(IS_OPEN)
        .bind(letter.task.as_uuid())
        .fetch_one(&mut *transaction)
        .await
        .map_err(error::of)?;
    let is_noted = is_open && !has_letter(&mut transaction, letter).await?;
    if is_noted {
        let broker = Operator::broker();
        enter(
            &mut transaction,
            NewEntry::dead_letter(letter, &broker),
            now,
        )
        .await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(is_noted)
}

async fn has_letter(
    connection: &mut SqliteConnection,
    letter: &DeadLetter,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(HAS_LETTER)
        .bind(letter.task.as_uuid())
        .bind(HistoryKind::DeadLettered.as_str())
        .fetch_one(connection)
        .await
        .map_err(error::of)
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
