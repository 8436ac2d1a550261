//! Idempotency keys on the command line.

use super::Shell;

#[tokio::test]
async fn the_same_key_twice_is_one_task_and_something_else_is_told() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    let said = shell
        .session(&[
            "task submit echo 1 --idempotency-key order-7",
            "task submit echo 1.0 --idempotency-key order-7",
            "task submit echo 2 --idempotency-key order-7 --priority 5",
            "task submit echo 1 --idempotency-key é",
        ])
        .await;
    insta::assert_snapshot!(said, @r"
    $ longshore task submit echo 1 --idempotency-key order-7
    [id]
    = 0
    $ longshore task submit echo 1.0 --idempotency-key order-7
    [id]
    = 0
    $ longshore task submit echo 2 --idempotency-key order-7 --priority 5
    ! error: the idempotency key `order-7` belongs to the task `[id]`, which differs in `priority`, `input`
    !   cause: `priority`: stored `0`, asked `5`
    !   cause: `input`: stored `1`, asked `2`
    ! hint: send the same submission again, or choose another key
    = 1
    $ longshore task submit echo 1 --idempotency-key é
    ! error: `idempotency_key`: not an idempotency key (from 1 to 255 visible ASCII characters): `é`
    = 2
    ");
    let listed = shell.run("task list -o json").await.with_status(0).json();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["idempotency_key"], "order-7");
    let show = format!("task show {}", listed[0]["id"].as_str().unwrap());
    let shown = shell.run(&show).await.with_status(0);
    assert!(shown.out.contains("key         order-7\n"), "{shown}");
}
