//! Cancelling trees of tasks.

use sqlx::{Connection, SqliteConnection};

use super::error;
use super::submit::hex;
use crate::domain::limits::TREE_MAX;
use crate::domain::{TaskEvent, TaskId};
use crate::store::change::{Step, cancel_cause};
use crate::store::row::{FactsRow, facts_columns, facts_of_changed, number, text};
use crate::store::time::Time;
use crate::store::tree::{Member, Parts, parts};
use crate::store::{Cancelled, StoreError};

const TREE: &str = "
with recursive tree(id) as (
    select id from task where id = ?1
    union all
    select t.id from tree join task t on t.parent = tree.id
    limit ?2
)
select id, state, executor from task where id in (select id from tree) order by id";

const CANCEL: &str = concat!(
    "update task set state = ?3, error = ?4, finished_at = ?5
    where id in (select unhex(value) from json_each(?1)) and state in (select value from json_each(?2))
    returning ",
    facts_columns!()
);

const NOTE: &str = "
update task set cancel_requested_at = ?3, cancel_cause = ?2
where id in (select unhex(value) from json_each(?1)) and cancel_requested_at is null";

const REQUEST: &str = "
insert into cancel_request (task) select unhex(value) from json_each(?1) where true on conflict do nothing";

/// As [`crate::store::Store::cancel`].
pub(super) async fn cancel(
    connection: &mut SqliteConnection,
    task: TaskId,
    reason: &str,
    now: Time,
) -> Result<Cancelled, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let answer = cancel_within(&mut transaction, task, reason, now).await?;
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
    let step = Step::of(TaskEvent::Cancelled);
    let cause = cancel_cause(reason);
    let waiting: Vec<String> = waiting.into_iter().map(hex).collect();
    let rows: Vec<FactsRow> = sqlx::query_as(CANCEL)
        .bind(text(&waiting))
        .bind(text(&step.from))
        .bind(step.to)
        .bind(&cause)
        .bind(now)
        .fetch_all(&mut *transaction)
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
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    sqlx::query(REQUEST)
        .bind(text(&running_ids))
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    Ok(Cancelled::Accepted {
        cancelled: facts_of_changed(rows),
        running,
    })
}
