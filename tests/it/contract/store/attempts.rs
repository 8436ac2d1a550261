//! Claims and settlements.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore::domain::{
    Attempt, Ending, Failure, LogChunk, LogPosition, LogStream, StepName, Submission, TaskId,
    TaskState,
};
use longshore::store::{CancelSpawned, Settled};

use super::World;
use super::world::{
    LONG, action, echo, failed, later, look, new, payload, queue, record, settlement, stored,
    succeeded,
};
use crate::support::eventually::eventually;

pub(crate) async fn a_claim_is_lent_to_one_executor(world: &World) {
    let tasks = world.ready(60).await;
    let mut claims = tokio::task::JoinSet::new();
    for claimer in 0..6 {
        let (store, executor) = (world.another().await, world.executor().await);
        let mut order = tasks.clone();
        order.rotate_left(claimer * 10);
        claims.spawn(async move {
            let mut taken = Vec::new();
            for some in order.chunks(7) {
                taken.extend(store.claim(executor, some).await.unwrap());
            }
            store.close().await;
            taken
        });
    }
    let taken: Vec<_> = claims.join_all().await.concat();
    let distinct: HashSet<TaskId> = taken.iter().map(|task| task.id).collect();
    assert_eq!(distinct.len(), taken.len(), "no task is claimed twice");
    assert!(taken.iter().all(|task| task.attempt.0 == 1));
    // A row that somebody else had locked may have been skipped by all; it is still ready then.
    let executor = world.executor().await;
    let left = world.claim(executor, &tasks).await.len();
    assert_eq!(taken.len() + left, tasks.len());
}

pub(crate) async fn a_claim_takes_ready_tasks_only(world: &World) {
    let scheduled = world
        .submit_one(Submission {
            run_at: Some(later(3600)),
            ..echo()
        })
        .await;
    let (_, running) = world.running(echo()).await;
    let executor = world.executor().await;
    let ready = world.ready(1).await[0];
    let claimed = world
        .claim(executor, &[scheduled, running, ready, ready])
        .await;
    let [task] = claimed.as_slice() else {
        panic!("{claimed:?}");
    };
    assert_eq!((task.id, task.state), (ready, TaskState::Running));
    assert_eq!((task.attempt.0, task.executor), (1, Some(executor)));
    assert!(task.started_at >= task.ready_at);
    assert_eq!(*task, world.task(ready).await);
}

pub(crate) async fn a_claim_whose_answer_was_lost_is_answered_again(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let first = world.task(task).await;
    assert_eq!(
        world.claim(executor, &[task]).await,
        std::slice::from_ref(&first)
    );
    assert_eq!(world.store.owned(executor, 10).await.unwrap(), [first]);
    let other = world.executor().await;
    assert_eq!(world.claim(other, &[task]).await, []);
    assert_eq!(world.store.owned(other, 10).await.unwrap(), []);
    let _ended = world.settle(executor, task, 1, succeeded()).await;
    assert_eq!(world.claim(executor, &[task]).await, []);
    assert_eq!(world.store.owned(executor, 10).await.unwrap(), []);
}

pub(crate) async fn an_executor_whose_lease_ended_claims_nothing(world: &World) {
    let tasks = world.ready(1).await;
    let nobody = record("nobody").id;
    assert_eq!(world.claim(nobody, &tasks).await, []);
    let late = world.lost_executor(&[]).await;
    assert_eq!(world.claim(late, &tasks).await, []);
    assert_eq!(
        world.store.claim_idle(late, &look(5)).await.unwrap().tasks,
        []
    );
    assert_eq!(world.task(tasks[0]).await.state, TaskState::Ready);
}

pub(crate) async fn an_idle_claim_takes_what_it_can_run_the_highest_priority_first(world: &World) {
    world.store.create_queue(&queue("other")).await.unwrap();
    let with = |priority| new(Submission { priority, ..echo() });
    let tasks = [with(0), with(5), with(-5), with(5)];
    world.submit(&tasks).await;
    world.submit_one(echo().on_queue(queue("other"))).await;
    let mut foreign = echo();
    foreign.action = action("foreign");
    world.submit_one(foreign).await;

    let executor = world.executor().await;
    let ids = |claimed: Vec<longshore::domain::Task>| -> Vec<TaskId> {
        claimed.into_iter().map(|task| task.id).collect()
    };
    let first = world
        .store
        .claim_idle(executor, &look(3))
        .await
        .unwrap()
        .tasks;
    assert_eq!(ids(first), [tasks[1].id, tasks[3].id, tasks[0].id]);
    let second = world
        .store
        .claim_idle(executor, &look(3))
        .await
        .unwrap()
        .tasks;
    assert_eq!(ids(second), [tasks[2].id]);
    assert_eq!(
        world
            .store
            .claim_idle(executor, &look(3))
            .await
            .unwrap()
            .tasks,
        []
    );
}

pub(crate) async fn an_idle_claim_leaves_what_is_fresh(world: &World) {
    world.ready(1).await;
    let executor = world.executor().await;
    let mut patient = look(1);
    patient.older_than = LONG;
    assert_eq!(
        world
            .store
            .claim_idle(executor, &patient)
            .await
            .unwrap()
            .tasks,
        []
    );
    assert_eq!(
        world
            .store
            .claim_idle(executor, &look(1))
            .await
            .unwrap()
            .tasks
            .len(),
        1
    );
}

pub(crate) async fn concurrent_idle_claims_share_nothing(world: &World) {
    world.ready(40).await;
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (store, executor) = (world.another().await, world.executor().await);
        claims.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let some = store.claim_idle(executor, &look(3)).await.unwrap().tasks;
                if some.is_empty() {
                    store.close().await;
                    return taken;
                }
                taken.extend(some.into_iter().map(|task| task.id));
            }
        });
    }
    let taken: Vec<TaskId> = claims.join_all().await.concat();
    assert_eq!(taken.len(), 40);
    assert_eq!(taken.iter().collect::<HashSet<_>>().len(), 40);
}

pub(crate) async fn an_attempt_settles_once(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let settled = world.settle(executor, task, 1, succeeded()).await;
    let Settled::Stored { state, at, .. } = settled else {
        panic!("{settled:?}");
    };
    let found = world.task(task).await;
    assert_eq!((state, found.state), (TaskState::Succeeded, state));
    assert_eq!(found.finished_at, Some(at));
    assert_eq!(found.output, Some(payload("\"done\"")));
    assert_eq!(found.executor, Some(executor), "who ran it last");
    assert_eq!(
        world.settle(executor, task, 1, failed()).await,
        Settled::Stale
    );
    assert_eq!(world.task(task).await, found, "nothing was changed");

    let (executor, task) = world.running(echo()).await;
    let twice = [
        settlement(task, 1, failed()),
        settlement(task, 1, succeeded()),
    ];
    let settled = world.store.settle(executor, &twice).await.unwrap();
    assert_eq!(stored(&settled[0]), TaskState::Failed);
    assert_eq!(settled[1], Settled::Stale, "also within one batch");
    let found = world.task(task).await;
    assert_eq!(found.error, Some(Failure::fatal("it broke")));
    assert_eq!(found.failures, 1);
}

pub(crate) async fn a_stale_token_changes_nothing(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let other = world.executor().await;
    let before = world.task(task).await;
    for (who, attempt) in [
        (other, 1),
        (executor, 0),
        (executor, 2),
        (executor, u32::MAX),
    ] {
        assert_eq!(
            world.settle(who, task, attempt, succeeded()).await,
            Settled::Stale
        );
    }
    assert_eq!(world.task(task).await, before);
    drop(world.settle(executor, task, 1, Ending::Released).await);
    world.claim(other, &[task]).await;
    assert_eq!(
        world.settle(executor, task, 1, succeeded()).await,
        Settled::Stale,
        "the attempt before"
    );
    assert_eq!(
        stored(&world.settle(other, task, 2, succeeded()).await),
        TaskState::Succeeded
    );
}

pub(crate) async fn whatever_a_stale_attempt_writes_changes_nothing(world: &World) {
    let (former, parent) = world.running(echo()).await;
    let subtasks = world.spawned(former, parent, 2).await;
    drop(world.settle(former, parent, 1, Ending::Released).await);
    let (owner, other) = (world.executor().await, world.executor().await);
    world.claim(owner, &[parent]).await;
    let chunk = |attempt, text: &str| LogChunk {
        task: parent,
        position: LogPosition {
            attempt: Attempt(attempt),
            offset: 0,
        },
        stream: LogStream::Log,
        at: Timestamp::UNIX_EPOCH,
        text: text.to_owned(),
    };
    let chunks = [chunk(1, "late"), chunk(2, "now"), chunk(3, "future")];
    world.store.append_logs(&chunks).await.unwrap();
    let logs = world.store.logs(parent, None, 9).await.unwrap();
    assert_eq!(logs, [chunks[1].clone()]);

    let cancel = async |executor, attempt| {
        let wish = CancelSpawned {
            parent,
            attempt: Attempt(attempt),
            name: StepName::new("parts").unwrap(),
            reason: "no more".to_owned(),
        };
        let cancelled = world.store.cancel_spawned(executor, &wish, 9).await;
        cancelled.unwrap()
    };
    for (who, attempt) in [(former, 1), (owner, 1), (owner, 3), (other, 2)] {
        assert_eq!(cancel(who, attempt).await, None, "{who} {attempt}");
        assert_eq!(world.task(subtasks[0]).await.state, TaskState::Ready);
    }
    let below = cancel(owner, 2).await.unwrap();
    assert_eq!(below.cancelled.len(), 2, "{below:?}");

    // Twice suspected: were it known to be on trial, it would be charged.
    for (who, attempt) in [(owner, 1), (other, 2)] {
        world
            .store
            .put_on_trial(who, parent, Attempt(attempt))
            .await
            .unwrap();
    }
    let neighbour = world.ready(1).await;
    world.claim(owner, &neighbour).await;
    let ends_at = world.store.lease_end(owner).await.unwrap().unwrap();
    assert!(world.store.end_lease(owner, ends_at).await.unwrap());
    drop(world.store.take_over(None, 9).await.unwrap());
    assert_eq!(world.task(parent).await.crashes, 0, "nobody was on trial");
}

pub(crate) async fn a_batch_of_settlements_is_answered_in_order(world: &World) {
    let tasks = world.ready(5).await;
    let executor = world.executor().await;
    world.claim(executor, &tasks).await;
    let pause = Duration::from_mins(1);
    let batch = [
        settlement(tasks[4], 1, succeeded()),
        settlement(tasks[0], 9, succeeded()),
        settlement(tasks[3], 1, failed()),
        settlement(tasks[1], 1, Ending::Released),
        settlement(
            tasks[2],
            1,
            Ending::RetryPlanned {
                failure: Failure::retry("later"),
                pause,
            },
        ),
        settlement(tasks[0], 1, Ending::Cancelled(Failure::fatal("by me"))),
    ];
    let states: Vec<Option<TaskState>> = world
        .store
        .settle(executor, &batch)
        .await
        .unwrap()
        .iter()
        .map(|settled| match settled {
            Settled::Stored { state, .. } => Some(*state),
            Settled::Stale => None,
        })
        .collect();
    assert_eq!(
        states,
        [
            Some(TaskState::Succeeded),
            None,
            Some(TaskState::Failed),
            Some(TaskState::Ready),
            Some(TaskState::Scheduled),
            Some(TaskState::Cancelled),
        ]
    );
    assert_eq!(world.store.settle(executor, &[]).await.unwrap(), []);
}

pub(crate) async fn a_failed_attempt_is_planned_again(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let failure = Failure::retry("busy")
        .retry_after(Duration::from_millis(5))
        .with_detail(&["a", "b"]);
    let planned = Ending::RetryPlanned {
        failure: failure.clone(),
        pause: Duration::from_micros(1),
    };
    let settled = world.settle(executor, task, 1, planned).await;
    let Settled::Stored { state, at, .. } = settled else {
        panic!("{settled:?}");
    };
    assert_eq!(state, TaskState::Scheduled);
    let found = world.task(task).await;
    assert_eq!((found.failures, found.finished_at), (1, None));
    assert_eq!(found.error, Some(failure));
    let run_at = at + jiff::SignedDuration::from_micros(1);
    assert_eq!(found.run_at, Some(run_at));
    let due = eventually(
        "the task is due",
        async || world.store.due(10).await.unwrap(),
        |due| !due.ready.is_empty(),
    )
    .await;
    assert_eq!(due.ready[0].id, task);
    assert_eq!(due.next_in, None);
    assert_eq!(world.claim(executor, &[task]).await[0].attempt.0, 2);
    drop(world.settle(executor, task, 2, succeeded()).await);
    let found = world.task(task).await;
    assert_eq!((found.error, found.failures), (None, 1));
}

pub(crate) async fn a_paused_task_keeps_its_error(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let paused = Ending::Paused(Failure::fatal("look at this"));
    let settled = world.settle(executor, task, 1, paused).await;
    assert_eq!(stored(&settled), TaskState::Paused);
    let found = world.task(task).await;
    assert_eq!(found.error, Some(Failure::fatal("look at this")));
    assert_eq!((found.failures, found.finished_at), (1, None));
}

pub(crate) async fn a_released_task_is_ready_again(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let settled = world.settle(executor, task, 1, Ending::Released).await;
    let Settled::Stored { state, at, .. } = settled else {
        panic!("{settled:?}");
    };
    assert_eq!(state, TaskState::Ready);
    let found = world.task(task).await;
    assert_eq!((found.ready_at, found.failures), (Some(at), 0));
    assert_eq!((found.finished_at, found.error), (None, None));
}

pub(crate) async fn concurrent_batches_do_not_wait_in_a_circle(world: &World) {
    let executor = world.executor().await;
    let parent = world.ready(1).await[0];
    world.claim(executor, &[parent]).await;
    let tasks: Vec<_> = (0..40).map(|_| new(super::world::below(parent))).collect();
    let mut work = tokio::task::JoinSet::new();
    for worker in 0..6_usize {
        let store: Arc<_> = world.another().await;
        let mut batch = tasks.clone();
        if worker % 2 == 1 {
            batch.reverse();
        }
        work.spawn(async move {
            for _ in 0..8 {
                let submitted = store.submit(&batch).await.unwrap();
                assert_eq!(submitted.len(), batch.len());
                let ids: Vec<TaskId> = batch.iter().map(|task| task.id).collect();
                let claimed = store.claim(executor, &ids).await.unwrap();
                let settlements: Vec<_> = claimed
                    .iter()
                    .rev()
                    .map(|task| settlement(task.id, task.attempt.0, Ending::Released))
                    .collect();
                drop(store.settle(executor, &settlements).await.unwrap());
                if worker == 0 {
                    drop(store.due(100).await.unwrap());
                    assert_eq!(store.prune(LONG, 100).await.unwrap(), 0);
                }
            }
            store.close().await;
        });
    }
    work.join_all().await;
    let found = world.store.tree(parent).await.unwrap();
    assert_eq!(found.tasks.len(), 41);
    let mut claimed = world
        .store
        .claim_idle(executor, &look(100))
        .await
        .unwrap()
        .tasks;
    claimed.dedup_by_key(|task| task.id);
    assert_eq!(claimed.len(), 40, "all were given back");
}
