//! Storing how attempts ended.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{error, fan_out, signal, step};
use crate::domain::{ExecutorId, Settlement, TaskState};
use crate::store::change::{Change, ChangedRow, RUNNING, Written, changes, owner, settled};
use crate::store::{Settled, StoreError};

/// One statement for a batch. The lock comes first, in the order of the ids; once it is held the row is the
/// newest, also if somebody has just asked for its cancellation. Deadline timers that were spent while the
/// task ran are set again.
///
/// The fence stands in a `case` to hide it from the planner: it takes its three conditions for independent,
/// expects one row, and compares every row with every other (measured: 34 ms instead of 3 for a batch of 256).
const SETTLE: &str = "
with wanted as (
    select * from unnest(
        $3::uuid[], $4::int4[], $5::text[], $6::text[], $7::text[], $8::text[], $9::int4[], $10::int8[],
        $14::text[], $15::timestamptz[]
    ) as w(
        task, token, state_after, state_if_cancelled, new_output, new_error, failed, pause, new_waiting, wakes_at
    )
), held as (
    select w.*, case
        when t.cancel_cause is not null and w.state_if_cancelled is not null then w.state_if_cancelled
        else w.state_after
    end as state_now, t.cancel_cause is not null and w.state_if_cancelled is not null as is_cancelled
    from wanted w join task t on t.id = w.task
    where t.id = any($3)
        and case when t.attempt = w.token and t.executor = $1 and t.state = $2 then true else false end
    order by t.id for update of t
), changed as (
    update task set
        state = h.state_now,
        output = h.new_output,
        error = case
            when h.is_cancelled then cancel_cause
            when h.state_now = $12 then error
            else h.new_error
        end,
        failures = failures + case when failures < 2147483647 then h.failed else 0 end,
        run_at = case when h.state_now = $11 then now() + h.pause * interval '1 microsecond' else run_at end,
        ready_at = case when h.state_now = $12 then now() else ready_at end,
        finished_at = case when h.state_now = any($13) then now() end,
        waiting_for = case when h.is_cancelled then null else h.new_waiting end
    from held h where id = h.task
    returning id, attempt, state, run_at, deadline, finished_at, cancel_requested_at, has_subtasks,
        case when waiting_for is not null then h.wakes_at end as wakes_at
), timed as (
    insert into timer (task, kind, due_at)
    select id, 'start', run_at from changed where state = $11
    union all
    select id, 'deadline', deadline from changed where deadline is not null and finished_at is null
    union all
    select id, 'wake', wakes_at from changed where wakes_at is not null
    on conflict (task, kind) do update set due_at = excluded.due_at
), answered as (
    delete from cancel_request using changed c where task = c.id and c.cancel_requested_at is not null
), left_behind as (
    insert into ended_parent select id from changed where has_subtasks and finished_at is not null
    on conflict do nothing
)
select id, attempt, state, now() as at from changed";

/// As [`crate::store::Store::settle`].
pub(super) async fn settle(
    connection: &mut PgConnection,
    executor: ExecutorId,
    settlements: &[Settlement],
) -> Result<Vec<Settled>, StoreError> {
    let changes = changes(settlements)?;
    let written = if changes.iter().any(Change::goes_beyond_its_row) {
        let mut transaction = connection.begin().await.map_err(error::of)?;
        let written = write(&mut transaction, owner(executor), &changes).await?;
        transaction.commit().await.map_err(error::of)?;
        written
    } else {
        write(connection, owner(executor), &changes).await?
    };
    settled(settlements, written)
}

/// Writes `changes` to the attempts that `executor` runs, and what follows from them for other tasks; tells which fitted.
/// Within a transaction, if one of them goes beyond its row.
pub(super) async fn write(
    connection: &mut PgConnection,
    executor: Uuid,
    changes: &[Change],
) -> Result<Written, StoreError> {
    let places = changes.iter().filter_map(|change| change.fan_out.as_ref());
    let parents: Vec<Uuid> = places.map(|place| place.parent.as_uuid()).collect();
    if !parents.is_empty() {
        let tasks = changes.iter().map(|change| change.task);
        fan_out::lock(connection, tasks.chain(parents).collect()).await?;
    }
    let rows = write_rows(connection, executor, changes).await?;
    let mut written = Written {
        rows,
        ready: Vec::new(),
    };
    let retried: Vec<Uuid> = changes
        .iter()
        .filter(|change| change.is_retried)
        .map(|change| change.task)
        .collect();
    if !retried.is_empty() {
        step::run_again(connection, &retried).await?;
    }
    let suspended = written.suspended();
    if !suspended.is_empty() {
        written.ready = signal::wake_satisfied(connection, &suspended).await?;
    }
    let ended = written.ended(changes)?;
    let ready = fan_out::count_ended(connection, &ended).await?;
    written.ready.extend(ready);
    Ok(written)
}

async fn write_rows(
    connection: &mut PgConnection,
    executor: Uuid,
    changes: &[Change],
) -> Result<Vec<ChangedRow>, StoreError> {
    fn column<'a, T>(changes: &'a [Change], of: impl Fn(&'a Change) -> T) -> Vec<T> {
        changes.iter().map(of).collect()
    }
    let finals: Vec<&str> = TaskState::ALL
        .into_iter()
        .filter(|state| state.is_final())
        .map(TaskState::as_str)
        .collect();
    sqlx::query_as(SETTLE)
        .bind(executor)
        .bind(RUNNING)
        .bind(column(changes, |change| change.task))
        .bind(column(changes, |change| change.attempt))
        .bind(column(changes, |change| change.to.as_str()))
        .bind(column(changes, |change| {
            change.to_if_cancelled.map(TaskState::as_str)
        }))
        .bind(column(changes, |change| change.output.as_deref()))
        .bind(column(changes, |change| change.error.as_deref()))
        .bind(column(changes, |change| change.failures))
        .bind(column(changes, |change| change.pause))
        .bind(TaskState::Scheduled.as_str())
        .bind(TaskState::Ready.as_str())
        .bind(finals)
        .bind(column(changes, |change| change.waiting_for.as_deref()))
        .bind(column(changes, |change| change.wakes_at))
        .fetch_all(connection)
        .await
        .map_err(error::of)
}
