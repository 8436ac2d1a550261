//! Cancelling what is directly below a task.

use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::{cancel, error, spawn};
use crate::domain::ExecutorId;
use crate::store::row::number;
use crate::store::time::Time;
use crate::store::tree::{Member, Parts, split};
use crate::store::{Below, CancelSpawned, PARENT_ENDED, StoreError};

const FOUND: &str = "
select id, state, executor from task
where parent = ?1 and (?2 is null or fan_out = ?2) and not outlives_parent
    and finished_at is null and cancel_requested_at is null
limit +?3";

/// Nothing of what is being cancelled has its turn any more.
const CLOSE: &str = "
update fan_out set in_flight_max = 0 where task = ?1 and (?2 is null or name = ?2) and granted < stored";

const ENDED_PARENT: &str = "select task from ended_parent limit 1";

const FORGET: &str = "delete from ended_parent where task = ?1";

/// As [`crate::store::Store::cancel_spawned`].
pub(super) async fn cancel_spawned(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    wish: &CancelSpawned,
    limit: usize,
    now: Time,
) -> Result<Option<Below>, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let parent = wish.parent.as_uuid();
    if !spawn::is_held(&mut transaction, executor, wish.parent, wish.attempt).await? {
        return Ok(None); // Nothing is written yet.
    }
    let wish = (parent, Some(wish.name.as_str()), wish.reason.as_str());
    let below = cancel_some(&mut transaction, wish, limit, now).await?;
    transaction.commit().await.map_err(error::of)?;
    Ok(Some(below))
}

/// As [`crate::store::Store::clear_below`].
pub(super) async fn clear_below(
    connection: &mut SqliteConnection,
    limit: usize,
    now: Time,
) -> Result<Below, StoreError> {
    let ended: Option<Uuid> = sqlx::query_scalar(ENDED_PARENT)
        .fetch_optional(&mut *connection)
        .await
        .map_err(error::of)?;
    let Some(ended) = ended else {
        return Ok(Below::default());
    };
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let wish = (ended, None, PARENT_ENDED);
    let below = cancel_some(&mut transaction, wish, limit, now).await?;
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

async fn cancel_some(
    connection: &mut SqliteConnection,
    (task, name, reason): (Uuid, Option<&str>, &str),
    limit: usize,
    now: Time,
) -> Result<Below, StoreError> {
    let members: Vec<Member> = sqlx::query_as(FOUND)
        .bind(task)
        .bind(name)
        .bind(number(limit))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    sqlx::query(CLOSE)
        .bind(task)
        .bind(name)
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let has_more = members.len() >= limit;
    let Parts { waiting, running } = split(&members)?;
    // Nothing becomes ready by it: no sibling has its turn any more, and the parent runs or has ended.
    let (cancelled, _none) = cancel::carry_out(connection, waiting, &running, reason, now).await?;
    Ok(Below {
        cancelled,
        running,
        has_more,
    })
}
