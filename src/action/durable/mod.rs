//! What makes an action durable: the outcomes of its steps are stored, and while only durable waits are left its future
//! is dropped. A later attempt runs the action from its start and is told the stored outcomes.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `journal` | what is stored of the task's steps, and in which order an attempt is told of it |
//! | `operation` | one step of an attempt: told from the journal, or done and stored |
//! | `asking` | a question to the host, whose answer may come when nobody asks for it any more |
//! | `drive` | polls the action, and notices when only durable waits are left |
//! | `steps` | steps of the action's own code |
//! | `waits` | sleeps and signals |
//! | `subtasks` | sub-tasks, and waiting for them |
//!
//! **The order is part of what is stored.** Steps may go on side by side, so a later attempt must see them end in the order
//! in which the first one did, or a `select!` could choose otherwise. Each end has a place; an attempt is told of the ends
//! in that order, and does nothing new before it has been told of all.

mod asking;
mod drive;
mod journal;
mod operation;
mod steps;
mod subtasks;
mod waits;

pub use drive::{Drive, Driven};
pub(crate) use journal::Changes;
pub use journal::Journal;
pub use operation::Operation;
pub use subtasks::{Joined, Results, Subtask, Subtasks};
