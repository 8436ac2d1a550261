//! Holding the store against its rules, and making right what can be made right.

use sqlx::{Connection, SqliteConnection};
use uuid::Uuid;

use super::submit::hex;
use super::{error, settle};
use crate::domain::limits::{AUDIT_MAX, READY_SUSPECT};
use crate::domain::{AuditDepth, TaskId, TaskState, Violation, ViolationKind};
use crate::store::audit::{
    Findings, JudgedRow, LOADS, PAGE, PAGE_ROWS, RULES, ReadRow, of_kind, repairs,
};
use crate::store::blame::{Blame, LostExecutor};
use crate::store::change::{Change, RUNNING, enter_taken};
use crate::store::row::{ExecutorRow, FactsRow, TaskRow, facts_columns, number, text};
use crate::store::time::Time;
use crate::store::{StoreError, TakenOver};

/// Tasks that are ready for long, and that somebody should take. Scans: nobody waits for an audit.
const WAITING: &str = concat!(
    "select ",
    facts_columns!(),
    " from task where state = ?1 and ready_at <= ?2
        and queue not in (select name from queue where paused_at is not null)
    order by ready_at limit +?3"
);

const EXECUTORS: &str = "
select id, name, host, pid, version, slots, actions, started_at, lease_ends_at,
    lease_ends_at > ?1 and lost_at is null and dead_at is null as is_live
from executor order by id";

const READY_AT: &str = "
update task set ready_at = ?3
where id in (select unhex(value) from json_each(?1)) and state = ?2 and ready_at is null";

repairs!("select unhex(value) from json_each($1)");

/// All that statements find; the rows themselves are read by [`page`].
pub(super) async fn findings(
    connection: &mut SqliteConnection,
    now: Time,
) -> Result<Findings, StoreError> {
    let mut findings = Findings::new(AUDIT_MAX);
    let mut rules = sqlx::query_as(RULES);
    for state in TaskState::ALL {
        rules = rules.bind(state.as_str());
    }
    let judged: Vec<JudgedRow> = rules
        .bind(number(AUDIT_MAX + 1))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    findings.enter_judged(judged)?;
    let executors: Vec<ExecutorRow> = sqlx::query_as(EXECUTORS)
        .bind(now)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    findings.enter_executors(executors);
    let waiting: Vec<FactsRow> = sqlx::query_as(WAITING)
        .bind(TaskState::Ready.as_str())
        .bind(now.before(READY_SUSPECT))
        .bind(number(AUDIT_MAX))
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    findings.enter_waiting(waiting);
    let loads: Vec<(Uuid, String, i64)> = sqlx::query_as(LOADS)
        .bind(RUNNING)
        .fetch_all(connection)
        .await
        .map_err(error::of)?;
    findings.enter_loads(loads);
    Ok(findings)
}

/// The rows after the task `last`; none when there are no more.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    last: Uuid,
    depth: AuditDepth,
) -> Result<Vec<ReadRow>, StoreError> {
    sqlx::query_as(PAGE)
        .bind(last)
        .bind(number(PAGE_ROWS))
        .bind(depth == AuditDepth::All)
        .fetch_all(connection)
        .await
        .map_err(error::of)
}

/// As [`crate::store::Store::repair`].
pub(super) async fn repair(
    connection: &mut SqliteConnection,
    violations: &[Violation],
    now: Time,
) -> Result<TakenOver, StoreError> {
    let mut transaction = connection
        .begin_with("begin immediate")
        .await
        .map_err(error::of)?;
    let (scheduled, ready) = (TaskState::Scheduled.as_str(), TaskState::Ready.as_str());
    for (kind, statement, state) in [
        (ViolationKind::Start, START, scheduled),
        (ViolationKind::Deadline, DEADLINE, RUNNING),
        (ViolationKind::StrayTimer, STRAY_TIMER, scheduled),
        (ViolationKind::StrayRequest, STRAY_REQUEST, RUNNING),
        (ViolationKind::Request, REQUEST, RUNNING),
    ] {
        sqlx::query(statement)
            .bind(hexes(&of_kind(violations, kind)))
            .bind(state)
            .execute(&mut *transaction)
            .await
            .map_err(error::of)?;
    }
    let kind = ViolationKind::ReadyAt;
    sqlx::query(READY_AT)
        .bind(hexes(&of_kind(violations, kind)))
        .bind(ready)
        .bind(now)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    let ownerless = of_kind(violations, ViolationKind::Owner);
    let taken = release(&mut transaction, &ownerless, now).await?;
    transaction.commit().await.map_err(error::of)?;
    Ok(taken)
}

/// Takes over what runs without an owner, as from an executor that was lost.
async fn release(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
    now: Time,
) -> Result<TakenOver, StoreError> {
    let mut taken = TakenOver::default();
    sqlx::query(ADOPT)
        .bind(hexes(tasks))
        .bind(RUNNING)
        .bind(Uuid::nil())
        .execute(&mut *connection)
        .await
        .map_err(error::of)?;
    let rows: Vec<TaskRow> = sqlx::query_as(OWNERLESS)
        .bind(hexes(tasks))
        .bind(RUNNING)
        .fetch_all(&mut *connection)
        .await
        .map_err(error::of)?;
    for row in rows {
        let Some(id) = row.executor() else {
            continue; // It cannot be read, and is told as such.
        };
        let executor = LostExecutor::unknown(id);
        let change = Change::of_lost(&row, &executor, Blame::Innocent, &[])?;
        let written = settle::write(connection, id, &[change], now).await?;
        enter_taken(&mut taken, vec![row], written)?;
    }
    Ok(taken)
}

fn hexes(tasks: &[TaskId]) -> String {
    let ids: Vec<String> = tasks.iter().map(|task| hex(task.as_uuid())).collect();
    text(&ids)
}
