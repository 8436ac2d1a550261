//! How far attempts are.

use sqlx::PgConnection;
use uuid::Uuid;

use super::error;
use crate::domain::{ExecutorId, Progress, TaskId};
use crate::store::StoreError;
use crate::store::change::{RUNNING, owner};
use crate::store::progress::{noted, notes};

/// Locked in the order of the ids, and fenced like a settlement, for the same reason in a `case`. What somebody else has
/// locked is waited for: it is being settled or cancelled.
const NOTE: &str = "
with held as (
    select w.* from unnest($3::uuid[], $4::int4[], $5::text[]) as w(task, token, said)
    join task t on t.id = w.task
    where t.id = any($3)
        and case when t.attempt = w.token and t.executor = $1 and t.state = $2 then true else false end
    order by t.id for update of t
)
update task set progress = h.said from held h where id = h.task
returning id, attempt";

/// As [`crate::store::Store::note_progress`].
pub(super) async fn note(
    connection: &mut PgConnection,
    executor: ExecutorId,
    batch: &[(TaskId, Progress)],
) -> Result<Vec<bool>, StoreError> {
    let notes = notes(batch);
    let written: Vec<(Uuid, i32)> = sqlx::query_as(NOTE)
        .bind(owner(executor))
        .bind(RUNNING)
        .bind(notes.iter().map(|note| note.task).collect::<Vec<_>>())
        .bind(notes.iter().map(|note| note.attempt).collect::<Vec<_>>())
        .bind(
            notes
                .iter()
                .map(|note| note.text.as_str())
                .collect::<Vec<_>>(),
        )
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(noted(batch, &written))
}
