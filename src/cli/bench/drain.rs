//! How fast one executor works off a backlog.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::usage::{Usage, rounded};
use super::{Complaint, Config, Output, spawn_executor};
use crate::broker::Since;
use crate::cli::args::BenchArgs;
use crate::client::{Client, ClientSettings};
use crate::domain::{ActionName, Payload, QueueName, Submission};
use crate::runtime::Runtime;
use crate::tap::{Filter, Seen, Tap};

/// Tasks of a run when nothing else is said.
const TASKS: usize = 20_000;

/// Submissions under way at once.
const SUBMITS: usize = 512;

/// How long nothing may happen before the run is called broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Submits a backlog, starts an executor, and counts the events of its results.
///
/// `seconds` runs from the first result to the last, so neither the start of the process nor that of the clock counts.
pub(super) async fn run(
    config: &Config,
    runtime: &Runtime,
    queue: &QueueName,
    args: BenchArgs,
    output: Output,
) -> Result<Value, Complaint> {
    let tasks = args.tasks.unwrap_or(TASKS).max(2);
    let client = runtime.client(ClientSettings::default()).await?;
    let filter = Filter::new([format!("succeeded.{queue}.echo")]);
    let mut tap = Tap::open(runtime.broker(), filter, Since::Next).await?;
    output.say(&format!("submitting {tasks} tasks"));
    let clock = runtime.clock();
    let begun = clock.monotonic();
    submit(&client, queue, tasks).await?;
    let submitted = clock.monotonic().saturating_sub(begun);
    output.say(&format!("draining them with {} slots", args.slots));
    let child = spawn_executor(config, args.slots)?;
    let (mut first, mut done, mut before) = (None, 0, Usage::default());
    while done < tasks {
        let seen = tokio::select! {
            seen = tap.next() => seen,
            () = clock.sleep(PATIENCE) => None,
        };
        match seen {
            Some(Seen::Event { .. }) => done += 1,
            Some(Seen::Gap { .. }) => {}
            None => {
                return Err(Complaint::failed(format!(
                    "only {done} of {tasks} tasks ended, then nothing happened"
                )));
            }
        }
        if first.is_none() {
            first = Some(clock.monotonic());
            before = Usage::of(child.id());
        }
    }
    let seconds = clock
        .monotonic()
        .saturating_sub(first.unwrap_or_default())
        .as_secs_f64();
    let after = Usage::of(child.id());
    let count = f64::from(u32::try_from(tasks).unwrap_or(u32::MAX));
    Ok(json!({
        "scenario": "drain",
        "tasks": tasks,
        "slots": args.slots,
        "seconds": rounded(seconds),
        "tasks_per_s": rounded(count / seconds),
        "submitted_per_s": rounded(count / submitted.as_secs_f64()),
        "executor_cpu_s_per_10k": after.cpu_s_per_10k(before, tasks),
        "executor_rss_mib": rounded(f64::from(u32::try_from(after.rss_kib).unwrap_or(u32::MAX)) / 1024.0),
        "executor_rss_growth_kib_per_10k": (after.rss_kib.saturating_sub(before.rss_kib)) * 10_000 / tasks as u64,
    }))
}

async fn submit(client: &Client, queue: &QueueName, tasks: usize) -> Result<(), Complaint> {
    let submission = submission(queue)?;
    let mut submits = futures_util::stream::iter(0..tasks)
        .map(|_| client.submit(submission.clone()))
        .buffer_unordered(SUBMITS);
    while let Some(receipt) = submits.next().await {
        tracing::trace!(task.id = %receipt?.task.id, "Submitted");
    }
    Ok(())
}

/// An `echo` of about 250 bytes.
pub(super) fn submission(queue: &QueueName) -> Result<Submission, Complaint> {
    let input = json!({"text": "all hands on deck, the ship is in. ".repeat(6), "number": 7});
    let input = Payload::of(&input).map_err(|error| Complaint::failed(error.to_string()))?;
    Ok(Submission::new(ActionName::new("echo")?, input).on_queue(queue.clone()))
}
