//! JSON that belongs to a user: inputs, outputs, error details. Kept as text; looked into once, at the door.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::json::same_value;
use super::limits::{PAYLOAD_BYTES_DEFAULT, PAYLOAD_DEPTH_MAX};

/// What a door lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLimits {
    /// Bytes of JSON text, at most.
    pub bytes_max: usize,
}

impl PayloadLimits {
    /// Everything: where the size is somebody else's to judge.
    pub const NONE: Self = Self {
        bytes_max: usize::MAX,
    };
}

impl Default for PayloadLimits {
    fn default() -> Self {
        Self {
            bytes_max: PAYLOAD_BYTES_DEFAULT,
        }
    }
}

/// Why a payload was refused.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The text is longer than the limit.
    #[error(
        "the payload has {bytes} bytes, more than the limit of {bytes_max}; store large data elsewhere and pass its address"
    )]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Arrays and objects nest too deep.
    #[error("the payload nests deeper than {depth_max} levels")]
    TooDeep {
        /// The limit.
        depth_max: usize,
    },
    /// A string holds the character NUL, which a PostgreSQL `text` cannot hold.
    #[error(
        "the payload holds the character NUL (`\\u0000`) at byte {at}; encode binary data, for example as Base64"
    )]
    Nul {
        /// Where the escape begins.
        at: usize,
    },
    /// Not JSON.
    #[error("the payload is not JSON")]
    NotJson(#[source] serde_json::Error),
}

/// A JSON value as text, known to be well-formed, free of NUL and at most [`PAYLOAD_DEPTH_MAX`] deep.
#[derive(Clone)]
pub struct Payload(Arc<RawValue>);

impl Payload {
    /// Checks `text` and keeps it.
    ///
    /// # Errors
    ///
    /// Every variant of [`PayloadError`]; each says the limit and where it was broken.
    pub fn parse(text: &str, limits: PayloadLimits) -> Result<Self, PayloadError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(PayloadError::NotJson)?;
        Self::checked(raw.to_owned(), limits)
    }

    /// The payload that `value` is when it is written as JSON.
    ///
    /// # Errors
    ///
    /// As [`Payload::parse`]; [`PayloadError::NotJson`] when `value` cannot be written as JSON.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        let raw = serde_json::value::to_raw_value(value).map_err(PayloadError::NotJson)?;
        Self::checked(raw, PayloadLimits::NONE)
    }

    /// The payload `null`.
    pub fn null() -> Self {
        Self(Arc::from(RawValue::NULL.to_owned()))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Holds it against a limit for its size.
    ///
    /// # Errors
    ///
    /// [`PayloadError::TooLarge`].
    pub fn within(self, limits: PayloadLimits) -> Result<Self, PayloadError> {
        let bytes = self.as_str().len();
        if bytes > limits.bytes_max {
            return Err(PayloadError::TooLarge {
                bytes,
                bytes_max: limits.bytes_max,
            });
        }
        Ok(self)
    }

    /// Whether `other` is the same value, however it is written: white space, the order of fields, and the form of
    /// numbers and strings say nothing.
    pub fn is_same_value(&self, other: &Self) -> bool {
        same_value(&self.0, &other.0)
    }

    /// The value of type `T` that the payload holds.
    ///
    /// # Errors
    ///
    /// What the JSON lacks or has too much of, with the path to it.
    pub fn decode<T: DeserializeOwned>(
        &self,
    ) -> Result<T, serde_path_to_error::Error<serde_json::Error>> {
        // Nearly every input can be read; to know the path of an error each step on the way is written down.
        match serde_json::from_str(self.as_str()) {
            Ok(value) => Ok(value),
            Err(_) => serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(
                self.as_str(),
            )),
        }
    }

    fn checked(raw: Box<RawValue>, limits: PayloadLimits) -> Result<Self, PayloadError> {
        let bytes = raw.get().len();
        if bytes > limits.bytes_max {
            return Err(PayloadError::TooLarge {
                bytes,
                bytes_max: limits.bytes_max,
            });
        }
        check_shape(raw.get())?;
        Ok(Self(Arc::from(raw)))
    }
}

/// Finds what is too deep or holds NUL. `json` is well-formed: only strings and brackets matter.
fn check_shape(json: &str) -> Result<(), PayloadError> {
    let bytes = json.as_bytes();
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = end_of_string(bytes, at)?,
            b'[' | b'{' => {
                depth += 1;
                if depth > PAYLOAD_DEPTH_MAX {
                    return Err(PayloadError::TooDeep {
                        depth_max: PAYLOAD_DEPTH_MAX,
                    });
                }
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

/// Where the string ends that goes on at `at`: behind its quote. Most of a payload is strings, so they are searched, not walked.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, PayloadError> {
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        if bytes.get(at + 1..at + 6) == Some(b"u0000".as_slice()) {
            return Err(PayloadError::Nul { at });
        }
        at += 2; // The escaped character is neither a quote nor another backslash.
    }
    Ok(bytes.len()) // Never: the JSON is well-formed.
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    /// Only the size: a payload may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.as_str().len())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    /// Checks depth and NUL; the size is the door's to check ([`Payload::within`]).
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::checked(
            raw,
            PayloadLimits {
                bytes_max: usize::MAX,
            },
        )
        .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Payload, PayloadError> {
        Payload::parse(text, PayloadLimits::default())
    }

    #[test]
    fn refuses_what_the_stores_cannot_hold() {
        assert!(matches!(parse("{"), Err(PayloadError::NotJson(_))));
        assert!(matches!(
            parse(r#"["a\u0000b"]"#),
            Err(PayloadError::Nul { at: 3 })
        ));
        assert!(
            parse(r#"["a\\u0000b"]"#).is_ok(),
            "an escaped backslash, not NUL"
        );
        let limits = PayloadLimits { bytes_max: 4 };
        assert!(matches!(
            Payload::parse("12345", limits),
            Err(PayloadError::TooLarge { bytes: 5, .. })
        ));
        assert!(Payload::parse("1234", limits).is_ok());
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&deep(PAYLOAD_DEPTH_MAX)).is_ok());
        assert!(matches!(
            parse(&deep(PAYLOAD_DEPTH_MAX + 1)),
            Err(PayloadError::TooDeep { .. })
        ));
        assert!(parse(&format!("\"{}\"", "[".repeat(100))).is_ok());
        assert!(parse(&format!("[{}1]", "[],".repeat(100))).is_ok());
    }

    #[test]
    fn shows_its_size_and_never_its_content() {
        let secret = parse("\"hunter2\"").unwrap();
        assert_eq!(format!("{secret:?}"), "Payload(9 bytes)");
    }

    #[test]
    fn a_payload_inside_a_document_is_checked_too() {
        let error = serde_json::from_str::<Vec<Payload>>(r#"["\u0000"]"#).unwrap_err();
        assert!(error.to_string().contains("NUL"), "{error}");
    }

    proptest! {
        #[test]
        fn only_nul_is_refused_in_a_text(text in "[\\\\\"\\[{}\u{0}u0a]*") {
            let json = serde_json::to_string(&[&text]).unwrap();
            prop_assert_eq!(parse(&json).is_err(), text.contains('\0'), "{}", json);
        }

        #[test]
        fn every_accepted_text_comes_back_as_it_was(text in ".*") {
            let json = serde_json::to_string(&text).unwrap();
            match parse(&json) {
                Ok(payload) => prop_assert_eq!(payload.decode::<String>().unwrap(), text),
                Err(error) => prop_assert!(text.contains('\0'), "{}", error),
            }
        }
    }
}
