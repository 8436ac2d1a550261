//! How long a caller waits for the result of one task.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Complaint;
use super::args::LatencyArgs;
use super::load::Load;
use super::report::{Report, Spread};
use super::stand::{Stand, Web, has_ended, http_client, processes, request};
use super::sustained::rate_of;
use crate::client::Client;

/// Requests before the first that counts: connections are made, plans are cached.
const WARM_UP: usize = 50;

/// The pause between two requests at rest, so that each finds the system idle.
const PAUSE: Duration = Duration::from_millis(5);

/// The time from one request to the next under load.
const INTERVAL: Duration = Duration::from_millis(20);

/// Connections of the HTTP client that are kept.
const CONNECTIONS: usize = 64;

/// How long the rate is looked for of which the load is a part, and with how many tasks in flight.
const LOOK: (Duration, usize) = (Duration::from_secs(5), 512);

/// How long a caller waits before the run is called broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who waits.
enum Caller<'a> {
    Library(&'a Client, &'a Stand),
    Http(reqwest::Client, &'a Web, &'a Stand),
}

impl Caller<'_> {
    /// How long one task takes.
    async fn wait(&self) -> Result<Duration, Complaint> {
        let clock = match self {
            Self::Library(_, stand) | Self::Http(_, _, stand) => stand.clock(),
        };
        let begun = clock.monotonic();
        match self {
            Self::Library(client, stand) => {
                let waited = client.submit_and_wait(stand.submission()?, PATIENCE);
                has_ended(waited.await?, PATIENCE)?;
            }
            Self::Http(http, web, _) => request(http, &web.address).await?,
        }
        Ok(clock.monotonic().saturating_sub(begun))
    }
}

/// How many tasks a second run beside, and what `sustained` reached if that was asked for.
async fn load_rate(
    stand: &Stand,
    client: &Client,
    args: LatencyArgs,
) -> Result<(Option<f64>, Option<f64>), Complaint> {
    match (args.rate, args.load) {
        (Some(rate), _) => Ok((Some(f64::from(rate)), None)),
        (None, Some(percent)) => {
            stand
                .output
                .say("looking for the rate that can be sustained");
            let (length, in_flight) = LOOK;
            let full = rate_of(stand, client, in_flight, length).await?;
            Ok((Some(full * f64::from(percent) / 100.0), Some(full)))
        }
        (None, None) => Ok((None, None)),
    }
}

/// One request after the other.
async fn at_rest(stand: &Stand, caller: &Caller<'_>, tasks: usize) -> Result<Spread, Complaint> {
    let words = format!("waiting for {tasks} tasks, one after the other");
    stand.output.say(&words);
    let mut waits = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        waits.push(caller.wait().await?);
        stand.clock().sleep(PAUSE).await;
    }
    Ok(waits.into_iter().collect())
}

/// A request in each interval. One that is late holds up no other: its lateness would be hidden by those that were not sent.
async fn under_load(stand: &Stand, caller: &Caller<'_>, tasks: usize) -> Result<Spread, Complaint> {
    let words = format!("waiting for {tasks} tasks while others run");
    stand.output.say(&words);
    let clock = stand.clock();
    let mut under_way = FuturesUnordered::new();
    let (mut sent, mut waits) = (0, Vec::with_capacity(tasks));
    let mut due = clock.monotonic() + INTERVAL;
    while waits.len() < tasks {
        let left = due.saturating_sub(clock.monotonic());
        tokio::select! {
            biased;
            () = clock.sleep(left), if sent < tasks => {
                under_way.push(caller.wait());
                (sent, due) = (sent + 1, due + INTERVAL);
            }
            Some(wait) = under_way.next() => waits.push(wait?),
        }
    }
    Ok(waits.into_iter().collect())
}

/// How many tasks are stored that have not ended.
async fn open_tasks(stand: &Stand) -> Result<u64, Complaint> {
    let queues = stand.runtime.store().queues().await?;
    let queue = queues.iter().find(|queue| queue.name == stand.queue);
    Ok(queue.map_or(0, |queue| queue.ready + queue.running))
}

/// Waits for so many tasks, with an executor and, for HTTP, a web server of its own.
pub(super) async fn run(stand: &Stand, args: LatencyArgs) -> Result<Report, Complaint> {
    let tasks = args.tasks.max(1);
    let (clock, client) = (stand.clock(), stand.client().await?);
    let worker = stand.executor(args.slots).await?;
    stand.warm_up(&client).await?;
    let web = if args.library {
        None
    } else {
        Some(stand.web().await?)
    };
    let caller = match &web {
        Some(web) => {
            let http = http_client(CONNECTIONS)?;
            stand.until_served(&http, web).await?;
            Caller::Http(http, web, stand)
        }
        None => Caller::Library(&client, stand),
    };
    let (per_s, full) = load_rate(stand, &client, args).await?;
    for _ in 0..WARM_UP {
        caller.wait().await?;
    }
    let processes = processes([&worker], web.as_ref());
    let before = stand.meter.before(&processes).await;
    let begun = clock.monotonic();
    let (waits, submitted) = match per_s {
        None => (at_rest(stand, &caller, tasks).await?, None),
        Some(per_s) => {
            let submission = stand.submission()?;
            let load = Load::start(client.clone(), submission, per_s, Arc::clone(clock));
            let waits = under_load(stand, &caller, tasks).await?;
            (waits, Some(load.end().await?))
        }
    };
    let seconds = clock.monotonic().saturating_sub(begun).as_secs_f64();
    let left = open_tasks(stand).await?;
    let after = stand.meter.after(&processes).await;
    drop(caller);
    worker.end(clock).await;
    if let Some(web) = web {
        web.end(clock).await;
    }
    let mut report = Report::new("latency", tasks, seconds);
    report.add("through", if args.library { "library" } else { "http" }, "");
    report.add("slots", args.slots, "");
    report.spread("wait", &waits);
    let mut together = tasks;
    if let Some((asked, submitted)) = per_s.zip(submitted) {
        if let Some(full) = full {
            report.number("sustained_tasks_per_s", full, "tasks/s");
        }
        report.number("load_asked_tasks_per_s", asked, "tasks/s");
        report.number("load_tasks_per_s", submitted.tasks_per_s, "tasks/s");
        report.add("load_left", left, "tasks");
        together += submitted.tasks;
    }
    after.report(&before, together, &mut report);
    Ok(report)
}
