//! Reading, for people and for waiters.

use sqlx::PgConnection;

use super::error;
use crate::domain::limits::TREE_MAX;
use crate::domain::{ExecutorId, LogChunk, LogPosition, Task, TaskId, TaskState};
use crate::store::change::{RUNNING, attempt, ends_of_a_wait, owner, uuids, without};
use crate::store::listed::listed;
use crate::store::log::LogRow;
use crate::store::row::{TaskRow, number, task_columns};
use crate::store::time::Time;
use crate::store::{Listed, StoreError, StoreIdentity};

const TASKS: &str = concat!("select ", task_columns!(), " from task where id = any($1)");

/// The open ones: their number is small when most have ended, and no payload is read.
const OPEN: &str = "select id from task where id = any($1) and state <> all($2)";

/// Scans the tasks: an index on the executor would be written by every claim.
const OWNED: &str = concat!(
    "select ",
    task_columns!(),
    " from task where executor = $1 and state = $2 order by id limit $3"
);

/// Goes through the index `task_ready`, like the idle claim, until it has counted enough.
const AHEAD: &str = "
select count(*) from (
    select from task me join task other on other.queue = me.queue
    where me.id = $1 and me.state = $2 and other.state = $2 and (
        other.priority > me.priority
        or other.priority = me.priority and (other.ready_at, other.id) < (me.ready_at, me.id)
    )
    limit $3
) as counted";

const TREE: &str = concat!(
    "with recursive tree(member, depth) as (
        select id, 0 from task where id = $1
        union all
        select t.id, tree.depth + 1 from tree cross join lateral (
            select id from task where parent = tree.member offset 0
        ) as t
    ), capped as (
        select member, depth from tree limit $2
    )
    select ",
    task_columns!(),
    " from capped cross join lateral (select * from task where id = member offset 0) as t
    order by depth, created_at, place, id"
);

const LOGS: &str = "
select task, attempt, log_offset, stream, at, text from task_log
where task = $1 and (attempt, log_offset) >= ($2, $3)
order by attempt, log_offset limit $4";

/// Scans the tasks: an index on what is open would be written by every settlement.
const IDENTITY: &str = "select current_setting('server_version'), now()";

const HAS_SCHEMA: &str = "select to_regclass('_sqlx_migrations') is not null";

const SCHEMA: &str = "select max(version) from _sqlx_migrations where success";

/// As [`crate::store::Store::tasks`].
pub(super) async fn tasks(
    connection: &mut PgConnection,
    tasks: &[TaskId],
) -> Result<Listed, StoreError> {
    let rows: Vec<TaskRow> = sqlx::query_as(TASKS)
        .bind(uuids(tasks))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows))
}

/// As [`crate::store::Store::owned`].
pub(super) async fn owned(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
    tasks: &[TaskId],
) -> Result<Vec<TaskId>, StoreError> {
    let open: Vec<uuid::Uuid> = sqlx::query_scalar(OPEN)
        .bind(uuids(tasks))
        .bind(ends_of_a_wait())
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(without(tasks, &open))
}

/// As [`crate::store::Store::ahead`].
pub(super) async fn ahead(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
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
pub(super) async fn identity(connection: &mut PgConnection) -> Result<StoreIdentity, StoreError> {
    let (version, now): (String, Time) = sqlx::query_as(IDENTITY)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    // Debian adds the name of its package: `15.18 (Debian 15.18-0+deb12u1)`.
    let version = version.split_whitespace().next().unwrap_or_default();
    Ok(StoreIdentity {
        version: format!("PostgreSQL {version}"),
        now: now.timestamp().map_err(|cause| StoreError::Statement {
            reason: cause.to_string(),
        })?,
    })
}

/// As [`crate::store::Store::schema_version`].
pub(super) async fn schema_version(
    connection: &mut PgConnection,
) -> Result<Option<i64>, StoreError> {
    let has_schema: bool = sqlx::query_scalar(HAS_SCHEMA)
        .fetch_one(&mut *connection)
        .await
        .map_err(error::of)?;
    if !has_schema {
        return Ok(None);
    }
    sqlx::query_scalar(SCHEMA)
        .fetch_one(connection)
        .await
        .map_err(error::of)
}
