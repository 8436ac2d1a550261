//! Taking ready tasks.

use sqlx::postgres::PgRow;
use sqlx::{Connection, FromRow, PgConnection, Row};
use uuid::Uuid;

use super::submit::{self, Statements};
use super::{error, settle};
use crate::domain::{ActionName, ExecutorId, NewTask, Task, TaskEvent, TaskId};
use crate::store::change::{Step, idle_found, just_before, owner, readable, uuids};
use crate::store::row::{TaskRow, number, task_columns};
use crate::store::time::{Time, micros};
use crate::store::{IdleFound, IdleLook, StoreError, Submitted, new_and_ready, with_claimed};

/// The executor's row is locked against whoever takes over from it, so that no task is claimed by an executor
/// that is just found lost; renewals go on. A task that somebody else has locked is being claimed, cancelled
/// or given a child: it is skipped, and found by the idle claim if it is still `ready` then.
const CLAIM: &str = concat!(
    "with live as (
        select id from executor where id = $1 and lease_ends_at > now() and lost_at is null and dead_at is null for key share
    ), held as (
        select t.id as task from task t
        where t.id = any($2) and (t.state = any($3) or t.state = $4 and t.executor = $1)
            and exists (select from live)
        order by t.id for update skip locked
    )
    update task set
        state = $4,
        attempt = case when state = $4 then attempt else least(attempt, 2147483646) + 1 end,
        executor = $1,
        started_at = case when state = $4 then started_at else now() end
    from held where id = held.task
    returning ",
    task_columns!()
);

/// Hops from priority to priority (there are few), and for each goes through the index `task_ready` in its order, from
/// where the last look ended. It tells the time, and answers one row without a task when it finds none. What it costs: it
/// passes the tasks since then that are not `ready` any more; with no $8 all of the queue's retained history, about a second
/// for a million tasks.
const CLAIM_IDLE: &str = concat!(
    "with recursive live as (
        select id from executor where id = $1 and lease_ends_at > now() and lost_at is null and dead_at is null for key share
    ), level(priority) as (
        select max(priority) from task where queue = $2
        union all
        select (select max(t.priority) from task t where t.queue = $2 and t.priority < l.priority)
        from level l where l.priority is not null
    ), held as (
        select one.id as task
        from level l cross join lateral (
            select t.id, t.ready_at from task t
            where t.queue = $2 and t.priority = l.priority
                and t.ready_at >= coalesce(
                    case when l.priority > $10 then $12 when l.priority = $10 then $11 else $8 end, '-infinity')
                and t.ready_at <= least(now() - $6 * interval '1 microsecond', $9)
                and t.state = any($3) and t.action = any($5) and exists (select from live)
            order by t.ready_at, t.id limit $7 for update skip locked
        ) one
        where l.priority is not null
        order by l.priority desc, one.ready_at, one.id limit $7
    ), taken as (
        update task set state = $4, attempt = least(attempt, 2147483646) + 1, executor = $1, started_at = now()
        from held where id = held.task
        returning ",
    task_columns!(),
    "
    )
    select now() as looked_at, taken.* from (select) as look left join taken on true"
);

/// A row of [`CLAIM_IDLE`].
struct LookedRow {
    looked_at: Time,
    task: Option<TaskRow>,
}

impl FromRow<'_, PgRow> for LookedRow {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let is_found = row.try_get::<Option<Uuid>, _>("id")?.is_some();
        Ok(Self {
            looked_at: row.try_get("looked_at")?,
            task: is_found.then(|| TaskRow::from_row(row)).transpose()?,
        })
    }
}

/// As [`crate::store::Store::claim`].
pub(super) async fn claim(
    connection: &mut PgConnection,
    executor: ExecutorId,
    tasks: &[TaskId],
) -> Result<Vec<Task>, StoreError> {
    let step = Step::of(TaskEvent::Claimed);
    let rows = sqlx::query_as(CLAIM)
        .bind(owner(executor))
        .bind(uuids(tasks))
        .bind(step.from)
        .bind(step.to)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    read(connection, executor, rows).await
}

/// As [`crate::store::Store::submit_and_claim`].
pub(super) async fn submit_and_claim(
    connection: &mut PgConnection,
    executor: ExecutorId,
    tasks: &[NewTask],
) -> Result<Vec<(Submitted, Option<Task>)>, StoreError> {
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let submitted = submit::submit(&mut transaction, tasks, Statements::Kept).await?;
    let new = new_and_ready(&submitted);
    let claimed = if new.is_empty() {
        Vec::new()
    } else {
        claim(&mut transaction, executor, &new).await?
    };
    transaction.commit().await.map_err(error::of)?;
    Ok(with_claimed(submitted, claimed))
}

/// As [`crate::store::Store::claim_idle`].
pub(super) async fn claim_idle(
    connection: &mut PgConnection,
    executor: ExecutorId,
    look: &IdleLook,
) -> Result<IdleFound, StoreError> {
    let step = Step::of(TaskEvent::Claimed);
    let actions: Vec<&str> = look.actions.iter().map(ActionName::as_str).collect();
    let rows: Vec<LookedRow> = sqlx::query_as(CLAIM_IDLE)
        .bind(owner(executor))
        .bind(look.queue.as_str())
        .bind(step.from)
        .bind(step.to)
        .bind(actions)
        .bind(micros(look.older_than))
        .bind(number(look.limit))
        .bind(look.since.map(Time::from))
        .bind(look.before.map(just_before))
        .bind(look.resume.map(|resume| resume.priority))
        .bind(look.resume.map(|resume| Time::from(resume.ready_at)))
        .bind(look.resume.map(|resume| Time::from(resume.above_since)))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let looked_at = rows.first().map(|row| row.looked_at);
    let looked_at = looked_at.ok_or_else(|| StoreError::Statement {
        reason: "a look for ready tasks was answered with no row, not even with the time"
            .to_owned(),
    })?;
    let rows = rows.into_iter().filter_map(|row| row.task).collect();
    let mut tasks = read(connection, executor, rows).await?;
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.priority), task.ready_at, task.id));
    idle_found(tasks, looked_at)
}

async fn read(
    connection: &mut PgConnection,
    executor: ExecutorId,
    rows: Vec<TaskRow>,
) -> Result<Vec<Task>, StoreError> {
    let (tasks, broken) = readable(rows)?;
    if !broken.is_empty() {
        settle::write(connection, owner(executor), &broken).await?;
    }
    Ok(tasks)
}
