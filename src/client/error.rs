//! What can go wrong for a client.

use crate::domain::{
    ActionName, Difference, IdempotencyKey, PayloadError, QueueName, SubmissionError, TaskId,
};
use crate::store::postgres::SubmitInError;
use crate::store::{Refusal, StoreError};
use crate::wire::nearest;

/// Why a task was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// What it asks for is out of bounds.
    #[error("the submission is refused")]
    Submission(#[source] SubmissionError),
    /// No executor ever offered its action.
    #[error("no executor has ever offered the action `{action}`")]
    UnknownAction {
        /// The action.
        action: ActionName,
        /// The actions that were offered.
        known: Vec<ActionName>,
    },
    /// The store does not take it.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: Refusal,
        /// The queues that exist.
        queues: Vec<QueueName>,
    },
    /// Its idempotency key belongs to a task that was asked for otherwise.
    #[error(
        "the idempotency key `{key}` belongs to the task `{task}`, which differs in {}",
        Difference::fields(.differences)
    )]
    KeyTaken {
        /// The key.
        key: IdempotencyKey,
        /// The task that has it.
        task: TaskId,
        /// What is asked for otherwise. The values may be secrets: the error names the fields only.
        differences: Vec<Difference>,
    },
    /// It was deleted while somebody waited for it.
    #[error("the task `{0}` was deleted")]
    Vanished(TaskId),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a client could not answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no such task, or its retention is over.
    #[error("there is no task `{0}`")]
    Unknown(TaskId),
    /// What is to be stored for the task is out of bounds.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<SubmitInError> for SubmitError {
    fn from(error: SubmitInError) -> Self {
        match error {
            SubmitInError::Refused(refusal) => Self::Refused {
                refusal,
                queues: Vec::new(),
            },
            SubmitInError::KeyTaken {
                key,
                task,
                differences,
            } => Self::KeyTaken {
                key,
                task,
                differences,
            },
            SubmitInError::Store(error) => Self::Store(error),
        }
    }
}

impl SubmitError {
    /// What to do about it, for people.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Submission(_) | Self::Vanished(_) => None,
            Self::KeyTaken { .. } => {
                Some("send the same submission again, or choose another key".to_owned())
            }
            Self::UnknownAction { action, known } => {
                let near = nearest(action.as_str(), known.iter().map(ActionName::as_str));
                Some(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => {
                        "start an executor that has the action; none has run on this store yet"
                            .to_owned()
                    }
                    None => {
                        "start an executor that has the action, or set `web.strict_actions = false`"
                            .to_owned()
                    }
                })
            }
            Self::Refused {
                refusal: Refusal::UnknownQueue(queue),
                queues,
            } => {
                let near = nearest(queue.as_str(), queues.iter().map(QueueName::as_str));
                Some(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("type `longshore queue create {queue}`"),
                })
            }
            Self::Refused {
                refusal: Refusal::UnknownParent(_) | Refusal::ParentEnded(_),
                ..
            } => Some("leave `parent` out to submit a task of its own".to_owned()),
            Self::Store(error) => error.is_transient().then(|| {
                "try again; with an `id` or an idempotency key it stays one task".to_owned()
            }),
        }
    }
}
