//! What is stored of a batch of sub-tasks, and what is said of it, for both stores.

use super::{Spawn, Spawned, Submitted};
use crate::domain::{
    FanOut, NewTask, Payload, Step, StepKind, StepOutcome, StepProgress, StepRecord, TaskFacts,
    TaskState,
};

/// What of a batch is still to be stored.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) tasks: &'a [NewTask],
    /// Those that are stored already: whether they were announced, nobody knows.
    pub(super) known: &'a [NewTask],
    /// How many of them may run at once; the others wait for their turn.
    pub(super) unblocked: usize,
}

/// What of `spawn` is not stored yet, given the counts: a batch that is sent twice is stored once.
pub(super) fn left_to_store(spawn: &Spawn, counts: FanOut) -> Batch<'_> {
    let is_new = |task: &NewTask| {
        let place = task.fan_out.as_ref();
        place.is_none_or(|place| place.place >= counts.stored)
    };
    let known = spawn
        .subtasks
        .iter()
        .take_while(|task| !is_new(task))
        .count();
    let (known, tasks) = spawn.subtasks.split_at(known);
    let stored = counts.stored + u32::try_from(tasks.len()).unwrap_or(u32::MAX);
    let allowance = FanOut { stored, ..counts }.allowance();
    let unblocked = usize::try_from(allowance).unwrap_or(usize::MAX);
    Batch {
        tasks,
        known,
        unblocked: unblocked.min(tasks.len()),
    }
}

/// The answer for a batch of which something could not be stored.
pub(super) fn refused(submitted: Vec<Submitted>) -> Spawned {
    let mut known = None;
    for one in submitted {
        match one {
            Submitted::Refused(refusal) => return Spawned::Refused(refusal),
            Submitted::Known(facts) => known = Some(facts),
            Submitted::Stored(_) => {}
        }
    }
    known.map_or(Spawned::Stale, Spawned::Known)
}

/// What is to be announced of a batch that was stored now, and of one that was stored before.
pub(super) fn ready(submitted: Vec<Submitted>, known: Vec<TaskFacts>) -> Vec<TaskFacts> {
    let stored = submitted.into_iter().filter_map(|one| match one {
        Submitted::Stored(facts) => Some(facts),
        Submitted::Known(_) | Submitted::Refused(_) => None,
    });
    let is_to_be_told =
        |facts: &TaskFacts| [TaskState::Ready, TaskState::Scheduled].contains(&facts.state);
    stored.chain(known).filter(is_to_be_told).collect()
}

/// The step of the parent that has spawned everything.
pub(super) fn spawn_record(spawn: &Spawn, place: u32) -> StepRecord {
    StepRecord {
        task: spawn.parent,
        attempt: spawn.attempt,
        step: Step {
            name: spawn.name.clone(),
            kind: StepKind::Spawn,
            progress: StepProgress::Ended {
                place,
                outcome: StepOutcome::Done(Payload::null()),
            },
        },
    }
}
