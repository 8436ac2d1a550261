//! One step of an attempt: told from the journal, or done and stored.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::journal::{Found, Journal};
use crate::domain::{Failure, Payload, Step, StepKind, StepName, StepOutcome, StepProgress};

/// A step under way. Whoever drops it lets go of its outcome.
#[must_use = "a step does nothing unless it is awaited"]
pub struct Operation<'a, T> {
    future: Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>,
}

impl<'a, T> Operation<'a, T> {
    /// The operation of the step `name`, done by `run` once it is begun. Entered at once, not when it is first polled, so
    /// that one that is dropped before that holds up no other.
    pub(super) fn of<F, R>(
        journal: &Arc<Journal>,
        name: Result<StepName, Failure>,
        kind: StepKind,
        run: F,
    ) -> Self
    where
        F: FnOnce(Asked) -> R + Send + 'a,
        R: Future<Output = Result<T, Failure>> + Send + 'a,
        T: 'a,
    {
        let asked = name.and_then(|name| {
            journal.ask(&name)?;
            Ok(Asked {
                journal: Arc::clone(journal),
                name,
                kind,
            })
        });
        Self {
            future: Box::pin(async move { run(asked?).await }),
        }
    }
}

impl<T> Future for Operation<'_, T> {
    type Output = Result<T, Failure>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().future.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Operation<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation").finish_non_exhaustive()
    }
}

/// A step that the action has asked for.
pub(super) struct Asked {
    journal: Arc<Journal>,
    name: StepName,
    kind: StepKind,
}

impl Asked {
    pub(super) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    pub(super) fn name(&self) -> &StepName {
        &self.name
    }

    /// The same wait once more, after so many outcomes that were passed over.
    pub(super) fn again(&self, passed: u32) -> Result<Self, Failure> {
        let name = self.name.again(passed);
        self.journal.ask(&name)?;
        Ok(Self {
            journal: Arc::clone(&self.journal),
            name,
            kind: self.kind,
        })
    }

    /// What is stored of it; returns when it may be told, or done.
    pub(super) async fn find(&self) -> Result<Found, Failure> {
        self.journal.find(&self.name, self.kind).await
    }

    /// Stores until when it waits.
    pub(super) async fn wait_until(&self, tries: u32, due_at: jiff::Timestamp) {
        self.record(StepProgress::Waiting { tries, due_at }).await;
    }

    /// Stores how it ended, and returns when it is its turn to be told.
    pub(super) async fn end(&self, outcome: StepOutcome) {
        let place = self.journal.reserve(&self.name);
        self.record(StepProgress::Ended { place, outcome }).await;
        self.journal.turn(place).await;
    }

    async fn record(&self, progress: StepProgress) {
        let step = Step {
            name: self.name.clone(),
            kind: self.kind,
            progress,
        };
        let journal = &self.journal;
        journal.asking(journal.host().record(step)).await;
    }

    /// The failure that the action gets when the step has failed.
    pub(super) fn failed(&self, failure: Failure) -> Failure {
        failure.of_step(self.name.clone())
    }

    /// The value of type `T` that a stored `payload` holds.
    pub(super) fn decode<T: serde::de::DeserializeOwned>(
        &self,
        payload: &Payload,
        what: &str,
    ) -> Result<T, Failure> {
        payload.decode().map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." {
                String::new()
            } else {
                format!(", at `{path}`")
            };
            self.failed(Failure::fatal(format_args!(
                "{what} of the step `{}` is not what the action expects: {}{place}",
                self.name,
                error.inner()
            )))
        })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.journal.let_go(&self.name);
    }
}
