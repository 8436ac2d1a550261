//! How far attempts say that they are.

use jiff::Timestamp;
use longshore::domain::limits::CRASHES_MAX;
use longshore::domain::{Attempt, AuditDepth, Ending, Progress, TaskId};
use longshore::store::Renewal;

use super::World;
use super::world::{LONG, echo, succeeded};

fn said(attempt: u32, done: u64) -> Progress {
    let at = Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
    Progress::new(Attempt(attempt), (done, Some(10)), "copying", at)
}

async fn stored(world: &World, task: TaskId) -> Option<u64> {
    world
        .task(task)
        .await
        .progress
        .map(|progress| progress.done)
}

pub(crate) async fn progress_is_stored_with_its_task(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let other = world.ready(1).await[0];
    assert_eq!(world.task(task).await.progress, None);
    for done in [1, 2] {
        let progress = said(1, done);
        let batch = [(task, progress.clone())];
        let noted = world.store.note_progress(executor, &batch).await.unwrap();
        assert_eq!(noted, [true]);
        assert_eq!(world.task(task).await.progress, Some(progress));
    }
    assert_eq!(stored(world, other).await, None);
    drop(world.settle(executor, task, 1, succeeded()).await);
    assert_eq!(stored(world, task).await, Some(2), "it stays");
    let audit = world.store.audit(AuditDepth::All).await.unwrap();
    assert_eq!(audit.violations, []);
    let none = world.store.note_progress(executor, &[]).await.unwrap();
    assert!(none.is_empty());
}

pub(crate) async fn progress_of_an_attempt_that_is_not_the_executors_is_not_written(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let stranger = world.executor().await;
    let unknown = TaskId::of_subtask(task, "x");
    let noted = |executor, task, attempt| {
        let store = &world.store;
        async move {
            let batch = [(task, said(attempt, 5))];
            store.note_progress(executor, &batch).await.unwrap()
        }
    };
    assert_eq!(noted(stranger, task, 1).await, [false]);
    assert_eq!(noted(executor, task, 2).await, [false]);
    assert_eq!(noted(executor, unknown, 1).await, [false]);
    assert_eq!(stored(world, task).await, None);
    // Given back and claimed again: the first attempt is nobody's.
    drop(world.settle(executor, task, 1, Ending::Released).await);
    assert_eq!(noted(executor, task, 1).await, [false], "it does not run");
    world.claim(stranger, &[task]).await;
    assert_eq!(noted(executor, task, 1).await, [false]);
    assert_eq!(noted(stranger, task, 2).await, [true]);
    drop(world.settle(stranger, task, 2, succeeded()).await);
    assert_eq!(noted(stranger, task, 2).await, [false], "it has ended");
}

pub(crate) async fn of_several_in_a_batch_the_last_counts(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let other = world.ready(1).await[0];
    world.claim(executor, &[other]).await;
    let batch = [
        (task, said(1, 1)),
        (other, said(1, 7)),
        (task, said(9, 9)),
        (task, said(1, 2)),
    ];
    let noted = world.store.note_progress(executor, &batch).await.unwrap();
    assert_eq!(noted, [true, true, false, true]);
    assert_eq!(stored(world, task).await, Some(2));
    assert_eq!(stored(world, other).await, Some(7));
}

pub(crate) async fn a_quarantined_task_shows_its_last_progress(world: &World) {
    let (executor, task) = world.running(echo()).await;
    world
        .sql(&format!("update task set crashes = {}", CRASHES_MAX - 1))
        .await;
    let batch = [(task, said(1, 4))];
    world.store.note_progress(executor, &batch).await.unwrap();
    assert!(matches!(
        world.store.renew(executor, LONG).await.unwrap(),
        Renewal::Held { .. }
    ));
    let ends_at = world.store.lease_end(executor).await.unwrap().unwrap();
    assert!(world.store.end_lease(executor, ends_at).await.unwrap());
    drop(world.store.take_over(None, 9).await.unwrap());
    let error = world.task(task).await.error.unwrap();
    assert!(error.message.starts_with("quarantined"), "{error:?}");
    let detail: serde_json::Value = error.detail.unwrap().decode().unwrap();
    assert_eq!(
        detail["last_progress"],
        serde_json::json!({
            "attempt": 1, "done": 4, "total": 10, "message": "copying", "at": "2023-11-14T22:13:20.123456Z"
        })
    );
}
