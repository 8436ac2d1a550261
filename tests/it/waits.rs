//! Waits for several things at once, for signals whose payload is wrong, and for sub-tasks of which some may fail.

use std::time::Duration;

use longshore::action::{Context, Registry};
use longshore::domain::{FailurePolicy, FanOutPlan, TaskId, TaskState};
use longshore::store::Signalled;
use serde_json::{Value, json};

use crate::support::both_stores::on_both_stores;
use crate::support::eventually::eventually;
use crate::support::world::{World, error, output, submission, suspended};

on_both_stores! {
    a_time_and_a_signal_are_waited_for_at_once_without_a_slot,
    a_signal_that_does_not_fit_is_passed_over_and_told_of_once,
    a_join_bears_the_share_of_failures_that_it_may_and_no_more,
}

async fn send(world: &World, task: TaskId, payload: &Value) {
    let answer = world.signal(task, "go", payload).await;
    assert!(matches!(answer, Signalled::Stored { .. }), "{answer:?}");
}

fn both(world: &World) -> Registry {
    world
        .registry()
        .with_fn("both", |context: Context, seconds: u64| async move {
            let then = jiff::Timestamp::now() + Duration::from_secs(seconds);
            let (slept, go) =
                tokio::join!(context.sleep_until(then), context.wait_for::<u32>("go"));
            slept?;
            go
        })
}

async fn a_time_and_a_signal_are_waited_for_at_once_without_a_slot(world: World) {
    let registry = both(&world);
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    // The signal comes last of the one, and the time of the other.
    let short = world.submit(submission("both", &json!(1))).await;
    suspended(&world, short).await;
    let long = world.submit(submission("both", &json!(4))).await;
    suspended(&world, long).await;
    send(&world, long, &json!(4)).await;
    // Woken by its signal, it is unloaded again: its time is not over.
    suspended(&world, long).await;
    eventually(
        "the time of the short one is over, and it waits for its signal",
        async || world.client.task(short).await.unwrap(),
        |task| task.state == TaskState::Suspended && task.attempt.0 > 1,
    )
    .await;
    send(&world, short, &json!(1)).await;
    assert_eq!(output(&world.ended(short).await), 1);
    assert_eq!(output(&world.ended(long).await), 4);
    world.stop([executor]).await;
}

async fn a_signal_that_does_not_fit_is_passed_over_and_told_of_once(world: World) {
    let registry = world
        .registry()
        .with_fn("number", |context: Context, (): ()| async move {
            context.wait_for::<u32>("go").await
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.submit(submission("number", &Value::Null)).await;
    for wrong in [json!("x"), json!(-1)] {
        suspended(&world, task).await;
        let before = world.client.task(task).await.unwrap().attempt;
        send(&world, task, &wrong).await;
        eventually(
            "it has looked at the signal",
            async || world.client.task(task).await.unwrap(),
            |task| task.state == TaskState::Suspended && task.attempt > before,
        )
        .await;
    }
    send(&world, task, &json!(7)).await;
    assert_eq!(output(&world.ended(task).await), 7);
    let logs = world.client.logs(task, None, 100).await.unwrap();
    let said: String = logs.iter().map(|chunk| chunk.text.as_str()).collect();
    // Three attempts came by the first, two by the second.
    assert_eq!(said.matches("a signal is passed over").count(), 2, "{said}");
    world.stop([executor]).await;
}

async fn a_join_bears_the_share_of_failures_that_it_may_and_no_more(world: World) {
    let registry = world
        .registry()
        .with_fn("ten", |context: Context, failing: usize| async move {
            let parts = (0..10).map(|number| {
                let action = if number < failing { "fail" } else { "echo" };
                submission(action, &json!({"message": "rotten"}))
            });
            let plan = FanOutPlan {
                in_flight_max: Some(4),
                on_failure: FailurePolicy::Tolerate(20),
            };
            let all = context.spawn_all("parts", parts, plan).await?;
            context.join(&all).await
        });
    let executor = world.executor_with(registry, &[("default", 4)]).await;
    let good = world.submit(submission("ten", &json!(2))).await;
    let joined = output(&world.ended(good).await);
    assert_eq!(joined, json!({"total": 10, "failed": 2}));
    let bad = world.run(submission("ten", &json!(3))).await;
    assert_eq!(bad.state, TaskState::Failed);
    let said = error(&bad);
    assert!(
        said.contains("3 of 10 sub-tasks of `parts` failed"),
        "{said}"
    );
    world.stop([executor]).await;
}
