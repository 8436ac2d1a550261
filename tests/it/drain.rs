//! The end of an executor.

use std::time::Duration;

use longshore::domain::{Delivery, TaskState};
use serde_json::json;

use crate::support::world::{World, error, gate, submission};

#[tokio::test]
async fn a_drain_takes_nothing_new_and_waits_for_what_runs() {
    let world = World::embedded().await;
    let first = world.executor(1).await;
    let running = world.submit(gate()).await;
    world.wait_at_gate(1).await;
    let mut drain = Box::pin(first.drain(Duration::from_secs(20)));
    assert!(futures_util::poll!(&mut drain).is_pending());
    let later = world.submit(submission("echo", &json!(1))).await;
    let second = world.executor(1).await;
    assert_eq!(world.ended(later).await.executor, Some(second.id()));
    world.gate.add_permits(1);
    assert_eq!(drain.await.given_back, 0);
    let task = world.ended(running).await;
    assert_eq!(
        (task.state, task.executor),
        (TaskState::Succeeded, Some(first.id()))
    );
    drop(first);
    world.stop([second]).await;
}

#[tokio::test]
async fn an_executor_that_leaves_does_not_enter_again_when_it_is_found_gone() {
    let (world, flaky) = World::flaky().await;
    let executor = world.executor(1).await;
    world.submit(gate()).await;
    world.wait_at_gate(1).await;
    let mut drain = Box::pin(executor.drain(Duration::from_hours(1)));
    assert!(futures_util::poll!(&mut drain).is_pending());
    assert_eq!(
        world
            .store()
            .retire(executor.id())
            .await
            .unwrap()
            .released
            .len(),
        1
    );
    assert_eq!(drain.await.given_back, 0);
    let calls = flaky.calls();
    assert_eq!(calls["enroll"], 1, "{calls:?}");
    assert_eq!(world.store().lease_end(executor.id()).await.unwrap(), None);
    drop(executor);
    world.stop([]).await;
}

#[tokio::test]
async fn a_drain_gives_back_what_does_not_end_and_another_executor_goes_on() {
    let world = World::embedded().await;
    let first = world.executor(1).await;
    let task = world.submit(gate()).await;
    world.wait_at_gate(1).await;
    let drained = first.drain(Duration::ZERO).await;
    assert_eq!(drained.given_back, 1);
    let second = world.executor(1).await;
    world.wait_at_gate(1).await;
    world.gate.add_permits(2);
    let task = world.ended(task).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 2));
    assert_eq!(task.executor, Some(second.id()));
    drop(first);
    world.stop([second]).await;
}

#[tokio::test]
async fn a_drain_does_not_give_back_what_may_run_only_once() {
    let world = World::embedded().await;
    let first = world.executor(1).await;
    let mut submission = gate();
    submission.options.delivery = Delivery::Once;
    let task = world.submit(submission).await;
    world.wait_at_gate(1).await;
    assert_eq!(first.drain(Duration::ZERO).await.given_back, 1);
    let task = world.ended(task).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Failed, 1));
    assert!(error(&task).contains("`once`"), "{}", error(&task));
    drop(first);
    world.stop([]).await;
}
