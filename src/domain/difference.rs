//! What a submission asks for otherwise than the task that has its idempotency key.

use std::fmt;

use jiff::Timestamp;

use super::{Labels, RetryPolicy, Submission, Task};

/// Characters of a value that are shown; the rest is known to whoever sent it.
const SHOWN_MAX: usize = 200;

/// One field that a submission has otherwise than the stored task. Values are texts for people, absent where nothing
/// is said, and cut when they are long.
#[derive(Clone, PartialEq, Eq)]
pub struct Difference {
    /// The field, as on the wire.
    pub field: &'static str,
    /// What the stored task has.
    pub stored: Option<String>,
    /// What is asked for now.
    pub asked: Option<String>,
}

impl Difference {
    /// The fields that differ, for a sentence: without their values, which may be secrets.
    pub fn fields(differences: &[Self]) -> String {
        let fields: Vec<String> = differences
            .iter()
            .map(|difference| format!("`{}`", difference.field))
            .collect();
        fields.join(", ")
    }
}

impl fmt::Debug for Difference {
    /// Only the field: an input may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Difference(`{}`)", self.field)
    }
}

impl fmt::Display for Difference {
    /// For whoever asked: `priority: stored 0, asked 5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: &Option<String>| match value {
            Some(value) => format!("`{value}`"),
            None => "nothing".to_owned(),
        };
        let (stored, asked) = (value(&self.stored), value(&self.asked));
        write!(f, "`{}`: stored {stored}, asked {asked}", self.field)
    }
}

/// What `submission` asks for otherwise than `stored`, in the order of the fields; empty when both say the same.
///
/// The id says nothing: a submission that is repeated may bring a new one. The stored deadline may be the parent's
/// earlier one. Once an attempt failed, `run_at` is the time of the next one, and is compared no more.
pub fn differences(submission: &Submission, stored: &Task) -> Vec<Difference> {
    let options = |of: &super::Options| {
        [
            ("retry", Some(retry_text(of.retry))),
            ("timeout", of.timeout.map(|limit| format!("{limit:?}"))),
            ("on_failure", Some(of.on_failure.to_string())),
            ("delivery", Some(of.delivery.to_string())),
        ]
    };
    let key = |key: Option<&super::IdempotencyKey>| key.map(ToString::to_string);
    let time = |time: Option<Timestamp>| time.map(|time| micros(time).to_string());
    let mut pairs = vec![
        (
            "idempotency_key",
            key(stored.idempotency_key.as_ref()),
            key(submission.idempotency_key.as_ref()),
        ),
        both("action", &stored.action, &submission.action),
        both("queue", &stored.queue, &submission.queue),
        both("priority", stored.priority, submission.priority),
        (
            "labels",
            labels_text(&stored.labels),
            labels_text(&submission.labels),
        ),
        (
            "parent",
            stored.parent.map(|id| id.to_string()),
            submission.parent.map(|id| id.to_string()),
        ),
    ];
    if stored.failures == 0 {
        pairs.push(("run_at", time(stored.run_at), time(submission.run_at)));
    }
    if !is_deadline_of(submission, stored) {
        pairs.push(("deadline", time(stored.deadline), time(submission.deadline)));
    }
    pairs.extend(
        options(&stored.options)
            .into_iter()
            .zip(options(&submission.options))
            .map(|((field, stored), (_, asked))| (field, stored, asked)),
    );
    pairs.retain(|(_, stored, asked)| stored != asked);
    if !stored.input.is_same_value(&submission.input) {
        pairs.push((
            "input",
            Some(stored.input.as_str().to_owned()),
            Some(submission.input.as_str().to_owned()),
        ));
    }
    pairs
        .into_iter()
        .map(|(field, stored, asked)| {
            let (stored_shown, asked_shown) = cut(
                stored.as_deref().unwrap_or_default(),
                asked.as_deref().unwrap_or_default(),
            );
            Difference {
                field,
                stored: stored.map(|_| stored_shown),
                asked: asked.map(|_| asked_shown),
            }
        })
        .collect()
}

type Pair = (&'static str, Option<String>, Option<String>);

fn both<T: fmt::Display>(field: &'static str, stored: T, asked: T) -> Pair {
    (field, Some(stored.to_string()), Some(asked.to_string()))
}

/// Whether the stored deadline is what becomes of the one that is asked for.
fn is_deadline_of(submission: &Submission, stored: &Task) -> bool {
    let asked = submission.deadline.map(micros);
    match (stored.deadline, asked) {
        (Some(stored), asked) if submission.parent.is_some() => {
            asked.is_none_or(|asked| stored <= asked)
        }
        (stored, asked) => stored == asked,
    }
}

/// The time as stores keep it: to the microsecond.
fn micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn retry_text(retry: RetryPolicy) -> String {
    let (delay, delay_max) = (retry.delay(), retry.delay_max());
    format!(
        "{} attempts, delay {delay:?}, at most {delay_max:?}",
        retry.attempts_max()
    )
}

fn labels_text(labels: &Labels) -> Option<String> {
    (!labels.is_empty()).then(|| format!("{labels:?}"))
}

/// Both texts, cut to where they differ when they are long.
fn cut(stored: &str, asked: &str) -> (String, String) {
    let same = stored.chars().zip(asked.chars());
    let same = same.take_while(|(stored, asked)| stored == asked).count();
    let window = |text: &str| {
        let is_short = text.chars().count() <= SHOWN_MAX;
        let from = if is_short {
            0
        } else {
            same.saturating_sub(SHOWN_MAX / 2)
        };
        let begin = if from == 0 { "" } else { "…" };
        let mut rest = text.chars().skip(from);
        let shown: String = rest.by_ref().take(SHOWN_MAX).collect();
        let end = if rest.next().is_some() { "…" } else { "" };
        format!("{begin}{shown}{end}")
    };
    (window(stored), window(asked))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{
        ActionName, Delivery, IdempotencyKey, OnFailure, Payload, QueueName, TaskId,
    };

    fn payload(text: &str) -> Payload {
        Payload::parse(text, crate::domain::PayloadLimits::default()).unwrap()
    }

    fn submission() -> Submission {
        Submission::new(ActionName::new("ship").unwrap(), payload(r#"{"order":7}"#))
            .with_key(IdempotencyKey::new("order-7").unwrap())
    }

    fn said(submission: &Submission, stored: &Task) -> Vec<String> {
        let differences = differences(submission, stored);
        differences.iter().map(ToString::to_string).collect()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_same_wish_has_no_difference_however_it_is_written() {
        let stored = Task::stored(&Submission {
            run_at: Some(Timestamp::from_nanosecond(1_000_001_999).unwrap()),
            ..submission()
        });
        let again = Submission {
            id: Some(TaskId::new(Timestamp::UNIX_EPOCH, 9)),
            input: payload(r#"{ "order": 7.0 }"#),
            run_at: Some(Timestamp::from_nanosecond(1_000_001_000).unwrap()),
            ..submission()
        };
        assert_eq!(said(&again, &stored), [""; 0]);
    }

    #[test]
    fn each_field_that_differs_is_told() {
        let mut other = Submission {
            action: ActionName::new("pack").unwrap(),
            input: payload(r#"{"order":8}"#),
            queue: QueueName::new("bulk").unwrap(),
            priority: 5,
            run_at: Some(at(1)),
            deadline: Some(at(2)),
            parent: Some(TaskId::new(Timestamp::UNIX_EPOCH, 1)),
            ..submission().with_label("team", "red")
        };
        other.options.timeout = Some(Duration::from_millis(1500));
        other.options.on_failure = OnFailure::Pause;
        other.options.delivery = Delivery::Once;
        other.options.retry = RetryPolicy::new(3, Duration::ZERO, Duration::from_secs(9)).unwrap();
        insta::assert_snapshot!(said(&other, &Task::stored(&submission())).join("\n"), @r#"
        `action`: stored `ship`, asked `pack`
        `queue`: stored `default`, asked `bulk`
        `priority`: stored `0`, asked `5`
        `labels`: stored nothing, asked `{"team": "red"}`
        `parent`: stored nothing, asked `00000000-0000-7000-8000-000000000001`
        `run_at`: stored nothing, asked `1970-01-01T00:00:01Z`
        `deadline`: stored nothing, asked `1970-01-01T00:00:02Z`
        `retry`: stored `1 attempts, delay 1s, at most 600s`, asked `3 attempts, delay 0ns, at most 9s`
        `timeout`: stored nothing, asked `1.5s`
        `on_failure`: stored `fail`, asked `pause`
        `delivery`: stored `rerun`, asked `once`
        `input`: stored `{"order":7}`, asked `{"order":8}`
        "#);
    }

    #[test]
    fn another_key_is_a_difference() {
        let mut stored = Task::stored(&submission());
        stored.idempotency_key = None;
        assert_eq!(
            said(&submission(), &stored),
            ["`idempotency_key`: stored nothing, asked `order-7`"]
        );
    }

    #[test]
    fn a_sub_task_may_have_the_earlier_deadline_of_its_parent() {
        let wish = |deadline| Submission {
            deadline,
            parent: Some(TaskId::new(Timestamp::UNIX_EPOCH, 1)),
            ..submission()
        };
        let stored = |deadline| Task::stored(&wish(deadline));
        assert_eq!(said(&wish(None), &stored(Some(at(5)))), [""; 0]);
        assert_eq!(said(&wish(Some(at(9))), &stored(Some(at(5)))), [""; 0]);
        assert_eq!(said(&wish(Some(at(4))), &stored(Some(at(5)))).len(), 1);
        assert_eq!(said(&wish(Some(at(4))), &stored(None)).len(), 1);
        let alone = Task::stored(&Submission {
            deadline: Some(at(5)),
            ..submission()
        });
        assert_eq!(said(&submission(), &alone).len(), 1);
    }

    #[test]
    fn the_time_of_another_attempt_is_no_difference() {
        let mut stored = Task::stored(&submission());
        (stored.failures, stored.run_at) = (1, Some(at(60)));
        assert_eq!(said(&submission(), &stored), [""; 0]);
    }

    #[test]
    fn long_values_are_shown_where_they_differ_and_never_in_a_log() {
        let long = |last: char| payload(&format!("\"{}{last}\"", "x".repeat(500)));
        let (stored, asked) = (long('a'), long('b'));
        let stored = Task::stored(&Submission {
            input: stored,
            ..submission()
        });
        let differences = differences(
            &Submission {
                input: asked,
                ..submission()
            },
            &stored,
        );
        let shown = format!("…{}b\"", "x".repeat(100));
        assert_eq!(differences[0].asked.as_deref(), Some(shown.as_str()));
        assert_eq!(format!("{differences:?}"), "[Difference(`input`)]");
    }
}
