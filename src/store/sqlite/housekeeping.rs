//! What time moves and removes, and what is only kept: queues, logs.

use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::error;
use super::submit::hex;
use crate::domain::{LogChunk, QueueName, TaskEvent};
use crate::store::change::{Step, attempt, deadline_failure};
use crate::store::row::{facts_columns, facts_of_changed, number, text};
use crate::store::time::Time;
use crate::store::{Due, StoreError};

/// A timer whose task has moved on is just removed. One that finds its task running is removed as well: a
/// deadline is set again when the attempt ends and the task does not.
const SPEND: &str = "
delete from timer where (task, kind) in (
    select task, kind from timer where due_at <= ?1 order by due_at limit ?2
)
returning task, kind = 'deadline' as is_deadline";

const LATE: &str = concat!(
    "update task set state = ?3, finished_at = ?4, error = ?5
    where id in (select unhex(value) from json_each(?1)) and state in (select value from json_each(?2))
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

/// Goes by creation: of the tasks created before the limit, those still open are passed again each time.
const OLD: &str = "
select id from task where created_at <= ?1 and finished_at <= ?1 order by created_at limit ?2";

const DELETE_LOGS: &str =
    "delete from task_log where task in (select unhex(value) from json_each(?1))";
const DELETE_TIMERS: &str =
    "delete from timer where task in (select unhex(value) from json_each(?1))";
const DELETE_REQUESTS: &str =
    "delete from cancel_request where task in (select unhex(value) from json_each(?1))";
const DELETE_HISTORIES: &str =
    "delete from task_history where task in (select unhex(value) from json_each(?1))";
const DELETE_TASKS: &str = "delete from task where id in (select unhex(value) from json_each(?1))";

const CREATE_QUEUE: &str = "insert into queue (name) values (?1) on conflict do nothing";

const APPEND_LOGS: &str = "
insert into task_log (task, attempt, log_offset, stream, at, text)
select t.id, w.value ->> 1, w.value ->> 2, w.value ->> 3, w.value ->> 4, w.value ->> 5
from json_each(?1) as w cross join task t on t.id = unhex(w.value ->> 0)
where true
on conflict do nothing";

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
    let spent: Vec<(Uuid, bool)> = sqlx::query_as(SPEND)
        .bind(now)
        .bind(number(limit))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let of_kind = |is_wanted: bool| {
        let tasks: Vec<String> = spent
            .iter()
            .filter(|(_, is_deadline)| *is_deadline == is_wanted)
            .map(|(task, _)| hex(*task))
            .collect();
        text(&tasks)
    };
    let (mut failed, mut ready) = (Vec::new(), Vec::new());
    if !spent.is_empty() {
        let late = Step::of(TaskEvent::DeadlinePassed);
        // The deadline first: what is late does not start.
        failed = sqlx::query_as(LATE)
            .bind(of_kind(true))
            .bind(text(&late.from))
            .bind(late.to)
            .bind(now)
            .bind(deadline_failure())
            .fetch_all(&mut *transaction)
            .await
            .map_err(error::of)?;
        let start = Step::of(TaskEvent::Due);
        ready = sqlx::query_as(START)
            .bind(of_kind(false))
            .bind(text(&start.from))
            .bind(start.to)
            .bind(now)
            .fetch_all(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    let next: Option<i64> = sqlx::query_scalar(NEXT)
        .bind(now)
        .fetch_one(&mut *transaction)
        .await
        .map_err(error::of)?;
    transaction.commit().await.map_err(error::of)?;
    Ok(Due {
        ready: facts_of_changed(ready),
        failed: facts_of_changed(failed),
        next_in: next.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or(0))),
    })
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

/// As [`crate::store::Store::create_queue`].
pub(super) async fn create_queue(
    connection: &mut SqliteConnection,
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
