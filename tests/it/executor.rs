//! An executor and what it promises, embedded: the real parts in one process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore::action::{Context, Registry};
use longshore::broker::{Content, Ingress, Message};
use longshore::domain::{Failure, Payload, RetryPolicy, TaskState};
use longshore::store::Cancelled;
use serde_json::json;

use crate::support::eventually::eventually;
use crate::support::world::{World, error, gate, next_event, output, submission};

#[tokio::test]
async fn a_task_runs_and_its_waiter_hears_the_result() {
    let world = World::embedded().await;
    let executor = world.executor(2).await;
    let task = world.run(submission("echo", &json!({"a": [1, 2]}))).await;
    assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 1));
    assert_eq!(output(&task), json!({"a": [1, 2]}));
    assert_eq!(task.executor, Some(executor.id()));
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_tap_sees_each_task_created_and_finished_once_after_the_row_says_so() {
    let world = World::embedded().await;
    let mut tap = world.tap().await;
    let executor = world.executor(2).await;
    let right = world.submit(submission("echo", &json!(1))).await;
    world.ended(right).await;
    assert_eq!(
        next_event(&mut tap).await,
        ("created.default.echo".to_owned(), right)
    );
    assert_eq!(
        next_event(&mut tap).await,
        ("succeeded.default.echo".to_owned(), right)
    );
    let wrong = world
        .submit(submission("fail", &json!({"message": "no"})))
        .await;
    assert_eq!(
        next_event(&mut tap).await,
        ("created.default.fail".to_owned(), wrong)
    );
    assert_eq!(
        next_event(&mut tap).await,
        ("failed.default.fail".to_owned(), wrong)
    );
    assert_eq!(
        world.client.task(wrong).await.unwrap().state,
        TaskState::Failed
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_failed_attempt_is_retried_as_the_policy_says() {
    let world = World::embedded().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let registry = Registry::new().with_fn("shaky", move |context: Context, _: Payload| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            if context.attempt().0 < 3 {
                Err(Failure::retry("not yet"))
            } else {
                Ok("now")
            }
        }
    });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let retry = RetryPolicy::new(3, Duration::from_millis(20), Duration::from_millis(50)).unwrap();
    let task = world
        .run(submission("shaky", &json!(null)).with_retry(retry))
        .await;
    assert_eq!(
        (task.state, task.attempt.0, task.failures),
        (TaskState::Succeeded, 3, 2)
    );
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_failure_keeps_its_reason_and_its_detail() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let input = json!({"message": "no crane", "detail": {"crane": 7}});
    let task = world.run(submission("fail", &input)).await;
    assert_eq!((task.state, error(&task)), (TaskState::Failed, "no crane"));
    let detail = task.error.unwrap().detail.unwrap();
    assert_eq!(
        detail.decode::<serde_json::Value>().unwrap(),
        json!({"crane": 7})
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_input_of_the_wrong_type_fails_the_task_with_the_path() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let task = world
        .run(submission("sleep", &json!({"seconds": "long"})))
        .await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(error(&task).contains("`input.seconds`"), "{}", error(&task));
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_panic_fails_the_attempt_and_not_the_executor() {
    let world = World::embedded().await;
    let registry = world
        .registry()
        .with_fn("broken", |_: Context, text: String| async move {
            assert!(text.is_empty(), "a bug with {text}");
            Ok(())
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(submission("broken", &json!("x"))).await;
    assert_eq!(
        (task.state, error(&task)),
        (TaskState::Failed, "the action panicked: a bug with x")
    );
    assert_eq!(
        world.run(submission("echo", &json!(1))).await.state,
        TaskState::Succeeded
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_output_that_is_too_large_fails_the_task() {
    let world = World::embedded().await;
    let registry = Registry::new().with_fn("large", |_: Context, _: Payload| async {
        Ok("x".repeat(1024 * 1024 + 1))
    });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(submission("large", &json!(null))).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(
        error(&task).contains("more than the limit of 1048576"),
        "{}",
        error(&task)
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn slots_bound_what_runs_at_once() {
    let world = World::embedded().await;
    let executor = world.executor(3).await;
    let mut tasks = Vec::new();
    for _ in 0..10 {
        tasks.push(world.submit(gate()).await);
    }
    world.wait_at_gate(3).await;
    // Three are in; whatever else happens, a fourth comes only when one has left.
    for passed in 0..7 {
        assert_eq!(
            (executor.running(), world.arrived.available_permits()),
            (3, 0),
            "after {passed}"
        );
        world.gate.add_permits(1);
        world.wait_at_gate(1).await;
        eventually(
            "one has left",
            async || executor.running(),
            |running| *running == 3,
        )
        .await;
    }
    world.gate.add_permits(3);
    for task in tasks {
        assert_eq!(world.ended(task).await.state, TaskState::Succeeded);
    }
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_attempt_ends_at_its_time_limit() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let mut submission = submission("sleep", &json!({"seconds": 1000}));
    submission.options.timeout = Some(Duration::from_millis(50));
    let task = world.run(submission).await;
    assert_eq!(
        (task.state, error(&task)),
        (TaskState::Failed, "the time limit of 0.05 s is over")
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_running_task_ends_at_its_deadline() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let mut submission = submission("sleep", &json!({"seconds": 1000}));
    submission.deadline = Some(Timestamp::now() + SignedDuration::from_millis(500));
    let task = world.run(submission).await;
    assert_eq!(
        (task.state, error(&task)),
        (TaskState::Failed, "the deadline of the task passed")
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_scheduled_task_runs_when_it_is_due_and_not_before() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let run_at = Timestamp::now() + SignedDuration::from_millis(1200);
    let mut submission = submission("echo", &json!(1));
    submission.run_at = Some(run_at);
    let task = world.run(submission).await;
    assert_eq!(task.state, TaskState::Succeeded);
    assert!(task.started_at.unwrap() >= run_at.round(jiff::Unit::Microsecond).unwrap());
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_cancel_stops_a_running_task_and_the_row_confirms_it() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let task = world
        .submit(submission("sleep", &json!({"seconds": 1000})))
        .await;
    eventually(
        "it runs",
        async || executor.running(),
        |running| *running == 1,
    )
    .await;
    let answer = world.client.cancel(task, "enough").await.unwrap();
    assert!(matches!(answer, Cancelled::Accepted { running, .. } if running.len() == 1));
    let task = world.ended(task).await;
    assert_eq!((task.state, error(&task)), (TaskState::Cancelled, "enough"));
    assert_eq!(executor.running(), 0);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_task_that_does_not_listen_is_dropped_after_its_grace() {
    let world = World::hurried().await;
    let executor = world.executor(1).await;
    let task = world.submit(gate()).await;
    world.wait_at_gate(1).await;
    let answer = world.client.cancel(task, "enough").await.unwrap();
    assert!(matches!(answer, Cancelled::Accepted { .. }));
    assert_eq!(world.ended(task).await.state, TaskState::Cancelled);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_cancel_of_a_waiting_task_is_reported_to_taps_by_an_executor() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let (blocking, waiting) = (world.submit(gate()).await, world.submit(gate()).await);
    world.wait_at_gate(1).await;
    let mut tap = world.tap().await;
    let answer = world.client.cancel(waiting, "enough").await.unwrap();
    assert!(matches!(answer, Cancelled::Accepted { cancelled, .. } if cancelled.len() == 1));
    assert_eq!(world.ended(waiting).await.state, TaskState::Cancelled);
    let mut seen = next_event(&mut tap).await;
    while seen.0 != "cancelled.default.gate" {
        seen = next_event(&mut tap).await;
    }
    assert_eq!(seen.1, waiting);
    world.gate.add_permits(1);
    assert_eq!(world.ended(blocking).await.state, TaskState::Succeeded);
    world.stop([executor]).await;
}

#[tokio::test]
async fn sub_tasks_run_on_any_executor_and_are_cancelled_with_their_parent() {
    let world = World::embedded().await;
    let registry =
        world
            .registry()
            .with_fn("fan_out", |context: Context, count: usize| async move {
                for _ in 0..count {
                    context.spawn(gate()).await?;
                }
                std::future::pending::<Result<(), Failure>>().await
            });
    let executor = world.executor_with(registry, &[("default", 3)]).await;
    let parent = world.submit(submission("fan_out", &json!(5))).await;
    world.wait_at_gate(2).await;
    let tree = eventually(
        "all are there",
        async || world.client.tree(parent).await.unwrap().tasks,
        |tree| tree.len() == 6,
    )
    .await;
    assert_eq!(tree[0].id, parent);
    assert!(
        tree.iter()
            .skip(1)
            .all(|task| task.parent == Some(parent) && task.root == parent)
    );
    let answer = world.client.cancel(parent, "enough").await.unwrap();
    let Cancelled::Accepted {
        cancelled, running, ..
    } = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!((cancelled.len(), running.len()), (3, 3));
    // The gate does not listen: after its grace it is dropped. It opens here to spare the test that time.
    world.gate.add_permits(2);
    for task in tree.iter().skip(1) {
        assert!(world.ended(task.id).await.state.is_final());
    }
    assert!(executor.drain(Duration::ZERO).await.given_back <= 1);
}

#[tokio::test]
async fn a_parent_that_runs_again_makes_no_sub_task_twice() {
    let world = World::embedded().await;
    let registry = world
        .registry()
        .with_fn("twice", |context: Context, _: Payload| async move {
            for number in 0..3 {
                let part = submission("echo", &json!(number));
                context.spawn(part.outliving_parent()).await?;
            }
            if context.attempt().0 == 1 {
                Err(Failure::retry("again"))
            } else {
                Ok(())
            }
        });
    let executor = world.executor_with(registry, &[("default", 3)]).await;
    let retry = RetryPolicy::new(2, Duration::from_millis(1), Duration::from_millis(1)).unwrap();
    let parent = world
        .run(submission("twice", &json!(null)).with_retry(retry))
        .await;
    assert_eq!((parent.state, parent.attempt.0), (TaskState::Succeeded, 2));
    assert_eq!(world.client.tree(parent.id).await.unwrap().tasks.len(), 4);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_task_whose_action_is_not_known_here_waits_for_an_executor_that_knows_it() {
    let world = World::embedded().await;
    let plain = world
        .executor_with(Registry::new(), &[("default", 4)])
        .await;
    let task = world.submit(submission("echo", &json!(1))).await;
    let echo = world.submit(submission("echo", &json!(2))).await;
    let able = world.executor(4).await;
    for task in [task, echo] {
        assert_eq!(world.ended(task).await.executor, Some(able.id()));
    }
    world.stop([plain, able]).await;
}

#[tokio::test]
async fn a_long_task_gives_its_delivery_back_and_the_other_slots_go_on() {
    let (world, clock) = World::pushed().await;
    let mut tap = world.tap().await;
    let executor = world.executor(2).await;
    let long = world.submit(gate()).await;
    world.wait_at_gate(1).await;
    // More than the minute after which the long task is acknowledged: the credit is one less.
    clock.push(Duration::from_secs(61));
    for number in 0..40 {
        // Long enough that nothing is lent ahead.
        let nap = submission("sleep", &json!({"seconds": 0.06}));
        assert_eq!(world.run(nap).await.state, TaskState::Succeeded, "{number}");
    }
    let lent = async || world.broker.lent("longshore.work.default");
    eventually("the broker got it back", lent, |lent| *lent == 0).await;
    let (second, third) = (world.submit(gate()).await, world.submit(gate()).await);
    world.wait_at_gate(1).await;
    assert_eq!(
        (executor.running(), world.arrived.available_permits()),
        (2, 0)
    );
    let waiting = async || world.broker.depth("longshore.work.default");
    eventually("the third is left with the broker", waiting, |depth| {
        *depth == Some(1)
    })
    .await;
    world.gate.add_permits(3);
    for task in [long, second, third] {
        assert_eq!(world.ended(task).await.state, TaskState::Succeeded);
    }
    // The third stayed with the broker until there was room: nobody took it and had to let it go.
    let mut ended = 0;
    while ended < 3 {
        let (event, _) = next_event(&mut tap).await;
        assert!(!event.starts_with("released"), "{event}");
        ended += usize::from(event == "succeeded.default.gate");
    }
    world.stop([executor]).await;
}

#[tokio::test]
async fn the_log_of_a_task_is_there_when_the_task_has_ended() {
    let world = World::embedded().await;
    let registry = world
        .registry()
        .with_fn("talk", |context: Context, _: Payload| async move {
            context.log("first").await;
            context.log("second\0").await;
            Ok(())
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(submission("talk", &json!(null))).await;
    let logs = world.client.logs(task.id, None, 10).await.unwrap();
    let text: String = logs.iter().map(|chunk| chunk.text.as_str()).collect();
    assert_eq!(text, "first\nsecond\u{fffd}\n");
    let rest = world
        .client
        .logs(task.id, Some(logs[0].end()), 10)
        .await
        .unwrap();
    assert_eq!(rest, logs[1..]);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_whole_task_by_message_is_stored_once_and_runs() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let id = "01900000-0000-7000-8000-000000000001";
    let body = serde_json::to_vec(&json!({"id": id, "action": "echo", "input": 7})).unwrap();
    let message = Message {
        ingress: Ingress::Submissions,
        key: "submit.default".to_owned(),
        id: id.to_owned(),
        content: Content::Json,
        body,
    };
    let published = world
        .runtime
        .broker()
        .publish(vec![message.clone(), message])
        .await;
    assert!(published.iter().all(Result::is_ok));
    let id = id.parse().unwrap();
    eventually(
        "it is stored",
        async || world.store().task(id).await.unwrap().is_some(),
        |is_stored| *is_stored,
    )
    .await;
    let task = world.ended(id).await;
    assert_eq!((task.attempt.0, output(&task)), (1, json!(7)));
    world.stop([executor]).await;
}

#[tokio::test]
async fn what_cannot_be_read_goes_to_the_dead_and_work_goes_on() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let message = |ingress, key: &str, body: &[u8]| Message {
        ingress,
        key: key.to_owned(),
        id: "1".to_owned(),
        content: Content::Json,
        body: body.to_vec(),
    };
    let unknown_queue =
        br#"{"id":"01900000-0000-7000-8000-000000000002","action":"echo","queue":"nowhere"}"#;
    let messages = vec![
        message(Ingress::Submissions, "submit.default", b"{"),
        message(
            Ingress::Submissions,
            "submit.default",
            br#"{"action":"echo"}"#,
        ),
        message(Ingress::Submissions, "submit.default", unknown_queue),
        message(Ingress::Tasks, "created.default.echo", b"[]"),
        message(Ingress::Tasks, "created.default.echo", b"\xff"),
        message(
            Ingress::Signals,
            "cancel.x",
            br#"{"specversion":"1.0","type":"longshore.task.sung"}"#,
        ),
    ];
    let count = messages.len();
    assert!(
        world
            .runtime
            .broker()
            .publish(messages)
            .await
            .iter()
            .all(Result::is_ok)
    );
    assert_eq!(
        world.run(submission("echo", &json!(1))).await.state,
        TaskState::Succeeded
    );
    let dead = async || world.broker.depth("longshore.dead");
    eventually("all are with the dead", dead, |dead| *dead == Some(count)).await;
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_task_of_another_origin_can_be_waited_for() {
    let world = World::embedded().await;
    let other = world
        .runtime
        .client(longshore::client::ClientSettings::default())
        .await
        .unwrap();
    let executor = world.executor(1).await;
    let task = world.submit(gate()).await;
    world.wait_at_gate(1).await;
    let mut wait = Box::pin(other.wait(task, Duration::from_secs(20)));
    assert!(futures_util::poll!(&mut wait).is_pending());
    world.gate.add_permits(1);
    assert_eq!(wait.await.unwrap().into_task().state, TaskState::Succeeded);
    drop(other);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_wait_that_is_over_says_that_the_task_goes_on() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let waited = world
        .client
        .submit_and_wait(gate(), Duration::from_millis(50))
        .await
        .unwrap();
    let longshore::client::Waited::StillOpen(task) = waited else {
        panic!("{waited:?}")
    };
    world.gate.add_permits(1);
    assert_eq!(world.ended(task.id).await.state, TaskState::Succeeded);
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_action_is_accepted_as_soon_as_an_executor_offers_it() {
    let world = World::hurried().await;
    let settings = longshore::client::ClientSettings {
        refuses_unknown_actions: true,
        ..longshore::client::ClientSettings::default()
    };
    let strict = world.runtime.client(settings).await.unwrap();
    let refused = strict.submit(submission("echo", &json!(1))).await;
    assert!(refused.is_err(), "{refused:?}");
    let executor = world.executor(1).await;
    let task = strict.submit(submission("echo", &json!(1))).await.unwrap();
    assert_eq!(world.ended(task.task.id).await.state, TaskState::Succeeded);
    drop(strict);
    world.stop([executor]).await;
}

#[tokio::test]
async fn an_action_that_panics_before_its_first_await_fails() {
    let world = World::embedded().await;
    let registry = Registry::new().with_fn("hasty", |_: Context, number: u8| {
        assert!(number > 1, "too few");
        async move { Ok::<_, Failure>(number) }
    });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    for _ in 0..3 {
        let task = world.run(submission("hasty", &json!(1))).await;
        assert_eq!(error(&task), "the action panicked: too few");
    }
    let task = world.run(submission("hasty", &json!(2))).await;
    assert_eq!(output(&task), json!(2));
    world.stop([executor]).await;
}
