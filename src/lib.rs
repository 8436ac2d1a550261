//! Longshore runs background tasks for web applications on many hosts: on RabbitMQ and PostgreSQL, or
//! embedded in one process.
//!
//! The layers, bottom to top; a module names only what stands below it (`tests/it/tidy.rs` checks it):
//!
//! | layer | modules |
//! | --- | --- |
//! | surfaces | `cli` `http` |
//! | assembly | `runtime` `config` `telemetry` |
//! | services | `client` `executor` `housekeeping` `tap` |
//! | users' tests of actions | `testing` |
//! | ports and backends | `action` `store` `broker` `clock` `background` |
//! | domain | `domain` and its outside, `wire` |

pub mod action;
pub mod background;
pub mod broker;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod domain;
pub mod executor;
pub mod housekeeping;
pub mod http;
pub mod runtime;
pub mod store;
pub mod tap;
pub mod telemetry;
pub mod testing;
pub mod wire;

/// The programs in the guides, which are compiled, and run where they are whole.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/durable-actions.md")]
    mod durable_actions {}
    #[doc = include_str!("../docs/coming-from-dynflow.md")]
    mod coming_from_dynflow {}
    #[doc = include_str!("../docs/coming-from-celery.md")]
    mod coming_from_celery {}
}
