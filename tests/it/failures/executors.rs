//! Executors that die, and executors that freeze.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::eventually::eventually_within;
use crate::support::fleet::{Fleet, Way, Web, is_running};
use crate::support::gate::{gated, open_gate, open_gate_for, pids, result_of, runs};

/// A lease, a look of a housekeeper, and a busy machine.
const TAKE_OVER_PATIENCE: Duration = Duration::from_mins(1);

/// Seconds of a lease.
const LEASE_SECONDS: f64 = 15.0;

/// The flags of an executor that runs shell scripts.
const SHELL: [&str; 2] = ["--allow-command", "sh"];

/// A gated command that may run only once, and what follows if it is lost.
fn once(fleet: &Fleet, name: &str, on_failure: &str) -> Value {
    let mut task = gated(fleet, name);
    task["delivery"] = json!("once");
    task["on_failure"] = json!(on_failure);
    task
}

/// Waits until a task is in `state`, for as long as taking over takes.
async fn is_taken_over(web: &Web, id: &str, state: &str, attempt: u32) -> Value {
    let path = format!("/v1/tasks/{id}");
    let what = format!("`{id}` is {state} in attempt {attempt}");
    let look = async || web.read(&path).await.1;
    let is_right = |task: &Value| task["state"] == state && task["attempt"] == attempt;
    eventually_within(TAKE_OVER_PATIENCE, &what, look, is_right).await
}

#[tokio::test]
async fn kill_9_of_an_executor_in_the_middle_of_a_task() {
    let fleet = Fleet::begin().await;
    let mut tap = fleet.tap().await;
    let web = fleet.web("w1").await;
    let mut first = fleet.executor("x1", &SHELL).await;
    let again = web.submit(&gated(&fleet, "again")).await;
    let failing = web.submit(&once(&fleet, "failing", "fail")).await;
    let pausing = web.submit(&once(&fleet, "pausing", "pause")).await;
    for name in ["again", "failing", "pausing"] {
        pids(&fleet, name, 1).await;
    }
    first.kill();
    let second = fleet.executor("x2", &SHELL).await;
    let failed = is_taken_over(&web, &failing, "failed", 1).await;
    let paused = is_taken_over(&web, &pausing, "paused", 1).await;
    for task in [&failed, &paused] {
        let error = task["error"]["message"].as_str().unwrap();
        assert!(
            error.contains("`x1`") && error.contains("`once`"),
            "{error}"
        );
    }
    let pids = pids(&fleet, "again", 2).await;
    open_gate(&fleet, "again");
    let task = web.finished(&again).await;
    assert_eq!(
        (&task["state"], &task["attempt"], &task["output"]["stdout"]),
        (&json!("succeeded"), &json!(2), &result_of(&pids[1]))
    );
    fleet.is_idle().await;
    tap.listen_to_the_end(&web).await;
    let results = |id: &str, kind: &str| tap.kinds(id).iter().filter(|it| **it == kind).count();
    assert_eq!(results(&again, "succeeded"), 1, "{:?}", tap.kinds(&again));
    for name in ["failing", "pausing"] {
        assert_eq!(runs(&fleet, name).len(), 1, "`{name}` ran again");
    }
    tap.close().await;
    drop(second);
}

#[tokio::test]
async fn host_of_an_executor_loses_its_power() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let (store, broker) = (fleet.store_proxy(), fleet.broker_proxy());
    let way = Way {
        store: Some(&store),
        broker: Some(&broker),
    };
    let mut first = fleet.executor_by(way, "x1", &SHELL).await;
    let again = web.submit(&gated(&fleet, "again")).await;
    let only_once = web.submit(&once(&fleet, "once", "fail")).await;
    for name in ["again", "once"] {
        pids(&fleet, name, 1).await;
    }
    let second = fleet.executor("x2", &SHELL).await;
    // Nobody closes its connections, and no packet of it comes any more.
    first.signal(Signal::SIGSTOP);
    store.hold();
    broker.hold();
    let lease_end = fleet.ledger().lease_end("x1").await;
    let failed = is_taken_over(&web, &only_once, "failed", 1).await;
    let error = failed["error"]["message"].as_str().unwrap();
    assert!(error.contains("`x1`"), "{error}");
    let pids = pids(&fleet, "again", 2).await;
    let late = fleet.ledger().task(&again).await.started_at.unwrap() - lease_end;
    // The lease is the authority: nothing sooner. Later by a look of a housekeeper who has known the store for no longer.
    assert!(
        (0.0..LEASE_SECONDS).contains(&late),
        "begun {late} s after the lease"
    );
    open_gate(&fleet, "again");
    let task = web.finished(&again).await;
    assert_eq!(
        (&task["state"], &task["attempt"], &task["output"]["stdout"]),
        (&json!("succeeded"), &json!(2), &result_of(&pids[1]))
    );
    assert_eq!(runs(&fleet, "once").len(), 1);
    first.kill();
    // The broker still waits for what it lent to the host.
    drop((store, broker));
    fleet.is_idle().await;
    drop(second);
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "how long it took shall be seen")]
async fn kill_9_of_an_executor_is_noticed_in_about_a_second() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let second = fleet.executor("x2", &SHELL).await;
    // It must have been connected for a while: an outage must not look like everyone's death.
    let ledger = fleet.ledger();
    let begun = ledger.lease_end("x2").await;
    let look = async || ledger.lease_end("x2").await;
    let is_older = |end: &f64| *end > begun + 15.0;
    eventually_within(TAKE_OVER_PATIENCE, "it is ten seconds old", look, is_older).await;
    fleet.create_queue("own");
    let mut first = fleet
        .executor("x1", &["--allow-command", "sh", "--queue", "own=1"])
        .await;
    let third = fleet
        .executor("x3", &["--allow-command", "sh", "--queue", "own=1"])
        .await;
    let mut task = gated(&fleet, "again");
    task["queue"] = json!("own");
    let id = web.submit(&task).await;
    let id_of = |line: Value| line["executor.id"].as_str().unwrap().to_owned();
    let (runner, other) = (first.said("serves").await, third.said("serves").await);
    let pid = pids(&fleet, "again", 1).await.remove(0);
    assert!(is_running(&pid));
    let running = web.until(&id, "running").await;
    let mut third = third;
    let dead = if running["executor"] == json!(id_of(runner)) {
        &mut first
    } else {
        assert_eq!(running["executor"], json!(id_of(other)));
        &mut third
    };
    let executor = running["executor"].as_str().unwrap().parse().unwrap();
    let (owned, killed_at) = ledger.running_for(executor).await;
    assert_eq!(owned.len(), 1);
    dead.kill();
    pids(&fleet, "again", 2).await;
    let started_at = ledger.task(&id).await.started_at.unwrap();
    let seconds = started_at - killed_at;
    eprintln!("the next attempt began {seconds:.2} s after the kill");
    // Without a notice it takes what is left of the lease, which is ten seconds at least.
    assert!(seconds < 5.0, "taken over after {seconds} s");
    drop(second);
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "how long it took shall be seen")]
async fn kill_9_of_an_executor_whose_broker_is_away_is_noticed_before_its_lease_ends() {
    let fleet = Fleet::begin().await;
    fleet.create_queue("own");
    let web = fleet.web("w1").await;
    let own = ["--allow-command", "sh", "--queue", "own=1"];
    let way = Way {
        store: None,
        broker: Some(&fleet.broker_proxy()),
    };
    let mut first = fleet.executor_by(way, "x1", &own).await;
    let mut task = gated(&fleet, "again");
    task["queue"] = json!("own");
    let id = web.submit(&task).await;
    pids(&fleet, "again", 1).await;
    let second = fleet.executor("x2", &own).await;
    // Of this death the broker tells nobody: it has taken the token back before, and the lease said that x1 lives.
    way.broker.unwrap().refuse();
    first.said("the broker is away").await;
    let ledger = fleet.ledger();
    let lives_on = ledger.lease_end("x1").await + 7.0;
    let look = async || ledger.lease_end("x1").await;
    eventually_within(TAKE_OVER_PATIENCE, "it lives on", look, |end| {
        *end > lives_on
    })
    .await;
    assert_eq!(runs(&fleet, "again").len(), 1, "it is not taken for dead");
    first.kill();
    let lease = ledger.lease_end("x1").await;
    pids(&fleet, "again", 2).await;
    let left = lease - ledger.task(&id).await.started_at.unwrap();
    eprintln!("the next attempt began {left:.2} s before the lease would have ended");
    assert!(left > 2.0, "{left} s");
    open_gate(&fleet, "again");
    assert_eq!(web.finished(&id).await["attempt"], 2);
    drop(second);
}

#[tokio::test]
async fn executor_frozen_past_its_lease_then_continued() {
    let fleet = Fleet::begin().await;
    fleet.create_queue("own");
    let web = fleet.web("w1").await;
    let own = [&SHELL[..], &["--queue", "default=4", "--queue", "own=1"]].concat();
    let first = fleet.executor("x1", &own).await;
    let late = web.submit(&gated(&fleet, "late")).await;
    let running = web.submit(&gated(&fleet, "running")).await;
    let once = web.submit(&once(&fleet, "once", "fail")).await;
    let (late_pid, running_pid, once_pid) = (
        pids(&fleet, "late", 1).await.remove(0),
        pids(&fleet, "running", 1).await.remove(0),
        pids(&fleet, "once", 1).await.remove(0),
    );
    first.signal(Signal::SIGSTOP);
    let second = fleet.executor("x2", &SHELL).await;
    let new_late = pids(&fleet, "late", 2).await.remove(1);
    let new_running = pids(&fleet, "running", 2).await.remove(1);
    is_taken_over(&web, &once, "failed", 1).await;
    // The programs are not frozen: these end, and their executor finds their results when it goes on.
    open_gate_for(&fleet, "late", &late_pid);
    open_gate_for(&fleet, "once", &once_pid);
    for pid in [&late_pid, &once_pid] {
        let look = async || is_running(pid);
        eventually_within(TAKE_OVER_PATIENCE, "the program ends", look, |it| !it).await;
    }
    first.signal(Signal::SIGCONT);
    first.said("came too late").await;
    let look = async || is_running(&running_pid);
    eventually_within(TAKE_OVER_PATIENCE, "the attempt is cancelled", look, |it| {
        !it
    })
    .await;
    assert_eq!(web.until(&late, "running").await["attempt"], 2);
    open_gate_for(&fleet, "late", &new_late);
    open_gate_for(&fleet, "running", &new_running);
    for (id, pid) in [(&late, &new_late), (&running, &new_running)] {
        let task = web.finished(id).await;
        assert_eq!(
            (&task["state"], &task["attempt"], &task["output"]["stdout"]),
            (&json!("succeeded"), &json!(2), &result_of(pid))
        );
    }
    let task = web.finished(&once).await;
    assert_eq!(
        (&task["state"], &task["attempt"]),
        (&json!("failed"), &json!(1))
    );
    assert_eq!(runs(&fleet, "once").len(), 1);
    // It works again: nobody else serves this queue.
    let task = web.run(&json!({"action": "echo", "queue": "own"})).await;
    assert_eq!(task["state"], "succeeded");
    fleet.is_idle().await;
    drop(second);
}
