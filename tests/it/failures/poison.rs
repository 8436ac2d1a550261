//! Tasks that kill whoever runs them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::eventually::{eventually, eventually_within};
use crate::support::fleet::{Fleet, Process, Web};
use crate::support::gate::{gated, open_gate, pids};

/// How long it may take until a task is known to be poison: several deaths, each found out about, and trials.
const PATIENCE: Duration = Duration::from_mins(3);

/// Crashes of its own after which a task is paused.
const CRASHES_MAX: i16 = 3;

/// A task whose program kills its parent, the executor, as soon as there is a file `poison.go`.
fn poison(fleet: &Fleet) -> Value {
    let script =
        "echo this will end badly; until [ -e poison.go ]; do sleep 0.05; done; kill -9 $PPID";
    let input = json!({"program": "sh", "args": ["-c", script], "dir": fleet.path("")});
    json!({"action": "command", "input": input})
}

/// Waits until the first attempt has said what it says, and lets it kill.
async fn let_it_kill(fleet: &Fleet, web: &Web, id: &str) {
    let path = format!("/v1/tasks/{id}/logs");
    let look = async || web.read(&path).await.1.to_string();
    let is_said = |log: &String| log.contains("this will end badly");
    eventually("it has begun", look, is_said).await;
    open_gate(fleet, "poison");
}

/// Starts executors again as an init system does, until a task is in `state`; the task.
async fn restarted_until(web: &Web, executors: &mut [Process], id: &str, state: &str) -> Value {
    let path = format!("/v1/tasks/{id}");
    let look = async || {
        for executor in executors.iter_mut() {
            if executor.has_ended() {
                executor.restart();
            }
        }
        web.read(&path).await.1
    };
    let what = format!("the poison is {state}");
    eventually_within(PATIENCE, &what, look, |task| task["state"] == state).await
}

#[tokio::test]
async fn program_of_a_task_is_a_child_of_its_executor() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let mut executor = fleet.executor("x1", &["--allow-command", "sh"]).await;
    let id = web.submit(&poison(&fleet)).await;
    let_it_kill(&fleet, &web, &id).await;
    let ended = executor.ended().await;
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&ended),
        Some(9)
    );
    assert_eq!(web.until(&id, "running").await["attempt"], 1);
}

#[tokio::test]
async fn poison_task_that_kills_its_executor() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let flags = ["--allow-command", "sh", "--queue", "default=3"];
    let mut executors = [
        fleet.executor("x1", &flags).await,
        fleet.executor("x2", &flags).await,
    ];
    // They run beside it, on whichever executor it comes to.
    let mut others = Vec::new();
    for number in 0..4 {
        let name = format!("other{number}");
        others.push(web.submit(&gated(&fleet, &name)).await);
        pids(&fleet, &name, 1).await;
    }
    let id = web.submit(&poison(&fleet)).await;
    let_it_kill(&fleet, &web, &id).await;
    let paused = restarted_until(&web, &mut executors, &id, "paused").await;
    let error = paused["error"].to_string();
    assert!(error.contains("`x1`") || error.contains("`x2`"), "{error}");
    let lines = &paused["error"]["detail"]["last_log_lines"];
    assert!(
        lines.to_string().contains("this will end badly"),
        "{paused}"
    );
    let ledger = fleet.ledger();
    assert_eq!(ledger.task(&id).await.crashes, CRASHES_MAX);
    for (number, id) in others.iter().enumerate() {
        open_gate(&fleet, &format!("other{number}"));
        let task = restarted_until(&web, &mut executors, id, "succeeded").await;
        assert_eq!(task["state"], "succeeded", "{task}");
        assert_eq!(ledger.task(id).await.crashes, 0, "{task}");
    }
    // Nobody dies any more.
    let task = web.run(&json!({"action": "echo"})).await;
    assert_eq!(task["state"], "succeeded");
    assert!(executors.iter_mut().all(|executor| !executor.has_ended()));
}
