//! A task in JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ProgressJson;
use crate::domain::{Failure, Labels, Payload, Task, TaskState, WaitingFor};

/// A task in JSON, the same everywhere. Absent is what is not known (yet).
///
/// Unit: times RFC 3339 with `Z`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskJson {
    /// Its id, a UUID.
    pub id: String,
    /// The submitter's own word for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The action it runs.
    pub action: String,
    /// The queue it is announced on.
    pub queue: String,
    /// One of the nine states.
    pub state: String,
    /// How often it was claimed.
    pub attempt: u32,
    /// The executor that runs it, or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// What it was given.
    pub input: Payload,
    /// What it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Payload>,
    /// Why it failed, last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorJson>,
    /// The task that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The token of the web server process that submitted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Words of its submitter.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Higher first.
    pub priority: i16,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// When its last attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// When it became final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// What it waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// How far an attempt last said that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressJson>,
}

/// Why a task failed, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorJson {
    /// One sentence for people.
    pub message: String,
    /// The action's own error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Payload>,
    /// Whether another attempt might have helped.
    pub retryable: bool,
    /// The step that failed, if the attempt failed because of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

/// A page of tasks, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<TaskJson>,
    /// Tasks that belong here and whose rows cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableJson>,
    /// The cursor of the next page, when there may be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A task whose row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableJson {
    /// Its id.
    pub id: String,
    /// Which column, and what is wrong with it.
    pub reason: String,
}

impl From<&Failure> for ErrorJson {
    fn from(failure: &Failure) -> Self {
        Self {
            message: failure.message.clone(),
            detail: failure.detail.clone(),
            retryable: failure.is_retryable(),
            step: failure.step.as_ref().map(ToString::to_string),
        }
    }
}

impl From<&Task> for TaskJson {
    fn from(task: &Task) -> Self {
        Self {
            id: task.id.to_string(),
            idempotency_key: task.idempotency_key.as_ref().map(ToString::to_string),
            action: task.action.to_string(),
            queue: task.queue.to_string(),
            state: task.state.to_string(),
            attempt: task.attempt.0,
            executor: task.executor.map(|executor| executor.to_string()),
            input: task.input.clone(),
            output: task.output.clone(),
            error: task.error.as_ref().map(ErrorJson::from),
            parent: task.parent.map(|parent| parent.to_string()),
            origin: task.origin.as_ref().map(ToString::to_string),
            labels: task.labels.clone(),
            priority: task.priority,
            created_at: task.created_at,
            run_at: task.run_at,
            started_at: task.started_at,
            finished_at: task.finished_at,
            waiting_for: waiting_for(task),
            progress: task.progress.as_ref().map(ProgressJson::from),
        }
    }
}

/// What wakes a suspended task, in words: `the signal "approved", or a time`.
fn waits(waiting_for: &WaitingFor) -> String {
    let signals = waiting_for
        .signals
        .iter()
        .map(|name| format!("the signal `{name}`"));
    let fan_outs = waiting_for
        .fan_outs
        .iter()
        .map(|name| format!("the sub-tasks `{name}`"));
    let timer = waiting_for.has_timer.then(|| "a time".to_owned());
    let all: Vec<String> = signals.chain(fan_outs).chain(timer).collect();
    all.join(", or ")
}

fn waiting_for(task: &Task) -> Option<String> {
    match task.state {
        TaskState::Scheduled => task.run_at.map(|at| format!("its time, {at}")),
        TaskState::Ready => Some(format!("a free slot for the queue `{}`", task.queue)),
        TaskState::Paused => Some("an operator".to_owned()),
        TaskState::Blocked => Some(match &task.fan_out {
            Some(place) => format!("its turn among the sub-tasks `{}`", place.name),
            None => "a reservation".to_owned(),
        }),
        TaskState::Suspended => Some(
            task.waiting_for
                .as_ref()
                .map_or_else(|| "nothing that is known".to_owned(), waits),
        ),
        TaskState::Running if task.cancel_requested_at.is_some() => {
            Some("its action to stop".to_owned())
        }
        TaskState::Running | TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => {
            None
        }
    }
}
