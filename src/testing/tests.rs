//! Rehearsals of small actions, good and bad.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::action::{Context, Registry, Subtask};
use crate::domain::{
    ActionName, Delivery, Failure, FailurePolicy, FanOutPlan, OnFailure, Options, Payload,
    RetryPolicy, StepOutcome, Submission, TaskState,
};

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

fn submission(action: &str, input: &Value) -> Submission {
    let action = ActionName::new(action).unwrap();
    Submission::new(action, Payload::of(input).unwrap())
}

fn tries(attempts_max: u32) -> RetryPolicy {
    let second = Duration::from_secs(1);
    RetryPolicy::new(attempts_max, second, second).unwrap()
}

/// A step, a sleep, a signal, sub-tasks in two ways, and their joins.
async fn everything(context: Context, count: u32) -> Result<Value, Failure> {
    let first: u32 = context.step("first", async || Ok(count)).await?;
    context.sleep(Duration::from_hours(1)).await?;
    let by: String = context.wait_for("approved").await?;
    let one: Subtask = context
        .spawn_as("one", submission("double", &json!(21)))
        .await?;
    let many = (0..count).map(|number| submission("double", &json!(number)));
    let plan = FanOutPlan {
        in_flight_max: Some(2),
        on_failure: FailurePolicy::Collect,
    };
    let many = context
        .spawn_all("many", many.collect::<Vec<_>>(), plan)
        .await?;
    let joined = context.join(&many).await?;
    let doubled: u32 = context.join_one(&one).await?;
    let outputs: Vec<u32> = many.outputs().await?;
    context.log("done").await;
    Ok(json!([first, by, doubled, joined.failed, outputs]))
}

async fn double(context: Context, number: u32) -> Result<u32, Failure> {
    context.sleep(Duration::from_mins(1)).await?;
    context.step("double", async || Ok(number * 2)).await
}

fn rehearsal_of_everything() -> Rehearsal {
    let registry = Registry::new()
        .with_fn("everything", everything)
        .with_fn("double", double);
    Rehearsal::new(registry, "everything", &3).with_signal("approved", "ann")
}

#[tokio::test]
async fn a_step_that_takes_time_lets_happen_what_is_due_meanwhile() {
    let act = |context: Context, (): ()| async move {
        let begun = context.sleep(Duration::from_hours(2));
        context.step("print", async || Ok(())).await?;
        begun.await?;
        context.wait_for::<String>("collected").await
    };
    let rehearsed = Rehearsal::of_fn(act, &())
        .with_step_taking("print", Duration::from_hours(1))
        .with_step_taking("print", Duration::from_hours(4))
        .with_signal_at(Duration::from_mins(30), "collected", "ann")
        .run()
        .await
        .unwrap();
    assert_eq!(rehearsed.output::<String>().unwrap(), "ann");
    assert_eq!(rehearsed.runs("print"), 1);
    // The sleep is asked for behind the step: five hours, and two.
    assert_eq!(rehearsed.elapsed, Duration::from_hours(7));
}

#[tokio::test]
async fn an_action_runs_to_its_end_with_signals_sub_tasks_and_a_clock_that_moves() {
    let rehearsed = rehearsal_of_everything().run().await.unwrap();
    let output: Value = rehearsed.output().unwrap();
    assert_eq!(output, json!([3, "ann", 42, 0, [0, 2, 4]]));
    let ended: Vec<&str> = rehearsed
        .steps
        .iter()
        .map(|step| step.name.as_str())
        .collect();
    let expected = [
        "first",
        "sleep:1",
        "signal:approved:1",
        "one",
        "many",
        "many:join",
        "one:join",
    ];
    assert_eq!(ended, expected);
    assert_eq!(rehearsed.subtasks.len(), 4);
    assert!(
        rehearsed
            .subtasks
            .iter()
            .all(|one| one.state == TaskState::Succeeded)
    );
    assert_eq!(
        rehearsed.subtasks[0].spawned_as.as_ref().unwrap().as_str(),
        "one"
    );
    assert_eq!(rehearsed.log, "done\n");
    // An hour, a minute for the first two of three, and one for the third.
    assert_eq!(rehearsed.elapsed, Duration::from_mins(62));
    assert_eq!(rehearsed.runs("first"), 1);
    assert!(rehearsed.not_asked_for.is_empty());
}

#[tokio::test]
async fn a_crash_at_each_write_makes_no_difference_to_an_action_that_keeps_its_promises() {
    let report = rehearsal_of_everything().crash_everywhere().await.unwrap();
    // Two sides of: a step, the begin and the end of a sleep, a signal, two spawns, two joins, and of three writes in each
    // of four sub-tasks; and the five ends of attempts.
    assert_eq!(report.crashes.len(), 2 * (8 + 4 * 3) + 5);
    assert_eq!(report.missed, []);
    assert_eq!(report.runs_max("first"), 2);
    let words: Vec<String> = report.crashes.iter().map(ToString::to_string).collect();
    for expected in [
        "a crash right before the end of the step `first` was stored",
        "a crash right after the sub-tasks of `many` were stored",
        "a crash right after it was stored until when the step `sleep:1` waits in the sub-task `double`",
        "a crash right before the end of the attempt was stored",
        "a crash right after the step `signal:approved:1` took its signal",
    ] {
        assert!(words.iter().any(|words| words == expected), "{words:#?}");
    }
}

#[tokio::test]
async fn what_is_stored_before_a_crash_does_not_run_again() {
    let effects = Counter::default();
    let done = effects.clone();
    let action = move |context: Context, (): ()| {
        let done = done.clone();
        async move { context.step("only", async || Ok(done.count())).await }
    };
    let report = Rehearsal::of_fn(action, &())
        .crash_everywhere_and(|rehearsed| {
            assert_eq!(rehearsed.runs("only"), rehearsed.output::<u32>().unwrap());
            effects.0.store(0, Ordering::SeqCst);
            Ok(())
        })
        .await
        .unwrap();
    let sides: Vec<Side> = report.crashes.iter().map(CrashPoint::side).collect();
    assert_eq!(sides, [Side::Before, Side::After, Side::Before]);
    assert_eq!(report.runs_max("only"), 2);
    assert_eq!(report.undisturbed.runs("only"), 1);
}

#[tokio::test]
async fn an_action_that_decides_otherwise_in_another_attempt_is_caught() {
    let begun = Counter::default();
    let action = move |context: Context, (): ()| {
        let number = begun.count(); // Outside of steps: another one in each attempt.
        async move {
            context.step("first", async || Ok(())).await?;
            Ok(number)
        }
    };
    let error = Rehearsal::of_fn(action, &())
        .crash_everywhere()
        .await
        .unwrap_err();
    let expected = "after a crash right before the end of the step `first` was stored: ";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(matches!(error, RehearsalError::Differs { .. }));
}

#[tokio::test]
async fn steps_whose_names_are_made_by_chance_are_caught() {
    let begun = Counter::default();
    let action = move |context: Context, (): ()| {
        let name = format!("charge-{}", begun.count());
        async move {
            context.step(&name, async || Ok(())).await?;
            context.step("last", async || Ok(())).await
        }
    };
    let error = Rehearsal::of_fn(action, &())
        .crash_everywhere()
        .await
        .unwrap_err();
    let expected = "did not ask again for what is stored (`charge-";
    assert!(error.to_string().contains(expected), "{error}");
}

#[tokio::test]
async fn sub_tasks_that_are_others_in_another_attempt_are_caught() {
    let action = |context: Context, (): ()| async move {
        let children = (0..context.attempt().0).map(|number| submission("child", &json!(number)));
        let children: Vec<_> = children.collect();
        let plan = FanOutPlan::default();
        let children = context.spawn_all("all", children, plan).await?;
        context.join(&children).await?;
        Ok::<_, Failure>(())
    };
    let rehearsal = Rehearsal::of_fn(action, &()).with_subtask("child", |_: u32| Ok(()));
    let error = rehearsal.crash_everywhere().await.unwrap_err();
    let expected =
        "2 sub-tasks were made (`child` of `0`, `child` of `1`), instead of 1 (`child` of `0`)";
    assert!(error.to_string().contains(expected), "{error}");
}

#[tokio::test]
async fn signals_come_as_they_are_scripted_and_in_order() {
    let action = |context: Context, (): ()| async move {
        let (said, ()) = tokio::try_join!(
            async {
                let mut said = Vec::new();
                for _ in 0..3 {
                    said.push(context.wait_for::<u32>("word").await?);
                }
                Ok(said)
            },
            context.step("work", async || Ok(())),
        )?;
        Ok::<_, Failure>(said)
    };
    let rehearsal = || {
        Rehearsal::of_fn(action, &())
            .with_signal_at(Duration::from_secs(5), "word", &3)
            .with_signal_after("work", "word", &2)
            .with_signal("word", &1)
    };
    let rehearsed = rehearsal().run().await.unwrap();
    assert_eq!(rehearsed.output::<Vec<u32>>().unwrap(), [1, 2, 3]);
    assert_eq!(rehearsed.elapsed, Duration::from_secs(5));
    rehearsal().crash_everywhere().await.unwrap();
}

#[tokio::test]
async fn a_task_is_tried_again_with_the_step_that_failed() {
    let (good, bad) = (Counter::default(), Counter::default());
    let counted = (good.clone(), bad.clone());
    let action = move |context: Context, (): ()| {
        let (good, bad) = counted.clone();
        async move {
            context.step("good", async || Ok(good.count())).await?;
            let run = async || match bad.count() {
                3 => Ok(3),
                _ => Err(Failure::retry("busy").retry_after(Duration::from_mins(1))),
            };
            context.step("bad", run).await
        }
    };
    let rehearsed = Rehearsal::of_fn(action, &())
        .with_retry(tries(3))
        .run()
        .await
        .unwrap();
    assert_eq!(rehearsed.output::<u32>().unwrap(), 3);
    assert_eq!(
        (rehearsed.attempts, rehearsed.elapsed),
        (3, Duration::from_mins(2))
    );
    assert_eq!((good.so_far(), rehearsed.runs("bad")), (1, 3));
}

#[tokio::test]
async fn a_step_is_tried_again_by_its_own_policy_and_the_pause_passes_at_once() {
    let action = |context: Context, (): ()| async move {
        let run =
            async || Err::<(), _>(Failure::retry("closed").retry_after(Duration::from_hours(9)));
        context.step_with_retry("quote", tries(4), run).await
    };
    let rehearsal = || Rehearsal::of_fn(action, &());
    let rehearsed = rehearsal().run().await.unwrap();
    assert_eq!(rehearsed.elapsed, Duration::from_hours(27));
    assert_eq!(rehearsed.runs("quote"), 4);
    assert!(matches!(
        rehearsed.outcome("quote"),
        Some(StepOutcome::Failed(_))
    ));
    let error = rehearsed.output::<()>().unwrap_err();
    assert_eq!(error.to_string(), "the action failed: closed");
    let report = rehearsal().crash_everywhere().await.unwrap();
    assert_eq!(report.runs_max("quote"), 5);
}

#[tokio::test]
async fn the_first_failure_ends_a_join_and_the_others_are_cancelled() {
    let action = |context: Context, (): ()| async move {
        let all = (0..5).map(|number| submission("child", &json!(number)));
        let plan = FanOutPlan {
            in_flight_max: Some(1),
            on_failure: FailurePolicy::FailFast,
        };
        let all = context
            .spawn_all("all", all.collect::<Vec<_>>(), plan)
            .await?;
        context.join(&all).await
    };
    let child = |number: u32| match number {
        2 => Err(Failure::fatal("no third")),
        number => Ok(number),
    };
    let rehearsal = || Rehearsal::of_fn(action, &()).with_subtask("child", child);
    let rehearsed = rehearsal().run().await.unwrap();
    let failure = rehearsed.result.unwrap_err();
    assert!(failure.message.contains("no third"), "{}", failure.message);
    let states: Vec<&str> = rehearsed
        .subtasks
        .iter()
        .map(|one| one.state.as_str())
        .collect();
    assert_eq!(
        states,
        ["succeeded", "succeeded", "failed", "cancelled", "cancelled"]
    );
    rehearsal().crash_everywhere().await.unwrap();
}

#[tokio::test]
async fn what_will_never_end_says_what_it_waits_for() {
    let action = |context: Context, (): ()| async move { context.wait_for::<()>("approved").await };
    let error = Rehearsal::of_fn(action, &())
        .with_signal_after("pay", "approved", &())
        .run()
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "nothing will ever happen again, and the task has not ended: `rehearsed` waits for the signal `approved`; the \
         signal `approved` is to follow the step `pay`, which has not ended"
    );
}

#[tokio::test]
async fn a_task_that_needs_a_person_ends_the_rehearsal() {
    let action = |_: Context, (): ()| async move { Err::<(), _>(Failure::fatal("no paper")) };
    let options = Options {
        on_failure: OnFailure::Pause,
        ..Options::default()
    };
    let paused = Rehearsal::of_fn(action, &())
        .with_options(options)
        .run()
        .await;
    let expected = "a task of the action `rehearsed` is paused until a person decides: no paper";
    assert_eq!(paused.unwrap_err().to_string(), expected);
}

#[tokio::test]
async fn what_may_run_only_once_does_not_run_again_after_a_crash() {
    let action = |context: Context, (): ()| async move { context.step("a", async || Ok(1)).await };
    let options = Options {
        delivery: Delivery::Once,
        ..Options::default()
    };
    let rehearsal = Rehearsal::of_fn(action, &()).with_options(options);
    let error = rehearsal.crash_everywhere().await.unwrap_err();
    assert!(
        error.to_string().contains("whose delivery is `once`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_panic_is_a_failure() {
    let action = |context: Context, is_early: bool| {
        assert!(!is_early, "too early");
        async move {
            context
                .step("a", async || -> Result<(), Failure> { panic!("too late") })
                .await
        }
    };
    for (is_early, expected) in [(true, "too early"), (false, "too late")] {
        let rehearsed = Rehearsal::of_fn(action, &is_early).run().await.unwrap();
        let expected = format!("the action panicked: {expected}");
        assert_eq!(rehearsed.result.unwrap_err().message, expected);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_rehearsal_is_told_when_it_is_run() {
    let rehearsal = || Rehearsal::new(Registry::new().with_fn("double", double), "double", &1);
    let check = async |rehearsal: Rehearsal, expected: &str| {
        let error = rehearsal.run().await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(rehearsal().with_signal("", &()), "a wrong name").await;
    check(
        rehearsal().with_signal("a", "\0"),
        "what the signal `a` says cannot be",
    )
    .await;
    let twice = rehearsal()
        .with_subtask("a", |(): ()| Ok(()))
        .with_subtask("a", |(): ()| Ok(()));
    check(twice, "the action `a` is told twice").await;
    let unknown = Rehearsal::new(Registry::new(), "nothing", &());
    check(unknown, "the action `nothing` is not registered").await;
    let rehearsed = rehearsal().run().await.unwrap();
    let error = rehearsed.output::<String>().unwrap_err();
    assert!(
        error.to_string().starts_with("the output `2` is not"),
        "{error}"
    );
}

#[tokio::test]
async fn the_clock_moves_also_while_something_else_keeps_an_action_loaded() {
    let (_kept, never) = tokio::sync::watch::channel(());
    let action = move |context: Context, (): ()| {
        let mut never = never.clone();
        async move {
            let child = context.spawn(submission("child", &json!(null))).await?;
            context.join_one::<()>(&child).await?;
            tokio::select! {
                biased;
                _ = never.changed() => Err(Failure::fatal("never")),
                slept = context.sleep(Duration::from_hours(1)) => slept,
            }
        }
    };
    let rehearsal = Rehearsal::of_fn(action, &()).with_subtask("child", |(): ()| Ok(()));
    let rehearsed = rehearsal.run().await.unwrap();
    rehearsed.output::<()>().unwrap();
    assert_eq!(rehearsed.elapsed, Duration::from_hours(1));
}

#[tokio::test]
async fn sub_tasks_are_run_also_while_something_else_keeps_their_parent_loaded() {
    let (_kept, never) = tokio::sync::watch::channel(());
    let action = move |context: Context, (): ()| {
        let mut never = never.clone();
        async move {
            let child = context.spawn(submission("child", &json!(null))).await?;
            tokio::select! {
                biased;
                _ = never.changed() => Err(Failure::fatal("never")),
                joined = context.join_one::<u32>(&child) => joined,
            }
        }
    };
    let rehearsal = Rehearsal::of_fn(action, &()).with_subtask("child", |(): ()| Ok(7));
    let rehearsed = rehearsal.run().await.unwrap();
    assert_eq!(rehearsed.output::<u32>().unwrap(), 7);
    assert_eq!(rehearsed.attempts, 1);
}

#[tokio::test]
async fn a_careless_sub_task_is_caught() {
    let registry = Registry::new()
        .with_fn("parent", |context: Context, (): ()| async move {
            let child = context.spawn(submission("child", &json!(null))).await?;
            context.join_one::<()>(&child).await
        })
        .with_fn("child", |context: Context, (): ()| async move {
            let name = format!("charge-{}", context.attempt());
            context.step(&name, async || Ok(())).await
        });
    let error = Rehearsal::new(registry, "parent", &())
        .crash_everywhere()
        .await
        .unwrap_err();
    let expected = "after a crash right after the end of the step `charge-1` was stored in the sub-task `child`: ";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[tokio::test]
async fn a_sub_task_that_waits_beyond_its_deadline_fails() {
    let registry = Registry::new()
        .with_fn("parent", |context: Context, ends_at: i64| async move {
            let child = Submission {
                deadline: Some(jiff::Timestamp::from_second(ends_at)?),
                ..submission("child", &json!(null))
            };
            let child = context.spawn(child).await?;
            context.join_one::<()>(&child).await
        })
        .with_fn("child", |context: Context, (): ()| async move {
            context.wait_for::<()>("never").await
        });
    let rehearsed = Rehearsal::new(registry, "parent", &1_000)
        .starting_at(jiff::Timestamp::UNIX_EPOCH)
        .run()
        .await
        .unwrap();
    let failure = rehearsed.result.unwrap_err();
    let expected = "the deadline of the task passed";
    assert!(failure.message.ends_with(expected), "{}", failure.message);
    assert_eq!(rehearsed.elapsed, Duration::from_secs(1_000));
}
