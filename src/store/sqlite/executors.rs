//! Executors, their leases and what they offer.

use jiff::Timestamp;
use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::error;
use super::take_over::LOST_SHOWN;
use crate::domain::{ActionName, Attempt, ExecutorId, ExecutorRecord, TaskId};
use crate::store::change::{RUNNING, attempt, owner};
use crate::store::queue;
use crate::store::row::{ExecutorRow, cancel_wish, lease_time, name, slots_text, text};
use crate::store::time::Time;
use crate::store::{Renewal, StoreError};

const ENROLL: &str = "
insert into executor (id, name, host, pid, version, slots, actions, started_at, lease_ends_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
on conflict (id) do update set
    name = excluded.name, host = excluded.host, pid = excluded.pid, version = excluded.version,
    slots = excluded.slots, actions = excluded.actions, lease_ends_at = excluded.lease_ends_at,
    lost_at = null, released_at = null, trial = null, dead_at = null";

const OFFER: &str = "
insert into known_action (name) select value from json_each(?1) where true on conflict do nothing";

/// An executor that nobody has found lost yet still owns its tasks, also when it renews late: after an outage
/// of the store itself everybody is late.
const RENEW: &str =
    "update executor set lease_ends_at = ?2 where id = ?1 and lost_at is null and dead_at is null";

const WISHED: &str = "
select t.id, t.cancel_cause from cancel_request c join task t on t.id = c.task
where t.executor = ?1 and t.state = ?2 and t.cancel_cause is not null order by t.id";

const FLEET: &str = "
select slots, count(*) from executor
where lease_ends_at > ?1 and lost_at is null and dead_at is null group by slots";

const PAUSED: &str = "select name from queue where paused_at is not null";

const LEASE_END: &str =
    "select lease_ends_at from executor where id = ?1 and lost_at is null and dead_at is null";

const END_LEASE: &str = "
update executor set dead_at = ?3
where id = ?1 and lease_ends_at = ?2 and lost_at is null and dead_at is null";

const NOTE_TOKEN: &str = "update executor set lacks_token = ?2 where id = ?1";

const PUT_ON_TRIAL: &str = "
update executor set trial = ?2
where id = ?1 and lost_at is null and dead_at is null and exists (
    select 1 from task where id = ?2 and attempt = ?3 and executor = ?1 and state = ?4
)";

const EXECUTORS: &str = "
select id, name, host, pid, version, slots, actions, started_at, lease_ends_at,
    lease_ends_at > ?1 and lost_at is null and dead_at is null as is_live
from executor where lease_ends_at > ?2 order by started_at desc, id desc";

const KNOWN_ACTIONS: &str = "select name from known_action order by name";

/// As [`crate::store::Store::enroll`].
pub(super) async fn enroll(
    connection: &mut SqliteConnection,
    executor: &ExecutorRecord,
    lease_ends_at: Time,
) -> Result<(), StoreError> {
    let actions: Vec<&str> = executor.actions.iter().map(ActionName::as_str).collect();
    let actions = text(&actions);
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    sqlx::query(ENROLL)
        .bind(owner(executor.id))
        .bind(executor.name.as_str())
        .bind(&executor.host)
        .bind(i64::from(executor.pid))
        .bind(&executor.version)
        .bind(slots_text(&executor.slots))
        .bind(&actions)
        .bind(Time::from(executor.started_at))
        .bind(lease_ends_at)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    sqlx::query(OFFER)
        .bind(&actions)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    transaction.commit().await.map_err(error::of)
}

/// As [`crate::store::Store::renew`].
pub(super) async fn renew(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    lease_ends_at: Time,
    now: Time,
) -> Result<Renewal, StoreError> {
    let renewed = sqlx::query(RENEW)
        .bind(owner(executor))
        .bind(lease_ends_at)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    if renewed.rows_affected() == 0 {
        return Ok(Renewal::Fenced);
    }
    let rows: Vec<(Uuid, String)> = sqlx::query_as(WISHED)
        .bind(owner(executor))
        .bind(RUNNING)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let alike: Vec<(String, i64)> = sqlx::query_as(FLEET)
        .bind(now)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let paused: Vec<String> = sqlx::query_scalar(PAUSED)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(Renewal::Held {
        cancels: rows.into_iter().map(cancel_wish).collect(),
        fleet: queue::fleet(alike),
        paused: queue::names(&paused),
    })
}

/// As [`crate::store::Store::lease_end`].
pub(super) async fn lease_end(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
) -> Result<Option<Timestamp>, StoreError> {
    let ends_at: Option<Time> = sqlx::query_scalar(LEASE_END)
        .bind(owner(executor))
        .fetch_optional(connection)
        .await
        .map_err(error::of)?;
    lease_time(executor, ends_at)
}

/// As [`crate::store::Store::end_lease`].
pub(super) async fn end_lease(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    ends_at: Timestamp,
    now: Time,
) -> Result<bool, StoreError> {
    let ended = sqlx::query(END_LEASE)
        .bind(owner(executor))
        .bind(Time::from(ends_at))
        .bind(now)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(ended.rows_affected() > 0)
}

/// As [`crate::store::Store::note_token`].
pub(super) async fn note_token(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    is_held: bool,
) -> Result<(), StoreError> {
    sqlx::query(NOTE_TOKEN)
        .bind(owner(executor))
        .bind(!is_held)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// As [`crate::store::Store::put_on_trial`].
pub(super) async fn put_on_trial(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    task: TaskId,
    token: Attempt,
) -> Result<(), StoreError> {
    sqlx::query(PUT_ON_TRIAL)
        .bind(owner(executor))
        .bind(task.as_uuid())
        .bind(attempt(token.0))
        .bind(RUNNING)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// As [`crate::store::Store::executors`].
pub(super) async fn executors(
    connection: &mut SqliteConnection,
    now: Time,
) -> Result<Vec<ExecutorRecord>, StoreError> {
    let rows: Vec<ExecutorRow> = sqlx::query_as(EXECUTORS)
        .bind(now)
        .bind(now.before(LOST_SHOWN))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    rows.into_iter().map(ExecutorRow::into_record).collect()
}

/// As [`crate::store::Store::known_actions`].
pub(super) async fn known_actions(
    connection: &mut SqliteConnection,
) -> Result<Vec<ActionName>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(KNOWN_ACTIONS)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    names
        .iter()
        .map(|action| name("known_action", action))
        .collect()
}
