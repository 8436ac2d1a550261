//! The same commands against PostgreSQL and RabbitMQ.

use reqwest::Method;
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{REFUSED, Shell};
use crate::support::database::empty_database;
use crate::support::eventually::eventually;
use crate::support::rabbitmq::Rabbit;

async fn shell() -> Shell {
    let vhost = Rabbit::shared().vhost().await;
    Shell::new()
        .with("DATABASE_URL", empty_database().await)
        .with("AMQP_URL", vhost.url())
}

#[tokio::test]
async fn a_system_is_set_up_and_looked_at() {
    let shell = shell().await;
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
    ! created schema 8 in the store
    = 0
    $ longshore db migrate
    ! the store has schema 8 already
    = 0
    $ longshore queue create bulk
    ! queue `bulk` is there
    = 0
    $ longshore queue list
    QUEUE    SCHEDULED  READY  RUNNING  PAUSED
    bulk     0          0      0
    default  0          0      0
    = 0
    "#);
    let management = Rabbit::shared().management();
    let shell = shell.with("LONGSHORE_BROKER_MANAGEMENT_URL", management);
    let doctor = shell.run("doctor -o jsonl").await.with_status(0);
    let finding = |line| {
        let finding: Value = serde_json::from_str(line).unwrap();
        let word = |key: &str| finding[key].as_str().unwrap().to_owned();
        format!("{} {}", word("what"), word("result"))
    };
    let findings: Vec<String> = doctor.out.lines().map(finding).collect();
    let expected = "longshore ok, store ok, clock ok, schema ok, broker ok, topology ok";
    assert_eq!(findings.join(", "), expected, "{doctor}");
}

#[tokio::test]
async fn tasks_run_and_are_listened_to() {
    let shell = shell().await;
    assert_eq!(shell.run("db migrate").await.status, 0);
    let executor = shell.start("executor --queue default=2", "serves ").await;
    let shell = shell.with("LONGSHORE_LOG_FILTER", "error");
    let done = shell.run("task submit echo 1 --wait=30 -o json").await;
    let done = done.with_status(0);
    assert_eq!((&done.json()["output"], done.err.as_str()), (&1.into(), ""));
    let words = [
        "task",
        "submit",
        "fail",
        r#"{"message": "no"}"#,
        "--wait=30",
    ];
    shell.run_words(&words).await.with_status(3);
    let words = ["task", "submit", "sleep", r#"{"seconds": 600}"#];
    let id = shell.run_words(&words).await.with_status(0).out;
    let id = id.trim();
    for (line, status) in [
        (format!("task wait {id} --timeout 0.1"), 124),
        (format!("task cancel {id}"), 0),
        (format!("task wait {id}"), 4),
        ("task submit ecko".to_owned(), 1),
        ("task submit echo {".to_owned(), 2),
    ] {
        shell.run(&line).await.with_status(status);
    }
    let tap = shell.run("tap --since first --count 2 -o jsonl").await;
    let tap = tap.with_status(0);
    let first: Value = serde_json::from_str(tap.out.lines().next().unwrap()).unwrap();
    assert_eq!(first["type"], "longshore.task.created", "{tap}");
    let line = "tap --since first --count 1 --filter cancelled.#";
    let filtered = shell.run(line).await.with_status(0);
    let is_it = filtered.out.contains("cancelled") && filtered.out.contains(id);
    assert!(is_it, "{filtered}");
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn only_a_broker_that_is_away_is_evidence_of_why() {
    let shell = shell().await;
    assert_eq!(shell.run("db migrate").await.status, 0);
    let executor = shell.start("executor --queue default=1", "serves ").await;
    let submit = async |line| shell.run(line).await.with_status(0).out.trim().to_owned();
    let runs = submit("task submit sleep {\"seconds\":600}").await;
    let show = format!("task show {runs} -o json");
    let look = async || shell.run(&show).await.json();
    eventually("it runs", look, |task| task["state"] == "running").await;
    let waits = submit("task submit echo").await;
    let why = format!("task why {waits}");
    let said = shell.run(&why).await.with_status(0);
    let verdict = "ready: it is the next in the queue `default`, and all its slots are taken\n";
    assert!(said.out.starts_with(verdict), "{said}");
    assert!(!said.out.contains("the broker"), "{said}");
    let shell = shell.with("AMQP_URL", format!("amqp://{REFUSED}"));
    let said = shell.run(&why).await.with_status(0);
    assert!(said.out.starts_with(verdict), "{said}");
    assert!(said.out.contains("\n  the broker: it is away: "), "{said}");
    shell
        .run(&format!("task cancel {runs}"))
        .await
        .with_status(0);
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn a_task_whose_announcement_the_broker_lost_is_told_and_announced_again() {
    let vhost = Rabbit::shared().vhost().await;
    let store = empty_database().await;
    let shell = Shell::new()
        .with("DATABASE_URL", store.clone())
        .with("AMQP_URL", vhost.url())
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false")
        .with(
            "LONGSHORE_BROKER_MANAGEMENT_URL",
            Rabbit::shared().management(),
        );
    shell.run("db migrate").await.with_status(0);
    shell.run("task submit echo 1").await.with_status(0);
    // It is ready for long, and an executor looks alive and does nothing.
    let meddling = "update task set ready_at = now() - interval '1 hour'; \
        insert into executor (id, name, host, pid, version, slots, actions, started_at, lease_ends_at) \
        values (gen_random_uuid(), 'idle', 'host', 1, '1', '{\"default\":1}', '[\"echo\"]', now(), \
            now() + interval '1 hour')";
    let mut connection = PgConnection::connect(&store).await.unwrap();
    connection.execute(meddling).await.unwrap();
    // The management interface counts every few seconds.
    let audit = async || shell.run("audit").await.status;
    eventually("its announcement waits", audit, |status| *status == 0).await;
    let path = format!("queues/{}/longshore.work.default/contents", vhost.name);
    let rabbit = Rabbit::shared();
    rabbit.call(Method::DELETE, &path, Value::Null).await;
    eventually("its announcement is lost", audit, |status| *status == 1).await;
    let said = shell.session(&["audit", "audit --fix"]).await;
    insta::assert_snapshot!(said, @r#"
    $ longshore audit
    KIND         SUBJECT                               RESULT  WHAT
    unannounced  [id]  found   it is `ready` for long and nobody seems to know of it
    ! violations: 1
    ! `longshore audit --fix` repairs 1 of them
    = 1
    $ longshore audit --fix
    KIND         SUBJECT                               RESULT    WHAT
    unannounced  [id]  repaired  it is `ready` for long and nobody seems to know of it
    ! [id] announced again
    ! repaired 1
    = 0
    "#);
    assert_eq!(vhost.depth("longshore.work.default").await, Some(1));
}
