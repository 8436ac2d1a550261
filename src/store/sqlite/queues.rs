//! Queues: made, listed, paused.

use sqlx::SqliteConnection;

use super::error;
use crate::domain::{Operator, QueueName, QueueRecord, TaskState};
use crate::store::StoreError;
use crate::store::queue::QueueRow;
use crate::store::time::Time;

const CREATE: &str = "insert into queue (name) values (?1) on conflict do nothing";

/// Who came first stays.
const PAUSE: &str = "
update queue set paused_at = coalesce(paused_at, ?3), paused_by = coalesce(paused_by, ?2) where name = ?1";

const RESUME: &str = "update queue set paused_at = null, paused_by = null where name = ?1";

/// Scans the tasks.
const QUEUES: &str = "
select q.name,
    count(*) filter (where t.state = ?1) as scheduled,
    count(*) filter (where t.state = ?2) as ready,
    count(*) filter (where t.state = ?3) as running,
    q.paused_at, q.paused_by
from queue q left join task t on t.queue = q.name and t.finished_at is null
group by q.name order by q.name";

/// As [`crate::store::Store::create_queue`].
pub(super) async fn create_queue(
    connection: &mut SqliteConnection,
    queue: &QueueName,
) -> Result<(), StoreError> {
    sqlx::query(CREATE)
        .bind(queue.as_str())
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(())
}

/// As [`crate::store::Store::pause_queue`].
pub(super) async fn pause_queue(
    connection: &mut SqliteConnection,
    queue: &QueueName,
    by: &Operator,
    now: Time,
) -> Result<bool, StoreError> {
    let paused = sqlx::query(PAUSE)
        .bind(queue.as_str())
        .bind(by.as_str())
        .bind(now)
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(paused.rows_affected() > 0)
}

/// As [`crate::store::Store::resume_queue`].
pub(super) async fn resume_queue(
    connection: &mut SqliteConnection,
    queue: &QueueName,
) -> Result<bool, StoreError> {
    let resumed = sqlx::query(RESUME)
        .bind(queue.as_str())
        .execute(connection)
        .await
        .map_err(error::of)?;
    Ok(resumed.rows_affected() > 0)
}

/// As [`crate::store::Store::queues`].
pub(super) async fn queues(
    connection: &mut SqliteConnection,
) -> Result<Vec<QueueRecord>, StoreError> {
    let rows: Vec<QueueRow> = sqlx::query_as(QUEUES)
        .bind(TaskState::Scheduled.as_str())
        .bind(TaskState::Ready.as_str())
        .bind(TaskState::Running.as_str())
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    rows.into_iter().map(QueueRow::into_record).collect()
}
