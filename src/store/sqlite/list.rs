//! Lists of tasks, for people.

use sqlx::query::QueryAs;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{FromRow, Sqlite};

use super::error;
use crate::domain::{ActionName, QueueName, TaskId};
use crate::store::listed::{label_marks, listed};
use crate::store::row::{TaskRow, number, task_columns, text};
use crate::store::time::Time;
use crate::store::{List, Listed, StoreError};

/// What is listed, of the table `task`.
macro_rules! wanted {
    () => {
        " from task
        where (?1 = '[]' or state in (select value from json_each(?1)))
            and (?2 is null or queue = ?2)
            and (?3 is null or action = ?3)
            and not exists (
                select 1 from json_each(?4) as m
                where not ifnull(instr(labels, m.value ->> 0) = 1 or instr(labels, m.value ->> 1) > 0, 0)
            )
            and (?5 is null or parent = ?5)
            and (?6 is null or id < ?6)
            and (?7 is null or substr(action, 1, length(?7)) = ?7)
            and (?8 is null or created_at < ?8)"
    };
}

/// Goes through the tasks by age, the newest first, until it has found enough: what is rare is found by
/// looking at all that is newer.
const LIST: &str = concat!(
    "select ",
    task_columns!(),
    wanted!(),
    " order by id desc limit +?9"
);

const COUNT: &str = concat!(
    "select count(*) from (select 1",
    wanted!(),
    " limit +?9) as counted"
);

fn query<'q, O>(statement: &'static str, list: &'q List) -> QueryAs<'q, Sqlite, O, SqliteArguments>
where
    O: for<'r> FromRow<'r, SqliteRow>,
{
    let states: Vec<&str> = list.states.iter().map(|state| state.as_str()).collect();
    let marks: Vec<[String; 2]> = list
        .labels
        .iter()
        .map(|(name, value)| label_marks(name, value))
        .collect();
    sqlx::query_as(statement)
        .bind(text(&states))
        .bind(list.queue.as_ref().map(QueueName::as_str))
        .bind(list.action.as_ref().map(ActionName::as_str))
        .bind(text(&marks))
        .bind(list.parent.map(TaskId::as_uuid))
        .bind(list.before.map(TaskId::as_uuid))
        .bind(list.action_prefix.as_deref())
        .bind(list.created_before.map(Time::from))
        .bind(number(list.limit))
}

/// As [`crate::store::Store::list`].
pub(super) async fn list(
    connection: &mut SqliteConnection,
    list: &List,
) -> Result<Listed, StoreError> {
    let rows: Vec<TaskRow> = query(LIST, list)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    Ok(listed(rows))
}

/// As [`crate::store::Store::count`].
pub(super) async fn count(
    connection: &mut SqliteConnection,
    list: &List,
) -> Result<u64, StoreError> {
    let (count,): (i64,) = query(COUNT, list)
        .fetch_one(connection)
        .await
        .map_err(error::of)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
