//! What became of the submissions of a batch, for both stores.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::row::name;
use super::{Refusal, StoreError, Submitted};
use crate::domain::{Attempt, NewTask, TaskFacts, TaskState};

/// What a store found out about one submission.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Entered {
    pub(super) id: Uuid,
    pub(super) has_queue: bool,
    pub(super) has_parent: bool,
    /// Whether the parent is final or being cancelled.
    pub(super) is_ended: bool,
    /// The state it was stored with; `None` when it was not stored.
    pub(super) state: Option<String>,
}

/// The answers of a batch, in its order. `known` holds those of its tasks that were stored before.
pub(super) fn answers(
    tasks: &[NewTask],
    entered: &[Entered],
    known: HashMap<Uuid, TaskFacts>,
) -> Result<Vec<Submitted>, StoreError> {
    let mut known = known;
    let mut stored = HashSet::with_capacity(tasks.len());
    tasks
        .iter()
        .zip(entered)
        .map(|(task, one)| {
            if let Some(state) = &one.state {
                let facts = facts(task, name("task", state)?);
                // The same task twice in one batch: the first is stored, the second is known.
                let is_first = stored.insert(one.id);
                known.entry(one.id).or_insert_with(|| facts.clone());
                return Ok(if is_first {
                    Submitted::Stored(facts)
                } else {
                    Submitted::Known(facts)
                });
            }
            match (known.get(&one.id), refusal(task, one)) {
                (Some(facts), _) => Ok(Submitted::Known(facts.clone())),
                (None, Some(refusal)) => Ok(Submitted::Refused(refusal)),
                // It was there when it was to be inserted and is gone now: pruned in between.
                (None, None) => Err(StoreError::Unavailable {
                    reason: format!("the task `{}` was deleted in this moment", one.id),
                }),
            }
        })
        .collect()
}

fn refusal(task: &NewTask, one: &Entered) -> Option<Refusal> {
    if !one.has_queue {
        return Some(Refusal::UnknownQueue(task.submission.queue.clone()));
    }
    let parent = task.submission.parent?;
    if !one.has_parent {
        return Some(Refusal::UnknownParent(parent));
    }
    one.is_ended.then_some(Refusal::ParentEnded(parent))
}

fn facts(task: &NewTask, state: TaskState) -> TaskFacts {
    TaskFacts {
        id: task.id,
        action: task.submission.action.clone(),
        queue: task.submission.queue.clone(),
        state,
        attempt: Attempt(0),
        parent: task.submission.parent,
        origin: task.origin.clone(),
    }
}
