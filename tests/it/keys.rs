//! Idempotency keys in the library: one wish is one task, whoever makes it again.

use longshore::action::Context;
use longshore::client::SubmitError;
use longshore::domain::{Failure, IdempotencyKey, Submission, TaskState};
use serde_json::json;

use crate::support::world::{World, error, output, submission};

fn keyed(key: &str) -> Submission {
    submission("echo", &json!(7)).with_key(IdempotencyKey::new(key).unwrap())
}

#[tokio::test]
async fn many_submissions_at_once_with_one_key_are_one_task() {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let receipts = world.client.submit_all(vec![keyed("k"); 50]).await;
    let receipts: Vec<_> = receipts.into_iter().map(Result::unwrap).collect();
    let new = receipts.iter().filter(|receipt| receipt.is_new).count();
    assert_eq!(new, 1);
    let id = receipts[0].task.id;
    assert!(receipts.iter().all(|receipt| receipt.task.id == id));
    let task = world.run(keyed("k")).await;
    assert_eq!((task.id, task.attempt.0), (id, 1));
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_error_about_a_key_names_fields_and_no_values() {
    let world = World::embedded().await;
    world.submit(keyed("k")).await;
    let secret = submission("echo", &json!("hunter2")).with_key(IdempotencyKey::new("k").unwrap());
    let refused = world.client.submit(secret).await.unwrap_err();
    let words = format!("{refused} {refused:?}");
    assert!(words.contains("which differs in `input`"), "{words}");
    assert!(!words.contains("hunter2"), "{words}");
    let SubmitError::KeyTaken { differences, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(differences[0].asked.as_deref(), Some("\"hunter2\""));
    world.stop([]).await;
}

/// An action that asks twice for one sub-task with the key `key`; answers with the ids.
async fn spawn_twice(context: Context, key: String) -> Result<[String; 2], Failure> {
    let first = context.spawn(keyed(&key)).await?;
    let second = context.spawn(keyed(&key)).await?;
    context.join_one::<serde_json::Value>(&first).await?;
    Ok([first, second].map(|part| part.id().to_string()))
}

#[tokio::test]
async fn a_sub_task_with_a_known_key_is_the_task_that_has_it() {
    let world = World::embedded().await;
    let registry = world.registry().with_fn("spawn_twice", spawn_twice);
    let executor = world.executor_with(registry, &[("default", 4)]).await;
    let task = world.run(submission("spawn_twice", &json!("k"))).await;
    let ids = output(&task);
    assert_eq!(ids[0], ids[1]);
    let tree = world.client.tree(task.id).await.unwrap();
    assert_eq!(tree.tasks.len(), 2);
    assert_eq!(ids[0], json!(tree.tasks[1].id.to_string()));
    // The task of the key belongs to another parent, so it is not what is asked for.
    let stranger = world.run(submission("spawn_twice", &json!("k"))).await;
    assert_eq!(stranger.state, TaskState::Failed);
    let said = error(&stranger);
    assert!(said.contains("differs in `parent`"), "{said}");
    assert!(said.contains(&tree.tasks[1].id.to_string()), "{said}");
    world.stop([executor]).await;
}
