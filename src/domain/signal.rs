//! Signals: external events sent to one task.

use super::{IdempotencyKey, Payload, SignalName, TaskId};

/// A signal that is about to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSignal {
    /// To whom.
    pub task: TaskId,
    /// Which.
    pub name: SignalName,
    /// The sender's own word for it: sent twice to one task it is one signal.
    pub key: Option<IdempotencyKey>,
    /// What it says.
    pub payload: Payload,
}
