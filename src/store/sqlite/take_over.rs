//! Releasing the tasks of executors that are gone.

use sqlx::{Connection, SqliteConnection};

use super::{error, settle};
use crate::domain::ExecutorId;
use crate::store::change::{Change, LostExecutor, RUNNING, enter_taken, owner};
use crate::store::row::{TaskRow, number, task_columns};
use crate::store::time::Time;
use crate::store::{StoreError, TakenOver};

const LOST: &str = "
select id, name, lost_at is null as is_new from executor
where lease_ends_at <= ?1 and released_at is null order by id";

const ONE: &str = "select id, name, lost_at is null as is_new from executor where id = ?1";

/// Scans the whole table. An index that finds the tasks of an executor would have to be written by every claim;
/// an executor is lost so rarely that a scan is cheaper.
const OWNED: &str = concat!(
    "select ",
    task_columns!(),
    " from task where executor = ?1 and state = ?2 order by id limit ?3"
);

const MARK: &str = "
update executor set lost_at = coalesce(lost_at, ?3), lease_ends_at = min(lease_ends_at, ?3),
    released_at = case when ?2 then ?3 end
where id = ?1";

const FORGET: &str = "delete from executor where released_at < ?1";

const DELETE: &str = "delete from executor where id = ?1";

/// How long an executor that was lost is shown.
pub(super) const LOST_SHOWN: std::time::Duration = std::time::Duration::from_hours(24);

/// As [`crate::store::Store::take_over`].
pub(super) async fn take_over(
    connection: &mut SqliteConnection,
    limit: usize,
    now: Time,
) -> Result<TakenOver, StoreError> {
    let mut taken = TakenOver::default();
    let mut left = limit;
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let lost: Vec<LostExecutor> = sqlx::query_as(LOST)
        .bind(now)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let has_lost = !lost.is_empty();
    for executor in lost {
        if left == 0 {
            break;
        }
        let released = release(&mut transaction, &executor, left, &mut taken, now).await?;
        let is_done = released < left;
        mark(&mut transaction, &executor, is_done, now).await?;
        left -= released;
        if executor.is_new {
            taken.lost.push(ExecutorId::from_uuid(executor.id));
        }
    }
    if has_lost {
        sqlx::query(FORGET)
            .bind(now.before(LOST_SHOWN))
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(taken)
}

/// One batch of [`crate::store::Store::retire`]; tells whether it was the last.
pub(super) async fn retire(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    limit: usize,
    now: Time,
) -> Result<(TakenOver, bool), StoreError> {
    let mut taken = TakenOver::default();
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let found: Option<LostExecutor> = sqlx::query_as(ONE)
        .bind(owner(executor))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    let Some(executor) = found else {
        return Ok((taken, true));
    };
    let is_done = release(&mut transaction, &executor, limit, &mut taken, now).await? < limit;
    if is_done {
        sqlx::query(DELETE)
            .bind(executor.id)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    } else {
        mark(&mut transaction, &executor, false, now).await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok((taken, is_done))
}

/// Releases up to `limit` tasks of one executor; tells how many there were.
async fn release(
    connection: &mut SqliteConnection,
    executor: &LostExecutor,
    limit: usize,
    taken: &mut TakenOver,
    now: Time,
) -> Result<usize, StoreError> {
    let rows: Vec<TaskRow> = sqlx::query_as(OWNED)
        .bind(executor.id)
        .bind(RUNNING)
        .bind(number(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let released = rows.len();
    if released > 0 {
        let changes = rows
            .iter()
            .map(|row| Change::of_lost(row, executor))
            .collect::<Result<Vec<_>, _>>()?;
        let written = settle::write(connection, executor.id, &changes, now).await?;
        enter_taken(taken, rows, written)?;
    }
    Ok(released)
}

async fn mark(
    connection: &mut SqliteConnection,
    executor: &LostExecutor,
    is_done: bool,
    now: Time,
) -> Result<(), StoreError> {
    sqlx::query(MARK)
        .bind(executor.id)
        .bind(is_done)
        .bind(now)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
