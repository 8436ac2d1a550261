//! What is open, at a glance.

use sqlx::PgConnection;

use super::{error, executors, read};
use crate::domain::TaskState;
use crate::store::StoreError;
use crate::store::overview::{CountRow, Counted, OpenRow, Overview, open_tasks};
use crate::store::row::number;

const NAMES: &str = "select name from queue";

/// Scans the tasks, once for all counts: an index on what is open would be written by every settlement.
const COUNTS: &str = "
select queue, state, case when state = $1 then executor end as executor, count(*) as tasks,
    min(ready_at) filter (where state = $2) as oldest_ready_at
from task where finished_at is null
group by 1, 2, 3";

/// Scans the tasks, and keeps the few that come first.
const OPEN: &str = "
select id, action, queue, attempt, executor, progress,
    coalesce(case when state = $2 then ready_at else started_at end, created_at) as since
from task where finished_at is null and state = $1
order by since, id limit $3";

/// As [`crate::store::Store::overview`].
pub(super) async fn overview(
    connection: &mut PgConnection,
    limit: usize,
) -> Result<Overview, StoreError> {
    let names: Vec<String> = sqlx::query_scalar(NAMES)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let counts: Vec<CountRow> = sqlx::query_as(COUNTS)
        .bind(TaskState::Running.as_str())
        .bind(TaskState::Ready.as_str())
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    let counted = Counted::of(&names, counts)?;
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
    let executors = executors::executors(&mut *connection).await?;
    let identity = read::identity(connection).await?; // Last, so that nothing above happened after it.
    Ok(counted.into_overview(identity, executors, tasks))
}
