//! Ready tasks whose announcement was lost, found in the store.
//!
//! * A silent queue: whoever has nothing else to do looks for what has been ready for a while.
//! * A queue that is never silent: it is first in, first out, so what became ready long before what is being delivered just
//!   now has lost its announcement (the watermark).
//! * An executor that was lost: until the broker has noticed, it lends to the dead, what is taken over included.
//! * No broker: everything is found here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::running::Hold;
use super::slots::{QueueSlots, Slot};
use super::{Shared, attempt};
use crate::background::Background;
use crate::broker::Health;
use crate::clock::passed;
use crate::domain::limits::{BATCH_MAX, TREE_MAX};
use crate::domain::{Task, TaskId};
use crate::store::{IdleLook, IdleResume, StoreError};

/// How long a queue must be silent, and a task ready, before the store is searched: an announcement that is
/// merely under way must not be raced.
const SILENCE: Duration = Duration::from_secs(3);

/// How long after an executor was found lost the store is searched, and a task ready: the living shall hear of it first.
const SILENCE_AFTER_LOSS: Duration = Duration::from_secs(1);

/// How long before what is delivered just now a task must have become ready to count as lost.
const LAG: Duration = Duration::from_secs(10);

/// How often an executor looks for tasks of a queue that it serves alone, give or take a half. In a fleet each looks as much
/// less often, so that all together look as often as one. Idle executors shall cost next to nothing, and few announcements
/// are ever lost.
const INTERVAL: Duration = Duration::from_secs(8);

/// How often an idle executor looks while there is no broker to announce anything, give or take a half.
const INTERVAL_WITHOUT_BROKER: Duration = Duration::from_millis(250);

/// How much less often it looks then when its slots are nearly all taken: those with room shall find the tasks.
const BUSY_FACTOR: f64 = 7.0;

/// Executors up to which the pauses grow: when it is the only one of many that has room, one still looks every half minute.
const FLEET_MAX: u32 = 4;

/// Executors that together look without a broker as often as each would alone.
const FLEET_WITHOUT_BROKER: f64 = 8.0;

/// How far a look goes back behind the end of the last one: a task may be stored by a transaction that began so long ago.
const OVERLAP: Duration = Duration::from_mins(1);

/// The same for the priorities that a row of looks has left behind: what comes to them meanwhile shall not wait until the
/// row ends.
const OVERLAP_ABOVE: Duration = Duration::from_secs(5);

/// How often a look goes back to the beginning, for what came of still longer transactions.
const WHOLE_INTERVAL: Duration = Duration::from_mins(1);

/// The search for ready tasks of one queue.
struct Search {
    slots: Arc<QueueSlots>,
    /// Where the next look goes on, when the last one found as much as there was room for.
    row: Option<Row>,
    /// What became ready before this time was looked through.
    searched_to: Option<Timestamp>,
    /// When everything was looked through, on the process's monotonic clock.
    whole_at: Option<Duration>,
}

/// Looks of which each goes on where the one before stopped. From the beginning each would pass what those before it have
/// found, and a backlog would cost the square of its length.
#[derive(Clone, Copy)]
struct Row {
    /// When the first one was, on the process's monotonic clock.
    begun_at: Duration,
    /// When the first one was, by the store's clock: what came to be behind the later ones is not looked through.
    looked_at: Timestamp,
    /// Where the first one began.
    since: Option<Timestamp>,
    resume: IdleResume,
}

/// Looks for ready tasks of one queue until the intake stops.
pub(super) async fn look(shared: Arc<Shared>, slots: Arc<QueueSlots>, background: Background) {
    let mut search = Search::of(&slots);
    let (mut losses, mut hears_of_losses) = (shared.losses.clone(), true);
    // When it is to look whether or not the queue is silent.
    let mut due = None;
    loop {
        if slots.is_paused() {
            tokio::select! {
                biased;
                () = background.stopping() => return,
                () = slots.resumed() => {}
            }
            // What was announced meanwhile and forgotten may be of any age.
            search = Search::of(&slots);
            due = Some(shared.clock.sleep(Duration::ZERO));
        }
        let has_broker = matches!(*shared.broker.health().borrow(), Health::Up)
            && shared.broker.promises().announces;
        let pause = pause(has_broker, slots.fleet(), slots.busy());
        let pause = pause.mul_f64(0.5 + shared.clock.chance());
        // While there is more it goes on as soon as there is room: a lost backlog is worked off at full speed.
        let (slot, is_due) = tokio::select! {
            biased;
            () = background.stopping() => return,
            slot = slots.slot(), if search.row.is_some() => (slot, false),
            () = passed(due.as_mut()) => {
                due = None;
                (None, true)
            }
            changed = losses.changed(), if hears_of_losses => {
                hears_of_losses = changed.is_ok(); // Not when housekeeping has ended.
                due = hears_of_losses.then(|| shared.clock.sleep(SILENCE_AFTER_LOSS));
                continue;
            }
            () = shared.clock.sleep(pause) => (None, false),
        };
        if slots.is_paused() {
            continue;
        }
        let looked = if is_due && has_broker {
            let room = search.room(None);
            search.take(&shared, room, SILENCE_AFTER_LOSS, None).await
        } else {
            search.look(&shared, slot, has_broker).await
        };
        if let Err(error) = looked {
            tracing::debug!(error = %error, "The look for ready tasks failed; it is repeated soon");
            shared.doubt.notify_one();
            search.row = None;
            search.searched_to = None;
        }
    }
}

/// How much less often one of so many looks than if it were alone.
fn rarity(fleet: u32) -> u32 {
    fleet.clamp(1, FLEET_MAX)
}

/// How long until the next look of one of so many that serve a queue, of whose slots the share `busy` is taken.
fn pause(has_broker: bool, fleet: u32, busy: f64) -> Duration {
    if has_broker {
        return INTERVAL * rarity(fleet);
    }
    let fleet = (f64::from(fleet) / FLEET_WITHOUT_BROKER).max(1.0);
    INTERVAL_WITHOUT_BROKER.mul_f64((1.0 + BUSY_FACTOR * busy) * fleet)
}

/// Finds what the store gave this executor without its knowledge, whenever there is reason to think so.
pub(super) async fn adopt_what_is_ours(shared: Arc<Shared>, background: Background) {
    loop {
        let doubted = async {
            shared.doubt.notified().await;
            let pause = INTERVAL.mul_f64(0.5 + shared.clock.chance());
            shared.clock.sleep(pause).await;
        };
        tokio::select! {
            biased;
            () = background.stopping() => return,
            () = doubted => {}
        }
        if adopt(&shared).await.is_err() {
            shared.doubt.notify_one();
        }
    }
}

/// Runs what the store says this executor runs and nobody here knows of: its claim was stored, and the answer lost.
async fn adopt(shared: &Arc<Shared>) -> Result<(), StoreError> {
    for task in shared.store.owned(shared.id, TREE_MAX).await? {
        if shared.running.runs(&task) {
            continue;
        }
        let Some(hold) = shared.running.hold(task.id) else {
            shared.doubt.notify_one(); // It is being claimed, or a former attempt of it comes to its end.
            continue;
        };
        // Asked again, now that it is held: it may have ended since it was listed.
        match shared.group.claim(shared.id, task.id).await? {
            Some(task) => {
                tracing::info!(task.id = %task.id, "Task `{}` was claimed and the answer lost: it runs now", task.id);
                begin(shared, task, hold, None);
            }
            None => shared.doubt.notify_one(), // Or the lease is not renewed yet.
        }
    }
    Ok(())
}

/// Runs a task that no delivery brought.
fn begin(shared: &Arc<Shared>, task: Task, hold: Hold, slot: Option<Slot>) {
    let work = Arc::clone(shared);
    shared.spawn_attempt(async move {
        attempt::run(&work, task).await;
        drop((slot, hold));
    });
}

/// Runs what an idle look has found, if it still is this executor's to run: an announcement of it may have been quicker
/// than the answer of the look, and the task may have run and ended since.
fn confirm(shared: &Arc<Shared>, task: TaskId, hold: Hold, slot: Slot) {
    let work = Arc::clone(shared);
    shared.spawn_attempt(async move {
        let ask = || work.group.claim(work.id, task);
        match work.until_answered(task, ask).await {
            Some(Ok(Some(task))) => attempt::run(&work, task).await,
            // It has run and ended since; or the lease was not renewed yet, and it is still this executor's.
            Some(Ok(None) | Err(_)) | None => work.doubt.notify_one(),
        }
        drop((slot, hold));
    });
}

impl Search {
    /// A search that begins at the beginning.
    fn of(slots: &Arc<QueueSlots>) -> Self {
        Self {
            slots: Arc::clone(slots),
            row: None,
            searched_to: None,
            whole_at: None,
        }
    }

    /// One look, for `slot` or for whatever room there is.
    async fn look(
        &mut self,
        shared: &Arc<Shared>,
        slot: Option<Slot>,
        has_broker: bool,
    ) -> Result<(), StoreError> {
        let slot = slot.map(without_delivery);
        let is_silent = self.slots.silence(&shared.clock) >= SILENCE;
        if !has_broker || is_silent {
            let silence = if has_broker { SILENCE } else { Duration::ZERO };
            return self.take(shared, self.room(slot), silence, None).await;
        }
        let watermark = self.slots.watermark();
        let Some(before) = watermark.and_then(|at| at.checked_sub(LAG).ok()) else {
            self.row = None;
            return Ok(());
        };
        // Deliveries take every slot that becomes free; this stands in line for one of them.
        let slot = if slot.is_some() {
            slot
        } else {
            tokio::select! {
                biased;
                slot = self.slots.slot() => slot.map(without_delivery),
                () = shared.clock.sleep(INTERVAL) => None,
            }
        };
        self.take(shared, slot.into_iter().collect(), SILENCE, Some(before))
            .await
    }

    /// Every slot that is free, and `slot`.
    fn room(&self, slot: Option<Slot>) -> Vec<Slot> {
        let free = std::iter::from_fn(|| self.slots.slot_without_delivery());
        slot.into_iter().chain(free).take(BATCH_MAX).collect()
    }

    /// Takes as many tasks as there are `slots`, and begins them.
    async fn take(
        &mut self,
        shared: &Arc<Shared>,
        slots: Vec<Slot>,
        older_than: Duration,
        before: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        if slots.is_empty() {
            return Ok(());
        }
        let now = shared.clock.monotonic();
        let whole_interval = WHOLE_INTERVAL * rarity(self.slots.fleet());
        let is_fresh = |at: Duration| now.saturating_sub(at) < whole_interval;
        let row = self.row.filter(|row| is_fresh(row.begun_at));
        let since = match row {
            Some(row) => row.since,
            None => self
                .searched_to
                .filter(|_| self.whole_at.is_some_and(is_fresh)),
        };
        let look = IdleLook {
            queue: self.slots.queue().clone(),
            actions: shared.registry.names().cloned().collect(),
            older_than,
            since,
            resume: row.map(|row| row.resume),
            before,
            limit: slots.len(),
        };
        let found = shared.store.claim_idle(shared.id, &look).await?;
        let last = found
            .tasks
            .last()
            .filter(|_| found.tasks.len() >= look.limit);
        let resume = last.and_then(|last| {
            Some(IdleResume {
                priority: last.priority,
                ready_at: last.ready_at?,
                above_since: look.searched(found.looked_at, OVERLAP_ABOVE)?,
            })
        });
        let (begun_at, looked_at) =
            row.map_or((now, found.looked_at), |row| (row.begun_at, row.looked_at));
        self.row = resume.map(|resume| Row {
            begun_at,
            looked_at,
            since,
            resume,
        });
        if self.row.is_none() {
            self.searched_to = look.searched(looked_at, OVERLAP);
            if since.is_none() {
                self.whole_at = Some(begun_at);
            }
        }
        for (task, slot) in found.tasks.into_iter().zip(slots) {
            // An announcement may have come at the same moment: whoever asked for the task by its id has it then.
            match shared.running.hold(task.id) {
                Some(hold) => confirm(shared, task.id, hold, slot),
                None => shared.doubt.notify_one(), // Or a former attempt of it is still about to end here.
            }
        }
        Ok(())
    }
}

fn without_delivery(mut slot: Slot) -> Slot {
    slot.let_go_of_delivery();
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks a second of a whole fleet.
    fn rate(has_broker: bool, fleet: u32, busy: f64) -> f64 {
        f64::from(fleet) / pause(has_broker, fleet, busy).as_secs_f64()
    }

    fn is(rate: f64, expected: f64) {
        assert!((rate - expected).abs() < 1e-9, "{rate}, not {expected}");
    }

    #[test]
    fn a_fleet_with_a_broker_looks_as_often_as_one() {
        for fleet in [1, 2, FLEET_MAX] {
            is(rate(true, fleet, 0.0), 1.0 / 8.0);
        }
        assert_eq!(pause(true, 0, 0.0), INTERVAL, "of whom nobody knows yet");
        // The only one with room among many still looks every half minute.
        assert_eq!(pause(true, 1000, 1.0), Duration::from_secs(32));
    }

    #[test]
    fn without_a_broker_the_rate_falls_with_what_is_running() {
        is(rate(false, 1, 0.0), 4.0);
        is(rate(false, 1, 0.5), 4.0 / 4.5);
        is(rate(false, 1, 1.0), 0.5);
        let busy: Vec<Duration> = (0..=10)
            .map(|tenth| pause(false, 3, f64::from(tenth) / 10.0))
            .collect();
        assert!(busy.is_sorted_by(|one, next| one < next), "{busy:?}");
    }

    #[test]
    fn without_a_broker_a_large_fleet_does_not_look_more_often_than_a_small_one() {
        is(rate(false, 8, 0.0), 32.0);
        is(rate(false, 100, 0.0), 32.0);
    }
}
