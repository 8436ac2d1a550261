//! Migrations of the schema.

use sqlx::SqlitePool;
use sqlx::migrate::Migrator;

use super::pools::{CALL_MAX, call, connection};
use super::{error, read};
use crate::store::{SCHEMA_VERSION, StoreError};

pub(super) static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How often a migration that met another process's is tried again.
const TRIES_MAX: u32 = 5;

/// Brings the schema to [`SCHEMA_VERSION`].
pub(super) async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let migrated = MIGRATIONS.run(writer).await.map_err(error::of_migration);
        let version: Option<i64> = call!(writer, read::schema_version())?;
        match migrated {
            // There is no lock around a migration in SQLite: another process may have been faster.
            Err(_) if version == Some(SCHEMA_VERSION) => return Ok(()),
            Err(error) if tries == TRIES_MAX => return Err(error),
            Err(_) => tries += 1,
            Ok(()) => return Ok(()),
        }
    }
}
