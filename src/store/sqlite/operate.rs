//! What operators do to tasks.

use sqlx::{Connection, SqliteConnection};

use super::{error, history, submit};
use crate::domain::{
    Operator, OriginToken, Payload, Task, TaskFacts, TaskId, TaskState, Verb, VerbError,
};
use crate::store::row::{FactsRow, TaskRow, facts_columns, task_columns};
use crate::store::time::Time;
use crate::store::verb::{FoundRow, Move, NewEntry, Plan, copy, not_copied, plan};
use crate::store::{Operated, StoreError};

const FIND: &str = "select state, error from task where id = ?1";

const TASK: &str = concat!("select ", task_columns!(), " from task where id = ?1");

const FACTS: &str = concat!("select ", facts_columns!(), " from task where id = ?1");

const MOVE: &str = concat!(
    "update task set
        state = ?3,
        ready_at = case when ?3 = ?4 then ?8 else ready_at end,
        finished_at = case when ?5 then ?8 end,
        error = ifnull(?6, error),
        failures = case when ?7 then 0 else failures end,
        crashes = case when ?7 then 0 else crashes end,
        suspicions = case when ?7 then 0 else suspicions end
    where id = ?1 and state = ?2
    returning ",
    facts_columns!()
);

/// As [`crate::store::Store::operate`].
pub(super) async fn operate(
    connection: &mut SqliteConnection,
    task: TaskId,
    verb: &Verb,
    by: &Operator,
    now: Time,
) -> Result<Operated, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let found: Option<FoundRow> = sqlx::query_as(FIND)
        .bind(task.as_uuid())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    let Some(found) = found else {
        return Ok(Operated::Unknown);
    };
    let operated = match plan(verb, &found)? {
        Err(answer) => return Ok(answer),
        Ok(Plan::Copy(id, origin)) => copied(&mut transaction, task, (id, origin), by, now).await?,
        Ok(Plan::Move(step)) => {
            if let Verb::Skip { output } = verb
                && !mark_failed_step(&mut transaction, task, output).await?
            {
                return Ok(Operated::Refused(VerbError::NoStep));
            }
            moved(&mut transaction, task, step, now).await?
        }
    };
    if let Operated::Moved(_) = operated {
        history::enter(&mut transaction, NewEntry::moved(task, verb, by), now).await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(operated)
}

/// Marks the step that failed as done, with `output` as what it returns, so that the next attempt goes on behind it. The
/// step is the one that the stored error of the task names, and its row is written in the transaction that makes the task
/// ready. Answers whether there is such a step: as long as steps are not stored there is none.
#[expect(
    clippy::unused_async,
    reason = "it writes the row of the step as soon as there are rows of steps"
)]
async fn mark_failed_step(
    _: &mut SqliteConnection,
    _: TaskId,
    _: &Payload,
) -> Result<bool, StoreError> {
    Ok(false)
}

async fn moved(
    connection: &mut SqliteConnection,
    task: TaskId,
    step: Move,
    now: Time,
) -> Result<Operated, StoreError> {
    let row: FactsRow = sqlx::query_as(MOVE)
        .bind(task.as_uuid())
        .bind(step.from)
        .bind(step.to.as_str())
        .bind(TaskState::Ready.as_str())
        .bind(step.to.is_final())
        .bind(step.error)
        .bind(step.is_reset)
        .bind(now)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(Operated::Moved(row.into_facts()?))
}

async fn copied(
    connection: &mut SqliteConnection,
    task: TaskId,
    (id, origin): (TaskId, Option<OriginToken>),
    by: &Operator,
    now: Time,
) -> Result<Operated, StoreError> {
    let row: TaskRow = sqlx::query_as(TASK)
        .bind(task.as_uuid())
        .fetch_one(&mut *connection)
        .await
        .map_err(error::of)?;
    let original: Task = row.into_task()?;
    let new = [copy(original, id, origin)];
    if submit::insert(connection, &new, now).await?.is_empty() {
        return Err(not_copied(task));
    }
    let row: FactsRow = sqlx::query_as(FACTS)
        .bind(id.as_uuid())
        .fetch_one(&mut *connection)
        .await
        .map_err(error::of)?;
    let facts: TaskFacts = row.into_facts()?;
    for entry in NewEntry::copied(task, id, by) {
        history::enter(connection, entry, now).await?;
    }
    Ok(Operated::Copied(facts))
}
