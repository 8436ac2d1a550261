//! What can go wrong with a store.

/// What can go wrong with a store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or not in time, or it was restarted in the middle: try again.
    #[error("the store does not answer: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
    },
    /// It refuses who we are: user, password, database. Trying again does not help.
    #[error("the store refuses the connection: {reason}")]
    Denied {
        /// What it said.
        reason: String,
    },
    /// The address cannot be one.
    #[error(
        "not the address of a store: {reason}; it is `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH`"
    )]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// The schema is another one.
    #[error("{}", schema_sentence(*.found, *.expected))]
    Schema {
        /// The version found; `None` when there is none.
        found: Option<i64>,
        /// The version this program works with.
        expected: i64,
    },
    /// A row that nobody could have written.
    #[error("the row {row} cannot be read: {reason}")]
    Corrupt {
        /// Which row: its table and key.
        row: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A statement that the store does not accept: a bug of ours.
    #[error("the store refuses a statement: {reason}")]
    Statement {
        /// What it said.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

fn schema_sentence(found: Option<i64>, expected: i64) -> String {
    match found {
        None => "the store has no schema yet; run `longshore db migrate`".to_owned(),
        Some(found) if found < expected => {
            format!(
                "the store has schema {found}, this program needs {expected}; run `longshore db migrate`"
            )
        }
        Some(found) => format!(
            "the store has schema {found}, newer than {expected} which this program knows; install a newer longshore"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_schema_says_what_to_type() {
        let error = |found| StoreError::Schema { found, expected: 2 }.to_string();
        assert_eq!(
            error(None),
            "the store has no schema yet; run `longshore db migrate`"
        );
        assert_eq!(
            error(Some(1)),
            "the store has schema 1, this program needs 2; run `longshore db migrate`"
        );
        assert!(error(Some(3)).ends_with("install a newer longshore"));
    }
}
