//! Signals, and waking whoever waits.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::error;
use crate::domain::limits::SIGNALS_MAX;
use crate::domain::{ExecutorId, IdempotencyKey, NewSignal, TaskEvent, TaskFacts, signal_mark};
use crate::store::change::{RUNNING, Step, attempt, owner};
use crate::store::durable_row::TookRow;
use crate::store::row::{FactsRow, facts_columns, facts_of_changed};
use crate::store::signalled::{Receiver, Stored, keys, signalled};
use crate::store::{Signalled, StoreError, TakeSignal, TookSignal};

const RECEIVERS: &str = "
select id, state, executor from task where id = any($1) order by id for update";

const WAITING: &str = "
select task, count(*) from signal where task = any($1) and step is null group by task";

const KNOWN: &str = "
select task, key from signal where task = any($1) and key = any($2)";

/// In the order in which they came.
const STORE: &str = "
insert into signal (task, name, key, payload, at)
select w.task, w.name, w.key, w.payload, now()
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) with ordinality as w(task, name, key, payload, number)
order by w.number
on conflict do nothing
returning task, key";

const WAKE: &str = concat!(
    "update task set state = $4, ready_at = now(), waiting_for = null
    from (
        select distinct t.id as woken from unnest($1::uuid[], $2::text[]) as w(task, mark)
        join task t on t.id = w.task and position(w.mark in t.waiting_for) > 0
    ) as found
    where id = woken and state = any($3)
    returning ",
    facts_columns!()
);

/// What happened while the task was being suspended. By a statement of its own: it sees what was committed before the
/// lock was taken. With `exists` instead of `limit 1` a plan that was made while these tables were empty might read all of
/// them.
const WAKE_SATISFIED: &str = concat!(
    "update task set state = $3, ready_at = now(), waiting_for = null
    where id = any($1) and state = any($2) and (
        (
            select true from signal s where s.task = task.id and s.step is null
                and position(' signal:' || s.name || ' ' in task.waiting_for) > 0
            limit 1
        )
        or (
            select true from timer m where m.task = task.id and m.kind = 'wake' and m.due_at <= now()
                and position(' timer ' in task.waiting_for) > 0
            limit 1
        )
        or (
            select true from fan_out f where f.task = task.id
                and position(' fan_out:' || f.name || ' ' in task.waiting_for) > 0
                and (
                    f.is_complete and f.open = 0
                    or f.failed > 0 and f.on_failure = 'fail_fast'
                    or f.is_complete and f.on_failure like 'tolerate:%'
                        and f.failed::int8 * 100 > f.stored::int8 * substr(f.on_failure, 10)::int8
                )
            limit 1
        )
    )
    returning ",
    facts_columns!()
);

/// A step that has taken its signal before, and never heard of it, is told again.
const TAKE: &str = "
with held as (
    select id from task where id = $2 and attempt = $3 and executor = $1 and state = $4 for share
), before as (
    select output from step where task = $2 and name = $6 and place is not null
), next as (
    select s.id as number from signal s
    where s.task = $2 and s.name = $5 and s.step is null
        and exists (select from held) and not exists (select from before)
    order by s.id limit 1 for update
), taken as (
    update signal set step = $6 from next where id = next.number returning payload
), ended as (
    insert into step (task, name, kind, state, place, output)
    select $2, $6, 'signal', 'done', $7, payload from taken
    on conflict (task, name) do update set
        state = 'done', place = excluded.place, output = excluded.output, due_at = null
)
select exists (select from held) as is_held,
    coalesce((select payload from taken), (select output from before)) as payload";

/// As [`crate::store::Store::signal`].
pub(super) async fn signal(
    connection: &mut PgConnection,
    signals: &[NewSignal],
) -> Result<Vec<Signalled>, StoreError> {
    let tasks: Vec<Uuid> = signals.iter().map(|one| one.task.as_uuid()).collect();
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let receivers: Vec<Receiver> = sqlx::query_as(RECEIVERS)
        .bind(&tasks)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let waiting: Vec<(Uuid, i64)> = sqlx::query_as(WAITING)
        .bind(&tasks)
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let mut stored = Stored::new(receivers, waiting, SIGNALS_MAX)?;
    if stored.is_crowded(signals) {
        let known = sqlx::query_as(KNOWN)
            .bind(&tasks)
            .bind(keys(signals))
            .fetch_all(&mut *transaction)
            .await
            .map_err(error::of)?;
        stored.know(known);
    }
    let taken: Vec<&NewSignal> = signals.iter().filter(|one| stored.admits(one)).collect();
    let rows: Vec<(Uuid, Option<String>)> = sqlx::query_as(STORE)
        .bind(
            taken
                .iter()
                .map(|one| one.task.as_uuid())
                .collect::<Vec<_>>(),
        )
        .bind(
            taken
                .iter()
                .map(|one| one.name.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            taken
                .iter()
                .map(|one| one.key.as_ref().map(IdempotencyKey::as_str))
                .collect::<Vec<_>>(),
        )
        .bind(
            taken
                .iter()
                .map(|one| one.payload.as_str())
                .collect::<Vec<_>>(),
        )
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    stored.enter_keys(rows);
    // Only of what is new: who was woken by a signal that had been taken before would find nothing, and be announced by nobody.
    let marks: Vec<(Uuid, String)> = taken
        .iter()
        .filter(|one| stored.is_new(one))
        .map(|one| (one.task.as_uuid(), signal_mark(&one.name)))
        .collect();
    let woken = wake(&mut transaction, &marks).await?;
    transaction.commit().await.map_err(error::of)?;
    Ok(signalled(signals, &mut stored, facts_of_changed(woken)))
}

/// Wakes those that are suspended and wait for what the mark beside them says.
pub(super) async fn wake(
    connection: &mut PgConnection,
    marks: &[(Uuid, String)],
) -> Result<Vec<FactsRow>, StoreError> {
    if marks.is_empty() {
        return Ok(Vec::new());
    }
    let step = Step::of(TaskEvent::Woken);
    sqlx::query_as(WAKE)
        .bind(marks.iter().map(|(task, _)| *task).collect::<Vec<_>>())
        .bind(
            marks
                .iter()
                .map(|(_, mark)| mark.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(step.from)
        .bind(step.to)
        .fetch_all(connection)
        .await
        .map_err(error::of)
}

/// Wakes those of `suspended` for which what they wait for has happened already.
pub(super) async fn wake_satisfied(
    connection: &mut PgConnection,
    suspended: &[Uuid],
) -> Result<Vec<TaskFacts>, StoreError> {
    let step = Step::of(TaskEvent::Woken);
    let rows: Vec<FactsRow> = sqlx::query_as(WAKE_SATISFIED)
        .bind(suspended)
        .bind(step.from)
        .bind(step.to)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(facts_of_changed(rows))
}

/// As [`crate::store::Store::take_signal`].
pub(super) async fn take(
    connection: &mut PgConnection,
    executor: ExecutorId,
    wish: &TakeSignal,
) -> Result<TookSignal, StoreError> {
    let row: TookRow = sqlx::query_as(TAKE)
        .bind(owner(executor))
        .bind(wish.task.as_uuid())
        .bind(attempt(wish.attempt.0))
        .bind(RUNNING)
        .bind(wish.signal.as_str())
        .bind(wish.step.as_str())
        .bind(attempt(wish.place))
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    row.into_answer(wish)
}
