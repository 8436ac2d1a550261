//! A process that is web server and executor at once begins what it submits itself.

use longshore::client::{Client, ClientSettings, Waited};
use longshore::domain::{Submission, Task, TaskState};
use longshore::store::List;
use serde_json::json;

use crate::support::world::{PATIENCE, World, gate, next_event, submission};

/// A client in the process of the executors.
async fn client(world: &World) -> Client {
    let settings = ClientSettings::default();
    world.runtime.client(settings).await.unwrap()
}

async fn run(client: &Client, submission: Submission) -> Task {
    match client.submit_and_wait(submission, PATIENCE).await.unwrap() {
        Waited::Ended(task) => task,
        Waited::StillOpen(task) => panic!("still {}", task.state),
    }
}

#[tokio::test]
async fn a_task_that_its_own_process_has_room_for_is_claimed_as_it_is_stored() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let client = client(&world).await;
    let task = run(&client, submission("echo", &json!(7))).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 1));
    assert_eq!(task.started_at, Some(task.created_at));
    drop(client);
    world.stop([executor]).await;
}

#[tokio::test]
async fn taps_see_what_begins_in_its_own_process_created_and_finished() {
    let world = World::embedded().await;
    let mut tap = world.tap().await;
    let executor = world.executor(1).await;
    let client = client(&world).await;
    let task = run(&client, submission("echo", &json!(7))).await;
    for key in ["created.default.echo", "succeeded.default.echo"] {
        assert_eq!(next_event(&mut tap).await, (key.to_owned(), task.id));
    }
    drop(client);
    world.stop([executor]).await;
}

#[tokio::test]
async fn what_its_own_process_has_no_room_for_waits_for_whoever_has() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let client = client(&world).await;
    let first = client.submit(gate()).await.unwrap().task.id;
    world.wait_at_gate(1).await;
    let second = client.submit(gate()).await.unwrap().task.id;
    let found = client.task(second).await.unwrap();
    assert_eq!((found.state, found.attempt.0), (TaskState::Ready, 0));
    let other = world.executor(1).await;
    world.wait_at_gate(1).await;
    let found = client.task(second).await.unwrap();
    assert_eq!(found.state, TaskState::Running);
    world.gate.add_permits(2);
    for task in [first, second] {
        assert_eq!(world.ended(task).await.attempt.0, 1);
    }
    drop(client);
    world.stop([executor, other]).await;
}

#[tokio::test]
async fn what_is_for_later_or_for_another_queue_does_not_begin_at_once() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let elsewhere = world.executor_with(world.registry(), &[("other", 1)]).await;
    assert_eq!(elsewhere.drain(PATIENCE).await.given_back, 0);
    let client = client(&world).await;
    let hour = jiff::SignedDuration::from_hours(1);
    let later = Submission {
        run_at: Some(client.clock().now() + hour),
        ..submission("echo", &json!(1))
    };
    let later = client.submit(later).await.unwrap().task.id;
    let other = submission("echo", &json!(2)).on_queue("other".parse().unwrap());
    let other = client.submit(other).await.unwrap().task.id;
    assert_eq!(
        client.task(later).await.unwrap().state,
        TaskState::Scheduled
    );
    assert_eq!(client.task(other).await.unwrap().state, TaskState::Ready);
    drop(client);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_process_that_drains_begins_nothing_of_its_own() {
    let world = World::embedded().await;
    let executor = world.executor(2).await;
    let client = client(&world).await;
    assert_eq!(executor.drain(PATIENCE).await.given_back, 0);
    let new = client.submit(gate()).await.unwrap().task.id;
    assert_eq!(client.task(new).await.unwrap().state, TaskState::Ready);
    drop(client);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_by_its_own_process() {
    let (world, flaky) = World::flaky().await;
    let executor = world.executor(1).await;
    let client = client(&world).await;
    flaky.lose("submit_and_claim");
    let answer = client.submit(submission("echo", &json!(7))).await;
    assert!(answer.is_err(), "{answer:?}");
    let list = List {
        limit: 2,
        ..List::default()
    };
    let stored = world.store().list(&list).await.unwrap().tasks;
    let [task] = stored.as_slice() else {
        panic!("{stored:?}");
    };
    let ended = world.ended(task.id).await;
    assert_eq!((ended.state, ended.attempt.0), (TaskState::Succeeded, 1));
    drop(client);
    world.stop([executor]).await;
}
