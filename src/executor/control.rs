//! Signals from outside, and nudges from one executor to another: flow 3.
//!
//! Stored first, then carried out: whatever is lost on the way is found at the next renewal of the lease.

use std::sync::Arc;

use super::Shared;
use crate::action::Stop;
use crate::broker::{Credit, Delivery};
use crate::domain::limits::SIGNALS_MAX;
use crate::domain::{
    ExecutorId, IdempotencyKey, NewSignal, Operator, Payload, SignalName, TaskFacts, TaskId,
    TaskState, Verb, VerbError, note,
};
use crate::store::{Cancelled, Operated, Signalled, StoreError};
use crate::wire::{Event, EventKind, parse_drain, parse_events};

/// Signals that may be carried out at once.
pub(super) const CREDIT: Credit = 32;

/// Said when a cancel came without a reason.
const NO_REASON: &str = "cancelled by request";

/// Who gave a task up when the signal does not say so.
const NOBODY: &str = "a signal";

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
    for event in events {
        let carried_out = match event.kind {
            EventKind::CancelRequested => {
                let ask = || cancel(shared, &event);
                shared.until_answered(event.task, ask).await
            }
            EventKind::Signal => match signal_of(shared, &event) {
                Ok(signal) => {
                    let ask = || store_signal(shared, &signal);
                    shared.until_answered(event.task, ask).await
                }
                Err(reason) => {
                    tracing::warn!(task.id = %event.task, reason, "A signal for task `{}` is refused: to the dead", event.task);
                    return delivery.reject();
                }
            },
            EventKind::AbandonRequested => {
                let ask = || abandon(shared, &event);
                shared.until_answered(event.task, ask).await
            }
            EventKind::Signalled => {
                look_again(shared, &event).await;
                continue;
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
                tracing::warn!(event.kind = %event.kind, "A signal is not one that can be carried out: ignored");
                continue;
            }
        };
        match carried_out {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::error!(task.id = %event.task, error = %error, "A signal cannot be carried out: to the dead");
                return delivery.reject();
            }
            None => return, // The broker lends it to somebody else.
        }
    }
    delivery.ack();
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

async fn store_signal(shared: &Arc<Shared>, signal: &NewSignal) -> Result<(), StoreError> {
    let (task, name) = (signal.task, &signal.name);
    match shared.group.signal(signal.clone()).await? {
        Signalled::Stored { woken, executor } => {
            if let Some(facts) = woken {
                shared.outgoing.announce(EventKind::Woken, &facts).await;
            }
            if let Some(executor) = executor {
                nudge_signalled(shared, task, executor).await;
            }
        }
        Signalled::Known => {}
        Signalled::Unknown => {
            tracing::warn!(task.id = %task, "The signal `{name}` came for task `{task}`, which is not known");
        }
        Signalled::Final(state) => {
            tracing::info!(task.id = %task, "The signal `{name}` came too late for task `{task}`: it is `{state}`");
        }
        Signalled::Full => {
            tracing::warn!(task.id = %task,
                "The signal `{name}` is dropped: {SIGNALS_MAX} wait for task `{task}` already");
        }
    }
    Ok(())
}

/// A signal is stored for a task that ran when it came.
async fn look_again(shared: &Arc<Shared>, event: &Event) {
    let executor = event.data.executor.as_deref();
    let executor: Option<ExecutorId> = executor.and_then(|id| id.parse().ok());
    match executor {
        Some(executor) if executor != shared.id => {
            nudge_signalled(shared, event.task, executor).await;
        }
        // If it runs here no more, whoever runs it next looks by itself.
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
        Cancelled::Final(TaskState::Cancelled) => report_again(shared, event.task).await?,
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
        }) => {
            if let Some(task) = shared.group.look(event.task).await? {
                shared.outgoing.report(task.facts());
            }
        }
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

/// A web server stored the cancel, and may not report it itself.
async fn report_again(shared: &Arc<Shared>, task: TaskId) -> Result<(), StoreError> {
    if let Some(task) = shared.group.look(task).await? {
        shared.outgoing.report(TaskFacts {
            state: TaskState::Cancelled,
            ..task.facts()
        });
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
