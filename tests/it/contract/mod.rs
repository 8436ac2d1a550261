//! The cases that every backend of a port passes.

pub(crate) mod broker;
