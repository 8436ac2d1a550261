//! Messages that the broker gave up on.

use super::{TaskId, note};

/// A message about a task that the broker gave up on. Nothing depends on it: the task is found in the store. But somebody
/// should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The task.
    pub task: TaskId,
    /// The routing key of the message.
    pub key: String,
    /// Where the message lies.
    pub grave: Grave,
}

/// The queue in which a message lies that the broker gave up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grave {
    /// It was refused, or came back more often than the broker allows.
    Dead,
    /// It was for a queue that the broker does not have.
    Unrouted,
}

impl DeadLetter {
    /// What became of the message, for the task's history.
    ///
    /// ```
    /// use longshore::domain::{DeadLetter, Grave, TaskId};
    ///
    /// let letter = DeadLetter {
    ///     task: TaskId::new(jiff::Timestamp::UNIX_EPOCH, 7),
    ///     key: "created.bulk.images.resize".to_owned(),
    ///     grave: Grave::Unrouted,
    /// };
    /// assert!(letter.note().contains("went to `longshore.unrouted`"));
    /// ```
    pub fn note(&self) -> String {
        let key = self.key.escape_debug(); // It may be a stranger's.
        note(&match self.grave {
            Grave::Dead => format!(
                "the message `{key}` went to `longshore.dead`: an executor refused it, or it came back too often"
            ),
            Grave::Unrouted => format!(
                "the message `{key}` went to `longshore.unrouted`: the broker had no such work queue"
            ),
        })
    }
}
