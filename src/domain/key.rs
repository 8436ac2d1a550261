//! The key that makes many submissions one task.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::IdError;
use super::limits::KEY_BYTES_MAX;

/// A word of the submitter's own for one wish, such as `order-4711`: submissions with one key are one task, for as
/// long as that task is stored. From 1 to [`KEY_BYTES_MAX`] visible ASCII characters: what a header of HTTP can hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(Arc<str>);

impl IdempotencyKey {
    /// The key that `text` is.
    ///
    /// # Errors
    ///
    /// [`IdError`] says which characters and lengths are right.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let is_key =
            (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if is_key {
            Ok(Self(Arc::from(text)))
        } else {
            Err(IdError::new(
                "an idempotency key (from 1 to 255 visible ASCII characters)",
                text,
            ))
        }
    }

    /// The key of an event that has none of its own: its source and its id make it one, however long they are.
    ///
    /// Source: CloudEvents 1.0.2, section 3.1 (`id`).
    pub fn of_event(source: &str, id: &str) -> Self {
        let whole = format!("{source}#{id}");
        Self::new(&whole).unwrap_or_else(|_| {
            let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, whole.as_bytes());
            Self(Arc::from(hash.to_string()))
        })
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for IdempotencyKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_a_header_can_hold() {
        for right in ["k", "order-4711", "{\"a\":1}", &"~".repeat(KEY_BYTES_MAX)] {
            assert_eq!(IdempotencyKey::new(right).unwrap().as_str(), right);
        }
        for wrong in ["", "a b", "é", "a\n", &"k".repeat(KEY_BYTES_MAX + 1)] {
            assert!(IdempotencyKey::new(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            IdempotencyKey::new("a b").unwrap_err().to_string(),
            "not an idempotency key (from 1 to 255 visible ASCII characters): `a b`"
        );
    }
}
