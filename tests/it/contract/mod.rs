//! What every backend of a port must do: the cases, as functions over the port.

pub(crate) mod broker;
mod dead_letters;
pub(crate) mod store;
