//! Executors that lose one of their servers, while the others keep theirs.

use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicNackOptions};
use lapin::{Connection, ConnectionProperties};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::eventually::{eventually, eventually_within};
use crate::support::fleet::{Fleet, Way, Web, is_running};
use crate::support::gate::{gated, open_gate, open_gate_for, pids, result_of, runs};
use crate::support::world::PATIENCE;

/// A lease, a look of a housekeeper, and a busy machine.
const TAKE_OVER_PATIENCE: Duration = Duration::from_mins(1);

/// Seconds of a lease.
const LEASE_SECONDS: f64 = 15.0;

/// The flags of an executor that runs shell scripts, and alone serves the queue `own`.
const OWN: [&str; 6] = [
    "--allow-command",
    "sh",
    "--queue",
    "default=4",
    "--queue",
    "own=1",
];

/// Runs a task that only the executor of the queue `own` can run.
async fn runs_its_own(web: &Web) {
    let task = web.run(&json!({"action": "echo", "queue": "own"})).await;
    assert_eq!(task["state"], "succeeded", "{task}");
}

#[tokio::test]
async fn executor_s_broker_connection_cut_its_store_connection_alive() {
    let fleet = Fleet::begin().await;
    fleet.create_queue("own");
    let web = fleet.web("w1").await;
    let proxy = fleet.broker_proxy();
    let way = Way {
        broker: Some(&proxy),
        ..Way::default()
    };
    let first = fleet.executor_by(way, "x1", &OWN).await;
    let task = web.submit(&gated(&fleet, "kept")).await;
    let pid = pids(&fleet, "kept", 1).await.remove(0);
    let second = fleet.executor("x2", &["--allow-command", "sh"]).await;
    let ledger = fleet.ledger();
    let lease_end = ledger.lease_end("x1").await;
    proxy.refuse();
    first.said("the broker is away").await;
    // It takes work meanwhile, which it finds in the store.
    runs_its_own(&web).await;
    // It renews its lease: more than a whole one later it is still its.
    let look = async || ledger.lease_end("x1").await;
    let is_later = |end: &f64| *end > lease_end + LEASE_SECONDS + 1.0;
    eventually_within(TAKE_OVER_PATIENCE, "it renews its lease", look, is_later).await;
    proxy.resume();
    first.said("the broker is back").await;
    runs_its_own(&web).await;
    assert_eq!(runs(&fleet, "kept").len(), 1);
    open_gate(&fleet, "kept");
    let task = web.finished(&task).await;
    assert_eq!(
        (&task["state"], &task["attempt"], &task["output"]["stdout"]),
        (&json!("succeeded"), &json!(1), &result_of(&pid))
    );
    // By the broker again: what was announced meanwhile is taken out of its queue.
    fleet.is_idle().await;
    let said = ["the broker is away", "the broker is back"].map(|words| first.times_said(words));
    assert_eq!(said, [1, 1]);
    drop(second);
}

#[tokio::test]
async fn its_store_connection_cut() {
    let fleet = Fleet::begin().await;
    fleet.create_queue("own");
    let web = fleet.web("w1").await;
    let proxy = fleet.store_proxy();
    let way = Way {
        store: Some(&proxy),
        ..Way::default()
    };
    let first = fleet.executor_by(way, "x1", &OWN).await;
    let mut once = gated(&fleet, "once");
    once["delivery"] = json!("once");
    let once = web.submit(&once).await;
    let again = web.submit(&gated(&fleet, "again")).await;
    let once_pid = pids(&fleet, "once", 1).await.remove(0);
    let late_pid = pids(&fleet, "again", 1).await.remove(0);
    let second = fleet.executor("x2", &["--allow-command", "sh"]).await;
    proxy.hold();
    let look = async || is_running(&once_pid);
    eventually_within(
        TAKE_OVER_PATIENCE,
        "what may run only once is stopped",
        look,
        |it| !it,
    )
    .await;
    let left = fleet.ledger().lease_left("x1").await;
    assert!(left > 0.0, "stopped {left} s too late");
    let pid = pids(&fleet, "again", 2).await.remove(1);
    // The first attempt comes to its end, and cannot say so yet.
    open_gate_for(&fleet, "again", &late_pid);
    let look = async || is_running(&late_pid);
    eventually("the first attempt ends", look, |it| !it).await;
    proxy.resume();
    first.said("came too late").await;
    assert_eq!(web.until(&again, "running").await["attempt"], 2);
    open_gate_for(&fleet, "again", &pid);
    let task = web.finished(&again).await;
    assert_eq!(
        (&task["state"], &task["attempt"], &task["output"]["stdout"]),
        (&json!("succeeded"), &json!(2), &result_of(&pid))
    );
    let task = web.finished(&once).await;
    assert_eq!(
        (&task["state"], &task["attempt"]),
        (&json!("failed"), &json!(1))
    );
    let error = task["error"]["message"].as_str().unwrap();
    assert!(
        error.contains("`x1`") && error.contains("`once`"),
        "{error}"
    );
    assert_eq!(runs(&fleet, "once"), [once_pid]);
    runs_its_own(&web).await;
    fleet.is_idle().await;
    drop(second);
}

#[tokio::test]
async fn work_queue_deleted_under_its_consumers() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet
        .executor("x1", &["--queue", "default=1", "--queue", "bulk=4"])
        .await;
    let task = json!({"action": "echo", "queue": "bulk"});
    web.run(&task).await;
    fleet.vhost.delete_queue("longshore.work.bulk").await;
    executor.said("lost a consumer").await;
    let mut tap = fleet.tap().await;
    // What nobody can announce any more is found in the store.
    let mut ids = Vec::new();
    for _ in 0..20 {
        let task = web.run(&task).await;
        assert_eq!(
            (&task["state"], &task["attempt"]),
            (&json!("succeeded"), &json!(1))
        );
        ids.push(task["id"].as_str().unwrap().to_owned());
    }
    let unrouted = || async { fleet.vhost.depth("longshore.unrouted").await };
    eventually("what has no queue is kept", unrouted, |depth| {
        *depth == Some(20)
    })
    .await;
    fleet.create_queue("bulk");
    let consumers = async || {
        let path = format!("queues/{}/longshore.work.bulk", fleet.vhost.name);
        let queue = fleet
            .vhost
            .rabbit
            .call(reqwest::Method::GET, &path, Value::Null)
            .await;
        queue["consumers"].clone()
    };
    eventually_within(PATIENCE * 2, "it is consumed again", consumers, |seen| {
        *seen == 1
    })
    .await;
    let task = web.run(&task).await;
    assert_eq!(task["state"], "succeeded");
    tap.listen_to_the_end(&web).await;
    assert_eq!(tap.announcements_max(), 1);
    tap.close().await;
    drop(executor);
}

#[tokio::test]
async fn announcement_that_reached_its_delivery_limit() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let mut first = fleet.executor("x1", &[]).await;
    web.run(&json!({"action": "echo"})).await;
    first.signal(Signal::SIGTERM);
    first.ended().await;
    let id = web.submit(&json!({"action": "echo"})).await;
    let url = fleet.vhost.url();
    let connection = Connection::connect(&url, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    // As many that took it and died, as the policy allows.
    let dead = || async { fleet.vhost.depth("longshore.dead").await };
    let give_up = async || {
        let options = BasicGetOptions::default();
        let lent = channel.basic_get("longshore.work.default".into(), options);
        if let Some(lent) = lent.await.unwrap() {
            lent.delivery
                .nack(BasicNackOptions {
                    requeue: true,
                    ..BasicNackOptions::default()
                })
                .await
                .unwrap();
        }
        dead().await
    };
    eventually("the broker gives up", give_up, |depth| *depth == Some(1)).await;
    connection.close(200, "OK".into()).await.unwrap();
    let second = fleet.executor("x2", &[]).await;
    let task = web.finished(&id).await;
    assert_eq!(
        (&task["state"], &task["attempt"]),
        (&json!("succeeded"), &json!(1))
    );
    assert_eq!(dead().await, Some(1), "it is kept for people to read");
    drop(second);
}

#[tokio::test]
async fn announcement_that_nobody_could_be_brought_is_told_of_its_task() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    // It serves another queue: the task stays as it is.
    let executor = fleet.executor("x1", &[]).await;
    fleet.create_queue("bulk");
    fleet.vhost.delete_queue("longshore.work.bulk").await;
    let id = web
        .submit(&json!({"action": "echo", "queue": "bulk"}))
        .await;
    let path = format!("/v1/tasks/{id}/history");
    let history = async || web.read(&path).await.1["entries"].clone();
    let entries = eventually("it is flagged", history, |entries| entries[0].is_object()).await;
    assert_eq!(
        (&entries[0]["what"], &entries[0]["who"]),
        (&json!("dead-lettered"), &json!("broker"))
    );
    let (_, why) = web.read(&format!("/v1/tasks/{id}/why")).await;
    let evidence = why["evidence"].as_array().unwrap();
    let last = evidence.last().unwrap().as_str().unwrap();
    let words = "the message `created.bulk.echo` went to `longshore.unrouted`: the broker had no such work queue";
    assert!(last.ends_with(words), "{last}");
    drop(executor);
}
