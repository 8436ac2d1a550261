//! What executors cost that have nothing to do.

use std::time::Duration;

use super::args::IdleArgs;
use super::measure::Reading;
use super::report::Report;
use super::stand::{Stand, Worker, processes};
use super::usage::real;
use super::{Complaint, seconds};
use crate::domain::ExecutorState;

/// How long all executors may take to start.
const START_PATIENCE: Duration = Duration::from_mins(2);

/// How often it is looked whether all have started.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Slots of each executor.
const SLOTS: u16 = 8;

/// Starts executors, lets them come to rest, and counts what they ask for.
pub(super) async fn run(stand: &Stand, args: IdleArgs) -> Result<Report, Complaint> {
    let (length, warm_up) = (
        seconds(args.seconds, "seconds")?,
        seconds(args.warm_up, "warm-up")?,
    );
    let (clock, output) = (stand.clock(), stand.output);
    let wanted = usize::from(args.executors);
    let before_them = live(stand).await?;
    let mut workers = Vec::with_capacity(wanted);
    for number in 1..=args.executors {
        workers.push(if args.in_process || !stand.has_processes() {
            stand.executor_here(SLOTS).await?
        } else {
            stand.executor_process(&format!("bench-{number}"), SLOTS)?
        });
    }
    output.say(&format!("{wanted} executors start"));
    let begun = clock.monotonic();
    loop {
        let started = live(stand).await?.saturating_sub(before_them);
        if started >= wanted {
            break;
        }
        if clock.monotonic().saturating_sub(begun) > START_PATIENCE {
            return Err(Complaint::failed(format!(
                "only {started} of {wanted} executors have started"
            ))
            .with_hint(
                "each process needs some connections to the store (`max_connections` of PostgreSQL); with \
                 `--in-process` they share those of one",
            ));
        }
        clock.sleep(LOOK_INTERVAL).await;
    }
    let words = format!("counting for {} s, after {} s", args.seconds, args.warm_up);
    output.say(&words);
    clock.sleep(warm_up).await;
    let processes = processes(&workers, None);
    let before = stand.meter.read(&processes).await;
    let begun = clock.monotonic();
    clock.sleep(length).await;
    let after = stand.meter.read(&processes).await;
    let minutes = clock.monotonic().saturating_sub(begun).as_secs_f64() / 60.0;
    let ends = workers.into_iter().map(|worker: Worker| worker.end(clock));
    futures_util::future::join_all(ends).await;
    Ok(report(wanted, minutes, &before, &after))
}

fn report(executors: usize, minutes: f64, before: &Reading, after: &Reading) -> Report {
    let mut report = Report::new("idle", 0, minutes * 60.0);
    report.add("executors", executors, "");
    let each = real(executors.max(1) as u64);
    let mut count = |name: &str, number: Result<u64, String>, unit: &'static str| {
        let number = number.map(|number| real(number) / minutes);
        report.measured(&format!("{name}_per_min"), number.clone(), unit);
        let number = number.map(|number| number / each);
        report.measured(&format!("{name}_per_min_and_executor"), number, unit);
    };
    // The reading before is a transaction as well.
    let transactions = after.grown(before, |store| store.transactions);
    let transactions = transactions.map(|transactions| transactions.saturating_sub(1));
    count("store_transactions", transactions, "transactions");
    count(
        "store_commits",
        after.grown(before, |store| store.writes),
        "commits",
    );
    count(
        "store_wal_bytes",
        after.grown(before, |store| store.wal_bytes),
        "bytes",
    );
    count(
        "amqp_published",
        after.carried(before, |traffic| traffic.published),
        "messages",
    );
    count(
        "amqp_delivered",
        after.carried(before, |traffic| traffic.delivered),
        "messages",
    );
    let mut cpu = |name: &str, seconds: Result<f64, String>| {
        let per_min = seconds.map(|seconds| seconds.max(0.0) / minutes);
        report.measured(name, per_min, "CPU s");
    };
    cpu("executors_cpu_s_per_min", after.executor_cpu_s(before));
    cpu("broker_cpu_s_per_min", after.broker_cpu_s(before));
    cpu("store_cpu_s_per_min", after.store_cpu_s(before));
    let (processes, rss_mib) = after.executor_rss_mib();
    if processes > 0 {
        report.number("executor_rss_mib", rss_mib / real(processes), "MiB");
    }
    report
}

/// How many executors live.
async fn live(stand: &Stand) -> Result<usize, Complaint> {
    let executors = stand.runtime.store().executors().await?;
    let live = executors
        .iter()
        .filter(|executor| executor.state == ExecutorState::Live);
    Ok(live.count())
}
