//! How long `Prefer: wait` takes over HTTP when nothing else runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::usage::{Usage, rounded};
use super::{Complaint, Config, Output, QUEUE, free_port, spawn, spawn_executor};
use crate::cli::args::BenchArgs;
use crate::runtime::Runtime;

/// Requests of a run when nothing else is said.
const TASKS: usize = 500;

/// Requests before the first that counts: connections are made, plans are cached.
const WARM_UP: usize = 50;

/// How long the processes may take to start.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two requests, so that each finds the system at rest.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends one request after the other to a web server of its own, with an executor of its own behind it.
pub(super) async fn run(
    config: &Config,
    runtime: &Runtime,
    args: BenchArgs,
    output: Output,
) -> Result<Value, Complaint> {
    let tasks = args.tasks.unwrap_or(TASKS).max(1);
    let address = format!("127.0.0.1:{}", free_port()?);
    let web = spawn(config, &["web", "--listen", &address].map(str::to_owned))?;
    let executor = spawn_executor(config, args.slots)?;
    let http = reqwest::Client::new();
    let clock = runtime.clock();
    let begun = clock.monotonic();
    while request(&http, &address).await.is_err() {
        if clock.monotonic().saturating_sub(begun) > START_PATIENCE {
            request(&http, &address).await?; // The error says what is wrong.
        }
        clock.sleep(Duration::from_millis(50)).await;
    }
    output.say(&format!("waiting for {tasks} tasks, one after the other"));
    for _ in 0..WARM_UP {
        request(&http, &address).await?;
    }
    let before = [Usage::of(web.id()), Usage::of(executor.id())];
    let mut waits = Vec::with_capacity(tasks);
    let measured = clock.monotonic();
    for _ in 0..tasks {
        let sent = clock.monotonic();
        request(&http, &address).await?;
        waits.push(clock.monotonic().saturating_sub(sent));
        clock.sleep(PAUSE).await;
    }
    let seconds = clock.monotonic().saturating_sub(measured).as_secs_f64();
    let after = [Usage::of(web.id()), Usage::of(executor.id())];
    waits.sort();
    let at = |share: usize| rounded(waits[(waits.len() - 1) * share / 100].as_secs_f64() * 1000.0);
    Ok(json!({
        "scenario": "latency",
        "tasks": tasks,
        "slots": args.slots,
        "seconds": rounded(seconds),
        "tasks_per_s": rounded(f64::from(u32::try_from(tasks).unwrap_or(u32::MAX)) / seconds),
        "wait_p50_ms": at(50),
        "wait_p95_ms": at(95),
        "wait_p99_ms": at(99),
        "web_cpu_s_per_10k": after[0].cpu_s_per_10k(before[0], tasks),
        "executor_cpu_s_per_10k": after[1].cpu_s_per_10k(before[1], tasks),
        "web_rss_mib": after[0].rss_kib / 1024,
        "executor_rss_mib": after[1].rss_kib / 1024,
    }))
}

async fn request(http: &reqwest::Client, address: &str) -> Result<(), Complaint> {
    let answer = http
        .post(format!("http://{address}/v1/tasks"))
        .header("Prefer", "wait=10")
        .json(&json!({"action": "echo", "queue": QUEUE, "input": {"text": "ahoy"}}))
        .send()
        .await
        .map_err(|error| Complaint::failed(format!("the web server does not answer: {error}")))?;
    let status = answer.status();
    if status == reqwest::StatusCode::OK {
        return Ok(());
    }
    let body = answer.text().await.unwrap_or_default();
    Err(Complaint::failed(format!(
        "a request was answered with {status}: {body}"
    )))
}
