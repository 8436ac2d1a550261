//! How long an executor takes from its start to the end of its first task.

use std::time::Duration;

use super::Complaint;
use super::args::StartArgs;
use super::report::{Report, Spread};
use super::stand::{Stand, has_ended, processes};

/// Slots of each executor.
const SLOTS: u16 = 8;

/// How long a start may take before the run is called broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts executors one after the other, each with a task that waits for it.
pub(super) async fn run(stand: &Stand, args: StartArgs) -> Result<Report, Complaint> {
    let (clock, client) = (stand.clock(), stand.client().await?);
    let words = format!("starting {} executors, one after the other", args.rounds);
    stand.output.say(&words);
    let before = stand.meter.before(&processes([], None)).await;
    let begun = clock.monotonic();
    let mut took = Vec::with_capacity(args.rounds.into());
    for _ in 0..args.rounds {
        let task = client.submit(stand.submission()?).await?.task.id;
        let started = clock.monotonic();
        let worker = stand.executor(SLOTS).await?;
        let waited = client.wait(task, PATIENCE).await?;
        took.push(clock.monotonic().saturating_sub(started));
        worker.end(clock).await;
        has_ended(waited, PATIENCE)?;
    }
    let seconds = clock.monotonic().saturating_sub(begun).as_secs_f64();
    let after = stand.meter.after(&processes([], None)).await;
    let mut report = Report::new("start", took.len(), seconds);
    report.spread("start", &took.iter().copied().collect::<Spread>());
    after.report(&before, took.len(), &mut report);
    Ok(report)
}
