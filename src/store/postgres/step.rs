//! The steps of tasks.

use sqlx::PgConnection;
use uuid::Uuid;

use super::error;
use crate::domain::{ExecutorId, StepRecord, TaskId};
use crate::store::change::{RUNNING, attempt, owner};
use crate::store::durable_row::{StepRow, StepText};
use crate::store::time::Time;
use crate::store::{Recorded, StoreError};

/// The lock keeps whoever takes over from the executor waiting until the step is stored: what it does not see was not
/// done. What has ended is never changed.
const RECORD: &str = "
with wanted as (
    select * from unnest(
        $3::uuid[], $4::int4[], $5::text[], $6::text[], $7::text[], $8::int4[], $9::int4[], $10::timestamptz[],
        $11::text[], $12::text[]
    ) with ordinality as w(task, token, name, kind, state, place, tries, due_at, output, error, number)
), held as (
    select id, attempt from task where id = any($3) and executor = $1 and state = $2 order by id for share
), written as (
    insert into step (task, name, kind, state, place, tries, due_at, output, error)
    select w.task, w.name, w.kind, w.state, w.place, w.tries, w.due_at, w.output, w.error
    from wanted w join held h on h.id = w.task and h.attempt = w.token
    on conflict (task, name) do update set
        state = excluded.state, place = excluded.place, tries = excluded.tries, due_at = excluded.due_at,
        output = excluded.output, error = excluded.error
    where step.place is null
)
select h.id is not null from wanted w left join held h on h.id = w.task and h.attempt = w.token order by w.number";

const STEPS: &str = "
select task, name, kind, state, place, tries, due_at, output, error from step where task = $1
order by place nulls last, name";

const RUN_AGAIN: &str = "
update step set state = 'waiting', place = null, tries = 0, error = null, due_at = now()
where task = any($1) and state = 'retryable'";

/// As [`crate::store::Store::record`].
pub(super) async fn record(
    connection: &mut PgConnection,
    executor: ExecutorId,
    records: &[StepRecord],
) -> Result<Vec<Recorded>, StoreError> {
    fn column<'a, T>(records: &'a [StepRecord], of: impl Fn(&'a StepRecord) -> T) -> Vec<T> {
        records.iter().map(of).collect()
    }
    let texts = column(records, |record| StepText::of(&record.step));
    let held: Vec<bool> = sqlx::query_scalar(RECORD)
        .bind(owner(executor))
        .bind(RUNNING)
        .bind(column(records, |record| record.task.as_uuid()))
        .bind(column(records, |record| attempt(record.attempt.0)))
        .bind(column(records, |record| record.step.name.as_str()))
        .bind(column(records, |record| record.step.kind.as_str()))
        .bind(texts.iter().map(|text| text.state).collect::<Vec<_>>())
        .bind(texts.iter().map(|text| text.place).collect::<Vec<_>>())
        .bind(texts.iter().map(|text| text.tries).collect::<Vec<_>>())
        .bind(
            texts
                .iter()
                .map(|text| text.due_at)
                .collect::<Vec<Option<Time>>>(),
        )
        .bind(
            texts
                .iter()
                .map(|text| text.output.as_deref())
                .collect::<Vec<_>>(),
        )
        .bind(
            texts
                .iter()
                .map(|text| text.error.as_deref())
                .collect::<Vec<_>>(),
        )
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

/// As [`crate::store::Store::steps`].
pub(super) async fn steps(
    connection: &mut PgConnection,
    task: TaskId,
) -> Result<Vec<crate::domain::Step>, StoreError> {
    let rows: Vec<StepRow> = sqlx::query_as(STEPS)
        .bind(task.as_uuid())
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    rows.into_iter().map(StepRow::into_step).collect()
}

/// Lets steps that failed, and may be retried, run again with the next attempt of their task.
pub(super) async fn run_again(
    connection: &mut PgConnection,
    tasks: &[Uuid],
) -> Result<(), StoreError> {
    sqlx::query(RUN_AGAIN)
        .bind(tasks)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
