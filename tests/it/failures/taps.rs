//! Taps that nobody reads.

use longshore::broker::Since;
use longshore::tap::{Filter, Seen, Tap};
use reqwest::Method;
use serde_json::{Value, json};

use super::was_brought;
use crate::support::eventually::eventually;
use crate::support::fleet::Fleet;
use crate::support::load::{Clients, each_ran_once, under_load};
use crate::support::world::PATIENCE;

/// Taps that stall.
const TAPS: usize = 10;

/// Tasks that must end while they do. Each is said three times or more.
const TASKS: usize = 800;

/// Tasks that are submitted in a second: more than a dev build can do beside other tests.
const RATE: u32 = 1000;

/// Tasks of which no tap is told.
const TASKS_UNTOLD: usize = 20;

/// Bytes of history that are kept: much less than is said.
const HISTORY_BYTES: usize = 100_000;

/// Makes the history short, so that a tap that stalls misses something.
async fn shorten_history(fleet: &Fleet) {
    let (rabbit, vhost) = (fleet.vhost.rabbit, &fleet.vhost.name);
    let policy = json!({"pattern": "^longshore\\.history$", "apply-to": "queues", "priority": 9, "definition": {
        "max-length-bytes": HISTORY_BYTES, "stream-max-segment-size-bytes": HISTORY_BYTES / 4}});
    let path = format!("policies/{vhost}/short");
    rabbit.call(Method::PUT, &path, policy).await;
    // A stream takes the size of its segments when it is made.
    fleet.vhost.delete_queue("longshore.history").await;
    fleet.apply_topology().await;
}

#[tokio::test]
async fn stalled_tap_10_of_them_under_full_load() {
    let fleet = Fleet::begin().await;
    shorten_history(&fleet).await;
    let mut webs = [fleet.web("w1").await];
    let clients = Clients::of(&mut webs);
    let queues = ["--queue", "default=8", "--queue", "bulk=2"];
    let executors = [
        fleet.executor("x1", &queues).await,
        fleet.executor("x2", &queues).await,
    ];
    let runtime = fleet.runtime("longshore-tap").await;
    let mut stalled = Vec::new();
    for _ in 0..TAPS {
        let tap = Tap::open(runtime.broker(), Filter::default(), Since::First);
        stalled.push(tap.await.unwrap());
    }
    // One more that a browser has opened and does not read.
    let browser = webs[0].request(Method::GET, "/v1/taps?since=first");
    let browser = browser.send().await.unwrap();
    let ledger = fleet.ledger();
    let enough = async {
        let look = async || ledger.ended().await;
        eventually("the tasks have ended", look, |ended| *ended >= TASKS).await;
    };
    let (tasks, ()) = under_load(&clients, RATE, enough).await;
    each_ran_once(&fleet, &tasks).await;
    // No queue grew: what the taps do not read is kept nowhere.
    fleet.is_idle().await;
    for tap in &mut stalled {
        let mut missed = None;
        while missed.is_none() {
            let seen = tokio::time::timeout(PATIENCE, tap.next());
            match seen.await.expect("the tap goes on").unwrap() {
                Seen::Event { .. } => {}
                Seen::Gap { missed: count } => missed = Some(count),
            }
        }
        assert!(missed > Some(0));
    }
    drop((stalled, browser, executors));
    runtime.stop().await;
}

#[tokio::test]
async fn exchange_of_taps_is_missing() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    web.run(&json!({"action": "echo"})).await;
    let path = format!("exchanges/{}/longshore.announced", fleet.vhost.name);
    fleet
        .vhost
        .rabbit
        .call(Method::DELETE, &path, Value::Null)
        .await;
    let mut brought = 0;
    for number in 0..TASKS_UNTOLD {
        let task = web.run(&json!({"action": "echo", "input": number})).await;
        brought += usize::from(was_brought(&task));
    }
    // While the channel is opened anew one may find none.
    assert!(brought * 2 > TASKS_UNTOLD, "{brought} of {TASKS_UNTOLD}");
    drop(executor);
}
