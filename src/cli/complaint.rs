//! What the command line says when it cannot do what was asked.

use std::error::Error;

use super::ExitStatus;
use crate::broker::BrokerError;
use crate::client::{ClientError, CreateScheduleError, ScheduleClientError, SubmitError};
use crate::config::ConfigError;
use crate::domain::{IdError, NameError};
use crate::runtime::RuntimeError;
use crate::store::StoreError;
use crate::wire::WireError;

/// What is wrong, why, and what to do about it.
#[derive(Debug)]
pub(super) struct Complaint {
    status: ExitStatus,
    sentence: String,
    causes: Vec<String>,
    hint: Option<String>,
    is_reader_gone: bool,
}

impl Complaint {
    /// What was asked for failed.
    pub(super) fn failed(sentence: impl Into<String>) -> Self {
        Self {
            status: ExitStatus::Failed,
            sentence: sentence.into(),
            causes: Vec::new(),
            hint: None,
            is_reader_gone: false,
        }
    }

    /// The command itself is wrong.
    pub(super) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            status: ExitStatus::Usage,
            ..Self::failed(sentence)
        }
    }

    /// The same with what to do about it.
    pub(super) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// The same with what is behind it.
    pub(super) fn with_causes(self, causes: Vec<String>) -> Self {
        Self { causes, ..self }
    }

    /// Whether whoever read our words went away (`| head`): nothing is wrong, and nobody is left to tell.
    pub(super) const fn is_reader_gone(&self) -> bool {
        self.is_reader_gone
    }

    pub(super) const fn status(&self) -> ExitStatus {
        self.status
    }

    /// The lines for people: the error, its causes, and the hint apart from both.
    pub(super) fn lines(&self) -> Vec<String> {
        let causes = self.causes.iter().map(|cause| format!("  cause: {cause}"));
        let hint = self.hint.iter().map(|hint| format!("\nhint: {hint}"));
        std::iter::once(format!("error: {}", self.sentence))
            .chain(causes)
            .chain(hint)
            .collect()
    }

    fn of(error: &dyn Error, status: ExitStatus, hint: Option<String>) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self {
            status,
            sentence: error.to_string(),
            causes,
            hint,
            is_reader_gone: false,
        }
    }
}

impl From<RuntimeError> for Complaint {
    fn from(error: RuntimeError) -> Self {
        Self::of(&error, ExitStatus::Failed, error.hint())
    }
}

impl From<StoreError> for Complaint {
    fn from(error: StoreError) -> Self {
        RuntimeError::from(error).into()
    }
}

impl From<BrokerError> for Complaint {
    fn from(error: BrokerError) -> Self {
        RuntimeError::from(error).into()
    }
}

impl From<ConfigError> for Complaint {
    fn from(error: ConfigError) -> Self {
        // Only what is absent: with a setting that is wrong, `config show` would say this error again.
        let hint = matches!(error, ConfigError::Missing { .. }).then(|| {
            "`longshore config show` tells each setting and where it came from".to_owned()
        });
        Self::of(&error, ExitStatus::Usage, hint)
    }
}

impl From<ClientError> for Complaint {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Store(error) => error.into(),
            ClientError::Unknown(_) => Self::of(&error, ExitStatus::Failed, None),
            ClientError::Payload(_) => Self::of(&error, ExitStatus::Usage, None),
        }
    }
}

impl From<ScheduleClientError> for Complaint {
    fn from(error: ScheduleClientError) -> Self {
        match error {
            ScheduleClientError::Store(error) => error.into(),
            ScheduleClientError::Unknown(_) => Self::of(&error, ExitStatus::Failed, None)
                .with_hint("`longshore schedule list` tells those that there are"),
        }
    }
}

impl From<CreateScheduleError> for Complaint {
    fn from(error: CreateScheduleError) -> Self {
        let hint = error.hint();
        match error {
            CreateScheduleError::Task(error) => error.into(),
            CreateScheduleError::Store(error) => error.into(),
            error @ (CreateScheduleError::Spec(_) | CreateScheduleError::Refused { .. }) => {
                Self::of(&error, ExitStatus::Failed, hint)
            }
        }
    }
}

impl From<SubmitError> for Complaint {
    fn from(error: SubmitError) -> Self {
        let hint = error.hint();
        match error {
            SubmitError::Store(error) => error.into(),
            SubmitError::KeyTaken {
                ref differences, ..
            } => {
                let causes = differences.iter().map(ToString::to_string).collect();
                Self {
                    causes,
                    ..Self::of(&error, ExitStatus::Failed, hint)
                }
            }
            error @ (SubmitError::Submission(_)
            | SubmitError::UnknownAction { .. }
            | SubmitError::Refused { .. }
            | SubmitError::Vanished(_)) => Self::of(&error, ExitStatus::Failed, hint),
        }
    }
}

macro_rules! usage_error {
    ($($error:ty),+) => {
        $(impl From<$error> for Complaint {
            fn from(error: $error) -> Self {
                Self::of(&error, ExitStatus::Usage, None)
            }
        })+
    };
}

usage_error!(IdError, NameError, WireError);

impl From<std::io::Error> for Complaint {
    fn from(error: std::io::Error) -> Self {
        let is_reader_gone = error.kind() == std::io::ErrorKind::BrokenPipe;
        let status = if is_reader_gone {
            ExitStatus::Done
        } else {
            ExitStatus::Failed
        };
        Self {
            is_reader_gone,
            ..Self::of(&error, status, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_its_causes_and_the_hint_stand_apart() {
        let cause = std::io::Error::other("no route to host");
        let mut complaint = Complaint::from(cause).with_hint("type it again");
        complaint.causes.push("a cable".to_owned());
        assert_eq!(
            complaint.lines(),
            [
                "error: no route to host",
                "  cause: a cable",
                "\nhint: type it again"
            ]
        );
    }
}
