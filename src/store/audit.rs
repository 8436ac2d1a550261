//! The rules of an audit as both stores are asked, and what is made of their answers.
//!
//! One statement holds every task against every rule that is about rows, so that all rules see one moment: what is
//! being changed while it looks is seen before or after, never half.

use uuid::Uuid;

use super::StoreError;
use super::row::{ExecutorRow, FactsRow, TaskRow, cancel_reason, name};
use crate::domain::{
    Audit, ExecutorId, ExecutorLoad, Subject, TaskId, TaskState, Violation, ViolationKind,
};

/// The states as they are bound: `$1` to `$9`, in the order of [`TaskState::ALL`].
macro_rules! words {
    () => {
        "with w (scheduled, blocked, ready, running, suspended, paused, succeeded, failed, cancelled) as (
            select cast($1 as text), cast($2 as text), cast($3 as text), cast($4 as text), cast($5 as text),
                cast($6 as text), cast($7 as text), cast($8 as text), cast($9 as text)
        )"
    };
}

/// The words of the rules that a row breaks, joined by commas. Reads every task once.
///
/// What may be left beside a final task is no violation: its timers, because a due one is just removed, and a request to
/// cancel it that came while it was being settled. Both go with the task.
pub(super) const RULES: &str = concat!(
    words!(),
    ", judged as (
    select t.id as subject, t.state as state,
        case when (t.finished_at is null) = (t.state in (w.succeeded, w.failed, w.cancelled)) then 'end,' else '' end
        || case when (t.output is null) = (t.state = w.succeeded)
            or t.error is null and t.state in (w.failed, w.cancelled, w.paused)
            or t.error is not null and t.state = w.succeeded then 'outcome,' else '' end
        || case when t.attempt >= 2147483647 and t.finished_at is null
            or t.attempt = 0 and (t.executor is not null or t.started_at is not null
                or t.state in (w.running, w.suspended, w.paused, w.succeeded))
            or t.attempt > 0 and (t.started_at is null or t.executor is null and t.state <> w.running)
            then 'attempt,' else '' end
        || case when t.state = w.running and (x.id is null or x.released_at is not null) then 'owner,' else '' end
        || case when t.state = w.ready and t.ready_at is null then 'ready_at,' else '' end
        || case when t.state = w.scheduled and (t.run_at is null or s.due_at is null or s.due_at <> t.run_at)
            then 'start,' else '' end
        || case when t.deadline is not null
            and t.state in (w.scheduled, w.blocked, w.ready, w.suspended, w.paused)
            and (d.due_at is null or d.due_at <> t.deadline) then 'deadline,' else '' end
        || case when s.task is not null and t.state in (w.blocked, w.ready, w.running, w.suspended, w.paused)
            or d.task is not null and t.deadline is null then 'stray_timer,' else '' end
        || case when c.task is not null and (t.state = w.running and t.cancel_cause is null
            or t.state in (w.scheduled, w.blocked, w.ready, w.suspended, w.paused)) then 'stray_request,' else '' end
        || case when c.task is null and t.state = w.running and t.cancel_cause is not null
            then 'request,' else '' end
        || case when (t.cancel_cause is null) <> (t.cancel_requested_at is null)
            or t.cancel_cause is not null
                and t.state in (w.scheduled, w.blocked, w.ready, w.suspended, w.paused) then 'wish,' else '' end
        || case when t.state = w.blocked and (f.task is null or t.place < f.granted)
            or t.state = w.suspended and (t.waiting_for is null or t.waiting_for = ' ')
            or t.state <> w.suspended and t.waiting_for is not null
            or t.state = w.suspended and replace(t.waiting_for, ' timer ', '') <> t.waiting_for and a.due_at is null
            or t.state = w.suspended and exists (
                select 1 from signal g where g.task = t.id and g.step is null
                    and replace(t.waiting_for, ' signal:' || g.name || ' ', '') <> t.waiting_for
            )
            or t.state = w.suspended and exists (
                select 1 from fan_out o where o.task = t.id
                    and replace(t.waiting_for, ' fan_out:' || o.name || ' ', '') <> t.waiting_for
                    and (o.is_complete and o.open = 0 or o.failed > 0 and o.on_failure = 'fail_fast')
            )
            or t.state = w.suspended
                and length(t.waiting_for) - length(replace(t.waiting_for, ' fan_out:', '')) > length(' fan_out:') * (
                    select count(*) from fan_out o where o.task = t.id
                        and replace(t.waiting_for, ' fan_out:' || o.name || ' ', '') <> t.waiting_for
                ) then 'waker,' else '' end
        || case when t.parent = t.id or t.parent is null and t.root <> t.id
            or t.parent is not null and t.root = t.id or p.root <> t.root then 'tree,' else '' end
        || case when p.finished_at is not null and e.task is null and t.cancel_cause is null and not t.outlives_parent
            and t.state not in (w.succeeded, w.failed, w.cancelled) then 'outlived,' else '' end
        || case when q.name is null and t.state not in (w.succeeded, w.failed, w.cancelled)
            then 'queue,' else '' end
        || case when t.failures > t.attempt and t.attempt > 0 then 'counts,' else '' end as broken
    from task t cross join w
    left join executor x on x.id = t.executor
    left join timer s on s.task = t.id and s.kind = 'start'
    left join timer d on d.task = t.id and d.kind = 'deadline'
    left join cancel_request c on c.task = t.id
    left join queue q on q.name = t.queue
    left join task p on p.id = t.parent
    left join timer a on a.task = t.id and a.kind = 'wake'
    left join fan_out f on f.task = t.parent and f.name = t.fan_out
    left join ended_parent e on e.task = t.parent
)
select subject, state, broken from judged where broken <> ''
union all
select distinct m.task, '', 'stray_timer,' from timer m where not exists (select 1 from task t where t.id = m.task)
union all
select c.task, '', 'stray_request,' from cancel_request c where not exists (select 1 from task t where t.id = c.task)
union all
select o.task, p.state, 'fan_out,' from fan_out o join task p on p.id = o.task
where p.finished_at is null and (
    o.open <> (select count(*) from task t where t.parent = o.task and t.fan_out = o.name and t.finished_at is null)
    or o.stored <> (select count(*) from task t where t.parent = o.task and t.fan_out = o.name)
    or o.in_flight <> (
        select count(*) from task t
        where t.parent = o.task and t.fan_out = o.name and t.place < o.granted and t.finished_at is null
    )
)
union all
select x.id, '', 'executor,' from executor x where x.released_at is not null and x.lost_at is null
order by 1 limit cast($10 as bigint)"
);

/// One page of tasks, to see whether they can be read: those after `$1`, with `$3` also the final ones.
pub(super) const PAGE: &str = concat!(
    "select ",
    super::row::task_columns!(),
    ", cancel_cause from task where id > $1 and (finished_at is null or $3) order by id limit cast($2 as bigint)"
);

/// Rows of one page. Payloads are in it: 64 of the largest that are allowed are half a gigabyte.
pub(super) const PAGE_ROWS: usize = 64;

/// What each executor runs.
pub(super) const LOADS: &str = "
select executor, queue, count(*) from task
where state = $1 and executor is not null group by executor, queue";

/// What a statement says of one row.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct JudgedRow {
    subject: Uuid,
    state: String,
    broken: String,
}

/// A task to be read, with the one column that is read by those who ask for it only.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ReadRow {
    #[sqlx(flatten)]
    task: TaskRow,
    cancel_cause: Option<String>,
}

impl ReadRow {
    pub(super) fn id(&self) -> Uuid {
        self.task.id
    }
}

/// What of an audit is put together from several statements.
#[derive(Debug, Default)]
pub(super) struct Findings {
    audit: Audit,
    max: usize,
}

impl Findings {
    /// Findings of which at most `max` are kept.
    pub(super) fn new(max: usize) -> Self {
        Self {
            audit: Audit::default(),
            max,
        }
    }

    /// Enters what [`RULES`] found.
    pub(super) fn enter_judged(&mut self, rows: Vec<JudgedRow>) -> Result<(), StoreError> {
        for row in rows {
            let words = row.broken.split(',').filter(|word| !word.is_empty());
            for word in words {
                let kind: ViolationKind = name("audit", word)?;
                // Whose task is gone has no state.
                let state: Option<TaskState> = row.state.parse().ok();
                let subject = if kind == ViolationKind::Executor {
                    Subject::Executor(ExecutorId::from_uuid(row.subject))
                } else {
                    Subject::Task(TaskId::from_uuid(row.subject))
                };
                let what = kind.sentence(state);
                self.enter(kind, subject, what);
            }
        }
        Ok(())
    }

    /// Enters what cannot be read of a page.
    pub(super) fn enter_page(&mut self, rows: Vec<ReadRow>) {
        for row in rows {
            let (id, cause) = (row.id(), row.cancel_cause);
            let read = row.task.into_task().map(drop);
            let wish = cause.map_or(Ok(()), |cause| cancel_reason(id, &cause).map(drop));
            if let Err(error) = read.and(wish) {
                let subject = Subject::Task(TaskId::from_uuid(id));
                self.enter_unreadable(subject, error);
            }
        }
    }

    /// Enters executors, and what cannot be read of them.
    pub(super) fn enter_executors(&mut self, rows: Vec<ExecutorRow>) {
        for row in rows {
            let id = ExecutorId::from_uuid(row.id);
            match row.into_record() {
                Ok(record) => self.audit.executors.push(record),
                Err(error) => self.enter_unreadable(Subject::Executor(id), error),
            }
        }
    }

    /// Enters what has been ready for long. What cannot be read is told elsewhere.
    pub(super) fn enter_waiting(&mut self, rows: Vec<FactsRow>) {
        let read = rows.into_iter().filter_map(|row| row.into_facts().ok());
        self.audit.waiting = read.collect();
    }

    /// Enters what executors run.
    pub(super) fn enter_loads(&mut self, rows: Vec<(Uuid, String, i64)>) {
        let load = |(executor, queue, running): (Uuid, String, i64)| {
            Some(ExecutorLoad {
                executor: ExecutorId::from_uuid(executor),
                queue: queue.parse().ok()?, // Told as unreadable elsewhere.
                running: u64::try_from(running).unwrap_or(0),
            })
        };
        self.audit.loads = rows.into_iter().filter_map(load).collect();
    }

    /// Whether there are more than are kept: then there is no need to look on.
    pub(super) fn is_full(&self) -> bool {
        self.audit.is_cut
    }

    /// The audit.
    pub(super) fn into_audit(self) -> Audit {
        self.audit
    }

    fn enter_unreadable(&mut self, subject: Subject, error: StoreError) {
        let what = match error {
            StoreError::Corrupt { reason, .. } => reason,
            other @ (StoreError::Unavailable { .. }
            | StoreError::Denied { .. }
            | StoreError::Address { .. }
            | StoreError::Schema { .. }
            | StoreError::Statement { .. }) => other.to_string(),
        };
        self.enter(ViolationKind::Unreadable, subject, what);
    }

    fn enter(&mut self, kind: ViolationKind, subject: Subject, what: String) {
        if self.audit.violations.len() < self.max {
            self.audit.violations.push(Violation {
                kind,
                subject,
                what,
            });
        } else {
            self.audit.is_cut = true;
        }
    }
}

/// The tasks among `violations` that break the rule `kind`.
pub(super) fn of_kind(violations: &[Violation], kind: ViolationKind) -> Vec<TaskId> {
    let tasks = violations.iter().filter(|one| one.kind == kind);
    tasks.filter_map(Violation::task).collect()
}

/// The statements of a repair that are the same in both stores, given how `$1`, the ids, is read, and the word of each
/// state bound behind it. Each holds its condition against the row again: what has been made right meanwhile, by
/// itself or by others, is left alone.
macro_rules! repairs {
    ($ids:literal) => {
        /// Sets the timer that starts a scheduled task. States: scheduled.
        const START: &str = concat!(
            "insert into timer (task, kind, due_at)
            select id, 'start', run_at from task
            where id in (", $ids, ") and state = $2 and run_at is not null
            on conflict (task, kind) do update set due_at = excluded.due_at"
        );

        /// Sets the timer of a deadline. States: running.
        const DEADLINE: &str = concat!(
            "insert into timer (task, kind, due_at)
            select id, 'deadline', deadline from task
            where id in (", $ids, ") and state <> $2 and finished_at is null and deadline is not null
            on conflict (task, kind) do update set due_at = excluded.due_at"
        );

        /// Deletes timers that nobody can use. States: scheduled.
        const STRAY_TIMER: &str = concat!(
            "delete from timer where task in (", $ids, ") and not exists (
                select 1 from task t where t.id = timer.task and (
                    t.finished_at is not null
                    or timer.kind = 'start' and t.state = $2
                    or timer.kind = 'wake'
                    or timer.kind = 'deadline' and t.deadline is not null
                )
            )"
        );

        /// Deletes requests that nobody can use. States: running.
        const STRAY_REQUEST: &str = concat!(
            "delete from cancel_request where task in (", $ids, ") and not exists (
                select 1 from task t
                where t.id = cancel_request.task and t.state = $2 and t.cancel_cause is not null
            )"
        );

        /// Tells executors of wishes that they were not told of. States: running.
        const REQUEST: &str = concat!(
            "insert into cancel_request (task)
            select id from task where id in (", $ids, ") and state = $2 and cancel_cause is not null
            on conflict do nothing"
        );

        /// Gives an owner to what runs without any, so that it can be taken from it. States: running.
        const ADOPT: &str = concat!(
            "update task set executor = $3 where id in (", $ids, ") and state = $2 and executor is null"
        );

        /// What runs, and whose owner nobody will take it from. States: running.
        const OWNERLESS: &str = concat!(
            "select ", $crate::store::row::task_columns!(), " from task
            where id in (", $ids, ") and state = $2 and not exists (
                select 1 from executor x where x.id = task.executor and x.released_at is null
            ) order by id"
        );
    };
}

pub(super) use repairs;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_knows_every_rule_that_is_about_rows() {
        for kind in ViolationKind::ALL {
            let is_there = RULES.contains(&format!("'{kind},'"));
            let is_elsewhere =
                [ViolationKind::Unreadable, ViolationKind::Unannounced].contains(kind);
            assert_eq!(is_there, !is_elsewhere, "{kind}");
        }
    }

    #[test]
    fn no_more_is_told_than_asked_for() {
        let mut findings = Findings::new(1);
        let row = || JudgedRow {
            subject: Uuid::nil(),
            state: "ready".to_owned(),
            broken: "ready_at,".to_owned(),
        };
        findings.enter_judged(vec![row()]).unwrap();
        assert!(!findings.is_full());
        findings.enter_judged(vec![row()]).unwrap();
        assert!(findings.is_full());
        assert_eq!(findings.into_audit().violations.len(), 1);
    }
}
