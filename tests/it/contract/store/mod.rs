//! What every store promises. `tests/it/store.rs` runs each case on each backend.

pub(crate) mod attempts;
pub(crate) mod auditing;
pub(crate) mod broken_rows;
pub(crate) mod cancelling;
pub(crate) mod crashes;
pub(crate) mod executors;
pub(crate) mod operating;
pub(crate) mod plans;
pub(crate) mod progressing;
pub(crate) mod reading;
pub(crate) mod schedule_policies;
pub(crate) mod scheduling;
pub(crate) mod signalling;
pub(crate) mod submitting;
pub(crate) mod times;
mod world;

pub(crate) use world::{World, record};
