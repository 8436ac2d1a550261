//! A store that does what it is asked, and whose answer gets lost: nothing is stranded, nothing done twice.

use longshore::action::Registry;
use longshore::domain::TaskState;
use serde_json::json;

use crate::support::eventually::eventually;
use crate::support::world::{World, next_event, submission};

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
async fn an_end_whose_answer_is_lost_is_stored_and_reported_once() {
    let (world, store) = World::flaky().await;
    let mut tap = world.tap().await;
    let executor = world.executor(1).await;
    store.lose("settle");
    let task = world.run(submission("echo", &json!(1))).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 1));
    assert!(store.has_lost_all());
    let next = world.run(submission("echo", &json!(2))).await.id;
    let kinds =
        ["created", "succeeded", "created", "succeeded"].map(|kind| format!("{kind}.default.echo"));
    for (kind, id) in kinds.into_iter().zip([task.id, task.id, next, next]) {
        assert_eq!(next_event(&mut tap).await, (kind, id));
    }
    world.stop([executor]).await;
}
