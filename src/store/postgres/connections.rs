//! Connections, held open between calls. A call survives a restart of the server: the next one finds out which
//! connections are dead and opens others.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool, Postgres};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::error;
use super::outage::{Begun, Outage};
use crate::store::StoreError;

/// How long a call waits for a connection; so long the server may be away without an error.
const ACQUIRE_MAX: Duration = Duration::from_secs(10);

/// How long the server may take for one statement.
const STATEMENT_MAX: &str = "20s";

/// How long a call may take in all: longer than one statement, and no longer than a cut cable may hold a
/// caller.
const CALL_MAX: Duration = Duration::from_secs(30);

/// How long a call may take that is rather tried again than waited for: a fifth of a lease.
const APART_CALL_MAX: Duration = Duration::from_secs(3);

/// How long a connection may rest and be used again unseen. A look costs a round trip; a busy connection that
/// is dead costs one failed call.
const REST_MAX: Duration = Duration::from_secs(1);

/// The number of the lock that migrations of a database take: any that others are unlikely to take.
const MIGRATION_LOCK: i64 = 0x004c_6f6e_6773_6872;

/// The largest batch that is small: nested loops over what one statement has found may compare all with all.
pub(super) const SMALL_MAX: usize = 64;

/// A few connections to one server.
#[derive(Debug)]
pub(super) struct Connections {
    pool: PgPool,
    address: String,
    breakage: Arc<Breakage>,
    /// Shared with all other connections of this process to the same server.
    outage: Arc<Outage>,
    /// How long a call may take in all.
    call_max: Duration,
}

/// When a connection was last found broken. All that are older may be broken as well: they are looked at
/// before they are used again.
#[derive(Debug, Default)]
struct Breakage(Mutex<Option<Instant>>);

impl Breakage {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_suspect(&self, connection: &PoolConnectionMetadata) -> bool {
        let broken_at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        connection.idle_for > REST_MAX
            || broken_at.is_some_and(|broken_at| connection.age > broken_at.elapsed())
    }
}

impl Connections {
    /// At most `connections_max` connections, opened when they are needed.
    pub(super) fn new(
        options: PgConnectOptions,
        connections_max: u32,
        address: &str,
        outage: &Arc<Outage>,
    ) -> Self {
        let patience = (ACQUIRE_MAX, CALL_MAX);
        Self::with_patience(options, connections_max, address, outage, patience)
    }

    /// One connection for what must be answered soon or tried again.
    pub(super) fn apart(options: PgConnectOptions, address: &str, outage: &Arc<Outage>) -> Self {
        let patience = (APART_CALL_MAX, APART_CALL_MAX);
        Self::with_patience(options, 1, address, outage, patience)
    }

    /// A call begins.
    pub(super) fn begin(&self) -> Begun {
        self.outage.begin()
    }

    /// A call had a connection, and has come to its end.
    pub(super) fn reached<T>(&self, answer: &Result<T, StoreError>) {
        // A connection that broke in the middle says nothing: the server may be there all the same.
        if !matches!(answer, Err(StoreError::Unavailable { .. })) {
            self.outage.answered(&self.address);
        }
    }

    /// A call got no connection.
    pub(super) fn unreached(&self, begun: Begun, error: &StoreError) {
        if !self.pool.is_closed() {
            self.outage.unreached(begun, &self.address, error);
        }
    }

    fn with_patience(
        options: PgConnectOptions,
        connections_max: u32,
        address: &str,
        outage: &Arc<Outage>,
        (acquire_max, call_max): (Duration, Duration),
    ) -> Self {
        let breakage = Arc::new(Breakage::default());
        let known = Arc::clone(&breakage);
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(acquire_max)
            // Waiting is how load is held back; the time-out tells when it is too long.
            .acquire_slow_threshold(acquire_max)
            .test_before_acquire(false)
            .before_acquire(move |connection, metadata| {
                let is_suspect = known.is_suspect(&metadata);
                Box::pin(async move {
                    if is_suspect {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Self {
            pool,
            address: address.to_owned(),
            breakage,
            outage: Arc::clone(outage),
            call_max,
        }
    }

    /// A connection, for one call.
    pub(super) async fn connection(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        self.pool
            .acquire()
            .await
            .map_err(|cause| error::of_connecting(cause, &self.address))
    }

    /// Runs what is missing of `migrations`: all of it, or nothing. The lock that keeps others from it ends with the
    /// transaction, so a pooler that lends a server for one transaction may stand in between.
    ///
    /// `migrations` take no lock of their own.
    pub(super) async fn migrate(&self, migrations: &Migrator) -> Result<(), StoreError> {
        debug_assert!(!migrations.locking, "it would belong to the session");
        let mut connection = self.connection().await?;
        let migrated = migrated(&mut connection, migrations).await;
        // However long it takes: a table may be large.
        self.judged(connection, Ok(migrated))
    }

    /// The answer of a call; a connection that may be broken, or may still be busy with it, is not used again.
    pub(super) fn judged<T>(
        &self,
        mut connection: PoolConnection<Postgres>,
        answer: Result<Result<T, StoreError>, Elapsed>,
    ) -> Result<T, StoreError> {
        let answer = answer.unwrap_or_else(|Elapsed { .. }| {
            Err(StoreError::Unavailable {
                reason: format!(
                    "`{}` did not answer within {:?}",
                    self.address, self.call_max
                ),
            })
        });
        if matches!(answer, Err(StoreError::Unavailable { .. })) {
            connection.close_on_drop();
            self.breakage.note();
        }
        answer
    }

    /// Limits a call.
    pub(super) fn limited<F: Future>(&self, call: F) -> tokio::time::Timeout<F> {
        tokio::time::timeout(self.call_max, call)
    }

    /// Closes all connections, for good.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Carries out one call on a connection of its own: `call!(self.writers, claim::claim(executor, tasks))`.
macro_rules! call {
    ($connections:expr, $module:ident::$function:ident($($argument:expr),*)) => {{
        let begun = $connections.begin();
        let answer = match $connections.connection().await {
            Ok(mut connection) => {
                let call = $module::$function(&mut connection, $($argument),*);
                let answer = $connections.limited(call).await;
                let answer = $connections.judged(connection, answer);
                $connections.reached(&answer);
                answer
            }
            Err(error) => {
                $connections.unreached(begun, &error);
                Err(error)
            }
        };
        answer
    }};
}

pub(super) use call;

/// How to connect to `url`.
///
/// A batch statement that was prepared while the tables were empty would keep a plan that scans them, so each
/// execution is planned anew (measured: 2-4 times faster under load). Small batches have connections of their own: [`quick`].
pub(super) fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|cause| StoreError::Address {
        reason: cause.to_string(),
    })?;
    Ok(options
        .application_name("longshore")
        .disable_statement_logging()
        .options([
            ("plan_cache_mode", "force_custom_plan"),
            // Whatever we ask takes less time than compiling it; a wrong guess of its cost shall not bring the compiler in.
            ("jit", "off"),
            // "already exists, skipping" is nothing that people need to read.
            ("client_min_messages", "warning"),
            ("statement_timeout", STATEMENT_MAX),
            // A transaction whose process froze in the middle must not hold its locks for ever.
            ("idle_in_transaction_session_timeout", STATEMENT_MAX),
        ]))
}

/// As `options`, for batches of at most [`SMALL_MAX`]: their statements are planned once. Planning takes longer than
/// carrying out a small batch (measured with batches of 13: 0.47 ms for the one, 0.4 ms for the other).
///
/// With everything but nested loops over an index switched off there is one plan, which is right for small batches whatever
/// the tables held when it was made: it cannot go stale.
pub(super) fn quick(options: &PgConnectOptions) -> PgConnectOptions {
    options.clone().options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_material", "off"),
    ])
}

async fn migrated(connection: &mut PgConnection, migrations: &Migrator) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await.map_err(error::of)?;
    sqlx::query("select pg_advisory_xact_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(error::of)?;
    // What `run` calls. It is no part of the promised interface; but of `run` the compiler says here that its `Acquire` is not
    // general enough, for which `sqlx` has made it public.
    migrations
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(error::of_migration)?;
    transaction.commit().await.map_err(error::of)
}

/// Connects once, so that a wrong address is told at once and not after retries.
pub(super) async fn probe(options: &PgConnectOptions, address: &str) -> Result<(), StoreError> {
    let connecting = tokio::time::timeout(ACQUIRE_MAX, PgConnection::connect_with(options));
    let connection = connecting
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
        .map_err(|cause| error::of_connecting(cause, address))?;
    connection
        .close()
        .await
        .map_err(|cause| error::of_connecting(cause, address))
}
