//! What time moves and removes.

use std::time::Duration;

use longshore::domain::{
    Attempt, Ending, Failure, LogChunk, LogPosition, LogStream, Submission, TaskState,
};
use longshore::store::{Due, Glance};

use super::World;
use super::scheduling::{create, hourly};
use super::world::{LONG, below, echo, later, stored, succeeded};

fn due_at(run_at: jiff::Timestamp) -> Submission {
    Submission {
        run_at: Some(run_at),
        ..echo()
    }
}

fn late() -> Submission {
    Submission {
        deadline: Some(later(-1)),
        ..echo()
    }
}

pub(crate) async fn a_task_due_later_waits_for_its_time(world: &World) {
    let far = world.submit_one(due_at(later(7200))).await;
    let near = world.submit_one(due_at(later(3600))).await;
    let due = world.store.due(10).await.unwrap();
    assert_eq!((due.ready.len(), due.failed.len()), (0, 0));
    let next_in = due.next_in.unwrap();
    assert!(
        next_in > Duration::from_mins(50) && next_in <= LONG,
        "{next_in:?}"
    );
    // Its time comes.
    world
        .sql(
            "update timer set due_at = (select created_at from task where id = timer.task)
            where task = (select id from task order by id desc limit 1)",
        )
        .await;
    let due = world.store.due(10).await.unwrap();
    assert_eq!((due.ready.len(), due.failed.len()), (1, 0));
    assert_eq!(
        (due.ready[0].id, due.ready[0].state),
        (near, TaskState::Ready)
    );
    assert!(due.next_in.unwrap() > LONG);
    let found = world.task(near).await;
    assert_eq!(found.state, TaskState::Ready);
    assert!(found.ready_at > Some(found.created_at));
    assert_eq!(world.task(far).await.state, TaskState::Scheduled);
}

pub(crate) async fn nothing_is_due_in_an_empty_store(world: &World) {
    assert_eq!(world.store.due(10).await.unwrap(), Due::default());
}

pub(crate) async fn a_glance_tells_what_there_is_to_do(world: &World) {
    let glance = async || world.store.glance(LONG).await.unwrap();
    assert_eq!(glance().await, Glance::default());

    world.submit_one(due_at(later(3600))).await;
    let seen = glance().await;
    let waits = Duration::from_mins(50)..=LONG;
    assert!(
        seen.due_in.is_some_and(|due| waits.contains(&due)),
        "{seen:?}"
    );
    assert_eq!(
        Glance {
            due_in: None,
            ..seen
        },
        Glance::default()
    );
    world.submit_one(late()).await;
    assert_eq!(glance().await.due_in, Some(Duration::ZERO));
    let _moved: Due = world.store.due(10).await.unwrap();
    assert!(glance().await.due_in > Some(Duration::ZERO));

    assert_eq!(glance().await.schedules_in, None);
    create(world, hourly("often")).await;
    let schedules_in = glance().await.schedules_in;
    assert!(
        schedules_in.is_some_and(|due| waits.contains(&due)),
        "{schedules_in:?}"
    );

    let (executor, parent) = world.running(echo()).await;
    world.submit_one(below(parent)).await;
    assert!(!glance().await.has_below);
    stored(&world.settle(executor, parent, 1, succeeded()).await);
    assert!(glance().await.has_below);
    while world.store.clear_below(10).await.unwrap().has_more {}
    assert!(!glance().await.has_below);

    let tasks = world.ready(2).await;
    assert!(!glance().await.has_lost);
    let lost = world.lost_executor(&tasks).await;
    assert!(glance().await.has_lost);
    assert_eq!(world.store.take_over(None, 10).await.unwrap().lost, [lost]);
    assert!(!glance().await.has_lost);
}

pub(crate) async fn what_is_due_is_moved_within_the_limit(world: &World) {
    for _ in 0..5 {
        world.submit_one(late()).await;
    }
    let due = world.store.due(3).await.unwrap();
    assert_eq!((due.failed.len(), due.next_in), (3, Some(Duration::ZERO)));
    let due = world.store.due(3).await.unwrap();
    assert_eq!((due.failed.len(), due.next_in), (2, None));
}

pub(crate) async fn an_open_task_past_its_deadline_fails(world: &World) {
    let task = world.submit_one(late()).await;
    let due = world.store.due(10).await.unwrap();
    assert_eq!(due.failed[0].id, task);
    assert_eq!(due.failed[0].state, TaskState::Failed);
    let found = world.task(task).await;
    assert_eq!(found.error, Some(Failure::fatal("its deadline passed")));
    assert!(found.finished_at.is_some());
}

pub(crate) async fn a_scheduled_task_past_its_deadline_does_not_start(world: &World) {
    let task = world.submit_one(late()).await;
    world.sql("update task set state = 'scheduled'").await;
    world
        .sql("insert into timer (task, kind, due_at) select task, 'start', due_at from timer")
        .await;
    let due = world.store.due(10).await.unwrap();
    assert_eq!((due.ready.len(), due.failed.len()), (0, 1));
    assert_eq!(due.failed[0].id, task);
}

pub(crate) async fn a_running_task_past_its_deadline_is_left_to_its_executor(world: &World) {
    let (executor, task) = world.running(late()).await;
    let due = world.store.due(10).await.unwrap();
    assert_eq!(due, Due::default(), "and nobody looks again until it ends");
    assert_eq!(world.task(task).await.state, TaskState::Running);
    let settled = world.settle(executor, task, 1, Ending::Released).await;
    assert_eq!(stored(&settled), TaskState::Ready);
    assert_eq!(world.store.due(10).await.unwrap().failed[0].id, task);

    let (executor, task) = world.running(late()).await;
    drop(world.settle(executor, task, 1, succeeded()).await);
    assert_eq!(world.store.due(10).await.unwrap(), Due::default());
}

pub(crate) async fn concurrent_looks_move_each_task_once(world: &World) {
    for _ in 0..20 {
        world.submit_one(late()).await;
    }
    let mut looks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = world.another().await;
        looks.spawn(async move {
            let mut failed = Vec::new();
            loop {
                let due = store.due(3).await.unwrap();
                failed.extend(due.failed);
                if due.next_in.is_none() {
                    store.close().await;
                    return failed.len();
                }
            }
        });
    }
    assert_eq!(looks.join_all().await.iter().sum::<usize>(), 20);
}

pub(crate) async fn pruning_deletes_final_tasks_and_their_logs(world: &World) {
    let (executor, done) = world.running(echo()).await;
    let (_, running) = world.running(echo()).await;
    let ready = world.ready(1).await[0];
    let chunk = |task| LogChunk {
        task,
        position: LogPosition {
            attempt: Attempt(1),
            offset: 0,
        },
        stream: LogStream::Log,
        at: later(0),
        text: "x".to_owned(),
    };
    world
        .store
        .append_logs(&[chunk(done), chunk(running)])
        .await
        .unwrap();
    drop(world.settle(executor, done, 1, succeeded()).await);
    assert_eq!(world.store.prune(LONG, 10).await.unwrap(), 0, "too young");
    assert_eq!(world.store.prune(Duration::ZERO, 0).await.unwrap(), 0);
    assert_eq!(world.store.prune(Duration::ZERO, 10).await.unwrap(), 1);
    assert_eq!(world.store.task(done).await.unwrap(), None);
    assert_eq!(world.store.logs(done, None, 9).await.unwrap(), []);
    assert_eq!(world.store.logs(running, None, 9).await.unwrap().len(), 1);
    let left = world.store.tasks(&[running, ready]).await.unwrap();
    assert_eq!(left.tasks.len(), 2);
    assert_eq!(world.store.prune(Duration::ZERO, 10).await.unwrap(), 0);
}

pub(crate) async fn pruning_takes_the_oldest_first(world: &World) {
    let tasks = world.ready(3).await;
    let executor = world.executor().await;
    for task in &tasks {
        world.claim(executor, &[*task]).await;
        drop(world.settle(executor, *task, 1, succeeded()).await);
    }
    world.sql("update task set priority = 1").await; // New row versions, in whatever order.
    let late_one = world.ready(1).await[0];
    world.claim(executor, &[late_one]).await;
    drop(world.settle(executor, late_one, 1, succeeded()).await);
    assert_eq!(world.store.prune(Duration::ZERO, 3).await.unwrap(), 3);
    let left = world
        .store
        .list(&super::reading::all())
        .await
        .unwrap()
        .tasks;
    assert_eq!(
        left.iter().map(|task| task.id).collect::<Vec<_>>(),
        [late_one]
    );
}
