//! Signals from outside, and nudges from one executor to another: flow 3.
//!
//! Stored first, then carried out: whatever is lost on the way is found at the next renewal of the lease.

use std::sync::Arc;

use super::Shared;
use crate::action::Stop;
use crate::broker::topology::nudged_executor;
use crate::broker::{Credit, Delivery};
use crate::domain::limits::SIGNALS_MAX;
use crate::domain::{
    ExecutorId, IdempotencyKey, NewSignal, Operator, Payload, SignalName, TaskId, TaskState, Verb,
    VerbError, note,
};
use crate::store::{Cancelled, Operated, Signalled, StoreError};
use crate::wire::{Event, EventKind, parse_drain, parse_events};

/// Signals that may be carried out at once.
pub(super) const CREDIT: Credit = 32;

/// Said when a cancel came without a reason.
const NO_REASON: &str = "cancelled by request";

/// Who gave a task up when the signal does not say so.
const NOBODY: &str = "a signal";

/// Why an event is given to the dead, for an operator to see.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// It says what cannot be.
    #[error("{0}")]
    Wrong(String),
    /// A signal for nobody.
    #[error("there is no such task")]
    Unknown,
    /// A signal too many.
    #[error("{SIGNALS_MAX} signals wait for the task already")]
    Full,
    /// The store will never take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Carries out one message of signals or nudges.
pub(super) async fn carry_out(shared: &Arc<Shared>, delivery: Delivery) {
    let events = match parse_events(&delivery.body) {
        Ok(events) => events,
        Err(error) => {
            if let Some(executor) = parse_drain(&delivery.body) {
                ask_to_drain(shared, executor);
                return delivery.ack();
            }
            tracing::warn!(error = %error, message.key = delivery.key, "A signal cannot be read: to the dead");
            return delivery.reject();
        }
    };
    let mut is_refused = false;
    for event in events {
        match carry_out_one(shared, &event, &delivery.key).await {
            Some(Ok(())) => {}
            // What stands behind it in the message is carried out all the same.
            Some(Err(refusal)) => {
                is_refused = true;
                tracing::warn!(
                    task.id = %event.task, event.kind = %event.kind, error = %refusal, message.key = delivery.key,
                    "A signal for task `{}` is refused: to the dead", event.task
                );
            }
            None => return, // The broker lends it to somebody else.
        }
    }
    if is_refused {
        delivery.reject();
    } else {
        delivery.ack();
    }
}

/// Carries out one event; `None` when this executor stops before the store has answered.
async fn carry_out_one(
    shared: &Arc<Shared>,
    event: &Event,
    key: &str,
) -> Option<Result<(), Refusal>> {
    let task = event.task;
    let answer = match event.kind {
        EventKind::CancelRequested => {
            let answer = shared
                .until_answered(task, || cancel(shared, event))
                .await?;
            answer.map_err(Refusal::Store)
        }
        EventKind::Signal => match signal_of(shared, event) {
            Ok(signal) => {
                let ask = || shared.group.signal(signal.clone());
                match shared.until_answered(task, ask).await? {
                    Ok(signalled) => tell_signalled(shared, &signal, signalled).await,
                    Err(error) => Err(Refusal::Store(error)),
                }
            }
            Err(reason) => Err(Refusal::Wrong(reason)),
        },
        EventKind::AbandonRequested => {
            let answer = shared
                .until_answered(task, || abandon(shared, event))
                .await?;
            answer.map_err(Refusal::Store)
        }
        EventKind::Skipped => {
            let answer = shared.until_answered(task, || report_end(shared, task));
            answer.await?.map_err(Refusal::Store)
        }
        EventKind::Signalled => {
            look_again(shared, event, key).await;
            Ok(())
        }
        EventKind::Created
        | EventKind::Succeeded
        | EventKind::Failed
        | EventKind::Cancelled
        | EventKind::Paused
        | EventKind::Suspended
        | EventKind::Retried
        | EventKind::Released
        | EventKind::Woken
        | EventKind::Progressed => {
            let reason = format!("an event `{}` asks for nothing", event.kind);
            Err(Refusal::Wrong(reason))
        }
    };
    Some(answer)
}

/// An operator wants an executor to drain. When that is another it is gone: the broker found nobody to tell, and its wish
/// came back as a signal.
fn ask_to_drain(shared: &Arc<Shared>, executor: ExecutorId) {
    if executor == shared.id {
        tracing::info!(executor.id = %executor, "An operator asks this executor to drain");
        shared.drain_asked.cancel();
    }
}

/// The signal that an event brings.
fn signal_of(shared: &Arc<Shared>, event: &Event) -> Result<NewSignal, String> {
    let name = event
        .data
        .signal
        .as_deref()
        .ok_or("`data.signal`, its name, is missing")?;
    let payload = event.data.payload.clone().unwrap_or_else(Payload::null);
    // Sent again, the same event is the same signal.
    let key = match &event.data.key {
        Some(key) => key
            .parse()
            .map_err(|error| format!("`data.key`: {error}"))?,
        None => IdempotencyKey::of_event(&event.source, &event.id),
    };
    Ok(NewSignal {
        task: event.task,
        name: SignalName::new(name).map_err(|error| format!("`data.signal`: {error}"))?,
        key: Some(key),
        payload: payload
            .within(shared.limits)
            .map_err(|error| format!("`data.payload`: {error}"))?,
    })
}

/// Says what the store made of a signal to those whom it concerns.
async fn tell_signalled(
    shared: &Arc<Shared>,
    signal: &NewSignal,
    signalled: Signalled,
) -> Result<(), Refusal> {
    let (task, name) = (signal.task, &signal.name);
    match signalled {
        Signalled::Stored { woken, executor } => {
            if let Some(facts) = woken {
                shared.outgoing.announce(EventKind::Woken, &facts).await;
            }
            if let Some(executor) = executor {
                nudge_signalled(shared, task, executor).await;
            }
        }
        Signalled::Known => {}
        // Not to the dead: whoever sends to a task cannot know that it ends just now.
        Signalled::Final(state) => {
            tracing::info!(task.id = %task, "The signal `{name}` came too late for task `{task}`: it is `{state}`");
        }
        Signalled::Unknown => return Err(Refusal::Unknown),
        Signalled::Full => return Err(Refusal::Full),
    }
    Ok(())
}

/// A signal is stored for a task that ran when it came.
async fn look_again(shared: &Arc<Shared>, event: &Event, key: &str) {
    let executor = event.data.executor.as_deref();
    let executor: Option<ExecutorId> = executor.and_then(|id| id.parse().ok());
    let is_nudge = nudged_executor(key).is_some();
    match executor {
        Some(executor) if executor != shared.id && !is_nudge => {
            nudge_signalled(shared, event.task, executor).await;
        }
        // If it runs here no more, whoever runs it next looks by itself. So it does after an executor that is gone: its
        // nudges come to others, and sent again they would come again, for ever.
        Some(_) | None => {
            shared.running.nudge(event.task);
        }
    }
}

async fn nudge_signalled(shared: &Arc<Shared>, task: TaskId, executor: ExecutorId) {
    if !shared.running.nudge(task) && executor != shared.id {
        let nudge = shared.outgoing.speaker().nudge_signalled(executor, task);
        shared.outgoing.say(nudge).await;
    }
}

async fn cancel(shared: &Arc<Shared>, event: &Event) -> Result<(), StoreError> {
    let reason = event.data.reason.as_deref().unwrap_or(NO_REASON);
    let nudged: Option<ExecutorId> = event
        .data
        .executor
        .as_deref()
        .and_then(|id| id.parse().ok());
    // A nudge says that the wish is stored. Any other is stored before what runs here is stopped: an attempt that
    // ends before that would be final, and what is below it never asked.
    let is_stored = nudged == Some(shared.id);
    if is_stored && stop(shared, event.task, reason) {
        return Ok(());
    }
    match shared.store.cancel(event.task, reason).await? {
        Cancelled::Unknown => {
            tracing::info!(task.id = %event.task, "A cancel for task `{}`, which is not known", event.task);
        }
        Cancelled::Final(TaskState::Cancelled) => report_end(shared, event.task).await?,
        Cancelled::Final(_) => {}
        Cancelled::Accepted {
            cancelled,
            running,
            ready,
        } => {
            for facts in &ready {
                shared.outgoing.announce(EventKind::Woken, facts).await;
            }
            for facts in cancelled {
                shared.outgoing.report(facts);
            }
            for (task, executor) in running {
                nudge(shared, task, executor, nudged, reason).await;
            }
        }
    }
    Ok(())
}

/// Gives up a paused task, or reports one that was given up by somebody who may not report it.
async fn abandon(shared: &Arc<Shared>, event: &Event) -> Result<(), StoreError> {
    let reason = event.data.reason.as_deref().unwrap_or(Verb::ABANDONED);
    let verb = Verb::Abandon {
        reason: note(reason),
    };
    let Ok(by) = Operator::new(&event.source).or_else(|_| Operator::new(NOBODY)) else {
        return Ok(()); // The word is an operator's name.
    };
    match shared.store.operate(event.task, &verb, &by).await? {
        Operated::Moved { task, ready } => {
            for facts in &ready {
                shared.outgoing.announce(EventKind::Woken, facts).await;
            }
            shared.outgoing.report(task);
        }
        Operated::Refused(VerbError::State {
            state: TaskState::Failed,
            ..
        }) => report_end(shared, event.task).await?,
        Operated::Unknown | Operated::Refused(_) | Operated::Copied(_) => {
            tracing::info!(task.id = %event.task, "Task `{}` is not paused: it is not given up", event.task);
        }
    }
    Ok(())
}

/// Asks an attempt that runs here to stop; tells whether there is one.
fn stop(shared: &Arc<Shared>, task: TaskId, reason: &str) -> bool {
    let stop = Stop::Cancelled(reason.to_owned());
    shared.running.stop(task, stop)
}

/// Reports the end of a task: somebody stored it who may not report it.
async fn report_end(shared: &Arc<Shared>, task: TaskId) -> Result<(), StoreError> {
    let task = shared.group.look(task).await?;
    if let Some(task) = task.filter(|task| task.state.is_final()) {
        shared.outgoing.report(task.facts());
    }
    Ok(())
}

async fn nudge(
    shared: &Arc<Shared>,
    task: TaskId,
    executor: ExecutorId,
    former: Option<ExecutorId>,
    reason: &str,
) {
    if stop(shared, task, reason) {
        return;
    }
    if former == Some(executor) {
        return; // It was nudged already and did not take it: it is gone, and its lease decides.
    }
    shared
        .outgoing
        .say(shared.outgoing.speaker().nudge(executor, task, reason))
        .await;
}
