//! Reading, for people and for waiters.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::error;
use super::submit::hex;
use crate::domain::limits::TREE_MAX;
use crate::domain::{ExecutorId, LogChunk, LogPosition, Task, TaskId, TaskState};
use crate::store::change::{RUNNING, attempt, ends_of_a_wait, owner, without};
use crate::store::listed::listed;
use crate::store::log::LogRow;
use crate::store::row::{TaskRow, number, task_columns, text};
use crate::store::{Listed, StoreError, StoreIdentity};

const TASKS: &str = concat!(
    "select ",
    task_columns!(),
    " from task where id in (select unhex(value) from json_each(?1))"
);

/// The open ones: their number is small when most have ended, and no payload is read.
const OPEN: &str = "
select id from task
where id in (select unhex(value) from json_each(?1))
    and state not in (select value from json_each(?2))";

/// Scans the tasks: an index on the executor would be written by every claim.
const OWNED: &str = concat!(
    "select ",
    task_columns!(),
    " from task where executor = ?1 and state = ?2 order by id limit +?3"
);

/// Goes through the index `task_ready`, like the idle claim, until it has counted enough.
const AHEAD: &str = "
select count(*) from (
    select 1 from task me join task other on other.queue = me.queue
    where me.id = ?1 and me.state = ?2 and other.state = ?2 and (
        other.priority > me.priority
        or other.priority = me.priority and (other.ready_at, other.id) < (me.ready_at, me.id)
    )
    limit +?3
) as counted";

const TREE: &str = concat!(
    "with recursive tree(member, depth) as (
        select id, 0 from task where id = ?1
        union all
        select t.id, tree.depth + 1 from tree join task t on t.parent = tree.member
        limit +?2
    )
    select ",
    task_columns!(),
    " from task join tree on id = member order by depth, created_at, place, id"
);

const LOGS: &str = "
select task, attempt, log_offset, stream, at, text from task_log
where task = ?1 and (attempt, log_offset) >= (?2, ?3)
order by attempt, log_offset limit +?4";

const IDENTITY: &str = "select sqlite_version()";

const HAS_SCHEMA: &str =
    "select count(*) from sqlite_master where type = 'table' and name = '_sqlx_migrations'";

const SCHEMA: &str = "select max(version) from _sqlx_migrations where success";

/// As [`crate::store::Store::tasks`].
pub(super) async fn tasks(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
) -> Result<Listed, StoreError> {
    let ids: Vec<String> = tasks.iter().map(|task| hex(task.as_uuid())).collect();
    let rows: Vec<TaskRow> = sqlx::query_as(TASKS)
        .bind(text(&ids))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows))
}

/// As [`crate::store::Store::owned`].
pub(super) async fn owned(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    limit: usize,
) -> Result<Vec<Task>, StoreError> {
    let rows: Vec<TaskRow> = sqlx::query_as(OWNED)
        .bind(owner(executor))
        .bind(RUNNING)
        .bind(number(limit))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows).tasks)
}

/// As [`crate::store::Store::ended`].
pub(super) async fn ended(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
) -> Result<Vec<TaskId>, StoreError> {
    let ids: Vec<String> = tasks.iter().map(|task| hex(task.as_uuid())).collect();
    let open: Vec<uuid::Uuid> = sqlx::query_scalar(OPEN)
        .bind(text(&ids))
        .bind(text(&ends_of_a_wait()))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(without(tasks, &open))
}

/// As [`crate::store::Store::ahead`].
pub(super) async fn ahead(
    connection: &mut SqliteConnection,
    task: TaskId,
    limit: u64,
) -> Result<u64, StoreError> {
    let ahead: i64 = sqlx::query_scalar(AHEAD)
        .bind(task.as_uuid())
        .bind(TaskState::Ready.as_str())
        .bind(number(limit))
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(u64::try_from(ahead).unwrap_or(0))
}

/// As [`crate::store::Store::tree`].
pub(super) async fn tree(
    connection: &mut SqliteConnection,
    task: TaskId,
) -> Result<Listed, StoreError> {
    let rows: Vec<TaskRow> = sqlx::query_as(TREE)
        .bind(task.as_uuid())
        .bind(number(TREE_MAX))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows))
}

/// As [`crate::store::Store::logs`].
pub(super) async fn logs(
    connection: &mut SqliteConnection,
    task: TaskId,
    after: Option<LogPosition>,
    limit: usize,
) -> Result<Vec<LogChunk>, StoreError> {
    let rows: Vec<LogRow> = sqlx::query_as(LOGS)
        .bind(task.as_uuid())
        .bind(after.map_or(0, |position| attempt(position.attempt.0)))
        .bind(after.map_or(0, |position| number(position.offset)))
        .bind(number(limit))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    rows.into_iter().map(LogRow::into_chunk).collect()
}

/// As [`crate::store::Store::identity`].
pub(super) async fn identity(
    connection: &mut SqliteConnection,
    now: Timestamp,
) -> Result<StoreIdentity, StoreError> {
    let version: String = sqlx::query_scalar(IDENTITY)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(StoreIdentity {
        version: format!("SQLite {version}"),
        now,
    })
}

/// As [`crate::store::Store::schema_version`].
pub(super) async fn schema_version(
    connection: &mut SqliteConnection,
) -> Result<Option<i64>, StoreError> {
    let tables: i64 = sqlx::query_scalar(HAS_SCHEMA)
        .fetch_one(&mut *connection)
        .await
        .map_err(error::of)?;
    if tables == 0 {
        return Ok(None);
    }
    sqlx::query_scalar(SCHEMA)
        .fetch_one(connection)
        .await
        .map_err(error::of)
}
