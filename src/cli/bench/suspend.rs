//! What tasks cost that wait for a signal, and how fast one of them is woken.

use std::time::Duration;

use super::super::args::{Common, Flags};
use super::super::process;
use super::super::shutdown::Shutdown;
use super::super::status::ExitStatus;
use super::Complaint;
use super::args::SuspendArgs;
use super::report::{Report, Spread};
use super::stand::{Stand, cancel_all, processes, submit_all};
use super::usage::{Usage, real};
use crate::action::{Context, Registry};
use crate::client::Client;
use crate::domain::{
    ActionName, NewSignal, Payload, QueueName, SignalName, Submission, TaskId, TaskState,
};
use crate::runtime::Runtime;
use crate::store::List;

/// The action that waits.
const WAITING: &str = "bench.wait";

/// The queue of those that wait, for the executor whose memory is measured.
const QUEUE: &str = "bench-waiting";

/// Tasks that are woken, one after the other.
const WOKEN: usize = 100;

/// How long a task may take to end once its signal is sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is counted how many are suspended.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The executor that is measured, in a process of its own: until it is told to stop.
pub(super) async fn serve(common: &Common, slots: u16) -> Result<ExitStatus, Complaint> {
    let mut shutdown = Shutdown::listen()?;
    let config = process::settings(common, Flags::new())?;
    let runtime = process::connect(&config, "executor").await?;
    let queue = QueueName::new(QUEUE)?;
    let executor = runtime.executor_for(registry(), &queue, slots).await?;
    process::until_drained(&config, executor, &mut shutdown).await;
    runtime.stop().await;
    Ok(ExitStatus::Done)
}

fn registry() -> Registry {
    Registry::new().with_fn(WAITING, |context: Context, (): ()| async move {
        context.wait_for::<u64>("go").await
    })
}

/// Lets so many tasks wait for a signal, and wakes some of them one by one.
pub(super) async fn run(stand: &Stand, args: SuspendArgs) -> Result<Report, Complaint> {
    let tasks = args.tasks.max(WOKEN);
    let (runtime, clock, output) = (&stand.runtime, stand.clock(), stand.output);
    let queue = QueueName::new(QUEUE)?;
    stand.create_queue(&queue).await?;
    let executor = stand
        .waiting_executor(&queue, registry(), args.slots)
        .await?;
    let client = stand.client().await?;
    let measured = processes([&executor], None);
    let memory = || {
        executor
            .process()
            .map_or_else(Usage::own, Usage::of)
            .rss_kib
    };
    let before = stand.meter.before(&measured).await;
    let (empty, begun) = (memory(), clock.monotonic());
    output.say(&format!("submitting {tasks} tasks that wait for a signal"));
    let one = Submission::new(ActionName::new(WAITING)?, Payload::null()).on_queue(queue.clone());
    let ids = submit_all(&client, &one, tasks).await?;
    until_suspended(runtime, &queue, tasks).await?;
    let suspended = clock.monotonic().saturating_sub(begun).as_secs_f64();
    let full = memory();
    let after = stand.meter.after(&measured).await;
    output.say(&format!("waking {WOKEN} of them, one after the other"));
    let mut woken = Vec::with_capacity(WOKEN);
    let spread = ids.len() / WOKEN;
    for id in ids.iter().step_by(spread.max(1)).take(WOKEN) {
        let begun = clock.monotonic();
        wake(&client, *id).await?;
        woken.push(clock.monotonic().saturating_sub(begun));
    }
    let woken: Spread = woken.into_iter().collect();
    output.say("cancelling the others");
    cancel_all(&client, &ids).await;
    executor.end(clock).await;
    let kib = real(full.saturating_sub(empty));
    let mut report = Report::new("suspend", tasks, suspended);
    report.add("slots", args.slots, "");
    report.number("rss_growth_mib", kib / 1024.0, "MiB");
    let growth = kib * 10_000.0 / real(tasks as u64);
    report.number("rss_growth_kib_per_10k", growth, "KiB");
    report.spread("wake", &woken);
    after.report(&before, tasks, &mut report);
    Ok(report)
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
    let answer = sent?;
    tracing::trace!(?answer, "Sent a signal");
    let ended = ended?.into_task();
    if ended.state == TaskState::Succeeded {
        return Ok(());
    }
    Err(Complaint::failed(format!(
        "the task `{task}` is `{}`",
        ended.state
    )))
}
