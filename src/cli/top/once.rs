//! What is to be seen, once: as tables or JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use super::latency::Percentiles;
use super::model::{Events, Model, News};
use super::rates::{PerSecond, Rates, SECONDS};
use super::words::{age, count, per_second, whole_age};
use super::{NEWS_MAX, listen, model, watch};
use crate::background::Background;
use crate::cli::complaint::Complaint;
use crate::cli::output::{Format, Output};
use crate::cli::status::ExitStatus;
use crate::config::Config;
use crate::domain::Progress;
use crate::runtime::Runtime;
use crate::store::{OpenTask, QueueOverview};
use crate::wire::ExecutorJson;

/// Everything, in JSON.
#[derive(Debug, Serialize)]
struct TopJson {
    /// By the store's clock.
    at: Timestamp,
    store: StoreJson,
    broker: BrokerJson,
    /// For how long events were listened to; 0 when there are none.
    listened_seconds: u64,
    /// Tasks a second; absent without events.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<RatesJson>,
    /// From `created` to the end of tasks that ended meanwhile; absent when none did.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<LatencyJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ready: Option<OldestJson>,
    queues: Vec<QueueJson>,
    executors: Vec<ExecutorTopJson>,
    tasks: Vec<OpenTaskJson>,
}

#[derive(Debug, Serialize)]
struct StoreJson {
    version: String,
    answered_in_ms: u64,
}

#[derive(Debug, Serialize)]
struct BrokerJson {
    name: String,
    /// Whether events come.
    events: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct RatesJson {
    created: f64,
    succeeded: f64,
    failed: f64,
    cancelled: f64,
}

#[derive(Debug, Serialize)]
struct LatencyJson {
    p50_ms: f64,
    p99_ms: f64,
    tasks: u64,
}

#[derive(Debug, Serialize)]
struct OldestJson {
    queue: String,
    ready_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
}

#[derive(Debug, Serialize)]
struct QueueJson {
    name: String,
    scheduled: u64,
    blocked: u64,
    ready: u64,
    running: u64,
    suspended: u64,
    paused: u64,
    /// Of live executors.
    slots: u64,
    /// Since when nobody takes its tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_ready_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<RatesJson>,
}

#[derive(Debug, Serialize)]
struct ExecutorTopJson {
    #[serde(flatten)]
    executor: ExecutorJson,
    /// Tasks that run for it.
    running: u64,
}

#[derive(Debug, Serialize)]
struct OpenTaskJson {
    id: String,
    action: String,
    queue: String,
    state: String,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    executor: Option<String>,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<String>,
}

/// Looks, listens for `interval` (for a second at least) if there are events, and writes what that came to.
pub(super) async fn run(
    config: &Config,
    runtime: &Runtime,
    interval: Duration,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let mut seen = model(config, runtime, interval)?;
    let (store, clock) = (runtime.store(), runtime.clock());
    look(&mut seen, runtime).await?;
    if !matches!(seen.events, Events::Never(_)) {
        let background = Background::new();
        let (news, mut coming) = mpsc::channel(NEWS_MAX);
        listen(runtime, &seen, &background, &news);
        // Rates are of whole seconds.
        let whole =
            Duration::from_secs(interval.as_secs() + u64::from(interval.subsec_nanos() > 0));
        let end = clock.monotonic() + whole;
        loop {
            let left = end.saturating_sub(clock.monotonic());
            tokio::select! {
                biased;
                () = clock.sleep(left) => break,
                news = coming.recv() => match news {
                    Some(news) => seen.hear(news, clock.monotonic()),
                    None => break,
                },
            }
        }
        background.stop();
        drop((news, coming));
        let (answer, _) = watch::look_once(store, clock).await;
        seen.hear(answer, clock.monotonic());
    }
    seen.tick(clock.monotonic());
    match output.format() {
        Format::Json => output.json(&json(&seen))?,
        Format::Jsonl => output.jsonl(&json(&seen))?,
        Format::Table => tables(&seen, output)?,
    }
    Ok(ExitStatus::Done)
}

async fn look(seen: &mut Model, runtime: &Runtime) -> Result<(), Complaint> {
    let (answer, _) = watch::look_once(runtime.store(), runtime.clock()).await;
    if let News::StoreAway(reason) = &answer {
        return Err(Complaint::failed(reason.clone()));
    }
    seen.hear(answer, runtime.clock().monotonic());
    Ok(())
}

fn json(model: &Model) -> TopJson {
    let identity = model.overview.as_ref().map(|seen| &seen.identity);
    let reason = match &model.events {
        Events::Come => None,
        Events::Blocked(reason) | Events::Away(_, reason) | Events::Never(reason) => {
            Some(reason.clone())
        }
    };
    let has_events = !matches!(model.events, Events::Never(_));
    TopJson {
        at: model.store_now().unwrap_or_default(),
        store: StoreJson {
            version: identity.map_or_else(String::new, |one| one.version.clone()),
            answered_in_ms: model.took().map_or(0, millis),
        },
        broker: BrokerJson {
            name: model.broker.clone(),
            events: reason.is_none(),
            reason,
        },
        listened_seconds: if has_events { model.rates.heard() } else { 0 },
        rates: has_events.then(|| rates(&model.rates)).flatten(),
        latency: model.latencies.percentiles().map(latency),
        oldest_ready: model.oldest().map(|(queue, since, task)| OldestJson {
            queue: queue.name.to_string(),
            ready_seconds: model.age(since).as_secs_f64(),
            id: task.map(|task| task.id.to_string()),
            action: task.map(|task| task.action.to_string()),
        }),
        queues: model
            .queues()
            .iter()
            .map(|queue| queue_json(model, queue, has_events))
            .collect(),
        executors: model
            .executors()
            .iter()
            .map(|one| ExecutorTopJson {
                executor: ExecutorJson::from(one),
                running: model.busy(one.id),
            })
            .collect(),
        tasks: model.tasks().iter().map(task_json).collect(),
    }
}

fn queue_json(model: &Model, queue: &QueueOverview, has_events: bool) -> QueueJson {
    let known = model.queue_rates(queue.name.as_str());
    QueueJson {
        name: queue.name.to_string(),
        scheduled: queue.scheduled,
        blocked: queue.blocked,
        ready: queue.ready,
        running: queue.running,
        suspended: queue.suspended,
        paused: queue.paused,
        slots: model.slots(queue),
        paused_at: queue.pause.as_ref().map(|pause| pause.at),
        paused_by: queue.pause.as_ref().map(|pause| pause.by.to_string()),
        oldest_ready_seconds: queue
            .oldest_ready_at
            .map(|since| model.age(since).as_secs_f64()),
        rates: known.filter(|_| has_events).and_then(rates),
    }
}

fn task_json(task: &OpenTask) -> OpenTaskJson {
    OpenTaskJson {
        id: task.id.to_string(),
        action: task.action.to_string(),
        queue: task.queue.to_string(),
        state: task.state.to_string(),
        attempt: task.attempt.0,
        executor: task.executor.map(|id| id.to_string()),
        since: task.since,
        progress: task.progress.as_ref().map(Progress::sentence),
    }
}

fn rates(rates: &Rates) -> Option<RatesJson> {
    let PerSecond {
        created,
        succeeded,
        failed,
        cancelled,
    } = rates.per_second(SECONDS)?;
    Some(RatesJson {
        created,
        succeeded,
        failed,
        cancelled,
    })
}

fn latency(told: Percentiles) -> LatencyJson {
    LatencyJson {
        p50_ms: told.p50.as_secs_f64() * 1_000.0,
        p99_ms: told.p99.as_secs_f64() * 1_000.0,
        tasks: told.tasks,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A queue's name, with a mark when it is paused.
fn named(queue: &QueueOverview) -> String {
    let mark = if queue.pause.is_some() {
        " (paused)"
    } else {
        ""
    };
    format!("{}{mark}", queue.name)
}

fn tables(model: &Model, output: Output) -> std::io::Result<()> {
    let rate = |queue: &QueueOverview, which: fn(PerSecond) -> f64| {
        let rates = model.queue_rates(queue.name.as_str());
        let rates = rates.filter(|_| !matches!(model.events, Events::Never(_)));
        let rates = rates.and_then(|rates| rates.per_second(SECONDS));
        rates.map_or_else(|| "-".to_owned(), |one| per_second(which(one)))
    };
    output.table(
        &[
            "QUEUE",
            "READY",
            "RUNNING",
            "SLOTS",
            "OLDEST",
            "IN/S",
            "OK/S",
            "FAIL/S",
            "SCHEDULED",
            "BLOCKED",
            "SUSPENDED",
            "PAUSED",
        ],
        model.queues().iter().map(|queue| {
            let oldest = queue.oldest_ready_at.map(|since| model.age(since));
            vec![
                named(queue),
                count(queue.ready),
                count(queue.running),
                count(model.slots(queue)),
                oldest.map_or_else(|| "-".to_owned(), age),
                rate(queue, |one| one.created),
                rate(queue, |one| one.succeeded),
                rate(queue, |one| one.failed),
                count(queue.scheduled),
                count(queue.blocked),
                count(queue.suspended),
                count(queue.paused),
            ]
        }),
    )?;
    output.line("")?;
    output.table(
        &["EXECUTOR", "STATE", "RUNNING", "SLOTS", "HOST", "PID", "UP"],
        model.executors().iter().map(|one| {
            let slots: u64 = one.slots.values().map(|slots| u64::from(*slots)).sum();
            vec![
                one.name.to_string(),
                ExecutorJson::from(one).state,
                count(model.busy(one.id)),
                count(slots),
                one.host.clone(),
                one.pid.to_string(),
                whole_age(model.age(one.started_at)),
            ]
        }),
    )?;
    output.line("")?;
    output.table(
        &["TASK", "ACTION", "QUEUE", "STATE", "FOR", "ATTEMPT"],
        model.tasks().iter().map(|task| {
            vec![
                task.id.to_string(),
                task.action.to_string(),
                task.queue.to_string(),
                task.state.to_string(),
                whole_age(model.age(task.since)),
                task.attempt.to_string(),
            ]
        }),
    )
}
