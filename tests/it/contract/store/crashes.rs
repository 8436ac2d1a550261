//! Whose fault a crash is, death notices, and the marks of idle looks.

use std::time::Duration;

use longshore::domain::{
    Attempt, Delivery, ExecutorId, LogChunk, LogPosition, LogStream, Submission, TaskId, TaskState,
};
use longshore::store::{IdleLook, IdleResume, Renewal, Settled, TakenOver};

use super::World;
use super::world::{LONG, echo, later, look, new, record};

/// An executor that runs `tasks` and dies.
async fn crash(world: &World, tasks: &[TaskId]) -> (ExecutorId, TakenOver) {
    let executor = world.executor().await;
    assert_eq!(world.claim(executor, tasks).await.len(), tasks.len());
    (executor, die(world, executor).await)
}

async fn die(world: &World, executor: ExecutorId) -> TakenOver {
    let ends_at = world.store.lease_end(executor).await.unwrap().unwrap();
    assert!(world.store.end_lease(executor, ends_at).await.unwrap());
    world.store.take_over(Some(executor), 100).await.unwrap()
}

/// What a task is charged with and suspected of.
async fn counts(world: &World, task: TaskId) -> (u32, u32) {
    let task = world.task(task).await;
    assert_eq!(task.failures, 0, "a crash is no failure");
    (task.crashes, task.suspicions)
}

pub(crate) async fn a_task_that_ran_alone_is_charged_with_the_crash(world: &World) {
    let task = world.submit_one(echo()).await;
    drop(crash(world, &[task]).await);
    assert_eq!(counts(world, task).await, (1, 0));
    assert_eq!(world.task(task).await.state, TaskState::Ready);
}

pub(crate) async fn of_several_that_ran_nobody_is_charged(world: &World) {
    let tasks = world.ready(3).await;
    drop(crash(world, &tasks).await);
    for task in tasks {
        assert_eq!(counts(world, task).await, (0, 1));
        assert!(!world.task(task).await.is_suspect());
    }
}

pub(crate) async fn a_task_on_trial_is_charged_and_its_neighbours_are_not(world: &World) {
    let tasks = world.ready(3).await;
    for suspicions in 1..=2 {
        drop(crash(world, &tasks).await);
        assert_eq!(counts(world, tasks[1]).await, (0, suspicions));
    }
    assert!(world.task(tasks[1]).await.is_suspect());
    let executor = world.executor().await;
    world.claim(executor, &tasks).await;
    world
        .store
        .put_on_trial(executor, tasks[1], Attempt(3))
        .await
        .unwrap();
    // In batches smaller than the number of its tasks: who is to blame is not forgotten in between.
    let ends_at = world.store.lease_end(executor).await.unwrap().unwrap();
    assert!(world.store.end_lease(executor, ends_at).await.unwrap());
    for _ in 0..4 {
        drop(world.store.take_over(None, 1).await.unwrap());
    }
    assert_eq!(counts(world, tasks[0]).await, (0, 3));
    assert_eq!(counts(world, tasks[1]).await, (1, 2));
    assert_eq!(counts(world, tasks[2]).await, (0, 3));
}

pub(crate) async fn a_trial_that_ended_before_the_crash_blames_nobody(world: &World) {
    let tasks = world.ready(3).await;
    let executor = world.executor().await;
    world.claim(executor, &tasks).await;
    world
        .store
        .put_on_trial(executor, tasks[0], Attempt(1))
        .await
        .unwrap();
    drop(
        world
            .settle(executor, tasks[0], 1, super::world::succeeded())
            .await,
    );
    drop(die(world, executor).await);
    assert_eq!(counts(world, tasks[1]).await, (0, 1));
    assert_eq!(counts(world, tasks[2]).await, (0, 1));
}

pub(crate) async fn what_keeps_killing_is_quarantined_with_what_is_known(world: &World) {
    let task = world.submit_one(echo()).await;
    for _ in 0..2 {
        drop(crash(world, &[task]).await);
    }
    let executor = world.executor().await;
    world.claim(executor, &[task]).await;
    let chunk = |offset: usize, text: &str| LogChunk {
        task,
        position: LogPosition {
            attempt: Attempt(3),
            offset: offset as u64,
        },
        stream: LogStream::Stdout,
        at: later(0),
        text: text.to_owned(),
    };
    let chunks = [chunk(0, "begins\nhalf "), chunk(12, "way\n")];
    world.store.append_logs(&chunks).await.unwrap();
    let taken = die(world, executor).await;
    assert_eq!(taken.ended.len(), 1, "{taken:?}");
    let found = world.task(task).await;
    assert_eq!((found.state, found.crashes), (TaskState::Paused, 3));
    let error = found.error.unwrap();
    let expected = format!(
        "quarantined: 3 executors died while it ran, the last was `x1` ({executor}), process {} on `host-1`",
        u32::MAX
    );
    assert_eq!(error.message, expected);
    let detail: serde_json::Value = error.detail.unwrap().decode().unwrap();
    assert_eq!(
        detail["last_log_lines"],
        serde_json::json!(["begins", "half way"])
    );
}

pub(crate) async fn an_executor_that_leaves_in_peace_charges_nobody(world: &World) {
    let tasks = world.ready(1).await;
    let executor = world.executor().await;
    world.claim(executor, &tasks).await;
    drop(world.store.retire(executor).await.unwrap());
    assert_eq!(counts(world, tasks[0]).await, (0, 0));
}

pub(crate) async fn what_may_run_only_once_is_left_to_the_dead_until_their_lease_has_ended(
    world: &World,
) {
    let mut once: Submission = echo();
    once.options.delivery = Delivery::Once;
    let tasks = world.submit(&[new(once), new(echo())]).await;
    let (dead, taken) = crash(world, &tasks).await;
    assert_eq!((taken.released.len(), taken.ended.len()), (1, 0));
    assert_eq!(world.task(tasks[0]).await.state, TaskState::Running);
    // Of two that ran, neither ran alone: also when one of them is looked at later.
    assert_eq!(counts(world, tasks[1]).await, (0, 1));
    let late = world.settle(dead, tasks[0], 1, super::world::succeeded());
    assert!(matches!(late.await, Settled::Stored { .. }));
    // Renewing or claiming it may no more.
    assert_eq!(
        world.store.renew(dead, LONG).await.unwrap(),
        Renewal::Fenced
    );
    assert_eq!(world.claim(dead, &tasks).await, []);
    let mut once: Submission = echo();
    once.options.delivery = Delivery::Once;
    let task = world.submit_one(once).await;
    drop(crash(world, &[task]).await);
    world
        .sql("update executor set lease_ends_at = dead_at where dead_at is not null")
        .await;
    drop(world.store.take_over(None, 9).await.unwrap());
    assert_eq!(world.task(task).await.state, TaskState::Failed);
}

pub(crate) async fn a_lease_that_was_renewed_since_is_not_ended(world: &World) {
    let executor = world.executor().await;
    let ends_at = world.store.lease_end(executor).await.unwrap().unwrap();
    let longer = LONG + Duration::from_secs(1);
    assert!(matches!(
        world.store.renew(executor, longer).await.unwrap(),
        Renewal::Held { .. }
    ));
    assert!(!world.store.end_lease(executor, ends_at).await.unwrap());
    assert_eq!(
        world.store.take_over(None, 9).await.unwrap(),
        TakenOver::default()
    );
    let nobody = record("nobody").id;
    assert_eq!(world.store.lease_end(nobody).await.unwrap(), None);
}

pub(crate) async fn who_lacks_a_token_and_is_silent_is_told(world: &World) {
    let store = &world.store;
    let (with, without, found) = (
        world.executor().await,
        world.executor().await,
        world.executor().await,
    );
    let longer = LONG + Duration::from_secs(1);
    let silent = async |lease_left| store.glance(lease_left).await.unwrap().silent;
    assert_eq!(silent(longer).await, [], "all hold theirs");
    for executor in [with, without, found] {
        store.note_token(executor, false).await.unwrap();
    }
    store.note_token(with, true).await.unwrap();
    let ends_at = store.lease_end(found).await.unwrap().unwrap();
    assert!(store.end_lease(found, ends_at).await.unwrap());
    assert_eq!(silent(longer).await, [without]);
    assert_eq!(silent(LONG / 2).await, [], "it was renewed");
    // Noted of nobody that is known, it is nothing.
    let nobody = record("nobody").id;
    store.note_token(nobody, false).await.unwrap();
    assert_eq!(silent(longer).await, [without]);
}

pub(crate) async fn only_the_executor_that_is_meant_is_taken_over(world: &World) {
    let tasks = world.ready(2).await;
    let other = world.lost_executor(&tasks[..1]).await;
    let (dead, taken) = crash(world, &tasks[1..]).await;
    assert_eq!(taken.lost, [dead]);
    let taken = world.store.take_over(None, 9).await.unwrap();
    assert_eq!(taken.lost, [other]);
    assert_eq!(world.store.lease_end(dead).await.unwrap(), None);
}

pub(crate) async fn an_idle_look_keeps_to_its_marks(world: &World) {
    let executor = world.executor().await;
    let low = new(Submission {
        priority: -5,
        ..echo()
    });
    let tasks = world.submit(&[new(echo()), low, new(echo())]).await;
    let ready_at = world.task(tasks[0]).await.ready_at.unwrap();
    let found = async |look: IdleLook| {
        let found = world.store.claim_idle(executor, &look).await.unwrap();
        assert!(found.looked_at >= ready_at);
        found.tasks.iter().map(|task| task.id).collect::<Vec<_>>()
    };
    let after = ready_at + jiff::SignedDuration::from_micros(1);
    let (since, before) = (Some(after), Some(ready_at));
    assert_eq!(found(IdleLook { since, ..look(9) }).await, []);
    assert_eq!(found(IdleLook { before, ..look(9) }).await, []);
    let (since, before) = (Some(ready_at), Some(after));
    let exact = IdleLook {
        since,
        before,
        ..look(9)
    };
    assert_eq!(found(exact).await, [tasks[0], tasks[2], tasks[1]]);
}

pub(crate) async fn an_idle_look_goes_on_where_the_last_one_stopped(world: &World) {
    let executor = world.executor().await;
    let of = |priority| new(Submission { priority, ..echo() });
    let early = world.submit(&[of(5), of(0), of(-5)]).await;
    let late = world.submit(&[of(5), of(0), of(-5)]).await;
    let ready_at = world.task(late[0]).await.ready_at.unwrap();
    assert!(world.task(early[0]).await.ready_at.unwrap() < ready_at);
    let after = ready_at + jiff::SignedDuration::from_micros(1);
    let found = async |ready_at, above_since| {
        let resume = Some(IdleResume {
            priority: 0,
            ready_at,
            above_since,
        });
        let look = IdleLook { resume, ..look(9) };
        let found = world.store.claim_idle(executor, &look).await.unwrap();
        found.tasks.iter().map(|task| task.id).collect::<Vec<_>>()
    };
    // Of lower priority nothing was looked through.
    assert_eq!(found(after, after).await, [early[2], late[2]]);
    assert_eq!(found(ready_at, after).await, [late[1]]);
    assert_eq!(found(after, ready_at).await, [late[0]]);
    let whole = world.store.claim_idle(executor, &look(9)).await.unwrap();
    let left: Vec<TaskId> = whole.tasks.iter().map(|task| task.id).collect();
    assert_eq!(left, early[..2]);
}
