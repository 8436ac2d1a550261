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
    insta::assert_snapshot!(said, @"");
}
