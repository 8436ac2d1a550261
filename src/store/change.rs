//! What is written when attempts end, for both stores: the states come from the domain's table, never from
//! SQL.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::blame::{Blame, LostExecutor};
use super::row::{TaskRow, failure_text};
use super::time::{Time, micros};
use super::{IdleFound, IdleLook, Settled, StoreError, TakenOver};
use crate::domain::{
    Ending, ExecutorId, Failure, FanOutPlace, IllegalTransition, Settlement, Task, TaskEvent,
    TaskFacts, TaskId, TaskState, ending_of_crash, ending_of_loss,
};

/// The largest number of an attempt that a row can hold. A claim never counts beyond it, and nothing runs with it: it
/// was not reached by counting.
pub(super) const ATTEMPT_LAST: i32 = i32::MAX;

/// The word for the state that every attempt ends in.
pub(super) const RUNNING: &str = TaskState::Running.as_str();

/// The last time that counts as before `time`.
pub(super) fn just_before(time: Timestamp) -> Time {
    Time::from(time).before(Duration::from_micros(1))
}

/// Until when a task must have become ready for `look` to take it.
pub(super) fn latest_ready(look: &IdleLook, now: Time) -> Time {
    let latest = now.before(look.older_than);
    look.before
        .map_or(latest, |before| latest.min(just_before(before)))
}

/// What an idle look at `looked_at` has found.
pub(super) fn idle_found(tasks: Vec<Task>, looked_at: Time) -> Result<IdleFound, StoreError> {
    let looked_at = looked_at
        .timestamp()
        .map_err(|error| StoreError::Statement {
            reason: format!("the store's clock is beyond all times: {error}"),
        })?;
    Ok(IdleFound { tasks, looked_at })
}

/// The states in which `event` can happen, and the one that follows: all that a statement is told of the
/// state machine.
#[derive(Debug)]
pub(super) struct Step {
    /// The words for the states before.
    pub(super) from: Vec<&'static str>,
    /// The word for the state after.
    pub(super) to: &'static str,
}

impl Step {
    /// The step that `event` makes, from wherever it can happen.
    pub(super) fn of(event: TaskEvent) -> Self {
        let steps: Vec<_> = TaskState::ALL
            .into_iter()
            .filter_map(|state| state.transition(event).ok())
            .collect();
        let to = steps.first().map(|step| step.to());
        assert!(
            steps.iter().all(|step| Some(step.to()) == to),
            "`{event}` leads to one state"
        );
        Self {
            from: steps.iter().map(|step| step.from().as_str()).collect(),
            to: to.map_or("", TaskState::as_str),
        }
    }
}

/// What is written for one attempt that ended. Fenced by the task, the attempt, its executor, and `running`.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) task: Uuid,
    pub(super) attempt: i32,
    /// The state after.
    pub(super) to: TaskState,
    /// The state instead, when the task is being cancelled: the wish is durable, and no attempt may follow it.
    pub(super) to_if_cancelled: Option<TaskState>,
    pub(super) output: Option<String>,
    pub(super) error: Option<String>,
    /// 1 when the task is charged with it.
    pub(super) failures: i32,
    /// Until the next attempt. Unit: microseconds.
    pub(super) pause: Option<i64>,
    /// What wakes it, if it is suspended.
    pub(super) waiting_for: Option<String>,
    /// When its timer does.
    pub(super) wakes_at: Option<Time>,
    /// Where its end is counted.
    pub(super) fan_out: Option<FanOutPlace>,
    /// Whether another attempt follows because this one failed: then its steps that failed run again.
    pub(super) is_retried: bool,
}

impl Change {
    /// What `settlement` makes of its task.
    pub(super) fn of(settlement: &Settlement) -> Result<Self, StoreError> {
        let (mut output, mut error, mut failures, mut pause) = (None, None, 0, None);
        let (mut suspension, mut is_retried) = (None, false);
        match &settlement.ending {
            Ending::Succeeded(payload) => output = Some(payload.as_str().to_owned()),
            Ending::Failed(failure) | Ending::Paused(failure) => {
                (error, failures) = (Some(failure_text(failure)), 1);
            }
            Ending::RetryPlanned {
                failure,
                pause: until_next,
            } => {
                (error, failures) = (Some(failure_text(failure)), 1);
                pause = Some(micros(*until_next));
                is_retried = true;
            }
            Ending::Cancelled(failure) => error = Some(failure_text(failure)),
            Ending::Released => {}
            Ending::Suspended {
                waiting_for,
                wakes_at,
            } => suspension = Some((waiting_for.to_string(), *wakes_at)),
        }
        let to = after_running(settlement.ending.event())?;
        Ok(Self {
            task: settlement.task.as_uuid(),
            attempt: attempt(settlement.attempt.0),
            to,
            to_if_cancelled: if to.is_final() {
                None
            } else {
                Some(after_running(TaskEvent::Cancelled)?)
            },
            output,
            error,
            failures,
            pause,
            wakes_at: suspension
                .as_ref()
                .and_then(|(_, wakes_at)| *wakes_at)
                .map(Time::from),
            waiting_for: suspension.map(|(waiting_for, _)| waiting_for),
            fan_out: settlement.fan_out.clone(),
            is_retried,
        })
    }

    /// Whether more than the task's own row may change with it.
    pub(super) fn goes_beyond_its_row(&self) -> bool {
        self.fan_out.is_some() || self.waiting_for.is_some() || self.is_retried
    }

    /// What becomes of a task whose executor is gone. It is not the task's failure, so no failure is counted.
    pub(super) fn of_lost(
        row: &TaskRow,
        executor: &LostExecutor,
        blame: Blame,
        last_words: &[String],
    ) -> Result<Self, StoreError> {
        let ending = match row.options() {
            _ if row.is_being_cancelled() => Ending::Released,
            Ok(options) if blame == Blame::Charged => {
                let crashes = row.crashes_after();
                ending_of_crash(&options, crashes, executor.charge(row, crashes, last_words))
            }
            Ok(options) => ending_of_loss(&options, executor.failure()),
            // Whether it may run again cannot be read, so it does not until a human has looked.
            Err(error) => Ending::Paused(Failure::fatal(error)),
        };
        let settlement = Settlement {
            task: TaskId::from_uuid(row.id),
            attempt: crate::domain::Attempt(u32::try_from(row.attempt).unwrap_or(0)),
            ending,
            fan_out: row.fan_out(),
        };
        Ok(Self {
            failures: 0,
            attempt: row.attempt, // As it stands there, also when it is no attempt's number.
            ..Self::of(&settlement)?
        })
    }

    /// What becomes of the task `id` that was claimed and whose row cannot be read: a human shall see it.
    fn of_unreadable(id: Uuid, attempt: i32, error: &StoreError) -> Result<Self, StoreError> {
        let settlement = Settlement {
            task: TaskId::from_uuid(id),
            attempt: crate::domain::Attempt(0),
            ending: Ending::Paused(Failure::fatal(error)),
            fan_out: None,
        };
        Ok(Self {
            attempt,
            failures: 0,
            ..Self::of(&settlement)?
        })
    }
}

/// What was written of a batch of changes.
#[derive(Debug)]
pub(super) struct Written {
    /// The rows that a [`Change`] was written to.
    pub(super) rows: Vec<ChangedRow>,
    /// Tasks that became `ready` with it: their turn came, or what they waited for.
    pub(super) ready: Vec<TaskFacts>,
}

impl Written {
    /// The ends of sub-tasks among the rows, for their parents' counts.
    pub(super) fn ended(&self, changes: &[Change]) -> Result<Vec<EndedSubtask>, StoreError> {
        let places: HashMap<Uuid, &FanOutPlace> = changes
            .iter()
            .filter_map(|change| Some((change.task, change.fan_out.as_ref()?)))
            .collect();
        let mut ended = Vec::new();
        for row in &self.rows {
            let state = read_changed(row)?.0;
            if let Some(place) = places.get(&row.id).filter(|_| state.is_final()) {
                ended.push(EndedSubtask::of(place, state));
            }
        }
        Ok(ended)
    }

    /// The tasks that are suspended now.
    pub(super) fn suspended(&self) -> Vec<Uuid> {
        let suspended = |row: &&ChangedRow| row.state == TaskState::Suspended.as_str();
        self.rows
            .iter()
            .filter(suspended)
            .map(|row| row.id)
            .collect()
    }
}

/// The end of a sub-task, as its parent counts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndedSubtask {
    pub(super) parent: Uuid,
    pub(super) fan_out: String,
    pub(super) place: i32,
    /// 1 when it counts as failed.
    pub(super) failed: i32,
}

impl EndedSubtask {
    /// The end in `state` of the sub-task at `place`.
    pub(super) fn of(place: &FanOutPlace, state: TaskState) -> Self {
        Self {
            parent: place.parent.as_uuid(),
            fan_out: place.name.as_str().to_owned(),
            place: i32::try_from(place.place).unwrap_or(i32::MAX),
            failed: i32::from(state != TaskState::Succeeded),
        }
    }
}

/// One row that a [`Change`] was written to.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ChangedRow {
    pub(super) id: Uuid,
    pub(super) attempt: i32,
    pub(super) state: String,
    pub(super) at: Time,
}

/// The changes of a batch. An attempt that is settled twice in it is settled the first way.
pub(super) fn changes(settlements: &[Settlement]) -> Result<Vec<Change>, StoreError> {
    let mut seen = HashSet::with_capacity(settlements.len());
    settlements
        .iter()
        .filter(|one| seen.insert((one.task, one.attempt)))
        .map(Change::of)
        .collect()
}

/// The answers of a batch, in its order.
pub(super) fn settled(
    settlements: &[Settlement],
    written: Written,
) -> Result<Vec<Settled>, StoreError> {
    let Written { rows, ready } = written;
    let mut ready = Some(ready); // All with the first: whoever hears of it says so.
    let woken: HashSet<TaskId> = ready.iter().flatten().map(|facts| facts.id).collect();
    let mut stored = HashMap::with_capacity(rows.len());
    for row in rows {
        let (mut state, at) = read_changed(&row)?;
        if woken.contains(&TaskId::from_uuid(row.id)) {
            state = TaskState::Ready; // Suspended, and woken at once.
        }
        stored.insert(
            (row.id, row.attempt),
            Settled::Stored {
                state,
                at,
                ready: ready.take().unwrap_or_default(),
            },
        );
    }
    Ok(settlements
        .iter()
        .map(|one| {
            // Removed, not looked up: the second of two is stale.
            stored
                .remove(&(one.task.as_uuid(), attempt(one.attempt.0)))
                .unwrap_or(Settled::Stale)
        })
        .collect())
}

/// Enters what became of the tasks of a lost executor into `taken`.
pub(super) fn enter_taken(
    taken: &mut TakenOver,
    rows: Vec<TaskRow>,
    written: Written,
) -> Result<(), StoreError> {
    taken.released.extend(written.ready);
    let mut states = HashMap::with_capacity(written.rows.len());
    for row in written.rows {
        states.insert(row.id, read_changed(&row)?.0);
    }
    for row in rows {
        let Some(state) = states.get(&row.id).copied() else {
            continue;
        };
        let facts = match row.into_facts() {
            Ok(facts) => TaskFacts { state, ..facts },
            Err(error) => {
                tracing::error!(%error, "left out a task");
                continue;
            }
        };
        match state {
            TaskState::Ready => taken.released.push(facts),
            TaskState::Cancelled => taken.cancelled.push(facts),
            TaskState::Scheduled
            | TaskState::Blocked
            | TaskState::Running
            | TaskState::Suspended
            | TaskState::Paused
            | TaskState::Succeeded
            | TaskState::Failed => taken.ended.push(facts),
        }
    }
    Ok(())
}

/// Splits what was claimed into tasks and, for rows that cannot be read, changes that pause them: left running
/// they would be lost until their executor is, and left ready they would stop every claim that meets them.
pub(super) fn readable(rows: Vec<TaskRow>) -> Result<(Vec<Task>, Vec<Change>), StoreError> {
    let (mut tasks, mut broken) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let (id, attempt) = (row.id, row.attempt);
        let task = match row.into_task() {
            Ok(_) if attempt == ATTEMPT_LAST => Err(StoreError::Corrupt {
                row: format!("`{id}` of `task`"),
                reason: format!(
                    "`attempt`: no attempt is counted after {}",
                    ATTEMPT_LAST - 1
                ),
            }),
            read => read,
        };
        match task {
            Ok(task) => tasks.push(task),
            Err(error) => {
                tracing::error!(task.id = %id, %error, "Task `{id}` is paused, because its row cannot be read");
                broken.push(Change::of_unreadable(id, attempt, &error)?);
            }
        }
    }
    Ok((tasks, broken))
}

/// The state after a step from `running`.
fn after_running(event: TaskEvent) -> Result<TaskState, StoreError> {
    let step = TaskState::Running.transition(event);
    step.map(crate::domain::Transition::to)
        .map_err(|error: IllegalTransition| StoreError::Statement {
            reason: error.to_string(),
        })
}

fn read_changed(row: &ChangedRow) -> Result<(TaskState, Timestamp), StoreError> {
    let corrupt = |error: &dyn std::fmt::Display| StoreError::Corrupt {
        row: format!("`{}` of `task`", row.id),
        reason: error.to_string(),
    };
    let state = row.state.parse().map_err(|error| corrupt(&error))?;
    let at = row.at.timestamp().map_err(|error| corrupt(&error))?;
    Ok((state, at))
}

/// An attempt's number as rows hold it. Beyond its largest it is nobody's token.
pub(super) fn attempt(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(-1)
}

/// The ids as rows hold them.
pub(super) fn uuids(tasks: &[TaskId]) -> Vec<Uuid> {
    tasks.iter().map(|task| task.as_uuid()).collect()
}

/// What a task past its deadline fails with.
pub(super) fn deadline_failure() -> String {
    failure_text(&Failure::fatal("its deadline passed"))
}

/// What was wanted, by whom, is not known: only why.
pub(super) fn cancel_cause(reason: &str) -> String {
    failure_text(&Failure::fatal(reason))
}

/// The executor as rows hold it.
pub(super) fn owner(executor: ExecutorId) -> Uuid {
    executor.as_uuid()
}

/// The words of the states that end a wait.
pub(super) fn ends_of_a_wait() -> Vec<&'static str> {
    let ends = TaskState::ALL
        .into_iter()
        .filter(|state| state.ends_a_wait());
    ends.map(TaskState::as_str).collect()
}

/// Those of `tasks` that are not among `open`.
pub(super) fn without(tasks: &[TaskId], open: &[Uuid]) -> Vec<TaskId> {
    let open: HashSet<Uuid> = open.iter().copied().collect();
    let ended = tasks
        .iter()
        .copied()
        .filter(|task| !open.contains(&task.as_uuid()));
    ended.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_leads_to_one_state_so_that_a_statement_can_be_told() {
        for event in TaskEvent::ALL {
            let step = Step::of(event);
            assert!(!step.from.is_empty());
            assert!(step.to.parse::<TaskState>().is_ok());
        }
    }
}
