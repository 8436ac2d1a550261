//! A store that does what it is asked, and whose answer gets lost: nothing is stranded, nothing done twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use longshore::action::{Context, Registry};
use longshore::background::Background;
use longshore::broker::embedded::EmbeddedBroker;
use longshore::broker::{
    Broker, BrokerError, Credit, Deliveries, Health, Message, Promises, Source,
};
use longshore::clock::SystemClock;
use longshore::domain::{Delivery, Failure, QueueName, TaskState};
use longshore::runtime::Runtime;
use longshore::store::{Store, StoreAddress};
use serde_json::json;
use tokio::sync::watch;

use crate::support::clock::Hurried;
use crate::support::eventually::eventually;
use crate::support::flaky::Flaky;
use crate::support::world::{PATIENCE, World, error, gate, next_event, submission};

#[tokio::test]
async fn a_claim_whose_answer_is_lost_runs_once() {
    let (world, store) = World::flaky().await;
    let mut tap = world.tap().await;
    let executor = world.executor(1).await;
    store.lose("claim");
    let task = world.run(submission("echo", &json!(1))).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 1));
    assert!(store.has_lost_all());
    assert_eq!(next_event(&mut tap).await.0, "created.default.echo");
    assert_eq!(next_event(&mut tap).await.0, "succeeded.default.echo");
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_idle_claim_whose_answer_is_lost_is_found_again_and_runs_once() {
    let (world, store) = World::flaky().await;
    // Stored before anybody consumes, and the announcement taken by one that does not know the action.
    let plain = world
        .executor_with(Registry::new(), &[("default", 1)])
        .await;
    let task = world.submit(submission("echo", &json!(1))).await;
    let left = async || {
        (
            world.broker.depth("longshore.work.default"),
            world.broker.lent("longshore.work.default"),
        )
    };
    eventually("its announcement is gone", left, |left| {
        *left == (Some(0), 0)
    })
    .await;
    store.lose("claim_idle");
    let able = world.executor(1).await;
    // The store's clock is not hurried: a task must have been ready for seconds.
    let row = async || world.client.task(task).await.unwrap();
    let task = eventually("it ended", row, |task| task.state.is_final()).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 1));
    assert!(store.has_lost_all());
    world.stop([plain, able]).await;
}

#[tokio::test]
async fn a_sub_task_whose_answer_is_lost_is_made_once_and_its_parent_goes_on() {
    let (world, store) = World::flaky().await;
    let mut tap = world.tap().await;
    let losing = Arc::clone(&store);
    let registry = world
        .registry()
        .with_fn("parent", move |context: Context, (): ()| {
            losing.lose("spawn");
            async move {
                let part = submission("echo", &json!(1));
                context.spawn(part.outliving_parent()).await?;
                Ok::<_, Failure>(())
            }
        });
    let executor = world.executor_with(registry, &[("default", 2)]).await;
    let parent = world.run(submission("parent", &json!(null))).await;
    assert_eq!((parent.state, parent.attempt.0), (TaskState::Succeeded, 1));
    assert!(store.has_lost_all());
    let tree = world.store().tree(parent.id).await.unwrap();
    assert_eq!(tree.tasks.len(), 2);
    let part = world.ended(tree.tasks[1].id).await;
    assert_eq!((part.state, part.attempt.0), (TaskState::Succeeded, 1));
    // It was announced, so nobody had to search for it.
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(next_event(&mut tap).await);
    }
    assert!(seen.contains(&("created.default.echo".to_owned(), part.id)));
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_stored_and_reported_once() {
    let (world, store) = World::flaky().await;
    let mut tap = world.tap().await;
    let executor = world.executor(1).await;
    store.lose("settle");
    let task = world.run(submission("echo", &json!(1))).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 1));
    assert!(store.has_lost_all());
    let next = world.run(submission("echo", &json!(2))).await.id;
    // The report of the first may come after the second was created: a waiter looks at the row.
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(next_event(&mut tap).await);
    }
    let mut expected: Vec<_> = ["created", "succeeded"]
        .into_iter()
        .flat_map(|kind| [task.id, next].map(|id| (format!("{kind}.default.echo"), id)))
        .collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_executor_that_cannot_renew_its_lease_stops_what_may_run_only_once_and_nothing_else() {
    let (world, store) = World::flaky().await;
    let executor = world.executor(2).await;
    let mut once = gate();
    once.options.delivery = Delivery::Once;
    let (once, rerun) = (world.submit(once).await, world.submit(gate()).await);
    world.wait_at_gate(2).await;
    store.lose_all("renew");
    let row = async |task| world.client.task(task).await.unwrap();
    let ended = eventually(
        "it is stopped",
        async || row(once).await,
        |task| task.state.is_final(),
    )
    .await;
    assert_eq!((ended.state, ended.attempt.0), (TaskState::Failed, 1));
    assert!(
        error(&ended).contains("could not renew its lease"),
        "{}",
        error(&ended)
    );
    assert_eq!(row(rerun).await.state, TaskState::Running);
    world.gate.add_permits(1);
    let ended = eventually(
        "it ended",
        async || row(rerun).await,
        |task| task.state.is_final(),
    )
    .await;
    assert_eq!((ended.state, ended.attempt.0), (TaskState::Succeeded, 1));
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_executor_that_cannot_renew_its_lease_begins_no_new_step_until_the_store_has_answered() {
    let (world, store) = World::flaky().await;
    let begun = Arc::new(AtomicU32::new(0));
    let (count, gate_open, arrived) = (
        Arc::clone(&begun),
        Arc::clone(&world.gate),
        Arc::clone(&world.arrived),
    );
    let registry = world
        .registry()
        .with_fn("stepper", move |context: Context, (): ()| {
            let (count, gate_open, arrived) = (
                Arc::clone(&count),
                Arc::clone(&gate_open),
                Arc::clone(&arrived),
            );
            async move {
                context
                    .step("first", async || {
                        arrived.add_permits(1);
                        gate_open.acquire().await?.forget();
                        Ok(())
                    })
                    .await?;
                let begun: u32 = context
                    .step("second", async || {
                        Ok(count.fetch_add(1, Ordering::SeqCst) + 1)
                    })
                    .await?;
                Ok::<_, Failure>(begun)
            }
        });
    let executor = world.executor_with(registry, &[("default", 3)]).await;
    let stepper = world.submit(submission("stepper", &json!(null))).await;
    let mut once = gate();
    once.options.delivery = Delivery::Once;
    let once = world.submit(once).await;
    world.wait_at_gate(2).await;
    store.lose_all("renew");
    // Its end says that the fence has fallen.
    let ended = world.ended(once).await;
    assert_eq!(ended.state, TaskState::Failed);
    world.gate.add_permits(1);
    let steps = async || world.store().steps(stepper).await.unwrap();
    eventually("what had begun is stored", steps, |steps| steps.len() == 1).await;
    // Whatever has no steps goes on, and all the time the second step might have begun.
    for _ in 0..20 {
        let echo = world.run(submission("echo", &json!(1))).await;
        assert_eq!(echo.state, TaskState::Succeeded);
    }
    assert_eq!(begun.load(Ordering::SeqCst), 0);
    store.lose_no_more();
    let ended = world.ended(stepper).await;
    assert_eq!((ended.state, ended.attempt.0), (TaskState::Succeeded, 1));
    assert_eq!(begun.load(Ordering::SeqCst), 1);
    world.stop([executor]).await;
}

/// What is announced of a task whose former end is still being stored here is news, and kept until that is answered: a
/// slow store shall not leave it to those who look for lost announcements.
#[tokio::test]
async fn a_wake_that_comes_before_the_answer_to_the_suspension_is_kept() {
    let (world, store) = World::flaky().await;
    let registry = world
        .registry()
        .with_fn("waits", |context: Context, (): ()| async move {
            context.wait_for::<u32>("go").await
        });
    let executor = world.executor_with(registry, &[("default", 2)]).await;
    store.lose_all("settle");
    let task = world.submit(submission("waits", &json!(null))).await;
    let row = async || world.client.task(task).await.unwrap();
    eventually("it waits", row, |task| task.state == TaskState::Suspended).await;
    drop(world.signal(task, "go", &json!(7)).await);
    // The executor has asked for so long that whoever waits a second only has given up.
    let settles = async || store.calls()["settle"];
    let until = settles().await + 4;
    eventually("it asks again and again", settles, |count| *count > until).await;
    let queue = "longshore.work.default";
    assert_eq!(
        (world.broker.depth(queue), world.broker.lent(queue)),
        (Some(0), 2),
        "the task's delivery, and the one that says that it is ready again"
    );
    store.lose_no_more();
    let task = world.ended(task).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 2));
    world.stop([executor]).await;
}

/// A broker that says that it is away when it is told to.
#[derive(Debug)]
struct Moody {
    broker: Arc<EmbeddedBroker>,
    health: watch::Sender<Health>,
}

#[async_trait]
impl Broker for Moody {
    fn promises(&self) -> Promises {
        self.broker.promises()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn identity(&self) -> Option<String> {
        self.broker.identity()
    }

    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        self.broker.publish(messages).await
    }

    async fn consume(&self, source: Source, credit: Credit) -> Result<Deliveries, BrokerError> {
        self.broker.consume(source, credit).await
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), BrokerError> {
        self.broker.create_queue(queue).await
    }

    async fn close(&self) {
        self.broker.close().await;
    }
}

/// The store knows of an executor that nobody would hear of its death, and the executor does not know that it does: it
/// would renew its lease so seldom that it looked dead.
#[tokio::test]
async fn an_executor_of_which_a_note_is_lost_is_not_taken_for_silent() {
    let address: StoreAddress = "sqlite::memory:".parse().unwrap();
    let store = address.open().await.unwrap();
    store.migrate().await.unwrap();
    let flaky = Flaky::new(store);
    let broker = Arc::new(Moody {
        broker: EmbeddedBroker::new(),
        health: watch::channel(Health::Up).0,
    });
    let runtime = Runtime::of(
        Arc::<Flaky>::clone(&flaky),
        Arc::<Moody>::clone(&broker),
        Arc::new(Hurried(SystemClock::shared())),
        Background::new(),
    );
    let executor = runtime.executor_with_slots(Registry::new(), 1).await;
    let executor = executor.unwrap();
    let whole_lease = Duration::from_hours(1);
    let silent = async || flaky.glance(whole_lease).await.unwrap().silent;
    assert_eq!(silent().await, []);
    flaky.lose_all("note_token");
    broker
        .health
        .send_replace(Health::Down("as told".to_owned()));
    eventually("it is noted", silent, |silent| silent.len() == 1).await;
    broker.health.send_replace(Health::Up);
    flaky.lose_no_more();
    eventually("it is noted again", silent, Vec::is_empty).await;
    assert_eq!(executor.drain(PATIENCE).await.given_back, 0);
    runtime.stop().await;
}
