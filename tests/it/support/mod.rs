//! What tests are built from.

pub(crate) mod both_stores;
pub(crate) mod clock;
pub(crate) mod database;
pub(crate) mod eventually;
pub(crate) mod flaky;
pub(crate) mod fleet;
pub(crate) mod gate;
pub(crate) mod keeper;
pub(crate) mod ledger;
pub(crate) mod load;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod rabbitmq;
pub(crate) mod services;
pub(crate) mod world;
