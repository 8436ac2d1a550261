//! The two commands that need nothing.

use reqwest::Client;
use serde_json::{Value, json};

use super::Shell;

#[tokio::test]
async fn dev_is_a_whole_system_that_stops_when_it_is_asked_to() {
    let shell = Shell::new();
    let dev = shell.start("dev --listen 127.0.0.1:0", "running: ").await;
    let said = dev.said.last().unwrap();
    let address = said.rsplit(' ').next().unwrap();
    let expected = format!("running: sqlite:longshore-dev.db, broker embedded, {address}");
    assert_eq!(*said, expected);
    longshore::broker::install_tls();
    let client = Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(format!("{address}/v1/tasks"))
        .header("prefer", "wait=30")
        .json(&json!({"action": "command", "input": {"program": "echo", "args": ["ahoy"]}}));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let task: Value = answer.json().await.unwrap();
    assert_eq!(task["output"]["stdout"], "ahoy\n", "{task}");
    drop(client);
    assert_eq!(dev.stop().await, 0);
    assert!(shell.path().join("longshore-dev.db").exists());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let shell = Shell::migrated().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = shell
        .run(&format!("web --listen {address}"))
        .await
        .with_status(1);
    insta::assert_snapshot!(ran.err.replace(&address, "[address]"), @"error: cannot listen on `[address]` (Address already in use (os error 98)); choose another `--listen`");
}

#[tokio::test]
async fn demo_shows_what_it_promises() {
    let shell = Shell::new();
    shell.write("one.txt", "1\n");
    shell.write("two.txt", "2\n");
    let ran = shell.run("demo").await.with_status(0);
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Without what was waited and run.
        [&words[..2], &words[4.min(words.len())..]]
            .concat()
            .join(" ")
    };
    let table: Vec<String> = ran.out.lines().map(row).collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    ACTION STATE RESULT
    demo.hash_folder succeeded 2
    command succeeded 4355a46b19d3 ./one.txt
    command succeeded 53c234e5e847 ./two.txt
    fail failed the crane is out of order
    sleep cancelled the demo has seen enough
    "#);
    assert!(
        ran.err
            .contains("2 files hashed, one task failed as it should"),
        "{ran}"
    );
    assert!(
        std::fs::read_dir(shell.path()).unwrap().count() == 2,
        "it leaves nothing behind"
    );
}
