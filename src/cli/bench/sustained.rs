//! How many tasks a second are submitted, run and settled together.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use reqwest::StatusCode;
use serde_json::json;

use super::args::SustainedArgs;
use super::ends::tap;
use super::report::{Report, Spread, rate};
use super::stand::{Stand, Web, answered, has_ended, http_client, processes};
use super::{Complaint, seconds};
use crate::client::Client;
use crate::domain::{Submission, TaskId};
use crate::tap::{Seen, Tap};

/// Seconds that a caller waits for one task before the run is called broken.
const WAIT_S: u64 = 30;

/// How long tasks are driven before it counts: connections are made, caches are warm.
const WARM_UP: Duration = Duration::from_secs(1);

/// How often it is looked whether anything moves.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A task that is in flight for so long may have ended unheard: its row is looked at.
const UNHEARD: Duration = Duration::from_secs(5);

/// Keeps so many tasks in flight, and counts what ends.
pub(super) async fn run(stand: &Stand, args: SustainedArgs) -> Result<Report, Complaint> {
    let length = seconds(args.seconds, "seconds")?;
    let in_flight = args.in_flight.max(1);
    let (clock, client) = (stand.clock(), stand.client().await?);
    let worker = stand.executor(args.slots).await?;
    stand.warm_up(&client).await?;
    let web = if args.http {
        Some(stand.web().await?)
    } else {
        None
    };
    let way = match &web {
        Some(web) => {
            let http = http_client(in_flight)?;
            stand.until_served(&http, web).await?;
            Way::Http(http, web)
        }
        None => Way::Library(&client),
    };
    let processes = processes([&worker], web.as_ref());
    let through = if args.http { "HTTP" } else { "the library" };
    stand.output.say(&format!(
        "keeping {in_flight} tasks in flight through {through} for {} s",
        args.seconds
    ));
    let warm_up = drive(stand, &way, in_flight, length.min(WARM_UP), args.events).await?;
    tracing::debug!(tasks = warm_up.all, "Warmed up");
    let before = stand.meter.before(&processes).await;
    let driven = drive(stand, &way, in_flight, length, args.events).await?;
    let after = stand.meter.after(&processes).await;
    drop(way);
    worker.end(clock).await;
    if let Some(web) = web {
        web.end(clock).await;
    }
    let mut report = Report::new("sustained", driven.in_time, length.as_secs_f64());
    report.add("through", if args.http { "http" } else { "library" }, "");
    report.add("in_flight", in_flight, "");
    report.add("slots", args.slots, "");
    report.spread("latency", &driven.took);
    after.report(&before, driven.all, &mut report);
    Ok(report)
}

/// The rate at which tasks end through the library with so many in flight.
pub(super) async fn rate_of(
    stand: &Stand,
    client: &Client,
    in_flight: usize,
    length: Duration,
) -> Result<f64, Complaint> {
    let driven = drive(stand, &Way::Library(client), in_flight, length, false).await?;
    Ok(rate(driven.in_time, length.as_secs_f64()))
}

/// How tasks are submitted.
enum Way<'a> {
    Library(&'a Client),
    Http(reqwest::Client, &'a Web),
}

impl Way<'_> {
    /// Submits one.
    async fn submit(&self, submission: Submission) -> Result<(), Complaint> {
        match self {
            Self::Library(client) => {
                // Not inside the macro: what nobody logs is not evaluated.
                let receipt = client.submit(submission).await?;
                tracing::trace!(task.id = %receipt.task.id, "Submitted");
                Ok(())
            }
            Self::Http(http, web) => {
                answered(post(http, web, &submission), StatusCode::ACCEPTED).await
            }
        }
    }

    /// Submits one and waits for its result.
    async fn submit_and_wait(&self, submission: Submission) -> Result<(), Complaint> {
        match self {
            Self::Library(client) => {
                let patience = Duration::from_secs(WAIT_S);
                let waited = client.submit_and_wait(submission, patience);
                has_ended(waited.await?, patience)
            }
            Self::Http(http, web) => {
                let request =
                    post(http, web, &submission).header("Prefer", format!("wait={WAIT_S}"));
                answered(request, StatusCode::OK).await
            }
        }
    }
}

fn post(http: &reqwest::Client, web: &Web, submission: &Submission) -> reqwest::RequestBuilder {
    let body = json!({
        "id": submission.id.map(|id| id.to_string()),
        "action": submission.action.to_string(),
        "queue": submission.queue.to_string(),
        "input": submission.input,
    });
    http.post(format!("http://{}/v1/tasks", web.address))
        .json(&body)
}

/// What has ended.
#[derive(Debug)]
struct Driven {
    /// Before the time was over.
    in_time: usize,
    /// Together with those that were in flight then.
    all: usize,
    /// How long each of those took that ended in time.
    took: Spread,
}

/// Keeps tasks in flight for `length`, and then waits for those that are. `by_events`: heard of by a tap; otherwise each has a
/// caller who waits for it.
async fn drive(
    stand: &Stand,
    way: &Way<'_>,
    in_flight: usize,
    length: Duration,
    by_events: bool,
) -> Result<Driven, Complaint> {
    let tap = if by_events { tap(stand).await? } else { None };
    match tap {
        Some(tap) => heard(stand, way, in_flight, length, tap).await,
        None => awaited(stand, way, in_flight, length).await,
    }
}

/// Each task has a caller who waits for its result.
async fn awaited(
    stand: &Stand,
    way: &Way<'_>,
    in_flight: usize,
    length: Duration,
) -> Result<Driven, Complaint> {
    let (clock, submission) = (stand.clock(), stand.submission()?);
    let one = || async {
        let begun = clock.monotonic();
        let id = TaskId::new(clock.now(), clock.random());
        let submission = Submission {
            id: Some(id),
            ..submission.clone()
        };
        way.submit_and_wait(submission).await?;
        Ok::<_, Complaint>(clock.monotonic().saturating_sub(begun))
    };
    let end = clock.monotonic() + length;
    let mut under_way: FuturesUnordered<_> = (0..in_flight).map(|_| one()).collect();
    let (mut all, mut took) = (0, Vec::new());
    while let Some(ended) = under_way.next().await {
        let ended = ended?;
        all += 1;
        if clock.monotonic() < end {
            took.push(ended);
            under_way.push(one());
        }
    }
    Ok(Driven {
        in_time: took.len(),
        all,
        took: took.into_iter().collect(),
    })
}

/// A task on its way.
struct Flying {
    since: Duration,
    is_stored: bool,
}

/// The end of a task is the event that says it.
async fn heard(
    stand: &Stand,
    way: &Way<'_>,
    in_flight: usize,
    length: Duration,
    mut tap: Tap,
) -> Result<Driven, Complaint> {
    let (clock, submission) = (stand.clock(), stand.submission()?);
    let submit = |id: TaskId| {
        let submission = Submission {
            id: Some(id),
            ..submission.clone()
        };
        async move { way.submit(submission).await.map(|()| id) }
    };
    let end = clock.monotonic() + length;
    let mut flying: HashMap<TaskId, Flying> = HashMap::with_capacity(in_flight);
    let mut submits = FuturesUnordered::new();
    let (mut all, mut took, mut moved) = (0, Vec::new(), clock.monotonic());
    let mut look = clock.sleep(LOOK_INTERVAL);
    loop {
        let now = clock.monotonic();
        while now < end && flying.len() < in_flight {
            let id = TaskId::new(clock.now(), clock.random());
            let (since, is_stored) = (now, false);
            flying.insert(id, Flying { since, is_stored });
            submits.push(submit(id));
        }
        if flying.is_empty() && submits.is_empty() {
            break;
        }
        let mut ended = Vec::new();
        tokio::select! {
            biased;
            () = &mut look => {
                ended = unheard(stand, &flying).await?;
                look = clock.sleep(LOOK_INTERVAL);
            }
            Some(stored) = submits.next() => {
                // It may have ended before its submitter was told that it is stored.
                if let Some(task) = flying.get_mut(&stored?) {
                    task.is_stored = true;
                }
            }
            seen = tap.next() => if let Some(Seen::Event { event, .. }) = seen {
                ended.push(event.task);
            }
        }
        let now = clock.monotonic();
        for task in ended.iter().filter_map(|id| flying.remove(id)) {
            (all, moved) = (all + 1, now);
            if now < end {
                took.push(now.saturating_sub(task.since));
            }
        }
        if now.saturating_sub(moved) > Duration::from_secs(WAIT_S) {
            let words = format!("{all} tasks ended, then nothing happened for {WAIT_S} s");
            return Err(Complaint::failed(words));
        }
    }
    Ok(Driven {
        in_time: took.len(),
        all,
        took: took.into_iter().collect(),
    })
}

/// Tasks that ended and whose event was missed: a tap may have gaps.
async fn unheard(
    stand: &Stand,
    flying: &HashMap<TaskId, Flying>,
) -> Result<Vec<TaskId>, Complaint> {
    let now = stand.clock().monotonic();
    let late = |task: &Flying| task.is_stored && now.saturating_sub(task.since) > UNHEARD;
    let late: Vec<TaskId> = flying
        .iter()
        .filter_map(|(id, task)| late(task).then_some(*id))
        .collect();
    if late.is_empty() {
        return Ok(late);
    }
    Ok(stand.runtime.store().ended(&late).await?)
}
