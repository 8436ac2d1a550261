//! Benchmarks, tiny: what they count and the shape of what they write; never how fast anything is.

use std::time::Duration;

use serde_json::Value;

use super::{Ran, Shell};
use crate::support::database::fresh_database;
use crate::support::rabbitmq::Rabbit;

/// How long a run may take: it starts processes, and RabbitMQ's counts come late.
const RUN_MAX: Duration = Duration::from_mins(2);

/// What every scenario writes.
const ALWAYS: [&str; 4] = ["scenario", "tasks", "seconds", "tasks_per_s"];

/// What a run costs, as far as PostgreSQL and Linux tell it.
const COSTS: [&str; 5] = [
    "client_cpu_s_per_10k",
    "broker_cpu_s_per_10k",
    "store_cpu_s_per_10k",
    "store_commits_per_task",
    "store_wal_bytes_per_task",
];

/// What RabbitMQ's management interface tells.
const MESSAGES: [&str; 2] = ["amqp_published_per_task", "amqp_delivered_per_task"];

/// A shell with PostgreSQL and RabbitMQ.
async fn servers() -> Shell {
    let vhost = Rabbit::shared().vhost().await;
    Shell::new()
        .with("DATABASE_URL", fresh_database().await)
        .with("AMQP_URL", vhost.url())
}

/// A shell with a file that is not there yet, and the embedded broker.
fn embedded() -> Shell {
    Shell::new()
        .with("DATABASE_URL", "sqlite:bench.db")
        .with("AMQP_URL", "embedded")
}

async fn run(shell: &Shell, line: &str) -> Ran {
    let words: Vec<&str> = line.split_whitespace().collect();
    shell.run_within(RUN_MAX, &words, "").await
}

/// Runs a scenario; its report.
async fn bench(shell: &Shell, line: &str) -> Value {
    let ran = run(shell, &format!("bench {line} -o json")).await;
    let report = ran.with_status(0).json();
    let scenario = line.split_whitespace().next().unwrap();
    assert_eq!(report["scenario"], scenario, "{report}");
    for name in ALWAYS {
        assert!(!report[name].is_null(), "{name}: {report}");
    }
    assert!(number(&report, "seconds") >= 0.0, "{report}");
    report
}

#[track_caller]
fn number(report: &Value, name: &str) -> f64 {
    let number = report[name].as_f64();
    number.unwrap_or_else(|| panic!("`{name}` is no number: {report}"))
}

/// Its numbers of that name are there and grow with the share.
#[track_caller]
fn is_spread(report: &Value, name: &str) {
    let at = |share| number(report, &format!("{name}_p{share}_ms"));
    let is_sorted = at(50) > 0.0 && at(50) <= at(95) && at(95) <= at(99);
    assert!(is_sorted, "{name}: {report}");
}

#[tokio::test]
async fn a_backlog_is_drained_and_its_cost_told_apart() {
    let management = Rabbit::shared().management();
    let shell = servers()
        .await
        .with("LONGSHORE_BROKER_MANAGEMENT_URL", management);
    let report = bench(&shell, "drain --tasks 50 --slots 8").await;
    assert_eq!(
        (&report["tasks"], &report["slots"]),
        (&50.into(), &8.into())
    );
    for name in COSTS.iter().chain(&MESSAGES) {
        assert!(number(&report, name) >= 0.0, "{report}");
    }
    assert!(number(&report, "executor_cpu_s_per_10k") > 0.0, "{report}");
    assert!(number(&report, "executor_rss_mib") > 1.0, "{report}");
    // Each task was claimed and settled, and told of: batches are smaller than 50 of them.
    assert!(number(&report, "store_commits_per_task") > 0.02, "{report}");
    assert!(
        number(&report, "store_wal_bytes_per_task") > 100.0,
        "{report}"
    );
    assert!(
        number(&report, "amqp_published_per_task") > 0.02,
        "{report}"
    );
    assert!(
        number(&report, "amqp_delivered_per_task") >= 1.0,
        "{report}"
    );
    assert!(report.get("not_measured").is_none(), "{report}");
}

#[tokio::test]
async fn what_cannot_be_counted_is_null_with_the_reason() {
    let shell = servers().await;
    let report = bench(&shell, "drain --tasks 20 --slots 4").await;
    for name in MESSAGES {
        assert!(report[name].is_null(), "{report}");
        let reason = report["not_measured"][name].as_str().unwrap();
        assert!(reason.contains("`broker.management_url`"), "{report}");
    }
    let ran = run(&shell, "bench drain --tasks 20 --slots 4").await;
    let ran = ran.with_status(0);
    let row = |name: &str| -> Vec<String> {
        let mut lines = ran.out.lines();
        let line = lines.find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no `{name}`: {ran}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("MEASURE"), ["MEASURE", "VALUE", "UNIT"]);
    assert_eq!(row("tasks"), ["tasks", "20"]);
    assert_eq!(row("tasks_per_s")[2], "tasks/s");
    let missing = row("amqp_published_per_task").join(" ");
    assert!(missing.contains("- not measured: RabbitMQ"), "{ran}");
}

#[tokio::test]
async fn tasks_are_kept_in_flight_through_the_library() {
    let shell = servers().await;
    let line = "sustained --seconds 1 --in-flight 16 --slots 16";
    for line in [line.to_owned(), format!("{line} --events")] {
        let report = bench(&shell, &line).await;
        assert_eq!(report["through"], "library", "{report}");
        assert!(number(&report, "tasks") > 0.0, "{report}");
        assert!(number(&report, "tasks_per_s") > 0.0, "{report}");
        is_spread(&report, "latency");
    }
}

#[tokio::test]
async fn tasks_are_kept_in_flight_over_http() {
    let shell = servers().await;
    let line = "sustained --seconds 1 --in-flight 16 --slots 16 --http";
    for line in [line.to_owned(), format!("{line} --events")] {
        let report = bench(&shell, &line).await;
        assert_eq!(report["through"], "http", "{report}");
        assert!(number(&report, "tasks") > 0.0, "{report}");
        assert!(number(&report, "web_cpu_s_per_10k") > 0.0, "{report}");
        is_spread(&report, "latency");
    }
}

#[tokio::test]
async fn a_caller_waits_at_rest() {
    let shell = servers().await;
    for (line, through) in [("", "http"), ("--library", "library")] {
        let report = bench(&shell, &format!("latency --tasks 20 {line}")).await;
        assert_eq!(report["through"], through, "{report}");
        assert_eq!(report["tasks"], 20, "{report}");
        assert!(report.get("load_tasks_per_s").is_none(), "{report}");
        // Each is stored, claimed and settled in a transaction of its own: nothing else is there to share it with.
        assert!(number(&report, "store_commits_per_task") >= 3.0, "{report}");
        is_spread(&report, "wait");
    }
}

#[tokio::test]
async fn a_caller_waits_while_others_run() {
    let shell = servers().await;
    let report = bench(&shell, "latency --tasks 20 --library --rate 50").await;
    assert_eq!(report["load_asked_tasks_per_s"], 50.0, "{report}");
    assert!(number(&report, "load_tasks_per_s") > 0.0, "{report}");
    is_spread(&report, "wait");
    let report = bench(&shell, "latency --tasks 20 --load 10").await;
    assert!(number(&report, "sustained_tasks_per_s") > 0.0, "{report}");
    let asked = number(&report, "load_asked_tasks_per_s");
    assert!(asked < number(&report, "sustained_tasks_per_s"), "{report}");
    is_spread(&report, "wait");
}

#[tokio::test]
async fn sub_tasks_are_held_against_plain_tasks() {
    let shell = servers().await;
    let report = bench(&shell, "fanout --tasks 50 --limit 10 --slots 8").await;
    assert_eq!(report["tasks"], 50, "{report}");
    assert_eq!(report["in_flight_max"], 10, "{report}");
    assert!(number(&report, "share") > 0.0, "{report}");
    assert!(number(&report, "one_by_one_tasks_per_s") > 0.0, "{report}");
    assert!(number(&report, "store_commits_per_task") > 0.0, "{report}");
    let report = bench(&shell, "fanout --tasks 50").await;
    assert!(report["in_flight_max"].is_null(), "{report}");
}

#[tokio::test]
async fn suspended_tasks_are_weighed_and_woken() {
    let shell = servers().await;
    let report = bench(&shell, "suspend --tasks 100").await;
    assert_eq!(report["tasks"], 100, "{report}");
    assert!(number(&report, "rss_growth_kib_per_10k") >= 0.0, "{report}");
    assert!(number(&report, "executor_cpu_s_per_10k") > 0.0, "{report}");
    is_spread(&report, "wake");
}

#[tokio::test]
async fn idle_executors_are_counted() {
    let shell = servers().await;
    for line in ["--executors 2", "--executors 2 --in-process"] {
        let line = format!("idle {line} --seconds 1 --warm-up 0");
        let report = bench(&shell, &line).await;
        assert_eq!(report["executors"], 2, "{report}");
        assert_eq!(report["tasks"], 0, "{report}");
        let all = number(&report, "store_transactions_per_min");
        let each = number(&report, "store_transactions_per_min_and_executor");
        assert!((all - 2.0 * each).abs() < 1.0, "{report}");
    }
}

#[tokio::test]
async fn the_tasks_of_a_killed_executor_run_elsewhere() {
    let shell = servers().await;
    let report = bench(&shell, "takeover --rounds 1 --tasks 4 --warm-up 0").await;
    // At least half of them ran on the one that was killed.
    let taken = number(&report, "tasks");
    assert!((2.0..=4.0).contains(&taken), "{report}");
    assert_eq!(report["doubled_runs"], 0, "{report}");
    is_spread(&report, "takeover");
}

#[tokio::test]
async fn without_servers_everything_runs_in_one_process() {
    let shell = embedded();
    let report = bench(&shell, "drain --tasks 200").await;
    assert_eq!(report["tasks"], 200, "{report}");
    for name in &COSTS[1..] {
        assert!(report["not_measured"][name].is_string(), "{name}: {report}");
    }
    for line in [
        "sustained --seconds 1 --in-flight 8",
        "sustained --seconds 1 --http --in-flight 8",
    ] {
        let report = bench(&shell, line).await;
        assert!(number(&report, "tasks") > 0.0, "{report}");
        is_spread(&report, "latency");
    }
    let report = bench(&shell, "latency --tasks 10").await;
    is_spread(&report, "wait");
    let shell = shell.with("DATABASE_URL", "sqlite::memory:");
    bench(&shell, "drain --tasks 200").await;
    let refused = run(&shell, "bench takeover").await.with_status(2);
    assert!(refused.err.contains("several processes"), "{refused}");
    let refused = run(&shell, "bench drain --inject-latency 1ms").await;
    let refused = refused.with_status(2);
    assert!(refused.err.contains("there are none"), "{refused}");
}

#[tokio::test]
async fn without_a_broker_rows_are_counted() {
    let shell = Shell::new()
        .with("DATABASE_URL", fresh_database().await)
        .with("AMQP_URL", "none");
    let report = bench(&shell, "drain --tasks 30 --slots 8").await;
    assert_eq!(report["tasks"], 30, "{report}");
    let reason = &report["not_measured"]["amqp_published_per_task"];
    assert_eq!(reason, "there is no broker", "{report}");
}

#[tokio::test]
async fn servers_can_be_moved_away() {
    let shell = servers().await;
    let line = "latency --tasks 5 --library --inject-latency 20ms";
    let report = bench(&shell, line).await;
    assert_eq!(report["injected_latency_ms"], 20.0, "{report}");
    // A task is stored, claimed and settled one after the other: three round trips at least, of 40 ms each.
    assert!(number(&report, "wait_p50_ms") >= 3.0 * 39.0, "{report}");
    // The servers' own processes are found all the same.
    assert!(number(&report, "store_cpu_s_per_10k") >= 0.0, "{report}");
    let refused = run(&shell, "bench drain --inject-latency 1d").await;
    let refused = refused.with_status(2);
    assert!(refused.err.contains("`--inject-latency`"), "{refused}");
}

#[tokio::test]
async fn submissions_are_counted_and_nothing_is_left_of_them() {
    let shell = servers().await;
    let report = bench(&shell, "submit --tasks 40 --in-flight 8 --batch 10").await;
    assert_eq!(report["tasks"], 84, "{report}");
    for way in ["one_by_one", "in_flight", "batches"] {
        let name = format!("{way}_tasks_per_s");
        assert!(number(&report, &name) > 0.0, "{report}");
    }
    let open = run(&shell, "task list --state ready -o json").await;
    assert_eq!(open.with_status(0).out.trim(), "[]");
}

#[tokio::test]
async fn starts_are_timed_to_the_end_of_the_first_task() {
    let shell = servers().await;
    let report = bench(&shell, "start --rounds 2").await;
    assert_eq!(report["tasks"], 2, "{report}");
    is_spread(&report, "start");
}
