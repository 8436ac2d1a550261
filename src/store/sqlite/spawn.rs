//! Sub-tasks that an attempt spawns together, in batches.

use sqlx::{Connection, SqliteConnection};

use super::submit::hex;
use super::{error, step, submit};
use crate::domain::{Attempt, ExecutorId, FanOut, StepName, TaskId};
use crate::store::change::{RUNNING, attempt, owner};
use crate::store::durable_row::{FanOutRow, fan_out_columns};
use crate::store::listed::listed;
use crate::store::row::{
    FactsRow, TaskRow, facts_columns, facts_of_changed, number, task_columns, text,
};
use crate::store::spawned::{Batch, left_to_store, ready, refused, spawn_record};
use crate::store::time::Time;
use crate::store::{Listed, Spawn, Spawned, StoreError, Submitted};

const HELD: &str = "
select exists (
    select 1 from task where id = ?2 and attempt = ?3 and executor = ?1 and state = ?4
)";

const OPEN: &str = "
insert into fan_out (task, name, in_flight_max, on_failure) values (?1, ?2, ?3, ?4) on conflict do nothing";

const COUNTS: &str = concat!(
    "select ",
    fan_out_columns!(""),
    " from fan_out where task = ?1 and name = ?2"
);

const ENTER: &str = "
update fan_out set stored = stored + ?3, open = open + ?3, granted = granted + ?4, in_flight = in_flight + ?4,
    is_complete = is_complete or ?5
where task = ?1 and name = ?2";

const BEFORE: &str = concat!(
    "select ",
    facts_columns!(),
    " from task where id in (select unhex(value) from json_each(?1))"
);

const SPAWNED: &str = concat!(
    "select ",
    task_columns!(),
    " from task where parent = ?1 and fan_out = ?2 and place >= ?3 order by place limit +?4"
);

/// Whether an attempt is still the executor's.
pub(super) async fn is_held(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    task: TaskId,
    token: Attempt,
) -> Result<bool, StoreError> {
    sqlx::query_scalar(HELD)
        .bind(owner(executor))
        .bind(task.as_uuid())
        .bind(attempt(token.0))
        .bind(RUNNING)
        .fetch_one(connection)
        .await
        .map_err(error::of)
}

/// As [`crate::store::Store::spawn`].
pub(super) async fn spawn(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    spawn: &Spawn,
    now: Time,
) -> Result<Spawned, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    if !is_held(&mut transaction, executor, spawn.parent, spawn.attempt).await? {
        return Ok(Spawned::Stale);
    }
    let counts = counts(&mut transaction, spawn).await?;
    let Batch {
        tasks,
        known: before,
        unblocked,
    } = left_to_store(spawn, counts);
    let submitted = submit::enter(&mut transaction, tasks, unblocked, now).await?;
    let is_stored = |one: &Submitted| matches!(one, Submitted::Stored(_));
    if !submitted.iter().all(is_stored) {
        return Ok(refused(submitted)); // Rolled back.
    }
    sqlx::query(ENTER)
        .bind(spawn.parent.as_uuid())
        .bind(spawn.name.as_str())
        .bind(number(tasks.len()))
        .bind(number(unblocked))
        .bind(spawn.place.is_some())
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    if let Some(place) = spawn.place {
        let record = spawn_record(spawn, place);
        let _recorded = step::record(&mut transaction, executor, &[record]).await?; // The parent is held.
    }
    let ids: Vec<String> = before.iter().map(|task| hex(task.id.as_uuid())).collect();
    let before: Vec<FactsRow> = sqlx::query_as(BEFORE)
        .bind(text(&ids))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    transaction.commit().await.map_err(error::of)?;
    Ok(Spawned::Stored(ready(submitted, facts_of_changed(before))))
}

async fn counts(connection: &mut SqliteConnection, spawn: &Spawn) -> Result<FanOut, StoreError> {
    sqlx::query(OPEN)
        .bind(spawn.parent.as_uuid())
        .bind(spawn.name.as_str())
        .bind(spawn.plan.in_flight_max)
        .bind(spawn.plan.on_failure.to_string())
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let row: FanOutRow = sqlx::query_as(COUNTS)
        .bind(spawn.parent.as_uuid())
        .bind(spawn.name.as_str())
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(row.into_fan_out()?.2)
}

/// As [`crate::store::Store::spawned`].
pub(super) async fn spawned(
    connection: &mut SqliteConnection,
    task: TaskId,
    name: &StepName,
    from: u32,
    limit: usize,
) -> Result<Listed, StoreError> {
    let rows: Vec<TaskRow> = sqlx::query_as(SPAWNED)
        .bind(task.as_uuid())
        .bind(name.as_str())
        .bind(from)
        .bind(number(limit))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows))
}
