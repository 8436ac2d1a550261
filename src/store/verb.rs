//! What is written when an operator acts on a task, for both stores.

use serde_json::json;
use uuid::Uuid;

use super::row::{RowName, failure, failure_text, name};
use super::time::Time;
use super::{Operated, StoreError};
use crate::domain::{
    Course, DeadLetter, Failure, HistoryEntry, HistoryKind, NewTask, Operator, OriginToken,
    Payload, StepName, Submission, Task, TaskFacts, TaskId, TaskState, Verb, VerbError,
    course_of_a_step, note,
};

/// What is looked at before anything is written. Little, so that a task whose row cannot be read can be given up.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct FoundRow {
    state: String,
    error: Option<String>,
    /// The fan-out that counts it: it is a step of its parent.
    fan_out: Option<String>,
}

impl FoundRow {
    /// The step that failed, if the stored error names one.
    pub(super) fn step(&self) -> Option<StepName> {
        failure(self.error.as_deref()?).ok()?.step
    }
}

/// What a verb writes into the row.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) from: &'static str,
    pub(super) to: TaskState,
    /// The error instead of the one that is there.
    pub(super) error: Option<String>,
    /// What it returns, and then there is no error.
    pub(super) output: Option<String>,
    /// Whether what is counted against it is forgotten.
    pub(super) is_reset: bool,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Plan {
    /// Move the task on.
    Move(Move),
    /// Make a copy.
    Copy(TaskId, Option<OriginToken>),
}

/// What `verb` makes of the task that was `found`; `Err` when nothing.
pub(super) fn plan(verb: &Verb, found: &FoundRow) -> Result<Result<Plan, Operated>, StoreError> {
    let state: TaskState = name("task", &found.state)?;
    let step = match verb.course(state) {
        Ok(Course::Move(step)) => step,
        Ok(Course::Copy) => {
            return Ok(match verb {
                Verb::Retry { copy, origin } => Ok(Plan::Copy(*copy, origin.clone())),
                Verb::Resume | Verb::Skip { .. } | Verb::Abandon { .. } => {
                    Err(Operated::Refused(VerbError::State {
                        state,
                        verb: verb.kind(),
                    }))
                }
            });
        }
        Err(refusal) => return Ok(Err(Operated::Refused(refusal))),
    };
    let error = match verb {
        Verb::Abandon { reason } => Some(abandoned(reason, found.error.as_deref())),
        Verb::Resume | Verb::Skip { .. } | Verb::Retry { .. } => None,
    };
    Ok(Ok(Plan::Move(Move {
        from: step.from().as_str(),
        to: step.to(),
        error,
        output: None,
        is_reset: matches!(verb, Verb::Retry { .. }),
    })))
}

/// What skipping makes of the task that was `found`, of which no step is stored as failed: as a step of its parent it ends with
/// `output`. Not if its error names a step: then the rest of its code was never meant to be left out.
pub(super) fn skipped_itself(
    found: &FoundRow,
    named: Option<StepName>,
    output: &Payload,
) -> Result<Result<Move, Operated>, StoreError> {
    if let Some(step) = named {
        return Ok(Err(Operated::Refused(VerbError::NoFailedStep { step })));
    }
    if found.fan_out.is_none() {
        return Ok(Err(Operated::Refused(VerbError::NoStep)));
    }
    let state: TaskState = name("task", &found.state)?;
    Ok(match course_of_a_step(state) {
        Ok(step) => Ok(Move {
            from: step.from().as_str(),
            to: step.to(),
            error: None,
            output: Some(output.as_str().to_owned()),
            is_reset: false,
        }),
        Err(refusal) => Err(Operated::Refused(refusal)),
    })
}

/// The error of a task that is given up: the reason, and the former error as its detail.
fn abandoned(reason: &str, former: Option<&str>) -> String {
    let given_up = Failure::fatal(reason);
    let former = former.and_then(|text| failure(text).ok());
    failure_text(&match former {
        Some(former) => given_up.with_detail(&json!({
            "former": {
                "message": former.message,
                "retryable": former.is_retryable(),
                "detail": former.detail,
            },
        })),
        None => given_up,
    })
}

/// The copy of a task that is run again: what was asked for, without what made it one task or another's.
pub(super) fn copy(task: Task, id: TaskId, origin: Option<OriginToken>) -> NewTask {
    NewTask {
        id,
        origin,
        fan_out: None,
        submission: Submission {
            queue: task.queue,
            priority: task.priority,
            labels: task.labels,
            options: task.options,
            ..Submission::new(task.action, task.input)
        },
    }
}

/// The error of a copy that the store does not take. It cannot be: its queue exists, and it has no parent.
pub(super) fn not_copied(task: TaskId) -> StoreError {
    StoreError::Statement {
        reason: format!("the copy of task `{task}` was not stored"),
    }
}

/// The error of a row that was moved and cannot be read: nothing is moved.
pub(super) fn unread(task: TaskId) -> StoreError {
    StoreError::Corrupt {
        row: RowName("task", &task).to_string(),
        reason: "what it says of itself cannot be read".to_owned(),
    }
}

/// An entry to be written.
#[derive(Debug)]
pub(super) struct NewEntry<'a> {
    pub(super) task: TaskId,
    pub(super) what: HistoryKind,
    pub(super) who: &'a Operator,
    pub(super) note: Option<String>,
}

impl<'a> NewEntry<'a> {
    /// That `verb` has moved the task that was `found`.
    pub(super) fn moved(
        facts: &TaskFacts,
        found: &FoundRow,
        verb: &Verb,
        who: &'a Operator,
    ) -> Self {
        let (task, kind) = (facts.id, verb.kind().into());
        let note = match verb {
            Verb::Abandon { reason } => Some(note(reason)),
            // What has succeeded has no error: here it is still seen why somebody had to act.
            Verb::Skip { .. } if facts.state.is_final() => {
                let former = found.error.as_deref().and_then(|text| failure(text).ok());
                former.map(|former| note(&format!("it had failed: {}", former.message)))
            }
            Verb::Resume | Verb::Skip { .. } | Verb::Retry { .. } => None,
        };
        Self {
            task,
            what: kind,
            who,
            note,
        }
    }

    /// That the broker gave up a message.
    pub(super) fn dead_letter(letter: &DeadLetter, who: &'a Operator) -> Self {
        Self {
            task: letter.task,
            what: HistoryKind::DeadLettered,
            who,
            note: Some(letter.note()),
        }
    }

    /// That `task` was copied to `copy`, for the histories of both.
    pub(super) fn copied(task: TaskId, copy: TaskId, who: &'a Operator) -> [Self; 2] {
        [
            Self {
                task,
                what: HistoryKind::Retried,
                who,
                note: Some(format!("as task {copy}")),
            },
            Self {
                task: copy,
                what: HistoryKind::Copied,
                who,
                note: Some(format!("from task {task}")),
            },
        ]
    }

    /// That the cancellation of `task` was asked for.
    pub(super) fn cancelled(task: TaskId, reason: &str, who: &'a Operator) -> Self {
        Self {
            task,
            what: HistoryKind::Cancelled,
            who,
            note: Some(note(reason)),
        }
    }
}

/// A row of `task_history`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct HistoryRow {
    task: Uuid,
    at: Time,
    what: String,
    who: String,
    note: Option<String>,
}

impl HistoryRow {
    /// The entry that the row says.
    pub(super) fn into_entry(self) -> Result<HistoryEntry, StoreError> {
        let row = RowName("task_history", &self.task);
        Ok(HistoryEntry {
            at: row.time("at", self.at)?,
            what: row.word("what", &self.what)?,
            who: row.word("who", &self.who)?,
            note: self.note,
        })
    }
}
