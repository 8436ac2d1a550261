//! The address of a store, and opening what it names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::postgres::{Gauge, PostgresStore};
use super::sqlite::SqliteStore;
use super::{Store, StoreError};

/// The address of a store: `postgres://…` or `sqlite:PATH`; `sqlite::memory:` lives in this process only.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAddress(String);

impl StoreAddress {
    /// The address in full, with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is a store in the memory of one process.
    pub fn is_in_memory(&self) -> bool {
        self.0.starts_with("sqlite::memory:")
    }

    /// Whether it names a PostgreSQL server.
    pub fn is_postgres(&self) -> bool {
        self.0.starts_with("postgres")
    }

    /// Opens the store. A file is created if it is missing; the schema is not looked at.
    ///
    /// # Errors
    ///
    /// As [`PostgresStore::connect`] and [`SqliteStore::open`].
    pub async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        if self.is_postgres() {
            Ok(Arc::new(PostgresStore::connect(&self.0).await?))
        } else {
            Ok(Arc::new(SqliteStore::open(&self.0).await?))
        }
    }

    /// What tells what the store's server has done, for measurements; `None` for SQLite, which has no server.
    ///
    /// # Errors
    ///
    /// As [`Gauge::connect`].
    pub async fn gauge(&self) -> Result<Option<Gauge>, StoreError> {
        if self.is_postgres() {
            Ok(Some(Gauge::connect(&self.0).await?))
        } else {
            Ok(None)
        }
    }
}

impl FromStr for StoreAddress {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let is_known = ["postgres://", "postgresql://", "sqlite:"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        if is_known {
            return Ok(Self(text.to_owned()));
        }
        let scheme = text.split_once(':').map_or("none", |(scheme, _)| scheme);
        let scheme: String = scheme.chars().take(20).collect();
        Err(StoreError::Address {
            reason: format!("its scheme is `{scheme}`"),
        })
    }
}

impl fmt::Display for StoreAddress {
    /// The address with its password masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&crate::domain::masked_url(&self.0))
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
