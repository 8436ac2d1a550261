//! Durable actions on a whole system in this process: steps, waits, signals and sub-tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longshore::action::{Context, Registry};
use longshore::domain::{
    Failure, FailurePolicy, FanOutPlan, HistoryKind, IdempotencyKey, NewSignal, OnFailure,
    Operator, Payload, RetryPolicy, SignalName, Submission, TaskState,
};
use longshore::store::{Operated, Signalled};
use serde_json::{Value, json};

use crate::support::both_stores::on_both_stores;
use crate::support::eventually::eventually;
use crate::support::world::{World, next_event, output, submission, suspended};

/// Counts how often something was done.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicU32>);

impl Counter {
    fn count(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn so_far(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

on_both_stores! {
    a_stored_step_is_not_repeated_by_the_next_attempt,
    a_suspended_task_holds_no_slot_and_a_signal_wakes_it,
    a_signal_that_comes_early_is_kept_and_one_with_a_known_key_is_one,
    a_sleep_goes_on_in_another_attempt,
    a_wait_ends_with_its_deadline_and_stays_ended,
    a_mix_of_waits_is_told_in_the_order_in_which_they_ended,
    sub_tasks_are_joined_and_their_outputs_come_in_order,
    no_more_sub_tasks_are_in_flight_than_allowed,
    a_skipped_sub_task_succeeds_and_the_next_has_its_turn,
    the_first_failure_ends_a_join_and_cancels_the_others,
    what_is_below_a_task_that_ends_is_cancelled_unless_it_outlives_it,
    a_step_is_tried_again_as_its_policy_says_and_waits_without_a_slot,
}

fn nothing() -> Value {
    Value::Null
}

async fn audited(world: World, executor: longshore::runtime::RunningExecutor) {
    let audit = world
        .store()
        .audit(longshore::domain::AuditDepth::All)
        .await
        .unwrap();
    assert_eq!(audit.violations, []);
    world.stop([executor]).await;
}

async fn a_stored_step_is_not_repeated_by_the_next_attempt(world: World) {
    let (first, second) = (Counter::default(), Counter::default());
    let (one, two) = (first.clone(), second.clone());
    let registry = world
        .registry()
        .with_fn("twice", move |context: Context, (): ()| {
            let (one, two) = (one.clone(), two.clone());
            async move {
                let done: u32 = context.step("first", async || Ok(one.count())).await?;
                let again = context
                    .step("second", async || match two.count() {
                        1 => Err(Failure::retry("not yet")),
                        count => Ok(count),
                    })
                    .await?;
                Ok([done, again])
            }
        });
    let executor = world.executor_with(registry, &[("default", 2)]).await;
    let retry = RetryPolicy::new(2, Duration::from_millis(1), Duration::from_millis(1)).unwrap();
    let task = world
        .run(submission("twice", &nothing()).with_retry(retry))
        .await;
    assert_eq!(output(&task), json!([1, 2]));
    assert_eq!((first.so_far(), second.so_far()), (1, 2));
    audited(world, executor).await;
}

async fn a_suspended_task_holds_no_slot_and_a_signal_wakes_it(world: World) {
    let begun = Counter::default();
    let count = begun.clone();
    let registry = world
        .registry()
        .with_fn("approve", move |context: Context, (): ()| {
            let count = count.clone();
            async move {
                context.step("begin", async || Ok(count.count())).await?;
                let approved: Value = context.wait_for("approved").await?;
                Ok(approved)
            }
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.submit(submission("approve", &nothing())).await;
    let waiting = suspended(&world, task).await.waiting_for.unwrap();
    assert_eq!(waiting.to_string(), " signal:approved ");
    assert_eq!(executor.running(), 0);
    let other = world.run(submission("echo", &json!("room"))).await;
    assert_eq!(output(&other), "room");
    let answer = world.signal(task, "approved", &json!({"by": "ann"})).await;
    assert!(matches!(answer, Signalled::Stored { woken: Some(_), .. }));
    let task = world.ended(task).await;
    assert_eq!(output(&task), json!({"by": "ann"}));
    assert_eq!((task.attempt.0, begun.so_far()), (2, 1));
    assert_eq!(task.waiting_for, None);
    let late = world.signal(task.id, "approved", &nothing()).await;
    assert_eq!(late, Signalled::Final(TaskState::Succeeded));
    audited(world, executor).await;
}

async fn a_signal_that_comes_early_is_kept_and_one_with_a_known_key_is_one(world: World) {
    let registry = world
        .registry()
        .with_fn("collect", |context: Context, (): ()| async move {
            let first: u32 = context.wait_for("part").await?;
            let second: u32 = context.wait_for("part").await?;
            Ok([first, second])
        });
    let task = world.submit(submission("collect", &nothing())).await;
    let keyed = |number: u32| NewSignal {
        task,
        name: SignalName::new("part").unwrap(),
        key: Some(IdempotencyKey::new(&format!("part-{number}")).unwrap()),
        payload: Payload::of(&number).unwrap(),
    };
    let early = world.client.signal(keyed(1)).await.unwrap();
    assert!(matches!(early, Signalled::Stored { woken: None, .. }));
    assert_eq!(
        world.client.signal(keyed(1)).await.unwrap(),
        Signalled::Known
    );
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    suspended(&world, task).await;
    // The first is taken, and its key is known all the same.
    assert_eq!(
        world.client.signal(keyed(1)).await.unwrap(),
        Signalled::Known
    );
    drop(world.client.signal(keyed(2)).await.unwrap());
    let task = world.ended(task).await;
    assert_eq!(output(&task), json!([1, 2]));
    // The one with the known key has woken nobody.
    assert_eq!(task.attempt.0, 2);
    audited(world, executor).await;
}

async fn a_sleep_goes_on_in_another_attempt(world: World) {
    let registry = world
        .registry()
        .with_fn("nap", |context: Context, millis: u64| async move {
            context.sleep(Duration::from_millis(millis)).await?;
            Ok(context.attempt().0)
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    // One that is looked at while it sleeps, and one that wakes when it will.
    let long = world.submit(submission("nap", &json!(3_600_000))).await;
    let waits = suspended(&world, long).await;
    assert!(waits.waiting_for.unwrap().has_timer);
    let task = world.run(submission("nap", &json!(300))).await;
    assert_eq!(output(&task), 2);
    let slept = task.finished_at.unwrap().duration_since(task.created_at);
    assert!(slept >= jiff::SignedDuration::from_millis(300), "{slept}");
    drop(world.client.cancel(long, "enough").await.unwrap());
    assert_eq!(world.ended(long).await.state, TaskState::Cancelled);
    audited(world, executor).await;
}

async fn a_wait_ends_with_its_deadline_and_stays_ended(world: World) {
    let registry = world
        .registry()
        .with_fn("hurry", |context: Context, (): ()| async move {
            let limit = Duration::from_millis(100);
            let first = context.wait_for_within::<u32>("part", limit).await?;
            let second: u32 = context.wait_for("part").await?;
            Ok((first, second))
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.submit(submission("hurry", &nothing())).await;
    eventually(
        "the first wait has expired",
        async || world.client.task(task).await.unwrap().waiting_for,
        |waiting| waiting.as_ref().is_some_and(|waiting| !waiting.has_timer),
    )
    .await;
    drop(world.signal(task, "part", &json!(7)).await);
    assert_eq!(output(&world.ended(task).await), json!([null, 7]));
    audited(world, executor).await;
}

/// One wait ends another's: later attempts must see the same winner, although both have ended by then.
async fn a_mix_of_waits_is_told_in_the_order_in_which_they_ended(world: World) {
    let registry = world
        .registry()
        .with_fn("race", |context: Context, (): ()| async move {
            let (mut seen, mut left) = (Vec::new(), 2);
            let mut first = context.wait_for::<String>("a");
            let mut second = context.wait_for::<String>("b");
            let (mut first_done, mut second_done) = (false, false);
            while left > 0 {
                let name = tokio::select! {
                    name = &mut first, if !first_done => { first_done = true; name? }
                    name = &mut second, if !second_done => { second_done = true; name? }
                };
                left -= 1;
                let count = seen.len();
                seen.push(name.clone());
                context
                    .step(&format!("note-{count}"), async || Ok(name))
                    .await?;
                // Each turn is an attempt of its own.
                context.wait_for::<Value>("next").await?;
            }
            Ok((seen, context.attempt().0))
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.submit(submission("race", &nothing())).await;
    suspended(&world, task).await;
    drop(world.signal(task, "b", &json!("b")).await);
    let waits = |what: &'static str| {
        let world = &world;
        async move {
            eventually(
                "it waits for the next",
                async || world.client.task(task).await.unwrap(),
                |task| {
                    let waiting = task.waiting_for.as_ref().map(ToString::to_string);
                    waiting.is_some_and(|waiting| waiting.contains(what))
                },
            )
            .await
        }
    };
    waits("signal:next").await;
    drop(world.signal(task, "a", &json!("a")).await);
    drop(world.signal(task, "next", &nothing()).await);
    eventually(
        "the second is noted",
        async || world.store().steps(task).await.unwrap(),
        |steps| steps.iter().any(|step| step.name.as_str() == "note-1"),
    )
    .await;
    waits("signal:next").await;
    drop(world.signal(task, "next", &nothing()).await);
    let ended = world.ended(task).await;
    assert_eq!(output(&ended)[0], json!(["b", "a"]));
    let logs = world.client.logs(task, None, 10).await.unwrap();
    assert!(logs.is_empty(), "no step was passed over: {logs:?}");
    audited(world, executor).await;
}

fn parts(count: u32) -> impl Iterator<Item = Submission> + Send {
    (0..count).map(|number| submission("echo", &json!(number)))
}

async fn sub_tasks_are_joined_and_their_outputs_come_in_order(world: World) {
    let registry = world
        .registry()
        .with_fn("fan_out", |context: Context, count: u32| async move {
            let plan = FanOutPlan::default();
            let all = context.spawn_all("parts", parts(count), plan).await?;
            let joined = context.join(&all).await?;
            assert_eq!((joined.total, joined.failed), (count, 0));
            all.outputs::<u32>().await
        });
    let executor = world.executor_with(registry, &[("default", 4)]).await;
    let task = world.run(submission("fan_out", &json!(1234))).await;
    let expected: Vec<u32> = (0..1234).collect();
    assert_eq!(output(&task), json!(expected));
    let none = world.run(submission("fan_out", &json!(0))).await;
    assert_eq!(output(&none), json!([]));
    audited(world, executor).await;
}

async fn no_more_sub_tasks_are_in_flight_than_allowed(world: World) {
    let (now, most) = (Counter::default(), Arc::new(AtomicU32::new(0)));
    let seen = Arc::clone(&most);
    let registry = Registry::new()
        .with_fn("part", move |_: Context, number: u32| {
            let (now, seen) = (now.clone(), Arc::clone(&seen));
            async move {
                seen.fetch_max(now.count(), Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.0.fetch_sub(1, Ordering::SeqCst);
                Ok(number)
            }
        })
        .with_fn("fan_out", |context: Context, count: u32| async move {
            let plan = FanOutPlan {
                in_flight_max: Some(3),
                on_failure: FailurePolicy::Collect,
            };
            let parts = (0..count).map(|number| submission("part", &json!(number)));
            let all = context.spawn_all("parts", parts, plan).await?;
            Ok(context.join(&all).await?.total)
        });
    let executor = world.executor_with(registry, &[("default", 16)]).await;
    let task = world.run(submission("fan_out", &json!(40))).await;
    assert_eq!(output(&task), 40);
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    audited(world, executor).await;
}

async fn a_skipped_sub_task_succeeds_and_the_next_has_its_turn(world: World) {
    let registry = world
        .registry()
        .with_fn("fan_out", |context: Context, (): ()| async move {
            let mut odd = submission("fail", &json!({"message": "odd"}));
            odd.options.on_failure = OnFailure::Pause;
            let plan = FanOutPlan {
                in_flight_max: Some(1),
                on_failure: FailurePolicy::FailFast,
            };
            let parts = [odd, submission("echo", &json!(2))];
            let all = context.spawn_all("parts", parts, plan).await?;
            context.join(&all).await?;
            all.outputs::<u32>().await
        });
    let executor = world.executor_with(registry, &[("default", 4)]).await;
    let mut tap = world.tap().await;
    let parent = world.submit(submission("fan_out", &nothing())).await;
    let tree = eventually(
        "the first is paused",
        async || world.client.tree(parent).await.unwrap().tasks,
        |tree| tree.iter().any(|task| task.state == TaskState::Paused),
    )
    .await;
    let (odd, by) = (tree[1].id, Operator::new("ann").unwrap());
    suspended(&world, parent).await;
    let said = Payload::of(&1).unwrap();
    let skipped = world.client.skip(odd, said.clone(), &by).await.unwrap();
    let Operated::Moved { task, ready } = skipped else {
        panic!("{skipped:?}");
    };
    assert_eq!((task.state, ready.len()), (TaskState::Succeeded, 1));
    assert_eq!(output(&world.ended(parent).await), json!([1, 2]));
    let task = world.client.task(odd).await.unwrap();
    assert_eq!((output(&task), task.error), (json!(1), None));
    let history = world.client.history(odd).await.unwrap();
    let entry = (history[0].what, history[0].note.as_deref());
    assert_eq!(entry, (HistoryKind::Skipped, Some("it had failed: odd")));
    // An executor says so to all who listen.
    let end = ("succeeded.default.fail".to_owned(), odd);
    while next_event(&mut tap).await != end {}
    let again = world.client.skip(odd, said, &by).await.unwrap();
    assert!(matches!(again, Operated::Refused(_)), "{again:?}");
    audited(world, executor).await;
}

async fn the_first_failure_ends_a_join_and_cancels_the_others(world: World) {
    let registry = world
        .registry()
        .with_fn("endless", |context: Context, (): ()| async move {
            context.stopped().await;
            Err::<(), _>(Failure::fatal("it was stopped"))
        })
        .with_fn("fan_out", |context: Context, (): ()| async move {
            let endless = submission("endless", &nothing());
            let mut parts = vec![endless; 5];
            parts.insert(2, submission("fail", &json!({"message": "the rope broke"})));
            let plan = FanOutPlan {
                in_flight_max: Some(3),
                on_failure: FailurePolicy::FailFast,
            };
            let all = context.spawn_all("parts", parts, plan).await?;
            Ok(context.join(&all).await?.total)
        });
    let executor = world.executor_with(registry, &[("default", 8)]).await;
    let parent = world.submit(submission("fan_out", &nothing())).await;
    let parent = world.ended(parent).await;
    assert_eq!(parent.state, TaskState::Failed);
    let said = parent.error.unwrap().message;
    assert!(said.contains("the rope broke"), "{said}");
    assert!(said.contains("sub-tasks of `parts` failed"), "{said}");
    let tree = world.client.tree(parent.id).await.unwrap().tasks;
    assert_eq!(tree.len(), 7);
    for task in &tree {
        let task = world.ended(task.id).await;
        assert_ne!(task.state, TaskState::Succeeded, "{task:?}");
    }
    audited(world, executor).await;
}

async fn what_is_below_a_task_that_ends_is_cancelled_unless_it_outlives_it(world: World) {
    let registry = world
        .registry()
        .with_fn("endless", |context: Context, (): ()| async move {
            context.stopped().await;
            Err::<(), _>(Failure::fatal("it was stopped"))
        })
        .with_fn("leave", |context: Context, (): ()| async move {
            let later = |input: &str| Submission {
                run_at: Some(jiff::Timestamp::now() + Duration::from_hours(1)),
                ..submission("echo", &json!(input))
            };
            context.spawn(submission("endless", &nothing())).await?;
            context.spawn(later("waits")).await?;
            context.spawn(later("stays").outliving_parent()).await?;
            context.wait_for::<()>("leave").await
        });
    let executor = world.executor_with(registry, &[("default", 2)]).await;
    let parent = world.submit(submission("leave", &nothing())).await;
    eventually(
        "the endless one runs",
        async || world.client.tree(parent).await.unwrap().tasks,
        |tree| {
            tree.iter()
                .any(|task| task.action.as_str() == "endless" && task.state == TaskState::Running)
        },
    )
    .await;
    let heard = world.signal(parent, "leave", &nothing()).await;
    assert!(matches!(heard, Signalled::Stored { .. }), "{heard:?}");
    assert_eq!(world.ended(parent).await.state, TaskState::Succeeded);
    let tree = world.client.tree(parent).await.unwrap().tasks;
    let of = |input: Value| {
        tree.iter()
            .find(|task| task.id != parent && task.input.decode::<Value>().unwrap() == input)
            .unwrap()
            .id
    };
    for task in [of(nothing()), of(json!("waits"))] {
        let cancelled = world.ended(task).await;
        assert_eq!(cancelled.state, TaskState::Cancelled, "{cancelled:?}");
        assert_eq!(cancelled.error.unwrap().message, "its parent has ended");
    }
    // What the parent has left behind was looked through: the others were found.
    assert_eq!(
        world.client.task(of(json!("stays"))).await.unwrap().state,
        TaskState::Scheduled
    );
    audited(world, executor).await;
}

async fn a_step_is_tried_again_as_its_policy_says_and_waits_without_a_slot(world: World) {
    let tries = Counter::default();
    let count = tries.clone();
    let registry = world
        .registry()
        .with_fn("stubborn", move |context: Context, (): ()| {
            let count = count.clone();
            async move {
                let pause = Duration::from_secs(1);
                let retry = RetryPolicy::new(3, pause, pause)?;
                context
                    .step_with_retry("try", retry, || {
                        let count = count.clone();
                        async move {
                            match count.count() {
                                3 => Ok(3),
                                other => Err(Failure::retry(other).retry_after(pause)),
                            }
                        }
                    })
                    .await
            }
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(submission("stubborn", &nothing())).await;
    assert_eq!(output(&task), 3);
    assert_eq!((task.failures, tries.so_far()), (0, 3));
    assert!(task.attempt.0 > 1, "it waited suspended");
    audited(world, executor).await;
}

#[tokio::test]
async fn a_name_that_is_used_twice_is_an_error_that_says_so() {
    let world = World::embedded().await;
    let registry = world
        .registry()
        .with_fn("twice", |context: Context, (): ()| async move {
            context.step("same", async || Ok(1)).await?;
            context.step("same", async || Ok(2)).await
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let task = world.run(submission("twice", &nothing())).await;
    assert_eq!(task.state, TaskState::Failed);
    let said = task.error.unwrap().message;
    assert!(
        said.contains("the step name `same` is used twice"),
        "{said}"
    );
    audited(world, executor).await;
}

#[tokio::test]
async fn code_that_has_changed_under_a_task_is_noticed() {
    let world = World::embedded().await;
    let former = world
        .registry()
        .with_fn("work", |context: Context, (): ()| async move {
            context.step("one", async || Ok(1)).await?;
            context.step("two", async || Ok(2)).await?;
            context.wait_for::<u32>("go").await
        });
    let executor = world.executor_with(former, &[("default", 2)]).await;
    let kind = world.submit(submission("work", &nothing())).await;
    let left_out = world.submit(submission("work", &nothing())).await;
    let moved = world.submit(submission("work", &nothing())).await;
    for task in [kind, left_out, moved] {
        suspended(&world, task).await;
    }
    assert_eq!(executor.drain(Duration::from_secs(5)).await.given_back, 0);
    let changed = world
        .registry()
        .with_fn("work", move |context: Context, (): ()| async move {
            if context.task().id == kind {
                let spawned = context
                    .spawn_as("one", submission("echo", &json!(1)))
                    .await?;
                return context.join_one(&spawned).await;
            }
            context.step("two", async || Ok(2)).await?;
            context.step("three", async || Ok(3)).await?;
            if context.task().id == moved {
                context.step("one", async || Ok(1)).await?;
            }
            context.wait_for::<u32>("go").await
        });
    let executor = world.executor_with(changed, &[("default", 2)]).await;
    for task in [kind, left_out, moved] {
        drop(world.signal(task, "go", &json!(5)).await);
    }
    let failed = world.ended(kind).await;
    let said = failed.error.unwrap().message;
    assert!(said.contains("`one` is stored as a step"), "{said}");
    assert!(said.contains("give what is new another name"), "{said}");
    for (task, what, advice) in [
        (left_out, "were not asked for", "keep the names of steps"),
        (moved, "in another order", "add new steps behind those"),
    ] {
        assert_eq!(output(&world.ended(task).await), 5);
        let logs = world.client.logs(task, None, 10).await.unwrap();
        let said: String = logs.iter().map(|chunk| chunk.text.as_str()).collect();
        for words in [what, "`one`", advice] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(said.matches("-- ").count(), 1, "{said}");
    }
    audited(world, executor).await;
}

#[tokio::test]
async fn a_task_that_pauses_for_a_step_names_it() {
    let world = World::embedded().await;
    let registry = world
        .registry()
        .with_fn("work", |context: Context, (): ()| async move {
            context
                .step("lift", async || Err::<(), _>(Failure::fatal("too heavy")))
                .await
        });
    let executor = world.executor_with(registry, &[("default", 1)]).await;
    let mut wish = submission("work", &nothing());
    wish.options.on_failure = OnFailure::Pause;
    let task = world.run(wish).await;
    assert_eq!(task.state, TaskState::Paused);
    let step = task.error.unwrap().step.unwrap();
    assert_eq!(step.as_str(), "lift");
    audited(world, executor).await;
}
