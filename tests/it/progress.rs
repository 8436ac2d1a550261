//! How far attempts say that they are, and what they write into their logs.

use std::sync::Arc;

use longshore::action::{Context, Registry};
use longshore::domain::limits::LOG_BYTES_MAX;
use longshore::domain::{Failure, Payload, TaskState};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::eventually::eventually;
use crate::support::world::{World, next_event, submission};

/// The registry of `world` with an action that says a word, waits at the door, says the rest of its `words` words as fast as it
/// can, and waits at the door before it ends.
fn talking(world: &World, words: u64, door: &Arc<Semaphore>) -> Registry {
    let door = Arc::clone(door);
    world
        .registry()
        .with_fn("talk", move |context: Context, input: Payload| {
            let door = Arc::clone(&door);
            async move {
                for done in 1..=words {
                    context.progress(done, words, format!("word {done}")).await;
                    if done == 1 {
                        door.acquire().await?.forget();
                    }
                }
                door.acquire().await?.forget();
                Ok::<_, Failure>(input)
            }
        })
}

#[tokio::test]
async fn progress_is_seen_while_the_task_runs_the_last_word_within_the_interval() {
    let world = World::hurried().await;
    let door = Arc::new(Semaphore::new(1));
    let registry = talking(&world, 500, &door);
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.submit(submission("talk", &json!(null))).await;
    let seen = eventually(
        "the last word is stored",
        async || world.client.task(task).await.unwrap(),
        |task| task.progress.as_ref().is_some_and(|said| said.done == 500),
    )
    .await;
    assert_eq!(seen.state, TaskState::Running);
    let said = seen.progress.unwrap();
    assert_eq!((said.attempt.0, said.total), (1, Some(500)));
    assert_eq!(said.message, "word 500");
    door.add_permits(1);
    assert_eq!(world.ended(task).await.state, TaskState::Succeeded);
    world.stop([executor]).await;
}

#[tokio::test]
async fn the_first_word_and_the_last_are_stored_and_few_between_them() {
    let world = World::embedded().await;
    let door = Arc::new(Semaphore::new(0));
    let registry = talking(&world, 1000, &door);
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let mut tap = world.tap().await;
    let task = world.submit(submission("talk", &json!(null))).await;
    let (mut heard, mut told) = (Vec::new(), 0);
    loop {
        let (key, _) = next_event(&mut tap).await;
        heard.push(key.split('.').next().unwrap().to_owned());
        match heard.last().map(String::as_str) {
            Some("progressed") => told += 1,
            Some("succeeded") => break,
            _ => continue,
        }
        if told == 1 {
            // At once: the action has said no other word yet, and has not ended.
            door.add_permits(2);
        }
    }
    let ended = world.ended(task).await;
    assert_eq!(ended.progress.map(|said| said.done), Some(1000));
    assert!((2..20).contains(&told), "{heard:?}");
    assert_eq!(
        heard[heard.len() - 2],
        "progressed",
        "before the end: {heard:?}"
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_word_whose_storing_was_not_answered_is_stored_again() {
    let (world, flaky) = World::flaky().await;
    for _ in 0..3 {
        flaky.lose("note_progress");
    }
    let door = Arc::new(Semaphore::new(2));
    let registry = talking(&world, 10, &door);
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let ended = world.run(submission("talk", &json!(null))).await;
    assert!(flaky.has_lost_all());
    assert_eq!(ended.progress.map(|said| said.done), Some(10));
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_log_has_an_end_and_says_so() {
    let world = World::embedded().await;
    let registry = world
        .registry()
        .with_fn("chatter", |context: Context, (): ()| async move {
            let line = "x".repeat(LOG_BYTES_MAX / 4 - 100);
            for _ in 0..6 {
                context.log(line.clone()).await;
            }
            Ok::<_, Failure>(())
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(submission("chatter", &json!(null))).await;
    assert_eq!(task.state, TaskState::Succeeded);
    let logs = world.client.logs(task.id, None, 1000).await.unwrap();
    let said: String = logs.iter().map(|chunk| chunk.text.as_str()).collect();
    assert!(
        said.len() <= LOG_BYTES_MAX + 100,
        "{} bytes are kept",
        said.len()
    );
    assert!(said.len() > LOG_BYTES_MAX / 2);
    assert_eq!(said.matches("the log is full").count(), 1);
    assert!(said.ends_with("-- the log is full: what follows is not kept --\n"));
    world.stop([executor]).await;
}
