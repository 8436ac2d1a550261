//! Submission in a transaction of the application's own.

use std::sync::Arc;

use longshore::client::SubmitError;
use longshore::domain::{IdempotencyKey, NewTask, QueueName, Submission, TaskState};
use longshore::store::postgres::sqlx::{self, AssertSqlSafe, PgPool};
use longshore::store::postgres::{PostgresStore, SubmitInError};
use longshore::store::{Receipt, Refusal};
use serde_json::json;

use crate::support::database;
use crate::support::eventually::eventually;
use crate::support::world::{World, next_event, output, submission};

/// An application with rows of its own beside the tasks.
struct Application {
    world: World,
    pool: PgPool,
    address: String,
}

impl Application {
    async fn start() -> Self {
        let address = database::fresh_database().await;
        let pool = PgPool::connect(&address).await.unwrap();
        sqlx::query("create table orders (item text)")
            .execute(&pool)
            .await
            .unwrap();
        let store = PostgresStore::connect(&address).await.unwrap();
        let world = World::on(Arc::new(store)).await;
        Self {
            world,
            pool,
            address,
        }
    }

    async fn prepare(&self, submission: Submission) -> NewTask {
        self.world.client.prepare(submission).await.unwrap()
    }

    async fn count(&self, table: &'static str) -> i64 {
        let count = format!("select count(*) from {table}");
        let count = sqlx::query_scalar(AssertSqlSafe(count));
        count.fetch_one(&self.pool).await.unwrap()
    }

    /// How many others wait for a lock.
    async fn waiting(&self) -> i64 {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database()
            and wait_event_type = 'Lock'";
        sqlx::query_scalar(waiting)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    async fn end(self) {
        self.pool.close().await;
        self.world.stop([]).await;
        database::drop_database(&self.address).await;
    }
}

const ORDER: &str = "insert into orders values ('anchor')";

fn echo() -> Submission {
    submission("echo", &json!("anchor"))
}

fn keyed() -> Submission {
    echo().with_key(IdempotencyKey::new("order-7").unwrap())
}

#[tokio::test]
async fn a_task_is_committed_or_rolled_back_with_the_rows_of_the_application() {
    let application = Application::start().await;
    for commits in [false, true] {
        let mut transaction = application.pool.begin().await.unwrap();
        sqlx::query(ORDER).execute(&mut *transaction).await.unwrap();
        let tasks = [
            application.prepare(echo()).await,
            application.prepare(echo()).await,
        ];
        let receipts = PostgresStore::submit_in(&mut transaction, &tasks)
            .await
            .unwrap();
        let ids = [tasks[0].id, tasks[1].id];
        assert_eq!(
            receipts.iter().map(|one| one.task.id).collect::<Vec<_>>(),
            ids
        );
        assert!(
            receipts
                .iter()
                .all(|one| one.is_new && one.task.state == TaskState::Ready)
        );
        assert_eq!(
            application.count("task").await,
            0,
            "nobody sees it before the commit"
        );
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        let stored = (
            application.count("orders").await,
            application.count("task").await,
        );
        assert_eq!(stored, if commits { (1, 2) } else { (0, 0) });
    }
    application.end().await;
}

#[tokio::test]
async fn a_task_that_nobody_announced_runs_all_the_same() {
    let application = Application::start().await;
    let executor = application.world.executor(4).await;
    let mut transaction = application.pool.begin().await.unwrap();
    let task = application.prepare(echo()).await;
    let id = task.id;
    let receipts = PostgresStore::submit_in(&mut transaction, &[task])
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    drop(receipts); // As if the process had died here.
    let look = async || application.world.client.task(id).await.unwrap();
    let ended = eventually("it has run", look, |task| task.state.is_final()).await;
    assert_eq!(output(&ended), "anchor");
    let Application {
        world,
        pool,
        address,
    } = application;
    pool.close().await;
    world.stop([executor]).await;
    database::drop_database(&address).await;
}

#[tokio::test]
async fn what_is_new_is_announced_and_what_was_known_is_not() {
    let application = Application::start().await;
    let mut tap = application.world.tap().await;
    let mut announced = Vec::new();
    for (submission, is_new) in [(keyed(), true), (keyed(), false), (echo(), true)] {
        let mut transaction = application.pool.begin().await.unwrap();
        let task = application.prepare(submission).await;
        let receipts = PostgresStore::submit_in(&mut transaction, &[task])
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(receipts[0].is_new, is_new);
        application.world.client.announce(&receipts).await;
        if is_new {
            announced.push(receipts[0].task.id);
        }
    }
    for task in announced {
        let event = next_event(&mut tap).await;
        assert_eq!(event, ("created.default.echo".to_owned(), task));
    }
    drop(tap);
    application.end().await;
}

#[tokio::test]
async fn what_a_transaction_cannot_hold_is_an_error() {
    let application = Application::start().await;
    let client = &application.world.client;
    let first = client.submit(keyed()).await.unwrap().task.id;
    let nowhere = QueueName::new("nowhere").unwrap();
    let other = Submission {
        priority: 5,
        ..keyed()
    };
    let mut said = Vec::new();
    for submission in [echo().on_queue(nowhere.clone()), other] {
        let mut transaction = application.pool.begin().await.unwrap();
        let tasks = [
            application.prepare(echo()).await,
            application.prepare(submission).await,
        ];
        let refused = PostgresStore::submit_in(&mut transaction, &tasks)
            .await
            .unwrap_err();
        assert!(!refused.is_transient(), "{refused:?}");
        drop(transaction);
        said.push(refused);
    }
    assert_eq!(application.count("task").await, 1);
    assert!(
        matches!(&said[0], SubmitInError::Refused(Refusal::UnknownQueue(queue)) if *queue == nowhere),
        "{said:?}"
    );
    let expected = format!(
        "the idempotency key `order-7` belongs to the task `{first}`, which differs in `priority`"
    );
    assert_eq!(said[1].to_string(), expected);
    let as_submitted = SubmitError::from(said.remove(1));
    assert_eq!(as_submitted.to_string(), expected);
    assert!(
        client
            .prepare(Submission {
                priority: 500,
                ..echo()
            })
            .await
            .is_err()
    );
    application.end().await;
}

#[tokio::test]
async fn who_submits_the_same_key_waits_for_the_transaction_that_has_it() {
    let application = Application::start().await;
    for commits in [false, true] {
        let mut first = application.pool.begin().await.unwrap();
        let task = application.prepare(keyed()).await;
        let receipts = PostgresStore::submit_in(&mut first, &[task]).await.unwrap();
        let second = application.world.client.submit(keyed());
        let end = async {
            eventually(
                "the second waits",
                async || application.waiting().await,
                |n| *n == 1,
            )
            .await;
            if commits {
                first.commit().await.unwrap();
            } else {
                first.rollback().await.unwrap();
            }
        };
        let (second, ()) = tokio::join!(second, end);
        let Receipt { task, is_new } = second.unwrap();
        assert_eq!(is_new, !commits);
        assert_eq!(task.id == receipts[0].task.id, commits);
        let clear = sqlx::query("delete from task").execute(&application.pool);
        clear.await.unwrap();
    }
    application.end().await;
}
