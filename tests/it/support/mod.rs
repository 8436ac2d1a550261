//! What tests are built from.

pub(crate) mod database;
pub(crate) mod eventually;
pub(crate) mod flaky;
pub(crate) mod fleet;
pub(crate) mod keeper;
pub(crate) mod rabbitmq;
pub(crate) mod services;
pub(crate) mod world;
