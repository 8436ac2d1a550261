//! Executors that die, seem to die, or are kept from answering: who goes on with their tasks, and how soon. And
//! announcements that nobody brings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use longshore::action::{Context, Registry};
use longshore::broker::{Broker as _, Source};
use longshore::domain::limits::LEASE_DURATION;
use longshore::domain::{Failure, NewTask, Payload, QueueName, Task, TaskId, TaskState};
use longshore::runtime::RunningExecutor;
use longshore::store::StoreAddress;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::contract::store::record;
use crate::support::database::fresh_database;
use crate::support::eventually::{eventually, eventually_within};
use crate::support::flaky::Flaky;
use crate::support::world::{PATIENCE, World, gate, submission};

/// A lease that outlives every test.
const LONG: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_death_notice_hands_the_tasks_on_before_the_lease_ends() {
    let world = World::embedded().await;
    let second = world.executor(2).await;
    let (first, task, lease) = at_the_gate(&world).await;
    // Its connection ends without a farewell, and its lease is renewed no more.
    drop(first);
    let released = is_released_before(&world, task, lease).await;
    assert_eq!((released.crashes, released.failures), (1, 0));
    world.client.cancel(task, "enough").await.map(drop).unwrap();
    world.gate.add_permits(1);
    world.stop([second]).await;
}

/// An executor of its own queue with a task that waits at the gate, and when its lease ends.
async fn at_the_gate(world: &World) -> (RunningExecutor, TaskId, jiff::Timestamp) {
    let first = world.executor_with(world.registry(), &[("other", 1)]).await;
    let mut task = gate();
    task.queue = "other".parse().unwrap();
    let task = world.submit(task).await;
    world.wait_at_gate(1).await;
    let lease = world.store().lease_end(first.id()).await.unwrap();
    (first, task, lease.unwrap())
}

/// Waits until a task is ready again, which must be before the lease of its executor would have ended.
async fn is_released_before(world: &World, task: TaskId, lease: jiff::Timestamp) -> Task {
    let look = async || world.client.task(task).await.unwrap();
    let is_ready = |task: &Task| task.state == TaskState::Ready;
    let released = eventually("it is released", look, is_ready).await;
    let ready_at = released.ready_at.unwrap();
    assert!(ready_at < lease, "only after the lease: {released:?}");
    released
}

#[tokio::test]
async fn a_death_notice_is_kept_until_the_store_answers() {
    let (world, store) = World::flaky().await;
    let second = world.executor(2).await;
    let (first, task, lease) = at_the_gate(&world).await;
    for method in ["lease_end", "lease_end", "end_lease", "take_over"] {
        store.lose(method);
    }
    drop(first);
    drop(is_released_before(&world, task, lease).await);
    assert!(store.has_lost_all());
    world.client.cancel(task, "enough").await.map(drop).unwrap();
    world.gate.add_permits(1);
    world.stop([second]).await;
}

#[tokio::test]
async fn what_the_broker_lends_to_the_dead_is_found_at_once() {
    let world = World::embedded().await;
    let lost = record("lost");
    world.store().enroll(&lost, LONG).await.unwrap();
    let mut tasks = Vec::new();
    for number in 0..6 {
        tasks.push(world.submit(submission("echo", &json!(number))).await);
    }
    assert_eq!(world.store().claim(lost.id, &tasks).await.unwrap().len(), 6);
    let token = Source::Token(lost.id);
    let mut token = world.broker.consume(token, 1).await.unwrap();
    let held = token.next().await;
    // Of a dozen that serve a queue each looks every half minute.
    for _ in 0..12 {
        let record = record("elsewhere");
        world.store().enroll(&record, LONG).await.unwrap();
    }
    let executor = world.executor(6).await;
    let lease = async || {
        let end = world.store().lease_end(executor.id()).await;
        end.unwrap().unwrap()
    };
    let begun = lease().await;
    eventually("it knows the fleet, and looks as often", lease, |end| {
        end.duration_since(begun) > SignedDuration::from_secs(9)
    })
    .await;
    // On a host without power, of which the broker has not noticed yet: what it is lent it keeps.
    let work = Source::Work(QueueName::default_queue());
    let dead = world.broker.consume(work, 100).await.unwrap();
    drop((held, token));
    let open = async || {
        let found = world.store().tasks(&tasks).await.unwrap().tasks;
        found.iter().filter(|task| !task.state.is_final()).count()
    };
    let soon = Duration::from_secs(10);
    eventually_within(soon, "all have run elsewhere", open, |open| *open == 0).await;
    let lent = world.broker.lent("longshore.work.default");
    assert!(lent > 0, "the dead has some");
    drop(dead);
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_executor_without_a_token_that_falls_silent_is_found_before_its_lease_ends() {
    let (world, _) = World::flaky().await;
    let store = world.store();
    let mut task = gate();
    task.queue = "other".parse().unwrap();
    store.create_queue(&task.queue).await.unwrap();
    let task = world.submit(task).await;
    let record = record("dead");
    store.enroll(&record, LEASE_DURATION).await.unwrap();
    assert_eq!(store.claim(record.id, &[task]).await.unwrap().len(), 1);
    store.note_token(record.id, false).await.unwrap();
    let lease = store.lease_end(record.id).await.unwrap().unwrap();
    let executor = world.executor(1).await;
    drop(is_released_before(&world, task, lease).await);
    world.stop([executor]).await;
}

#[tokio::test]
async fn user_code_that_blocks_the_runtime_does_not_stop_the_heartbeat() {
    // In PostgreSQL: in memory there is one connection, and the blocked runtime may hold it.
    let address: StoreAddress = fresh_database().await.parse().unwrap();
    let (world, store) = World::flaky_on(address.open().await.unwrap()).await;
    // This test has one thread: the action holds it, and with it every timer and socket of the runtime.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let begun = Arc::new(Semaphore::new(0));
    let arrived = Arc::clone(&begun);
    let renewals = {
        let store = Arc::clone(&store);
        move || store.calls().get("renew").copied().unwrap_or(0)
    };
    let count = renewals.clone();
    let registry = Registry::new().with_fn("block", move |_: Context, _: Payload| {
        let (held, arrived, count) = (Arc::clone(&held), Arc::clone(&arrived), count.clone());
        async move {
            let before = count();
            arrived.add_permits(1);
            let waited = held.lock().unwrap().recv_timeout(PATIENCE);
            waited.map_err(Failure::fatal)?;
            Ok::<_, Failure>(count() - before)
        }
    });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    // Lets go when the lease was renewed ten times meanwhile, from a thread that nobody blocks.
    let watch = std::thread::spawn(move || {
        let before = renewals();
        while renewals() < before + 10 {
            std::thread::yield_now();
        }
        release.send(()).unwrap();
    });
    let task = world.submit(submission("block", &json!(null))).await;
    // Not by the client, on whose clock half a minute is soon over.
    let task = eventually(
        "it ended",
        async || world.client.task(task).await.unwrap(),
        |task| task.state.is_final(),
    )
    .await;
    assert_eq!(task.state, TaskState::Succeeded, "{task:?}");
    watch.join().unwrap();
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_lost_announcement_is_found_although_the_queue_is_never_silent() {
    let world = World::embedded().await;
    // Stored, and never announced: as if its web server had died in between.
    let lost = NewTask {
        fan_out: None,
        id: TaskId::new(world.runtime.clock().now(), 1),
        origin: None,
        submission: submission("echo", &json!("lost")),
    };
    drop(
        world
            .store()
            .submit(std::slice::from_ref(&lost))
            .await
            .unwrap(),
    );
    // One slot that is hardly ever free.
    let executor = world.executor(1).await;
    let load = async {
        loop {
            let naps = (0..4).map(|_| world.run(submission("sleep", &json!({"seconds": 0.02}))));
            futures_util::future::join_all(naps).await;
        }
    };
    let ended = eventually(
        "it has run",
        async || world.client.task(lost.id).await.unwrap(),
        |task| task.state.is_final(),
    );
    let ended = tokio::select! {
        ended = ended => ended,
        () = load => unreachable!("the load does not end"),
    };
    assert_eq!((ended.state, ended.attempt.0), (TaskState::Succeeded, 1));
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_suspect_runs_on_trial_and_one_by_one() {
    let world = World::embedded().await;
    let tasks = [world.submit(gate()).await, world.submit(gate()).await];
    // Two executors died while both ran: made in the store, because no process shall die here.
    for _ in 0..2 {
        let record = record("dead");
        let store = world.store();
        store.enroll(&record, LEASE_DURATION).await.unwrap();
        assert_eq!(store.claim(record.id, &tasks).await.unwrap().len(), 2);
        let ends_at = store.lease_end(record.id).await.unwrap().unwrap();
        assert!(store.end_lease(record.id, ends_at).await.unwrap());
        drop(store.take_over(Some(record.id), 9).await.unwrap());
    }
    let executor = world.executor(2).await;
    world.wait_at_gate(1).await;
    eventually(
        "both are claimed",
        async || {
            let both = world.store().tasks(&tasks).await.unwrap().tasks;
            both.iter()
                .filter(|task| task.state == TaskState::Running)
                .count()
        },
        |running| *running == 2,
    )
    .await;
    assert_eq!(world.arrived.available_permits(), 0, "the second waits");
    world.gate.add_permits(2);
    for task in tasks {
        assert_eq!(world.ended(task).await.state, TaskState::Succeeded);
    }
    world.stop([executor]).await;
}

/// What an idle executor asks of the store at most, in a minute: a heartbeat every 5 s; a look of the housekeeper and one
/// for lost announcements about every 5 s.
const IDLE_CALLS_MAX: [(&str, f64); 12] = [
    ("renew", 13.0),
    ("glance", 25.0),
    ("claim_idle", 25.0),
    ("due", 0.1),
    ("clear_below", 0.1),
    ("fire_schedules", 0.1),
    ("take_over", 0.1),
    ("note_token", 0.1),
    ("prune", 2.0),
    ("claim", 0.1),
    ("settle", 0.1),
    ("tasks", 0.1),
];

/// How often each method of the store is called in a minute, by what is seen in three.
async fn calls_per_minute(world: &World, store: &Flaky) -> BTreeMap<String, f64> {
    let clock = world.runtime.clock();
    let (begun, before) = (clock.monotonic(), store.calls());
    eventually(
        "three minutes are over",
        async || clock.monotonic().saturating_sub(begun),
        |passed| *passed >= Duration::from_mins(3),
    )
    .await;
    let minutes = clock.monotonic().saturating_sub(begun).as_secs_f64() / 60.0;
    let calls = store.calls().into_iter().map(|(method, count)| {
        let count = count - before.get(&method).copied().unwrap_or(0);
        (method, f64::from(u32::try_from(count).unwrap()) / minutes)
    });
    calls.collect()
}

#[tokio::test]
async fn an_idle_executor_asks_the_store_little() {
    let (world, store) = World::flaky().await;
    let executor = world.executor(8).await;
    // In hurried time a machine that is busy for a tenth of a second has blocked the executor's threads for ten seconds;
    // then its heart rightly beats faster. So it is looked more than once.
    let mut too_many = Vec::new();
    for _ in 0..10 {
        let calls = calls_per_minute(&world, &store).await;
        let of = |method: &str| calls.get(method).copied().unwrap_or(0.0);
        assert!(of("renew") > 1.0, "the heart beats");
        too_many = IDLE_CALLS_MAX
            .into_iter()
            .map(|(method, most)| (method, of(method), most))
            .filter(|(_, calls, most)| calls > most)
            .collect();
        if too_many.is_empty() {
            break;
        }
    }
    assert_eq!(too_many, []);
    world.stop([executor]).await;
}
