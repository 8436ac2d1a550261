//! What the server has done so far, for measurements.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Error};
use tokio::sync::Mutex;

use super::{connections, error};
use crate::store::StoreError;

/// How long one reading may take.
const READING_MAX: Duration = Duration::from_secs(10);

/// `pg_snapshot_xmax` is the transaction id that is given next, and `pg_current_wal_insert_lsn` where the log goes on: both
/// are exact at any moment. The statistics are not: a busy session hands in its own once a second, and one that fell idle
/// up to 10 s later.
///
/// Source: PostgreSQL 15, `pgstat_report_stat`.
const READING: &str = "
select
    (select xact_commit + xact_rollback from pg_stat_database where datname = current_database()),
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
    pg_backend_pid(),
    inet_client_port()";

/// Reads what a PostgreSQL server has done so far, on a connection of its own. Changes nothing.
pub struct Gauge {
    connection: Mutex<PgConnection>,
}

/// What a server has done since some moment in the past: only differences say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GaugeReading {
    /// Transactions of this database that ended, those that only read included. Up to 10 s late; each reading is one.
    pub transactions: u64,
    /// Transactions of the server that wrote something. Exact.
    pub writes: u64,
    /// Bytes that the server wrote to its write-ahead log. Exact.
    pub wal_bytes: u64,
    /// The process of the server that answered, as the server's host counts it.
    pub process: u32,
    /// The port that this connection comes from, as the server sees it; `None` for a socket in the file system.
    pub port: Option<u16>,
}

impl Gauge {
    /// Connects to the server that `url` names.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::connect`](super::PostgresStore::connect); and those of [`Gauge::read`].
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let address = crate::domain::masked_url(url);
        let connecting = PgConnection::connect_with(&connections::options(url)?).await;
        let connection = connecting.map_err(|cause| error::of_connecting(cause, &address))?;
        let gauge = Self {
            connection: Mutex::new(connection),
        };
        // The first one prepares the statement, which is a transaction more than each that follows.
        gauge.read().await?;
        Ok(gauge)
    }

    /// What the server has done so far.
    ///
    /// # Errors
    ///
    /// [`StoreError::Denied`]: the role may not read it. [`StoreError::Unavailable`]: no answer within 10 s, or a
    /// standby, which writes no log.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn read(&self) -> Result<GaugeReading, StoreError> {
        let mut connection = self.connection.lock().await;
        let reading = sqlx::query_as(READING).fetch_one(&mut *connection);
        let row: (i64, i64, i64, i32, Option<i32>) = tokio::time::timeout(READING_MAX, reading)
            .await
            .unwrap_or(Err(Error::PoolTimedOut))
            .map_err(error::of)?;
        let (transactions, writes, wal_bytes, process, port) = row;
        Ok(GaugeReading {
            transactions: transactions.unsigned_abs(),
            writes: writes.unsigned_abs(),
            wal_bytes: wal_bytes.unsigned_abs(),
            process: process.unsigned_abs(),
            port: port.and_then(|port| u16::try_from(port).ok()),
        })
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauge").finish_non_exhaustive()
    }
}
