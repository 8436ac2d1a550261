//! Releasing the tasks of executors that are gone.

use sqlx::{Connection, PgConnection};

use super::{error, settle};
use crate::domain::ExecutorId;
use crate::store::change::{Change, LostExecutor, RUNNING, enter_taken, owner};
use crate::store::row::{TaskRow, number, task_columns};
use crate::store::{StoreError, TakenOver};

/// The lock keeps claims and renewals of these executors out until we are done.
const LOST: &str = "
select id, name, lost_at is null as is_new from executor
where lease_ends_at <= now() and released_at is null
order by id for update skip locked";

const ONE: &str =
    "select id, name, lost_at is null as is_new from executor where id = $1 for update";

/// Scans the whole table. An index that finds the tasks of an executor would have to be written by every claim
/// and settle, several times the cost of both; an executor is lost so rarely that a scan (about a second for
/// a million tasks) is cheaper.
///
/// Waits for rows that others have locked: what is skipped here would never be found again.
const OWNED: &str = concat!(
    "select ",
    task_columns!(),
    " from task where executor = $1 and state = $2 order by id limit $3 for update"
);

const MARK: &str = "
update executor set lost_at = coalesce(lost_at, now()), lease_ends_at = least(lease_ends_at, now()),
    released_at = case when $2 then now() end
where id = $1";

const FORGET: &str = "delete from executor where released_at < now() - interval '1 day'";

const DELETE: &str = "delete from executor where id = $1";

/// As [`crate::store::Store::take_over`].
pub(super) async fn take_over(
    connection: &mut PgConnection,
    limit: usize,
) -> Result<TakenOver, StoreError> {
    let mut taken = TakenOver::default();
    let mut left = limit;
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let lost: Vec<LostExecutor> = sqlx::query_as(LOST)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let has_lost = !lost.is_empty();
    for executor in lost {
        if left == 0 {
            break;
        }
        let released = release(&mut transaction, &executor, left, &mut taken).await?;
        let is_done = released < left;
        mark(&mut transaction, &executor, is_done).await?;
        left -= released;
        if executor.is_new {
            taken.lost.push(ExecutorId::from_uuid(executor.id));
        }
    }
    if has_lost {
        sqlx::query(FORGET)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(taken)
}

/// One batch of [`crate::store::Store::retire`]; tells whether it was the last.
pub(super) async fn retire(
    connection: &mut PgConnection,
    executor: ExecutorId,
    limit: usize,
) -> Result<(TakenOver, bool), StoreError> {
    let mut taken = TakenOver::default();
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let found: Option<LostExecutor> = sqlx::query_as(ONE)
        .bind(owner(executor))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    let Some(executor) = found else {
        return Ok((taken, true));
    };
    let is_done = release(&mut transaction, &executor, limit, &mut taken).await? < limit;
    if is_done {
        sqlx::query(DELETE)
            .bind(executor.id)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    } else {
        mark(&mut transaction, &executor, false).await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok((taken, is_done))
}

/// Releases up to `limit` tasks of one executor; tells how many there were.
async fn release(
    connection: &mut PgConnection,
    executor: &LostExecutor,
    limit: usize,
    taken: &mut TakenOver,
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
        let written = settle::write(connection, executor.id, &changes).await?;
        enter_taken(taken, rows, written)?;
    }
    Ok(released)
}

async fn mark(
    connection: &mut PgConnection,
    executor: &LostExecutor,
    is_done: bool,
) -> Result<(), StoreError> {
    sqlx::query(MARK)
        .bind(executor.id)
        .bind(is_done)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
