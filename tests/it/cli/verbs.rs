//! `longshore task resume`, `skip`, `retry`, `abandon` and `cancel`.

use super::{Running, Shell};

async fn ready() -> (Shell, Running) {
    let shell = Shell::migrated().await.with("USER", "ann");
    let executor = shell.start("executor", "serves default").await;
    (shell, executor)
}

/// Tasks that failed and wait for a human, each with the label `n` and its number.
async fn paused(shell: &Shell, count: usize) -> Vec<String> {
    let mut tasks = Vec::new();
    for n in 0..count {
        let label = format!("n={n}");
        let submit = [
            "task",
            "submit",
            "fail",
            r#"{"message": "no crane"}"#,
            "-o",
            "json",
        ];
        let more = ["--on-failure", "pause", "--wait=30", "--label", &label];
        let ran = shell.run_words(&[&submit[..], &more].concat()).await;
        let task = ran.with_status(3).json();
        assert_eq!(task["state"], "paused");
        tasks.push(task["id"].as_str().unwrap().to_owned());
    }
    tasks
}

#[tokio::test]
async fn a_paused_task_is_resumed_retried_and_given_up() {
    let (shell, executor) = ready().await;
    let task = &paused(&shell, 1).await[0];
    let wait = format!("task wait {task} -o jsonl");
    let said = shell
        .session(&[
            &format!("task skip {task} --returns 1"),
            &format!("task resume {task} --by bob"),
        ])
        .await;
    shell.run(&wait).await.with_status(3);
    let retried = shell
        .session(&[&format!("task retry {task} --by bob")])
        .await;
    shell.run(&wait).await.with_status(3);
    let abandoned = shell
        .session(&[
            &format!("task abandon {task} --reason late --by bob"),
            &format!("task resume {task}"),
            &format!("task show {task}"),
        ])
        .await;
    insta::assert_snapshot!(said + &retried + &abandoned, @r#"
    $ longshore task skip [id] --returns 1
    ! error: no step of the task failed, and it is no step of another: resume or abandon it
    = 1
    $ longshore task resume [id] --by bob
    ! resumed: it is ready now
    = 0
    $ longshore task retry [id] --by bob
    [id]
    ! retried: it is ready now
    = 0
    $ longshore task abandon [id] --reason late --by bob
    ! abandoned: it is failed now
    = 0
    $ longshore task resume [id]
    ! error: a task that is `failed` cannot be resumed
    ! hint: it is final: `longshore task retry` runs a copy of it
    = 1
    $ longshore task show [id]
    id          [id]
    action      fail
    queue       default
    state       failed
    attempt     3
    executor    [id]
    labels      {"n": "0"}
    created     [time]
    started     [time]
    finished    [time]
    input       {"message": "no crane"}
    error       late

    HISTORY
    resumed at [time] by `bob`
    retried at [time] by `bob`
    abandoned at [time] by `bob`: late
    = 0
    "#);
    let shown = shell.run(&format!("task show {task} -o json")).await;
    assert_eq!(
        shown.json()["error"]["detail"]["former"]["message"],
        "no crane"
    );
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn of_a_task_that_was_given_up_a_copy_is_run() {
    let (shell, executor) = ready().await;
    let task = &paused(&shell, 1).await[0];
    shell
        .run(&format!("task abandon {task}"))
        .await
        .with_status(0);
    let copy = shell
        .run(&format!("task retry {task}"))
        .await
        .with_status(0);
    let copy = copy.out.trim();
    assert_ne!(copy, task);
    let show = shell.run(&format!("task show {copy}")).await.with_status(0);
    assert!(
        show.out.contains("copied at 2") && show.out.contains("by `ann@"),
        "{show}"
    );
    assert!(show.out.contains(&format!(": from task {task}")), "{show}");
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn many_tasks_are_changed_by_a_condition_and_only_when_that_is_meant() {
    let (shell, executor) = ready().await;
    let tasks = paused(&shell, 3).await;
    shell
        .run("task submit echo 1 --wait=30")
        .await
        .with_status(0);
    let unasked = ["task", "resume", "--where", "state=paused action=fai*"];
    let said = shell.run_words(&unasked).await.with_status(2);
    insta::assert_snapshot!(said, @r"
    $ longshore task resume --where state=paused action=fai*
    ! 3 tasks match
    ! error: many tasks are not changed without asking
    ! hint: add `--yes`
    = 2
    ");
    let one = [
        "task",
        "abandon",
        "--where",
        "label.n=1",
        "--yes",
        "-o",
        "jsonl",
    ];
    let one = shell.run_words(&one).await.with_status(0);
    assert_eq!(one.err, "1 task matches\n");
    assert_eq!(
        one.json(),
        serde_json::json!({"id": tasks[1], "what": "abandoned", "state": "failed"})
    );
    let all = ["task", "skip", "--where", "action=fail", "--yes"];
    let all = shell.run_words(&all).await.with_status(0);
    assert_eq!(
        (all.err.as_str(), all.out.as_str()),
        ("2 tasks match\n", "skipped 0, left alone 2\n")
    );
    let done = [
        "task",
        "retry",
        "--where",
        "state=succeeded",
        "--yes",
        "-o",
        "jsonl",
    ];
    let done = shell.run_words(&done).await.with_status(0);
    assert_eq!(done.json()["what"], "left alone");
    assert_eq!(
        done.json()["why"],
        "a task that is `succeeded` cannot be retried"
    );
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn a_condition_without_states_means_those_that_it_can_be_done_to() {
    let (shell, executor) = ready().await;
    paused(&shell, 2).await;
    shell
        .run("task submit echo 1 --wait=30")
        .await
        .with_status(0);
    let listed = [
        "task",
        "list",
        "--where",
        "state=paused,succeeded older=0s",
        "-o",
        "jsonl",
    ];
    let listed = shell.run_words(&listed).await.with_status(0);
    assert_eq!(listed.out.lines().count(), 3);
    let cancel = [
        "task",
        "cancel",
        "--where",
        "queue=default",
        "--yes",
        "-o",
        "json",
    ];
    let cancelled = shell.run_words(&cancel).await.with_status(0);
    assert_eq!(
        cancelled.json(),
        serde_json::json!({"what": "cancelled", "done": 2, "left_alone": 0})
    );
    let nothing = ["task", "resume", "--where", "older=1h"];
    let nothing = shell.run_words(&nothing).await.with_status(0);
    assert_eq!(nothing.out, "resumed 0, left alone 0\n");
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn a_condition_that_cannot_be_is_said_with_what_would_be_right() {
    let shell = Shell::migrated().await;
    let said = shell
        .session(&[
            "task resume",
            "task resume 00000000-03e8-7000-8000-000000000001 --where state=paused",
            "task resume 00000000-03e8-7000-8000-000000000001",
            "task resume --where stat=paused",
            "task list --where label=red",
            "task list --where state=paused --queue default",
            "task abandon --where x=1 --yes",
        ])
        .await;
    insta::assert_snapshot!(said, @r"
    $ longshore task resume
    ! error: the following required arguments were not provided:
    !   <ID>
    ! Usage: longshore task resume <ID>
    ! For more information, try '--help'.
    = 2
    $ longshore task resume [id] --where state=paused
    ! error: the argument '[ID]' cannot be used with '--where <CONDITIONS>'
    ! Usage: longshore task resume <ID>
    ! For more information, try '--help'.
    = 2
    $ longshore task resume [id]
    ! error: there is no task `[id]`
    = 1
    $ longshore task resume --where stat=paused
    ! error: `--where`: there is no condition `stat`
    ! hint: did you mean `state`?
    = 2
    $ longshore task list --where label=red
    ! error: `--where`: there is no condition `label`
    ! hint: a label is `label.NAME=VALUE`
    = 2
    $ longshore task list --where state=paused --queue default
    ! error: the argument '--where <CONDITIONS>' cannot be used with '--queue <QUEUE>'
    ! Usage: longshore task list --where <CONDITIONS>
    ! For more information, try '--help'.
    = 2
    $ longshore task abandon --where x=1 --yes
    ! error: `--where`: there is no condition `x`
    ! hint: there are `state`, `action`, `queue`, `label.NAME`, `parent`, `older`
    = 2
    ");
}
