//! How fast the sub-tasks of one task are worked off, beside as many tasks that are submitted one by one.

use std::time::Duration;

use super::Complaint;
use super::args::FanoutArgs;
use super::ends::Ends;
use super::report::{Report, rate};
use super::stand::{Stand, processes, submission, submit_all};
use crate::action::{Context, Registry};
use crate::client::Client;
use crate::domain::limits::SUBTASKS_MAX;
use crate::domain::{
    ActionName, Failure, FailurePolicy, FanOutPlan, Payload, QueueName, Submission, TaskState,
};

/// The action that spawns them.
const PARENT: &str = "bench.fan_out";

/// The queue of the parent: its executor is this process.
const PARENTS: &str = "bench-parents";

/// How long a run may take before it is called broken.
const PATIENCE: Duration = Duration::from_mins(10);

/// What the parent is told.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Wish {
    tasks: u32,
    in_flight: Option<u32>,
    queue: String,
}

/// Runs one task with so many sub-tasks, from the submission of the parent to its end; then as many tasks one by one, from
/// the first submission to the last result.
pub(super) async fn run(stand: &Stand, args: FanoutArgs) -> Result<Report, Complaint> {
    let tasks = args.tasks.clamp(2, SUBTASKS_MAX);
    let count = usize::try_from(tasks).unwrap_or(usize::MAX);
    let (clock, output) = (stand.clock(), stand.output);
    let parents = QueueName::new(PARENTS)?;
    stand.create_queue(&parents).await?;
    let registry = Registry::new().with_fn(PARENT, fan_out);
    let executor = stand.runtime.executor_for(registry, &parents, 1).await?;
    let client = stand.client().await?;
    let worker = stand.executor(args.slots).await?;
    stand.warm_up(&client).await?;
    let wish = Wish {
        tasks,
        in_flight: args.limit,
        queue: stand.queue.to_string(),
    };
    let processes = processes([&worker], None);
    let before = stand.meter.before(&processes).await;
    output.say(&format!("one task spawns {tasks} sub-tasks and joins them"));
    let begun = clock.monotonic();
    run_parent(&client, parents, &wish).await?;
    let seconds = clock.monotonic().saturating_sub(begun).as_secs_f64();
    let after = stand.meter.after(&processes).await;
    output.say(&format!("submitting {tasks} tasks one by one"));
    let plain = one_by_one(stand, &client, count).await?;
    let drained = executor.drain(Duration::from_secs(5)).await;
    tracing::debug!(?drained, "The executor of the parent has ended");
    worker.end(clock).await;
    let mut report = Report::new("fanout", count, seconds);
    report.add("slots", args.slots, "");
    report.add("in_flight_max", args.limit, "tasks");
    report.number("one_by_one_tasks_per_s", rate(count, plain), "tasks/s");
    report.number("share", plain / seconds.max(0.001), "");
    after.report(&before, count, &mut report);
    Ok(report)
}

async fn run_parent(client: &Client, parents: QueueName, wish: &Wish) -> Result<(), Complaint> {
    let wish = Payload::of(wish).map_err(|error| Complaint::failed(error.to_string()))?;
    let parent = Submission::new(ActionName::new(PARENT)?, wish).on_queue(parents);
    let parent = client.submit_and_wait(parent, PATIENCE).await?.into_task();
    if parent.state == TaskState::Succeeded {
        return Ok(());
    }
    let error = parent.error.map_or_else(String::new, |error| error.message);
    Err(Complaint::failed(format!(
        "the parent is `{}`: {error}",
        parent.state
    )))
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

/// Seconds from the first submission to the last result.
async fn one_by_one(stand: &Stand, client: &Client, tasks: usize) -> Result<f64, Complaint> {
    let mut ends = Ends::of(stand).await?;
    let clock = stand.clock();
    let begun = clock.monotonic();
    let results = async {
        while ends.more(tasks).await? < tasks {}
        Ok::<(), Complaint>(())
    };
    let submission = stand.submission()?;
    let submits = submit_all(client, &submission, tasks);
    let (submitted, ended) = futures_util::join!(submits, results);
    submitted?;
    ended?;
    Ok(clock.monotonic().saturating_sub(begun).as_secs_f64())
}
