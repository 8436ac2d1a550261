//! What time moves and removes, and what is only kept: queues, logs.

use std::time::Duration;

use sqlx::PgConnection;

use super::error;
use crate::domain::{LogChunk, QueueName, TaskEvent};
use crate::store::change::{Step, attempt, deadline_failure};
use crate::store::row::{FactsRow, facts_columns, facts_of_changed, number};
use crate::store::time::{Time, micros};
use crate::store::{Due, StoreError};

/// Takes timers whose time has come, together with their tasks; whatever somebody else has locked is left for
/// the next look. A timer whose task has moved on is just removed. One that finds its task running is
/// removed as well: a deadline is set again when the attempt ends and the task does not.
const DUE: &str = concat!(
    "with found as (
        select m.task, m.kind from timer m join task t on t.id = m.task
        where m.due_at <= now() order by m.due_at limit $1 for update of m, t skip locked
    ), spent as (
        delete from timer m using found f where m.task = f.task and m.kind = f.kind
    ), moves as (
        select task, bool_or(kind = 'deadline') as is_late, bool_or(kind = 'start') as is_due
        from found group by task
    )
    update task set
        state = case when m.is_late then $5 else $3 end,
        ready_at = case when m.is_late then ready_at else now() end,
        finished_at = case when m.is_late then now() end,
        error = case when m.is_late then $6 else error end
    from moves m
    where id = m.task and case when m.is_late then state = any($4) else m.is_due and state = any($2) end
    returning ",
    facts_columns!()
);

const NEXT: &str = "
select (extract(epoch from min(due_at) - now()) * 1000000)::int8 from timer";

/// Goes by creation, since an index on the end would be written by every settlement: of the tasks created
/// before the limit, those still open are passed again each time.
const PRUNE: &str = "
with old as (
    select id from task
    where created_at <= now() - $1 * interval '1 microsecond'
        and finished_at <= now() - $1 * interval '1 microsecond'
    order by created_at limit $2 for update skip locked
), logs as (
    delete from task_log using old where task = old.id
), timers as (
    delete from timer using old where task = old.id
), requests as (
    delete from cancel_request using old where task = old.id
), histories as (
    delete from task_history using old where task = old.id
), gone as (
    delete from task using old where task.id = old.id returning 1
)
select count(*) from gone";

const CREATE_QUEUE: &str = "insert into queue (name) values ($1) on conflict do nothing";

const APPEND_LOGS: &str = "
insert into task_log (task, attempt, log_offset, stream, at, text)
select w.task, w.attempt, w.log_offset, w.stream, w.at, w.text
from unnest($1::uuid[], $2::int4[], $3::int8[], $4::text[], $5::timestamptz[], $6::text[])
    as w(task, attempt, log_offset, stream, at, text)
join task t on t.id = w.task
order by w.task, w.attempt, w.log_offset
on conflict do nothing";

/// As [`crate::store::Store::due`].
pub(super) async fn due(connection: &mut PgConnection, limit: usize) -> Result<Due, StoreError> {
    let (start, late) = (
        Step::of(TaskEvent::Due),
        Step::of(TaskEvent::DeadlinePassed),
    );
    let rows: Vec<FactsRow> = sqlx::query_as(DUE)
        .bind(number(limit))
        .bind(start.from)
        .bind(start.to)
        .bind(late.from)
        .bind(late.to)
        .bind(deadline_failure())
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let next: Option<i64> = sqlx::query_scalar(NEXT)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    let (failed, ready) = facts_of_changed(rows)
        .into_iter()
        .partition(|facts| facts.state.is_final());
    Ok(Due {
        ready,
        failed,
        next_in: next.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))),
    })
}

/// As [`crate::store::Store::prune`].
pub(super) async fn prune(
    connection: &mut PgConnection,
    keep: Duration,
    limit: usize,
) -> Result<u64, StoreError> {
    let count: i64 = sqlx::query_scalar(PRUNE)
        .bind(micros(keep))
        .bind(number(limit))
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// As [`crate::store::Store::create_queue`].
pub(super) async fn create_queue(
    connection: &mut PgConnection,
    queue: &QueueName,
) -> Result<(), StoreError> {
    sqlx::query(CREATE_QUEUE)
        .bind(queue.as_str())
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// As [`crate::store::Store::append_logs`].
pub(super) async fn append_logs(
    connection: &mut PgConnection,
    chunks: &[LogChunk],
) -> Result<(), StoreError> {
    fn column<'a, T>(chunks: &'a [LogChunk], of: impl Fn(&'a LogChunk) -> T) -> Vec<T> {
        chunks.iter().map(of).collect()
    }
    sqlx::query(APPEND_LOGS)
        .bind(column(chunks, |chunk| chunk.task.as_uuid()))
        .bind(column(chunks, |chunk| attempt(chunk.position.attempt.0)))
        .bind(column(chunks, |chunk| number(chunk.position.offset)))
        .bind(column(chunks, |chunk| chunk.stream.as_str()))
        .bind(column(chunks, |chunk| Time::from(chunk.at)))
        .bind(column(chunks, |chunk| chunk.text.as_str()))
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
