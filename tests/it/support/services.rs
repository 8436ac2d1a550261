//! The private servers, started by the first test that asks for them.

use std::sync::LazyLock;

use super::keeper::Keeper;

/// A PostgreSQL server. [`Keeper::ready`] is the address of its database `postgres`.
pub(crate) static POSTGRES: LazyLock<Keeper> = LazyLock::new(|| Keeper::start("postgres.sh", &[]));

/// What stands before that server, if `LONGSHORE_TEST_PGBOUNCER` names the program: a pooler that lends a server for one
/// transaction.
pub(crate) static PGBOUNCER: LazyLock<Option<Keeper>> = LazyLock::new(|| {
    let mut variables = longshore::config::env::variables();
    let (_, program) = variables.find(|(name, _)| name == "LONGSHORE_TEST_PGBOUNCER")?;
    let args = [program.as_str(), &POSTGRES.ready()];
    Some(Keeper::start("pgbouncer.sh", &args))
});
