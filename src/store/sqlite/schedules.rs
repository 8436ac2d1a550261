//! Schedules and their firings.

use std::time::Duration;

use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::error;
use super::submit::enter;
use crate::domain::limits::{FIRINGS_KEPT, FIRINGS_WAITING_MAX};
use crate::domain::{
    Firing, FiringState, Plan, ScheduleName, ScheduleRecord, ScheduleSpec, TaskId, Turn,
};
use crate::store::row::{number, text};
use crate::store::schedule::{
    FiringRow, LockedRow, Prospect, ScheduleRow, clock, fired_before, firing_columns, firings,
    known, noted, schedule_columns, stored, task_text, times, timing_text, triggered,
};
use crate::store::time::{Time, from_now};
use crate::store::{Fired, ScheduleCreated, ScheduleList, SchedulesListed, StoreError, Triggered};

const ONE: &str = concat!(
    "select ",
    schedule_columns!(),
    " from schedule where name = ?1"
);

const LIST: &str = concat!(
    "select ",
    schedule_columns!(),
    " from schedule where ?1 is null or name > ?1 order by name limit +?2"
);

const FIRINGS: &str = concat!(
    "select ",
    firing_columns!(),
    " from schedule_firing where schedule = ?1 order by due_at desc limit +?2"
);

const PROSPECT: &str = "
select exists (select 1 from queue where name = ?1) as has_queue, (select count(*) from schedule) as schedules";

const CREATE: &str = "
insert into schedule (name, timing, task, overlap, catch_up, next_at, look_at, created_at, created_by)
values (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)";

const PAUSE: &str = "
update schedule set paused = true, next_at = null, look_at = null where name = ?1";

const RESUME: &str = "
update schedule set paused = false, error = null, next_at = ?2,
    look_at = case
        when exists (select 1 from schedule_firing f where f.schedule = name and f.state = ?3) then ?4
        else ?2
    end
where name = ?1";

const DELETE_FIRINGS: &str = "delete from schedule_firing where schedule = ?1";

const DELETE: &str = "delete from schedule where name = ?1";

/// All that an idle pass asks. Goes by the index.
const NEXT: &str = "select min(look_at) - ?1 from schedule where look_at is not null";

const DUE: &str = "select name from schedule where look_at <= ?1 order by look_at limit +?2";

/// The transaction has the only write lock.
const LOCK_DUE: &str = concat!(
    "select ",
    schedule_columns!(),
    ", ?2 as now from schedule where name = ?1 and look_at <= ?2"
);

const LOCK: &str = concat!(
    "select ",
    schedule_columns!(),
    ", ?2 as now from schedule where name = ?1"
);

const WAITING: &str = "
select due_at from schedule_firing where schedule = ?1 and state = ?2 order by due_at limit +?3";

const IS_OPEN: &str = "select finished_at is null from task where id = ?1";

const NOTE: &str = "
insert into schedule_firing (schedule, due_at, state, at)
select ?1, value ->> 0, value ->> 1, ?3 from json_each(?2) where true
on conflict do nothing";

/// The guard: it writes a row for one firing of a time, and none for another.
const GUARD: &str = "
insert into schedule_firing as known (schedule, due_at, state, task, at) values (?1, ?2, ?3, ?4, ?6)
on conflict (schedule, due_at) do update set state = excluded.state, task = excluded.task, at = excluded.at
where known.state = ?5";

const LOOKED: &str = "
update schedule set next_at = ?2, look_at = ?3, last_task = coalesce(?4, last_task) where name = ?1";

const FORGET: &str = "
delete from schedule_firing
where schedule = ?1 and state <> ?2 and due_at < (
    select due_at from schedule_firing
    where schedule = ?1 and state <> ?2 order by due_at desc limit 1 offset ?3
)";

const STOP: &str = "
update schedule set paused = true, error = ?2, next_at = null, look_at = null where name = ?1";

const PRUNE: &str = "
delete from schedule_firing where (schedule, due_at) in (
    select schedule, due_at from schedule_firing
    where at <= ?1 and state <> ?2 order by at limit +?3
)";

/// As [`crate::store::Store::create_schedule`].
pub(super) async fn create(
    connection: &mut SqliteConnection,
    spec: &ScheduleSpec,
    created_by: &str,
    now: Time,
) -> Result<ScheduleCreated, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    if let Some(row) = row(&mut transaction, &spec.name).await? {
        return known(spec, row);
    }
    let prospect: Prospect = sqlx::query_as(PROSPECT)
        .bind(spec.task.queue.as_str())
        .fetch_one(&mut *transaction)
        .await
        .map_err(error::of)?;
    let now = clock(now)?;
    let next_at = match prospect.judge(spec, now) {
        Ok(next_at) => next_at,
        Err(refusal) => return Ok(ScheduleCreated::Refused(refusal)),
    };
    sqlx::query(CREATE)
        .bind(spec.name.as_str())
        .bind(timing_text(&spec.timing))
        .bind(task_text(spec))
        .bind(spec.overlap.as_str())
        .bind(spec.catch_up.as_str())
        .bind(Time::from(next_at))
        .bind(Time::from(now))
        .bind(created_by)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    transaction.commit().await.map_err(error::of)?;
    Ok(stored(spec, next_at, now, created_by))
}

async fn row(
    connection: &mut SqliteConnection,
    name: &ScheduleName,
) -> Result<Option<ScheduleRow>, StoreError> {
    sqlx::query_as(ONE)
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .map_err(error::of)
}

/// As [`crate::store::Store::schedule`].
pub(super) async fn one(
    connection: &mut SqliteConnection,
    name: &ScheduleName,
) -> Result<Option<ScheduleRecord>, StoreError> {
    let row = row(connection, name).await?;
    row.map(ScheduleRow::into_record).transpose()
}

/// As [`crate::store::Store::schedules`].
pub(super) async fn list(
    connection: &mut SqliteConnection,
    list: &ScheduleList,
) -> Result<SchedulesListed, StoreError> {
    let rows: Vec<ScheduleRow> = sqlx::query_as(LIST)
        .bind(list.after.as_deref())
        .bind(number(list.limit))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(SchedulesListed::of(rows))
}

/// As [`crate::store::Store::firings`].
pub(super) async fn last_firings(
    connection: &mut SqliteConnection,
    name: &ScheduleName,
    limit: usize,
) -> Result<Vec<Firing>, StoreError> {
    let rows: Vec<FiringRow> = sqlx::query_as(FIRINGS)
        .bind(name.as_str())
        .bind(number(limit))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    firings(name.as_str(), rows)
}

/// As [`crate::store::Store::pause_schedule`].
pub(super) async fn pause(
    connection: &mut SqliteConnection,
    name: &ScheduleName,
) -> Result<bool, StoreError> {
    let paused = sqlx::query(PAUSE)
        .bind(name.as_str())
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(paused.rows_affected() > 0)
}

/// As [`crate::store::Store::resume_schedule`].
pub(super) async fn resume(
    connection: &mut SqliteConnection,
    name: &ScheduleName,
    now: Time,
) -> Result<bool, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let Some(locked) = locked(&mut transaction, LOCK, name.as_str(), now).await? else {
        return Ok(false);
    };
    let now = clock(locked.now)?;
    let record = locked.schedule.into_record()?;
    if !record.is_paused {
        return Ok(true);
    }
    let next_at = record.spec.timing.next_after(now, record.created_at);
    sqlx::query(RESUME)
        .bind(name.as_str())
        .bind(next_at.map(Time::from))
        .bind(FiringState::Waiting.as_str())
        .bind(Time::from(now))
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    transaction.commit().await.map_err(error::of)?;
    Ok(true)
}

/// As [`crate::store::Store::delete_schedule`].
pub(super) async fn delete(
    connection: &mut SqliteConnection,
    name: &ScheduleName,
) -> Result<bool, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    sqlx::query(DELETE_FIRINGS)
        .bind(name.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    let deleted = sqlx::query(DELETE)
        .bind(name.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    transaction.commit().await.map_err(error::of)?;
    Ok(deleted.rows_affected() > 0)
}

/// How long until the next schedule is to be looked at.
pub(super) async fn next_in(
    connection: &mut SqliteConnection,
    now: Time,
) -> Result<Option<Duration>, StoreError> {
    let next: Option<i64> = sqlx::query_scalar(NEXT)
        .bind(now)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(next.map(from_now))
}

/// The names of those that are to be looked at, whatever else their rows say.
pub(super) async fn due(
    connection: &mut SqliteConnection,
    limit: usize,
    now: Time,
) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(DUE)
        .bind(now)
        .bind(number(limit))
        .fetch_all(connection)
        .await
        .map_err(error::of)
}

/// Looks at one schedule, if its time has come and nobody else does.
pub(super) async fn fire(
    connection: &mut SqliteConnection,
    name: &str,
    now: Time,
) -> Result<Fired, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let Some(locked) = locked(&mut transaction, LOCK_DUE, name, now).await? else {
        return Ok(Fired::default());
    };
    let seen = look(&mut transaction, locked, Turn::Due).await?;
    transaction.commit().await.map_err(error::of)?;
    Ok(seen.fired)
}

/// As [`crate::store::Store::trigger_schedule`].
pub(super) async fn trigger(
    connection: &mut SqliteConnection,
    name: &ScheduleName,
    now: Time,
) -> Result<Option<Triggered>, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let Some(locked) = locked(&mut transaction, LOCK, name.as_str(), now).await? else {
        return Ok(None);
    };
    let now = clock(locked.now)?;
    let seen = look(&mut transaction, locked, Turn::Triggered).await?;
    transaction.commit().await.map_err(error::of)?;
    let Looked {
        record,
        plan,
        is_open,
        fired,
    } = seen;
    Ok(Some(triggered(&record, &plan, now, is_open, fired)))
}

/// A schedule that was looked at.
struct Looked {
    record: ScheduleRecord,
    plan: Plan,
    /// Whether the task of the firing before was open.
    is_open: bool,
    fired: Fired,
}

async fn locked(
    connection: &mut SqliteConnection,
    lock: &'static str,
    name: &str,
    now: Time,
) -> Result<Option<LockedRow>, StoreError> {
    sqlx::query_as(lock)
        .bind(name)
        .bind(now)
        .fetch_optional(connection)
        .await
        .map_err(error::of)
}

/// Plans, and carries it out in the transaction that has locked the schedule.
async fn look(
    transaction: &mut SqliteConnection,
    locked: LockedRow,
    turn: Turn,
) -> Result<Looked, StoreError> {
    let now = clock(locked.now)?;
    let record = locked.schedule.into_record()?;
    let name = record.spec.name.as_str();
    let waiting: Vec<Time> = sqlx::query_scalar(WAITING)
        .bind(name)
        .bind(FiringState::Waiting.as_str())
        .bind(number(FIRINGS_WAITING_MAX))
        .fetch_all(&mut *transaction)
        .await
        .map_err(error::of)?;
    let is_open: Option<bool> = sqlx::query_scalar(IS_OPEN)
        .bind(record.last_task.map(TaskId::as_uuid))
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    let is_open = is_open.unwrap_or(false);
    let plan = record.plan(turn, now, &times(name, waiting)?, is_open);
    let mut fired = Fired {
        looked_at: 1,
        ..Fired::default()
    };
    let (due, states) = noted(&plan);
    if !due.is_empty() {
        let noted: Vec<_> = due.iter().map(|due| due.0).zip(states).collect();
        sqlx::query(NOTE)
            .bind(name)
            .bind(text(&noted))
            .bind(Time::from(now))
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    let started = start(transaction, &record, &plan, now.into(), &mut fired).await?;
    if started.is_none() && plan.starts.is_some() && turn == Turn::Triggered {
        return Err(fired_before(name));
    }
    sqlx::query(LOOKED)
        .bind(name)
        .bind(plan.next_at.map(Time::from))
        .bind(plan.look_at.map(Time::from))
        .bind(started)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    sqlx::query(FORGET)
        .bind(name)
        .bind(FiringState::Waiting.as_str())
        .bind(number(FIRINGS_KEPT - 1))
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    Ok(Looked {
        record,
        plan,
        is_open,
        fired,
    })
}

/// Submits the task of the firing that starts, if no other has made this firing; which one.
async fn start(
    transaction: &mut SqliteConnection,
    record: &ScheduleRecord,
    plan: &Plan,
    now: Time,
    fired: &mut Fired,
) -> Result<Option<Uuid>, StoreError> {
    let Some(due_at) = plan.starts else {
        return Ok(None);
    };
    let (name, task) = (record.spec.name.as_str(), record.spec.task_due(due_at));
    let guarded = sqlx::query(GUARD)
        .bind(name)
        .bind(Time::from(due_at))
        .bind(FiringState::Fired.as_str())
        .bind(task.id.as_uuid())
        .bind(FiringState::Waiting.as_str())
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    if guarded.rows_affected() == 0 {
        return Ok(None);
    }
    if let Some(previous) = record.last_task.filter(|_| plan.cancels) {
        let cancel = super::cancel::cancel_within(transaction, previous, Fired::CANCEL_REASON, now);
        fired.add_cancelled(cancel.await?);
    }
    let tasks = [task];
    let answers = enter(transaction, &tasks, tasks.len(), now).await?;
    let [task] = tasks;
    fired.add_submitted(&task, name, answers)?;
    Ok(Some(task.id.as_uuid()))
}

/// Pauses a schedule that cannot go on, for `reason`.
pub(super) async fn stop(
    connection: &mut SqliteConnection,
    name: &str,
    reason: &str,
) -> Result<(), StoreError> {
    sqlx::query(STOP)
        .bind(name)
        .bind(reason)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// Deletes firings that were decided until `until`.
pub(super) async fn prune(
    connection: &mut SqliteConnection,
    until: Time,
    limit: usize,
) -> Result<(), StoreError> {
    sqlx::query(PRUNE)
        .bind(until)
        .bind(FiringState::Waiting.as_str())
        .bind(number(limit))
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}
