//! `longshore task signal`.

use super::Shell;

#[tokio::test]
async fn what_became_of_a_signal_is_said_and_told_by_the_status() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    let submit = "task submit echo 1 --run-at 2999-01-01T00:00:00Z -o json";
    let task = shell.run(submit).await.with_status(0).json();
    let id = task["id"].as_str().unwrap();
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    shell.write("large.json", &large);
    let said = shell
        .session(&[
            &format!("task signal {id} approved 1 --key a"),
            &format!("task signal {id} approved 1 --key a"),
            &format!("task signal {id} approved"),
            &format!("task signal {id} app/roved 1"),
            &format!("task signal {id} approved {{"),
            &format!("task signal {id} approved @large.json"),
            "task signal 019e3c00-0000-7000-8000-0000000000aa approved 1",
            &format!("task cancel {id}"),
            &format!("task signal {id} approved 1"),
        ])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore task signal [id] approved 1 --key a
    ! `approved` is stored until the task takes it
    = 0
    $ longshore task signal [id] approved 1 --key a
    ! it was sent before, by the same key
    = 0
    $ longshore task signal [id] approved
    ! `approved` is stored until the task takes it
    = 0
    $ longshore task signal [id] app/roved 1
    ! error: not a name of a signal (letters, digits, `_`, `-`, in words joined by dots, at most 100): `app/roved`
    = 2
    $ longshore task signal [id] approved {
    ! error: the payload is not JSON (EOF while parsing an object at line 1 column 1)
    ! hint: a text is JSON in quotes: '"hello"'
    = 2
    $ longshore task signal [id] approved @large.json
    ! error: the payload has 1048578 bytes, more than the limit of 1048576; store large data elsewhere and pass its address
    ! hint: a text is JSON in quotes: '"hello"'
    = 2
    $ longshore task signal [id] approved 1
    ! error: there is no task `[id]`
    = 1
    $ longshore task cancel [id]
    ! cancelled 1, asked 0 that run to stop
    = 0
    $ longshore task signal [id] approved 1
    ! error: the task is final already: cancelled
    = 1
    "#);
}
