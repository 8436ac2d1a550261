//! Sub-tasks that were spawned together: counting their ends, and giving the next ones their turn.
//!
//! Locks are taken in one order everywhere: tasks by their ids, parents among them, then the counts.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{error, signal};
use crate::domain::{FanOut, StepName, TaskEvent, TaskFacts, TaskId, fan_out_mark};
use crate::store::StoreError;
use crate::store::change::{EndedSubtask, Step};
use crate::store::durable_row::{FanOutRow, fan_out_columns};
use crate::store::row::{FactsRow, facts_columns, facts_of_changed};

const LOCK: &str = "select id from task where id = any($1) order by id for update";

/// What ended before it had its turn was never in flight.
const COUNT: &str = concat!(
    "with ended as (
        select parent, name, count(*)::int4 as ended, sum(failed)::int4 as failed, array_agg(place) as places
        from unnest($1::uuid[], $2::text[], $3::int4[], $4::int4[]) as e(parent, name, place, failed)
        group by parent, name
    ), held as (
        select f.task, f.name from fan_out f join ended e on e.parent = f.task and e.name = f.name
        order by f.task, f.name for update of f
    )
    update fan_out f set
        open = f.open - e.ended,
        failed = f.failed + e.failed,
        in_flight = f.in_flight - (select count(*)::int4 from unnest(e.places) as place where place < f.granted)
    from ended e, held h
    where f.task = e.parent and f.name = e.name and h.task = f.task and h.name = f.name
    returning ",
    fan_out_columns!("f.")
);

const ONE: &str = concat!(
    "select ",
    fan_out_columns!("f."),
    " from fan_out f where task = $1 and name = $2"
);

/// Those that ended before their turn are passed over.
const GRANT: &str = concat!(
    "update task set state = $6, ready_at = now()
    where parent = $1 and fan_out = $2 and place >= $3 and place < $4 and state = any($5)
    returning ",
    facts_columns!()
);

const GRANTED: &str =
    "update fan_out set granted = $3, in_flight = in_flight + $4 where task = $1 and name = $2";

/// Locks tasks and their parents, before anything of them is changed.
pub(super) async fn lock(
    connection: &mut PgConnection,
    tasks: Vec<Uuid>,
) -> Result<(), StoreError> {
    sqlx::query(LOCK)
        .bind(tasks)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// Counts the ends of sub-tasks; answers what became `ready` by it: parents that waited for them, and siblings whose turn
/// has come. Their parents are locked.
pub(super) async fn count_ended(
    connection: &mut PgConnection,
    ended: &[EndedSubtask],
) -> Result<Vec<TaskFacts>, StoreError> {
    if ended.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<FanOutRow> = sqlx::query_as(COUNT)
        .bind(ended.iter().map(|one| one.parent).collect::<Vec<_>>())
        .bind(
            ended
                .iter()
                .map(|one| one.fan_out.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(ended.iter().map(|one| one.place).collect::<Vec<_>>())
        .bind(ended.iter().map(|one| one.failed).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let (mut ready, mut over) = (Vec::new(), Vec::new());
    for row in rows {
        let Some((task, name, fan_out)) = row.readable() else {
            continue;
        };
        if fan_out.is_over() {
            over.push((task.as_uuid(), fan_out_mark(&name)));
        }
        ready.extend(grant(connection, task, &name, fan_out).await?);
    }
    ready.extend(signal::wake(connection, &over).await?);
    Ok(facts_of_changed(ready))
}

/// Gives as many their turn as there is room for.
pub(super) async fn grant(
    connection: &mut PgConnection,
    task: TaskId,
    name: &StepName,
    mut fan_out: FanOut,
) -> Result<Vec<FactsRow>, StoreError> {
    let step = Step::of(TaskEvent::Granted);
    let mut ready = Vec::new();
    loop {
        let allowance = fan_out.allowance();
        if allowance == 0 {
            return Ok(ready);
        }
        let until = fan_out.granted + allowance;
        let rows: Vec<FactsRow> = sqlx::query_as(GRANT)
            .bind(task.as_uuid())
            .bind(name.as_str())
            .bind(i64::from(fan_out.granted))
            .bind(i64::from(until))
            .bind(&step.from)
            .bind(step.to)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::of)?;
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        sqlx::query(GRANTED)
            .bind(task.as_uuid())
            .bind(name.as_str())
            .bind(i64::from(until))
            .bind(i64::from(count))
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
        fan_out.granted = until;
        fan_out.in_flight += count;
        ready.extend(rows);
    }
}

/// As [`crate::store::Store::fan_out`].
pub(super) async fn fan_out(
    connection: &mut PgConnection,
    task: TaskId,
    name: &StepName,
) -> Result<Option<FanOut>, StoreError> {
    let row: Option<FanOutRow> = sqlx::query_as(ONE)
        .bind(task.as_uuid())
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .map_err(error::of)?;
    row.map(|row| Ok(row.into_fan_out()?.2)).transpose()
}
