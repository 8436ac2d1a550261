//! Cancellation.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore::domain::{Ending, ExecutorId, Failure, QueueName, Submission, TaskId, TaskState};
use longshore::store::{Cancelled, Renewal, Settled};
use uuid::Uuid;

use super::World;
use super::world::{LONG, below, echo, later, new, stored, succeeded};

pub(crate) async fn cancelling_reaches_the_whole_tree(world: &World) {
    let (executor, root) = world.running(echo()).await;
    let ready = world.submit_one(below(root)).await;
    let scheduled = world
        .submit_one(Submission {
            run_at: Some(later(3600)),
            ..below(ready)
        })
        .await;
    let done = world.submit_one(below(root)).await;
    world.claim(executor, &[done]).await;
    drop(world.settle(executor, done, 1, succeeded()).await);
    let stranger = world.ready(1).await[0];

    let answer = world.store.cancel(root, "nobody needs it").await.unwrap();
    let Cancelled::Accepted {
        cancelled, running, ..
    } = answer
    else {
        panic!("{answer:?}");
    };
    let mut ids: Vec<TaskId> = cancelled.iter().map(|facts| facts.id).collect();
    ids.sort();
    assert_eq!(ids, [ready, scheduled]);
    assert!(
        cancelled
            .iter()
            .all(|facts| facts.state == TaskState::Cancelled)
    );
    assert_eq!(running, [(root, executor)]);
    let found = world.task(ready).await;
    assert_eq!(found.error, Some(Failure::fatal("nobody needs it")));
    assert!(found.finished_at.is_some());
    assert_eq!(world.task(done).await.state, TaskState::Succeeded);
    assert_eq!(world.task(stranger).await.state, TaskState::Ready);
    let found = world.task(root).await;
    assert_eq!(found.state, TaskState::Running);
    assert!(found.cancel_requested_at.is_some());
    assert_eq!(world.claim(executor, &[ready]).await, []);
}

pub(crate) async fn cancelling_an_unknown_or_final_task_says_so(world: &World) {
    let nobody = TaskId::from_uuid(Uuid::now_v7());
    assert_eq!(
        world.store.cancel(nobody, "x").await.unwrap(),
        Cancelled::Unknown
    );
    let (executor, task) = world.running(echo()).await;
    drop(world.settle(executor, task, 1, succeeded()).await);
    assert_eq!(
        world.store.cancel(task, "x").await.unwrap(),
        Cancelled::Final(TaskState::Succeeded)
    );
}

pub(crate) async fn a_heartbeat_hears_of_cancellations(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let (other, _) = world.running(echo()).await;
    for reason in ["first", "second"] {
        let answer = world.store.cancel(task, reason).await.unwrap();
        assert!(matches!(answer, Cancelled::Accepted { .. }), "{answer:?}");
    }
    let renewal = |executor: ExecutorId| world.store.renew(executor, LONG);
    let fleet = BTreeMap::from([(QueueName::default_queue(), 2)]);
    let cancels = vec![(task, "first".to_owned())];
    for _ in 0..2 {
        assert_eq!(
            renewal(executor).await.unwrap(),
            Renewal::Held {
                cancels: cancels.clone(),
                fleet: fleet.clone(),
                paused: Vec::new(),
            }
        );
    }
    assert_eq!(
        renewal(other).await.unwrap(),
        Renewal::Held {
            cancels: Vec::new(),
            fleet: fleet.clone(),
            paused: Vec::new(),
        }
    );
    let cancelled = Ending::Cancelled(Failure::fatal("first"));
    let settled = world.settle(executor, task, 1, cancelled).await;
    assert_eq!(stored(&settled), TaskState::Cancelled);
    assert_eq!(
        renewal(executor).await.unwrap(),
        Renewal::Held {
            cancels: Vec::new(),
            fleet,
            paused: Vec::new(),
        }
    );
}

pub(crate) async fn no_attempt_follows_a_wish_to_cancel(world: &World) {
    let retry = Ending::RetryPlanned {
        failure: Failure::retry("busy"),
        pause: Duration::ZERO,
    };
    let paused = Ending::Paused(Failure::fatal("odd"));
    for ending in [Ending::Released, retry, paused] {
        let (executor, task) = world.running(echo()).await;
        drop(world.store.cancel(task, "enough").await.unwrap());
        let settled = world.settle(executor, task, 1, ending).await;
        let Settled::Stored { state, at, .. } = settled else {
            panic!("{settled:?}");
        };
        assert_eq!(state, TaskState::Cancelled);
        let found = world.task(task).await;
        assert_eq!(found.finished_at, Some(at));
        assert_eq!(found.error, Some(Failure::fatal("enough")));
    }
    assert_eq!(world.store.due(10).await.unwrap().next_in, None);
}

pub(crate) async fn an_attempt_that_ended_before_it_heard_keeps_its_ending(world: &World) {
    let (executor, task) = world.running(echo()).await;
    drop(world.store.cancel(task, "enough").await.unwrap());
    let settled = world.settle(executor, task, 1, succeeded()).await;
    assert_eq!(stored(&settled), TaskState::Succeeded);
    assert_eq!(world.task(task).await.error, None);
}

pub(crate) async fn a_tree_that_grows_while_it_is_cancelled_is_cancelled_as_a_whole(world: &World) {
    let (_, root) = world.running(echo()).await;
    let store = world.another().await;
    let mut growing = tokio::task::JoinSet::new();
    growing.spawn(async move {
        let mut count = 0;
        loop {
            let batch: Vec<_> = (0..5).map(|_| new(below(root))).collect();
            for answer in store.submit(&batch).await.unwrap() {
                match answer {
                    longshore::store::Submitted::Stored(_) => count += 1,
                    longshore::store::Submitted::Refused(_) => {
                        store.close().await;
                        return count;
                    }
                    longshore::store::Submitted::Known(facts) => panic!("{facts:?}"),
                }
            }
        }
    });
    let answer = world.store.cancel(root, "enough").await.unwrap();
    let Cancelled::Accepted { cancelled, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        cancelled.len(),
        growing.join_all().await[0],
        "none was stored behind its back"
    );
}
