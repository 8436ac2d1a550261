//! Executors, their leases and what they offer.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::PgConnection;
use uuid::Uuid;

use super::error;
use crate::domain::{ActionName, Attempt, ExecutorId, ExecutorRecord, TaskId};
use crate::store::change::{RUNNING, attempt, owner};
use crate::store::queue;
use crate::store::row::{ExecutorRow, cancel_wish, lease_time, name, slots_text, text};
use crate::store::time::{Time, micros};
use crate::store::{Renewal, StoreError};

/// Names are inserted in order: two executors that enter together wait for each other's names.
const ENROLL: &str = "
with entered as (
    insert into executor (id, name, host, pid, version, slots, actions, started_at, lease_ends_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, now() + $9 * interval '1 microsecond')
    on conflict (id) do update set
        name = excluded.name, host = excluded.host, pid = excluded.pid, version = excluded.version,
        slots = excluded.slots, actions = excluded.actions, lease_ends_at = excluded.lease_ends_at,
        lost_at = null, released_at = null, trial = null, dead_at = null
)
insert into known_action (name)
select name from unnest($10::text[]) as offered(name) order by name
on conflict do nothing";

/// An executor that nobody has found lost yet still owns its tasks, also when it renews late: after an outage
/// of the store itself everybody is late. `offset 0` keeps the few requests outside: the planner would begin with the tasks
/// while it does not know how many there are of either (3 ms for 40,000).
const RENEW: &str = "
with renewed as (
    update executor set lease_ends_at = now() + $2 * interval '1 microsecond'
    where id = $1 and lost_at is null and dead_at is null
    returning id
)
select wished.id, wished.cancel_cause,
    coalesce(fleet.slots, '{}'), coalesce(fleet.executors, '{}'),
    array(select name from queue where paused_at is not null) as paused
from renewed left join (
    select t.id, t.cancel_cause from cancel_request c cross join lateral (
        select id, cancel_cause from task
        where id = c.task and executor = $1 and state = $3 and cancel_cause is not null
        offset 0
    ) as t
) as wished on true
cross join (
    select array_agg(slots) as slots, array_agg(executors) as executors from (
        select slots, count(*) as executors from executor
        where lease_ends_at > now() and lost_at is null and dead_at is null group by slots
    ) as alike
) as fleet
order by wished.id";

const LEASE_END: &str =
    "select lease_ends_at from executor where id = $1 and lost_at is null and dead_at is null";

const END_LEASE: &str = "
update executor set dead_at = now()
where id = $1 and lease_ends_at = $2 and lost_at is null and dead_at is null";

const NOTE_TOKEN: &str = "update executor set lacks_token = $2 where id = $1";

const PUT_ON_TRIAL: &str = "
update executor set trial = $2
where id = $1 and lost_at is null and dead_at is null and exists (
    select from task where id = $2 and attempt = $3 and executor = $1 and state = $4
)";

const EXECUTORS: &str = "
select id, name, host, pid, version, slots, actions, started_at, lease_ends_at,
    lease_ends_at > now() and lost_at is null and dead_at is null as is_live
from executor where lease_ends_at > now() - interval '1 day'
order by started_at desc, id desc";

const KNOWN_ACTIONS: &str = "select name from known_action";

/// As [`crate::store::Store::enroll`].
pub(super) async fn enroll(
    connection: &mut PgConnection,
    executor: &ExecutorRecord,
    lease: Duration,
) -> Result<(), StoreError> {
    let actions: Vec<&str> = executor.actions.iter().map(ActionName::as_str).collect();
    sqlx::query(ENROLL)
        .bind(owner(executor.id))
        .bind(executor.name.as_str())
        .bind(&executor.host)
        .bind(i64::from(executor.pid))
        .bind(&executor.version)
        .bind(slots_text(&executor.slots))
        .bind(text(&actions))
        .bind(Time::from(executor.started_at))
        .bind(micros(lease))
        .bind(&actions)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// A task that somebody wants cancelled and why, if there is one; the slots of living executors, and how many have the same;
/// the queues that are paused.
type RenewedRow = (
    Option<Uuid>,
    Option<String>,
    Vec<String>,
    Vec<i64>,
    Vec<String>,
);

/// As [`crate::store::Store::renew`].
pub(super) async fn renew(
    connection: &mut PgConnection,
    executor: ExecutorId,
    lease: Duration,
) -> Result<Renewal, StoreError> {
    let rows: Vec<RenewedRow> = sqlx::query_as(RENEW)
        .bind(owner(executor))
        .bind(micros(lease))
        .bind(RUNNING)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    let Some((_, _, slots, executors, paused)) = rows.first() else {
        return Ok(Renewal::Fenced);
    };
    let alike = slots.iter().zip(executors.iter().copied());
    let (fleet, paused) = (queue::fleet(alike), queue::names(paused));
    let wishes = rows
        .into_iter()
        .filter_map(|(task, cause, ..)| task.zip(cause));
    Ok(Renewal::Held {
        cancels: wishes.map(cancel_wish).collect(),
        fleet,
        paused,
    })
}

/// As [`crate::store::Store::lease_end`].
pub(super) async fn lease_end(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
    executor: ExecutorId,
    ends_at: Timestamp,
) -> Result<bool, StoreError> {
    let ended = sqlx::query(END_LEASE)
        .bind(owner(executor))
        .bind(Time::from(ends_at))
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(ended.rows_affected() > 0)
}

/// As [`crate::store::Store::note_token`].
pub(super) async fn note_token(
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
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
    connection: &mut PgConnection,
) -> Result<Vec<ExecutorRecord>, StoreError> {
    let rows: Vec<ExecutorRow> = sqlx::query_as(EXECUTORS)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    rows.into_iter().map(ExecutorRow::into_record).collect()
}

/// As [`crate::store::Store::known_actions`].
pub(super) async fn known_actions(
    connection: &mut PgConnection,
) -> Result<Vec<ActionName>, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(KNOWN_ACTIONS)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    let mut actions = names
        .iter()
        .map(|action| name("known_action", action))
        .collect::<Result<Vec<_>, _>>()?;
    actions.sort(); // Here, because how the database sorts text depends on its locale.
    Ok(actions)
}
