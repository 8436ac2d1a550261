//! What is open, at a glance.

use sqlx::SqliteConnection;

use super::{error, executors, read};
use crate::domain::TaskState;
use crate::store::StoreError;
use crate::store::overview::{
    COUNTS, CountRow, Counted, OPEN, OpenRow, Overview, QUEUES, open_tasks,
};
use crate::store::queue::NameRow;
use crate::store::row::number;
use crate::store::time::Time;

/// As [`crate::store::Store::overview`].
pub(super) async fn overview(
    connection: &mut SqliteConnection,
    limit: usize,
    now: Time,
) -> Result<Overview, StoreError> {
    let queues: Vec<NameRow> = sqlx::query_as(QUEUES)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let counts: Vec<CountRow> = sqlx::query_as(COUNTS)
        .bind(TaskState::Running.as_str())
        .bind(TaskState::Ready.as_str())
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let counted = Counted::of(&queues, counts)?;
    let mut tasks = Vec::new();
    for state in counted.shown() {
        let rows: Vec<OpenRow> = sqlx::query_as(OPEN)
            .bind(state.as_str())
            .bind(TaskState::Ready.as_str())
            .bind(number(limit))
            .fetch_all(&mut *connection)
            .await
            .map_err(error::of)?;
        tasks.extend(open_tasks(state, rows));
    }
    let executors = executors::executors(&mut *connection, now).await?;
    let now = now.timestamp().map_err(|cause| StoreError::Statement {
        reason: cause.to_string(),
    })?;
    let identity = read::identity(connection, now).await?;
    Ok(counted.into_overview(identity, executors, tasks))
}
