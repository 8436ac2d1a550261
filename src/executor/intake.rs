//! The deliveries of one queue, as its slots allow.

use std::sync::Arc;
use std::time::Duration;

use super::slots::{QueueSlots, Slot};
use super::{Shared, attempt};
use crate::background::Background;
use crate::broker::{Deliveries, Delivery};
use crate::domain::{ActionName, Attempt, QueueName, Task, TaskFacts, TaskState};
use crate::wire::{Event, EventKind, parse_events};

/// A task that runs longer than this gives its delivery back, so that the broker's consumer timeout (30
/// minutes by default) can never hit, and a restart of the broker redelivers little.
const ACK_AFTER: Duration = Duration::from_mins(1);

/// How often the credit is changed at most: each change is a cancel and a consume.
const RECREDIT_INTERVAL: Duration = Duration::from_millis(250);

/// How long a delivery may wait for a slot. It only can while the credit is being lowered; then the task is
/// announced again, for somebody with room.
const SLOT_PATIENCE: Duration = Duration::from_secs(1);

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
            () = background.stopping() => return,
            delivery = deliveries.next() => {
                let Some(delivery) = delivery else { return };
                slots.delivered(&shared.clock);
                let (work, slots) = (Arc::clone(&shared), Arc::clone(&slots));
                shared.spawn_attempt(async move { take(&work, &slots, delivery).await });
            }
            _ = changes.changed(), if recredit.is_none() => {
                recredit = Some(shared.clock.sleep(RECREDIT_INTERVAL));
            }
            () = async { if let Some(sleep) = recredit.as_mut() { sleep.await } }, if recredit.is_some() => {
                recredit = None;
                deliveries.set_credit(slots.credit());
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
    let hold = tokio::select! {
        biased;
        hold = shared.running.hold_soon(event.task) => hold,
        // Announced twice: it runs here already. A moment's wait, because a task that has just been settled here may
        // be ready again, and announced, before it is let go of.
        () = shared.clock.sleep(SLOT_PATIENCE) => return delivery.ack(),
    };
    let slot = tokio::select! {
        slot = slots.slot() => slot,
        () = shared.clock.sleep(SLOT_PATIENCE) => None,
    };
    let Some(slot) = slot else {
        drop(hold); // Before it is announced: it may come back here.
        if let Some(facts) = facts(&event) {
            shared.outgoing.announce(EventKind::Released, &facts).await;
        }
        return delivery.ack();
    };
    let id = event.task;
    match shared
        .until_answered(id, || shared.group.claim(shared.id, id))
        .await
    {
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

async fn run(shared: &Arc<Shared>, task: Box<Task>, mut slot: Slot, delivery: Delivery) {
    let mut running = Box::pin(attempt::run(shared, *task));
    tokio::select! {
        biased;
        () = &mut running => {
            drop(slot); // Before the delivery: the next one finds its slot.
            return delivery.ack();
        }
        () = shared.clock.sleep(ACK_AFTER) => {}
    }
    slot.let_go_of_delivery();
    delivery.ack();
    running.await;
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
