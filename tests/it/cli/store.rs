//! Stores that are not there, not ready, or not right.

use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::{PASSWORD, REFUSED, Shell, steady};
use crate::support::database::address_of;

/// Changes the store behind everybody's back.
pub(super) async fn meddle(shell: &Shell, sql: &'static str) {
    let url = format!("sqlite:{}", shell.path().join("tasks.db").display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    connection.execute(sql).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_store_is_migrated_once_and_refused_before() {
    let shell = Shell::sqlite();
    let said = shell
        .session(&[
            "web",
            "executor",
            "task list",
            "task submit echo",
            "doctor",
            "db migrate",
            "db migrate",
            "task list",
        ])
        .await;
    insta::assert_snapshot!(steady(&said), @r#"
    $ longshore web
    ! error: the store has no schema yet; run `longshore db migrate`
    = 1
    $ longshore executor
    ! error: the store has no schema yet; run `longshore db migrate`
    = 1
    $ longshore task list
    ! error: the store has no schema yet; run `longshore db migrate`
    = 1
    $ longshore task submit echo
    ! error: the store has no schema yet; run `longshore db migrate`
    = 1
    $ longshore doctor
    WHAT       RESULT   DETAIL
    longshore  ok       0.1.0
    store      ok       SQLite [..]
    clock      ok       [..]
    schema     wrong    the store has no schema yet; run `longshore db migrate`
    broker     ok       no broker
    topology   skipped  set `broker.management_url` to have it compared
    = 1
    $ longshore db migrate
    ! created schema 8 in the store
    = 0
    $ longshore db migrate
    ! the store has schema 8 already
    = 0
    $ longshore task list
    TASK  ACTION  QUEUE  STATE  ATTEMPT  CREATED  RAN  ERROR
    = 0
    "#);
}

#[tokio::test]
async fn a_schema_of_another_version_is_left_alone() {
    let shell = Shell::migrated().await;
    meddle(
        &shell,
        "insert into _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
         values (999, 'from the future', '2100-01-01', 1, x'00', 0)",
    )
    .await;
    let said = shell
        .session(&["web", "executor", "db migrate", "task submit echo"])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore web
    ! error: the store has schema 999, newer than 8 which this program knows; install a newer longshore
    = 1
    $ longshore executor
    ! error: the store has schema 999, newer than 8 which this program knows; install a newer longshore
    = 1
    $ longshore db migrate
    ! error: the store has schema 999, newer than 8 which this program knows; install a newer longshore
    = 1
    $ longshore task submit echo
    ! error: the store has schema 999, newer than 8 which this program knows; install a newer longshore
    = 1
    "#);
}

#[tokio::test]
async fn a_row_that_nobody_could_have_written_is_named_and_the_others_go_on() {
    let shell = Shell::migrated().await;
    let executor = shell.start("executor", "serves default").await;
    let one = shell
        .run("task submit echo 1 --wait=30 -o json")
        .await
        .with_status(0);
    let bad = one.json()["id"].as_str().unwrap().to_owned();
    meddle(
        &shell,
        "update task set options = '{\"timeout\": \"a fortnight\"}'",
    )
    .await;
    let said = shell
        .session(&[
            &format!("task show {bad}"),
            "task list",
            &format!("task tree {bad}"),
        ])
        .await;
    assert!(
        shell.run("task list").await.err.contains(&bad),
        "it is named"
    );
    insta::assert_snapshot!(said, @r#"
    $ longshore task show [id]
    ! error: the row `[id]` of `task` cannot be read: `options`: invalid type: string "a fortnight", expected struct Duration at line 1 column 25
    = 1
    $ longshore task list
    TASK  ACTION  QUEUE  STATE  ATTEMPT  CREATED  RAN  ERROR
    ! left out: the row `[id]` of `task` cannot be read: `options`: invalid type: string "a fortnight", expected struct Duration at line 1 column 25
    = 0
    $ longshore task tree [id]
    TASK  ACTION  QUEUE  STATE  ATTEMPT  CREATED  RAN  ERROR
    ! left out: the row `[id]` of `task` cannot be read: `options`: invalid type: string "a fortnight", expected struct Duration at line 1 column 25
    = 0
    "#);
    shell
        .run("task submit echo 2 --wait=30 --label n=2")
        .await
        .with_status(0);
    let both = shell.run("task list -o json").await.with_status(0);
    assert_eq!(both.json().as_array().unwrap().len(), 1, "the other");
    let web = shell
        .start("web --listen 127.0.0.1:0", "listens on http://")
        .await;
    let (_, address) = web.said.last().unwrap().split_once("listens on ").unwrap();
    let address = address.split_whitespace().next().unwrap();
    longshore::broker::install_tls();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let page = client.get(format!("{address}/v1/tasks")).send().await;
    let page: serde_json::Value = page.unwrap().json().await.unwrap();
    assert_eq!(page["tasks"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["unreadable"][0]["id"], bad.as_str(), "{page}");
    drop(client);
    assert_eq!(web.stop().await, 0);
    let listed = shell
        .run("task list --label n=2 -o json")
        .await
        .with_status(0);
    assert_eq!(listed.json().as_array().unwrap().len(), 1);
    assert_eq!(executor.stop().await, 0);
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_says_what_to_look_at() {
    let away = format!("postgres://me:{PASSWORD}@{REFUSED}/tasks");
    let shell = Shell::new()
        .with("DATABASE_URL", away)
        .with("AMQP_URL", "none");
    let mut said = shell.session(&["db migrate", "task list", "web"]).await;
    let shell = shell.with("DATABASE_URL", "sqlite:no/such/folder.db");
    said.push_str(&shell.session(&["db migrate"]).await);
    shell.write(
        "text.db",
        &"this is a text, not a file of SQLite\n".repeat(50),
    );
    let shell = shell.with("DATABASE_URL", "sqlite:text.db");
    said.push_str(&shell.session(&["db migrate"]).await);
    insta::assert_snapshot!(said, @r#"
    $ longshore db migrate
    ! error: the store does not answer: `postgres://me:***@127.0.0.1:1/tasks`: error communicating with database: Connection refused (os error 111)
    ! hint: is the server of `DATABASE_URL` running and reachable?
    = 1
    $ longshore task list
    ! error: the store does not answer: `postgres://me:***@127.0.0.1:1/tasks`: error communicating with database: Connection refused (os error 111)
    ! hint: is the server of `DATABASE_URL` running and reachable?
    = 1
    $ longshore web
    ! error: the store does not answer: `postgres://me:***@127.0.0.1:1/tasks`: error communicating with database: Connection refused (os error 111)
    ! hint: is the server of `DATABASE_URL` running and reachable?
    = 1
    $ longshore db migrate
    ! error: the store refuses the connection: `no/such/folder.db`: unable to open database file
    ! hint: check `DATABASE_URL`: user, password and database; or the folder of the SQLite file and the rights to it
    = 1
    $ longshore db migrate
    ! error: not the address of a store: `text.db`: file is not a database; it is `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH`
    = 1
    "#);
}

#[tokio::test]
async fn a_wrong_password_or_database_is_told_from_a_server_that_is_away() {
    let right = address_of("postgres");
    let (_, host) = right.split_once('@').unwrap();
    let wrong = format!("postgres://longshore:{PASSWORD}@{host}");
    let shell = Shell::new()
        .with("DATABASE_URL", wrong)
        .with("AMQP_URL", "none");
    let mut said = shell.session(&["db migrate"]).await;
    let shell = shell.with("DATABASE_URL", address_of("no_such_database"));
    said.push_str(&shell.session(&["db migrate"]).await);
    let (host, _) = host.split_once('/').unwrap();
    insta::assert_snapshot!(said.replace(host, "[host]"), @r#"
    $ longshore db migrate
    ! error: the store refuses the connection: `postgres://longshore:***@[host]/postgres`: password authentication failed for user "longshore"
    ! hint: check `DATABASE_URL`: user, password and database; or the folder of the SQLite file and the rights to it
    = 1
    $ longshore db migrate
    ! error: the store refuses the connection: `postgres://longshore:***@[host]/no_such_database`: database "no_such_database" does not exist
    ! hint: check `DATABASE_URL`: user, password and database; or the folder of the SQLite file and the rights to it
    = 1
    "#);
}
