//! What operators do, and the history of it.

use std::time::Duration;

use longshore::domain::limits::{CRASHES_MAX, HISTORY_MAX};
use longshore::domain::{
    AuditDepth, DeadLetter, Ending, Failure, Grave, HistoryKind, OnFailure, Operator, Options,
    Payload, RetryPolicy, Submission, TaskFacts, TaskId, TaskState, Verb, VerbError, VerbKind,
};
use longshore::store::{Cancelled, Operated};
use uuid::Uuid;

use super::World;
use super::world::{echo, failed, later, payload, stored, succeeded};

fn ann() -> Operator {
    Operator::new("ann@crane-7").unwrap()
}

fn retry() -> (TaskId, Verb) {
    let copy = TaskId::from_uuid(Uuid::now_v7());
    (copy, Verb::Retry { copy, origin: None })
}

fn abandon() -> Verb {
    Verb::Abandon {
        reason: "it is too late".to_owned(),
    }
}

fn pausing() -> Submission {
    Submission {
        options: Options {
            on_failure: OnFailure::Pause,
            ..Options::default()
        },
        ..echo()
    }
}

/// A task that failed for good and waits for a human.
async fn paused(world: &World, submission: Submission) -> TaskId {
    let (executor, task) = world.running(submission).await;
    let ending = Ending::Paused(Failure::retry("odd").with_detail(&[1]));
    let settled = world.settle(executor, task, 1, ending).await;
    assert_eq!(stored(&settled), TaskState::Paused);
    task
}

async fn operate(world: &World, task: TaskId, verb: &Verb) -> Operated {
    world.store.operate(task, verb, &ann()).await.unwrap()
}

#[track_caller]
fn moved(operated: Operated) -> TaskFacts {
    match operated {
        Operated::Moved { task, .. } => task,
        Operated::Unknown | Operated::Refused(_) | Operated::Copied(_) => panic!("{operated:?}"),
    }
}

async fn history(world: &World, task: TaskId) -> Vec<(HistoryKind, Option<String>)> {
    let entries = world.store.history(task).await.unwrap();
    assert!(entries.iter().all(|entry| entry.who == ann()));
    let entries = entries.into_iter().map(|entry| (entry.what, entry.note));
    entries.collect()
}

async fn nothing_is_wrong(world: &World) {
    let audit = world.store.audit(AuditDepth::All).await.unwrap();
    assert_eq!(audit.violations, []);
}

pub(crate) async fn a_resumed_task_is_ready_with_its_failures_and_its_deadline(world: &World) {
    let deadline = later(3600);
    let task = paused(
        world,
        Submission {
            deadline: Some(deadline),
            ..pausing()
        },
    )
    .await;
    let before = world.task(task).await;
    let facts = moved(operate(world, task, &Verb::Resume).await);
    assert_eq!((facts.id, facts.state), (task, TaskState::Ready));
    let found = world.task(task).await;
    assert_eq!((found.state, found.failures), (TaskState::Ready, 1));
    assert_eq!(found.error, before.error, "why it failed is still seen");
    assert!(found.ready_at > before.ready_at);
    assert_eq!(found.finished_at, None);
    nothing_is_wrong(world).await;
    assert_eq!(history(world, task).await, [(HistoryKind::Resumed, None)]);
    let due = world.store.due(10).await.unwrap();
    assert!(due.next_in.is_some(), "its deadline still counts");
    let executor = world.executor().await;
    assert_eq!(world.claim(executor, &[task]).await[0].attempt.0, 2);
    drop(world.settle(executor, task, 2, succeeded()).await);
    assert_eq!(world.task(task).await.error, None);
    nothing_is_wrong(world).await;
}

pub(crate) async fn a_retried_paused_task_begins_anew(world: &World) {
    let policy = RetryPolicy::new(3, Duration::from_secs(1), Duration::from_secs(1)).unwrap();
    let task = paused(world, pausing().with_retry(policy)).await;
    world
        .sql("update task set crashes = 3, suspicions = 2")
        .await;
    let (copy, verb) = retry();
    assert_eq!(
        moved(operate(world, task, &verb).await).state,
        TaskState::Ready
    );
    let found = world.task(task).await;
    assert_eq!((found.failures, found.crashes, found.suspicions), (0, 0, 0));
    assert!(!found.is_suspect());
    assert_eq!(world.store.task(copy).await.unwrap(), None);
    assert_eq!(history(world, task).await, [(HistoryKind::Retried, None)]);
    nothing_is_wrong(world).await;
}

pub(crate) async fn a_retried_final_task_is_copied(world: &World) {
    let options = Options {
        timeout: Some(Duration::from_secs(7)),
        ..Options::default()
    };
    let asked = Submission {
        priority: 5,
        options,
        deadline: Some(later(3600)),
        idempotency_key: Some("order-7".parse().unwrap()),
        ..echo().with_label("team", "red")
    };
    let (executor, broken) = world.running(asked.clone()).await;
    drop(world.settle(executor, broken, 1, failed()).await);
    let cancelled = world.ready(1).await[0];
    drop(world.store.cancel(cancelled, "x").await.unwrap());
    for task in [broken, cancelled] {
        let before = world.task(task).await;
        let (copy, verb) = retry();
        let Operated::Copied(facts) = operate(world, task, &verb).await else {
            panic!("not copied");
        };
        assert_eq!((facts.id, facts.state), (copy, TaskState::Ready));
        assert_eq!(world.task(task).await, before, "it stays as it was");
        let note = |words: &str, id: TaskId| Some(format!("{words} {id}"));
        assert_eq!(
            history(world, task).await,
            [(HistoryKind::Retried, note("as task", copy))]
        );
        assert_eq!(
            history(world, copy).await,
            [(HistoryKind::Copied, note("from task", task))]
        );
        let copied = world.task(copy).await;
        assert_eq!((copied.input, copied.labels), (before.input, before.labels));
        assert_eq!(
            (copied.priority, copied.options),
            (before.priority, before.options)
        );
        assert_eq!(
            (copied.idempotency_key, copied.parent, copied.deadline),
            (None, None, None)
        );
        assert_eq!((copied.attempt.0, copied.root), (0, copy));
    }
    nothing_is_wrong(world).await;
}

pub(crate) async fn an_abandoned_task_fails_with_the_former_error_as_detail(world: &World) {
    let task = paused(world, pausing()).await;
    assert_eq!(
        moved(operate(world, task, &abandon()).await).state,
        TaskState::Failed
    );
    let found = world.task(task).await;
    assert_eq!(found.state, TaskState::Failed);
    assert!(found.finished_at.is_some());
    let error = found.error.unwrap();
    assert_eq!(error.message, "it is too late");
    assert!(!error.is_retryable());
    assert_eq!(
        error.detail.unwrap().as_str(),
        r#"{"former":{"detail":[1],"message":"odd","retryable":true}}"#
    );
    assert_eq!(
        history(world, task).await,
        [(HistoryKind::Abandoned, Some("it is too late".to_owned()))]
    );
    nothing_is_wrong(world).await;
}

pub(crate) async fn a_task_of_which_no_step_failed_cannot_be_skipped(world: &World) {
    let task = paused(world, pausing()).await;
    let skip = Verb::Skip {
        output: payload("1"),
    };
    assert_eq!(
        operate(world, task, &skip).await,
        Operated::Refused(VerbError::NoStep)
    );
    assert_eq!(world.task(task).await.state, TaskState::Paused);
    assert_eq!(history(world, task).await, []);
}

pub(crate) async fn a_verb_is_refused_in_other_states_and_changes_nothing(world: &World) {
    let nobody = TaskId::from_uuid(Uuid::now_v7());
    assert_eq!(
        operate(world, nobody, &Verb::Resume).await,
        Operated::Unknown
    );
    assert_eq!(world.store.history(nobody).await.unwrap(), []);
    let ready = world.ready(1).await[0];
    let (_, running) = world.running(echo()).await;
    let (executor, done) = world.running(echo()).await;
    drop(world.settle(executor, done, 1, succeeded()).await);
    let skip = Verb::Skip {
        output: Payload::null(),
    };
    for (task, state) in [
        (ready, TaskState::Ready),
        (running, TaskState::Running),
        (done, TaskState::Succeeded),
    ] {
        let before = world.task(task).await;
        for verb in [&Verb::Resume, &skip, &retry().1, &abandon()] {
            let verb_kind: VerbKind = verb.kind();
            assert_eq!(
                operate(world, task, verb).await,
                Operated::Refused(VerbError::State {
                    state,
                    verb: verb_kind
                })
            );
        }
        assert_eq!(world.task(task).await, before);
        assert_eq!(history(world, task).await, []);
    }
    let (executor, broken) = world.running(echo()).await;
    drop(world.settle(executor, broken, 1, failed()).await);
    for verb in [&Verb::Resume, &abandon()] {
        let answer = operate(world, broken, verb).await;
        assert!(matches!(answer, Operated::Refused(_)), "{answer:?}");
    }
}

pub(crate) async fn of_concurrent_verbs_one_is_carried_out(world: &World) {
    let task = paused(world, pausing()).await;
    let other = world.another().await;
    let (ann, abandon) = (ann(), abandon());
    let (one, two) = tokio::join!(
        world.store.operate(task, &Verb::Resume, &ann),
        other.operate(task, &abandon, &ann),
    );
    other.close().await;
    let done = [one.unwrap(), two.unwrap()];
    let done = done
        .iter()
        .filter(|one| matches!(one, Operated::Moved { .. }))
        .count();
    assert_eq!((done, history(world, task).await.len()), (1, 1));
}

pub(crate) async fn a_quarantined_task_that_is_resumed_is_still_a_suspect(world: &World) {
    let task = paused(world, pausing()).await;
    world
        .sql(&format!("update task set crashes = {CRASHES_MAX}"))
        .await;
    drop(moved(operate(world, task, &Verb::Resume).await));
    let found = world.task(task).await;
    assert_eq!(found.crashes, CRASHES_MAX);
    assert!(found.is_suspect());
}

pub(crate) async fn a_task_whose_row_cannot_be_read_can_be_given_up(world: &World) {
    let task = paused(world, pausing()).await;
    world
        .sql("update task set options = '{', error = 'odd'")
        .await;
    drop(moved(operate(world, task, &abandon()).await));
    world.sql("update task set options = null").await;
    assert_eq!(world.task(task).await.state, TaskState::Failed);
}

pub(crate) async fn a_cancel_by_an_operator_is_noted_and_any_other_is_not(world: &World) {
    let (_, running) = world.running(echo()).await;
    let ready = world.ready(1).await[0];
    for task in [running, ready] {
        let answer = world.store.cancel_by(task, "enough", &ann()).await.unwrap();
        assert!(matches!(answer, Cancelled::Accepted { .. }), "{answer:?}");
        assert_eq!(
            history(world, task).await,
            [(HistoryKind::Cancelled, Some("enough".to_owned()))]
        );
    }
    let again = world.store.cancel_by(ready, "x", &ann()).await.unwrap();
    assert_eq!(again, Cancelled::Final(TaskState::Cancelled));
    assert_eq!(history(world, ready).await.len(), 1);
    let other = world.ready(1).await[0];
    drop(world.store.cancel(other, "x").await.unwrap());
    assert_eq!(history(world, other).await, []);
}

pub(crate) async fn a_history_is_bounded_and_goes_with_its_task(world: &World) {
    let (_, task) = world.running(echo()).await;
    let stranger = world.ready(1).await[0];
    drop(world.store.cancel_by(stranger, "x", &ann()).await.unwrap());
    for count in 0..HISTORY_MAX + 2 {
        let reason = count.to_string();
        let answer = world.store.cancel_by(task, &reason, &ann()).await;
        drop(answer.unwrap());
    }
    let kept = history(world, task).await;
    assert_eq!(kept.len(), HISTORY_MAX);
    assert_eq!(kept[0].1.as_deref(), Some("2"), "the oldest went");
    assert_eq!(
        kept.last().and_then(|entry| entry.1.clone()),
        Some((HISTORY_MAX + 1).to_string())
    );
    assert_eq!(world.store.prune(Duration::ZERO, 10).await.unwrap(), 1);
    assert_eq!(world.store.history(stranger).await.unwrap(), []);
    assert_eq!(history(world, task).await.len(), HISTORY_MAX);
}

pub(crate) async fn a_dead_letter_is_noted_once_for_each_task_and_never_of_a_final_one(
    world: &World,
) {
    let [open, ended] = world.ready(2).await[..] else {
        panic!("two were asked for")
    };
    drop(world.store.cancel(ended, "x").await.unwrap());
    let letter = |task, grave| DeadLetter {
        task,
        key: "created.default.echo".to_owned(),
        grave,
    };
    let first = letter(open, Grave::Dead);
    let unknown = letter(TaskId::from_uuid(Uuid::now_v7()), Grave::Dead);
    let others = [
        letter(open, Grave::Unrouted),
        letter(ended, Grave::Dead),
        unknown,
    ];
    for letter in std::iter::once(&first).chain(&others) {
        world.store.note_dead_letter(letter).await.unwrap();
    }
    let entries = world.store.history(open).await.unwrap();
    let entries: Vec<_> = entries
        .iter()
        .map(|one| (one.what, one.who.as_str(), one.note.clone()))
        .collect();
    let noted = (HistoryKind::DeadLettered, "broker", Some(first.note()));
    assert_eq!(entries, [noted]);
    for task in [ended, others[2].task] {
        assert_eq!(world.store.history(task).await.unwrap(), []);
    }
}

pub(crate) async fn dead_letters_at_once_are_noted_once(world: &World) {
    // So many that every connection of the store is open for most of them, and has one of the same task.
    let tasks = world.ready(40).await;
    let letter = |task| DeadLetter {
        task,
        key: "created.default.echo".to_owned(),
        grave: Grave::Dead,
    };
    let letters: Vec<DeadLetter> = tasks
        .iter()
        .flat_map(|task| vec![letter(*task); 6])
        .collect();
    let calls = letters.iter().map(|one| world.store.note_dead_letter(one));
    let answers = futures_util::future::join_all(calls).await;
    let noted = answers.iter().filter(|answer| matches!(answer, Ok(true)));
    assert_eq!(noted.count(), tasks.len());
    for task in tasks {
        assert_eq!(world.store.history(task).await.unwrap().len(), 1);
    }
}
