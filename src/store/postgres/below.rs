//! Cancelling what is directly below a task.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{cancel, error, fan_out};
use crate::domain::ExecutorId;
use crate::store::change::{RUNNING, attempt, owner};
use crate::store::row::number;
use crate::store::tree::{Member, Parts, split};
use crate::store::{Below, CancelSpawned, PARENT_ENDED, StoreError};

const FOUND: &str = "
select id from task
where parent = $1 and ($2::text is null or fan_out = $2) and not outlives_parent
    and finished_at is null and cancel_requested_at is null
limit $3";

/// Behind [`fan_out::lock`], which has locked it in its order among the others.
const HELD: &str = "
select exists (select from task where id = $2 and attempt = $3 and executor = $1 and state = $4)";

/// Once they are locked they may have moved on.
const MEMBERS: &str = "
select id, state, executor from task
where id = any($1) and finished_at is null and cancel_requested_at is null order by id";

/// Nothing of what is being cancelled has its turn any more.
const CLOSE: &str = "
update fan_out set in_flight_max = 0 where task = $1 and ($2::text is null or name = $2) and granted < stored";

const ENDED_PARENT: &str = "select task from ended_parent limit 1 for update skip locked";

const FORGET: &str = "delete from ended_parent where task = $1";

/// As [`crate::store::Store::cancel_spawned`].
pub(super) async fn cancel_spawned(
    connection: &mut PgConnection,
    executor: ExecutorId,
    wish: &CancelSpawned,
    limit: usize,
) -> Result<Option<Below>, StoreError> {
    let parent = wish.parent.as_uuid();
    let name = Some(wish.name.as_str());
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let found = lock_some(&mut transaction, parent, name, limit).await?;
    let is_held: bool = sqlx::query_scalar(HELD)
        .bind(owner(executor))
        .bind(parent)
        .bind(attempt(wish.attempt.0))
        .bind(RUNNING)
        .fetch_one(&mut *transaction)
        .await
        .map_err(error::of)?;
    if !is_held {
        return Ok(None); // Rolled back.
    }
    let wish = (parent, name, wish.reason.as_str());
    let below = cancel_found(&mut transaction, wish, found, limit).await?;
    transaction.commit().await.map_err(error::of)?;
    Ok(Some(below))
}

/// As [`crate::store::Store::clear_below`].
pub(super) async fn clear_below(
    connection: &mut PgConnection,
    limit: usize,
) -> Result<Below, StoreError> {
    let mut transaction = connection.begin().await.map_err(error::of)?;
    let ended: Option<Uuid> = sqlx::query_scalar(ENDED_PARENT)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(error::of)?;
    let Some(ended) = ended else {
        return Ok(Below::default());
    };
    let found = lock_some(&mut transaction, ended, None, limit).await?;
    let wish = (ended, None, PARENT_ENDED);
    let below = cancel_found(&mut transaction, wish, found, limit).await?;
    if !below.has_more {
        sqlx::query(FORGET)
            .bind(ended)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    transaction.commit().await.map_err(error::of)?;
    Ok(Below {
        has_more: true, // Or of the next one.
        ..below
    })
}

/// Finds what is open directly below a task, and locks it and the task.
async fn lock_some(
    connection: &mut PgConnection,
    task: Uuid,
    name: Option<&str>,
    limit: usize,
) -> Result<Vec<Uuid>, StoreError> {
    let found: Vec<Uuid> = sqlx::query_scalar(FOUND)
        .bind(task)
        .bind(name)
        .bind(number(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    fan_out::lock(connection, found.iter().copied().chain([task]).collect()).await?;
    Ok(found)
}

async fn cancel_found(
    connection: &mut PgConnection,
    (task, name, reason): (Uuid, Option<&str>, &str),
    found: Vec<Uuid>,
    limit: usize,
) -> Result<Below, StoreError> {
    let has_more = found.len() >= limit;
    sqlx::query(CLOSE)
        .bind(task)
        .bind(name)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let members: Vec<Member> = sqlx::query_as(MEMBERS)
        .bind(found)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let Parts { waiting, running } = split(&members)?;
    // Nothing becomes ready by it: no sibling has its turn any more, and the parent runs or has ended.
    let (cancelled, _none) = cancel::carry_out(connection, waiting, &running, reason).await?;
    Ok(Below {
        cancelled,
        running,
        has_more,
    })
}
