//! `longshore task logs --follow`.

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use super::Shell;
use crate::support::world::PATIENCE;

#[tokio::test]
async fn a_log_is_followed_until_its_task_ends() {
    let shell = Shell::migrated().await;
    let executor = shell
        .start("executor --allow-command sh", "serves default")
        .await;
    let go = shell.path().join("go");
    let script = format!(
        "echo one; while [ ! -e {} ]; do sleep 0.02; done; echo two",
        go.display()
    );
    let input = serde_json::json!({"program": "sh", "args": ["-c", script]}).to_string();
    let submitted = shell
        .run_words(&["task", "submit", "command", &input])
        .await;
    let id = submitted.with_status(0).out.trim().to_owned();
    let mut follower = shell.command(&["task", "logs", "-f", &id]).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await;
    assert_eq!(line.unwrap().unwrap().as_deref(), Some("one"));
    shell.write("go", "");
    let line = timeout(PATIENCE, lines.next_line()).await;
    assert_eq!(line.unwrap().unwrap().as_deref(), Some("two"));
    let ended = timeout(PATIENCE, follower.wait_with_output()).await;
    let ended = ended.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(ended.stderr).unwrap(),
        "the task is succeeded\n"
    );
    let since = shell
        .run(&format!("task logs {id} --follow --since 1:4"))
        .await;
    assert_eq!(since.with_status(0).out, "two\n");
    let since = shell.run(&format!("task logs {id} --since 1:4")).await;
    assert_eq!(since.with_status(0).out, "two\n");
    let wrong = shell
        .run(&format!("task logs {id} --since yesterday"))
        .await;
    assert!(wrong.with_status(2).err.contains("`attempt:offset`"));
    let nobody = "task logs -f 00000000-03e8-7000-8000-000000000001";
    shell.run(nobody).await.with_status(1);
    assert_eq!(executor.stop().await, 0);
}
