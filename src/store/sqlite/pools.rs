//! The connections to the file: one that writes, and some that read.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Sqlite, SqlitePool};

use super::error;
use crate::store::StoreError;

/// How long a call waits for its turn, and a connection for another process's transaction.
pub(super) const ACQUIRE_MAX: Duration = Duration::from_secs(10);

pub(super) fn read_only(options: &SqliteConnectOptions) -> SqliteConnectOptions {
    options.clone().pragma("query_only", "on")
}

/// One connection that is opened when it is first used.
pub(super) fn lazy_pool(options: &SqliteConnectOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ACQUIRE_MAX)
        // Waiting is how load is held back; the time-out tells when it is too long.
        .acquire_slow_threshold(ACQUIRE_MAX)
        .test_before_acquire(false)
        .connect_lazy_with(options.clone())
}

pub(super) async fn pool(
    options: SqliteConnectOptions,
    connections_max: u32,
) -> Result<SqlitePool, StoreError> {
    let path = options.get_filename().display().to_string();
    SqlitePoolOptions::new()
        .max_connections(connections_max)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_MAX)
        .acquire_slow_threshold(ACQUIRE_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|error| match error::of(error) {
            // SQLite does not say which file.
            StoreError::Denied { reason } => StoreError::Denied {
                reason: format!("`{path}`: {reason}"),
            },
            StoreError::Address { reason } => StoreError::Address {
                reason: format!("`{path}`: {reason}"),
            },
            other @ (StoreError::Unavailable { .. }
            | StoreError::Schema { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Statement { .. }) => other,
        })
}

pub(super) async fn connection(pool: &SqlitePool) -> Result<PoolConnection<Sqlite>, StoreError> {
    pool.acquire().await.map_err(error::of)
}

/// How long a call may take in all.
pub(super) const CALL_MAX: Duration = Duration::from_secs(30);

/// Carries out one call: `call!(self.writer, claim::claim(executor, tasks, self.now()))`.
macro_rules! call {
    ($pool:expr, $module:ident::$function:ident($($argument:expr),*)) => {{
        let mut connection = connection(&$pool).await?;
        let call = $module::$function(&mut connection, $($argument),*);
        tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| {
            Err(StoreError::Unavailable {
                reason: format!("no answer within {CALL_MAX:?}"),
            })
        })
    }};
}

pub(super) use call;
