//! Cancelling trees of tasks.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{error, fan_out, history};
use crate::domain::limits::TREE_MAX;
use crate::domain::{ExecutorId, Operator, TaskEvent, TaskFacts, TaskId};
use crate::store::change::{Step, cancel_cause};
use crate::store::durable_row::{EndedRow, ended_rows};
use crate::store::row::{facts_columns, number};
use crate::store::tree::{Member, Parts, parts};
use crate::store::verb::NewEntry;
use crate::store::{Cancelled, StoreError};

/// Locks what is known of the tree, and the parent that counts its end, in the order of the ids. All in one array: with
/// `or` the planner reads the whole table (31 ms for 100,000 tasks, instead of 0.1), and without `offset 0` it may do so
/// while it does not know how few have a parent.
const LOCK: &str = "
with recursive tree(id) as (
    select id from task where id = $1
    union all
    select t.id from tree cross join lateral (
        select id from task where parent = tree.id and not outlives_parent offset 0
    ) as t
), capped as (
    select id from tree limit $2
)
select id, state, executor from task
where id = any(array(select id from capped union all select $3::uuid)) order by id for update";

/// Neither ever changes.
const PARENT: &str = "select parent from task where id = $1 and fan_out is not null";

/// What is below those that were too many is cancelled later.
const LEFT_BEHIND: &str = "
insert into ended_parent select id from task where id = any($1) and has_subtasks on conflict do nothing";

const CANCEL: &str = concat!(
    "update task set state = $3, error = $4, finished_at = now(), waiting_for = null
    where id = any($1) and state = any($2) returning ",
    facts_columns!(),
    ", fan_out, place"
);

const NOTE: &str = "
with noted as (
    update task set cancel_requested_at = now(), cancel_cause = $2
    where id = any($1) and cancel_requested_at is null
    returning id
)
insert into cancel_request (task) select id from noted on conflict do nothing";

/// As [`crate::store::Store::cancel`], or with an operator as [`crate::store::Store::cancel_by`].
pub(super) async fn cancel(
    connection: &mut PgConnection,
    task: TaskId,
    reason: &str,
    by: Option<&Operator>,
) -> Result<Cancelled, StoreError> {
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let parent: Option<Uuid> = sqlx::query_scalar(PARENT)
        .bind(task.as_uuid())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?
        .flatten();
    let members = locked(&mut transaction, task, parent).await?;
    let Parts { waiting, running } = match parts(task, &members)? {
        Ok(parts) => parts,
        Err(answer) => return Ok(answer),
    };
    let (cancelled, ready) = carry_out(&mut transaction, waiting, &running, reason).await?;
    if let Some(by) = by {
        let entry = NewEntry::cancelled(task, reason, by);
        history::enter(&mut transaction, entry).await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(Cancelled::Accepted {
        cancelled,
        running,
        ready,
    })
}

/// Cancels what waits and notes the wish for what runs; all are locked. Answers what is cancelled, and what became `ready`
/// by it.
pub(super) async fn carry_out(
    connection: &mut PgConnection,
    waiting: Vec<Uuid>,
    running: &[(TaskId, ExecutorId)],
    reason: &str,
) -> Result<(Vec<TaskFacts>, Vec<TaskFacts>), StoreError> {
    let step = Step::of(TaskEvent::Cancelled);
    let cause = cancel_cause(reason);
    let rows: Vec<EndedRow> = sqlx::query_as(CANCEL)
        .bind(&waiting)
        .bind(step.from)
        .bind(step.to)
        .bind(&cause)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    sqlx::query(LEFT_BEHIND)
        .bind(&waiting)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let running_ids: Vec<Uuid> = running.iter().map(|(task, _)| task.as_uuid()).collect();
    sqlx::query(NOTE)
        .bind(running_ids)
        .bind(&cause)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let (cancelled, ended) = ended_rows(rows);
    let ready = fan_out::count_ended(connection, &ended).await?;
    Ok((cancelled, ready))
}

/// Locks the tree until it stops growing: a sub-task that was stored while we waited for its parent is seen
/// by the next look, and no further one can be stored.
async fn locked(
    connection: &mut PgConnection,
    task: TaskId,
    parent: Option<Uuid>,
) -> Result<Vec<Member>, StoreError> {
    let mut count = 0;
    loop {
        let mut members: Vec<Member> = sqlx::query_as(LOCK)
            .bind(task.as_uuid())
            .bind(number(TREE_MAX))
            .bind(parent)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::of)?;
        members.retain(|member| Some(member.id()) != parent);
        if members.len() == count {
            return Ok(members);
        }
        count = members.len();
    }
}
