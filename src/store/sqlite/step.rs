//! The steps of tasks.

use serde_json::json;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::error;
use super::submit::hex;
use crate::domain::{ExecutorId, Step, StepRecord, TaskId};
use crate::store::change::{RUNNING, attempt, owner};
use crate::store::durable_row::{StepRow, StepText};
use crate::store::row::text;
use crate::store::time::Time;
use crate::store::{Recorded, StoreError};

/// What has ended is never changed.
const RECORD: &str = "
insert into step (task, name, kind, state, place, tries, due_at, output, error)
select t.id, w.value ->> 2, w.value ->> 3, w.value ->> 4, w.value ->> 5, w.value ->> 6, w.value ->> 7,
    w.value ->> 8, w.value ->> 9
from json_each(?3) as w cross join task t on t.id = unhex(w.value ->> 0)
where t.attempt = w.value ->> 1 and t.executor = ?1 and t.state = ?2
on conflict (task, name) do update set
    state = excluded.state, place = excluded.place, tries = excluded.tries, due_at = excluded.due_at,
    output = excluded.output, error = excluded.error
where place is null";

const HELD: &str = "
select exists (
    select 1 from task t
    where t.id = unhex(w.value ->> 0) and t.attempt = w.value ->> 1 and t.executor = ?1 and t.state = ?2
)
from json_each(?3) as w order by w.key";

const STEPS: &str = "
select task, name, kind, state, place, tries, due_at, output, error from step where task = ?1
order by place nulls last, name";

const RUN_AGAIN: &str = "
update step set state = 'waiting', place = null, tries = 0, error = null, due_at = ?2
where task in (select unhex(value) from json_each(?1)) and state = 'retryable'";

/// As [`crate::store::Store::record`].
pub(super) async fn record(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    records: &[StepRecord],
) -> Result<Vec<Recorded>, StoreError> {
    let batch: Vec<_> = records.iter().map(json_of).collect();
    let batch = text(&batch);
    sqlx::query(RECORD)
        .bind(owner(executor))
        .bind(RUNNING)
        .bind(&batch)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    // The connection is the only one that writes: nothing has changed in between.
    let held: Vec<bool> = sqlx::query_scalar(HELD)
        .bind(owner(executor))
        .bind(RUNNING)
        .bind(&batch)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    let recorded = |is_held| {
        if is_held {
            Recorded::Stored
        } else {
            Recorded::Stale
        }
    };
    Ok(held.into_iter().map(recorded).collect())
}

fn json_of(record: &StepRecord) -> serde_json::Value {
    let step = StepText::of(&record.step);
    json!([
        hex(record.task.as_uuid()),
        attempt(record.attempt.0),
        record.step.name.as_str(),
        record.step.kind.as_str(),
        step.state,
        step.place,
        step.tries,
        step.due_at.map(|time| time.0),
        step.output,
        step.error,
    ])
}

/// As [`crate::store::Store::steps`].
pub(super) async fn steps(
    connection: &mut SqliteConnection,
    task: TaskId,
) -> Result<Vec<Step>, StoreError> {
    let rows: Vec<StepRow> = sqlx::query_as(STEPS)
        .bind(task.as_uuid())
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    rows.into_iter().map(StepRow::into_step).collect()
}

/// Lets steps that failed, and may be retried, run again with the next attempt of their task.
pub(super) async fn run_again(
    connection: &mut SqliteConnection,
    tasks: &[Uuid],
    now: Time,
) -> Result<(), StoreError> {
    let tasks: Vec<String> = tasks.iter().map(|task| hex(*task)).collect();
    sqlx::query(RUN_AGAIN)
        .bind(text(&tasks))
        .bind(now)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
