//! Cancelling trees of tasks.

use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::submit::hex;
use super::{error, fan_out, history};
use crate::domain::limits::TREE_MAX;
use crate::domain::{ExecutorId, Operator, TaskEvent, TaskFacts, TaskId};
use crate::store::change::{Step, cancel_cause};
use crate::store::durable_row::{EndedRow, ended_rows};
use crate::store::row::{facts_columns, number, text};
use crate::store::time::Time;
use crate::store::tree::{Member, Parts, parts};
use crate::store::verb::NewEntry;
use crate::store::{Cancelled, StoreError};

const TREE: &str = "
with recursive tree(id) as (
    select id from task where id = ?1
    union all
    select t.id from tree join task t on t.parent = tree.id where not t.outlives_parent
    limit +?2
)
select id, state, executor from task where id in (select id from tree) order by id";

const CANCEL: &str = concat!(
    "update task set state = ?3, error = ?4, finished_at = ?5, waiting_for = null
    where id in (select unhex(value) from json_each(?1)) and state in (select value from json_each(?2))
    returning ",
    facts_columns!(),
    ", fan_out, place"
);

/// What is below those that were too many is cancelled later.
const LEFT_BEHIND: &str = "
insert into ended_parent select id from task
where id in (select unhex(value) from json_each(?1)) and has_subtasks
on conflict do nothing";

const NOTE: &str = "
update task set cancel_requested_at = ?3, cancel_cause = ?2
where id in (select unhex(value) from json_each(?1)) and cancel_requested_at is null";

const REQUEST: &str = "
insert into cancel_request (task) select unhex(value) from json_each(?1) where true on conflict do nothing";

/// As [`crate::store::Store::cancel`], or with an operator as [`crate::store::Store::cancel_by`].
pub(super) async fn cancel(
    connection: &mut SqliteConnection,
    task: TaskId,
    reason: &str,
    by: Option<&Operator>,
    now: Time,
) -> Result<Cancelled, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let answer = cancel_within(&mut transaction, task, reason, now).await?;
    if let (Some(by), Cancelled::Accepted { .. }) = (by, &answer) {
        let entry = NewEntry::cancelled(task, reason, by);
        history::enter(&mut transaction, entry, now).await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(answer)
}

/// The same in a transaction that has begun.
pub(super) async fn cancel_within(
    transaction: &mut SqliteConnection,
    task: TaskId,
    reason: &str,
    now: Time,
) -> Result<Cancelled, StoreError> {
    let members: Vec<Member> = sqlx::query_as(TREE)
        .bind(task.as_uuid())
        .bind(number(TREE_MAX))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let Parts { waiting, running } = match parts(task, &members)? {
        Ok(parts) => parts,
        Err(answer) => return Ok(answer),
    };
    let (cancelled, ready) = carry_out(transaction, waiting, &running, reason, now).await?;
    Ok(Cancelled::Accepted {
        cancelled,
        running,
        ready,
    })
}

/// Cancels what waits and notes the wish for what runs. Answers what is cancelled, and what became `ready` by it.
pub(super) async fn carry_out(
    connection: &mut SqliteConnection,
    waiting: Vec<Uuid>,
    running: &[(TaskId, ExecutorId)],
    reason: &str,
    now: Time,
) -> Result<(Vec<TaskFacts>, Vec<TaskFacts>), StoreError> {
    let step = Step::of(TaskEvent::Cancelled);
    let cause = cancel_cause(reason);
    let waiting: Vec<String> = waiting.into_iter().map(hex).collect();
    let rows: Vec<EndedRow> = sqlx::query_as(CANCEL)
        .bind(text(&waiting))
        .bind(text(&step.from))
        .bind(step.to)
        .bind(&cause)
        .bind(now)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    sqlx::query(LEFT_BEHIND)
        .bind(text(&waiting))
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let running_ids: Vec<String> = running
        .iter()
        .map(|(task, _)| hex(task.as_uuid()))
        .collect();
    sqlx::query(NOTE)
        .bind(text(&running_ids))
        .bind(&cause)
        .bind(now)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    sqlx::query(REQUEST)
        .bind(text(&running_ids))
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let (cancelled, ended) = ended_rows(rows);
    let ready = fan_out::count_ended(connection, &ended, now).await?;
    Ok((cancelled, ready))
}
