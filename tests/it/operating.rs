//! What operators make of tasks that are paused for one of their steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use longshore::action::{Context, Registry};
use longshore::domain::{
    Failure, HistoryKind, OnFailure, Operator, Payload, QueueName, Submission, Task, TaskState,
    VerbError,
};
use longshore::store::Operated;
use serde_json::{Value, json};

use crate::support::both_stores::on_both_stores;
use crate::support::eventually::eventually;
use crate::support::world::{World, error, output, submission};

on_both_stores! {
    a_resumed_task_runs_the_step_that_failed_again_and_no_other,
    a_skipped_step_is_not_run_and_its_value_is_what_the_operator_says,
    a_sub_task_whose_error_names_a_step_that_is_not_stored_is_not_skipped_as_a_whole,
}

/// How often each step of `house` was run.
#[derive(Clone, Default)]
struct Runs(Arc<[AtomicU32; 3]>);

impl Runs {
    fn count(&self, step: usize) -> u32 {
        self.0[step].fetch_add(1, Ordering::SeqCst) + 1
    }

    fn so_far(&self) -> [u32; 3] {
        std::array::from_fn(|step| self.0[step].load(Ordering::SeqCst))
    }
}

/// The registry of `world` with an action of three steps, of which the second fails so many times.
fn house(world: &World, runs: &Runs, failures: u32) -> Registry {
    let runs = runs.clone();
    world
        .registry()
        .with_fn("house", move |context: Context, (): ()| {
            let runs = runs.clone();
            async move {
                let walls = async || Ok::<_, Failure>(runs.count(0));
                let walls = context.step("walls", walls).await?;
                let roof = async || match runs.count(1) {
                    tries if tries <= failures => Err(Failure::fatal("no ladder")),
                    tries => Ok(json!({"tries": tries})),
                };
                let roof: Value = context.step("roof", roof).await?;
                let paint = async || Ok::<_, Failure>(runs.count(2));
                let paint = context.step("paint", paint).await?;
                Ok(json!([walls, roof, paint]))
            }
        })
}

/// A submission of `action` that is paused when it fails.
fn pausing(action: &str) -> Submission {
    let mut wish = submission(action, &Value::Null);
    wish.options.on_failure = OnFailure::Pause;
    wish
}

fn ann() -> Operator {
    Operator::new("ann").unwrap()
}

async fn history(world: &World, task: &Task) -> Vec<(HistoryKind, String)> {
    let entries = world.client.history(task.id).await.unwrap();
    let entry = |entry: &longshore::domain::HistoryEntry| (entry.what, entry.who.to_string());
    entries.iter().map(entry).collect()
}

async fn a_resumed_task_runs_the_step_that_failed_again_and_no_other(world: World) {
    let runs = Runs::default();
    let registry = house(&world, &runs, 1);
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(pausing("house")).await;
    assert_eq!((task.state, runs.so_far()), (TaskState::Paused, [1, 1, 0]));
    let resumed = world.client.resume(task.id, &ann()).await.unwrap();
    assert!(matches!(resumed, Operated::Moved { .. }), "{resumed:?}");
    let task = world.ended(task.id).await;
    assert_eq!(output(&task), json!([1, {"tries": 2}, 1]));
    assert_eq!(runs.so_far(), [1, 2, 1]);
    let resumed = (HistoryKind::Resumed, "ann".to_owned());
    assert_eq!(history(&world, &task).await, [resumed]);
    world.stop([executor]).await;
}

async fn a_skipped_step_is_not_run_and_its_value_is_what_the_operator_says(world: World) {
    let runs = Runs::default();
    let registry = house(&world, &runs, u32::MAX);
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(pausing("house")).await;
    assert_eq!((task.state, runs.so_far()), (TaskState::Paused, [1, 1, 0]));
    let instead = Payload::of(&json!({"id": 7})).unwrap();
    let skipped = world.client.skip(task.id, instead, &ann()).await.unwrap();
    assert!(matches!(skipped, Operated::Moved { .. }), "{skipped:?}");
    let task = world.ended(task.id).await;
    assert_eq!(output(&task), json!([1, {"id": 7}, 1]));
    assert_eq!(runs.so_far(), [1, 1, 1]);
    let skipped = (HistoryKind::Skipped, "ann".to_owned());
    assert_eq!(history(&world, &task).await, [skipped]);
    world.stop([executor]).await;
}

async fn a_sub_task_whose_error_names_a_step_that_is_not_stored_is_not_skipped_as_a_whole(
    world: World,
) {
    let registry = world
        .registry()
        .with_fn("child", |context: Context, (): ()| async move {
            let lost = submission("echo", &json!(1)).on_queue(QueueName::new("nowhere").unwrap());
            context.spawn(lost).await?;
            Ok("the rest of it")
        })
        .with_fn("parent", |context: Context, (): ()| async move {
            let child = context.spawn(pausing("child")).await?;
            context.join_one::<String>(&child).await
        });
    let executor = world.executor_with(registry, &[("default", 2)]).await;
    let parent = world.submit(submission("parent", &Value::Null)).await;
    let tree = eventually(
        "the child is paused",
        async || world.client.tree(parent).await.unwrap().tasks,
        |tree| tree.iter().any(|task| task.state == TaskState::Paused),
    )
    .await;
    let child = world.client.task(tree[1].id).await.unwrap();
    let Some(step) = child.error.clone().and_then(|failure| failure.step) else {
        panic!("no step is named: {}", error(&child));
    };
    let skipped = world.client.skip(child.id, Payload::null(), &ann()).await;
    let refused = Operated::Refused(VerbError::NoFailedStep { step });
    assert_eq!(skipped.unwrap(), refused);
    let after = world.client.task(child.id).await.unwrap();
    assert_eq!(after.state, TaskState::Paused);
    world.stop([executor]).await;
}
