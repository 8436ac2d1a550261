//! What the store says, read beside the program: a test's own accounts.

use std::collections::{BTreeMap, HashMap};

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

/// One task as its row is.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    pub(crate) action: String,
    pub(crate) state: String,
    pub(crate) attempt: i32,
    /// Executors that died while this task was the only one that can have killed them.
    pub(crate) crashes: i16,
    /// Unit: seconds since the epoch, by the store's clock.
    pub(crate) started_at: Option<f64>,
    pub(crate) has_ended: bool,
    pub(crate) error: Option<String>,
}

impl Entry {
    /// Whether something is still to come of it by itself.
    pub(crate) fn is_open(&self) -> bool {
        !self.has_ended && self.state != "paused"
    }
}

/// What the store says.
pub(crate) struct Ledger {
    address: String,
}

impl Ledger {
    /// The ledger of a database.
    pub(crate) fn of(address: &str) -> Self {
        let address = address.to_owned();
        Self { address }
    }

    async fn connection(&self) -> PgConnection {
        PgConnection::connect(&self.address).await.unwrap()
    }

    /// Every task.
    pub(crate) async fn tasks(&self) -> BTreeMap<Uuid, Entry> {
        let entries: Vec<Entry> = sqlx::query_as(
            "select id, action, state, attempt, crashes, extract(epoch from started_at)::float8 as started_at, \
             finished_at is not null as has_ended, error from task",
        )
        .fetch_all(&mut self.connection().await)
        .await
        .unwrap();
        entries.into_iter().map(|entry| (entry.id, entry)).collect()
    }

    /// One task.
    pub(crate) async fn task(&self, id: &str) -> Entry {
        let id: Uuid = id.parse().unwrap();
        self.tasks().await.remove(&id).unwrap()
    }

    /// How many tasks have ended.
    pub(crate) async fn ended(&self) -> usize {
        let count: i64 =
            sqlx::query_scalar("select count(*) from task where finished_at is not null")
                .fetch_one(&mut self.connection().await)
                .await
                .unwrap();
        usize::try_from(count).unwrap()
    }

    /// How many seconds are left of the lease of the newest executor of this name; none are when it is lost.
    pub(crate) async fn lease_left(&self, executor: &str) -> f64 {
        sqlx::query_scalar(
            "select extract(epoch from case when lost_at is null then lease_ends_at - now() else interval '0' end)::float8 \
             from executor where name = $1 order by started_at desc limit 1",
        )
        .bind(executor)
        .fetch_one(&mut self.connection().await)
        .await
        .unwrap()
    }

    /// Until when the newest executor of this name has its lease. Unit: seconds since the epoch.
    pub(crate) async fn lease_end(&self, executor: &str) -> f64 {
        sqlx::query_scalar(
            "select extract(epoch from lease_ends_at)::float8 from executor where name = $1 \
             order by started_at desc limit 1",
        )
        .bind(executor)
        .fetch_one(&mut self.connection().await)
        .await
        .unwrap()
    }

    /// How many sub-tasks each task has that has some.
    pub(crate) async fn children(&self) -> HashMap<Uuid, usize> {
        let counts: Vec<(Uuid, i64)> = sqlx::query_as(
            "select parent, count(*) from task where parent is not null group by parent",
        )
        .fetch_all(&mut self.connection().await)
        .await
        .unwrap();
        let count = |(parent, count)| (parent, usize::try_from(count).unwrap());
        counts.into_iter().map(count).collect::<HashMap<_, _>>()
    }

    /// Whether an executor lacks its token, so that its broker could not tell of its death.
    ///
    /// # Errors
    ///
    /// The store did not answer.
    pub(crate) async fn try_lacks_token(&self, executor: Uuid) -> Result<bool, sqlx::Error> {
        let mut connection = PgConnection::connect(&self.address).await?;
        sqlx::query_scalar("select lacks_token from executor where id = $1")
            .bind(executor)
            .fetch_one(&mut connection)
            .await
    }

    /// When executors were found lost. Unit: seconds since the epoch.
    pub(crate) async fn losses(&self) -> HashMap<Uuid, f64> {
        let losses: Vec<(Uuid, f64)> = sqlx::query_as(
            "select id, extract(epoch from lost_at)::float8 from executor where lost_at is not null",
        )
        .fetch_all(&mut self.connection().await)
        .await
        .unwrap();
        losses.into_iter().collect()
    }

    /// The tasks that run for an executor, with their attempts; and the store's clock, in seconds since the epoch.
    pub(crate) async fn running_for(&self, executor: Uuid) -> (Vec<(Uuid, i32)>, f64) {
        self.try_running_for(executor).await.unwrap()
    }

    /// The same of a store that may be away.
    ///
    /// # Errors
    ///
    /// The store did not answer.
    pub(crate) async fn try_running_for(
        &self,
        executor: Uuid,
    ) -> Result<(Vec<(Uuid, i32)>, f64), sqlx::Error> {
        let mut connection = PgConnection::connect(&self.address).await?;
        let now = sqlx::query_scalar("select extract(epoch from now())::float8")
            .fetch_one(&mut connection)
            .await?;
        let running = sqlx::query_as(
            "select id, attempt from task where executor = $1 and state = 'running'",
        )
        .bind(executor)
        .fetch_all(&mut connection)
        .await?;
        Ok((running, now))
    }
}
