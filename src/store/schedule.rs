//! Schedules and their firings in rows, for both stores, and what is said of them.

use std::fmt::Display;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use super::row::text;
use super::time::Time;
use super::{Cancelled, StoreError, Submitted};
use crate::domain::limits::SCHEDULES_MAX;
use crate::domain::{
    ExecutorId, Firing, FiringState, NewTask, PayloadLimits, Plan, QueueName, ScheduleName,
    ScheduleRecord, ScheduleSpec, TaskFacts, TaskId, Timing,
};
use crate::wire::{SubmissionJson, TimingJson, parse_object};

/// How soon a pass over due schedules that was interrupted is repeated.
const INTERRUPTED: Duration = Duration::from_secs(1);

/// What became of a request for a schedule.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleCreated {
    /// It is stored.
    Stored(Box<ScheduleRecord>),
    /// The same was stored before.
    Known(Box<ScheduleRecord>),
    /// It was not stored.
    Refused(ScheduleRefusal),
}

/// Why a store does not take a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleRefusal {
    /// Another one has its name.
    #[error("there is a schedule of this name already, which differs in `{}`", .differences.join("`, `"))]
    Taken {
        /// The fields that it has otherwise.
        differences: Vec<&'static str>,
    },
    /// The queue of its task was never created.
    #[error("there is no queue `{0}`")]
    UnknownQueue(QueueName),
    /// All its time is over.
    #[error("it would never fire, because `{0}` has passed")]
    Over(Timestamp),
    /// There are as many as there may be.
    #[error("there are {SCHEDULES_MAX} schedules, and no more may be")]
    Many,
}

/// Which schedules to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduleList {
    /// Behind this name: the cursor.
    pub after: Option<String>,
    /// How many at most.
    pub limit: usize,
}

/// Schedules that were asked for. A row that nobody could have written is told beside them and hides no other.
#[must_use]
#[derive(Debug, Default)]
pub struct SchedulesListed {
    /// Those that can be read, sorted by name.
    pub schedules: Vec<ScheduleRecord>,
    /// Those that cannot.
    pub unreadable: Vec<UnreadableSchedule>,
}

/// A schedule whose row cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct UnreadableSchedule {
    /// What it is called.
    pub name: String,
    /// Which column, and what is wrong with it.
    pub error: StoreError,
}

impl SchedulesListed {
    /// The cursor of the page after this one, of at most `limit` schedules; `None` when this is the last.
    pub fn next(&self, limit: usize) -> Option<String> {
        let names = self.schedules.iter().map(|one| one.spec.name.as_str());
        let broken = self.unreadable.iter().map(|row| row.name.as_str());
        let last = names.chain(broken).max().map(str::to_owned);
        last.filter(|_| self.schedules.len() + self.unreadable.len() >= limit)
    }

    pub(super) fn of(rows: Vec<ScheduleRow>) -> Self {
        let mut listed = Self::default();
        for row in rows {
            let name = row.name.clone();
            match row.into_record() {
                Ok(record) => listed.schedules.push(record),
                Err(error) => listed.unreadable.push(UnreadableSchedule { name, error }),
            }
        }
        listed
    }
}

/// What came of the firings of schedules; to be announced.
#[must_use]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fired {
    /// The tasks that were submitted; a `ready` one is to be announced.
    pub created: Vec<TaskFacts>,
    /// The tasks before them that were cancelled.
    pub cancelled: Vec<TaskFacts>,
    /// The tasks before them that run, and whose executor is to be nudged.
    pub running: Vec<(TaskId, ExecutorId)>,
    /// How many schedules were looked at.
    pub looked_at: usize,
    /// How long until the next one is to be looked at, by the store's clock; `None` when none waits for a time.
    pub next_in: Option<Duration>,
}

impl Fired {
    /// Why the task before was cancelled.
    pub const CANCEL_REASON: &str = "its schedule fired again, and cancels the previous task";

    /// Takes in what became of one schedule.
    pub(super) fn add(&mut self, other: Self) {
        self.created.extend(other.created);
        self.cancelled.extend(other.cancelled);
        self.running.extend(other.running);
        self.looked_at += other.looked_at;
    }

    /// What was done before the store went away: that is committed, and is to be announced all the same.
    pub(super) fn interrupted(mut self, error: StoreError) -> Result<Self, StoreError> {
        if self.looked_at == 0 {
            return Err(error);
        }
        self.next_in = Some(INTERRUPTED);
        Ok(self)
    }

    /// Takes in what became of the tree of the task before.
    pub(super) fn add_cancelled(&mut self, answer: Cancelled) {
        match answer {
            Cancelled::Unknown | Cancelled::Final(_) => {} // It ended in this moment.
            Cancelled::Accepted {
                cancelled, running, ..
            } => {
                self.cancelled.extend(cancelled);
                self.running.extend(running);
            }
        }
    }

    /// Takes in the answer to the submission of a firing's task.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`]: the store does not take it, so the schedule cannot go on.
    pub(super) fn add_submitted(
        &mut self,
        task: &NewTask,
        name: &str,
        answers: Vec<Submitted>,
    ) -> Result<(), StoreError> {
        for answer in answers {
            match answer {
                Submitted::Stored(facts) => self.created.push(facts),
                Submitted::Known(_) => {
                    tracing::debug!(task.id = %task.id, "A firing of the schedule `{name}` has its task already");
                }
                Submitted::Refused(refusal) => return Err(corrupt(name, "task", &refusal)),
            }
        }
        Ok(())
    }
}

/// What became of a wish that a schedule fire now.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggered {
    /// The firing.
    pub firing: Firing,
    /// The task of the firing before, while that was open.
    pub previous: Option<TaskId>,
    /// What is to be announced.
    pub fired: Fired,
}

impl Triggered {
    /// Why the schedule `name` did not fire, when it did not.
    pub fn skipped_because(&self, name: &ScheduleName) -> Option<String> {
        match (self.firing.state, self.previous) {
            (FiringState::Skipped, Some(task)) => Some(format!(
                "the schedule `{name}` is skipped, because its previous task `{task}` is open"
            )),
            (FiringState::Skipped, None) => Some(format!("the schedule `{name}` is skipped")),
            (FiringState::Fired | FiringState::Waiting, _) => None,
        }
    }
}

/// The columns of a [`ScheduleRow`], for `concat!`.
macro_rules! schedule_columns {
    () => {
        "name, timing, task, overlap, catch_up, paused, error, next_at, last_task, created_at, created_by"
    };
}

/// The columns of a [`FiringRow`], for `concat!`.
macro_rules! firing_columns {
    () => {
        "due_at, state, task, at"
    };
}

pub(super) use {firing_columns, schedule_columns};

/// A row of `schedule`. What cannot be read of it is told when it is asked for.
#[derive(Debug)]
pub(super) struct ScheduleRow {
    name: String,
    columns: Result<Columns, StoreError>,
}

#[derive(Debug, sqlx::FromRow)]
struct Columns {
    timing: String,
    task: String,
    overlap: String,
    catch_up: String,
    paused: bool,
    error: Option<String>,
    next_at: Option<Time>,
    last_task: Option<Uuid>,
    created_at: Time,
    created_by: String,
}

/// A row of `schedule_firing`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct FiringRow {
    due_at: Time,
    state: String,
    task: Option<Uuid>,
    at: Time,
}

/// A schedule that was locked, and when.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct LockedRow {
    #[sqlx(flatten)]
    pub(super) schedule: ScheduleRow,
    pub(super) now: Time,
}

impl<'r, R> FromRow<'r, R> for ScheduleRow
where
    R: Row,
    Columns: FromRow<'r, R>,
    &'static str: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let name: String = row.try_get("name")?;
        let columns = Columns::from_row(row).map_err(|error| StoreError::Corrupt {
            row: row_name(&name),
            reason: error.to_string(),
        });
        Ok(Self { name, columns })
    }
}

impl ScheduleRow {
    /// The schedule that the row says.
    pub(super) fn into_record(self) -> Result<ScheduleRecord, StoreError> {
        let Self { name, columns } = self;
        let columns = columns?;
        let unlimited = PayloadLimits::NONE;
        let task = parse_object::<SubmissionJson>(columns.task.as_bytes());
        let timing = parse_object::<TimingJson>(columns.timing.as_bytes());
        let spec = ScheduleSpec {
            name: read(&name, "name", name.parse())?,
            timing: read(&name, "timing", timing.and_then(TimingJson::into_domain))?,
            task: read(
                &name,
                "task",
                task.and_then(|task| task.into_domain(unlimited)),
            )?,
            overlap: read(&name, "overlap", columns.overlap.parse())?,
            catch_up: read(&name, "catch_up", columns.catch_up.parse())?,
        };
        let next_at = columns.next_at.map(Time::timestamp).transpose();
        Ok(ScheduleRecord {
            spec,
            is_paused: columns.paused,
            error: columns.error,
            next_at: read(&name, "next_at", next_at)?,
            last_task: columns.last_task.map(TaskId::from_uuid),
            created_at: read(&name, "created_at", columns.created_at.timestamp())?,
            created_by: columns.created_by,
        })
    }
}

/// The firings of the schedule `name` that rows say.
pub(super) fn firings(name: &str, rows: Vec<FiringRow>) -> Result<Vec<Firing>, StoreError> {
    let firing = |row: FiringRow| {
        Ok(Firing {
            due_at: read(name, "due_at", row.due_at.timestamp())?,
            state: read(name, "state", row.state.parse())?,
            task: row.task.map(TaskId::from_uuid),
            at: read(name, "at", row.at.timestamp())?,
        })
    };
    rows.into_iter().map(firing).collect()
}

/// The times of firings of the schedule `name`.
pub(super) fn times(name: &str, rows: Vec<Time>) -> Result<Vec<Timestamp>, StoreError> {
    let time = |row: Time| read(name, "due_at", row.timestamp());
    rows.into_iter().map(time).collect()
}

/// The store's clock, as the domain knows it.
pub(super) fn clock(now: Time) -> Result<Timestamp, StoreError> {
    now.timestamp().map_err(|error| StoreError::Statement {
        reason: format!("the store's clock is beyond all times: {error}"),
    })
}

/// What is found out about a new schedule before it is stored.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Prospect {
    has_queue: bool,
    schedules: i64,
}

impl Prospect {
    /// When the new schedule `spec` fires first, or why it is refused.
    pub(super) fn judge(
        &self,
        spec: &ScheduleSpec,
        now: Timestamp,
    ) -> Result<Timestamp, ScheduleRefusal> {
        if !self.has_queue {
            return Err(ScheduleRefusal::UnknownQueue(spec.task.queue.clone()));
        }
        if usize::try_from(self.schedules).is_ok_and(|count| count >= SCHEDULES_MAX) {
            return Err(ScheduleRefusal::Many);
        }
        let over = match spec.timing {
            Timing::Once(at) => at,
            Timing::Cron { .. } | Timing::Interval { .. } => now,
        };
        let next = spec.timing.next_after(now, now);
        next.ok_or(ScheduleRefusal::Over(over))
    }
}

/// The answer to a request whose name is known.
pub(super) fn known(spec: &ScheduleSpec, row: ScheduleRow) -> Result<ScheduleCreated, StoreError> {
    let record = row.into_record()?;
    let differences = record.spec.differences(spec);
    Ok(if differences.is_empty() {
        ScheduleCreated::Known(Box::new(record))
    } else {
        ScheduleCreated::Refused(ScheduleRefusal::Taken { differences })
    })
}

/// A new schedule as it is now stored.
pub(super) fn stored(
    spec: &ScheduleSpec,
    next_at: Timestamp,
    now: Timestamp,
    created_by: &str,
) -> ScheduleCreated {
    ScheduleCreated::Stored(Box::new(ScheduleRecord {
        spec: spec.clone(),
        is_paused: false,
        error: None,
        next_at: Some(next_at),
        last_task: None,
        created_at: now,
        created_by: created_by.to_owned(),
    }))
}

/// The text for a timing.
pub(super) fn timing_text(timing: &Timing) -> String {
    text(&TimingJson::from(timing))
}

/// The text for what each firing submits.
pub(super) fn task_text(spec: &ScheduleSpec) -> String {
    text(&SubmissionJson::from(&spec.task))
}

/// The states of what a look noted, beside their times.
pub(super) fn noted(plan: &Plan) -> (Vec<Time>, Vec<&'static str>) {
    let noted = plan.noted.iter();
    noted
        .map(|(due, state)| (Time::from(*due), state.as_str()))
        .unzip()
}

/// What the firing that `plan` makes of a trigger at `now` came to.
pub(super) fn triggered(
    record: &ScheduleRecord,
    plan: &Plan,
    now: Timestamp,
    is_open: bool,
    fired: Fired,
) -> Triggered {
    let noted = plan.noted.iter().find(|(due, _)| *due == now);
    let state = noted.map_or(FiringState::Fired, |(_, state)| *state);
    let is_fired = noted.is_none();
    Triggered {
        firing: Firing {
            due_at: now,
            state,
            task: is_fired.then(|| TaskId::of_firing(&record.spec.name, now)),
            at: now,
        },
        previous: record.last_task.filter(|_| is_open),
        fired,
    }
}

/// Somebody made and deleted a schedule of this name just now.
pub(super) fn vanished(name: &ScheduleName) -> StoreError {
    StoreError::Unavailable {
        reason: format!("the schedule `{name}` was deleted in this moment"),
    }
}

/// Somebody else has made this firing.
pub(super) fn fired_before(name: &str) -> StoreError {
    StoreError::Unavailable {
        reason: format!("the schedule `{name}` fires in this very moment"),
    }
}

fn row_name(name: &str) -> String {
    format!("`{name}` of `schedule`")
}

fn corrupt(name: &str, column: &'static str, error: &dyn Display) -> StoreError {
    StoreError::Corrupt {
        row: row_name(name),
        reason: format!("`{column}`: {error}"),
    }
}

fn read<T, E: Display>(
    name: &str,
    column: &'static str,
    found: Result<T, E>,
) -> Result<T, StoreError> {
    found.map_err(|error| corrupt(name, column, &error))
}
