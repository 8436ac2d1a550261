//! How fast one client gets tasks accepted: each is stored, and announced with a confirm, when it counts.

use super::Complaint;
use super::args::SubmitArgs;
use super::report::{Report, rate};
use super::stand::{Stand, cancel_all, processes, submit_some};
use crate::client::Client;
use crate::domain::TaskId;

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
    let (tasks, batch) = (args.tasks.max(1), args.batch.max(1));
    // Connections are made, plans are there.
    stored.extend(submit_some(client, &submission, 1, 1).await?);
    let before = stand.meter.before(&processes([], None)).await;
    let mut rates = Vec::new();
    let few = (tasks / FEWER).max(1);
    for (what, count, at_once) in [
        ("one by one", few, 1),
        ("in flight", tasks, args.in_flight.max(1)),
    ] {
        stand
            .output
            .say(&format!("submitting {count} tasks, {at_once} {what}"));
        let begun = clock.monotonic();
        stored.extend(submit_some(client, &submission, count, at_once).await?);
        let took = clock.monotonic().saturating_sub(begun).as_secs_f64();
        rates.push((count, took));
    }
    stand
        .output
        .say(&format!("submitting {tasks} tasks, {batch} a call"));
    let begun = clock.monotonic();
    let mut left = tasks;
    while left > 0 {
        let some = left.min(batch);
        for receipt in client.submit_all(vec![submission.clone(); some]).await {
            stored.push(receipt?.task.id);
        }
        left -= some;
    }
    rates.push((tasks, clock.monotonic().saturating_sub(begun).as_secs_f64()));
    let after = stand.meter.after(&processes([], None)).await;
    let (all, seconds) = rates
        .iter()
        .fold((0, 0.0), |(all, seconds), (count, took)| {
            (all + count, seconds + took)
        });
    let mut report = Report::new("submit", all, seconds);
    report.add("in_flight", args.in_flight, "");
    report.add("batch", args.batch, "");
    let names = ["one_by_one", "in_flight", "batches"];
    for (name, (count, took)) in names.into_iter().zip(rates) {
        let name = format!("{name}_tasks_per_s");
        report.number(&name, rate(count, took), "tasks/s");
    }
    after.report(&before, all, &mut report);
    Ok(report)
}
