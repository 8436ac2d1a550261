//! Rows of steps, signals and counts of sub-tasks as both stores return them, and their way into the domain.

use std::str::FromStr;

use uuid::Uuid;

use super::change::EndedSubtask;
use super::row::{FactsRow, RowName, facts_of_changed, failure, failure_text};
use super::time::Time;
use super::{StoreError, TakeSignal, TookSignal};
use crate::domain::{
    FanOut, FanOutPlan, Payload, PayloadLimits, Step, StepKind, StepName, StepOutcome,
    StepProgress, TaskFacts, TaskId, TaskState,
};

/// The columns of a [`FanOutRow`] behind a table's name, for `concat!`.
macro_rules! fan_out_columns {
    ($table:literal) => {
        concat!(
            $table,
            "task, ",
            $table,
            "name, ",
            $table,
            "in_flight_max, ",
            $table,
            "on_failure, ",
            $table,
            "stored, ",
            $table,
            "is_complete, ",
            $table,
            "granted, ",
            $table,
            "in_flight, ",
            $table,
            "open, ",
            $table,
            "failed"
        )
    };
}

pub(super) use fan_out_columns;

/// A row of `fan_out`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct FanOutRow {
    task: Uuid,
    name: String,
    in_flight_max: Option<i32>,
    on_failure: String,
    stored: i32,
    is_complete: bool,
    granted: i32,
    in_flight: i32,
    open: i32,
    failed: i32,
}

impl FanOutRow {
    /// The same; `None`, and told, when somebody has changed the row by hand: it shall hold up no end of any task. The audit
    /// finds it, and its parent is told when it asks.
    pub(super) fn readable(self) -> Option<(TaskId, StepName, FanOut)> {
        match self.into_fan_out() {
            Ok(read) => Some(read),
            Err(error) => {
                tracing::error!(error = %error, "An end of a sub-task is counted where nobody can read it");
                None
            }
        }
    }

    /// The counts that the row says, with the parent and the name.
    pub(super) fn into_fan_out(self) -> Result<(TaskId, StepName, FanOut), StoreError> {
        let key = format!("{} {}", self.task, self.name);
        let row = RowName("fan_out", &key);
        let max = self.in_flight_max;
        let fan_out = FanOut {
            plan: FanOutPlan {
                in_flight_max: max.map(|max| row.count("in_flight_max", max)).transpose()?,
                on_failure: row.word("on_failure", &self.on_failure)?,
            },
            stored: row.count("stored", self.stored)?,
            is_complete: self.is_complete,
            granted: row.count("granted", self.granted)?,
            in_flight: row.count("in_flight", self.in_flight)?,
            open: row.count("open", self.open)?,
            failed: row.count("failed", self.failed)?,
        };
        let name = row.read("name", StepName::stored(&self.name))?;
        Ok((TaskId::from_uuid(self.task), name, fan_out))
    }
}

/// A row of `step`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StepRow {
    task: Uuid,
    name: String,
    kind: String,
    state: String,
    place: Option<i32>,
    tries: i32,
    due_at: Option<Time>,
    output: Option<String>,
    error: Option<String>,
}

/// The word for a step that waits.
const WAITING: &str = "waiting";

/// The word for a step that has failed, and is to run again when another attempt of its task is made for that.
const RETRYABLE: &str = "retryable";

impl StepRow {
    /// The step that the row says.
    pub(super) fn into_step(self) -> Result<Step, StoreError> {
        let key = format!("{} {}", self.task, self.name);
        let row = RowName("step", &key);
        let payload = |text: Option<&str>| match text {
            None => Ok(Payload::null()),
            Some(text) => row.payload("output", text),
        };
        let progress = match (self.state.as_str(), self.place) {
            (WAITING, _) => {
                let Some(due_at) = self.due_at else {
                    return row.read("due_at", Err("it is missing"));
                };
                StepProgress::Waiting {
                    tries: row.count("tries", self.tries)?,
                    due_at: row.time("due_at", due_at)?,
                }
            }
            (state, Some(place)) => StepProgress::Ended {
                place: row.count("place", place)?,
                outcome: match state {
                    "done" => StepOutcome::Done(payload(self.output.as_deref())?),
                    "skipped" => StepOutcome::Skipped(payload(self.output.as_deref())?),
                    "expired" => StepOutcome::Expired,
                    "failed" | RETRYABLE => {
                        let text = self.error.as_deref().unwrap_or_default();
                        StepOutcome::Failed(row.read("error", failure(text))?)
                    }
                    other => {
                        let reason = format!("not the state of a step: `{other}`");
                        return row.read("state", Err(reason));
                    }
                },
            },
            (_, None) => return row.read("place", Err("it is missing")),
        };
        Ok(Step {
            kind: row.read("kind", StepKind::from_str(&self.kind))?,
            name: row.read("name", StepName::stored(&self.name))?,
            progress,
        })
    }
}

/// How a step is written.
#[derive(Debug)]
pub(super) struct StepText {
    pub(super) state: &'static str,
    pub(super) place: Option<i32>,
    pub(super) tries: i32,
    pub(super) due_at: Option<Time>,
    pub(super) output: Option<String>,
    pub(super) error: Option<String>,
}

impl StepText {
    /// The texts for `step`.
    pub(super) fn of(step: &Step) -> Self {
        let mut text = Self {
            state: WAITING,
            place: None,
            tries: 0,
            due_at: None,
            output: None,
            error: None,
        };
        let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        match &step.progress {
            StepProgress::Waiting { tries, due_at } => {
                text.tries = number(*tries);
                text.due_at = Some(Time::from(*due_at));
            }
            StepProgress::Ended { place, outcome } => {
                text.place = Some(number(*place));
                text.state = match outcome {
                    StepOutcome::Done(output) => {
                        text.output = Some(output.as_str().to_owned());
                        "done"
                    }
                    StepOutcome::Skipped(output) => {
                        text.output = Some(output.as_str().to_owned());
                        "skipped"
                    }
                    StepOutcome::Failed(failure) => {
                        text.error = Some(failure_text(failure));
                        if failure.is_retryable() {
                            RETRYABLE
                        } else {
                            "failed"
                        }
                    }
                    StepOutcome::Expired => "expired",
                };
            }
        }
        text
    }
}

/// What a store says to the wish for a signal.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct TookRow {
    pub(super) is_held: bool,
    pub(super) payload: Option<String>,
}

impl TookRow {
    /// The answer to `wish`.
    pub(super) fn into_answer(self, wish: &TakeSignal) -> Result<TookSignal, StoreError> {
        if !self.is_held {
            return Ok(TookSignal::Stale);
        }
        let Some(text) = self.payload else {
            return Ok(TookSignal::NoneYet);
        };
        // Taken, it is the output of the step: that is what would have to be mended.
        let key = format!("{} {}", wish.task, wish.step);
        let payload = Payload::parse(&text, PayloadLimits::NONE);
        Ok(TookSignal::Taken(
            RowName("step", &key).read("output", payload)?,
        ))
    }
}

/// A task that has just ended otherwise than by its attempt.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct EndedRow {
    #[sqlx(flatten)]
    facts: FactsRow,
    fan_out: Option<String>,
    place: Option<i32>,
}

impl EndedRow {
    /// Its id.
    pub(super) fn id(&self) -> Uuid {
        self.facts.id
    }
}

/// The facts of tasks that have just changed, and the ends among them that their parents count.
pub(super) fn ended_rows(rows: Vec<EndedRow>) -> (Vec<TaskFacts>, Vec<EndedSubtask>) {
    let (mut facts, mut ended) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let (fan_out, place) = (row.fan_out, row.place);
        for one in facts_of_changed(vec![row.facts]) {
            let counted = one.state.is_final();
            if let (true, Some(parent), Some(name), Some(place)) =
                (counted, one.parent, &fan_out, place)
            {
                ended.push(EndedSubtask {
                    parent: parent.as_uuid(),
                    fan_out: name.clone(),
                    place,
                    failed: i32::from(one.state != TaskState::Succeeded),
                });
            }
            facts.push(one);
        }
    }
    (facts, ended)
}
