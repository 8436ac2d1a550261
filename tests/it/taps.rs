//! Taps: they see everything, take nothing away, and say what they missed.

use jiff::Timestamp;
use longshore::broker::embedded::HISTORY_LENGTH_MAX;
use longshore::broker::{Broker, Content, Ingress, Message, Since};
use longshore::domain::{TaskId, TaskState};
use longshore::tap::{Filter, Seen, Tap};
use serde_json::json;

use crate::support::world::{PATIENCE, World, next_event, submission};

#[tokio::test]
async fn a_filter_lets_through_what_it_names() {
    let world = World::embedded().await;
    let executor = world.executor(2).await;
    let filter = Filter::new(["failed.#".to_owned(), "*.default.echo".to_owned()]);
    let mut tap = Tap::open(world.runtime.broker(), filter, Since::First)
        .await
        .unwrap();
    world.run(submission("sleep", &json!({"seconds": 0}))).await;
    let echo = world.run(submission("echo", &json!(1))).await.id;
    let failed = world
        .run(submission("fail", &json!({"message": "x"})))
        .await
        .id;
    assert_eq!(
        next_event(&mut tap).await,
        ("created.default.echo".to_owned(), echo)
    );
    assert_eq!(
        next_event(&mut tap).await,
        ("succeeded.default.echo".to_owned(), echo)
    );
    assert_eq!(
        next_event(&mut tap).await,
        ("failed.default.fail".to_owned(), failed)
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_tap_reads_on_from_where_another_ended() {
    let world = World::embedded().await;
    let executor = world.executor(2).await;
    let mut first = world.tap().await;
    let task = world.run(submission("echo", &json!(1))).await.id;
    let Some(Seen::Event { offset, .. }) = first.next().await else {
        panic!("an event")
    };
    drop(first);
    let since = Since::Offset(offset + 1);
    let mut second = Tap::open(world.runtime.broker(), Filter::default(), since)
        .await
        .unwrap();
    assert_eq!(
        next_event(&mut second).await,
        ("succeeded.default.echo".to_owned(), task)
    );
    world.stop([executor]).await;
}

/// Tells taps of three tasks in one message, whose ids are these.
pub(crate) async fn announce_together(broker: &dyn Broker, tasks: [TaskId; 3]) {
    let event = |task: TaskId| {
        json!({
            "specversion": "1.0", "id": task.to_string(), "source": "/longshore/web/x",
            "type": "longshore.task.created", "subject": task.to_string(), "time": "2026-11-22T01:00:00Z",
            "data": {"queue": "default", "action": "echo", "state": "ready", "attempt": 0},
        })
    };
    let pack = Message {
        ingress: Ingress::Announced,
        key: "announced".to_owned(),
        id: "pack".to_owned(),
        content: Content::Batch,
        body: serde_json::to_vec(&tasks.map(event)).unwrap(),
    };
    let published = broker.publish(vec![pack]).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
}

#[tokio::test]
async fn the_last_event_of_a_message_says_so() {
    let world = World::embedded().await;
    let mut tap = world.tap().await;
    let tasks = [1, 2, 3].map(|number| TaskId::new(Timestamp::UNIX_EPOCH, number));
    announce_together(&*world.broker, tasks).await;
    let mut seen = Vec::new();
    for _ in tasks {
        let Some(Seen::Event { event, is_last, .. }) = tap.next().await else {
            panic!("an event")
        };
        seen.push((event.task, is_last));
    }
    let [one, two, three] = tasks;
    assert_eq!(seen, [(one, false), (two, false), (three, true)]);
    drop(tap);
    world.stop([]).await;
}

#[tokio::test]
async fn a_stalled_tap_slows_nobody_and_is_told_what_it_missed() {
    let world = World::embedded().await;
    let executor = world.executor(64).await;
    let mut tap = world.tap().await;
    let first = world.run(submission("echo", &json!(0))).await.id;
    // Nobody reads. More happens than the history keeps, and work goes on.
    let noise = Message {
        ingress: Ingress::Results,
        key: "none.noise".to_owned(),
        id: "noise".to_owned(),
        content: Content::Json,
        body: b"{}".to_vec(),
    };
    let published = world
        .runtime
        .broker()
        .publish(vec![noise; HISTORY_LENGTH_MAX + 1000])
        .await;
    assert!(published.iter().all(Result::is_ok));
    let task = world.run(submission("echo", &json!(1))).await;
    assert_eq!(task.state, TaskState::Succeeded);
    // What it had taken before it stalled is still in its hand.
    let (mut missed, mut seen, mut last) = (0, 0_u64, None);
    while missed == 0 {
        match tokio::time::timeout(PATIENCE, tap.next())
            .await
            .expect("something comes")
            .unwrap()
        {
            Seen::Event { event, offset, .. } => {
                last = Some(offset);
                seen += u64::from(event.task == first);
            }
            Seen::Gap { missed: count } => missed = count,
        }
    }
    assert_eq!((seen, last.is_some()), (2, true));
    let (_, after) = next_event(&mut tap).await;
    assert_eq!(after, task.id);
    world.stop([executor]).await;
}
