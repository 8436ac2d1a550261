//! Submissions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore::domain::{
    Delivery, IdempotencyKey, NewTask, OnFailure, Options, OriginToken, RetryPolicy, Submission,
    TaskId, TaskState,
};
use longshore::store::{Refusal, Submitted};
use uuid::Uuid;

use super::World;
use super::world::{below, echo, later, new, queue, succeeded};

pub(crate) async fn a_stored_task_comes_back_as_it_was(world: &World) {
    let mut submission = Submission {
        priority: -7,
        run_at: Some("2001-02-03T04:05:06.789012Z".parse().unwrap()),
        deadline: Some("2199-12-31T23:59:59.999999Z".parse().unwrap()),
        options: Options {
            retry: RetryPolicy::new(3, Duration::new(1, 7), Duration::from_secs(9)).unwrap(),
            timeout: Some(Duration::new(2, 1)),
            on_failure: OnFailure::Pause,
            delivery: Delivery::Once,
        },
        ..echo().with_label("team", "é \"a\"")
    };
    submission.labels.insert("x".to_owned(), "y".to_owned());
    let mut task = new(submission.clone());
    task.origin = Some(OriginToken::new(7));
    world.submit(std::slice::from_ref(&task)).await;

    let before = world.store.identity().await.unwrap().now;
    let found = world.task(task.id).await;
    assert_eq!(
        (found.id, found.root, found.parent),
        (task.id, task.id, None)
    );
    assert_eq!(found.action, submission.action);
    assert_eq!(found.queue, submission.queue);
    assert_eq!(found.input, submission.input);
    assert_eq!(found.labels, submission.labels);
    assert_eq!(found.priority, -7);
    assert_eq!(found.options, submission.options);
    assert_eq!(found.origin, task.origin);
    assert_eq!(found.run_at, submission.run_at, "exact to the microsecond");
    assert_eq!(found.deadline, submission.deadline);
    assert_eq!(found.state, TaskState::Ready);
    assert_eq!((found.attempt.0, found.failures), (0, 0));
    assert!(found.created_at <= before && found.ready_at == Some(found.created_at));
    assert_eq!((found.executor, found.started_at), (None, None));
    assert_eq!((found.output, found.error), (None, None));
}

pub(crate) async fn what_is_submitted_and_claimed_at_once_is_nobody_elses(world: &World) {
    let executor = world.executor().await;
    let (now, known) = (new(echo()), new(echo()));
    let then = new(Submission {
        run_at: Some(later(60)),
        ..echo()
    });
    let nowhere = new(echo().on_queue("nowhere".parse().unwrap()));
    world.submit(std::slice::from_ref(&known)).await;
    let tasks = [now, known, then, nowhere];
    let answers = world
        .store
        .submit_and_claim(executor, &tasks)
        .await
        .unwrap();
    let [
        (Submitted::Stored(_), Some(begun)),
        (Submitted::Known(_), None),
        (Submitted::Stored(scheduled), None),
        (Submitted::Refused(Refusal::UnknownQueue(_)), None),
    ] = answers.as_slice()
    else {
        panic!("{answers:?}");
    };
    let [now, known, then, _] = &tasks;
    assert_eq!((begun.id, begun.attempt.0), (now.id, 1));
    assert_eq!(begun.started_at, Some(begun.created_at), "in one moment");
    assert_eq!(*begun, world.task(now.id).await);
    assert_eq!(
        (scheduled.id, scheduled.state),
        (then.id, TaskState::Scheduled)
    );
    assert_eq!(world.task(known.id).await.state, TaskState::Ready);
    let other = world.executor().await;
    assert!(world.claim(other, &[now.id]).await.is_empty());
}

pub(crate) async fn an_executor_whose_lease_has_ended_gets_nothing_of_what_is_submitted(
    world: &World,
) {
    let executor = world.executor().await;
    let ends_at = world.store.lease_end(executor).await.unwrap().unwrap();
    assert!(world.store.end_lease(executor, ends_at).await.unwrap());
    let task = new(echo());
    let answers = world
        .store
        .submit_and_claim(executor, std::slice::from_ref(&task))
        .await
        .unwrap();
    let [(Submitted::Stored(_), None)] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(world.task(task.id).await.state, TaskState::Ready);
}

pub(crate) async fn a_task_submitted_twice_is_stored_once(world: &World) {
    let task = new(echo());
    let answers = world
        .store
        .submit(&[task.clone(), task.clone()])
        .await
        .unwrap();
    let [Submitted::Stored(stored), Submitted::Known(known)] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(stored, known);
    let executor = world.executor().await;
    world.claim(executor, &[task.id]).await;
    let again = world
        .store
        .submit(std::slice::from_ref(&task))
        .await
        .unwrap();
    let [Submitted::Known(facts)] = again.as_slice() else {
        panic!("{again:?}");
    };
    assert_eq!(
        (facts.state, facts.attempt.0),
        (TaskState::Running, 1),
        "left as it is"
    );
}

pub(crate) async fn a_batch_of_submissions_is_answered_in_order(world: &World) {
    let known = new(echo());
    world.submit(std::slice::from_ref(&known)).await;
    let nowhere = new(echo().on_queue(queue("nowhere")));
    let later_one = new(Submission {
        run_at: Some(later(3600)),
        ..echo()
    });
    let (last, first) = (new(echo()), new(echo()));
    // Ids out of order, so that no order of rows can be mistaken for the order of the batch.
    let batch = [
        first.clone(),
        nowhere,
        known.clone(),
        later_one.clone(),
        last.clone(),
    ];
    let answers = world.store.submit(&batch).await.unwrap();
    let words: Vec<String> = answers
        .iter()
        .map(|answer| match answer {
            Submitted::Stored(facts) => format!("{} {}", facts.id, facts.state),
            Submitted::Known(facts) => format!("{} known", facts.id),
            Submitted::Refused(refusal) => refusal.to_string(),
        })
        .collect();
    assert_eq!(
        words,
        [
            format!("{} ready", first.id),
            "there is no queue `nowhere`".to_owned(),
            format!("{} known", known.id),
            format!("{} scheduled", later_one.id),
            format!("{} ready", last.id),
        ]
    );
    assert_eq!(world.store.submit(&[]).await.unwrap(), []);
}

pub(crate) async fn a_task_of_an_unknown_queue_is_refused(world: &World) {
    let task = new(echo().on_queue(queue("bulk")));
    let refused = world
        .store
        .submit(std::slice::from_ref(&task))
        .await
        .unwrap();
    assert_eq!(
        refused,
        [Submitted::Refused(Refusal::UnknownQueue(queue("bulk")))]
    );
    assert_eq!(world.store.task(task.id).await.unwrap(), None);
    world.store.create_queue(&queue("bulk")).await.unwrap();
    world.store.create_queue(&queue("bulk")).await.unwrap();
    world.submit(&[task]).await;
}

pub(crate) async fn a_task_of_an_unknown_parent_is_refused(world: &World) {
    let nobody = TaskId::from_uuid(Uuid::now_v7());
    let answers = world.store.submit(&[new(below(nobody))]).await.unwrap();
    assert_eq!(
        answers,
        [Submitted::Refused(Refusal::UnknownParent(nobody))]
    );
}

pub(crate) async fn a_task_of_a_parent_that_ended_is_refused(world: &World) {
    let (executor, ended) = world.running(echo()).await;
    let known = new(below(ended));
    world.submit(std::slice::from_ref(&known)).await;
    drop(world.settle(executor, ended, 1, succeeded()).await);
    let (_, ending) = world.running(echo()).await;
    drop(world.store.cancel(ending, "enough").await.unwrap());
    for parent in [ended, ending] {
        let answers = world.store.submit(&[new(below(parent))]).await.unwrap();
        assert_eq!(answers, [Submitted::Refused(Refusal::ParentEnded(parent))]);
    }
    let answers = world.store.submit(&[known]).await.unwrap();
    assert!(
        matches!(answers.as_slice(), [Submitted::Known(_)]),
        "what is stored already stays known: {answers:?}"
    );
}

pub(crate) async fn a_sub_task_has_the_root_and_the_earlier_deadline_of_its_parent(world: &World) {
    let (early, late) = (
        "2100-01-01T00:00:00Z".parse().unwrap(),
        "2101-01-01T00:00:00Z".parse().unwrap(),
    );
    let with_deadline = |submission, deadline| Submission {
        deadline,
        ..submission
    };
    let root = world.submit_one(with_deadline(echo(), Some(early))).await;
    let child = world
        .submit_one(with_deadline(below(root), Some(late)))
        .await;
    let grandchild = world.submit_one(below(child)).await;
    let found = world.task(grandchild).await;
    assert_eq!((found.root, found.parent), (root, Some(child)));
    assert_eq!(found.deadline, Some(early));
    let other = world.submit_one(with_deadline(echo(), Some(late))).await;
    let strict = world
        .submit_one(with_deadline(below(other), Some(early)))
        .await;
    assert_eq!(world.task(strict).await.deadline, Some(early));
}

/// A submission with a key.
fn keyed(key: &str) -> Submission {
    echo().with_key(IdempotencyKey::new(key).unwrap())
}

/// The task that an answer names, and whether it is new.
fn named(answer: &Submitted) -> (TaskId, bool) {
    match answer {
        Submitted::Stored(facts) => (facts.id, true),
        Submitted::Known(facts) => (facts.id, false),
        Submitted::Refused(refusal) => panic!("{refusal}"),
    }
}

pub(crate) async fn submissions_with_one_key_are_one_task(world: &World) {
    let [first, second, other, plain] = [keyed("k"), keyed("k"), keyed("l"), echo()].map(new);
    let batch = [first.clone(), second, other.clone(), plain.clone()];
    let answers = world.store.submit(&batch).await.unwrap();
    let named_all: Vec<_> = answers.iter().map(named).collect();
    let expected = [
        (first.id, true),
        (first.id, false),
        (other.id, true),
        (plain.id, true),
    ];
    assert_eq!(named_all, expected);
    let found = world.task(first.id).await;
    assert_eq!(found.idempotency_key, first.submission.idempotency_key);
    assert_eq!(world.task(plain.id).await.idempotency_key, None);

    let executor = world.executor().await;
    world.claim(executor, &[first.id]).await;
    // Whatever else is said, also what would be refused.
    let again = new(keyed("k").on_queue(queue("nowhere")));
    let answers = world.store.submit(&[again, new(keyed("K"))]).await.unwrap();
    let [Submitted::Known(facts), Submitted::Stored(_)] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!((facts.id, facts.attempt.0), (first.id, 1), "left as it is");
}

pub(crate) async fn a_key_and_an_id_may_name_different_tasks(world: &World) {
    let (with_key, with_id) = (new(keyed("k")), new(echo()));
    world.submit(&[with_key.clone(), with_id.clone()]).await;
    let both = |submission, id| NewTask {
        fan_out: None,
        id,
        ..new(submission)
    };
    let batch = [
        both(keyed("k"), with_id.id),
        both(keyed("free"), with_id.id),
        both(echo(), with_key.id),
    ];
    let answers = world.store.submit(&batch).await.unwrap();
    let named_all: Vec<_> = answers.iter().map(named).collect();
    let expected = [
        (with_key.id, false),
        (with_id.id, false),
        (with_key.id, false),
    ];
    assert_eq!(named_all, expected, "the key decides, and then the id");
    // The key that was not taken is still free.
    world.submit_one(keyed("free")).await;
    // One id with two keys in one batch: one of them is stored, with its own key.
    let id = new(echo()).id;
    let batch = [both(keyed("z"), id), both(keyed("a"), id)];
    let answers = world.store.submit(&batch).await.unwrap();
    let stored = answers
        .iter()
        .position(|answer| named(answer) == (id, true));
    let others = answers.iter().filter(|answer| named(answer) == (id, false));
    assert_eq!(others.count(), 1, "{answers:?}");
    let stored = &batch[stored.expect("one is stored")];
    assert_eq!(
        world.task(id).await.idempotency_key,
        stored.submission.idempotency_key
    );
}

pub(crate) async fn concurrent_submissions_with_one_key_are_one_task(world: &World) {
    const KEYS: usize = 200;
    let rounds = Arc::new(tokio::sync::Barrier::new(6));
    let mut work = tokio::task::JoinSet::new();
    for worker in 0..6_usize {
        let (store, rounds) = (world.another().await, Arc::clone(&rounds));
        work.spawn(async move {
            let mut answers = Vec::new();
            for round in 0..4 {
                // Half of them have their ids in the other order of the keys: nobody may wait in a circle.
                let mut keys: Vec<_> = (0..KEYS).map(|key| format!("{round}-{key}")).collect();
                if worker % 2 == 1 {
                    keys.reverse();
                }
                let batch: Vec<_> = keys.iter().map(|key| new(keyed(key))).collect();
                rounds.wait().await;
                let submitted = store.submit(&batch).await.unwrap();
                answers.extend(keys.into_iter().zip(submitted));
            }
            store.close().await;
            answers
        });
    }
    let mut tasks = HashMap::new();
    for (key, answer) in work.join_all().await.into_iter().flatten() {
        let (id, is_new) = named(&answer);
        let found: &mut (TaskId, u32) = tasks.entry(key).or_insert((id, 0));
        assert_eq!(found.0, id, "all are told of the same task");
        found.1 += u32::from(is_new);
    }
    assert_eq!(tasks.len(), 4 * KEYS);
    assert!(tasks.values().all(|(_, stored)| *stored == 1), "{tasks:?}");
    let all = world.store.list(&super::reading::all()).await.unwrap();
    assert_eq!(all.tasks.len(), 4 * KEYS);
}

pub(crate) async fn a_key_lives_as_long_as_its_task(world: &World) {
    let (executor, first) = world.running(keyed("k")).await;
    drop(world.settle(executor, first, 1, succeeded()).await);
    let again = world.store.submit(&[new(keyed("k"))]).await.unwrap();
    assert_eq!(named(&again[0]), (first, false), "also when it has ended");
    assert_eq!(world.store.prune(Duration::ZERO, 10).await.unwrap(), 1);
    let next = world.submit_one(keyed("k")).await;
    assert_ne!(next, first);
}
