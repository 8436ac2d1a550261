//! What operators do to tasks.

use sqlx::{Connection, PgConnection};

use super::submit::Statements;
use super::{error, fan_out, history, submit};
use crate::domain::{Operator, OriginToken, Payload, StepName, Task, TaskId, TaskState, Verb};
use crate::store::durable_row::{EndedRow, ended_rows};
use crate::store::row::{TaskRow, facts_columns, task_columns};
use crate::store::verb::{
    FoundRow, Move, NewEntry, Plan, copy, not_copied, plan, skipped_itself, unread,
};
use crate::store::{Operated, StoreError, Submitted};

const FIND: &str = "select state, error, fan_out from task where id = $1 for update";

const TASK: &str = concat!("select ", task_columns!(), " from task where id = $1");

const SKIP_STEP: &str = "
update step set state = 'skipped', output = $3, error = null
where task = $1 and name = $2 and state in ('failed', 'retryable')";

const RUN_STEP_AGAIN: &str = "
update step set state = 'waiting', place = null, tries = 0, error = null, due_at = now()
where task = $1 and (state = 'retryable' or state = 'failed' and name = $2)";

/// What is below a task that is given up.
const LEFT_BEHIND: &str = "
insert into ended_parent select id from task where id = $1 and has_subtasks and finished_at is not null
on conflict do nothing";

const MOVE: &str = concat!(
    "update task set
        state = $3,
        ready_at = case when $3 = $4 then now() else ready_at end,
        finished_at = case when $5 then now() end,
        error = case when $8 is null then coalesce($6, error) end,
        output = coalesce($8, output),
        failures = case when $7 then 0 else failures end,
        crashes = case when $7 then 0 else crashes end,
        suspicions = case when $7 then 0 else suspicions end
    where id = $1 and state = $2
    returning ",
    facts_columns!(),
    ", fan_out, place"
);

/// As [`crate::store::Store::operate`].
pub(super) async fn operate(
    connection: &mut PgConnection,
    task: TaskId,
    verb: &Verb,
    by: &Operator,
) -> Result<Operated, StoreError> {
    let mut transaction = connection.begin().await.map_err(error::of)?;
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
        Ok(Plan::Copy(id, origin)) => copied(&mut transaction, task, (id, origin), by).await?,
        Ok(Plan::Move(mut step)) => {
            let failed = found.step();
            match verb {
                Verb::Skip { output } => {
                    if !skip_step(&mut transaction, task, failed.as_ref(), output).await? {
                        step = match skipped_itself(&found, failed, output)? {
                            Ok(step) => step,
                            Err(answer) => return Ok(answer),
                        };
                    }
                }
                Verb::Resume | Verb::Retry { .. } => {
                    run_step_again(&mut transaction, task, failed.as_ref()).await?;
                }
                Verb::Abandon { .. } => {}
            }
            moved(&mut transaction, task, step).await?
        }
    };
    if let Operated::Moved { task: facts, .. } = &operated {
        let entry = NewEntry::moved(facts, &found, verb, by);
        history::enter(&mut transaction, entry).await?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(operated)
}

/// Marks the step that failed as skipped, with `output` as what it returns, so that the next attempt goes on behind it. It
/// is the one that the stored error of the task names. Answers whether there is such a step.
async fn skip_step(
    connection: &mut PgConnection,
    task: TaskId,
    step: Option<&StepName>,
    output: &Payload,
) -> Result<bool, StoreError> {
    let Some(step) = step else {
        return Ok(false);
    };
    let skipped = sqlx::query(SKIP_STEP)
        .bind(task.as_uuid())
        .bind(step.as_str())
        .bind(output.as_str())
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(skipped.rows_affected() > 0)
}

/// Lets the step that failed run again, and with it all that may be retried.
async fn run_step_again(
    connection: &mut PgConnection,
    task: TaskId,
    step: Option<&StepName>,
) -> Result<(), StoreError> {
    sqlx::query(RUN_STEP_AGAIN)
        .bind(task.as_uuid())
        .bind(step.map(StepName::as_str))
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

async fn moved(
    connection: &mut PgConnection,
    task: TaskId,
    step: Move,
) -> Result<Operated, StoreError> {
    let row: EndedRow = sqlx::query_as(MOVE)
        .bind(task.as_uuid())
        .bind(step.from)
        .bind(step.to.as_str())
        .bind(TaskState::Ready.as_str())
        .bind(step.to.is_final())
        .bind(step.error)
        .bind(step.is_reset)
        .bind(step.output)
        .fetch_one(&mut *connection)
        .await
        .map_err(error::of)?;
    let (mut facts, ended) = ended_rows(vec![row]);
    let Some(facts) = facts.pop() else {
        return Err(unread(task));
    };
    let mut ready = Vec::new();
    if step.to.is_final() {
        sqlx::query(LEFT_BEHIND)
            .bind(task.as_uuid())
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
        let parents = ended.iter().map(|one| one.parent).collect();
        fan_out::lock(connection, parents).await?;
        ready = fan_out::count_ended(connection, &ended).await?;
    }
    Ok(Operated::Moved { task: facts, ready })
}

async fn copied(
    connection: &mut PgConnection,
    task: TaskId,
    (id, origin): (TaskId, Option<OriginToken>),
    by: &Operator,
) -> Result<Operated, StoreError> {
    let row: TaskRow = sqlx::query_as(TASK)
        .bind(task.as_uuid())
        .fetch_one(&mut *connection)
        .await
        .map_err(error::of)?;
    let original: Task = row.into_task()?;
    let new = [copy(original, id, origin)];
    let stored = submit::submit(connection, &new, Statements::Kept)
        .await?
        .pop();
    let Some(Submitted::Stored(facts)) = stored else {
        return Err(not_copied(task));
    };
    for entry in NewEntry::copied(task, id, by) {
        history::enter(connection, entry).await?;
    }
    Ok(Operated::Copied(facts))
}
