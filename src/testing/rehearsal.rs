//! What a rehearsal is made of.

use std::fmt;
use std::future::{Future, ready};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::crash::{CrashReport, everywhere};
use super::error::RehearsalError;
use super::rehearsed::Rehearsed;
use super::stage::Plan;
use super::world::{Cue, Scripted};
use crate::action::{Action, Context, Registry};
use crate::domain::{
    ActionName, Failure, Options, Payload, RetryPolicy, SignalName, StepName, Submission,
};

/// The name of an action that is a function.
const FUNCTION: &str = "rehearsed";

/// When a rehearsal begins, unless it says otherwise: the first second of 2026, UTC.
const STARTING_AT: i64 = 1_767_225_600;

/// An action, its input, and what happens around it. What is wrong with it is told when it is run.
#[must_use = "a rehearsal does nothing unless it is run"]
pub struct Rehearsal {
    plan: Result<Plan, RehearsalError>,
}

impl Rehearsal {
    /// The action `name` of `registry` with `input`. Its sub-tasks are run by the same registry.
    pub fn new<I: Serialize + ?Sized>(registry: Registry, name: &str, input: &I) -> Self {
        let plan = || {
            let action = ActionName::new(name).map_err(RehearsalError::Name)?;
            let input = payload(input, || "the input".to_owned())?;
            Ok(Plan {
                registry,
                told: Registry::new(),
                submission: Submission::new(action, input),
                script: Vec::new(),
                lasting: Vec::new(),
                starting_at: Timestamp::from_second(STARTING_AT).unwrap_or(Timestamp::UNIX_EPOCH),
            })
        };
        Self { plan: plan() }
    }

    /// `action` alone.
    ///
    /// # Panics
    ///
    /// As [`Registry::with`].
    pub fn of<A: Action, I: Serialize + ?Sized>(action: A, input: &I) -> Self {
        Self::new(Registry::new().with(action), A::NAME, input)
    }

    /// An action that is a function, alone.
    pub fn of_fn<I, O, F, R>(action: F, input: &(impl Serialize + ?Sized)) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize,
        F: Fn(Context, I) -> R + Send + Sync + 'static,
        R: Future<Output = Result<O, Failure>> + Send + 'static,
    {
        let registry = Registry::new().with_fn(FUNCTION, action);
        Self::new(registry, FUNCTION, input)
    }

    fn with(mut self, change: impl FnOnce(&mut Plan) -> Result<(), RehearsalError>) -> Self {
        let changed = self.plan.as_mut().map_or(Ok(()), change);
        if let Err(error) = changed {
            self.plan = Err(error);
        }
        self
    }

    /// Sends the signal `name` before the first attempt. Signals of one name are taken in the order in which they are sent.
    pub fn with_signal(self, name: &str, says: &(impl Serialize + ?Sized)) -> Self {
        self.with_cue(name, says, || Ok(Cue::First))
    }

    /// Sends the signal `name` once the step `step` of the action has ended for the first time.
    pub fn with_signal_after(
        self,
        step: &str,
        name: &str,
        says: &(impl Serialize + ?Sized),
    ) -> Self {
        let step = StepName::stored(step).map_err(RehearsalError::Name);
        self.with_cue(name, says, || step.map(Cue::After))
    }

    /// Sends the signal `name` so long after the start, on the rehearsal's clock.
    pub fn with_signal_at(
        self,
        after: Duration,
        name: &str,
        says: &(impl Serialize + ?Sized),
    ) -> Self {
        self.with_cue(name, says, || Ok(Cue::At(after)))
    }

    fn with_cue(
        self,
        name: &str,
        says: &(impl Serialize + ?Sized),
        cue: impl FnOnce() -> Result<Cue, RehearsalError>,
    ) -> Self {
        self.with(|plan| {
            plan.script.push(Scripted {
                cue: cue()?,
                name: SignalName::new(name).map_err(RehearsalError::Name)?,
                payload: payload(says, || format!("what the signal `{name}` says"))?,
            });
            Ok(())
        })
    }

    /// Says what sub-tasks of the action `name` come to, instead of running them. A failure that may be retried is, as the
    /// sub-task's policy says.
    pub fn with_subtask<I, O, F>(self, name: &str, outcome: F) -> Self
    where
        I: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
        F: Fn(I) -> Result<O, Failure> + Send + Sync + 'static,
    {
        self.with(|plan| {
            let action = ActionName::new(name).map_err(RehearsalError::Name)?;
            if plan.told.has(&action) {
                return Err(RehearsalError::ToldTwice(action));
            }
            let told = std::mem::take(&mut plan.told);
            plan.told = told.with_fn(name, move |_context, input: I| ready(outcome(input)));
            Ok(())
        })
    }

    /// Moves the clock by `duration` when the step `step` of the action has ended for the first time: as if it had taken so
    /// long. Said twice of one step, it takes both.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use longshore::action::Context;
    /// use longshore::testing::Rehearsal;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), longshore::testing::RehearsalError> {
    /// let press = |context: Context, (): ()| async move {
    ///     context.step("print", || async { Ok(()) }).await?;
    ///     context.wait_for_within::<String>("collected", Duration::from_hours(1)).await
    /// };
    /// let rehearsed = Rehearsal::of_fn(press, &())
    ///     .with_step_taking("print", Duration::from_hours(5))
    ///     .run()
    ///     .await?;
    /// assert_eq!(rehearsed.elapsed, Duration::from_hours(6));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_step_taking(self, step: &str, duration: Duration) -> Self {
        let step = StepName::stored(step).map_err(RehearsalError::Name);
        self.with(|plan| {
            plan.lasting.push((step?, duration));
            Ok(())
        })
    }

    /// Begins at another time than the first second of 2026.
    pub fn starting_at(self, time: Timestamp) -> Self {
        self.with(|plan| {
            plan.starting_at = time;
            Ok(())
        })
    }

    /// Tries the task again as `retry` says when an attempt fails. The pauses pass at once.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        self.with(|plan| {
            plan.submission.options.retry = retry;
            Ok(())
        })
    }

    /// Runs the task as `options` say. A `timeout` never comes.
    pub fn with_options(self, options: Options) -> Self {
        self.with(|plan| {
            plan.submission.options = options;
            Ok(())
        })
    }

    /// Runs the action to its end: attempt after attempt, and while it only waits the clock moves to what happens next.
    ///
    /// # Errors
    ///
    /// [`RehearsalError`], when it has no end. A task that failed is no error here: see [`Rehearsed::result`].
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is left of it.
    pub async fn run(self) -> Result<Rehearsed, RehearsalError> {
        Ok(self.plan?.play(None).await?.rehearsed)
    }

    /// Runs the action without a crash, and then from the start once for each side of each write: there its executor dies,
    /// and another goes on with what is stored. Each run must come to the same result, with the same sub-tasks, and must
    /// ask again for all that is stored.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Differs`] for the first crash that made a difference; the others when a run has no end.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is left of it.
    pub async fn crash_everywhere(self) -> Result<CrashReport, RehearsalError> {
        everywhere(&self.plan?, None).await
    }

    /// As [`Rehearsal::crash_everywhere`], for an action whose result is another one each time, because a step takes the
    /// time or a number by chance: `check` is asked after each run, instead of comparing results.
    ///
    /// It may look at more than it is given, such as how often a card was charged, and set that back for the next run.
    ///
    /// # Errors
    ///
    /// As [`Rehearsal::crash_everywhere`]; what `check` says of a run is its difference.
    ///
    /// # Cancel safety
    ///
    /// Dropped, nothing is left of it.
    pub async fn crash_everywhere_and(
        self,
        mut check: impl FnMut(&Rehearsed) -> Result<(), String> + Send,
    ) -> Result<CrashReport, RehearsalError> {
        everywhere(&self.plan?, Some(&mut check)).await
    }
}

fn payload(
    value: &(impl Serialize + ?Sized),
    what: impl FnOnce() -> String,
) -> Result<Payload, RehearsalError> {
    let payload = Payload::of(value);
    payload.map_err(|source| RehearsalError::Payload {
        what: what(),
        source,
    })
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = self.plan.as_ref().map(|plan| &plan.submission.action);
        f.debug_struct("Rehearsal")
            .field("action", &action)
            .finish_non_exhaustive()
    }
}
