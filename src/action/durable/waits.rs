//! Sleeps and signals.

use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::journal::{Found, Outside};
use super::operation::{Asked, Operation};
use super::steps::wait;
use crate::action::Context;
use crate::domain::{Failure, Payload, SignalName, StepKind, StepName, StepOutcome};

impl Context {
    /// Sleeps for `duration`, also across restarts: the time counts from the first attempt that asked. Meanwhile the task
    /// holds no slot, if nothing else keeps it busy.
    ///
    /// It is named by its number (`sleep:1`), so the sleeps of a run keep their order.
    ///
    /// # Errors
    ///
    /// A fatal failure when what is stored under its name is something else: the code has changed.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the time goes on.
    pub fn sleep<'a>(&self, duration: Duration) -> Operation<'a, ()> {
        let name = self.journal().numbered("sleep");
        self.sleep_of(name, move |now| {
            now.saturating_add(duration).unwrap_or(Timestamp::MAX)
        })
    }

    /// As [`Context::sleep`], until a time of the store's clock; returns at once when that has passed.
    ///
    /// # Errors
    ///
    /// As [`Context::sleep`].
    ///
    /// # Cancel safety
    ///
    /// As [`Context::sleep`].
    pub fn sleep_until<'a>(&self, until: Timestamp) -> Operation<'a, ()> {
        let name = self.journal().numbered("sleep");
        self.sleep_of(name, move |_now| until)
    }

    fn sleep_of<'a>(
        &self,
        name: StepName,
        until: impl FnOnce(Timestamp) -> Timestamp + Send + 'a,
    ) -> Operation<'a, ()> {
        Operation::of(
            self.journal(),
            Ok(name),
            StepKind::Sleep,
            move |asked| async move {
                let due_at = match asked.find().await? {
                    Found::Ended(_) => return Ok(()),
                    Found::Begun { due_at, .. } => due_at,
                    Found::New => {
                        let due_at = until(asked.journal().host().now());
                        asked.wait_until(0, due_at).await;
                        due_at
                    }
                };
                wait(&asked, due_at).await;
                asked.end(StepOutcome::Done(Payload::null())).await;
                Ok(())
            },
        )
    }

    /// Waits for the next signal `name` to this task, and takes it. One that came before is kept until somebody waits;
    /// signals of one name are taken in the order in which they came. Meanwhile the task holds no slot, if nothing else
    /// keeps it busy.
    ///
    /// One whose payload is not a `T` is passed over, and the task's log says so: whoever sends it cannot stop the task.
    ///
    /// # Errors
    ///
    /// A fatal failure when `name` is not a name, or something else is stored under the name of this wait.
    ///
    /// # Cancel safety
    ///
    /// Dropped, no signal is taken; one that was being taken in this moment counts as taken.
    pub fn wait_for<'a, T: DeserializeOwned + Send + 'a>(&self, name: &str) -> Operation<'a, T> {
        self.signal_of(name, None, |asked, payload| match payload {
            Some(payload) => asked.decode(&payload, "the payload"),
            None => Err(asked.failed(Failure::fatal("the wait has expired"))),
        })
    }

    /// As [`Context::wait_for`], for `limit` at most, counted from the first attempt that asked: then it is `None`.
    ///
    /// # Errors
    ///
    /// As [`Context::wait_for`].
    ///
    /// # Cancel safety
    ///
    /// As [`Context::wait_for`].
    pub fn wait_for_within<'a, T: DeserializeOwned + Send + 'a>(
        &self,
        name: &str,
        limit: Duration,
    ) -> Operation<'a, Option<T>> {
        self.signal_of(name, Some(limit), |asked, payload| {
            payload
                .map(|payload| asked.decode(&payload, "the payload"))
                .transpose()
        })
    }

    fn signal_of<'a, T: Send + 'a>(
        &self,
        name: &str,
        limit: Option<Duration>,
        decode: impl Fn(&Asked, Option<Payload>) -> Result<T, Failure> + Send + 'a,
    ) -> Operation<'a, T> {
        let context = self.clone();
        let signal = SignalName::new(name).map_err(Failure::fatal);
        let step = signal
            .as_ref()
            .map(|signal| self.journal().numbered(&format!("signal:{signal}")))
            .map_err(Failure::clone);
        Operation::of(
            self.journal(),
            step,
            StepKind::Signal,
            move |asked| async move {
                let (signal, mut asked) = (signal?, asked);
                let (mut until, mut passed) = (None, 0);
                loop {
                    let heard = wait_for(&asked, &signal, (limit, until)).await?;
                    let is_expired = heard.payload.is_none();
                    match decode(&asked, heard.payload) {
                        Err(failure) if !is_expired => {
                            if heard.is_news {
                                let line =
                                    format!("-- a signal is passed over: {} --", failure.message);
                                context.log(line).await;
                            }
                            passed += 1;
                            asked = asked.again(passed)?;
                            until = heard.until;
                        }
                        decoded => return decoded,
                    }
                }
            },
        )
    }
}

/// What a wait for a signal has heard.
struct Heard {
    /// The payload of the signal; `None` when the time was over.
    payload: Option<Payload>,
    /// Until when was waited for it, as far as is known.
    until: Option<Timestamp>,
    /// Whether this attempt has heard it first.
    is_news: bool,
}

/// Waits for the next signal. The time is `until`, if the wait has begun with another signal, and else so long from now.
async fn wait_for(
    asked: &Asked,
    signal: &SignalName,
    (limit, until): (Option<Duration>, Option<Timestamp>),
) -> Result<Heard, Failure> {
    let heard = |payload, until, is_news| Heard {
        payload,
        until,
        is_news,
    };
    let journal = asked.journal();
    let until = match asked.find().await? {
        Found::Ended(StepOutcome::Done(payload) | StepOutcome::Skipped(payload)) => {
            return Ok(heard(Some(payload), until, false));
        }
        Found::Ended(StepOutcome::Expired) => return Ok(heard(None, until, false)),
        Found::Ended(StepOutcome::Failed(failure)) => return Err(asked.failed(failure)),
        Found::Begun { due_at, .. } => Some(due_at),
        Found::New => {
            let now = journal.host().now();
            let due_at = until
                .or_else(|| limit.map(|limit| now.saturating_add(limit).unwrap_or(Timestamp::MAX)));
            if let Some(due_at) = due_at {
                asked.wait_until(0, due_at).await;
            }
            due_at
        }
    };
    loop {
        let seen = journal.nudges();
        // The place first: whatever ends while the store is asked ends after it.
        let place = journal.reserve(asked.name());
        let taking = journal.host().take_signal(signal, asked.name(), place);
        let taken = journal.asking(taking).await;
        if let Some(payload) = taken {
            journal.turn(place).await;
            return Ok(heard(Some(payload), until, true));
        }
        journal.give_back(place);
        if until.is_some_and(|until| until <= journal.host().now()) {
            asked.end(StepOutcome::Expired).await;
            return Ok(heard(None, until, true));
        }
        let outside = Outside {
            until,
            signal: Some(signal.clone()),
            fan_out: None,
        };
        journal.outside(outside, seen).await;
    }
}
