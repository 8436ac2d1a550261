//! Tasks by hand, against an executor process on the same store.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Ran, Running, Shell};

async fn ready() -> (Shell, Running) {
    let shell = Shell::migrated().await;
    let executor = shell
        .start("executor --allow-command sh", "serves default")
        .await;
    (shell, executor)
}

fn id(ran: &Ran) -> String {
    ran.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_status_tells_how_the_task_ended() {
    let (shell, executor) = ready().await;
    let done = shell.run_words(&[
        "task",
        "submit",
        "echo",
        r#"{"a": 1}"#,
        "--wait=30",
        "-o",
        "json",
    ]);
    let done = done.await.with_status(0);
    assert_eq!(
        (done.json()["output"]["a"].as_i64(), done.err.as_str()),
        (Some(1), "")
    );
    let failed = shell.run_words(&[
        "task",
        "submit",
        "fail",
        r#"{"message": "no crane"}"#,
        "--wait=30",
    ]);
    let failed = failed.await.with_status(3);
    assert!(failed.out.contains("error       no crane\n"), "{failed}");
    let long = [
        "task",
        "submit",
        "sleep",
        r#"{"seconds": 600}"#,
        "--wait=0.1",
        "-o",
        "jsonl",
    ];
    let open = shell.run_words(&long).await.with_status(124);
    assert!(
        open.err.starts_with("the wait timed out; the task is "),
        "{open}"
    );
    let id = id(&open);
    shell
        .run(&format!("task wait {id} --timeout 0.1"))
        .await
        .with_status(124);
    shell
        .run(&format!("task cancel {id} --reason enough"))
        .await
        .with_status(0);
    let cancelled = shell
        .run(&format!("task wait {id} -o json"))
        .await
        .with_status(4);
    assert_eq!(cancelled.json()["error"]["message"], "enough");
    shell.run(&format!("task cancel {id}")).await.with_status(0);
    shell.run("task submit ecko").await.with_status(1);
    shell.run("task submit echo {").await.with_status(2);
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn an_input_is_text_or_a_file_or_read_from_standard_input() {
    let (shell, executor) = ready().await;
    shell.write("input.json", "{\"from\": \"a file\"}\n");
    let submit = ["task", "submit", "echo"];
    let wait = ["--wait=30", "-o", "json"];
    let words = |input: &'static str| [&submit[..], &[input], &wait[..]].concat();
    let file = shell.run_words(&words("@input.json")).await.with_status(0);
    assert_eq!(file.json()["output"]["from"], "a file");
    let stdin = shell.run_with(&words("-"), "[1, 2]").await.with_status(0);
    assert_eq!(stdin.json()["output"][1], 2);
    let none = shell
        .run_words(&[&submit[..], &wait[..]].concat())
        .await
        .with_status(0);
    assert!(none.json()["output"].is_null());
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "one table of what is wrong and what is said, to be read as a whole"
)]
async fn what_is_wrong_with_a_submission_is_said_and_nothing_is_stored() {
    let (shell, executor) = ready().await;
    let said = shell
        .session(&[
            "task submit ecko",
            "task submit Echo!",
            "task submit echo hello",
            "task submit echo @missing.json",
            "task submit echo 1 --label team",
            "task submit echo 1 --priority 1000",
            "task submit echo 1 --timeout 0",
            "task submit echo 1 --timeout -1",
            "task submit echo 1 --retry 0",
            "task submit echo 1 --run-at tomorrow",
            "task submit echo 1 --on-failure explode",
            "task submit echo 1 --delivery twice",
            "task submit echo 1 --queue defualt",
            "task submit echo 1 --id 7",
            "task submit echo 1 --parent 00000000-03e8-7000-8000-000000000001",
            "task submit echo 1 --wait=-1",
            "task list --limit 0",
            "task list --state done",
            "task list --label team",
            "task show 7",
            "task show 00000000-03e8-7000-8000-000000000001",
            "task wait 00000000-03e8-7000-8000-000000000001",
            "task tree 00000000-03e8-7000-8000-000000000001",
            "task logs 00000000-03e8-7000-8000-000000000001",
            "task cancel 00000000-03e8-7000-8000-000000000001",
            "task list -o json",
        ])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore task submit ecko
    ! error: no executor has ever offered the action `ecko`
    ! hint: did you mean `echo`?
    = 1
    $ longshore task submit Echo!
    ! error: `action`: not a name of an action (letters, digits, `_`, `-`, in words joined by dots, at most 100): `Echo!`
    = 2
    $ longshore task submit echo hello
    ! error: the payload is not JSON (expected value at line 1 column 1)
    ! hint: a text is JSON in quotes: '"hello"'
    = 2
    $ longshore task submit echo @missing.json
    ! error: the input cannot be read from `missing.json`: No such file or directory (os error 2)
    = 2
    $ longshore task submit echo 1 --label team
    ! error: `--label` is NAME=VALUE, not `team`
    = 2
    $ longshore task submit echo 1 --priority 1000
    ! error: `priority` is 1000, it must be from -100 to 100
    = 2
    $ longshore task submit echo 1 --timeout 0
    ! error: `timeout` must be above 0 and at most ten years
    = 2
    $ longshore task submit echo 1 --timeout -1
    ! error: `-1` is not a number of seconds from 0 up
    = 2
    $ longshore task submit echo 1 --retry 0
    ! error: `retry.attempts` is 0, it must be from 1 to 1000
    = 2
    $ longshore task submit echo 1 --run-at tomorrow
    ! error: `--run-at` is a time such as `[time]`, not `tomorrow`
    = 2
    $ longshore task submit echo 1 --on-failure explode
    ! error: `on_failure`: not a choice for `on_failure` (`fail` or `pause`): `explode`
    = 2
    $ longshore task submit echo 1 --delivery twice
    ! error: `delivery`: not a delivery (`rerun` or `once`): `twice`
    = 2
    $ longshore task submit echo 1 --queue defualt
    ! error: there is no queue `defualt`
    ! hint: did you mean `default`?
    = 1
    $ longshore task submit echo 1 --id 7
    ! error: `id`: not a task id (a UUID): `7`
    = 2
    $ longshore task submit echo 1 --parent [id]
    ! error: there is no task `[id]` to be the parent
    ! hint: leave `parent` out to submit a task of its own
    = 1
    $ longshore task submit echo 1 --wait=-1
    ! error: `-1` is not a number of seconds from 0 up
    = 2
    $ longshore task list --limit 0
    ! error: `--limit` is from 1 to 1000, not 0
    = 2
    $ longshore task list --state done
    ! error: not a state (scheduled, blocked, ready, running, suspended, paused, succeeded, failed, cancelled): `done`
    = 2
    $ longshore task list --label team
    ! error: `--label` is NAME=VALUE, not `team`
    = 2
    $ longshore task show 7
    ! error: not a task id (a UUID): `7`
    = 2
    $ longshore task show [id]
    ! error: there is no task `[id]`
    = 1
    $ longshore task wait [id]
    ! error: there is no task `[id]`
    = 1
    $ longshore task tree [id]
    ! error: there is no task `[id]`
    = 1
    $ longshore task logs [id]
    ! error: there is no task `[id]`
    = 1
    $ longshore task cancel [id]
    ! error: there is no task `[id]`
    = 1
    $ longshore task list -o json
    []
    = 0
    "#);
    assert_eq!(executor.stop().await, 0);
}

/// A task that waits for the next century, and a task below it that has run.
async fn parent_and_child(shell: &Shell) -> (String, String) {
    let parent = shell.run("task submit echo 1 --run-at 2100-01-01T00:00:00Z -o json");
    let parent = id(&parent.await);
    let script = r#"{"program": "sh", "args": ["-c", "echo out; echo err >&2"]}"#;
    let mut words = vec!["task", "submit", "command", script, "--parent", &parent];
    words.extend(["--label", "team=red", "--wait=30", "-o", "json"]);
    let child = id(&shell.run_words(&words).await.with_status(0));
    (parent, child)
}

/// The ids of the tasks that a list shows.
async fn listed(shell: &Shell, options: &str) -> Vec<String> {
    let line = format!("task list -o jsonl {options}");
    let ran = shell.run(&line).await.with_status(0);
    let task = |line| serde_json::from_str::<serde_json::Value>(line).unwrap();
    let id = |task: serde_json::Value| task["id"].as_str().unwrap().to_owned();
    ran.out.lines().map(task).map(id).collect()
}

#[tokio::test]
async fn a_list_is_filtered_and_has_pages() {
    let (shell, executor) = ready().await;
    let (parent, child) = parent_and_child(&shell).await;
    assert_eq!(listed(&shell, "").await, [child.as_str(), &parent]);
    for (options, expected) in [
        ("--label team=red", &child),
        ("--state scheduled,ready", &parent),
        (&format!("--parent {parent}"), &child),
        ("--action echo", &parent),
        ("--limit 1", &child),
        (&format!("--cursor {child}"), &parent),
    ] {
        assert_eq!(
            listed(&shell, options).await,
            [expected.as_str()],
            "{options}"
        );
    }
    let page = shell.run("task list --limit 1").await;
    assert_eq!(
        page.err,
        format!("there may be more: add `--cursor {child}`\n")
    );
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn a_task_is_shown_with_its_log_and_its_tree() {
    let (shell, executor) = ready().await;
    let (parent, child) = parent_and_child(&shell).await;
    let logs = shell.run(&format!("task logs {child}")).await;
    let logs = logs.with_status(0);
    let mut lines: Vec<&str> = logs.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
    let logs = shell.run(&format!("task logs {child} -o jsonl")).await;
    assert_eq!(logs.out.lines().count(), 2, "{logs}");
    let lines = [
        &format!("task tree {parent}"),
        &format!("task show {parent}"),
        "queue create bulk",
        "queue list",
    ];
    let said = shell.session(&lines).await;
    insta::assert_snapshot!(said, @r#"
    $ longshore task tree [id]
    [id] echo scheduled
    └── [id] command succeeded
    = 0
    $ longshore task show [id]
    id          [id]
    action      echo
    queue       default
    state       scheduled
    attempt     0
    waiting for its time, [time]
    created     [time]
    run at      [time]
    input       1
    = 0
    $ longshore queue create bulk
    ! queue `bulk` is there
    = 0
    $ longshore queue list
    QUEUE    SCHEDULED  READY  RUNNING  PAUSED
    bulk     0          0      0
    default  1          0      0
    = 0
    "#);
    let executors = shell.run("executor list -o json").await.with_status(0);
    assert_eq!(executors.json()[0]["name"], "crane");
    let table = shell.run("executor list").await.with_status(0);
    let is_whole = table.out.starts_with("ID ") && table.out.contains("default=8");
    assert!(is_whole, "{table}");
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn a_reader_that_goes_away_does_no_harm() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    let wide = "x".repeat(200_000);
    for _ in 0..2 {
        let words = ["task", "submit", "echo", "-"];
        shell
            .run_with(&words, &format!("\"{wide}\""))
            .await
            .with_status(0);
    }
    for format in ["json", "jsonl"] {
        let mut child = shell
            .command(&["task", "list", "-o", format])
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::with_capacity(16, child.stdout.take().unwrap());
        if format == "json" {
            out.read_line(&mut line).await.unwrap();
        }
        drop(out);
        let ended = child.wait_with_output().await.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!((ended.status.code(), said.as_str()), (Some(0), ""));
    }
    // Nobody listens to words either.
    let mut command = shell.command(&["task", "submit", "echo", "{"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().await.unwrap().code(), Some(2));
}
