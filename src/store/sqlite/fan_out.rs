//! Sub-tasks that were spawned together: counting their ends, and giving the next ones their turn.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{error, signal};
use crate::domain::{FanOut, StepName, TaskEvent, TaskFacts, TaskId, fan_out_mark};
use crate::store::StoreError;
use crate::store::change::{EndedSubtask, Step};
use crate::store::durable_row::{FanOutRow, fan_out_columns};
use crate::store::row::{FactsRow, facts_columns, facts_of_changed, text};
use crate::store::time::Time;

/// What ended before it had its turn was never in flight.
const COUNT: &str = concat!(
    "update fan_out set
        open = open - ?3,
        failed = failed + ?4,
        in_flight = in_flight - (select count(*) from json_each(?5) where value < granted)
    where task = ?1 and name = ?2
    returning ",
    fan_out_columns!("")
);

const ONE: &str = concat!(
    "select ",
    fan_out_columns!(""),
    " from fan_out where task = ?1 and name = ?2"
);

/// Those that ended before their turn are passed over.
const GRANT: &str = concat!(
    "update task set state = ?6, ready_at = ?7
    where parent = ?1 and fan_out = ?2 and place >= ?3 and place < ?4
        and state in (select value from json_each(?5))
    returning ",
    facts_columns!()
);

const GRANTED: &str = "
update fan_out set granted = ?3, in_flight = in_flight + ?4 where task = ?1 and name = ?2";

/// Counts the ends of sub-tasks; answers what became `ready` by it: parents that waited for them, and siblings whose turn
/// has come.
pub(super) async fn count_ended(
    connection: &mut SqliteConnection,
    ended: &[EndedSubtask],
    now: Time,
) -> Result<Vec<TaskFacts>, StoreError> {
    let mut groups: BTreeMap<(Uuid, &str), (Vec<i32>, i32)> = BTreeMap::new();
    for one in ended {
        let (places, failed) = groups.entry((one.parent, &one.fan_out)).or_default();
        places.push(one.place);
        *failed += one.failed;
    }
    let (mut ready, mut over) = (Vec::new(), Vec::new());
    for ((parent, name), (places, failed)) in groups {
        let row: Option<FanOutRow> = sqlx::query_as(COUNT)
            .bind(parent)
            .bind(name)
            .bind(i64::try_from(places.len()).unwrap_or(i64::MAX))
            .bind(failed)
            .bind(text(&places))
            .fetch_optional(&mut *connection)
            .await
            .map_err(error::of)?;
        let Some(row) = row else { continue };
        let Some((task, name, fan_out)) = row.readable() else {
            continue;
        };
        if fan_out.is_over() {
            over.push((task.as_uuid(), fan_out_mark(&name)));
        }
        ready.extend(grant(connection, task, &name, fan_out, now).await?);
    }
    ready.extend(signal::wake(connection, &over, now).await?);
    Ok(facts_of_changed(ready))
}

/// Gives as many their turn as there is room for.
async fn grant(
    connection: &mut SqliteConnection,
    task: TaskId,
    name: &StepName,
    mut fan_out: FanOut,
    now: Time,
) -> Result<Vec<FactsRow>, StoreError> {
    let step = Step::of(TaskEvent::Granted);
    let mut ready = Vec::new();
    loop {
        let allowance = fan_out.allowance();
        if allowance == 0 {
            return Ok(ready);
        }
        let until = fan_out.granted + allowance;
        let rows: Vec<FactsRow> = sqlx::query_as(GRANT)
            .bind(task.as_uuid())
            .bind(name.as_str())
            .bind(i64::from(fan_out.granted))
            .bind(i64::from(until))
            .bind(text(&step.from))
            .bind(step.to)
            .bind(now)
            .fetch_all(&mut *connection)
            .await
            .map_err(error::of)?;
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        sqlx::query(GRANTED)
            .bind(task.as_uuid())
            .bind(name.as_str())
            .bind(i64::from(until))
            .bind(i64::from(count))
            .execute(&mut *connection)
            .await
            .map_err(error::of)?;
        fan_out.granted = until;
        fan_out.in_flight += count;
        ready.extend(rows);
    }
}

/// As [`crate::store::Store::fan_out`].
pub(super) async fn fan_out(
    connection: &mut SqliteConnection,
    task: TaskId,
    name: &StepName,
) -> Result<Option<FanOut>, StoreError> {
    let row: Option<FanOutRow> = sqlx::query_as(ONE)
        .bind(task.as_uuid())
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .map_err(error::of)?;
    row.map(|row| Ok(row.into_fan_out()?.2)).transpose()
}
