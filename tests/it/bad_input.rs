//! Messages that nobody should have sent: each goes to the dead with its reason, and the next is handled at once.
//! `fleet.rs` sends the same over RabbitMQ.

use longshore::broker::{Content, Ingress, Message};
use longshore::domain::{NewTask, TaskId, TaskState};
use longshore::store::{Cancelled, Submitted};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::contract;
use crate::support::eventually::eventually;
use crate::support::world::{World, error, gate, submission};

/// An announcement of a task, right in every way.
fn announcement(task: TaskId) -> Value {
    json!({
        "specversion": "1.0", "id": "1", "source": "/test", "type": "longshore.task.created",
        "subject": task.to_string(), "time": "2026-01-01T00:00:00Z",
        "data": {"action": "echo", "queue": "default", "state": "ready", "attempt": 0},
    })
}

/// Announcements of a task that cannot be used, each with the reason that is said.
pub(crate) fn bad_announcements(task: TaskId) -> Vec<(Vec<u8>, &'static str)> {
    let right = announcement(task);
    let with = |field: &str, value: Value| {
        let mut event = right.clone();
        event[field] = value;
        event.to_string().into_bytes()
    };
    let data = |field: &str, value: Value| {
        let mut event = right.clone();
        event["data"][field] = value;
        event.to_string().into_bytes()
    };
    vec![
        (b"{".to_vec(), "EOF while parsing"),
        (b"\xff\xfe".to_vec(), "expected value"),
        (Vec::new(), "EOF while parsing"),
        (b"[]".to_vec(), "it holds not one event"),
        (
            json!([right, right]).to_string().into_bytes(),
            "it holds not one event",
        ),
        (
            with("type", json!("longshore.task.sung")),
            "`longshore.task.sung` is not known",
        ),
        (
            with("type", json!("longshore.task.created.v2")),
            "`longshore.task.created.v2` is not known",
        ),
        (
            with("type", json!("longshore.task.succeeded")),
            "an event `succeeded` announces no work",
        ),
        (with("specversion", json!("2.0")), "`specversion` is `2.0`"),
        (with("subject", json!("task 7")), "`subject`: not a task id"),
        (with("data", json!("echo")), "at `data`"),
        (
            data("attempt", json!(4_294_967_296_u64)),
            "at `data.attempt`",
        ),
        (data("attempt", json!(-1)), "at `data.attempt`"),
    ]
}

pub(crate) fn message(ingress: Ingress, key: &str, body: Vec<u8>) -> Message {
    Message {
        ingress,
        key: key.to_owned(),
        id: "1".to_owned(),
        content: Content::Event,
        body,
    }
}

/// Stores a task that nobody announces.
async fn unannounced(world: &World) -> TaskId {
    let task = NewTask {
        fan_out: None,
        id: TaskId::from_uuid(Uuid::now_v7()),
        origin: None,
        submission: submission("echo", &json!(7)),
    };
    let stored = world
        .store()
        .submit(std::slice::from_ref(&task))
        .await
        .unwrap();
    assert!(matches!(stored[0], Submitted::Stored(_)));
    task.id
}

#[tokio::test]
async fn an_announcement_that_cannot_be_used_goes_to_the_dead_and_the_next_is_handled_at_once() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let task = unannounced(&world).await;
    let bad = bad_announcements(task);
    let count = bad.len();
    let messages = bad
        .into_iter()
        .map(|(body, _)| message(Ingress::Tasks, "created.default.echo", body))
        .collect();
    let published = world.runtime.broker().publish(messages).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    // In order behind them: it is handled only when the one slot's credit is free again.
    let next = world.run(submission("echo", &json!(8))).await;
    assert_eq!(next.state, TaskState::Succeeded);
    assert_eq!(world.broker.depth("longshore.dead"), Some(count));
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_task_whose_announcement_cannot_be_used_is_found_by_an_idle_executor() {
    let world = World::hurried().await;
    let executor = world.executor(1).await;
    let task = unannounced(&world).await;
    let (body, _) = bad_announcements(task).swap_remove(8);
    let bad = message(Ingress::Tasks, "created.default.echo", body);
    let published = world.runtime.broker().publish(vec![bad]).await;
    assert!(published.iter().all(Result::is_ok));
    // How long it is ready is counted by the store's clock, which does not hurry.
    let look = async || world.store().task(task).await.unwrap().unwrap().state;
    eventually("it is found", look, |state| state.is_final()).await;
    assert_eq!(look().await, TaskState::Succeeded);
    assert_eq!(world.broker.depth("longshore.dead"), Some(1));
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_signal_or_submission_of_another_version_goes_to_the_dead_and_the_next_is_carried_out() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let task = world
        .submit(submission("sleep", &json!({"seconds": 600})))
        .await;
    let mut signal = announcement(task);
    signal["type"] = json!("longshore.task.cancel");
    let with = |field: &str, value: &str| {
        let mut signal = signal.clone();
        signal[field] = json!(value);
        let key = format!("cancel.{task}");
        message(Ingress::Signals, &key, signal.to_string().into_bytes())
    };
    let submitted = json!({
        "specversion": "2.0", "type": "longshore.task.submitted", "id": "1", "source": "/test",
        "subject": Uuid::now_v7().to_string(), "data": {"action": "echo"},
    });
    let published = world
        .runtime
        .broker()
        .publish(vec![
            with("specversion", "2.0"),
            with("type", "longshore.task.cancel.v2"),
            with("subject", "task 7"),
            message(Ingress::Signals, "cancel.x", b"cancel it".to_vec()),
            message(
                Ingress::Submissions,
                "submit.default",
                submitted.to_string().into_bytes(),
            ),
            with("source", "/right"),
        ])
        .await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    assert_eq!(world.ended(task).await.state, TaskState::Cancelled);
    let dead = async || world.broker.depth("longshore.dead");
    eventually("the others are dead", dead, |dead| *dead == Some(5)).await;
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_cancel_by_signal_reaches_what_is_below_a_task_that_stops_at_once() {
    let world = World::embedded().await;
    let registry = world.registry().with_fn(
        "parent",
        |context: longshore::action::Context, _: longshore::domain::Payload| async move {
            context
                .spawn(submission("sleep", &json!({"seconds": 600})))
                .await?;
            context.stopped().await;
            Err::<(), _>(longshore::domain::Failure::fatal("stopped"))
        },
    );
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let parent = world.submit(submission("parent", &json!(null))).await;
    let tree = eventually(
        "the sub-task is there",
        async || world.client.tree(parent).await.unwrap().tasks,
        |tree| tree.len() == 2,
    )
    .await;
    let mut signal = announcement(parent);
    signal["type"] = json!("longshore.task.cancel");
    let key = format!("cancel.{parent}");
    let signal = message(Ingress::Signals, &key, signal.to_string().into_bytes());
    let published = world.runtime.broker().publish(vec![signal]).await;
    assert!(published.iter().all(Result::is_ok));
    for task in [parent, tree[1].id] {
        assert_eq!(world.ended(task).await.state, TaskState::Cancelled);
    }
    let again = world.client.cancel(parent, "again").await.unwrap();
    assert_eq!(again, Cancelled::Final(TaskState::Cancelled));
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_row_that_counts_otherwise_than_its_attempt_strands_no_task() {
    let rows = contract::store::World::sqlite().await;
    let cases = [
        ("attempt = attempt - 1", TaskState::Paused),
        ("attempt = attempt + 7", TaskState::Succeeded),
    ];
    for (meddling, end) in cases {
        let world = World::on(rows.another().await).await;
        let executor = world.executor(1).await;
        let task = world.submit(gate()).await;
        world.wait_at_gate(1).await;
        rows.sql(&format!(
            "update task set {meddling} where finished_at is null and state = 'running'"
        ))
        .await;
        // One for the attempt that ends in vain, one for the attempt that the row speaks of.
        world.gate.add_permits(2);
        let found = eventually(
            "the task is where somebody sees it",
            async || world.store().task(task).await.unwrap().unwrap(),
            |task| task.state == end,
        )
        .await;
        if end == TaskState::Paused {
            let words = "attempt 1 has ended, and the row has counted to 0 only";
            assert!(error(&found).contains(words), "{found:?}");
        }
        world.stop([executor]).await;
    }
    rows.end().await;
}
