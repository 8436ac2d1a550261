//! Names that people give: of actions, queues, executors and schedules.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A text that cannot be a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a name of {kind} ({rule}): `{found}`")]
pub struct NameError {
    /// What was to be named, with its article: `a queue`.
    pub kind: &'static str,
    /// What would be right.
    pub rule: &'static str,
    /// What was found, cut to 80 characters.
    pub found: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $rule:literal, $is_valid:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name that `text` is.
            ///
            /// # Errors
            ///
            /// [`NameError`] says which characters and lengths are right.
            pub fn new(text: &str) -> Result<Self, NameError> {
                if $is_valid(text) {
                    Ok(Self(Arc::from(text)))
                } else {
                    let found = text.chars().take(80).collect();
                    Err(NameError { kind: $kind, rule: $rule, found })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    };
}

name!(
    /// The name of an action: words of letters, digits, `_` and `-`, joined by dots: `images.resize`.
    /// At most 100 bytes, because it is part of a routing key (255 bytes, AMQP 0-9-1, section 4.2.5.3).
    ActionName,
    "an action",
    "letters, digits, `_`, `-`, in words joined by dots, at most 100",
    is_action_name
);
name!(
    /// The name of a queue: lower-case letters, digits, `_` and `-`; begins with a letter or digit; at
    /// most 64 bytes. No dot: it is one word of a routing key.
    QueueName,
    "a queue",
    "lower-case letters, digits, `_`, `-`, beginning with a letter or digit, at most 64",
    is_queue_name
);
name!(
    /// What people call an executor or a web server. Only a label: two processes may share one.
    ExecutorName,
    "an executor",
    "letters, digits, `_`, `-`, `.`, beginning with a letter or digit, at most 64",
    is_executor_name
);
name!(
    /// The name of a schedule: letters, digits, `_`, `-` and `.`; begins with a letter or digit; at most 64 bytes. It is
    /// part of a path, and the value of a label on the tasks of the schedule.
    ScheduleName,
    "a schedule",
    "letters, digits, `_`, `-`, `.`, beginning with a letter or digit, at most 64",
    is_executor_name
);

name!(
    /// The name of a step of one task, by which its outcome is found again: letters, digits and `_-./#[]=@`, at most 100
    /// bytes. Names with `:` are those that Longshore gives by itself: `sleep:1`.
    StepName,
    "a step",
    "letters, digits and `_-./#[]=@`, at most 100",
    is_step_name
);
name!(
    /// The name of a signal: words of letters, digits, `_` and `-`, joined by dots: `approved`. At most 100 bytes.
    SignalName,
    "a signal",
    "letters, digits, `_`, `-`, in words joined by dots, at most 100",
    is_action_name
);

impl StepName {
    /// The name that a step has which its action did not name: `sleep:2` is the second sleep.
    pub fn numbered(what: &str, number: u32) -> Self {
        Self(Arc::from(format!("{what}:{number}")))
    }

    /// The step that waits for the sub-tasks which this one has spawned.
    #[must_use]
    pub fn joined(&self) -> Self {
        Self(Arc::from(format!("{self}:join")))
    }

    /// The name of the next try of a wait, after so many outcomes that were passed over.
    #[must_use]
    pub fn again(&self, passed: u32) -> Self {
        let first = self
            .0
            .split_once(":again:")
            .map_or(&*self.0, |(first, _)| first);
        Self(Arc::from(format!("{first}:again:{passed}")))
    }

    /// The name that a row says: also one that Longshore has given.
    ///
    /// # Errors
    ///
    /// [`NameError`]: nobody could have written it.
    pub fn stored(text: &str) -> Result<Self, NameError> {
        let is_ours = text.len() <= 2 * STEP_NAME_MAX
            && text.bytes().all(|byte| byte == b':' || is_step_byte(byte));
        if is_ours && !text.is_empty() {
            Ok(Self(Arc::from(text)))
        } else {
            Self::new(text)
        }
    }
}

impl QueueName {
    /// The queue of tasks that name none. It always exists.
    pub fn default_queue() -> Self {
        Self(Arc::from("default"))
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn is_action_name(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_word_byte);
    text.len() <= 100 && text.split('.').all(is_word)
}

/// Bytes of a step's name that an action may choose.
const STEP_NAME_MAX: usize = 100;

fn is_step_byte(byte: u8) -> bool {
    is_word_byte(byte) || b"./#[]=@".contains(&byte)
}

fn is_step_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= STEP_NAME_MAX && text.bytes().all(is_step_byte)
}

fn is_queue_name(text: &str) -> bool {
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    let is_lower = |byte: u8| is_word_byte(byte) && !byte.is_ascii_uppercase();
    text.len() <= 64 && begins_well && text.bytes().all(is_lower)
}

fn is_executor_name(text: &str) -> bool {
    let begins_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    text.len() <= 64 && begins_well && text.bytes().all(|byte| is_word_byte(byte) || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parts_of_routing_keys() {
        for right in ["echo", "images.resize", "A_b-9.c"] {
            assert!(ActionName::new(right).is_ok(), "{right}");
        }
        for wrong in ["", ".", "a..b", "a b", "a/b", "é", "#", "*", "a\0"] {
            assert!(ActionName::new(wrong).is_err(), "{wrong}");
        }
        assert!(ActionName::new(&"a".repeat(101)).is_err());
        for right in ["default", "bulk-2", "0"] {
            assert!(QueueName::new(right).is_ok(), "{right}");
        }
        for wrong in ["", "Bulk", "a.b", "-a", "a#", &"a".repeat(65)] {
            assert!(QueueName::new(wrong).is_err(), "{wrong}");
        }
        assert!(ExecutorName::new("x1.example").is_ok());
        assert!(ScheduleName::new("nightly.report-2").is_ok());
        for wrong in ["", ".", "..", "a/b", "a b", &"a".repeat(65)] {
            assert!(ScheduleName::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_error_says_what_would_be_right() {
        let error = QueueName::new("Bulk").unwrap_err();
        assert_eq!(
            error.to_string(),
            "not a name of a queue (lower-case letters, digits, `_`, `-`, beginning with a letter or \
             digit, at most 64): `Bulk`"
        );
    }
}
