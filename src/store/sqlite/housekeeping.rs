//! What time moves and removes, and what is only kept: queues, logs.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::submit::hex;
use super::{error, fan_out};
use crate::domain::{LogChunk, TIMER_MARK, TaskEvent, TaskFacts};
use crate::store::change::{Step, attempt, deadline_failure};
use crate::store::durable_row::{EndedRow, ended_rows};
use crate::store::row::{FactsRow, facts_columns, facts_of_changed, number, text};
use crate::store::time::{Time, from_now};
use crate::store::{Due, Glance, StoreError};

/// All that an idle pass asks. Timers and schedules by their indexes; the other two tables are small.
const GLANCE: &str = "
select
    (select min(due_at) - ?1 from timer),
    (select min(look_at) - ?1 from schedule where look_at is not null),
    exists (select 1 from executor where (lease_ends_at <= ?1 or dead_at is not null) and released_at is null),
    exists (select 1 from ended_parent)";

const SILENT: &str = "
select id from executor where lacks_token and lease_ends_at < ?1 and lost_at is null and dead_at is null order by id";

/// A timer whose task has moved on is just removed. One that finds its task running is removed as well: a
/// deadline is set again when the attempt ends and the task does not.
const SPEND: &str = "
delete from timer where (task, kind) in (
    select task, kind from timer where due_at <= ?1 order by due_at limit +?2
)
returning task, kind";

const LATE: &str = concat!(
    "update task set state = ?3, finished_at = ?4, error = ?5, waiting_for = null
    where id in (select unhex(value) from json_each(?1)) and state in (select value from json_each(?2))
    returning ",
    facts_columns!(),
    ", fan_out, place"
);

/// What is below a task that failed by its deadline.
const LEFT_BEHIND: &str = "
insert into ended_parent select id from task
where id in (select unhex(value) from json_each(?1)) and has_subtasks and finished_at is not null
on conflict do nothing";

const WAKE: &str = concat!(
    "update task set state = ?3, ready_at = ?4, waiting_for = null
    where id in (select unhex(value) from json_each(?1)) and state in (select value from json_each(?2))
        and instr(waiting_for, ?5) > 0
    returning ",
    facts_columns!()
);

const START: &str = concat!(
    "update task set state = ?3, ready_at = ?4
    where id in (select unhex(value) from json_each(?1)) and state in (select value from json_each(?2))
    returning ",
    facts_columns!()
);

const NEXT: &str = "select min(due_at) - ?1 from timer";

/// Goes by creation: of the tasks created before the limit, those still open are passed again each time. A sub-task stays as
/// long as its parent may ask for what it came to.
const OLD: &str = "
select id from task t where created_at <= ?1 and finished_at <= ?1
    and (fan_out is null or not exists (select 1 from task p where p.id = t.parent and p.finished_at is null))
order by created_at limit +?2";

const DELETE_LOGS: &str =
    "delete from task_log where task in (select unhex(value) from json_each(?1))";
const DELETE_TIMERS: &str =
    "delete from timer where task in (select unhex(value) from json_each(?1))";
const DELETE_REQUESTS: &str =
    "delete from cancel_request where task in (select unhex(value) from json_each(?1))";
const DELETE_STEPS: &str =
    "delete from step where task in (select unhex(value) from json_each(?1))";
const DELETE_SIGNALS: &str =
    "delete from signal where task in (select unhex(value) from json_each(?1))";
const DELETE_FAN_OUTS: &str =
    "delete from fan_out where task in (select unhex(value) from json_each(?1))";
const DELETE_ENDED: &str =
    "delete from ended_parent where task in (select unhex(value) from json_each(?1))";
const DELETE_HISTORIES: &str =
    "delete from task_history where task in (select unhex(value) from json_each(?1))";
const DELETE_TASKS: &str = "delete from task where id in (select unhex(value) from json_each(?1))";

const APPEND_LOGS: &str = "
insert into task_log (task, attempt, log_offset, stream, at, text)
select t.id, w.value ->> 1, w.value ->> 2, w.value ->> 3, w.value ->> 4, w.value ->> 5
from json_each(?1) as w cross join task t on t.id = unhex(w.value ->> 0)
where t.attempt = w.value ->> 1
on conflict do nothing";

/// As [`crate::store::Store::glance`].
pub(super) async fn glance(
    connection: &mut SqliteConnection,
    lease_left: Duration,
    now: Time,
) -> Result<Glance, StoreError> {
    let row = sqlx::query_as(GLANCE)
        .bind(now)
        .fetch_one(&mut *connection)
        .await
        .map_err(error::of)?;
    let silent: Vec<Uuid> = sqlx::query_scalar(SILENT)
        .bind(now.after(lease_left))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(Glance::of(row, silent))
}

/// As [`crate::store::Store::due`].
pub(super) async fn due(
    connection: &mut SqliteConnection,
    limit: usize,
    now: Time,
) -> Result<Due, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let spent: Vec<(Uuid, String)> = sqlx::query_as(SPEND)
        .bind(now)
        .bind(number(limit))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let (failed, ready) = if spent.is_empty() {
        (Vec::new(), Vec::new())
    } else {
        move_on(&mut transaction, &spent, now).await?
    };
    let next: Option<i64> = sqlx::query_scalar(NEXT)
        .bind(now)
        .fetch_one(&mut *transaction)
        .await
        .map_err(error::of)?;
    transaction.commit().await.map_err(error::of)?;
    Ok(Due {
        ready,
        failed,
        next_in: next.map(from_now),
    })
}

/// Moves the tasks of timers that were spent; answers those that failed, and those that are `ready`.
async fn move_on(
    connection: &mut SqliteConnection,
    spent: &[(Uuid, String)],
    now: Time,
) -> Result<(Vec<TaskFacts>, Vec<TaskFacts>), StoreError> {
    let of_kind = |wanted: &str| {
        let tasks: Vec<String> = spent
            .iter()
            .filter(|(_, kind)| kind == wanted)
            .map(|(task, _)| hex(*task))
            .collect();
        text(&tasks)
    };
    let late = Step::of(TaskEvent::DeadlinePassed);
    // The deadline first: what is late does not start.
    let rows: Vec<EndedRow> = sqlx::query_as(LATE)
        .bind(of_kind("deadline"))
        .bind(text(&late.from))
        .bind(late.to)
        .bind(now)
        .bind(deadline_failure())
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let (failed, ended) = ended_rows(rows);
    let mut turns = Vec::new();
    if !failed.is_empty() {
        sqlx::query(LEFT_BEHIND)
            .bind(of_kind("deadline"))
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
        turns = fan_out::count_ended(connection, &ended, now).await?;
    }
    let start = Step::of(TaskEvent::Due);
    let mut ready: Vec<FactsRow> = sqlx::query_as(START)
        .bind(of_kind("start"))
        .bind(text(&start.from))
        .bind(start.to)
        .bind(now)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let awake = Step::of(TaskEvent::Woken);
    let woken: Vec<FactsRow> = sqlx::query_as(WAKE)
        .bind(of_kind("wake"))
        .bind(text(&awake.from))
        .bind(awake.to)
        .bind(now)
        .bind(TIMER_MARK)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    ready.extend(woken);
    let mut ready = facts_of_changed(ready);
    ready.extend(turns);
    Ok((failed, ready))
}

/// As [`crate::store::Store::prune`].
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    until: Time,
    limit: usize,
) -> Result<u64, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let old: Vec<Uuid> = sqlx::query_scalar(OLD)
        .bind(until)
        .bind(number(limit))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    if old.is_empty() {
        return Ok(0);
    }
    let count = u64::try_from(old.len()).unwrap_or(u64::MAX);
    let old = text(&old.into_iter().map(hex).collect::<Vec<_>>());
    for statement in [
        DELETE_LOGS,
        DELETE_TIMERS,
        DELETE_REQUESTS,
        DELETE_STEPS,
        DELETE_SIGNALS,
        DELETE_FAN_OUTS,
        DELETE_ENDED,
        DELETE_HISTORIES,
        DELETE_TASKS,
    ] {
        sqlx::query(statement)
            .bind(&old)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(count)
}

/// As [`crate::store::Store::append_logs`].
pub(super) async fn append_logs(
    connection: &mut SqliteConnection,
    chunks: &[LogChunk],
) -> Result<(), StoreError> {
    let batch: Vec<_> = chunks
        .iter()
        .map(|chunk| {
            json!([
                hex(chunk.task.as_uuid()),
                attempt(chunk.position.attempt.0),
                number(chunk.position.offset),
                chunk.stream.as_str(),
                Time::from(chunk.at).0,
                chunk.text,
            ])
        })
        .collect();
    sqlx::query(APPEND_LOGS)
        .bind(text(&batch))
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
