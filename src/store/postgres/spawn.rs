//! Sub-tasks that an attempt spawns together, in batches.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::submit::{Statements, enter, known};
use super::{error, step};
use crate::domain::{ExecutorId, FanOut, StepName, TaskId};
use crate::store::change::{RUNNING, attempt, owner};
use crate::store::durable_row::{FanOutRow, fan_out_columns};
use crate::store::listed::listed;
use crate::store::row::{FactsRow, TaskRow, facts_columns, facts_of_changed, number, task_columns};
use crate::store::spawned::{Batch, left_to_store, ready, refused, spawn_record};
use crate::store::submission::{Known, answers, keys};
use crate::store::{Listed, Spawn, Spawned, StoreError};

/// First of all: whoever ends a sub-task locks its parent before the counts.
const HOLD: &str = "
select true from task where id = $2 and attempt = $3 and executor = $1 and state = $4 for update";

const OPEN: &str = "
insert into fan_out (task, name, in_flight_max, on_failure) values ($1, $2, $3, $4) on conflict do nothing";

const COUNTS: &str = concat!(
    "select ",
    fan_out_columns!("f."),
    " from fan_out f where task = $1 and name = $2 for update"
);

const ENTER: &str = "
update fan_out set stored = stored + $3, open = open + $3, granted = granted + $4, in_flight = in_flight + $4,
    is_complete = is_complete or $5
where task = $1 and name = $2";

const BEFORE: &str = concat!("select ", facts_columns!(), " from task where id = any($1)");

const SPAWNED: &str = concat!(
    "select ",
    task_columns!(),
    " from task where parent = $1 and fan_out = $2 and place >= $3 order by place limit $4"
);

/// As [`crate::store::Store::spawn`].
pub(super) async fn spawn(
    connection: &mut PgConnection,
    executor: ExecutorId,
    spawn: &Spawn,
) -> Result<Spawned, StoreError> {
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let held: Option<bool> = sqlx::query_scalar(HOLD)
        .bind(owner(executor))
        .bind(spawn.parent.as_uuid())
        .bind(attempt(spawn.attempt.0))
        .bind(RUNNING)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    if held.is_none() {
        return Ok(Spawned::Stale);
    }
    let counts = counts(&mut transaction, spawn).await?;
    let Batch {
        tasks,
        known: before,
        unblocked,
    } = left_to_store(spawn, counts);
    let entered = enter(&mut transaction, tasks, unblocked, Statements::Kept).await?;
    if entered.iter().any(|one| one.state.is_none()) {
        let ids = entered.iter().map(|one| one.id).collect();
        let known = known(&mut transaction, ids, keys(tasks), Statements::Kept).await?;
        return Ok(refused(answers(tasks, &entered, known)?)); // Rolled back.
    }
    let submitted = answers(tasks, &entered, Known::default())?;
    sqlx::query(ENTER)
        .bind(spawn.parent.as_uuid())
        .bind(spawn.name.as_str())
        .bind(number(tasks.len()))
        .bind(number(unblocked.min(tasks.len())))
        .bind(spawn.place.is_some())
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    if let Some(place) = spawn.place {
        let record = spawn_record(spawn, place);
        let _recorded = step::record(&mut transaction, executor, &[record]).await?; // The parent is held.
    }
    let ids: Vec<Uuid> = before.iter().map(|task| task.id.as_uuid()).collect();
    let before: Vec<FactsRow> = if ids.is_empty() {
        Vec::new()
    } else {
        sqlx::query_as(BEFORE)
            .bind(ids)
            .fetch_all(&mut *transaction)
            .await
            .map_err(error::of)?
    };
    transaction.commit().await.map_err(error::of)?;
    Ok(Spawned::Stored(ready(submitted, facts_of_changed(before))))
}

async fn counts(connection: &mut PgConnection, spawn: &Spawn) -> Result<FanOut, StoreError> {
    let max = spawn.plan.in_flight_max;
    sqlx::query(OPEN)
        .bind(spawn.parent.as_uuid())
        .bind(spawn.name.as_str())
        .bind(max.map(|max| i32::try_from(max).unwrap_or(i32::MAX)))
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
    connection: &mut PgConnection,
    task: TaskId,
    name: &StepName,
    from: u32,
    limit: usize,
) -> Result<Listed, StoreError> {
    let rows: Vec<TaskRow> = sqlx::query_as(SPAWNED)
        .bind(task.as_uuid())
        .bind(name.as_str())
        .bind(i64::from(from))
        .bind(number(limit))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows))
}
