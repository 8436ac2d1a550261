//! How far an attempt says that it is.

use jiff::Timestamp;

use super::Attempt;
use super::limits::PROGRESS_MESSAGE_BYTES_MAX;

/// How far an attempt says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Which attempt says so.
    pub attempt: Attempt,
    /// How much is done, in whatever the action counts.
    pub done: u64,
    /// How much there is in all; `None` when the action does not know.
    pub total: Option<u64>,
    /// What it is at, for people: at most [`PROGRESS_MESSAGE_BYTES_MAX`] bytes, without NUL; may be empty.
    pub message: String,
    /// When it said so, by the executor's clock.
    pub at: Timestamp,
}

impl Progress {
    /// What an action says, in bounds: the message is cut at a character, and `done` is kept as it is said.
    pub fn new(
        attempt: Attempt,
        (done, total): (u64, Option<u64>),
        message: &str,
        at: Timestamp,
    ) -> Self {
        let mut message = message.replace('\0', "\u{fffd}");
        let cut = message.floor_char_boundary(PROGRESS_MESSAGE_BYTES_MAX);
        message.truncate(cut);
        // What both stores can hold.
        let bounded = |count: u64| count.min(i64::MAX.unsigned_abs());
        Self {
            attempt,
            done: bounded(done),
            total: total.map(bounded),
            message,
            at,
        }
    }

    /// It in one line for people: `3 of 10, copying`.
    pub fn sentence(&self) -> String {
        let Self {
            done,
            total,
            message,
            ..
        } = self;
        let mut sentence = match total {
            Some(total) => format!("{done} of {total}"),
            None => done.to_string(),
        };
        if !message.is_empty() {
            sentence.push_str(", ");
            sentence.push_str(message);
        }
        sentence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_bounded_and_for_people() {
        let said = |counts, message: &str| {
            Progress::new(Attempt(1), counts, message, Timestamp::UNIX_EPOCH)
        };
        assert_eq!(
            said((3, Some(10)), "copying").sentence(),
            "3 of 10, copying"
        );
        assert_eq!(said((3, None), "").sentence(), "3");
        let long = said((u64::MAX, None), &format!("\0{}", "é".repeat(1000)));
        assert_eq!(long.done, i64::MAX.unsigned_abs());
        assert!(long.message.len() <= PROGRESS_MESSAGE_BYTES_MAX);
        assert!(!long.message.contains('\0'));
    }
}
