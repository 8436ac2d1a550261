//! `longshore top`, with a terminal and without, and asking an executor to drain.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Ran, Shell};
use crate::support::database::empty_database;
use crate::support::eventually::eventually;
use crate::support::rabbitmq::Rabbit;
use crate::support::world::PATIENCE;

/// What takes a terminal over, and gives it back.
const TAKES: &str = "\x1b[?1049h";
const GIVES_BACK: &str = "\x1b[?1049l";

async fn with_servers() -> Shell {
    let vhost = Rabbit::shared().vhost().await;
    let shell = Shell::new()
        .with("DATABASE_URL", empty_database().await)
        .with("AMQP_URL", vhost.url())
        .with("LONGSHORE_LOG_FILTER", "error,longshore::cli=info");
    shell.run("db migrate").await.with_status(0);
    shell
}

/// A shell with two tasks that nobody runs.
async fn with_two_tasks() -> Shell {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    shell.run("task submit echo 1").await.with_status(0);
    shell.run("task submit echo 2").await.with_status(0);
    shell
}

#[tokio::test]
async fn without_a_terminal_it_writes_tables_once() {
    let shell = with_two_tasks().await;
    let ran = shell.run("top").await.with_status(0);
    // Without ages.
    let words = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_id = |word: &str| word.len() == 36;
        let is_age =
            |word: &str| word.ends_with('s') && word.starts_with(|c: char| c.is_ascii_digit());
        let words = words
            .into_iter()
            .filter(|word| !is_age(word) && !is_id(word));
        words.collect::<Vec<_>>().join(" ")
    };
    let said: Vec<String> = ran.out.lines().map(words).collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    QUEUE READY RUNNING SLOTS OLDEST IN/S OK/S FAIL/S SCHEDULED BLOCKED SUSPENDED PAUSED
    default 2 0 0 - - - 0 0 0 0

    EXECUTOR STATE RUNNING SLOTS HOST PID UP

    TASK ACTION QUEUE STATE FOR ATTEMPT
    echo default ready 0
    echo default ready 0
    ");
}

#[tokio::test]
async fn as_json_it_is_one_document_that_says_what_is_not_known() {
    let shell = with_two_tasks().await;
    let seen = shell.run("top -o json").await.with_status(0).json();
    assert_eq!(seen["queues"][0]["ready"], 2, "{seen}");
    assert!(
        seen["queues"][0]["oldest_ready_seconds"].is_number(),
        "{seen}"
    );
    let oldest = &seen["oldest_ready"];
    assert_eq!(oldest["id"], seen["tasks"][0]["id"], "{seen}");
    assert_eq!(seen["broker"]["events"], false, "{seen}");
    assert_eq!(seen["broker"]["reason"], "the broker is `none`", "{seen}");
    let unknown = ["rates", "latency"].map(|name| seen.get(name).is_none());
    assert_eq!(unknown, [true, true], "{seen}");
    let lines = shell.run("top --once -o jsonl").await.with_status(0);
    assert_eq!(lines.out.lines().count(), 1, "{lines}");
}

#[tokio::test]
async fn what_cannot_be_watched_is_said_by_the_exit_status() {
    let shell = Shell::migrated().await;
    for interval in ["0.1", "-1", "NaN", "3601"] {
        let ran = shell.run(&format!("top --interval {interval}")).await;
        let ran = ran.with_status(2);
        assert!(ran.err.contains("from 0.2 to 3600 seconds"), "{ran}");
    }
    let ran = Shell::sqlite().run("top").await.with_status(1);
    assert!(ran.err.contains("longshore db migrate"), "{ran}");
}

/// Runs `line` under a terminal of 80x24, types `keys` when `ready` is on the screen, and answers with what was written.
async fn in_a_terminal(shell: &Shell, line: &str, ready: &str, keys: &str) -> Ran {
    let program = env!("CARGO_BIN_EXE_longshore");
    let typed = format!("stty rows 24 cols 80; exec {program} {line}");
    let environment = shell.variables.iter().map(|(name, value)| (name, value));
    let mut child = Command::new("script")
        .args(["-qec", &typed, "/dev/null"])
        .current_dir(shell.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TERM", "xterm")
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut out = String::new();
    let mut bytes = [0; 4096];
    let mut has_typed = false;
    loop {
        let read = timeout(PATIENCE, stdout.read(&mut bytes)).await;
        let read = read.unwrap_or_else(|_| panic!("no `{ready}`, or it does not end: {out:?}"));
        let Ok(count @ 1..) = read else { break };
        out.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if !has_typed && out.contains(ready) {
            stdin.write_all(keys.as_bytes()).await.unwrap();
            has_typed = true;
        }
    }
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    Ran {
        line: line.to_owned(),
        status: status.code().unwrap(),
        out,
        err: String::new(),
    }
}

#[tokio::test]
async fn a_terminal_is_taken_over_and_given_back() {
    let shell = with_two_tasks().await;
    let ran = in_a_terminal(&shell, "top", "Queues", "3??q").await;
    let out = ran.with_status(0).out;
    let (taken, given_back) = (out.find(TAKES), out.rfind(GIVES_BACK));
    assert!(taken.is_some() && taken < given_back, "{out:?}");
    assert!(out.contains("help"), "{out:?}");
}

#[tokio::test]
async fn a_task_is_cancelled_from_the_screen() {
    let shell = with_two_tasks().await;
    // Not "ready": that nothing is, stands there before the store has answered.
    let ran = in_a_terminal(&shell, "top", "echo", "3cyq").await;
    ran.with_status(0);
    // It was quit at once, and has ended first what it was told to do.
    let list = async || {
        shell
            .run("task list --state cancelled -o json")
            .await
            .json()
    };
    let cancelled = eventually("it is cancelled", list, |tasks| {
        tasks.as_array().is_some_and(|tasks| tasks.len() == 1)
    })
    .await;
    let id = cancelled[0]["id"].as_str().unwrap();
    let show = shell.run(&format!("task show {id}")).await.with_status(0);
    assert!(show.out.contains("cancelled in `longshore top`"), "{show}");
}

#[tokio::test]
async fn what_happens_is_counted_while_it_listens() {
    let shell = with_servers().await;
    let executor = shell.start("executor --queue default=2", "serves ").await;
    let submits = async {
        loop {
            shell.run("task submit echo 1").await.with_status(0);
        }
    };
    let top = async || {
        shell
            .run("top -o json --interval 3")
            .await
            .with_status(0)
            .json()
    };
    let is_counted = |seen: &Value| {
        seen["rates"]["succeeded"].as_f64() > Some(0.0) && seen["latency"].is_object()
    };
    let seen = tokio::select! {
        () = submits => Value::Null,
        seen = eventually("events are counted", top, is_counted) => seen,
    };
    assert_eq!(seen["broker"]["events"], true, "{seen}");
    assert_eq!(seen["executors"][0]["queues"]["default"], 2, "{seen}");
    assert_eq!(seen["queues"][0]["slots"], 2, "{seen}");
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn an_executor_that_is_asked_to_drain_ends_what_runs_and_stops() {
    let shell = with_servers().await;
    let mut executor = shell.start("executor --queue default=1", "serves ").await;
    let listed = shell.run("executor list -o json").await.json();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let task = shell.run("task submit sleep {\"seconds\":1}").await;
    let task = task.with_status(0).out.trim().to_owned();
    let show = format!("task show {task} -o json");
    let look = async || shell.run(&show).await.json();
    eventually("it runs", look, |task| task["state"] != "ready").await;
    let drain = format!("executor drain {id}");
    shell.run(&drain).await.with_status(0);
    let ended = timeout(PATIENCE, executor.child.wait()).await;
    assert_eq!(ended.expect("it stops").unwrap().code(), Some(0));
    let task = shell.run(&show).await.json();
    assert_eq!(
        (&task["state"], &task["attempt"]),
        (&"succeeded".into(), &1.into())
    );
    let again = shell.run(&drain).await.with_status(1);
    assert!(again.err.contains("there is no executor"), "{again}");
}

#[tokio::test]
async fn without_a_broker_no_executor_can_be_asked_to_drain() {
    let shell = Shell::migrated().await;
    let drain = "executor drain 019ad0c0-0000-7000-8000-000000000001";
    let said = shell.run(drain).await.to_string();
    insta::assert_snapshot!(said, @r"
    $ longshore executor drain [id]
    ! error: without a broker no executor can be asked
    ! hint: send SIGTERM to its process
    = 1
    ");
}
