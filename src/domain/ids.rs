//! Identities: of tasks, of executors, of web servers and of origins.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use uuid::{Builder, Uuid};

use super::ScheduleName;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}: `{found}`")]
pub struct IdError {
    /// What would be right, with its article.
    pub expected: &'static str,
    /// What was found, cut to 80 characters.
    pub found: String,
}

impl IdError {
    pub(super) fn new(expected: &'static str, found: &str) -> Self {
        Self {
            expected,
            found: found.chars().take(80).collect(),
        }
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id: the time in its first 48 bits, so that ids sort by age, then 74 bits of `random`.
            ///
            /// Source: RFC 9562, section 5.7 (UUID version 7).
            pub fn new(now: Timestamp, random: u128) -> Self {
                Self(uuid_v7(now, random))
            }

            /// The id that `uuid` is.
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The id as a UUID.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError::new($expected, text))
            }
        }
    };
}

uuid_id!(
    /// The identity of a task, for ever. A submission may bring its own; sent twice it is one task.
    TaskId,
    "a task id (a UUID)"
);
uuid_id!(
    /// One start of one executor: an incarnation. A restart under the same name is another executor.
    ExecutorId,
    "an executor id (a UUID)"
);
uuid_id!(
    /// One start of one web server.
    WebId,
    "a web server id (a UUID)"
);

impl TaskId {
    /// The id of the sub-task that `parent` names `key`: the same at each attempt, so that a parent that
    /// runs again finds the sub-tasks it has made, and makes none twice.
    pub fn of_subtask(parent: Self, key: &str) -> Self {
        let hash = Uuid::new_v5(&parent.0, key.as_bytes()).as_u128();
        let time = parent.0.as_u128() >> 80;
        let millis = u64::try_from(time).unwrap_or(u64::MAX);
        let [_, _, _, _, _, _, random @ ..] = hash.to_be_bytes();
        Self(Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl TaskId {
    /// The id of the task that `schedule` submits for `due_at`: the same whoever computes it, so that a firing that is
    /// carried out twice is one task. As old as `due_at`, so that it sorts by that.
    pub fn of_firing(schedule: &ScheduleName, due_at: Timestamp) -> Self {
        let key = format!("longshore:schedule:{schedule}:{}", due_at.as_microsecond());
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, key.as_bytes());
        Self::new(due_at, hash.as_u128())
    }
}

fn uuid_v7(now: Timestamp, random: u128) -> Uuid {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let [_, _, _, _, _, _, random @ ..] = random.to_be_bytes();
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// The secret address of a web server's replies: 128 random bits in hexadecimal.
///
/// Result events for the tasks that a web server submitted carry it as the first word of their routing
/// key; who does not know it cannot bind to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginToken(String);

impl OriginToken {
    /// The token made of `random`.
    pub fn new(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }

    /// The token as text: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OriginToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for OriginToken {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_token = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_token {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(IdError::new(
                "an origin token (32 hexadecimal digits)",
                text,
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let early = TaskId::new(Timestamp::from_second(1_000).unwrap(), u128::MAX);
        let late = TaskId::new(Timestamp::from_second(1_001).unwrap(), 0);
        assert!(early < late);
    }

    #[test]
    fn a_sub_task_has_the_same_id_at_each_attempt_and_the_age_of_its_parent() {
        let parent = TaskId::new(Timestamp::from_second(1_000).unwrap(), 7);
        let other = TaskId::new(Timestamp::from_second(1_000).unwrap(), 8);
        assert_eq!(
            TaskId::of_subtask(parent, "0"),
            TaskId::of_subtask(parent, "0")
        );
        assert_ne!(
            TaskId::of_subtask(parent, "0"),
            TaskId::of_subtask(parent, "1")
        );
        assert_ne!(
            TaskId::of_subtask(parent, "0"),
            TaskId::of_subtask(other, "0")
        );
        let sub_task = TaskId::of_subtask(parent, "0").as_uuid();
        assert_eq!(sub_task.as_u128() >> 80, parent.as_uuid().as_u128() >> 80);
        assert_eq!(sub_task.get_version_num(), 7);
    }

    #[test]
    fn a_firing_has_one_id_for_each_schedule_and_time() {
        let [nightly, hourly] = ["nightly", "hourly"].map(|name| ScheduleName::new(name).unwrap());
        let [early, late] = [1_000, 1_001].map(|time| Timestamp::from_second(time).unwrap());
        let id = TaskId::of_firing(&nightly, early);
        assert_eq!(id, TaskId::of_firing(&nightly, early));
        assert_ne!(id, TaskId::of_firing(&hourly, early));
        assert!(id < TaskId::of_firing(&nightly, late));
        assert_eq!(id.as_uuid().get_version_num(), 7);
    }

    #[test]
    fn an_error_shows_what_was_found_and_what_would_be_right() {
        let error = "7".parse::<TaskId>().unwrap_err();
        assert_eq!(error.to_string(), "not a task id (a UUID): `7`");
        let error = "zz".parse::<OriginToken>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "not an origin token (32 hexadecimal digits): `zz`"
        );
    }
}
