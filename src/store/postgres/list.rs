//! Lists of tasks, for people.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryAs;
use sqlx::{FromRow, Postgres};

use super::error;
use crate::domain::{ActionName, QueueName, TaskId};
use crate::store::listed::{label_marks, listed};
use crate::store::row::{TaskRow, number, task_columns};
use crate::store::time::Time;
use crate::store::{List, Listed, StoreError};

/// What is listed, of the table `task`.
macro_rules! wanted {
    () => {
        " from task
        where (cardinality($1::text[]) = 0 or state = any($1))
            and ($2::text is null or queue = $2)
            and ($3::text is null or action = $3)
            and not exists (
                select from unnest($4::text[], $5::text[]) as m(first, other)
                where not coalesce(starts_with(labels, m.first) or strpos(labels, m.other) > 0, false)
            )
            and ($6::uuid is null or parent = $6)
            and ($7::uuid is null or id < $7)
            and ($8::text is null or starts_with(action, $8))
            and ($9::timestamptz is null or created_at < $9)"
    };
}

/// Goes through the tasks by age, the newest first, until it has found enough: what is rare is found by
/// looking at all that is newer.
const LIST: &str = concat!(
    "select ",
    task_columns!(),
    wanted!(),
    " order by id desc limit $10"
);

const COUNT: &str = concat!(
    "select count(*) from (select 1",
    wanted!(),
    " limit $10) as counted"
);

fn query<'q, O>(statement: &'static str, list: &'q List) -> QueryAs<'q, Postgres, O, PgArguments>
where
    O: for<'r> FromRow<'r, sqlx::postgres::PgRow>,
{
    let states: Vec<&str> = list.states.iter().map(|state| state.as_str()).collect();
    let (first, other): (Vec<String>, Vec<String>) = list
        .labels
        .iter()
        .map(|(name, value)| label_marks(name, value).into())
        .unzip();
    sqlx::query_as(statement)
        .bind(states)
        .bind(list.queue.as_ref().map(QueueName::as_str))
        .bind(list.action.as_ref().map(ActionName::as_str))
        .bind(first)
        .bind(other)
        .bind(list.parent.map(TaskId::as_uuid))
        .bind(list.before.map(TaskId::as_uuid))
        .bind(list.action_prefix.as_deref())
        .bind(list.created_before.map(Time::from))
        .bind(number(list.limit))
}

/// As [`crate::store::Store::list`].
pub(super) async fn list(connection: &mut PgConnection, list: &List) -> Result<Listed, StoreError> {
    let rows: Vec<TaskRow> = query(LIST, list)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows))
}

/// As [`crate::store::Store::count`].
pub(super) async fn count(connection: &mut PgConnection, list: &List) -> Result<u64, StoreError> {
    let (count,): (i64,) = query(COUNT, list)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
