//! The integration tests: one binary, so that it links once and the private servers start once.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test stops at the first surprise"
)]

mod bad_input;
mod broker;
mod chaos;
mod cli;
mod contract;
mod drain;
mod durable;
mod examples;
mod executor;
mod failures;
mod fleet;
mod http;
mod http_action;
mod keys;
mod local;
mod lost_answers;
mod operating;
mod pausing;
mod progress;
mod roles;
mod saga;
mod schedules;
mod sim;
mod store;
mod support;
mod taking_over;
mod taps;
mod tidy;
mod transaction;
mod unreadable;
mod waits;
mod wire;
mod workflow;
