//! A PostgreSQL server of one's own, for tests that restart it.

use longshore::store::Store as _;
use longshore::store::postgres::PostgresStore;

use super::keeper::Keeper;

/// A PostgreSQL server that one test has to itself.
pub(crate) struct Postgres {
    keeper: Keeper,
}

impl Postgres {
    /// Starts a server; its database `postgres` has the schema. What it has committed survives a crash.
    pub(crate) async fn start() -> Self {
        // A crash of the server alone loses nothing that was written: the system's cache outlives it.
        let keeper = Keeper::start("postgres.sh", &[]);
        let store = PostgresStore::connect(&keeper.ready()).await.unwrap();
        store.migrate().await.unwrap();
        store.close().await;
        Self { keeper }
    }

    /// The address of the database.
    pub(crate) fn address(&self) -> String {
        self.keeper.ready()
    }

    /// Ends the server as if it had crashed: `-m immediate`.
    pub(crate) async fn crash(&self) {
        self.keeper.run("postgres-restart.sh", "stop").await;
    }

    /// Starts a server that has crashed again, on the same port and data.
    pub(crate) async fn start_again(&self) {
        self.keeper.run("postgres-restart.sh", "start").await;
    }

    /// Stops the server for good.
    pub(crate) fn stop(self) {
        self.keeper.stop();
    }
}
