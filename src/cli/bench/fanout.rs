//! How fast the sub-tasks of one task are worked off, beside as many tasks that are submitted one by one.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::drain::submission;
use super::usage::rounded;
use super::{Complaint, Config, Output, spawn_executor};
use crate::action::{Context, Registry};
use crate::broker::Since;
use crate::cli::args::FanoutArgs;
use crate::client::{Client, ClientSettings};
use crate::domain::limits::SUBTASKS_MAX;
use crate::domain::{
    ActionName, Failure, FailurePolicy, FanOutPlan, Payload, QueueName, Submission, TaskState,
};
use crate::runtime::Runtime;
use crate::tap::{Filter, Seen, Tap};

/// Sub-tasks of a run when nothing else is said.
const TASKS: u32 = 10_000;

/// Submissions under way at once.
const SUBMITS: usize = 512;

/// The action that spawns them.
const PARENT: &str = "bench.fan_out";

/// The queue of the parent: its executor is this process.
const PARENTS: &str = "bench-parents";

/// How long a run may take before it is called broken.
const PATIENCE: Duration = Duration::from_mins(10);

/// How long nothing may happen before the run is called broken.
const SILENCE: Duration = Duration::from_secs(30);

/// What the parent is told.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Wish {
    tasks: u32,
    in_flight: Option<u32>,
    queue: String,
}

/// Runs one task with so many sub-tasks, from the submission of the parent to its end; then as many tasks one by one, from
/// the first submission to the last result.
pub(super) async fn run(
    config: &Config,
    runtime: &Runtime,
    queue: &QueueName,
    args: FanoutArgs,
    output: Output,
) -> Result<Value, Complaint> {
    let tasks = args.tasks.unwrap_or(TASKS).clamp(2, SUBTASKS_MAX);
    let parents = QueueName::new(PARENTS)?;
    runtime.broker().create_queue(&parents).await?;
    runtime.store().create_queue(&parents).await?;
    let registry = Registry::new().with_fn(PARENT, fan_out);
    let executor = runtime.executor_for(registry, &parents, 1).await?;
    let client = runtime.client(ClientSettings::default()).await?;
    let child = spawn_executor(config, args.slots)?;
    warm_up(&client, queue).await?;
    output.say(&format!("one task spawns {tasks} sub-tasks and joins them"));
    let clock = runtime.clock();
    let begun = clock.monotonic();
    let wish = Wish {
        tasks,
        in_flight: args.in_flight,
        queue: queue.to_string(),
    };
    let wish = Payload::of(&wish).map_err(|error| Complaint::failed(error.to_string()))?;
    let parent = Submission::new(ActionName::new(PARENT)?, wish).on_queue(parents);
    let parent = client.submit_and_wait(parent, PATIENCE).await?.into_task();
    if parent.state != TaskState::Succeeded {
        let error = parent.error.map_or_else(String::new, |error| error.message);
        return Err(Complaint::failed(format!(
            "the parent is `{}`: {error}",
            parent.state
        )));
    }
    let seconds = clock.monotonic().saturating_sub(begun).as_secs_f64();
    output.say(&format!("submitting {tasks} tasks one by one"));
    let plain = one_by_one(runtime, &client, queue, tasks).await?;
    let drained = executor.drain(Duration::from_secs(5)).await;
    tracing::debug!(?drained, "The executor of the parent has ended");
    drop((client, executor, child));
    let rate = |seconds: f64| rounded(f64::from(tasks) / seconds);
    Ok(json!({
        "scenario": "fanout",
        "tasks": tasks,
        "slots": args.slots,
        "in_flight_max": args.in_flight,
        "seconds": rounded(seconds),
        "tasks_per_s": rate(seconds),
        "one_by_one_tasks_per_s": rate(plain),
        "share": rounded(plain / seconds),
    }))
}

async fn fan_out(context: Context, wish: Wish) -> Result<u32, Failure> {
    let queue = QueueName::new(&wish.queue)?;
    let one = submission(&queue).map_err(|_| Failure::fatal("the benchmark has no task"))?;
    let plan = FanOutPlan {
        in_flight_max: wish.in_flight,
        on_failure: FailurePolicy::FailFast,
    };
    let all = std::iter::repeat_n(one, usize::try_from(wish.tasks)?);
    let all = context.spawn_all("all", all, plan).await?;
    Ok(context.join(&all).await?.total)
}

/// The first task waits for the executor to start.
async fn warm_up(client: &Client, queue: &QueueName) -> Result<(), Complaint> {
    let first = client.submit_and_wait(submission(queue)?, SILENCE).await?;
    tracing::debug!(?first, "The executor has started");
    Ok(())
}

/// Seconds from the first submission to the last result.
async fn one_by_one(
    runtime: &Runtime,
    client: &Client,
    queue: &QueueName,
    tasks: u32,
) -> Result<f64, Complaint> {
    let filter = Filter::new([format!("succeeded.{queue}.echo")]);
    let mut tap = Tap::open(runtime.broker(), filter, Since::Next).await?;
    let (clock, one) = (runtime.clock(), submission(queue)?);
    let begun = clock.monotonic();
    let submits = async {
        let mut submits = futures_util::stream::iter(0..tasks)
            .map(|_| client.submit(one.clone()))
            .buffer_unordered(SUBMITS);
        while let Some(receipt) = submits.next().await {
            tracing::trace!(task.id = %receipt?.task.id, "Submitted");
        }
        Ok::<(), Complaint>(())
    };
    let results = async {
        let mut done = 0;
        while done < tasks {
            let seen = tokio::select! {
                seen = tap.next() => seen,
                () = clock.sleep(SILENCE) => None,
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
        }
        Ok(())
    };
    let (submitted, ended) = futures_util::join!(submits, results);
    submitted?;
    ended?;
    Ok(clock.monotonic().saturating_sub(begun).as_secs_f64())
}
