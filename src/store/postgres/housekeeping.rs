//! What time moves and removes, and what is only kept: queues, logs.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{error, fan_out};
use crate::domain::{LogChunk, TIMER_MARK, TaskEvent};
use crate::store::change::{Step, attempt, deadline_failure};
use crate::store::durable_row::{EndedRow, ended_rows};
use crate::store::row::{facts_columns, number};
use crate::store::time::{Time, from_now, micros};
use crate::store::{Due, Glance, StoreError};

/// All that an idle pass asks. Timers and schedules by their indexes; the other two tables are small.
const GLANCE: &str = "
select
    (select (extract(epoch from min(due_at) - now()) * 1000000)::int8 from timer) as due_in,
    (select (extract(epoch from min(look_at) - now()) * 1000000)::int8 from schedule
        where look_at is not null) as schedules_in,
    exists (select from executor
        where (lease_ends_at <= now() or dead_at is not null) and released_at is null) as has_lost,
    exists (select from ended_parent) as has_below,
    array(select id from executor
        where lacks_token and lease_ends_at < now() + $1 * interval '1 microsecond'
            and lost_at is null and dead_at is null
        order by id) as silent";

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
        select task, bool_or(kind = 'deadline') as is_late, bool_or(kind = 'start') as is_due,
            bool_or(kind = 'wake') as is_awake
        from found group by task
    )
    update task set
        state = case when m.is_late then $5 else $3 end,
        ready_at = case when m.is_late then ready_at else now() end,
        finished_at = case when m.is_late then now() end,
        error = case when m.is_late then $6 else error end,
        waiting_for = null
    from moves m
    where id = m.task and case
        when m.is_late then state = any($4)
        else m.is_due and state = any($2)
            or m.is_awake and state = any($7) and position($8 in waiting_for) > 0
    end
    returning ",
    facts_columns!(),
    ", fan_out, place"
);

/// What is below a task that failed by its deadline.
const LEFT_BEHIND: &str = "
insert into ended_parent select id from task where id = any($1) and has_subtasks and finished_at is not null
on conflict do nothing";

const NEXT: &str = "
select (extract(epoch from min(due_at) - now()) * 1000000)::int8 from timer";

/// Goes by creation, since an index on the end would be written by every settlement: of the tasks created
/// before the limit, those still open are passed again each time. A sub-task stays as long as its parent may ask for what
/// it came to.
const PRUNE: &str = "
with old as (
    select id from task t
    where created_at <= now() - $1 * interval '1 microsecond'
        and finished_at <= now() - $1 * interval '1 microsecond'
        and (fan_out is null or not exists (select from task p where p.id = t.parent and p.finished_at is null))
    order by created_at limit $2 for update skip locked
), logs as (
    delete from task_log using old where task = old.id
), timers as (
    delete from timer using old where task = old.id
), requests as (
    delete from cancel_request using old where task = old.id
), steps as (
    delete from step using old where task = old.id
), signals as (
    delete from signal using old where task = old.id
), fan_outs as (
    delete from fan_out using old where task = old.id
), ended as (
    delete from ended_parent using old where task = old.id
), histories as (
    delete from task_history using old where task = old.id
), gone as (
    delete from task using old where task.id = old.id returning 1
)
select count(*) from gone";

const APPEND_LOGS: &str = "
insert into task_log (task, attempt, log_offset, stream, at, text)
select w.task, w.attempt, w.log_offset, w.stream, w.at, w.text
from unnest($1::uuid[], $2::int4[], $3::int8[], $4::text[], $5::timestamptz[], $6::text[])
    as w(task, attempt, log_offset, stream, at, text)
join task t on t.id = w.task and t.attempt = w.attempt
order by w.task, w.attempt, w.log_offset
on conflict do nothing";

/// As [`crate::store::Store::glance`].
pub(super) async fn glance(
    connection: &mut PgConnection,
    lease_left: Duration,
) -> Result<Glance, StoreError> {
    let (due_in, schedules_in, has_lost, has_below, silent) = sqlx::query_as(GLANCE)
        .bind(micros(lease_left))
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(Glance::of(
        (due_in, schedules_in, has_lost, has_below),
        silent,
    ))
}

/// As [`crate::store::Store::due`].
pub(super) async fn due(connection: &mut PgConnection, limit: usize) -> Result<Due, StoreError> {
    let (start, late) = (
        Step::of(TaskEvent::Due),
        Step::of(TaskEvent::DeadlinePassed),
    );
    let awake = Step::of(TaskEvent::Woken);
    assert_eq!(awake.to, start.to, "whoever waited for a time is ready");
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let rows: Vec<EndedRow> = sqlx::query_as(DUE)
        .bind(number(limit))
        .bind(start.from)
        .bind(start.to)
        .bind(late.from)
        .bind(late.to)
        .bind(deadline_failure())
        .bind(awake.from)
        .bind(TIMER_MARK)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let moved: Vec<Uuid> = rows.iter().map(EndedRow::id).collect();
    let (facts, ended) = ended_rows(rows);
    let (failed, mut ready): (Vec<_>, Vec<_>) =
        facts.into_iter().partition(|facts| facts.state.is_final());
    if !failed.is_empty() {
        sqlx::query(LEFT_BEHIND)
            .bind(moved)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
        let parents = ended.iter().map(|one| one.parent).collect();
        fan_out::lock(&mut transaction, parents).await?;
        ready.extend(fan_out::count_ended(&mut transaction, &ended).await?);
    }
    transaction.commit().await.map_err(error::of)?;
    let next: Option<i64> = sqlx::query_scalar(NEXT)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(Due {
        ready,
        failed,
        next_in: next.map(from_now),
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
