//! Times in rows: `timestamptz` in PostgreSQL, an integer in SQLite, exact to the microsecond in both.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Postgres, Sqlite, Type};

/// A time in a row. Unit: microseconds since 1970, UTC. Any number may come out of a row; whether it is a
/// time is decided where the row can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) i64);

/// Microseconds from 1970 to 2000, where PostgreSQL's count begins.
///
/// Source: PostgreSQL, `src/include/datatype/timestamp.h`, `POSTGRES_EPOCH_JDATE`.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// The type `timestamptz` and its array.
///
/// Source: PostgreSQL, `src/include/catalog/pg_type.dat`.
const TIMESTAMPTZ: (Oid, Oid) = (Oid(1184), Oid(1185));

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self(time.as_microsecond())
    }
}

impl Time {
    /// The time as the domain knows it.
    ///
    /// # Errors
    ///
    /// The number is beyond the years that a [`Timestamp`] knows.
    pub(super) fn timestamp(self) -> Result<Timestamp, jiff::Error> {
        Timestamp::from_microsecond(self.0)
    }

    /// So much later; at the end of time when it would be later still.
    pub(super) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// So much earlier.
    pub(super) fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }
}

/// `duration` in microseconds, at most a thousand years: what both stores can add to a time.
pub(super) fn micros(duration: Duration) -> i64 {
    const MICROS_MAX: i64 = 1_000 * 366 * 86_400 * 1_000_000;
    i64::try_from(duration.as_micros()).map_or(MICROS_MAX, |micros| micros.min(MICROS_MAX))
}

/// How long from now, in microseconds, as a duration; zero for what is over.
pub(super) fn from_now(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ.0)
    }
}

impl PgHasArrayType for Time {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ.1)
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.saturating_sub(POSTGRES_EPOCH), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let since_2000: i64 = Decode::<Postgres>::decode(value)?;
        Ok(Self(since_2000.saturating_add(POSTGRES_EPOCH)))
    }
}

impl Type<Sqlite> for Time {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }

    fn compatible(found: &SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(found)
    }
}

impl Encode<'_, Sqlite> for Time {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.0, buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for Time {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        Decode::<Sqlite>::decode(value).map(Self)
    }
}
