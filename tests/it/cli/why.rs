//! `longshore task why`.

use super::{Shell, redacted};

#[tokio::test]
async fn why_is_one_verdict_and_the_evidence_below_it() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    let submit = "task submit sleep {\"seconds\":600} --deadline 2199-01-01T00:00:00Z";
    let id = shell.run(submit).await.with_status(0).out.trim().to_owned();
    let why = format!("task why {id}");
    let nobody = shell.run(&why).await.with_status(0);
    let lines: Vec<&str> = nobody.out.lines().collect();
    assert_eq!(lines[0], "ready: no executor lives");
    assert!(
        lines[1].starts_with("  its deadline comes in 6"),
        "{nobody}"
    );
    assert_eq!(lines.len(), 2, "{nobody}");

    let executor = shell
        .start("executor --queue default=1", "serves default")
        .await;
    shell
        .run(&format!("task wait {id} --timeout 0.1"))
        .await
        .with_status(124);
    let runs = crate::support::eventually::eventually(
        "it runs",
        async || {
            shell
                .run(&format!("{why} -o json"))
                .await
                .with_status(0)
                .json()
        },
        |why| why["state"] == "running",
    );
    let runs = runs.await;
    let verdict = runs["verdict"].as_str().unwrap();
    assert!(
        verdict.starts_with("it runs: attempt 1 began ")
            && verdict.contains(" ago on `crane` (host `"),
        "{verdict}"
    );
    assert_eq!(runs["id"], id);
    let next = shell
        .run("task submit echo")
        .await
        .with_status(0)
        .out
        .trim()
        .to_owned();
    let waits = shell.run(&format!("task why {next}")).await.with_status(0);
    assert!(
        waits.out.starts_with(
            "ready: it is the next in the queue `default`, and all its slots are taken\n"
        ),
        "{waits}"
    );
    let unknown = shell
        .run("task why 00000000-03e8-7000-8000-000000000001")
        .await;
    assert_eq!(unknown.with_status(1).err.lines().count(), 1);
    shell.run(&format!("task cancel {id}")).await.with_status(0);
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn a_paused_queue_is_said_everywhere_until_it_goes_on() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    let submitted = shell.run("task submit echo").await.with_status(0);
    let said = shell
        .session(&[
            "queue pause nowhere",
            "queue pause default --by ann",
            "queue pause default --by bob",
            "queue list",
            &format!("task why {}", submitted.out.trim()),
            "queue resume default",
            "queue resume default",
            "queue resume nowhere",
            "queue list",
        ])
        .await;
    let since = |line: &str| match line.split_once(" has paused it ") {
        Some((who, _)) => format!("{who} has paused it [..] ago"),
        None => line.to_owned(),
    };
    let said: Vec<_> = said.lines().map(since).collect();
    insta::assert_snapshot!(redacted(&said.join("\n")), @"
    $ longshore queue pause nowhere
    ! error: there is no queue `nowhere`
    ! hint: `longshore queue list` shows those that there are
    = 1
    $ longshore queue pause default --by ann
    ! the queue `default` is paused: what runs goes on, and within 5 s no other task begins
    = 0
    $ longshore queue pause default --by bob
    ! the queue `default` is paused: what runs goes on, and within 5 s no other task begins
    = 0
    $ longshore queue list
    QUEUE    SCHEDULED  READY  RUNNING  PAUSED
    default  0          1      0        by ann at [time]
    = 0
    $ longshore task why [id]
    ready: the queue `default` is paused
      `ann` has paused it [..] ago
      let it go on: `longshore queue resume default`
    = 0
    $ longshore queue resume default
    ! the queue `default` goes on, within 5 s
    = 0
    $ longshore queue resume default
    ! the queue `default` goes on, within 5 s
    = 0
    $ longshore queue resume nowhere
    ! error: there is no queue `nowhere`
    ! hint: `longshore queue list` shows those that there are
    = 1
    $ longshore queue list
    QUEUE    SCHEDULED  READY  RUNNING  PAUSED
    default  0          1      0
    = 0
    ");
}

#[tokio::test]
async fn why_says_the_same_on_the_command_line_and_over_http() {
    longshore::broker::install_tls();
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    let executor = shell.start("executor", "serves default").await;
    let web = shell.start("web --listen 127.0.0.1:0", "listens on").await;
    let said = web.said.join("\n");
    let address = said.split("listens on ").nth(1).unwrap();
    let address = address.split_whitespace().next().unwrap();
    let address = address.trim_matches('`').trim_start_matches("http://");
    let submitted = shell
        .run("task submit nobodys --deadline 2199-01-01T00:00:00Z --priority 7")
        .await
        .with_status(0);
    let id = submitted.out.trim();
    let on_command = shell
        .run(&format!("task why {id} -o json"))
        .await
        .with_status(0)
        .json();
    let over_http: serde_json::Value = reqwest::get(format!("http://{address}/v1/tasks/{id}/why"))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(on_command["verdict"], over_http["verdict"]);
    let words = over_http["verdict"].as_str().unwrap();
    assert!(words.contains("offers the action `nobodys`"), "{words}");
    let [one, other] = [&on_command, &over_http].map(|why| {
        let lines = why["evidence"].as_array().unwrap().iter();
        let lines = lines.map(|line| line.as_str().unwrap().to_owned());
        // How long until the deadline differs by a second.
        lines
            .map(|line| line.split(" comes in ").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    });
    assert_eq!(one, other);
    assert!(one.len() >= 2, "{one:?}");
    assert_eq!((web.stop().await, executor.stop().await), (0, 0));
}
