//! The integration tests: one binary, so that it links once and the private servers start once.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

mod broker;
mod cli;
mod contract;
mod drain;
mod executor;
mod fleet;
mod http;
mod lost_answers;
mod roles;
mod sim;
mod store;
mod support;
mod taps;
mod tidy;
mod wire;
