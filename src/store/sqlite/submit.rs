//! Storing new tasks.

use std::collections::HashMap;

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::error;
use crate::domain::{IdempotencyKey, NewTask, OriginToken, TaskState};
use crate::store::row::{facts_columns, labels_text, number, options_text, text};
use crate::store::submission::{Entered, Known, KnownRow, answers, keys};
use crate::store::time::Time;
use crate::store::{StoreError, Submitted};

/// Inserts what may be stored. Nothing changes between this statement and the next ones: the transaction has
/// the only write lock.
const INSERT: &str = "
insert into task (
    id, action, queue, state, priority, parent, root, origin, created_at, ready_at, run_at, deadline, labels,
    options, input, idempotency_key, fan_out, place, outlives_parent
)
select w.id, w.action, w.queue,
    case when w.place >= ?5 then ?6 when w.run_at > ?2 then ?3 else ?4 end, w.priority, w.parent,
    coalesce(p.root, w.id), w.origin, ?2, case when w.place >= ?5 or w.run_at > ?2 then null else ?2 end, w.run_at,
    case when w.outlives then w.deadline else coalesce(min(w.deadline, p.deadline), w.deadline, p.deadline) end, w.labels, w.options, w.input, w.key,
    w.fan_out, w.sibling, w.outlives
from (
    select cast(key as integer) as place, unhex(value ->> 0) as id, value ->> 1 as action, value ->> 2 as queue,
        value ->> 3 as priority, unhex(value ->> 4) as parent, value ->> 5 as origin, value ->> 6 as run_at,
        value ->> 7 as deadline, value ->> 8 as labels, value ->> 9 as options, value ->> 10 as input,
        value ->> 11 as key, value ->> 12 as fan_out, value ->> 13 as sibling, value ->> 14 as outlives
    from json_each(?1)
) as w
join queue q on q.name = w.queue
left join task p on p.id = w.parent
where w.parent is null or (p.id is not null and p.finished_at is null and p.cancel_requested_at is null)
order by w.place
on conflict do nothing
returning id, state, run_at, deadline";

const TIME: &str = "
insert into timer (task, kind, due_at)
select id, 'start', run_at from task
where id in (select unhex(value) from json_each(?1)) and state = ?2
union all
select id, 'deadline', deadline from task
where id in (select unhex(value) from json_each(?1)) and deadline is not null";

/// Their end cancels what is below.
const MARK: &str = "
update task set has_subtasks = 1
where id in (select t.parent from task t where t.id in (select unhex(value) from json_each(?1)))
    and not has_subtasks";

/// What is so of those that were not stored.
const JUDGE: &str = "
select unhex(w.value ->> 0) as id,
    exists (select 1 from queue q where q.name = w.value ->> 1) as has_queue,
    p.id is not null as has_parent,
    p.finished_at is not null or p.cancel_requested_at is not null as is_ended,
    null as state
from json_each(?1) as w left join task p on p.id = unhex(w.value ->> 2)
order by w.key";

const KNOWN_IDS: &str = concat!(
    "select ",
    facts_columns!(),
    ", idempotency_key from task where id in (select unhex(value) from json_each(?1))"
);

/// The second condition says that the partial index will do.
const KNOWN_KEYS: &str = concat!(
    "select ",
    facts_columns!(),
    ", idempotency_key from task
    where idempotency_key in (select value from json_each(?1)) and idempotency_key is not null"
);

#[derive(sqlx::FromRow)]
pub(super) struct Inserted {
    id: Uuid,
    state: String,
    run_at: Option<Time>,
    deadline: Option<Time>,
}

/// As [`crate::store::Store::submit`].
pub(super) async fn submit(
    connection: &mut SqliteConnection,
    tasks: &[NewTask],
    now: Time,
) -> Result<Vec<Submitted>, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let submitted = enter(&mut transaction, tasks, tasks.len(), now).await?;
    transaction.commit().await.map_err(error::of)?;
    Ok(submitted)
}

/// Stores what may be stored, within a transaction. All behind the first `unblocked` have to wait for their turn.
pub(super) async fn enter(
    connection: &mut SqliteConnection,
    tasks: &[NewTask],
    unblocked: usize,
    now: Time,
) -> Result<Vec<Submitted>, StoreError> {
    let inserted = insert(connection, tasks, unblocked, now).await?;
    let (entered, known) = if inserted.len() == tasks.len() {
        (Vec::new(), Known::default())
    } else {
        (
            judge(connection, tasks).await?,
            known(connection, tasks).await?,
        )
    };
    let mut stored: HashMap<Uuid, String> = inserted
        .into_iter()
        .map(|one| (one.id, one.state))
        .collect();
    let mut judged = entered.into_iter();
    let entered: Vec<Entered> = tasks
        .iter()
        .map(|task| {
            let id = task.id.as_uuid();
            let judged = judged.next().unwrap_or(Entered {
                id,
                has_queue: true,
                has_parent: true,
                is_ended: false,
                state: None,
            });
            Entered {
                state: stored.remove(&id),
                ..judged
            }
        })
        .collect();
    answers(tasks, &entered, known)
}

/// Inserts what may be stored, in the transaction of `connection`; answers with what was.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    tasks: &[NewTask],
    unblocked: usize,
    now: Time,
) -> Result<Vec<Inserted>, StoreError> {
    let batch: Vec<_> = tasks
        .iter()
        .map(|task| {
            let one = &task.submission;
            json!([
                hex(task.id.as_uuid()),
                one.action.as_str(),
                one.queue.as_str(),
                one.priority,
                one.parent.map(|parent| hex(parent.as_uuid())),
                task.origin.as_ref().map(OriginToken::as_str),
                one.run_at.map(|time| Time::from(time).0),
                one.deadline.map(|time| Time::from(time).0),
                labels_text(&one.labels),
                options_text(&one.options),
                one.input.as_str(),
                one.idempotency_key.as_ref().map(IdempotencyKey::as_str),
                task.fan_out.as_ref().map(|place| place.name.as_str()),
                task.fan_out.as_ref().map(|place| place.place),
                i32::from(one.outlives_parent),
            ])
        })
        .collect();
    let scheduled = TaskState::at_submission(false).as_str();
    let inserted: Vec<Inserted> = sqlx::query_as(INSERT)
        .bind(text(&batch))
        .bind(now)
        .bind(scheduled)
        .bind(TaskState::at_submission(true).as_str())
        .bind(number(unblocked))
        .bind(TaskState::Blocked.as_str())
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    if tasks.iter().any(|task| task.submission.parent.is_some()) {
        let ids: Vec<String> = inserted.iter().map(|one| hex(one.id)).collect();
        sqlx::query(MARK)
            .bind(text(&ids))
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
    }
    let timed: Vec<String> = inserted
        .iter()
        .filter(|one| one.deadline.is_some() || one.run_at.is_some() && one.state == scheduled)
        .map(|one| hex(one.id))
        .collect();
    if !timed.is_empty() {
        sqlx::query(TIME)
            .bind(text(&timed))
            .bind(scheduled)
            .execute(connection)
            .await
            .map_err(error::of)?;
    }
    Ok(inserted)
}

async fn judge(
    connection: &mut SqliteConnection,
    tasks: &[NewTask],
) -> Result<Vec<Entered>, StoreError> {
    let batch: Vec<_> = tasks
        .iter()
        .map(|task| {
            json!([
                hex(task.id.as_uuid()),
                task.submission.queue.as_str(),
                task.submission.parent.map(|parent| hex(parent.as_uuid())),
            ])
        })
        .collect();
    sqlx::query_as(JUDGE)
        .bind(text(&batch))
        .fetch_all(connection)
        .await
        .map_err(error::of)
}

async fn known(connection: &mut SqliteConnection, tasks: &[NewTask]) -> Result<Known, StoreError> {
    let ids: Vec<String> = tasks.iter().map(|task| hex(task.id.as_uuid())).collect();
    let mut rows: Vec<KnownRow> = sqlx::query_as(KNOWN_IDS)
        .bind(text(&ids))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let keys = keys(tasks);
    if !keys.is_empty() {
        let others: Vec<KnownRow> = sqlx::query_as(KNOWN_KEYS)
            .bind(text(&keys))
            .fetch_all(connection)
            .await
            .map_err(error::of)?;
        rows.extend(others);
    }
    Known::of(rows)
}

/// An id for `unhex`.
pub(super) fn hex(id: Uuid) -> String {
    id.simple().to_string()
}
