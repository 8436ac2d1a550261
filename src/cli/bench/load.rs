//! Tasks that are submitted at a given rate beside what is measured, whether they end or not.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;

use super::Complaint;
use super::report::rate;
use super::usage::real;
use crate::background::Background;
use crate::client::Client;
use crate::clock::Clock;
use crate::domain::Submission;

/// How often it is looked which tasks are due.
const TICK: Duration = Duration::from_millis(2);

/// Submissions under way at once. Beyond it the rate is not kept, and the report shows it.
const SUBMITS_MAX: usize = 10_000;

/// What a load came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Submitted {
    pub(super) tasks: usize,
    pub(super) tasks_per_s: f64,
}

/// A load under way. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Load {
    background: Background,
    outcome: oneshot::Receiver<Result<Submitted, Complaint>>,
}

impl Load {
    /// Begins to submit `submission` so many times a second.
    pub(super) fn start(
        client: Client,
        submission: Submission,
        per_s: f64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let background = Background::new();
        let (told, outcome) = oneshot::channel();
        let stopping = background.clone();
        background.spawn(async move {
            let load = submit(&client, &submission, per_s, &clock, &stopping);
            // Nobody asks when the run has failed.
            drop(told.send(load.await));
        });
        Self {
            background,
            outcome,
        }
    }

    /// Ends it; what was stored.
    pub(super) async fn end(mut self) -> Result<Submitted, Complaint> {
        self.background.stop();
        let ended = (&mut self.outcome).await;
        ended.unwrap_or_else(|_| Err(Complaint::failed("the load has ended by itself")))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.background.stop();
    }
}

async fn submit(
    client: &Client,
    submission: &Submission,
    per_s: f64,
    clock: &Arc<dyn Clock>,
    stopping: &Background,
) -> Result<Submitted, Complaint> {
    let begun = clock.monotonic();
    let elapsed = || clock.monotonic().saturating_sub(begun).as_secs_f64();
    let mut submits = FuturesUnordered::new();
    let (mut sent, mut stored) = (0_u64, 0);
    loop {
        let due = per_s * elapsed();
        while real(sent) < due && submits.len() < SUBMITS_MAX {
            submits.push(client.submit(submission.clone()));
            sent += 1;
        }
        tokio::select! {
            biased;
            () = stopping.stopping() => return Ok(Submitted {
                tasks: stored,
                tasks_per_s: rate(stored, elapsed()),
            }),
            Some(receipt) = submits.next() => {
                let receipt = receipt?;
                tracing::trace!(task.id = %receipt.task.id, "Submitted");
                stored += 1;
            }
            () = clock.sleep(TICK) => {}
        }
    }
}
