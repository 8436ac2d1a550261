//! Storing how attempts ended.

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::submit::hex;
use super::{error, fan_out, signal, step};
use crate::domain::{ExecutorId, Settlement, TaskState};
use crate::store::change::{Change, ChangedRow, RUNNING, Written, changes, owner, settled};
use crate::store::row::text;
use crate::store::time::Time;
use crate::store::{Settled, StoreError};

const SETTLE: &str = "
update task set
    state = w.state_now,
    output = w.new_output,
    error = case
        when w.is_cancelled then cancel_cause
        when w.state_now = ?6 then error
        else w.new_error
    end,
    failures = failures + w.failed,
    run_at = case when w.state_now = ?5 then ?4 + w.pause else run_at end,
    ready_at = case when w.state_now = ?6 then ?4 else ready_at end,
    finished_at = case when w.state_now in (select value from json_each(?7)) then ?4 end,
    waiting_for = case when w.is_cancelled then null else w.new_waiting end
from (
    select t.id as held, e.new_output, e.new_error, e.failed, e.pause, e.new_waiting,
        t.cancel_cause is not null and e.state_if_cancelled is not null as is_cancelled,
        case
            when t.cancel_cause is not null and e.state_if_cancelled is not null then e.state_if_cancelled
            else e.state_after
        end as state_now
    from (
        select unhex(value ->> 0) as task, value ->> 1 as token, value ->> 2 as state_after,
            value ->> 3 as state_if_cancelled, value ->> 4 as new_output, value ->> 5 as new_error,
            value ->> 6 as failed, value ->> 7 as pause, value ->> 8 as new_waiting
        from json_each(?3)
    ) as e
    cross join task t on t.id = e.task
    where t.attempt = e.token and t.executor = ?1 and t.state = ?2
) as w
where id = w.held
returning id, attempt, state, ?4 as at,
    deadline is not null and finished_at is null as has_deadline, cancel_requested_at is not null as is_cancelled,
    has_subtasks and finished_at is not null as leaves_behind";

/// When suspended tasks wake by themselves.
const WAKE_AT: &str = "
insert into timer (task, kind, due_at)
select t.id, 'wake', w.value ->> 1 from json_each(?1) as w join task t on t.id = unhex(w.value ->> 0)
where t.waiting_for is not null
on conflict (task, kind) do update set due_at = excluded.due_at";

/// What is below a task that has ended.
const LEFT_BEHIND: &str = "insert into ended_parent select unhex(value) from json_each(?1) where true on conflict do nothing";

/// Deadline timers that were spent while the task ran are set again.
const TIME: &str = "
insert into timer (task, kind, due_at)
select id, 'start', run_at from task
where id in (select unhex(value) from json_each(?1)) and state = ?2
union all
select id, 'deadline', deadline from task
where id in (select unhex(value) from json_each(?1)) and deadline is not null
on conflict (task, kind) do update set due_at = excluded.due_at";

const ANSWERED: &str =
    "delete from cancel_request where task in (select unhex(value) from json_each(?1))";

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    changed: ChangedRow,
    has_deadline: bool,
    is_cancelled: bool,
    leaves_behind: bool,
}

/// As [`crate::store::Store::settle`].
pub(super) async fn settle(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    settlements: &[Settlement],
    now: Time,
) -> Result<Vec<Settled>, StoreError> {
    let changes = changes(settlements)?;
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let written = write(&mut transaction, owner(executor), &changes, now).await?;
    transaction.commit().await.map_err(error::of)?;
    settled(settlements, written)
}

/// Writes `changes` to the attempts that `executor` runs, and what follows from them for other tasks; tells which fitted.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    executor: Uuid,
    changes: &[Change],
    now: Time,
) -> Result<Written, StoreError> {
    let rows = write_rows(connection, executor, changes, now).await?;
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
        step::run_again(connection, &retried, now).await?;
    }
    let suspended = written.suspended();
    if !suspended.is_empty() {
        let timers: Vec<_> = changes
            .iter()
            .filter_map(|change| Some(json!([hex(change.task), change.wakes_at?.0])))
            .collect();
        sqlx::query(WAKE_AT)
            .bind(text(&timers))
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
        written.ready = signal::wake_satisfied(connection, &suspended, now).await?;
    }
    let ended = written.ended(changes)?;
    let ready = fan_out::count_ended(connection, &ended, now).await?;
    written.ready.extend(ready);
    Ok(written)
}

async fn write_rows(
    connection: &mut SqliteConnection,
    executor: Uuid,
    changes: &[Change],
    now: Time,
) -> Result<Vec<ChangedRow>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(SETTLE)
        .bind(executor)
        .bind(RUNNING)
        .bind(text(&changes.iter().map(json_of).collect::<Vec<_>>()))
        .bind(now)
        .bind(TaskState::Scheduled.as_str())
        .bind(TaskState::Ready.as_str())
        .bind(text(&finals()))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let scheduled = TaskState::Scheduled.as_str();
    let timed = ids(&rows, |row| {
        row.changed.state == scheduled || row.has_deadline
    });
    if !timed.is_empty() {
        sqlx::query(TIME)
            .bind(text(&timed))
            .bind(scheduled)
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
    }
    let answered = ids(&rows, |row| row.is_cancelled);
    if !answered.is_empty() {
        sqlx::query(ANSWERED)
            .bind(text(&answered))
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
    }
    let left_behind = ids(&rows, |row| row.leaves_behind);
    if !left_behind.is_empty() {
        sqlx::query(LEFT_BEHIND)
            .bind(text(&left_behind))
            .execute(connection)
            .await
            .map_err(error::of)?;
    }
    Ok(rows.into_iter().map(|row| row.changed).collect())
}

fn json_of(change: &Change) -> serde_json::Value {
    json!([
        hex(change.task),
        change.attempt,
        change.to.as_str(),
        change.to_if_cancelled.map(TaskState::as_str),
        change.output,
        change.error,
        change.failures,
        change.pause,
        change.waiting_for,
    ])
}

fn finals() -> Vec<&'static str> {
    TaskState::ALL
        .into_iter()
        .filter(|state| state.is_final())
        .map(TaskState::as_str)
        .collect()
}

fn ids(rows: &[Row], is_wanted: impl Fn(&Row) -> bool) -> Vec<String> {
    rows.iter()
        .filter(|row| is_wanted(row))
        .map(|row| hex(row.changed.id))
        .collect()
}
