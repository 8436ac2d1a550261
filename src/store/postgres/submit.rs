//! Storing new tasks.

use std::collections::HashSet;

use sqlx::PgConnection;
use uuid::Uuid;

use super::error;
use crate::domain::{IdempotencyKey, NewTask, OriginToken, TaskId, TaskState};
use crate::store::change::{attempt, uuids};
use crate::store::row::{facts_columns, labels_text, number, options_text};
use crate::store::submission::{Entered, Known, KnownRow, answers, keys};
use crate::store::time::Time;
use crate::store::{StoreError, Submitted};

/// One statement for a batch. Parents are locked against their end, in the order of their ids, until the
/// children are there: who cancels a tree sees all of it. They are marked, so that their end cancels what is below. Rows are inserted in the order of their keys and ids,
/// because two batches with the same ones wait for each other.
const SUBMIT: &str = "
with wanted as (
    select * from unnest(
        $1::uuid[], $2::text[], $3::text[], $4::int2[], $5::uuid[], $6::text[],
        $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[], $11::text[], $15::text[], $16::text[],
        $17::int4[], $18::bool[]
    ) with ordinality as w(
        id, action, queue, priority, parent, origin, run_at, deadline, labels, options, input, key, fan_out,
        sibling, outlives, place
    )
), parents as (
    select id, root, deadline, finished_at is not null or cancel_requested_at is not null as is_ended
    from task where id = any($12) order by id for no key update
), judged as (
    select w.*, q.name is not null as has_queue, p.id is not null as has_parent,
        coalesce(p.is_ended, false) as is_ended, p.root as parent_root, p.deadline as parent_deadline
    from wanted w
    left join queue q on q.name = w.queue
    left join parents p on p.id = w.parent
), inserted as (
    insert into task (
        id, action, queue, state, priority, parent, root, origin, created_at, ready_at, run_at, deadline,
        labels, options, input, idempotency_key, fan_out, place, outlives_parent
    )
    select j.id, j.action, j.queue,
        case when j.place > $19 then $20 when j.run_at > now() then $13 else $14 end, j.priority, j.parent,
        coalesce(j.parent_root, j.id), j.origin, now(),
        case when j.place > $19 or j.run_at > now() then null else now() end,
        j.run_at, case when j.outlives then j.deadline else least(j.deadline, j.parent_deadline) end, j.labels, j.options, j.input,
        j.key, j.fan_out, j.sibling, j.outlives
    from judged j
    where j.has_queue and (j.parent is null or j.has_parent and not j.is_ended)
    order by j.key collate \"C\", j.id, j.place
    on conflict do nothing
    returning id, idempotency_key, state, run_at, deadline, parent
), marked as (
    update task set has_subtasks = true
    where id = any(array(select parent from inserted where parent is not null)) and not has_subtasks
), timed as (
    insert into timer (task, kind, due_at)
    select id, 'start', run_at from inserted where state = $13
    union all
    select id, 'deadline', deadline from inserted where deadline is not null
)
select j.id, j.has_queue, j.has_parent, j.is_ended, i.state
from judged j left join inserted i on i.id = j.id and i.idempotency_key is not distinct from j.key
order by j.place";

const KNOWN_IDS: &str = concat!(
    "select ",
    facts_columns!(),
    ", idempotency_key from task where id = any($1)"
);

/// The second condition says that the partial index will do.
const KNOWN_KEYS: &str = concat!(
    "select ",
    facts_columns!(),
    ", idempotency_key from task where idempotency_key = any($1) and idempotency_key is not null"
);

/// Whether a connection keeps the statements of a call prepared. Ours do, and plan each execution anew; in somebody
/// else's connection a kept statement could keep a plan that was made while the table was empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statements {
    Kept,
    UsedOnce,
}

/// As [`crate::store::Store::submit`].
pub(super) async fn submit(
    connection: &mut PgConnection,
    tasks: &[NewTask],
    statements: Statements,
) -> Result<Vec<Submitted>, StoreError> {
    let entered = enter(connection, tasks, tasks.len(), statements).await?;
    // By a statement of its own: it sees what others have stored since the first one began.
    let others: HashSet<Uuid> = entered
        .iter()
        .filter(|one| one.state.is_none())
        .map(|one| one.id)
        .collect();
    let known = if others.is_empty() {
        Known::default()
    } else {
        let others = others.into_iter().collect();
        known(connection, others, keys(tasks), statements).await?
    };
    answers(tasks, &entered, known)
}

/// Inserts what may be stored. All behind the first `unblocked` have to wait for their turn.
pub(super) async fn enter(
    connection: &mut PgConnection,
    tasks: &[NewTask],
    unblocked: usize,
    statements: Statements,
) -> Result<Vec<Entered>, StoreError> {
    let asked = || tasks.iter().map(|task| &task.submission);
    let parents: Vec<_> = asked().filter_map(|one| one.parent).collect();
    let ids: Vec<Uuid> = tasks.iter().map(|task| task.id.as_uuid()).collect();
    sqlx::query_as(SUBMIT)
        .bind(ids)
        .bind(asked().map(|one| one.action.as_str()).collect::<Vec<_>>())
        .bind(asked().map(|one| one.queue.as_str()).collect::<Vec<_>>())
        .bind(asked().map(|one| one.priority).collect::<Vec<_>>())
        .bind(
            asked()
                .map(|one| one.parent.map(TaskId::as_uuid))
                .collect::<Vec<_>>(),
        )
        .bind(
            tasks
                .iter()
                .map(|task| task.origin.as_ref().map(OriginToken::as_str))
                .collect::<Vec<_>>(),
        )
        .bind(
            asked()
                .map(|one| one.run_at.map(Time::from))
                .collect::<Vec<_>>(),
        )
        .bind(
            asked()
                .map(|one| one.deadline.map(Time::from))
                .collect::<Vec<_>>(),
        )
        .bind(
            asked()
                .map(|one| labels_text(&one.labels))
                .collect::<Vec<_>>(),
        )
        .bind(
            asked()
                .map(|one| options_text(&one.options))
                .collect::<Vec<_>>(),
        )
        .bind(asked().map(|one| one.input.as_str()).collect::<Vec<_>>())
        .bind(uuids(&parents))
        .bind(TaskState::at_submission(false).as_str())
        .bind(TaskState::at_submission(true).as_str())
        .bind(
            asked()
                .map(|one| one.idempotency_key.as_ref().map(IdempotencyKey::as_str))
                .collect::<Vec<_>>(),
        )
        .bind(
            tasks
                .iter()
                .map(|task| task.fan_out.as_ref().map(|place| place.name.as_str()))
                .collect::<Vec<_>>(),
        )
        .bind(
            tasks
                .iter()
                .map(|task| task.fan_out.as_ref().map(|place| attempt(place.place)))
                .collect::<Vec<_>>(),
        )
        .bind(asked().map(|one| one.outlives_parent).collect::<Vec<_>>())
        .bind(number(unblocked))
        .bind(TaskState::Blocked.as_str())
        .persistent(statements == Statements::Kept)
        .fetch_all(connection)
        .await
        .map_err(error::of)
}

pub(super) async fn known(
    connection: &mut PgConnection,
    tasks: Vec<Uuid>,
    keys: Vec<&str>,
    statements: Statements,
) -> Result<Known, StoreError> {
    let mut rows: Vec<KnownRow> = sqlx::query_as(KNOWN_IDS)
        .bind(tasks)
        .persistent(statements == Statements::Kept)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    if !keys.is_empty() {
        let others: Vec<KnownRow> = sqlx::query_as(KNOWN_KEYS)
            .bind(keys)
            .persistent(statements == Statements::Kept)
            .fetch_all(connection)
            .await
            .map_err(error::of)?;
        rows.extend(others);
    }
    Known::of(rows)
}
