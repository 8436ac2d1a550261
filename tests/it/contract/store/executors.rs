//! Executors, their leases, and what happens to their tasks when they are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore::domain::{
    Delivery, Ending, ExecutorRecord, ExecutorState, Failure, OnFailure, QueueName, Submission,
    TaskId, TaskState,
};
use longshore::store::{Renewal, Settled, TakenOver};

use super::World;
use super::world::{LONG, action, echo, new, queue, record, succeeded};

fn once(on_failure: OnFailure) -> Submission {
    let mut submission = echo();
    submission.options.delivery = Delivery::Once;
    submission.options.on_failure = on_failure;
    submission
}

fn ids(facts: &[longshore::domain::TaskFacts]) -> Vec<TaskId> {
    facts.iter().map(|facts| facts.id).collect()
}

pub(crate) async fn the_tasks_of_a_lost_executor_are_taken_over(world: &World) {
    let batch = [
        new(echo()),
        new(once(OnFailure::Fail)),
        new(once(OnFailure::Pause)),
        new(once(OnFailure::Fail)),
    ];
    let tasks = world.submit(&batch).await;
    let live = world.executor().await;
    let lost = world.lost_executor(&tasks).await;
    drop(world.store.cancel(tasks[3], "enough").await.unwrap());

    let taken = world.store.take_over(None, 100).await.unwrap();
    assert_eq!(taken.lost, [lost]);
    assert_eq!(ids(&taken.released), [tasks[0]]);
    assert_eq!(ids(&taken.ended), [tasks[1], tasks[2]]);
    assert_eq!(ids(&taken.cancelled), [tasks[3]]);
    let states: Vec<TaskState> = [&taken.released, &taken.ended, &taken.cancelled]
        .into_iter()
        .flatten()
        .map(|facts| facts.state)
        .collect();
    assert_eq!(
        states,
        [
            TaskState::Ready,
            TaskState::Failed,
            TaskState::Paused,
            TaskState::Cancelled
        ]
    );
    let found = world.task(tasks[1]).await;
    let sentence = format!(
        "the executor `x1` ({lost}) was lost while it ran the task, whose delivery is `once`"
    );
    assert_eq!(found.error, Some(Failure::fatal(sentence)));
    assert_eq!(found.failures, 0, "not the task's failure");

    assert_eq!(
        world.store.take_over(None, 100).await.unwrap(),
        TakenOver::default()
    );
    assert_eq!(
        world.settle(lost, tasks[0], 1, succeeded()).await,
        Settled::Stale
    );
    assert_eq!(
        world.store.renew(lost, LONG).await.unwrap(),
        Renewal::Fenced
    );
    assert_eq!(world.claim(live, &tasks).await[0].attempt.0, 2);
}

pub(crate) async fn a_take_over_stops_at_its_limit_and_goes_on_later(world: &World) {
    let tasks = world.ready(5).await;
    let lost = world.lost_executor(&tasks).await;
    let first = world.store.take_over(None, 3).await.unwrap();
    assert_eq!((first.lost, first.released.len()), (vec![lost], 3));
    let second = world.store.take_over(None, 3).await.unwrap();
    assert_eq!((second.lost, second.released.len()), (vec![], 2));
    assert_eq!(
        world.store.take_over(None, 3).await.unwrap(),
        TakenOver::default()
    );
}

pub(crate) async fn concurrent_take_overs_release_each_task_once(world: &World) {
    let tasks = world.ready(20).await;
    for some in tasks.chunks(5) {
        world.lost_executor(some).await;
    }
    let mut work = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = world.another().await;
        work.spawn(async move {
            let mut released = Vec::new();
            for _ in 0..6 {
                released.extend(store.take_over(None, 4).await.unwrap().released);
            }
            store.close().await;
            released
        });
    }
    let mut released = ids(&work.join_all().await.concat());
    released.extend(ids(&world
        .store
        .take_over(None, 100)
        .await
        .unwrap()
        .released));
    released.sort();
    assert_eq!(released, tasks);
}

pub(crate) async fn a_late_renewal_holds_while_nobody_has_taken_over(world: &World) {
    let tasks = world.ready(1).await;
    let late = world.lost_executor(&tasks).await;
    let renewal = world.store.renew(late, LONG).await.unwrap();
    assert!(matches!(renewal, Renewal::Held { .. }), "{renewal:?}");
    assert_eq!(
        world.store.take_over(None, 9).await.unwrap(),
        TakenOver::default()
    );
    assert!(matches!(
        world.settle(late, tasks[0], 1, succeeded()).await,
        Settled::Stored { .. }
    ));
    let nobody = record("nobody").id;
    assert_eq!(
        world.store.renew(nobody, LONG).await.unwrap(),
        Renewal::Fenced
    );
}

pub(crate) async fn a_retired_executor_gives_back_its_tasks(world: &World) {
    let tasks = world
        .submit(&[new(echo()), new(once(OnFailure::Fail))])
        .await;
    let executor = world.executor().await;
    world.claim(executor, &tasks).await;
    let taken = world.store.retire(executor).await.unwrap();
    assert_eq!(ids(&taken.released), [tasks[0]]);
    assert_eq!(ids(&taken.ended), [tasks[1]]);
    assert_eq!(taken.lost, []);
    assert_eq!(
        world.store.renew(executor, LONG).await.unwrap(),
        Renewal::Fenced
    );
    assert_eq!(world.store.executors().await.unwrap(), []);
    assert_eq!(
        world.store.retire(executor).await.unwrap(),
        TakenOver::default()
    );
}

pub(crate) async fn many_tasks_of_a_retired_executor_are_given_back_together(world: &World) {
    let tasks = world.ready(600).await;
    let executor = world.executor().await;
    world.claim(executor, &tasks).await;
    let taken = world.store.retire(executor).await.unwrap();
    assert_eq!(taken.released.len(), 600);
}

pub(crate) async fn executors_are_listed_the_newest_first(world: &World) {
    let (mut old, mut young) = (record("old"), record("young"));
    old.started_at = "2020-01-01T00:00:00.000001Z".parse().unwrap();
    young.started_at = "2020-01-01T00:00:00.000002Z".parse().unwrap();
    world.store.enroll(&young, LONG).await.unwrap();
    world.store.enroll(&old, Duration::ZERO).await.unwrap();
    let found = world.store.executors().await.unwrap();
    let [first, second] = found.as_slice() else {
        panic!("{found:?}");
    };
    young.lease_ends_at = first.lease_ends_at;
    assert_eq!(*first, young, "as it was entered");
    assert!(first.lease_ends_at > world.store.identity().await.unwrap().now);
    assert_eq!(
        (second.id, second.state),
        (old.id, ExecutorState::Lost),
        "not taken over yet"
    );
    drop(world.store.take_over(None, 9).await.unwrap());
    assert_eq!(world.store.executors().await.unwrap().len(), 2);
}

pub(crate) async fn an_executor_that_enters_again_replaces_its_slots(world: &World) {
    let mut executor = record("x1");
    world.store.enroll(&executor, LONG).await.unwrap();
    executor.slots = BTreeMap::from([(queue("bulk"), 1)]);
    executor.actions = vec![action("b.two"), action("a.one")];
    world.store.enroll(&executor, LONG).await.unwrap();
    let found = world.store.executors().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].slots, executor.slots);
    assert_eq!(
        world.store.known_actions().await.unwrap(),
        [action("a.one"), action("b.two"), action("echo")],
        "known for ever"
    );
}

pub(crate) async fn an_executor_keeps_its_tasks_when_it_enters_again(world: &World) {
    let task = world.ready(1).await[0];
    let executor = record("x1");
    world.store.enroll(&executor, LONG).await.unwrap();
    world.claim(executor.id, &[task]).await;
    world.store.enroll(&executor, LONG).await.unwrap();
    let settled = world.settle(executor.id, task, 1, Ending::Released).await;
    assert!(matches!(settled, Settled::Stored { .. }));
}

pub(crate) async fn a_renewal_says_how_many_serve_each_queue(world: &World) {
    let [default, bulk] = ["default", "bulk"].map(|name| name.parse::<QueueName>().unwrap());
    let (both, one, lost) = (record("both"), record("one"), record("lost"));
    let both = ExecutorRecord {
        slots: BTreeMap::from([(default.clone(), 1), (bulk.clone(), 9)]),
        ..both
    };
    for (executor, lease) in [(&both, LONG), (&one, LONG), (&lost, Duration::ZERO)] {
        world.store.enroll(executor, lease).await.unwrap();
    }
    let renewal = world.store.renew(one.id, LONG).await.unwrap();
    let Renewal::Held { fleet, .. } = renewal else {
        panic!("{renewal:?}");
    };
    assert_eq!(fleet, BTreeMap::from([(default, 2), (bulk, 1)]));
}
