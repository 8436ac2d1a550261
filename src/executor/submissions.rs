//! Whole tasks from clients without the store: stored, then announced like any other.

use std::sync::Arc;

use super::Shared;
use crate::broker::{Credit, Delivery};
use crate::domain::{NewTask, Submission, TaskId};
use crate::store::Submitted;
use crate::wire::{EventKind, WireError, parse_submission_message};

/// Submissions that may be stored at once; they share transactions.
pub(super) const CREDIT: Credit = 128;

/// Stores one submission. The broker keeps it until it is stored: whoever else gets it stores the same task.
pub(super) async fn take(shared: &Arc<Shared>, delivery: Delivery) {
    let (id, submission) = match read(shared, &delivery) {
        Ok(read) => read,
        Err(error) => {
            tracing::warn!(error = %error, message.id = delivery.message_id, "A submission is refused: to the dead");
            return delivery.reject();
        }
    };
    let store = || {
        let submission = submission.clone();
        shared.group.submit(NewTask {
            id,
            origin: None,
            submission,
        })
    };
    match shared.until_answered(id, store).await {
        Some(Ok(Submitted::Stored(facts))) => {
            shared.outgoing.announce(EventKind::Created, &facts).await;
            delivery.ack();
        }
        Some(Ok(Submitted::Known(_))) => delivery.ack(),
        Some(Ok(Submitted::Refused(refusal))) => {
            tracing::warn!(task.id = %id, error = %refusal, "The submission of task `{id}` is refused: to the dead");
            delivery.reject();
        }
        Some(Err(error)) => {
            tracing::error!(task.id = %id, error = %error, "The submission of task `{id}` cannot be stored: to the dead");
            delivery.reject();
        }
        None => drop(delivery), // The broker lends it to somebody else.
    }
}

fn read(shared: &Arc<Shared>, delivery: &Delivery) -> Result<(TaskId, Submission), WireError> {
    let submission = parse_submission_message(&delivery.body, shared.limits)?;
    let given = delivery
        .message_id
        .as_deref()
        .and_then(|id| id.parse().ok());
    let id = submission.id.or(given).ok_or_else(|| {
        WireError::Refused(
            "a submission by message needs an `id`, so that sent twice it is one task".to_owned(),
        )
    })?;
    Ok((id, submission))
}
