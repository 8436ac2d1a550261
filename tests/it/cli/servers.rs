//! The same commands against PostgreSQL and RabbitMQ.

use super::Shell;
use crate::support::database::empty_database;
use crate::support::rabbitmq::Rabbit;

#[tokio::test]
async fn a_system_is_set_up_used_and_looked_at_by_hand() {
    let vhost = Rabbit::shared().vhost().await;
    let shell = Shell::new()
        .with("DATABASE_URL", empty_database().await)
        .with("AMQP_URL", vhost.url())
        .with("LONGSHORE_LOG_FILTER", "info");
    let said = shell
        .session(&[
            "db migrate",
            "db migrate",
            "queue create bulk",
            "queue list",
        ])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore db migrate
    ! created schema 1 in the store
    = 0
    $ longshore db migrate
    ! the store has schema 1 already
    = 0
    $ longshore queue create bulk
    ! queue `bulk` is there
    = 0
    $ longshore queue list
    QUEUE    SCHEDULED  READY  RUNNING
    bulk     0          0      0
    default  0          0      0
    = 0
    "#);
    let shell = shell.with(
        "LONGSHORE_BROKER_MANAGEMENT_URL",
        Rabbit::shared().management(),
    );
    let doctor = shell.run("doctor -o jsonl").await.with_status(0);
    let results: Vec<String> = doctor
        .out
        .lines()
        .map(|line| {
            let finding: serde_json::Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {}",
                finding["what"].as_str().unwrap(),
                finding["result"].as_str().unwrap()
            )
        })
        .collect();
    let expected = [
        "longshore ok",
        "store ok",
        "clock ok",
        "schema ok",
        "broker ok",
        "topology ok",
    ];
    assert_eq!(results, expected, "{doctor}");
    let executor = shell
        .start("executor --queue default=2 --queue bulk=1", "serves ")
        .await;
    let quiet = shell.with("LONGSHORE_LOG_FILTER", "error");
    let done = quiet
        .run("task submit echo 1 --wait=30 -o json --queue bulk")
        .await
        .with_status(0);
    assert_eq!(
        (done.json()["state"].as_str(), done.err.as_str()),
        (Some("succeeded"), "")
    );
    let failed = quiet.run_words(&[
        "task",
        "submit",
        "fail",
        r#"{"message": "no"}"#,
        "--wait=30",
    ]);
    failed.await.with_status(3);
    let words = ["task", "submit", "sleep", r#"{"seconds": 600}"#];
    let id = quiet
        .run_words(&words)
        .await
        .with_status(0)
        .out
        .trim()
        .to_owned();
    quiet
        .run(&format!("task wait {id} --timeout 0.1"))
        .await
        .with_status(124);
    quiet.run(&format!("task cancel {id}")).await.with_status(0);
    quiet.run(&format!("task wait {id}")).await.with_status(4);
    let tap = quiet
        .run("tap --since first --count 2 -o jsonl")
        .await
        .with_status(0);
    let first: serde_json::Value = serde_json::from_str(tap.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["type"], "longshore.task.created", "{tap}");
    let filtered = quiet
        .run("tap --since first --count 1 --filter cancelled.#")
        .await
        .with_status(0);
    assert!(
        filtered.out.contains("cancelled") && filtered.out.contains(&id),
        "{filtered}"
    );
    assert_eq!(executor.stop().await, 0);
}
