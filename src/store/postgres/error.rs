//! What PostgreSQL says, as the port says it.

use sqlx::migrate::MigrateError;

use crate::store::{SCHEMA_VERSION, StoreError};

/// What to do about statements that another client has prepared.
const POOLED: &str = "is there a pooler in between that lends a server for one transaction? Let it pool sessions, or keep \
                      prepared statements (PgBouncer from 1.21 on: `max_prepared_statements`)";

/// The error of a statement.
///
/// Source: PostgreSQL, appendix A (error codes).
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the errors are another crate's; what we do not know is a bug of ours"
)]
pub(super) fn of(error: sqlx::Error) -> StoreError {
    let reason = error.to_string();
    match error {
        sqlx::Error::Database(said) => {
            let reason = said.message().to_owned();
            match said.code().as_deref().unwrap_or_default() {
                // Undefined table.
                "42P01" => StoreError::Schema {
                    found: None,
                    expected: SCHEMA_VERSION,
                },
                // A prepared statement that is there already, or is not.
                "42P05" | "26000" => StoreError::Statement {
                    reason: format!("{reason}: {POOLED}"),
                },
                // Wrong authorization, unknown database, missing right.
                "28000" | "28P01" | "3D000" | "42501" => StoreError::Denied { reason },
                // Deadlock, serialization, lock and statement time-outs, a standby that cannot write.
                "40001" | "40P01" | "55P03" | "57014" | "25006" | "25P03" => {
                    StoreError::Unavailable { reason }
                }
                code => match code.get(..2) {
                    // Connection, resources (disk, memory, connections), shutdown and start, I/O.
                    Some("08" | "53" | "57" | "58") => StoreError::Unavailable { reason },
                    _ => StoreError::Statement { reason },
                },
            }
        }
        sqlx::Error::Configuration(_) => StoreError::Address { reason },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Corrupt {
            row: "of an unknown table".to_owned(),
            reason,
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => StoreError::Unavailable { reason },
        _ => StoreError::Statement { reason },
    }
}

/// The error of connecting to `address`, which holds no password.
pub(super) fn of_connecting(error: sqlx::Error, address: &str) -> StoreError {
    let mut error = of(error);
    if let StoreError::Unavailable { reason } | StoreError::Denied { reason } = &mut error {
        *reason = format!("`{address}`: {reason}");
    }
    error
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
