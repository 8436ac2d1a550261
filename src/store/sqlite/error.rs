//! What SQLite says, as the port says it.

use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

use crate::store::{SCHEMA_VERSION, StoreError};

/// The error of a statement.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the errors are another crate's; what we do not know is a bug of ours"
)]
pub(super) fn of(error: sqlx::Error) -> StoreError {
    let reason = error.to_string();
    match error {
        sqlx::Error::Database(said) => of_database(said.as_ref()),
        sqlx::Error::Configuration(_) => StoreError::Address { reason },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt {
            row: "of an unknown table".to_owned(),
            reason,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => StoreError::Unavailable { reason },
        _ => StoreError::Statement { reason },
    }
}

/// Source: SQLite, "Result and Error Codes"; the low byte of an extended code is its primary one.
fn of_database(said: &dyn DatabaseError) -> StoreError {
    let reason = said.message().to_owned();
    let code: Option<u32> = said.code().and_then(|code| code.parse().ok());
    match code.map(|code| code & 0xff) {
        Some(1) if reason.starts_with("no such table") => StoreError::Schema {
            found: None,
            expected: SCHEMA_VERSION,
        },
        // Busy, locked, out of memory, interrupted, input or output, full.
        Some(5 | 6 | 7 | 9 | 10 | 13) => StoreError::Unavailable { reason },
        // Permission, read-only, cannot open.
        Some(3 | 8 | 14) => StoreError::Denied { reason },
        Some(11) => StoreError::Corrupt {
            row: "of the file".to_owned(),
            reason,
        },
        Some(26) => StoreError::Address { reason },
        _ => StoreError::Statement { reason },
    }
}

/// The error of a migration.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the errors are another crate's; what we do not know is a bug of ours"
)]
pub(super) fn of_migration(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => of(error),
        MigrateError::VersionMissing(found) => StoreError::Schema {
            found: Some(found),
            expected: SCHEMA_VERSION,
        },
        other => StoreError::Statement {
            reason: other.to_string(),
        },
    }
}
