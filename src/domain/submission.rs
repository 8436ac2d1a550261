//! What somebody asks for, and the task that comes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::limits::{DURATION_MAX, LABEL_BYTES_MAX, LABELS_MAX};
use super::{
    ActionName, Delivery, FanOutPlace, IdempotencyKey, OnFailure, OriginToken, Payload,
    PayloadError, PayloadLimits, QueueName, RetryPolicy, TaskId,
};

/// Words of a submitter on a task: names with values, at most [`LABELS_MAX`].
pub type Labels = BTreeMap<String, String>;

/// How a task is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// When a failed attempt is followed by another.
    pub retry: RetryPolicy,
    /// The time limit of one attempt.
    pub timeout: Option<Duration>,
    /// What a failure for good leads to.
    pub on_failure: OnFailure,
    /// What a lost executor leads to.
    pub delivery: Delivery,
}

/// A request to run an action.
///
/// ```
/// use longshore::domain::{ActionName, Payload, Submission};
///
/// let echo = ActionName::new("echo")?;
/// let submission = Submission::new(echo, Payload::of(&"hello")?);
/// assert_eq!(submission.queue.as_str(), "default");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The task's identity, when the submitter chose it: sent twice it is one task.
    pub id: Option<TaskId>,
    /// The submitter's own word for this wish: sent twice it is one task, whatever the ids.
    pub idempotency_key: Option<IdempotencyKey>,
    /// What to run.
    pub action: ActionName,
    /// What it is given.
    pub input: Payload,
    /// Where it is announced.
    pub queue: QueueName,
    /// Higher first, among tasks that wait in the store. From -100 to 100.
    pub priority: i16,
    /// Words to find it by.
    pub labels: Labels,
    /// Not before.
    pub run_at: Option<Timestamp>,
    /// Not after: a task that is not finished by then fails.
    pub deadline: Option<Timestamp>,
    /// The task it belongs to.
    pub parent: Option<TaskId>,
    /// Whether it goes on when its parent has ended or is cancelled. Otherwise it is cancelled with it.
    pub outlives_parent: bool,
    /// How it is to be run.
    pub options: Options,
}

/// Why a submission was refused.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// The input.
    #[error("`input` is refused")]
    Input(#[source] PayloadError),
    /// A number out of its bounds.
    #[error("`priority` is {0}, it must be from -100 to 100")]
    Priority(i16),
    /// Too many labels.
    #[error("there are {0} `labels`, more than {LABELS_MAX}")]
    LabelsMany(usize),
    /// A label that is too long, empty, or holds NUL.
    #[error(
        "the label `{0}` or its value is empty, longer than {LABEL_BYTES_MAX} bytes, or holds NUL"
    )]
    Label(String),
    /// A time limit of zero or beyond all bounds.
    #[error("`timeout` must be above 0 and at most ten years")]
    Timeout,
    /// A deadline before the start.
    #[error("`deadline` lies before `run_at`, so the task could never run")]
    DeadlineFirst,
}

/// A task that is about to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Who it is.
    pub id: TaskId,
    /// Who waits for it.
    pub origin: Option<OriginToken>,
    /// All that was asked for.
    pub submission: Submission,
    /// Where it belongs, if its parent spawns it with others.
    pub fan_out: Option<FanOutPlace>,
}

impl Submission {
    /// The plain request: run `action` with `input` now, on the queue `default`.
    pub fn new(action: ActionName, input: Payload) -> Self {
        Self {
            id: None,
            idempotency_key: None,
            action,
            input,
            queue: QueueName::default_queue(),
            priority: 0,
            labels: Labels::new(),
            run_at: None,
            deadline: None,
            parent: None,
            outlives_parent: false,
            options: Options::default(),
        }
    }

    /// The same request for another queue.
    #[must_use]
    pub fn on_queue(self, queue: QueueName) -> Self {
        Self { queue, ..self }
    }

    /// The same request, which is one task however often it is submitted with `key`.
    #[must_use]
    pub fn with_key(self, key: IdempotencyKey) -> Self {
        Self {
            idempotency_key: Some(key),
            ..self
        }
    }

    /// The same request with another retry policy.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.options.retry = retry;
        self
    }

    /// The same request, for a task that goes on when its parent has ended.
    #[must_use]
    pub fn outliving_parent(self) -> Self {
        Self {
            outlives_parent: true,
            ..self
        }
    }

    /// The same request, to be found by the label `name`.
    #[must_use]
    pub fn with_label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Holds it against the bounds that types cannot express.
    ///
    /// # Errors
    ///
    /// [`SubmissionError`] names the field and what would be right.
    pub fn checked(self, limits: PayloadLimits) -> Result<Self, SubmissionError> {
        if !(-100..=100).contains(&self.priority) {
            return Err(SubmissionError::Priority(self.priority));
        }
        if self.labels.len() > LABELS_MAX {
            return Err(SubmissionError::LabelsMany(self.labels.len()));
        }
        let is_word =
            |text: &str| !text.is_empty() && text.len() <= LABEL_BYTES_MAX && !text.contains('\0');
        if let Some((name, _)) = self
            .labels
            .iter()
            .find(|(name, value)| !is_word(name) || !is_word(value))
        {
            return Err(SubmissionError::Label(
                name.replace('\0', "\u{fffd}").chars().take(80).collect(),
            ));
        }
        if self
            .options
            .timeout
            .is_some_and(|timeout| timeout.is_zero() || timeout > DURATION_MAX)
        {
            return Err(SubmissionError::Timeout);
        }
        if let (Some(run_at), Some(deadline)) = (self.run_at, self.deadline)
            && deadline < run_at
        {
            return Err(SubmissionError::DeadlineFirst);
        }
        let input = self.input.within(limits).map_err(SubmissionError::Input)?;
        Ok(Self { input, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission() -> Submission {
        Submission::new(ActionName::new("echo").unwrap(), Payload::null())
    }

    fn refused(submission: Submission) -> String {
        submission
            .checked(PayloadLimits::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_bound_is_said() {
        assert!(
            refused(Submission {
                priority: 101,
                ..submission()
            })
            .contains("from -100 to 100")
        );
        assert!(refused(submission().with_label("a", "")).contains("the label `a`"));
        assert!(refused(submission().with_label("a", "x\0")).contains("NUL"));
        let mut many = submission();
        many.labels = (0..=LABELS_MAX)
            .map(|n| (n.to_string(), "x".to_owned()))
            .collect();
        assert!(refused(many).contains("more than 32"));
        let mut instant = submission();
        instant.options.timeout = Some(Duration::ZERO);
        assert!(refused(instant).contains("`timeout`"));
        let early = Submission {
            run_at: Some(Timestamp::from_second(10).unwrap()),
            deadline: Some(Timestamp::from_second(9).unwrap()),
            ..submission()
        };
        assert!(refused(early).contains("`deadline` lies before `run_at`"));
        let small = PayloadLimits { bytes_max: 3 };
        assert!(matches!(
            submission().checked(small),
            Err(SubmissionError::Input(_))
        ));
    }
}
