//! Signals, and waking whoever waits.

use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::error;
use super::submit::hex;
use crate::domain::limits::SIGNALS_MAX;
use crate::domain::{ExecutorId, IdempotencyKey, NewSignal, TaskEvent, TaskFacts, signal_mark};
use crate::store::change::{RUNNING, Step, attempt, owner};
use crate::store::durable_row::TookRow;
use crate::store::row::{FactsRow, facts_columns, facts_of_changed, text};
use crate::store::signalled::{Receiver, Stored, keys, signalled};
use crate::store::time::Time;
use crate::store::{Signalled, StoreError, TakeSignal, TookSignal};

const RECEIVERS: &str = "
select id, state, executor from task where id in (select unhex(value) from json_each(?1))";

const WAITING: &str = "
select task, count(*) from signal
where task in (select unhex(value) from json_each(?1)) and step is null group by task";

const KNOWN: &str = "
select task, key from signal
where task in (select unhex(value) from json_each(?1)) and key in (select value from json_each(?2))";

/// In the order in which they came.
const STORE: &str = "
insert into signal (task, name, key, payload, at)
select unhex(w.value ->> 0), w.value ->> 1, w.value ->> 2, w.value ->> 3, ?2
from json_each(?1) as w where true order by w.key
on conflict do nothing
returning task, key";

const WAKE: &str = concat!(
    "update task set state = ?3, ready_at = ?4, waiting_for = null
    where state in (select value from json_each(?2)) and id in (
        select t.id from json_each(?1) as w cross join task t on t.id = unhex(w.value ->> 0)
        where instr(t.waiting_for, w.value ->> 1) > 0
    )
    returning ",
    facts_columns!()
);

/// What happened while the task was being suspended.
const WAKE_SATISFIED: &str = concat!(
    "update task set state = ?3, ready_at = ?4, waiting_for = null
    where id in (select unhex(value) from json_each(?1)) and state in (select value from json_each(?2)) and (
        exists (
            select 1 from signal s where s.task = task.id and s.step is null
                and instr(task.waiting_for, ' signal:' || s.name || ' ') > 0
        )
        or exists (
            select 1 from timer m where m.task = task.id and m.kind = 'wake' and m.due_at <= ?4
                and instr(task.waiting_for, ' timer ') > 0
        )
        or exists (
            select 1 from fan_out f where f.task = task.id
                and instr(task.waiting_for, ' fan_out:' || f.name || ' ') > 0
                and (
                    f.is_complete and f.open = 0
                    or f.failed > 0 and f.on_failure = 'fail_fast'
                    or f.is_complete and f.on_failure like 'tolerate:%'
                        and f.failed * 100 > f.stored * cast(substr(f.on_failure, 10) as integer)
                )
        )
    )
    returning ",
    facts_columns!()
);

const HELD: &str = "
select exists (
    select 1 from task where id = ?2 and attempt = ?3 and executor = ?1 and state = ?4
)";

/// What a step has taken before, and never heard of.
const BEFORE: &str = "select output from step where task = ?1 and name = ?2 and place is not null";

const TAKE: &str = "
update signal set step = ?3 where id = (
    select id from signal where task = ?1 and name = ?2 and step is null order by id limit 1
)
returning payload";

const END: &str = "
insert into step (task, name, kind, state, place, output) values (?1, ?2, 'signal', 'done', ?3, ?4)
on conflict (task, name) do update set
    state = 'done', place = excluded.place, output = excluded.output, due_at = null";

/// As [`crate::store::Store::signal`].
pub(super) async fn signal(
    connection: &mut SqliteConnection,
    signals: &[NewSignal],
    now: Time,
) -> Result<Vec<Signalled>, StoreError> {
    let tasks: Vec<String> = signals.iter().map(|one| hex(one.task.as_uuid())).collect();
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let receivers: Vec<Receiver> = sqlx::query_as(RECEIVERS)
        .bind(text(&tasks))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let waiting: Vec<(Uuid, i64)> = sqlx::query_as(WAITING)
        .bind(text(&tasks))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let mut stored = Stored::new(receivers, waiting, SIGNALS_MAX)?;
    if stored.is_crowded(signals) {
        let known = sqlx::query_as(KNOWN)
            .bind(text(&tasks))
            .bind(text(&keys(signals)))
            .fetch_all(&mut *transaction)
            .await
            .map_err(error::of)?;
        stored.know(known);
    }
    let taken: Vec<&NewSignal> = signals.iter().filter(|one| stored.admits(one)).collect();
    let batch: Vec<_> = taken
        .iter()
        .map(|one| {
            json!([
                hex(one.task.as_uuid()),
                one.name.as_str(),
                one.key.as_ref().map(IdempotencyKey::as_str),
                one.payload.as_str(),
            ])
        })
        .collect();
    let rows: Vec<(Uuid, Option<String>)> = sqlx::query_as(STORE)
        .bind(text(&batch))
        .bind(now)
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
    let woken = wake(&mut transaction, &marks, now).await?;
    transaction.commit().await.map_err(error::of)?;
    Ok(signalled(signals, &mut stored, facts_of_changed(woken)))
}

/// Wakes those that are suspended and wait for what the mark beside them says.
pub(super) async fn wake(
    connection: &mut SqliteConnection,
    marks: &[(Uuid, String)],
    now: Time,
) -> Result<Vec<FactsRow>, StoreError> {
    if marks.is_empty() {
        return Ok(Vec::new());
    }
    let step = Step::of(TaskEvent::Woken);
    let marks: Vec<_> = marks
        .iter()
        .map(|(task, mark)| json!([hex(*task), mark]))
        .collect();
    sqlx::query_as(WAKE)
        .bind(text(&marks))
        .bind(text(&step.from))
        .bind(step.to)
        .bind(now)
        .fetch_all(connection)
        .await
        .map_err(error::of)
}

/// Wakes those of `suspended` for which what they wait for has happened already.
pub(super) async fn wake_satisfied(
    connection: &mut SqliteConnection,
    suspended: &[Uuid],
    now: Time,
) -> Result<Vec<TaskFacts>, StoreError> {
    let step = Step::of(TaskEvent::Woken);
    let suspended: Vec<String> = suspended.iter().map(|task| hex(*task)).collect();
    let rows: Vec<FactsRow> = sqlx::query_as(WAKE_SATISFIED)
        .bind(text(&suspended))
        .bind(text(&step.from))
        .bind(step.to)
        .bind(now)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(facts_of_changed(rows))
}

/// As [`crate::store::Store::take_signal`].
pub(super) async fn take(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    wish: &TakeSignal,
) -> Result<TookSignal, StoreError> {
    let task = wish.task.as_uuid();
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let is_held: bool = sqlx::query_scalar(HELD)
        .bind(owner(executor))
        .bind(task)
        .bind(attempt(wish.attempt.0))
        .bind(RUNNING)
        .fetch_one(&mut *transaction)
        .await
        .map_err(error::of)?;
    if !is_held {
        return Ok(TookSignal::Stale);
    }
    let before: Option<Option<String>> = sqlx::query_scalar(BEFORE)
        .bind(task)
        .bind(wish.step.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    if let Some(payload) = before {
        return TookRow { is_held, payload }.into_answer(wish);
    }
    let payload: Option<String> = sqlx::query_scalar(TAKE)
        .bind(task)
        .bind(wish.signal.as_str())
        .bind(wish.step.as_str())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    if let Some(payload) = &payload {
        sqlx::query(END)
            .bind(task)
            .bind(wish.step.as_str())
            .bind(attempt(wish.place))
            .bind(payload)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    transaction.commit().await.map_err(error::of)?;
    TookRow { is_held, payload }.into_answer(wish)
}
