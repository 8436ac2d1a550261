//! `longshore audit`, before and after somebody has meddled.

use super::Shell;
use super::store::meddle;

#[tokio::test]
async fn an_audit_of_a_sound_store_finds_nothing() {
    let shell = Shell::sqlite();
    let before = shell.session(&["audit"]).await;
    shell.run("db migrate").await.with_status(0);
    shell.run("task submit echo 1").await;
    let said = shell
        .session(&["audit", "audit --fix", "audit -o json"])
        .await;
    insta::assert_snapshot!(format!("{before}{said}"), @r#"
    $ longshore audit
    ! error: the store has no schema yet; run `longshore db migrate`
    = 1
    $ longshore audit
    KIND  SUBJECT  RESULT  WHAT
    ! nothing is wrong
    = 0
    $ longshore audit --fix
    KIND  SUBJECT  RESULT  WHAT
    ! nothing is wrong
    = 0
    $ longshore audit -o json
    []
    ! nothing is wrong
    = 0
    "#);
}

#[tokio::test]
async fn what_somebody_broke_is_told_and_repaired_where_that_is_safe() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    for line in [
        "task submit echo 1 --run-at 2100-01-01T00:00:00Z",
        "task submit sleep 1",
    ] {
        shell.run(line).await.with_status(0);
    }
    meddle(
        &shell,
        "delete from timer; \
         update task set state = 'running', attempt = 1, started_at = created_at, executor = id where action = 'sleep'",
    )
    .await;
    let told = shell.session(&["audit", "audit --fix", "audit"]).await;
    insta::assert_snapshot!(told, @r#"
    $ longshore audit
    KIND   SUBJECT                               RESULT  WHAT
    start  [id]  found   it is `scheduled` and has no timer for its `run_at`: it never starts
    owner  [id]  found   it is `running`, and its executor was released or never existed: nobody will take it over
    ! violations: 2
    ! `longshore audit --fix` repairs 2 of them
    = 1
    $ longshore audit --fix
    KIND   SUBJECT                               RESULT    WHAT
    start  [id]  repaired  it is `scheduled` and has no timer for its `run_at`: it never starts
    owner  [id]  repaired  it is `running`, and its executor was released or never existed: nobody will take it over
    ! [id] released
    ! repaired 2
    = 0
    $ longshore audit
    KIND  SUBJECT  RESULT  WHAT
    ! nothing is wrong
    = 0
    "#);
    meddle(
        &shell,
        "delete from timer; update task set ready_at = 1, action = 'no action' where action = 'sleep'",
    )
    .await;
    let told = shell.session(&["audit --fix -o jsonl"]).await;
    insta::assert_snapshot!(told, @r#"
    $ longshore audit --fix -o jsonl
    {"kind":"start","subject":"[id]","result":"repaired","what":"it is `scheduled` and has no timer for its `run_at`: it never starts"}
    {"kind":"unreadable","subject":"[id]","result":"left","what":"`action`: not a name of an action (letters, digits, `_`, `-`, in words joined by dots, at most 100): `no action`"}
    ! repaired 1, left 1
    = 1
    "#);
}

#[tokio::test]
async fn a_task_that_nobody_announced_is_told_while_an_executor_has_room() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    shell.run("task submit echo 1").await.with_status(0);
    // An executor that looks alive, has room and does nothing.
    meddle(
        &shell,
        "update task set ready_at = 1; \
         insert into executor (id, name, host, pid, version, slots, actions, started_at, lease_ends_at) \
         values (randomblob(16), 'idle', 'host', 1, '1', '{\"default\":1}', '[\"echo\"]', 1, 4000000000000000)",
    )
    .await;
    let told = shell.session(&["audit", "audit --fix"]).await;
    insta::assert_snapshot!(told, @r#"
    $ longshore audit
    KIND         SUBJECT                               RESULT  WHAT
    unannounced  [id]  found   it is `ready` for long and nobody seems to know of it
    ! violations: 1
    ! `longshore audit --fix` repairs 1 of them
    = 1
    $ longshore audit --fix
    KIND         SUBJECT                               RESULT  WHAT
    unannounced  [id]  left    it is `ready` for long and nobody seems to know of it
    ! violations: 1
    = 1
    "#);
}
