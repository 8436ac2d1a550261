//! Rows as both stores return them, and their way into the domain. A row that nobody could have written
//! becomes [`StoreError::Corrupt`], which names it.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use super::StoreError;
use super::progress::progress;
use super::time::Time;
use crate::domain::{
    Attempt, Delivery, ExecutorId, ExecutorRecord, ExecutorState, FanOutPlace, Labels, Options,
    Payload, PayloadLimits, RetryPolicy, Slots, StepName, Task, TaskFacts, TaskId,
};

/// The columns of a [`TaskRow`], for `concat!`.
macro_rules! task_columns {
    () => {
        "id, idempotency_key, action, queue, state, attempt, failures, crashes, suspicions, executor, priority, parent, root, origin, \
         created_at, ready_at, run_at, deadline, started_at, finished_at, cancel_requested_at, \
         labels, options, input, output, error, waiting_for, fan_out, place, outlives_parent, progress"
    };
}

/// The columns of a [`FactsRow`], for `concat!`.
macro_rules! facts_columns {
    () => {
        "id, action, queue, state, attempt, parent, origin"
    };
}

pub(super) use super::failure::{failure, failure_text};
pub(super) use {facts_columns, task_columns};

/// A row of `task`. What cannot be read of it is told when it is asked for, so that one row holds up no other.
#[derive(Debug)]
pub(super) struct TaskRow {
    pub(super) id: Uuid,
    pub(super) attempt: i32,
    columns: Result<Columns, StoreError>,
}

/// The columns of a [`TaskRow`]. In SQLite a number may be larger than its type here, and an id shorter.
#[derive(Debug, sqlx::FromRow)]
struct Columns {
    id: Uuid,
    idempotency_key: Option<String>,
    action: String,
    queue: String,
    state: String,
    attempt: i32,
    failures: i32,
    crashes: i16,
    suspicions: i16,
    executor: Option<Uuid>,
    priority: i16,
    parent: Option<Uuid>,
    root: Uuid,
    origin: Option<String>,
    created_at: Time,
    ready_at: Option<Time>,
    run_at: Option<Time>,
    deadline: Option<Time>,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    cancel_requested_at: Option<Time>,
    labels: Option<String>,
    options: Option<String>,
    input: String,
    output: Option<String>,
    error: Option<String>,
    waiting_for: Option<String>,
    fan_out: Option<String>,
    place: Option<i32>,
    outlives_parent: bool,
    progress: Option<String>,
}

/// The attempt of a row whose attempt cannot be read: nobody's token.
const NOBODYS_ATTEMPT: i32 = -1;

/// What of a row of `task` is said in public.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct FactsRow {
    pub(super) id: Uuid,
    action: String,
    queue: String,
    state: String,
    attempt: i32,
    parent: Option<Uuid>,
    origin: Option<String>,
}

/// A row of `executor`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ExecutorRow {
    pub(super) id: Uuid,
    name: String,
    host: String,
    pid: i64,
    version: String,
    slots: String,
    actions: String,
    started_at: Time,
    lease_ends_at: Time,
    is_live: bool,
}

/// How [`Options`] are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OptionsJson {
    attempts: u32,
    delay: Duration,
    delay_max: Duration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Duration>,
    on_failure: String,
    delivery: String,
}

/// Which row is read: its table and key.
pub(super) struct RowName<'a>(pub(super) &'static str, pub(super) &'a dyn Display);

impl Display for RowName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}`", self.1, self.0)
    }
}

impl RowName<'_> {
    /// What `column` says, or which row is broken.
    pub(super) fn read<T, E: Display>(
        &self,
        column: &'static str,
        found: Result<T, E>,
    ) -> Result<T, StoreError> {
        found.map_err(|error| StoreError::Corrupt {
            row: self.to_string(),
            reason: format!("`{column}`: {error}"),
        })
    }

    pub(super) fn word<T: FromStr<Err: Display>>(
        &self,
        column: &'static str,
        text: &str,
    ) -> Result<T, StoreError> {
        self.read(column, text.parse())
    }

    pub(super) fn json<T: DeserializeOwned>(
        &self,
        column: &'static str,
        text: &str,
    ) -> Result<T, StoreError> {
        self.read(column, serde_json::from_str(text))
    }

    pub(super) fn payload(&self, column: &'static str, text: &str) -> Result<Payload, StoreError> {
        let unlimited = PayloadLimits::NONE;
        self.read(column, Payload::parse(text, unlimited))
    }

    pub(super) fn count(&self, column: &'static str, number: i32) -> Result<u32, StoreError> {
        self.read(column, u32::try_from(number))
    }

    pub(super) fn time(&self, column: &'static str, time: Time) -> Result<Timestamp, StoreError> {
        self.read(column, time.timestamp())
    }

    fn time_if_any(
        &self,
        column: &'static str,
        time: Option<Time>,
    ) -> Result<Option<Timestamp>, StoreError> {
        time.map(|time| self.time(column, time)).transpose()
    }
}

impl<'r, R> FromRow<'r, R> for TaskRow
where
    R: Row,
    Columns: FromRow<'r, R>,
    &'static str: ColumnIndex<R>,
    Uuid: Decode<'r, R::Database> + Type<R::Database>,
    i32: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        match Columns::from_row(row) {
            Ok(columns) => Ok(Self {
                id: columns.id,
                attempt: columns.attempt,
                columns: Ok(columns),
            }),
            Err(error) => {
                let id: Uuid = row.try_get("id")?;
                Ok(Self {
                    id,
                    attempt: row.try_get("attempt").unwrap_or(NOBODYS_ATTEMPT),
                    columns: Err(undecoded(id, error)),
                })
            }
        }
    }
}

impl TaskRow {
    /// The task that the row says.
    pub(super) fn into_task(self) -> Result<Task, StoreError> {
        self.columns?.into_task()
    }

    /// What of it is said in public.
    pub(super) fn into_facts(self) -> Result<TaskFacts, StoreError> {
        self.columns?.into_facts()
    }

    /// How the task is to be run.
    pub(super) fn options(&self) -> Result<Options, StoreError> {
        self.columns.as_ref().map_err(StoreError::clone)?.options()
    }

    /// Whether somebody wants it cancelled.
    pub(super) fn is_being_cancelled(&self) -> bool {
        let asked = |columns: &Columns| columns.cancel_requested_at.is_some();
        self.columns.as_ref().is_ok_and(asked)
    }

    /// Whether another executor may run it while nobody knows if the last one still does.
    pub(super) fn may_run_again(&self) -> bool {
        let options = self.options();
        options.is_ok_and(|options| options.delivery == Delivery::Rerun)
    }

    /// How many crashes it is charged with, after one more.
    pub(super) fn crashes_after(&self) -> u32 {
        let crashes = |columns: &Columns| u32::try_from(columns.crashes).unwrap_or(0);
        self.columns.as_ref().map_or(0, crashes) + 1
    }

    /// How many crashes it is suspected of.
    pub(super) fn suspicions(&self) -> i16 {
        self.columns
            .as_ref()
            .map_or(0, |columns| columns.suspicions)
    }

    /// Where it belongs, if its parent has spawned it with others and the row says it well.
    pub(super) fn fan_out(&self) -> Option<FanOutPlace> {
        self.columns.as_ref().ok()?.fan_out().ok()?
    }

    /// How far it last said that it is, as JSON for people.
    pub(super) fn progress(&self) -> Option<serde_json::Value> {
        let text = self.columns.as_ref().ok()?.progress.as_deref()?;
        serde_json::from_str(text).ok()
    }

    /// Who runs it, or ran it last.
    pub(super) fn executor(&self) -> Option<Uuid> {
        self.columns.as_ref().ok()?.executor
    }
}

impl Columns {
    fn into_task(self) -> Result<Task, StoreError> {
        let row = RowName("task", &self.id);
        let output = self.output.as_deref();
        let fan_out = self.fan_out()?;
        let waiting_for = self.waiting_for.as_deref();
        let waiting_for = waiting_for
            .map(|text| row.word("waiting_for", text))
            .transpose()?;
        Ok(Task {
            id: TaskId::from_uuid(self.id),
            idempotency_key: self
                .idempotency_key
                .as_deref()
                .map(|text| row.word("idempotency_key", text))
                .transpose()?,
            action: row.word("action", &self.action)?,
            queue: row.word("queue", &self.queue)?,
            state: row.word("state", &self.state)?,
            attempt: Attempt(row.count("attempt", self.attempt)?),
            failures: row.count("failures", self.failures)?,
            crashes: row.count("crashes", self.crashes.into())?,
            suspicions: row.count("suspicions", self.suspicions.into())?,
            executor: self.executor.map(ExecutorId::from_uuid),
            input: row.payload("input", &self.input)?,
            output: output.map(|text| row.payload("output", text)).transpose()?,
            error: self
                .error
                .as_deref()
                .map(|text| row.read("error", failure(text)))
                .transpose()?,
            parent: self.parent.map(TaskId::from_uuid),
            fan_out,
            outlives_parent: self.outlives_parent,
            root: TaskId::from_uuid(self.root),
            origin: self
                .origin
                .as_deref()
                .map(|text| row.word("origin", text))
                .transpose()?,
            labels: self
                .labels
                .as_deref()
                .map_or(Ok(Labels::new()), |text| row.json("labels", text))?,
            priority: self.priority,
            options: self.options()?,
            created_at: row.time("created_at", self.created_at)?,
            ready_at: row.time_if_any("ready_at", self.ready_at)?,
            run_at: row.time_if_any("run_at", self.run_at)?,
            deadline: row.time_if_any("deadline", self.deadline)?,
            started_at: row.time_if_any("started_at", self.started_at)?,
            finished_at: row.time_if_any("finished_at", self.finished_at)?,
            cancel_requested_at: row
                .time_if_any("cancel_requested_at", self.cancel_requested_at)?,
            waiting_for,
            progress: progress(&row, self.progress.as_deref())?,
        })
    }

    fn fan_out(&self) -> Result<Option<FanOutPlace>, StoreError> {
        let row = RowName("task", &self.id);
        let (Some(name), Some(place), Some(parent)) = (&self.fan_out, self.place, self.parent)
        else {
            return Ok(None);
        };
        Ok(Some(FanOutPlace {
            parent: TaskId::from_uuid(parent),
            name: row.read("fan_out", StepName::stored(name))?,
            place: row.count("place", place)?,
        }))
    }

    fn into_facts(self) -> Result<TaskFacts, StoreError> {
        FactsRow {
            id: self.id,
            action: self.action,
            queue: self.queue,
            state: self.state,
            attempt: self.attempt,
            parent: self.parent,
            origin: self.origin,
        }
        .into_facts()
    }

    fn options(&self) -> Result<Options, StoreError> {
        let row = RowName("task", &self.id);
        let Some(text) = &self.options else {
            return Ok(Options::default());
        };
        let options: OptionsJson = row.json("options", text)?;
        let retry = RetryPolicy::new(options.attempts, options.delay, options.delay_max);
        Ok(Options {
            retry: row.read("options", retry)?,
            timeout: options.timeout,
            on_failure: row.word("options", &options.on_failure)?,
            delivery: row.word("options", &options.delivery)?,
        })
    }
}

/// What cannot be decoded of the row `id`, and the column.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the errors are another crate's; only one of them names a column"
)]
fn undecoded(id: Uuid, error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { index, source } => StoreError::Corrupt {
            row: RowName("task", &id).to_string(),
            reason: format!("`{}`: {source}", index.trim_matches('"')),
        },
        other => StoreError::Corrupt {
            row: RowName("task", &id).to_string(),
            reason: other.to_string(),
        },
    }
}

impl FactsRow {
    /// The facts that the row says.
    pub(super) fn into_facts(self) -> Result<TaskFacts, StoreError> {
        let row = RowName("task", &self.id);
        Ok(TaskFacts {
            id: TaskId::from_uuid(self.id),
            action: row.word("action", &self.action)?,
            queue: row.word("queue", &self.queue)?,
            state: row.word("state", &self.state)?,
            attempt: Attempt(row.count("attempt", self.attempt)?),
            parent: self.parent.map(TaskId::from_uuid),
            origin: self
                .origin
                .as_deref()
                .map(|text| row.word("origin", text))
                .transpose()?,
        })
    }
}

impl ExecutorRow {
    /// The executor that the row says.
    pub(super) fn into_record(self) -> Result<ExecutorRecord, StoreError> {
        let row = RowName("executor", &self.id);
        let slots: Vec<(String, u16)> = row
            .json::<std::collections::BTreeMap<String, u16>>("slots", &self.slots)?
            .into_iter()
            .collect();
        let actions: Vec<String> = row.json("actions", &self.actions)?;
        Ok(ExecutorRecord {
            id: ExecutorId::from_uuid(self.id),
            name: row.word("name", &self.name)?,
            host: self.host,
            pid: row.read("pid", u32::try_from(self.pid))?,
            version: self.version,
            slots: slots
                .into_iter()
                .map(|(queue, slots)| Ok((row.word("slots", &queue)?, slots)))
                .collect::<Result<Slots, StoreError>>()?,
            actions: actions
                .iter()
                .map(|action| row.word("actions", action))
                .collect::<Result<_, StoreError>>()?,
            started_at: row.time("started_at", self.started_at)?,
            lease_ends_at: row.time("lease_ends_at", self.lease_ends_at)?,
            state: if self.is_live {
                ExecutorState::Live
            } else {
                ExecutorState::Lost
            },
        })
    }
}

/// A name that is a row of its own: of a queue, of an action.
pub(super) fn name<T: FromStr<Err: Display>>(
    table: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    RowName(table, &text).word("name", text)
}

/// The facts of rows that were just changed. A row that cannot be read is told to the operator and left out:
/// the change is committed, and the others must be announced.
pub(super) fn facts_of_changed(rows: Vec<FactsRow>) -> Vec<TaskFacts> {
    rows.into_iter()
        .filter_map(|row| {
            row.into_facts()
                .inspect_err(|error| tracing::error!(%error, "left out a task"))
                .ok()
        })
        .collect()
}

/// The text for options; `None` for the default ones.
pub(super) fn options_text(options: &Options) -> Option<String> {
    (*options != Options::default()).then(|| {
        text(&OptionsJson {
            attempts: options.retry.attempts_max(),
            delay: options.retry.delay(),
            delay_max: options.retry.delay_max(),
            timeout: options.timeout,
            on_failure: options.on_failure.to_string(),
            delivery: options.delivery.to_string(),
        })
    })
}

/// The text for labels; `None` for none.
pub(super) fn labels_text(labels: &Labels) -> Option<String> {
    (!labels.is_empty()).then(|| text(labels))
}

/// The reason of a wish to cancel the task `id`, from the column `cancel_cause`.
///
/// # Errors
///
/// [`StoreError::Corrupt`]: the wish stands all the same.
pub(super) fn cancel_reason(id: Uuid, text: &str) -> Result<String, StoreError> {
    RowName("task", &id)
        .read("cancel_cause", failure(text))
        .map(|failure| failure.message)
}

/// A wish to cancel a task: its id, and the reason from the column `cancel_cause`. One that cannot be read is no less a
/// wish.
pub(super) fn cancel_wish((id, text): (Uuid, String)) -> (TaskId, String) {
    let reason = cancel_reason(id, &text).unwrap_or_else(|error| {
        tracing::error!(%error, "a wish to cancel has a reason that cannot be read");
        "for a reason that cannot be read".to_owned()
    });
    (TaskId::from_uuid(id), reason)
}

/// When a lease ends, if there is one.
pub(super) fn lease_time(
    executor: ExecutorId,
    ends_at: Option<Time>,
) -> Result<Option<Timestamp>, StoreError> {
    RowName("executor", &executor).time_if_any("lease_ends_at", ends_at)
}

/// The text for the slots of an executor.
pub(super) fn slots_text(slots: &Slots) -> String {
    let slots: std::collections::BTreeMap<&str, u16> = slots
        .iter()
        .map(|(queue, slots)| (queue.as_str(), *slots))
        .collect();
    text(&slots)
}

/// JSON of what always can be JSON: text keys, no foreign code.
pub(super) fn text<T: Serialize + ?Sized>(value: &T) -> String {
    #[expect(
        clippy::expect_used,
        reason = "our own rows have text keys and no code that can refuse"
    )]
    serde_json::to_string(value).expect("a row is JSON")
}

/// A number of rows or bytes as both stores count them; beyond their largest it is their largest.
pub(super) fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Delivery, OnFailure};

    #[test]
    fn what_is_the_default_takes_no_room() {
        assert_eq!(options_text(&Options::default()), None);
        assert_eq!(labels_text(&Labels::new()), None);
        let options = Options {
            timeout: Some(Duration::from_millis(1500)),
            on_failure: OnFailure::Pause,
            delivery: Delivery::Once,
            ..Options::default()
        };
        insta::assert_snapshot!(
            options_text(&options).unwrap(),
            @r#"{"attempts":1,"delay":{"secs":1,"nanos":0},"delay_max":{"secs":600,"nanos":0},"timeout":{"secs":1,"nanos":500000000},"on_failure":"pause","delivery":"once"}"#
        );
    }
}
