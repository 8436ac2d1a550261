//! How long it takes until the tasks of an executor that was killed run elsewhere.

use std::time::Duration;

use serde_json::json;

use super::args::TakeoverArgs;
use super::report::{Report, Spread};
use super::stand::{Stand, Worker, cancel_all, processes, submit_all};
use super::{Complaint, seconds};
use crate::client::Client;
use crate::domain::{
    ActionName, ExecutorId, ExecutorState, Payload, Submission, Task, TaskId, TaskState,
};

/// Seconds that a task sleeps: longer than any round.
const SLEEP_S: u32 = 3600;

/// How often rows are looked at: the error of what is measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long any part of a round may take before the run is called broken: two leases and more.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a round has found.
struct Round {
    took: Vec<Duration>,
    doubled: u32,
}

/// Kills one of two executors, again and again.
pub(super) async fn run(stand: &Stand, args: TakeoverArgs) -> Result<Report, Complaint> {
    let warm_up = seconds(args.warm_up, "warm-up")?;
    let (clock, client) = (stand.clock(), stand.client().await?);
    let before = stand.meter.before(&processes([], None)).await;
    let begun = clock.monotonic();
    let (mut took, mut doubled) = (Vec::new(), 0);
    for number in 1..=args.rounds {
        let round = round(stand, &client, args.tasks, warm_up).await?;
        let slowest = round.took.iter().max().copied().unwrap_or_default();
        stand.output.say(&format!(
            "round {number} of {}: {} tasks run elsewhere, the last after {} ms",
            args.rounds,
            round.took.len(),
            slowest.as_millis()
        ));
        took.extend(round.took);
        doubled += round.doubled;
    }
    let took_s = clock.monotonic().saturating_sub(begun).as_secs_f64();
    let after = stand.meter.after(&processes([], None)).await;
    let taken = took.len();
    let spread: Spread = took.into_iter().collect();
    let mut report = Report::new("takeover", taken, took_s);
    report.add("rounds", args.rounds, "");
    report.add("tasks_per_round", args.tasks, "");
    report.spread("takeover", &spread);
    report.add("doubled_runs", doubled, "runs");
    let all = usize::from(args.rounds) * usize::from(args.tasks);
    after.report(&before, all, &mut report);
    Ok(report)
}

/// Two new executors, tasks on both, and the end of one of them.
async fn round(
    stand: &Stand,
    client: &Client,
    tasks: u16,
    warm_up: Duration,
) -> Result<Round, Complaint> {
    let workers = [
        stand.executor_process("bench-1", tasks)?,
        stand.executor_process("bench-2", tasks)?,
    ];
    let executors = [
        enrolled(stand, &workers[0]).await?,
        enrolled(stand, &workers[1]).await?,
    ];
    stand.clock().sleep(warm_up).await;
    let tasks = submit(stand, client, tasks).await?;
    let outcome = kill_one(stand, workers, executors, &tasks).await;
    // Whatever happened: nobody needs an hour of sleep.
    cancel_all(client, &tasks).await;
    let (round, survivor) = outcome?;
    until(stand, &tasks, "they are cancelled", |task| {
        task.state.is_final()
    })
    .await?;
    survivor.end(stand.clock()).await;
    Ok(round)
}

/// Kills the one that runs more, because somebody has to take over something. What was found, and the other one.
async fn kill_one(
    stand: &Stand,
    [first, second]: [Worker; 2],
    executors: [ExecutorId; 2],
    tasks: &[TaskId],
) -> Result<(Round, Worker), Complaint> {
    let running = until(stand, tasks, "they run", |task| {
        task.state == TaskState::Running
    })
    .await?;
    let of = |executor: ExecutorId| {
        let own = running
            .iter()
            .filter(move |task| task.executor == Some(executor));
        own.map(|task| task.id).collect::<Vec<_>>()
    };
    let [by_first, by_second] = executors.map(of);
    let (victim, survivor, killed, stranded) = if by_first.len() >= by_second.len() {
        (first, second, executors[0], by_first)
    } else {
        (second, first, executors[1], by_second)
    };
    let begun = stand.clock().monotonic();
    victim.kill().await?;
    let took = taken_over(stand, &stranded, killed, begun).await?;
    let found = stand.runtime.store().tasks(tasks).await?.tasks;
    let beyond = |task: &Task| {
        // One run for each, and one more for what was stranded.
        let due = if stranded.contains(&task.id) { 2 } else { 1 };
        task.attempt.0.saturating_sub(due)
    };
    let doubled = found.iter().map(beyond).sum();
    Ok((Round { took, doubled }, survivor))
}

/// How long each of `tasks` took to run somewhere else.
async fn taken_over(
    stand: &Stand,
    tasks: &[TaskId],
    killed: ExecutorId,
    begun: Duration,
) -> Result<Vec<Duration>, Complaint> {
    let clock = stand.clock();
    let (mut left, mut took) = (tasks.to_vec(), Vec::with_capacity(tasks.len()));
    while !left.is_empty() {
        let found = stand.runtime.store().tasks(&left).await?.tasks;
        let since = clock.monotonic().saturating_sub(begun);
        for task in &found {
            if task.state == TaskState::Running && task.executor != Some(killed) {
                left.retain(|id| *id != task.id);
                took.push(since);
            }
        }
        if since > PATIENCE {
            let words = format!("{} tasks were not taken over", left.len());
            return Err(Complaint::failed(words));
        }
        clock.sleep(LOOK_INTERVAL).await;
    }
    Ok(took)
}

/// The executor that runs in a worker's process, once it has entered.
async fn enrolled(stand: &Stand, worker: &Worker) -> Result<ExecutorId, Complaint> {
    let clock = stand.clock();
    let begun = clock.monotonic();
    while clock.monotonic().saturating_sub(begun) < PATIENCE {
        let executors = stand.runtime.store().executors().await?;
        let own = executors.iter().find(|executor| {
            Some(executor.pid) == worker.process() && executor.state == ExecutorState::Live
        });
        if let Some(own) = own {
            return Ok(own.id);
        }
        clock.sleep(LOOK_INTERVAL).await;
    }
    Err(Complaint::failed("an executor has not started"))
}

async fn submit(stand: &Stand, client: &Client, tasks: u16) -> Result<Vec<TaskId>, Complaint> {
    let input = Payload::of(&json!({"seconds": SLEEP_S}));
    let input = input.map_err(|error| Complaint::failed(error.to_string()))?;
    let one = Submission::new(ActionName::new("sleep")?, input).on_queue(stand.queue.clone());
    submit_all(client, &one, tasks.into()).await
}

/// Waits until all of `tasks` are as they have to be.
async fn until(
    stand: &Stand,
    tasks: &[TaskId],
    what: &str,
    is_so: impl Fn(&Task) -> bool,
) -> Result<Vec<Task>, Complaint> {
    let clock = stand.clock();
    let begun = clock.monotonic();
    loop {
        let found = stand.runtime.store().tasks(tasks).await?.tasks;
        if found.iter().all(&is_so) {
            return Ok(found);
        }
        if clock.monotonic().saturating_sub(begun) > PATIENCE {
            return Err(Complaint::failed(format!(
                "waited for {} s until {what}",
                PATIENCE.as_secs()
            )));
        }
        clock.sleep(LOOK_INTERVAL).await;
    }
}
