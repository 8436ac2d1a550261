//! The end of an executor: it takes nothing new, waits for what runs, and gives back what does not end.

use std::time::Duration;

use super::{Executor, STOP_GRACE};
use crate::action::Stop;
use crate::wire::EventKind;

/// How often people hear what a drain waits for.
const SAY_INTERVAL: Duration = Duration::from_secs(5);

/// How long the farewell to the store may take; its lease ends by itself otherwise.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);

/// Task ids in one line for people.
const NAMED_MAX: usize = 5;

/// How an executor ended.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Attempts that were given back unfinished.
    pub given_back: usize,
}

impl Executor {
    /// Resolves when an operator has asked this executor to drain; whoever owns it then calls [`Executor::drain`].
    ///
    /// # Cancel safety
    ///
    /// Safe: what was asked stays asked.
    pub async fn drain_asked(&self) {
        self.shared.drain_asked.cancelled().await;
    }

    /// Takes no new task, waits at most `limit` for those that run, and gives back the others to be run
    /// elsewhere. It says every few seconds what it waits for.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, it takes nothing new and what runs goes on; call it again with a shorter limit.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.shared.intake.stop();
        let waits = async {
            loop {
                self.shared.clock.sleep(SAY_INTERVAL).await;
                self.say_what_runs();
            }
        };
        tokio::select! {
            biased;
            // What is being taken in first: it may still begin something.
            () = async { self.shared.intake.ended().await; self.shared.attempts.ended().await } => {}
            () = waits => {}
            () = self.shared.clock.sleep(limit) => {}
        }
        let given_back = self.shared.running.len();
        if given_back > 0 {
            tracing::warn!(
                tasks = given_back,
                "Giving back what did not end in time: {given_back}"
            );
        }
        self.shared.running.stop_all(&Stop::Released);
        self.shared.attempts.stop();
        let grace = if limit.is_zero() {
            Duration::ZERO
        } else {
            STOP_GRACE * 2
        };
        tokio::select! {
            biased;
            () = self.shared.attempts.ended() => {}
            () = self.shared.clock.sleep(grace) => {}
        }
        self.shared.abandoned.cancel();
        self.shared.attempts.ended().await;
        self.say_farewell().await;
        self.keep.stop();
        Drained { given_back }
    }

    fn say_what_runs(&self) {
        let tasks = self.shared.running.tasks();
        let named: Vec<String> = tasks
            .iter()
            .take(NAMED_MAX)
            .map(ToString::to_string)
            .collect();
        let more = tasks.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let (count, named) = (tasks.len(), named.join(", "));
        tracing::info!(
            tasks = count,
            "Waiting for what runs ({count}): {named}{more}"
        );
    }

    /// Leaves the store: what is still owned is released for others, at once.
    async fn say_farewell(&self) {
        let farewell = self.shared.store.retire(self.shared.id);
        let answer = tokio::select! {
            biased;
            answer = farewell => answer,
            () = self.shared.clock.sleep(FAREWELL_LIMIT) => {
                tracing::warn!("The store did not answer the farewell; the lease ends by itself");
                return;
            }
        };
        match answer {
            Ok(taken) => {
                self.shared.token.give_back();
                for facts in &taken.released {
                    self.shared
                        .outgoing
                        .announce(EventKind::Released, facts)
                        .await;
                }
                taken
                    .ended
                    .into_iter()
                    .chain(taken.cancelled)
                    .for_each(|facts| self.shared.outgoing.report(facts));
            }
            Err(error) => {
                tracing::warn!(error = %error, "The store did not take the farewell; the lease ends by itself");
            }
        }
    }
}
