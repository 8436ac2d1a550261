//! What became of the submissions of a batch, for both stores.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::row::{FactsRow, name};
use super::{Refusal, StoreError, Submitted};
use crate::domain::{Attempt, IdempotencyKey, NewTask, TaskFacts, TaskState};

/// What became of a submission that was taken.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The task.
    pub task: TaskFacts,
    /// Whether it was stored by this call, and not before.
    pub is_new: bool,
}

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

/// A task that was stored before.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct KnownRow {
    #[sqlx(flatten)]
    facts: FactsRow,
    idempotency_key: Option<String>,
}

/// The tasks of a batch that were stored before, as submissions name them.
#[derive(Debug, Default)]
pub(super) struct Known {
    by_id: HashMap<Uuid, TaskFacts>,
    by_key: HashMap<String, TaskFacts>,
}

impl Known {
    /// What the rows say.
    pub(super) fn of(rows: Vec<KnownRow>) -> Result<Self, StoreError> {
        let mut known = Self::default();
        for row in rows {
            let (id, facts) = (row.facts.id, row.facts.into_facts()?);
            if let Some(key) = row.idempotency_key {
                known.by_key.insert(key, facts.clone());
            }
            known.by_id.insert(id, facts);
        }
        Ok(known)
    }

    /// The task that has the key of `task`, or else its id.
    fn task(&self, task: &NewTask) -> Option<&TaskFacts> {
        let key = task.submission.idempotency_key.as_ref();
        key.and_then(|key| self.by_key.get(key.as_str()))
            .or_else(|| self.by_id.get(&task.id.as_uuid()))
    }
}

/// The idempotency keys of a batch.
pub(super) fn keys(tasks: &[NewTask]) -> Vec<&str> {
    let keys = tasks
        .iter()
        .filter_map(|task| task.submission.idempotency_key.as_ref());
    keys.map(IdempotencyKey::as_str).collect()
}

/// The answers of a batch, in its order. `known` holds those of its tasks that were stored before.
pub(super) fn answers(
    tasks: &[NewTask],
    entered: &[Entered],
    known: Known,
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
                known.by_id.entry(one.id).or_insert_with(|| facts.clone());
                return Ok(if is_first {
                    Submitted::Stored(facts)
                } else {
                    Submitted::Known(facts)
                });
            }
            match (known.task(task), refusal(task, one)) {
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
