//! The members of a tree that is to be cancelled, for both stores.

use uuid::Uuid;

use super::row::name;
use super::{Cancelled, StoreError};
use crate::domain::{ExecutorId, TaskEvent, TaskId, TaskState};

/// One task of a tree.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Member {
    id: Uuid,
    state: String,
    executor: Option<Uuid>,
}

/// What is to be done with a tree.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// They do not run: cancelled at once.
    pub(super) waiting: Vec<Uuid>,
    /// They run: their executors are to be nudged.
    pub(super) running: Vec<(TaskId, ExecutorId)>,
}

impl Member {
    /// Which task it is.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }
}

/// What is to be done with open tasks.
pub(super) fn split(members: &[Member]) -> Result<Parts, StoreError> {
    let mut parts = Parts::default();
    for member in members {
        let state: TaskState = name("task", &member.state)?;
        parts.enter(member, state)?;
    }
    Ok(parts)
}

impl Parts {
    fn enter(&mut self, member: &Member, state: TaskState) -> Result<(), StoreError> {
        match (state, member.executor) {
            (TaskState::Running, Some(executor)) => self.running.push((
                TaskId::from_uuid(member.id),
                ExecutorId::from_uuid(executor),
            )),
            (TaskState::Running, None) => {
                return Err(StoreError::Corrupt {
                    row: format!("`{}` of `task`", member.id),
                    reason: "it is `running` and has no `executor`".to_owned(),
                });
            }
            _ if state.transition(TaskEvent::Cancelled).is_ok() => self.waiting.push(member.id),
            _ => {} // It ended before.
        }
        Ok(())
    }
}

/// What is to be done with the tree below `task`; `Err` when nothing is.
pub(super) fn parts(
    task: TaskId,
    members: &[Member],
) -> Result<Result<Parts, Cancelled>, StoreError> {
    let mut parts = Parts::default();
    let mut is_known = false;
    for member in members {
        let state: TaskState = name("task", &member.state)?;
        let is_top = member.id == task.as_uuid();
        is_known |= is_top;
        if is_top && state.is_final() {
            return Ok(Err(Cancelled::Final(state)));
        }
        parts.enter(member, state)?;
    }
    Ok(if is_known {
        Ok(parts)
    } else {
        Err(Cancelled::Unknown)
    })
}
