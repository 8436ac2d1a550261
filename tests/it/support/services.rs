//! The private servers, started by the first test that asks for them.

use std::sync::LazyLock;

use super::keeper::Keeper;

/// A PostgreSQL server. [`Keeper::ready`] is the address of its database `postgres`.
pub(crate) static POSTGRES: LazyLock<Keeper> = LazyLock::new(|| Keeper::start("postgres.sh", &[]));
