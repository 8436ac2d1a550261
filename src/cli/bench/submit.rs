//! How fast one client gets tasks accepted: each is stored when it counts, and announced with a confirm soon after.

use super::Complaint;
use super::args::SubmitArgs;
use super::report::{Report, rate};
use super::stand::{Stand, cancel_all, processes, submit_some};
use crate::client::Client;
use crate::domain::{Submission, TaskId};

/// One by one so many fewer are submitted: it is slower by more than that.
const FEWER: usize = 10;

/// Submits one by one, with some in flight, and in batches; nobody runs what is submitted.
pub(super) async fn run(stand: &Stand, args: SubmitArgs) -> Result<Report, Complaint> {
    let client = stand.client().await?;
    let mut stored = Vec::new();
    let outcome = measured(stand, &client, args, &mut stored).await;
    stand
        .output
        .say(&format!("cancelling {} tasks", stored.len()));
    cancel_all(&client, &stored).await;
    outcome
}

async fn measured(
    stand: &Stand,
    client: &Client,
    args: SubmitArgs,
    stored: &mut Vec<TaskId>,
) -> Result<Report, Complaint> {
    let (clock, submission) = (stand.clock(), stand.submission()?);
    let tasks = args.tasks.max(1);
    // Connections are made, plans are there.
    stored.extend(submit_some(client, &submission, 1, 1).await?);
    let before = stand.meter.before(&processes([], None)).await;
    let few = (tasks / FEWER).max(1);
    let mut rates = Vec::new();
    for (name, count, way) in [
        ("one_by_one", few, Way::AtOnce(1)),
        ("in_flight", tasks, Way::AtOnce(args.in_flight.max(1))),
        ("batches", tasks, Way::Batches(args.batch.max(1))),
    ] {
        let how = match way {
            Way::AtOnce(some) => format!("{some} in flight"),
            Way::Batches(some) => format!("{some} a call"),
        };
        stand
            .output
            .say(&format!("submitting {count} tasks, {how}"));
        let begun = clock.monotonic();
        match way {
            Way::AtOnce(some) => {
                stored.extend(submit_some(client, &submission, count, some).await?);
            }
            Way::Batches(some) => in_batches(client, &submission, (count, some), stored).await?,
        }
        let took = clock.monotonic().saturating_sub(begun).as_secs_f64();
        rates.push((name, count, took));
    }
    let after = stand.meter.after(&processes([], None)).await;
    let all = rates.iter().map(|(_, count, _)| count).sum();
    let seconds = rates.iter().map(|(_, _, took)| took).sum();
    let mut report = Report::new("submit", all, seconds);
    report.add("in_flight", args.in_flight, "");
    report.add("batch", args.batch, "");
    for (name, count, took) in rates {
        let name = format!("{name}_tasks_per_s");
        report.number(&name, rate(count, took), "tasks/s");
    }
    after.report(&before, all, &mut report);
    Ok(report)
}

/// How tasks are submitted.
#[derive(Clone, Copy)]
enum Way {
    /// So many calls at once, each with one.
    AtOnce(usize),
    /// One call after the other, each with so many.
    Batches(usize),
}

async fn in_batches(
    client: &Client,
    submission: &Submission,
    (mut left, batch): (usize, usize),
    stored: &mut Vec<TaskId>,
) -> Result<(), Complaint> {
    while left > 0 {
        let some = left.min(batch);
        for receipt in client.submit_all(vec![submission.clone(); some]).await {
            stored.push(receipt?.task.id);
        }
        left -= some;
    }
    Ok(())
}
