//! Reading, logs and the schema.

use std::slice;

use longshore::domain::QueueRecord;
use longshore::domain::limits::PAGE_MAX;
use longshore::domain::{
    Attempt, Ending, LogChunk, LogPosition, LogStream, Operator, Submission, Task, TaskId,
    TaskState,
};
use longshore::store::{List, Renewal, SCHEMA_VERSION, StoreError};
use uuid::Uuid;

use super::World;
use super::world::{LONG, action, below, echo, later, new, queue, succeeded};

/// A list of everything.
pub(crate) fn all() -> List {
    List {
        limit: PAGE_MAX,
        ..List::default()
    }
}

fn ids(tasks: Vec<Task>) -> Vec<TaskId> {
    tasks.into_iter().map(|task| task.id).collect()
}

pub(crate) async fn only_known_tasks_are_found(world: &World) {
    let tasks = world.ready(2).await;
    let nobody = TaskId::from_uuid(Uuid::now_v7());
    assert_eq!(world.store.task(nobody).await.unwrap(), None);
    let mut found = ids(world
        .store
        .tasks(&[tasks[1], nobody, tasks[0]])
        .await
        .unwrap()
        .tasks);
    found.sort();
    assert_eq!(found, tasks);
    assert!(world.store.tasks(&[]).await.unwrap().is_empty());
}

pub(crate) async fn a_list_is_filtered(world: &World) {
    world.store.create_queue(&queue("bulk")).await.unwrap();
    let plain = world.submit_one(echo()).await;
    let bulk = world.submit_one(echo().on_queue(queue("bulk"))).await;
    let labelled = world.submit_one(echo().with_label("a.\"b", "c'd")).await;
    let child = world.submit_one(below(plain)).await;
    let (_, running) = world
        .running(Submission {
            action: action("other"),
            ..echo()
        })
        .await;
    let list = async |list: List| ids(world.store.list(&list).await.unwrap().tasks);
    assert_eq!(list(all()).await, [running, child, labelled, bulk, plain]);
    let of_state = |states| List { states, ..all() };
    assert_eq!(list(of_state(vec![TaskState::Running])).await, [running]);
    assert_eq!(
        list(of_state(vec![TaskState::Running, TaskState::Ready]))
            .await
            .len(),
        5
    );
    assert_eq!(list(of_state(vec![TaskState::Failed])).await, []);
    assert_eq!(
        list(List {
            queue: Some(queue("bulk")),
            ..all()
        })
        .await,
        [bulk]
    );
    assert_eq!(
        list(List {
            action: Some(action("other")),
            ..all()
        })
        .await,
        [running]
    );
    assert_eq!(
        list(List {
            parent: Some(plain),
            ..all()
        })
        .await,
        [child]
    );
    let of_label = |name: &str, value: &str| List {
        labels: vec![(name.to_owned(), value.to_owned())],
        ..all()
    };
    assert_eq!(list(of_label("a.\"b", "c'd")).await, [labelled]);
    assert_eq!(list(of_label("a.\"b", "c")).await, []);
    assert_eq!(list(of_label("a", "c'd")).await, []);
    let prefix = |prefix: &str| List {
        action_prefix: Some(prefix.to_owned()),
        ..all()
    };
    assert_eq!(list(prefix("oth")).await, [running]);
    assert_eq!(list(prefix("th")).await, []);
    assert_eq!(list(prefix("")).await.len(), 5);
    let created = world.task(plain).await.created_at;
    let before = |time| List {
        created_before: Some(time),
        ..all()
    };
    assert!(!list(before(created)).await.contains(&plain));
    assert!(list(before(later(60))).await.contains(&plain));
}

pub(crate) async fn a_list_is_counted(world: &World) {
    let labels = |pairs: &[(&str, &str)]| List {
        labels: pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        ..all()
    };
    world.ready(2).await;
    let red = echo().with_label("team", "red");
    world.submit_one(red.clone()).await;
    world.submit_one(red.with_label("size", "big")).await;
    let count = async |list: List| world.store.count(&list).await.unwrap();
    assert_eq!(count(all()).await, 4);
    assert_eq!(count(List { limit: 3, ..all() }).await, 3);
    assert_eq!(count(labels(&[("team", "red")])).await, 2);
    let both = labels(&[("team", "red"), ("size", "big")]);
    assert_eq!(count(both).await, 1);
}

pub(crate) async fn a_list_goes_on_before_its_last_task(world: &World) {
    let mut tasks = world.ready(5).await;
    tasks.reverse();
    let mut found = Vec::new();
    loop {
        let page = List {
            before: found.last().copied(),
            limit: 2,
            ..List::default()
        };
        let page = ids(world.store.list(&page).await.unwrap().tasks);
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        found.extend(page);
    }
    assert_eq!(found, tasks);
}

pub(crate) async fn a_tree_lists_parents_before_children(world: &World) {
    let root = world.ready(1).await[0];
    let elder = world.submit_one(below(root)).await;
    let grandchild = world.submit_one(below(elder)).await;
    // An id that sorts before its elder sibling's: age is not the order of the ids.
    let mut younger = new(below(root));
    younger.id = TaskId::of_subtask(TaskId::from_uuid(Uuid::nil()), "0");
    world.submit(slice::from_ref(&younger)).await;
    world.ready(1).await;
    let tree = async |task| ids(world.store.tree(task).await.unwrap().tasks);
    assert_eq!(tree(root).await, [root, elder, younger.id, grandchild]);
    assert_eq!(tree(elder).await, [elder, grandchild]);
    assert_eq!(tree(TaskId::from_uuid(Uuid::now_v7())).await, []);
}

pub(crate) async fn queues_count_what_is_open(world: &World) {
    world.store.create_queue(&queue("bulk")).await.unwrap();
    world.store.create_queue(&queue("a_1")).await.unwrap();
    world.ready(2).await;
    world
        .submit_one(Submission {
            run_at: Some(later(3600)),
            ..echo()
        })
        .await;
    let (executor, done) = world.running(echo().on_queue(queue("bulk"))).await;
    drop(world.settle(executor, done, 1, succeeded()).await);
    world.running(echo().on_queue(queue("bulk"))).await;
    let record = |name, scheduled, ready, running| QueueRecord {
        name: queue(name),
        scheduled,
        ready,
        running,
        paused: None,
    };
    assert_eq!(
        world.store.queues().await.unwrap(),
        [
            record("a_1", 0, 0, 0),
            record("bulk", 0, 0, 1),
            record("default", 1, 2, 0),
        ]
    );
}

pub(crate) async fn a_paused_queue_says_by_whom_and_executors_hear_of_it(world: &World) {
    let (ann, bob) = (Operator::new("ann").unwrap(), Operator::new("bob").unwrap());
    let bulk = queue("bulk");
    assert!(!world.store.pause_queue(&bulk, &ann).await.unwrap());
    assert!(!world.store.resume_queue(&bulk).await.unwrap());
    world.store.create_queue(&bulk).await.unwrap();
    let executor = world.executor().await;
    let heard = async || match world.store.renew(executor, LONG).await.unwrap() {
        Renewal::Held { paused, .. } => paused,
        Renewal::Fenced => panic!("fenced"),
    };
    let seen = async || {
        let queues = world.store.queues().await.unwrap();
        assert_eq!(queues[1].paused, None, "the queue `default`");
        let overview = world.store.overview(9).await.unwrap();
        assert_eq!(overview.queues[0].pause, queues[0].paused);
        queues[0].paused.clone()
    };
    assert_eq!((seen().await, heard().await), (None, Vec::new()));
    let before = world.store.identity().await.unwrap().now;
    assert!(world.store.pause_queue(&bulk, &ann).await.unwrap());
    let first = seen().await.unwrap();
    assert!(first.at >= before, "{first:?}");
    assert_eq!(first.by, ann);
    assert!(world.store.pause_queue(&bulk, &bob).await.unwrap());
    assert_eq!(seen().await, Some(first), "who came first stays");
    assert_eq!(heard().await, slice::from_ref(&bulk));
    assert!(world.store.resume_queue(&bulk).await.unwrap());
    assert_eq!((seen().await, heard().await), (None, Vec::new()));
    assert!(world.store.pause_queue(&bulk, &bob).await.unwrap());
    assert_eq!(seen().await.unwrap().by, bob);
}

pub(crate) async fn an_overview_tells_what_is_open(world: &World) {
    world.store.create_queue(&queue("bulk")).await.unwrap();
    let before = world.store.identity().await.unwrap().now;
    let waiting = world.ready(3).await;
    let scheduled = Submission {
        run_at: Some(later(3600)),
        ..echo()
    };
    world.submit_one(scheduled).await;
    let (executor, done) = world.running(echo().on_queue(queue("bulk"))).await;
    drop(world.settle(executor, done, 1, succeeded()).await);
    let (executor, running) = world.running(echo().on_queue(queue("bulk"))).await;
    let seen = world.store.overview(2).await.unwrap();
    let count = |name: &str| {
        let found = seen.queues.iter().find(|one| one.name == queue(name));
        let one = found.unwrap();
        let counts = [one.scheduled, one.blocked, one.ready, one.running];
        (counts, one.suspended + one.paused)
    };
    assert_eq!(count("bulk"), ([0, 0, 0, 1], 0));
    assert_eq!(count("default"), ([1, 0, 3, 0], 0));
    let oldest = |name: &str| {
        let found = seen.queues.iter().find(|one| one.name == queue(name));
        found.unwrap().oldest_ready_at
    };
    assert_eq!(oldest("bulk"), None);
    let first = world.store.task(waiting[0]).await.unwrap().unwrap();
    assert_eq!(oldest("default"), first.ready_at);
    assert_eq!(seen.busy.into_iter().collect::<Vec<_>>(), [(executor, 1)]);
    assert!(seen.executors.iter().any(|one| one.id == executor));
    assert!(seen.identity.now >= before);
    let tasks: Vec<_> = seen.tasks.iter().map(|one| (one.id, one.state)).collect();
    let expected = [
        (running, TaskState::Running),
        (waiting[0], TaskState::Ready),
        (waiting[1], TaskState::Ready),
    ];
    assert_eq!(tasks, expected);
    assert_eq!(seen.tasks[0].executor, Some(executor));
    assert_eq!(Some(seen.tasks[1].since), first.ready_at);
}

pub(crate) async fn an_overview_is_not_hidden_by_a_broken_row(world: &World) {
    let tasks = world.ready(2).await;
    let id = world.id(tasks[0].as_uuid());
    world
        .sql(&format!("update task set action = '' where id = {id}"))
        .await;
    let seen = world.store.overview(10).await.unwrap();
    assert_eq!(seen.queues[0].ready, 2);
    let told: Vec<_> = seen.tasks.iter().map(|one| one.id).collect();
    assert_eq!(told, [tasks[1]]);
}

fn chunk(task: TaskId, attempt: u32, offset: u64, text: &str) -> LogChunk {
    LogChunk {
        task,
        position: LogPosition {
            attempt: Attempt(attempt),
            offset,
        },
        stream: LogStream::Stderr,
        at: "2026-01-02T03:04:05.000007Z".parse().unwrap(),
        text: text.to_owned(),
    }
}

pub(crate) async fn log_chunks_are_kept_once_and_in_order(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let chunks = [
        chunk(task, 1, 0, "one\n"),
        chunk(task, 1, 4, "two é\n"),
        chunk(task, 2, 0, "three"),
    ];
    let shuffled = [chunks[1].clone(), chunks[0].clone()];
    world.store.append_logs(&shuffled).await.unwrap();
    world
        .store
        .append_logs(&[chunk(task, 1, 4, "again"), chunks[0].clone()])
        .await
        .unwrap();
    drop(world.settle(executor, task, 1, Ending::Released).await);
    world.claim(executor, &[task]).await;
    world.store.append_logs(&chunks[2..]).await.unwrap();
    world.store.append_logs(&[]).await.unwrap();
    let logs = async |after, limit| world.store.logs(task, after, limit).await.unwrap();
    assert_eq!(logs(None, 9).await, chunks);
    assert_eq!(logs(None, 2).await, chunks[..2]);
    let end_of_first = LogPosition {
        attempt: Attempt(1),
        offset: 4,
    };
    assert_eq!(
        logs(Some(end_of_first), 9).await,
        chunks[1..],
        "a position is the end of what was read"
    );
    let end = LogPosition {
        attempt: Attempt(2),
        offset: 5,
    };
    assert_eq!(logs(Some(end), 9).await, []);
}

pub(crate) async fn log_chunks_of_an_unknown_task_are_dropped(world: &World) {
    let (_executor, task) = world.running(echo()).await;
    let nobody = TaskId::from_uuid(Uuid::now_v7());
    world
        .store
        .append_logs(&[chunk(nobody, 1, 0, "x"), chunk(task, 1, 0, "y")])
        .await
        .unwrap();
    assert_eq!(world.store.logs(nobody, None, 9).await.unwrap(), []);
    assert_eq!(world.store.logs(task, None, 9).await.unwrap().len(), 1);
}

pub(crate) async fn migrating_again_changes_nothing(world: &World) {
    let task = world.ready(1).await[0];
    world.store.migrate().await.unwrap();
    assert_eq!(
        world.store.schema_version().await.unwrap(),
        Some(SCHEMA_VERSION)
    );
    assert!(world.store.task(task).await.unwrap().is_some());
}

pub(crate) async fn another_schema_is_reported(world: &World) {
    let all_before = "delete from _sqlx_migrations where version > 1";
    world.sql(all_before).await;
    world.sql("update _sqlx_migrations set version = 0").await;
    assert_eq!(world.store.schema_version().await.unwrap(), Some(0));
    world.sql("update _sqlx_migrations set version = 99").await;
    assert_eq!(world.store.schema_version().await.unwrap(), Some(99));
    let error = world.store.migrate().await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Schema {
                found: Some(99),
                ..
            }
        ),
        "{error:?}"
    );
}

pub(crate) async fn a_closed_store_is_unavailable(world: &World) {
    let store = world.another().await;
    store.close().await;
    let error = store.queues().await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    let error = store.submit(&[new(echo())]).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}

pub(crate) async fn a_store_says_who_it_is(world: &World) {
    let identity = world.store.identity().await.unwrap();
    let version = &identity.version;
    let (name, number) = version.split_once(' ').unwrap();
    assert!(["PostgreSQL", "SQLite"].contains(&name), "{version}");
    assert!(
        number.starts_with(|first: char| first.is_ascii_digit()),
        "{version}"
    );
    assert!(identity.now > later(-60) && identity.now < later(60));
}

/// On a store that was never migrated.
pub(crate) async fn two_migrations_at_once_both_succeed(world: &World) {
    assert_eq!(world.store.schema_version().await.unwrap(), None);
    let error = world.store.submit(&[new(echo())]).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Schema { found: None, .. }),
        "{error:?}"
    );
    let other = world.another().await;
    let (one, two) = tokio::join!(world.store.migrate(), other.migrate());
    one.unwrap();
    two.unwrap();
    other.close().await;
    world.ready(1).await;
}

pub(crate) async fn what_stands_before_a_task_is_counted(world: &World) {
    let with_priority = |priority| Submission { priority, ..echo() };
    world.store.create_queue(&queue("bulk")).await.unwrap();
    world.submit_one(echo().on_queue(queue("bulk"))).await;
    let early = world.ready(2).await;
    let me = world.submit_one(echo()).await;
    world.submit_one(with_priority(-1)).await;
    let urgent = world.submit_one(with_priority(1)).await;
    let late = world.ready(1).await[0];
    let ahead = async |task, limit| world.store.ahead(task, limit).await.unwrap();
    assert_eq!(ahead(urgent, 10).await, 0);
    assert_eq!(
        ahead(me, 10).await,
        3,
        "two that were earlier, one that is urgent"
    );
    assert_eq!(ahead(me, 2).await, 2, "it stops at the limit");
    assert_eq!(ahead(late, 10).await, 4);
    let executor = world.executor().await;
    world.claim(executor, &[early[0], urgent]).await;
    assert_eq!(ahead(me, 10).await, 1, "what runs is no longer before it");
    assert_eq!(ahead(urgent, 10).await, 0, "it is not ready");
    let nobody = TaskId::from_uuid(Uuid::now_v7());
    assert_eq!(ahead(nobody, 10).await, 0);
}
