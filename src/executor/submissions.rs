//! Whole tasks from clients without the store: stored, then announced like any other.

use std::sync::Arc;

use super::Shared;
use crate::broker::{Credit, Delivery};
use crate::domain::{Difference, NewTask, Submission, TaskId};
use crate::store::{StoreError, Submitted};
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
    match shared
        .until_answered(id, || store(shared, id, &submission))
        .await
    {
        Some(Ok((Submitted::Known(facts), differences))) if !differences.is_empty() => {
            tracing::warn!(
                task.id = %facts.id, message.id = delivery.message_id,
                "A submission with the idempotency key of task `{}` differs in {}: to the dead",
                facts.id, Difference::fields(&differences)
            );
            delivery.reject();
        }
        Some(Ok((Submitted::Stored(facts), _))) => {
            shared.outgoing.announce(EventKind::Created, &facts).await;
            delivery.ack();
        }
        Some(Ok((Submitted::Known(_), _))) => delivery.ack(),
        Some(Ok((Submitted::Refused(refusal), _))) => {
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

/// Stores it, and tells what it asks for otherwise than the task that has its key.
async fn store(
    shared: &Shared,
    id: TaskId,
    submission: &Submission,
) -> Result<(Submitted, Vec<Difference>), StoreError> {
    let task = NewTask {
        fan_out: None,
        id,
        origin: None,
        submission: submission.clone(),
    };
    let submitted = shared.group.submit(task).await?;
    let differences = match &submitted {
        Submitted::Known(facts) => shared.group.differences(submission, facts.id).await?,
        Submitted::Stored(_) | Submitted::Refused(_) => Vec::new(),
    };
    Ok((submitted, differences))
}

fn read(shared: &Arc<Shared>, delivery: &Delivery) -> Result<(TaskId, Submission), WireError> {
    let submission = parse_submission_message(&delivery.body, shared.limits)?;
    let given = delivery
        .message_id
        .as_deref()
        .and_then(|id| id.parse().ok());
    let chosen = || {
        let key = submission.idempotency_key.as_ref();
        key.map(|_| TaskId::new(shared.clock.now(), shared.clock.random()))
    };
    let id = submission.id.or(given).or_else(chosen).ok_or_else(|| {
        WireError::Refused(
            "a submission by message needs an `id` or an `idempotency_key`, so that sent twice it is one task"
                .to_owned(),
        )
    })?;
    Ok((id, submission))
}
