//! Cancelling trees of tasks.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{error, history};
use crate::domain::limits::TREE_MAX;
use crate::domain::{Operator, TaskEvent, TaskId};
use crate::store::change::{Step, cancel_cause};
use crate::store::row::{FactsRow, facts_columns, facts_of_changed, number};
use crate::store::tree::{Member, Parts, parts};
use crate::store::verb::NewEntry;
use crate::store::{Cancelled, StoreError};

/// Locks what is known of the tree, in the order of the ids.
const LOCK: &str = "
with recursive tree(id) as (
    select id from task where id = $1
    union all
    select t.id from task t join tree on t.parent = tree.id
), capped as (
    select id from tree limit $2
)
select id, state, executor from task where id in (select id from capped) order by id for update";

const CANCEL: &str = concat!(
    "update task set state = $3, error = $4, finished_at = now()
    where id = any($1) and state = any($2) returning ",
    facts_columns!()
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
    let members = locked(&mut transaction, task).await?;
    let Parts { waiting, running } = match parts(task, &members)? {
        Ok(parts) => parts,
        Err(answer) => return Ok(answer),
    };
    let step = Step::of(TaskEvent::Cancelled);
    let cause = cancel_cause(reason);
    let rows: Vec<FactsRow> = sqlx::query_as(CANCEL)
        .bind(waiting)
        .bind(step.from)
        .bind(step.to)
        .bind(&cause)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let running_ids: Vec<Uuid> = running.iter().map(|(task, _)| task.as_uuid()).collect();
    sqlx::query(NOTE)
        .bind(running_ids)
        .bind(&cause)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    if let Some(by) = by {
        history::enter(&mut transaction, NewEntry::cancelled(task, reason, by)).await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(Cancelled::Accepted {
        cancelled: facts_of_changed(rows),
        running,
    })
}

/// Locks the tree until it stops growing: a sub-task that was stored while we waited for its parent is seen
/// by the next look, and no further one can be stored.
async fn locked(connection: &mut PgConnection, task: TaskId) -> Result<Vec<Member>, StoreError> {
    let mut count = 0;
    loop {
        let members: Vec<Member> = sqlx::query_as(LOCK)
            .bind(task.as_uuid())
            .bind(number(TREE_MAX))
            .fetch_all(&mut *connection)
            .await
            .map_err(error::of)?;
        if members.len() == count {
            return Ok(members);
        }
        count = members.len();
    }
}
