//! Taking ready tasks.

use sqlx::{Connection, SqliteConnection};

use super::submit::{self, hex};
use super::{error, settle};
use crate::domain::{ActionName, ExecutorId, NewTask, Task, TaskEvent, TaskId};
use crate::store::change::{Step, idle_found, latest_ready, owner, readable};
use crate::store::row::{TaskRow, number, task_columns, text};
use crate::store::time::Time;
use crate::store::{IdleFound, IdleLook, StoreError, Submitted, new_and_ready, with_claimed};

const CLAIM: &str = concat!(
    "update task set
        state = ?4,
        attempt = case when state = ?4 then attempt else min(attempt, 2147483646) + 1 end,
        executor = ?1,
        started_at = case when state = ?4 then started_at else ?5 end
    where id in (select unhex(value) from json_each(?2))
        and (state in (select value from json_each(?3)) or state = ?4 and executor = ?1)
        and exists (select 1 from executor where id = ?1 and lease_ends_at > ?5 and lost_at is null and dead_at is null)
    returning ",
    task_columns!()
);

/// Goes through the index `task_ready` in its order and stops when it has enough. What it costs: it passes
/// the queue's tasks that are not `ready` any more, in proportion to the retained history of the queue; those that lie
/// before its marks it passes in the index alone.
const CLAIM_IDLE: &str = concat!(
    "update task set state = ?4, attempt = min(attempt, 2147483646) + 1, executor = ?1, started_at = ?5
    where id in (
        select t.id from task t
        where t.queue = ?2 and t.state in (select value from json_each(?3))
            and t.action in (select value from json_each(?6))
            and t.ready_at <= ?7
            and t.ready_at >= ifnull(
                case when t.priority > ?10 then ?12 when t.priority = ?10 then ?11 else ?9 end, t.ready_at)
        order by t.priority desc, t.ready_at, t.id limit +?8
    ) and exists (select 1 from executor where id = ?1 and lease_ends_at > ?5 and lost_at is null and dead_at is null)
    returning ",
    task_columns!()
);

/// As [`crate::store::Store::claim`].
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    tasks: &[TaskId],
    now: Time,
) -> Result<Vec<Task>, StoreError> {
    let step = Step::of(TaskEvent::Claimed);
    let ids: Vec<String> = tasks.iter().map(|task| hex(task.as_uuid())).collect();
    let rows = sqlx::query_as(CLAIM)
        .bind(owner(executor))
        .bind(text(&ids))
        .bind(text(&step.from))
        .bind(step.to)
        .bind(now)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    read(connection, executor, rows, now).await
}

/// As [`crate::store::Store::submit_and_claim`].
pub(super) async fn submit_and_claim(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    tasks: &[NewTask],
    now: Time,
) -> Result<Vec<(Submitted, Option<Task>)>, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let submitted = submit::enter(&mut transaction, tasks, tasks.len(), now).await?;
    let new = new_and_ready(&submitted);
    let claimed = if new.is_empty() {
        Vec::new()
    } else {
        claim(&mut transaction, executor, &new, now).await?
    };
    transaction.commit().await.map_err(error::of)?;
    Ok(with_claimed(submitted, claimed))
}

/// As [`crate::store::Store::claim_idle`].
pub(super) async fn claim_idle(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    look: &IdleLook,
    now: Time,
) -> Result<IdleFound, StoreError> {
    let step = Step::of(TaskEvent::Claimed);
    let actions: Vec<&str> = look.actions.iter().map(ActionName::as_str).collect();
    let rows = sqlx::query_as(CLAIM_IDLE)
        .bind(owner(executor))
        .bind(look.queue.as_str())
        .bind(text(&step.from))
        .bind(step.to)
        .bind(now)
        .bind(text(&actions))
        .bind(latest_ready(look, now))
        .bind(number(look.limit))
        .bind(look.since.map(Time::from))
        .bind(look.resume.map(|resume| resume.priority))
        .bind(look.resume.map(|resume| Time::from(resume.ready_at)))
        .bind(look.resume.map(|resume| Time::from(resume.above_since)))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let mut tasks = read(connection, executor, rows, now).await?;
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.priority), task.ready_at, task.id));
    idle_found(tasks, now)
}

async fn read(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    rows: Vec<TaskRow>,
    now: Time,
) -> Result<Vec<Task>, StoreError> {
    let (tasks, broken) = readable(rows)?;
    if !broken.is_empty() {
        settle::write(connection, owner(executor), &broken, now).await?;
    }
    Ok(tasks)
}
