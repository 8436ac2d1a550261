//! How fast one executor works off a backlog.

use super::Complaint;
use super::args::DrainArgs;
use super::ends::{Ends, Progress};
use super::report::{Report, rate};
use super::stand::{Stand, processes, submit_all};
use super::usage::{Usage, real};

/// Submits a backlog, starts an executor, and counts what ends.
///
/// `seconds` runs from the first result to the last, so neither the start of the process nor that of the clock counts.
pub(super) async fn run(stand: &Stand, args: DrainArgs) -> Result<Report, Complaint> {
    let tasks = args.tasks.max(2);
    let (clock, output) = (stand.clock(), stand.output);
    let client = stand.client().await?;
    output.say(&format!("submitting {tasks} tasks"));
    let begun = clock.monotonic();
    submit_all(&client, &stand.submission()?, tasks).await?;
    let submitted = clock.monotonic().saturating_sub(begun);
    output.say(&format!("draining them with {} slots", args.slots));
    // Not before: reading that the backlog was created would be work of the run.
    let mut ends = Ends::of(stand).await?;
    let before = stand.meter.before(&processes([], None)).await;
    let worker = stand.executor(args.slots).await?;
    let memory = || worker.process().map_or_else(Usage::own, Usage::of);
    // What ended with the first result is not part of the rate: nobody knows when it began.
    let already = ends.more(tasks).await?;
    let (first, fresh) = (clock.monotonic(), memory());
    let (mut done, mut progress) = (already, Progress::new(output, tasks));
    while done < tasks {
        done = ends.more(tasks).await?;
        progress.at(done);
    }
    let seconds = clock.monotonic().saturating_sub(first).as_secs_f64();
    let full = memory();
    let after = stand.meter.after(&processes([&worker], None)).await;
    worker.end(clock).await;
    let counted = rate(tasks.saturating_sub(already), seconds);
    let mut report = Report::with_rate("drain", tasks, seconds, counted);
    report.add("slots", args.slots, "");
    let submits = rate(tasks, submitted.as_secs_f64());
    report.number("submitted_per_s", submits, "tasks/s");
    after.report(&before, tasks, &mut report);
    let growth = real(full.rss_kib.saturating_sub(fresh.rss_kib)) * 10_000.0 / real(tasks as u64);
    report.number("executor_rss_growth_kib_per_10k", growth, "KiB");
    Ok(report)
}
