//! What tasks cost that wait for a signal, and how fast one of them is woken.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::usage::{Usage, rounded};
use super::{Complaint, Output};
use crate::action::{Context, Registry};
use crate::cli::args::BenchArgs;
use crate::client::{Client, ClientSettings};
use crate::domain::{
    ActionName, NewSignal, Payload, QueueName, SignalName, Submission, TaskId, TaskState,
};
use crate::runtime::Runtime;
use crate::store::List;

/// Tasks of a run when nothing else is said.
const TASKS: usize = 10_000;

/// Submissions under way at once.
const SUBMITS: usize = 512;

/// The action that waits.
const WAITING: &str = "bench.wait";

/// The queue of those that wait: their executor is this process, whose memory is measured.
const QUEUE: &str = "bench-waiting";

/// Tasks that are woken, one after the other.
const WOKEN: usize = 100;

/// How long a task may take to end once its signal is sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is counted how many are suspended.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Lets so many tasks wait for a signal, and wakes some of them one by one.
pub(super) async fn run(
    runtime: &Runtime,
    args: BenchArgs,
    output: Output,
) -> Result<Value, Complaint> {
    let tasks = args.tasks.unwrap_or(TASKS).max(WOKEN);
    let queue = QueueName::new(QUEUE)?;
    runtime.broker().create_queue(&queue).await?;
    runtime.store().create_queue(&queue).await?;
    let registry = Registry::new().with_fn(WAITING, |context: Context, (): ()| async move {
        context.wait_for::<u64>("go").await
    });
    let executor = runtime.executor_for(registry, &queue, args.slots).await?;
    let client = runtime.client(ClientSettings::default()).await?;
    let clock = runtime.clock();
    let before = Usage::of(Some(std::process::id()));
    let begun = clock.monotonic();
    output.say(&format!("submitting {tasks} tasks that wait for a signal"));
    let ids = submit(&client, &queue, tasks).await?;
    until_suspended(runtime, &queue, tasks).await?;
    let suspended = clock.monotonic().saturating_sub(begun).as_secs_f64();
    let after = Usage::of(Some(std::process::id()));
    output.say(&format!("waking {WOKEN} of them, one after the other"));
    let mut millis = Vec::with_capacity(WOKEN);
    let spread = ids.len() / WOKEN;
    for id in ids.iter().step_by(spread.max(1)).take(WOKEN) {
        let begun = clock.monotonic();
        wake(&client, *id).await?;
        millis.push(clock.monotonic().saturating_sub(begun).as_secs_f64() * 1000.0);
    }
    millis.sort_by(f64::total_cmp);
    cancel_all(&client, &ids).await;
    let drained = executor.drain(Duration::from_secs(5)).await;
    tracing::debug!(?drained, "The executor has ended");
    drop((client, executor));
    let at = |share: usize| {
        rounded(
            millis
                .get(millis.len() * share / 100)
                .copied()
                .unwrap_or(0.0),
        )
    };
    let kib = after.rss_kib.saturating_sub(before.rss_kib);
    let count = f64::from(u32::try_from(tasks).unwrap_or(u32::MAX));
    Ok(json!({
        "scenario": "suspend",
        "tasks": tasks,
        "slots": args.slots,
        "seconds": rounded(suspended),
        "tasks_per_s": rounded(count / suspended),
        "rss_growth_mib": rounded(f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0),
        "rss_growth_kib_per_10k": kib * 10_000 / tasks as u64,
        "wake_p50_ms": at(50),
        "wake_p95_ms": at(95),
    }))
}

async fn submit(
    client: &Client,
    queue: &QueueName,
    tasks: usize,
) -> Result<Vec<TaskId>, Complaint> {
    let one = Submission::new(ActionName::new(WAITING)?, Payload::null()).on_queue(queue.clone());
    let mut submits = futures_util::stream::iter(0..tasks)
        .map(|_| client.submit(one.clone()))
        .buffer_unordered(SUBMITS);
    let mut ids = Vec::with_capacity(tasks);
    while let Some(receipt) = submits.next().await {
        ids.push(receipt?.task.id);
    }
    Ok(ids)
}

async fn until_suspended(
    runtime: &Runtime,
    queue: &QueueName,
    tasks: usize,
) -> Result<(), Complaint> {
    let suspended = List {
        states: vec![TaskState::Suspended],
        queue: Some(queue.clone()),
        limit: usize::MAX,
        ..List::default()
    };
    let (mut last, mut silent) = (0, 0);
    loop {
        let count = runtime.store().count(&suspended).await?;
        if count >= tasks as u64 {
            return Ok(());
        }
        silent = if count == last { silent + 1 } else { 0 };
        last = count;
        if silent > 60 {
            return Err(Complaint::failed(format!(
                "only {count} of {tasks} tasks are suspended, then nothing happened"
            )));
        }
        runtime.clock().sleep(LOOK_INTERVAL).await;
    }
}

/// Sends its signal to a task and waits for its end.
async fn wake(client: &Client, task: TaskId) -> Result<(), Complaint> {
    let signal = NewSignal {
        task,
        name: SignalName::new("go")?,
        key: None,
        payload: Payload::of(&1).map_err(|error| Complaint::failed(error.to_string()))?,
    };
    let sent = client.signal(signal);
    let (sent, ended) = futures_util::join!(sent, client.wait(task, PATIENCE));
    tracing::trace!(answer = ?sent?, "Sent a signal");
    let ended = ended?.into_task();
    if ended.state == TaskState::Succeeded {
        return Ok(());
    }
    Err(Complaint::failed(format!(
        "the task `{task}` is `{}`",
        ended.state
    )))
}

/// Leaves nothing behind.
async fn cancel_all(client: &Client, ids: &[TaskId]) {
    let cancels = futures_util::stream::iter(ids)
        .map(|id| client.cancel(*id, "the benchmark is over"))
        .buffer_unordered(SUBMITS);
    let failed = cancels
        .filter(|answer| std::future::ready(answer.is_err()))
        .count()
        .await;
    if failed > 0 {
        tracing::warn!(
            failed,
            "Tasks of the benchmark could not be cancelled: {failed}"
        );
    }
}
