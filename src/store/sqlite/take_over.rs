//! Releasing the tasks of executors that are gone.

use sqlx::{Connection, SqliteConnection};

use super::submit::hex;
use super::{error, settle};
use crate::domain::ExecutorId;
use crate::store::blame::{self, Blame, LAST_WORDS_MAX, Leaving, LostExecutor, with_blame};
use crate::store::change::{Change, RUNNING, enter_taken, owner};
use crate::store::row::{TaskRow, number, task_columns, text};
use crate::store::time::Time;
use crate::store::{StoreError, TakenOver};

/// An executor, and the task that ran on trial in it: when it is first found lost, only if that still runs there.
macro_rules! lost_columns {
    () => {
        "e.id, e.name, e.host, e.pid, e.lost_at is null as is_new,
        case when e.lost_at is null then (
            select t.id from task t where t.id = e.trial and t.executor = e.id and t.state = ?2
        ) else e.trial end as trial"
    };
}

const LOST: &str = concat!(
    "select ",
    lost_columns!(),
    ", e.lease_ends_at <= ?1 as is_over
    from executor e where (e.lease_ends_at <= ?1 or e.dead_at is not null) and e.released_at is null
        and (?3 is null or e.id = ?3)
    order by e.id"
);

const ONE: &str = concat!(
    "select ",
    lost_columns!(),
    ", true as is_over from executor e where e.id = ?1"
);

/// Scans the whole table. An index that finds the tasks of an executor would have to be written by every claim;
/// an executor is lost so rarely that a scan is cheaper.
const OWNED: &str = concat!(
    "select ",
    task_columns!(),
    " from task where executor = ?1 and state = ?2 order by id limit +?3"
);

const MARK: &str = "
update executor set lost_at = coalesce(lost_at, ?3),
    lease_ends_at = case when dead_at is null then min(lease_ends_at, ?3) else lease_ends_at end,
    released_at = case when ?2 then ?3 end, trial = ?4
where id = ?1";

const SUSPECT: &str = "
update task set suspicions = min(suspicions + 1, 1000)
where id in (select unhex(value) from json_each(?1))";

const CHARGE: &str = "
update task set crashes = min(crashes + 1, 1000)
where id in (select unhex(value) from json_each(?1))";

const LAST_WORDS: &str = "
select text from task_log where task = ?1
order by attempt desc, log_offset desc limit +?2";

const FORGET: &str = "delete from executor where released_at < ?1";

const DELETE: &str = "delete from executor where id = ?1";

/// How long an executor that was lost is shown.
pub(super) const LOST_SHOWN: std::time::Duration = std::time::Duration::from_hours(24);

/// As [`crate::store::Store::take_over`].
pub(super) async fn take_over(
    connection: &mut SqliteConnection,
    whose: Option<ExecutorId>,
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
        .bind(RUNNING)
        .bind(whose.map(owner))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let has_lost = !lost.is_empty();
    for executor in lost {
        if left == 0 {
            break;
        }
        let (released, is_done) = release(
            &mut transaction,
            (&executor, Leaving::Lost),
            left,
            &mut taken,
            now,
        )
        .await?;
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
        .bind(RUNNING)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    let Some(executor) = found else {
        return Ok((taken, true));
    };
    let (_, is_done) = release(
        &mut transaction,
        (&executor, Leaving::Retired),
        limit,
        &mut taken,
        now,
    )
    .await?;
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

/// Releases up to `limit` tasks of one executor; tells how many, and whether they were the last. One that was found dead
/// before its lease has ended may be cut off and alive: it keeps until then what may run only once.
async fn release(
    connection: &mut SqliteConnection,
    (executor, leaving): (&LostExecutor, Leaving),
    limit: usize,
    taken: &mut TakenOver,
    now: Time,
) -> Result<(usize, bool), StoreError> {
    let mut rows: Vec<TaskRow> = sqlx::query_as(OWNED)
        .bind(executor.id)
        .bind(RUNNING)
        .bind(number(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let found = rows.len();
    if leaving == Leaving::Lost && !executor.is_over {
        rows.retain(TaskRow::may_run_again);
    }
    let released = rows.len();
    let is_done = found < limit && released == found;
    if released > 0 {
        let verdicts = executor.verdicts(&rows, leaving, !is_done);
        let mut changes = Vec::with_capacity(released);
        for (row, blame) in rows.iter().zip(&verdicts) {
            let last_words = last_words(connection, row, *blame).await?;
            changes.push(Change::of_lost(row, executor, *blame, &last_words)?);
        }
        count(connection, &rows, &verdicts).await?;
        let written = settle::write(connection, executor.id, &changes, now).await?;
        enter_taken(taken, rows, written)?;
    }
    Ok((released, is_done))
}

/// Counts the crash where it belongs.
async fn count(
    connection: &mut SqliteConnection,
    rows: &[TaskRow],
    verdicts: &[Blame],
) -> Result<(), StoreError> {
    for (blame, statement) in [(Blame::Suspected, SUSPECT), (Blame::Charged, CHARGE)] {
        let tasks = with_blame(rows, verdicts, blame);
        if !tasks.is_empty() {
            sqlx::query(statement)
                .bind(text(&tasks.into_iter().map(hex).collect::<Vec<String>>()))
                .execute(&mut *connection)
                .await
                .map_err(error::of)?;
        }
    }
    Ok(())
}

/// What a task that is charged has logged last.
async fn last_words(
    connection: &mut SqliteConnection,
    row: &TaskRow,
    blame: Blame,
) -> Result<Vec<String>, StoreError> {
    if blame != Blame::Charged {
        return Ok(Vec::new());
    }
    let chunks: Vec<String> = sqlx::query_scalar(LAST_WORDS)
        .bind(row.id)
        .bind(number(LAST_WORDS_MAX))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(blame::last_words(&chunks))
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
        .bind(executor.trial)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
