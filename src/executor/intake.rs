//! The deliveries of one queue, as its slots allow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::running::Hold;
use super::slots::{QueueSlots, Slot};
use super::{Shared, attempt};
use crate::background::Background;
use crate::broker::{Deliveries, Delivery};
use crate::clock::passed;
use crate::domain::{ActionName, Attempt, QueueName, Task, TaskFacts, TaskState};
use crate::wire::{Event, EventKind, parse_events};

/// A task that runs longer than this gives its delivery back, so that the broker's consumer timeout (30
/// minutes by default) can never hit, and a restart of the broker redelivers little.
const ACK_AFTER: Duration = Duration::from_mins(1);

/// How often the credit is changed at most: each change is a cancel and a consume.
const RECREDIT_INTERVAL: Duration = Duration::from_millis(250);

/// How long a delivery may wait for a slot. It only does while the credit is being lowered, or when tasks that were short
/// have become long; then the task is announced again, for somebody with room.
const SLOT_PATIENCE: Duration = Duration::from_secs(1);

/// How long the news that a task is ready again waits for its former attempt to be let go of. A store that does not answer
/// for longer is taken for away; then the task is found as one whose announcement was lost.
const NEWS_PATIENCE: Duration = Duration::from_mins(1);

/// Takes deliveries until the intake stops.
pub(super) async fn serve(
    shared: Arc<Shared>,
    slots: Arc<QueueSlots>,
    mut deliveries: Deliveries,
    background: Background,
) {
    let mut changes = slots.credit_changes();
    let mut recredit = None;
    loop {
        tokio::select! {
            // The deliveries last: a flood of them must hold up neither the end nor the credit, and the credit cannot
            // hold up them, because it changes at most once in an interval.
            biased;
            () = background.stopping() => return,
            _ = changes.changed(), if recredit.is_none() => {
                recredit = Some(shared.clock.sleep(RECREDIT_INTERVAL));
            }
            () = passed(recredit.as_mut()) => {
                recredit = None;
                deliveries.set_credit(slots.credit());
            }
            delivery = deliveries.next() => {
                let Some(delivery) = delivery else { return };
                slots.delivered(&shared.clock);
                let (work, slots) = (Arc::clone(&shared), Arc::clone(&slots));
                shared.spawn_attempt(async move { take(&work, &slots, delivery).await });
            }
        }
    }
}

/// One delivery: claim, run, settle, then let the broker forget it.
async fn take(shared: &Arc<Shared>, slots: &Arc<QueueSlots>, delivery: Delivery) {
    let event = match announced(&delivery) {
        Ok(event) => event,
        Err(reason) => {
            tracing::warn!(
                reason,
                message.key = delivery.key,
                "A message in `{}` is no announcement: to the dead",
                slots.queue()
            );
            return delivery.reject();
        }
    };
    if event.data.state.as_deref() == Some(TaskState::Scheduled.as_str()) {
        shared.scheduled.notify_one(); // Not yet to be claimed, but now this executor knows that it will be.
        return delivery.ack();
    }
    if !knows(shared, &event) {
        return delivery.ack(); // Left `ready`: an executor that knows its action finds it by the idle look.
    }
    if slots.is_paused() {
        return delivery.ack(); // Left `ready`: it is found when the queue goes on.
    }
    let Some(hold) = hold(shared, &event).await else {
        return delivery.ack(); // Announced twice: it runs here already.
    };
    let slot = tokio::select! {
        biased;
        slot = slots.slot() => slot,
        () = shared.clock.sleep(SLOT_PATIENCE) => None,
    };
    let Some(slot) = slot else {
        slots.took_long();
        drop(hold); // Before it is announced: it may come back here.
        if let Some(facts) = facts(&event) {
            shared.outgoing.announce(EventKind::Released, &facts).await;
        }
        return delivery.ack();
    };
    let id = event.task;
    let asked = AtomicUsize::new(0);
    let claim = || {
        asked.fetch_add(1, Ordering::Relaxed);
        shared.group.claim(shared.id, id)
    };
    let answer = shared.until_answered(id, claim).await;
    // Nothing, after an answer was lost: the first claim may have been carried out, and the lease have ended since.
    if asked.into_inner() > 1 && !matches!(answer, Some(Ok(Some(_)))) {
        shared.doubt.notify_one();
    }
    match answer {
        Some(Ok(Some(task))) => {
            slots.claimed(task.ready_at);
            run(shared, Box::new(task), slot, delivery).await;
            drop(hold);
        }
        Some(Ok(None)) => delivery.ack(),
        Some(Err(error)) => {
            tracing::error!(task.id = %id, error = %error, "Task `{id}` cannot be claimed");
            delivery.ack();
        }
        None => drop(delivery), // The broker lends it to somebody else.
    }
}

/// The right to claim the task of an announcement; `None` when another announcement brought it here before.
///
/// An attempt that the announcement knows of is over in the store, also when this executor has not been told so yet. Then the
/// announcement is news, and the only one: it waits until the attempt is let go of.
async fn hold(shared: &Shared, event: &Event) -> Option<Hold> {
    let soon = |patience| async move {
        tokio::select! {
            biased;
            hold = shared.running.hold_soon(event.task) => Some(hold),
            () = shared.clock.sleep(patience) => None,
        }
    };
    // First a moment: what is being claimed here runs soon, and only then it is known which attempt it is.
    if let Some(hold) = soon(SLOT_PATIENCE).await {
        return Some(hold);
    }
    let known = Attempt(event.data.attempt.unwrap_or(0));
    let is_news = (shared.running.attempt(event.task)).is_some_and(|running| running <= known);
    if is_news {
        soon(NEWS_PATIENCE).await
    } else {
        None
    }
}

/// The slot is free once the action has ended: the next one begins while this end is stored. The delivery is
/// acknowledged behind that, so that no more ends than deliveries wait for a store that is away.
async fn run(shared: &Arc<Shared>, task: Box<Task>, mut slot: Slot, delivery: Delivery) {
    let begun = shared.clock.monotonic();
    let mut acting = Box::pin(attempt::act(shared, *task));
    tokio::select! {
        biased;
        over = &mut acting => {
            slot.free_after(shared.clock.monotonic().saturating_sub(begun));
            attempt::store(shared, over).await;
            return delivery.ack();
        }
        () = shared.clock.sleep(ACK_AFTER) => {}
    }
    slot.takes_long();
    delivery.ack();
    let over = acting.await;
    attempt::store(shared, over).await;
    drop(slot); // Nothing else says how many ends wait.
}

fn announced(delivery: &Delivery) -> Result<Event, String> {
    let mut events = parse_events(&delivery.body).map_err(|error| error.to_string())?;
    match (events.pop(), events.is_empty()) {
        (Some(event), true) if event.kind.announces() => Ok(event),
        (Some(event), true) => Err(format!("an event `{}` announces no work", event.kind)),
        _ => Err("it holds not one event".to_owned()),
    }
}

fn knows(shared: &Arc<Shared>, event: &Event) -> bool {
    // A foreign announcement may leave the action out: then the claim decides.
    let Some(action) = event.data.action.as_deref() else {
        return true;
    };
    ActionName::new(action).is_ok_and(|action| shared.registry.has(&action))
}

fn facts(event: &Event) -> Option<TaskFacts> {
    Some(TaskFacts {
        id: event.task,
        action: ActionName::new(event.data.action.as_deref()?).ok()?,
        queue: QueueName::new(event.data.queue.as_deref()?).ok()?,
        state: TaskState::Ready,
        attempt: Attempt(event.data.attempt.unwrap_or(0)),
        parent: None,
        origin: None,
    })
}
