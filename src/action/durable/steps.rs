//! Steps of the action's own code.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::journal::{Found, Outside};
use super::operation::{Asked, Operation};
use crate::action::Context;
use crate::domain::{
    Failure, Payload, PayloadLimits, RetryPolicy, StepKind, StepName, StepOutcome, Verdict,
};

impl Context {
    /// What the output of a step may be at most, and so what the task's may.
    pub(crate) fn payload_limits(&self) -> PayloadLimits {
        self.journal().host().payload_limits()
    }

    /// Runs `run` once and stores what it came to; a later attempt is told that instead.
    ///
    /// Shape: `name` has letters, digits and `_-./#[]=@`, at most 100, and is used once in a run; in a loop make it of
    /// what the turn is about: `format!("ship-{order}")`. The output is stored as JSON, at most as large as a payload.
    ///
    /// Afterwards no crash makes `run` run again. Before that it may run more than once: a crash may come between its effect
    /// and its being stored, so make effects outside idempotent by the task's id and the step's name.
    ///
    /// ```
    /// use longshore::action::Registry;
    ///
    /// let registry = Registry::new().with_fn("order.ship", |context, order: String| async move {
    ///     let paid = context.step("charge", || async { Ok(format!("paid {order}")) }).await?;
    ///     context.step("ship", || async { Ok(format!("{paid}, shipped {order}")) }).await
    /// });
    /// # assert_eq!(registry.names().count(), 1);
    /// ```
    ///
    /// # Errors
    ///
    /// The failure of `run`: it is stored too, and names the step, so that the next attempt of the task runs it again.
    /// A fatal failure when the name is used twice, or is stored as something else because the code has changed.
    ///
    /// # Cancel safety
    ///
    /// A dropped step may have run; it is not stored, and runs again in the next attempt if the action asks for it.
    pub fn step<'a, T, F, R>(&self, name: &str, run: F) -> Operation<'a, T>
    where
        T: Serialize + DeserializeOwned + Send + 'a,
        F: FnOnce() -> R + Send + 'a,
        R: Future<Output = Result<T, Failure>> + Send + 'a,
    {
        let mut run = Some(run);
        let once = move || run.take().map(|run| run());
        self.step_of(name, RetryPolicy::default(), once)
    }

    /// As [`Context::step`]; when `run` fails and may be retried it is tried again as `retry` says. Between two tries the
    /// task waits without a slot, if nothing else keeps it busy.
    ///
    /// # Errors
    ///
    /// As [`Context::step`], once `retry` allows no further try.
    ///
    /// # Cancel safety
    ///
    /// As [`Context::step`].
    pub fn step_with_retry<'a, T, F, R>(
        &self,
        name: &str,
        retry: RetryPolicy,
        mut run: F,
    ) -> Operation<'a, T>
    where
        T: Serialize + DeserializeOwned + Send + 'a,
        F: FnMut() -> R + Send + 'a,
        R: Future<Output = Result<T, Failure>> + Send + 'a,
    {
        self.step_of(name, retry, move || Some(run()))
    }

    fn step_of<'a, T, F, R>(&self, name: &str, retry: RetryPolicy, run: F) -> Operation<'a, T>
    where
        T: Serialize + DeserializeOwned + Send + 'a,
        F: FnMut() -> Option<R> + Send + 'a,
        R: Future<Output = Result<T, Failure>> + Send + 'a,
    {
        let name = StepName::new(name).map_err(Failure::fatal);
        Operation::of(self.journal(), name, StepKind::Step, move |asked| {
            run_step(asked, retry, run)
        })
    }
}

async fn run_step<T, F, R>(asked: Asked, retry: RetryPolicy, mut run: F) -> Result<T, Failure>
where
    T: Serialize + DeserializeOwned + Send,
    F: FnMut() -> Option<R> + Send,
    R: Future<Output = Result<T, Failure>> + Send,
{
    let mut tries = match asked.find().await? {
        Found::Ended(outcome) => return told(&asked, outcome),
        Found::Begun { tries, due_at } => {
            wait(&asked, due_at).await;
            tries
        }
        Found::New => 0,
    };
    loop {
        let journal = asked.journal();
        journal.asking(journal.host().may_go_on()).await;
        journal.host().begin_step(asked.name());
        let Some(running) = run() else {
            // Only a step without a policy of its own has but one try, and ends after it.
            return Err(asked.failed(Failure::fatal("the step has run")));
        };
        let failure = match running.await {
            Ok(output) => {
                let limits = asked.journal().host().payload_limits();
                let payload = Payload::of(&output).and_then(|output| output.within(limits));
                let payload = payload.map_err(|error| {
                    asked.failed(Failure::fatal(format_args!(
                        "the output of the step `{}` cannot be stored: {error}",
                        asked.name()
                    )))
                })?;
                asked.end(StepOutcome::Done(payload)).await;
                return Ok(output);
            }
            Err(failure) => failure,
        };
        tries += 1;
        match failure.verdict {
            Verdict::Retry { after } if retry.allows_another(tries) => {
                let host = asked.journal().host();
                let pause = after.unwrap_or_else(|| retry.pause(tries, host.chance()));
                let due_at = host
                    .now()
                    .saturating_add(pause)
                    .unwrap_or(jiff::Timestamp::MAX);
                asked.wait_until(tries, due_at).await;
                wait(&asked, due_at).await;
            }
            Verdict::Retry { .. } | Verdict::Fatal => {
                let failure = asked.failed(failure);
                asked.end(StepOutcome::Failed(failure.clone())).await;
                return Err(failure);
            }
        }
    }
}

/// Waits until a time of the store's clock.
pub(super) async fn wait(asked: &Asked, until: jiff::Timestamp) {
    let journal = asked.journal();
    while journal.host().now() < until {
        let outside = Outside {
            until: Some(until),
            ..Outside::default()
        };
        journal.outside(outside, journal.nudges()).await;
    }
}

fn told<T: DeserializeOwned>(asked: &Asked, outcome: StepOutcome) -> Result<T, Failure> {
    match outcome {
        StepOutcome::Done(payload) => asked.decode(&payload, "the stored output"),
        StepOutcome::Skipped(payload) => asked.decode(
            &payload,
            "what an operator gave instead of the output (null unless `--returns` says otherwise)",
        ),
        StepOutcome::Failed(failure) => Err(asked.failed(failure)),
        StepOutcome::Expired => Err(asked.failed(Failure::fatal("the step has expired"))),
    }
}
