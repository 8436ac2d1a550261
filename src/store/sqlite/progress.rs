//! How far attempts are.

use serde_json::json;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::error;
use super::submit::hex;
use crate::domain::{ExecutorId, Progress, TaskId};
use crate::store::StoreError;
use crate::store::change::{RUNNING, owner};
use crate::store::progress::{noted, notes};
use crate::store::row::text;

const NOTE: &str = "
update task set progress = w.said
from (
    select t.id as held, e.value ->> 2 as said
    from json_each(?3) as e cross join task t on t.id = unhex(e.value ->> 0)
    where t.attempt = e.value ->> 1 and t.executor = ?1 and t.state = ?2
) as w
where id = w.held
returning id, attempt";

/// As [`crate::store::Store::note_progress`].
pub(super) async fn note(
    connection: &mut SqliteConnection,
    executor: ExecutorId,
    batch: &[(TaskId, Progress)],
) -> Result<Vec<bool>, StoreError> {
    let notes: Vec<_> = notes(batch)
        .into_iter()
        .map(|note| json!([hex(note.task), note.attempt, note.text]))
        .collect();
    let written: Vec<(Uuid, i32)> = sqlx::query_as(NOTE)
        .bind(owner(executor))
        .bind(RUNNING)
        .bind(text(&notes))
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(noted(batch, &written))
}
