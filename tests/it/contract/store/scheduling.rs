//! Schedules: each time fires once, whoever looks, and as its policies say.

use std::time::Duration;

use jiff::Timestamp;
use longshore::domain::{
    CatchUp, Cron, FiringState, NewTask, Overlap, ScheduleName, ScheduleRecord, ScheduleSpec,
    ScheduleState, Submission, TaskId, TaskState, Timing, Zone,
};
use longshore::store::{Fired, ScheduleCreated, ScheduleList, ScheduleRefusal, Store, StoreError};

use super::World;
use super::world::{LONG, echo, later, queue, succeeded};

pub(super) fn name(text: &str) -> ScheduleName {
    ScheduleName::new(text).unwrap()
}

/// Fires each hour.
pub(super) fn hourly(text: &str) -> ScheduleSpec {
    ScheduleSpec {
        name: name(text),
        timing: Timing::Interval {
            every: LONG,
            anchor: None,
        },
        task: echo(),
        overlap: Overlap::Skip,
        catch_up: CatchUp::Last,
    }
}

pub(super) fn overlapping(overlap: Overlap) -> ScheduleSpec {
    ScheduleSpec {
        overlap,
        ..hourly("often")
    }
}

pub(super) async fn create(world: &World, spec: ScheduleSpec) -> ScheduleRecord {
    match world.store.create_schedule(&spec, "a test").await.unwrap() {
        ScheduleCreated::Stored(record) => *record,
        other @ (ScheduleCreated::Known(_) | ScheduleCreated::Refused(_)) => panic!("{other:?}"),
    }
}

async fn refused(world: &World, spec: ScheduleSpec) -> ScheduleRefusal {
    match world.store.create_schedule(&spec, "a test").await.unwrap() {
        ScheduleCreated::Refused(refusal) => refusal,
        other @ (ScheduleCreated::Stored(_) | ScheduleCreated::Known(_)) => panic!("{other:?}"),
    }
}

pub(super) async fn found(world: &World, text: &str) -> ScheduleRecord {
    let found = world.store.schedule(&name(text)).await.unwrap();
    found.expect("the schedule is stored")
}

/// A time, as it is written in a statement. PostgreSQL would round what is less than a microsecond, and a store cuts it.
fn written(world: &World, time: Timestamp) -> String {
    let time = Timestamp::from_microsecond(time.as_microsecond()).unwrap();
    if world.is_postgres() {
        format!("'{time}'::timestamptz")
    } else {
        time.as_microsecond().to_string()
    }
}

/// Lets the schedule, which fires each hour, be due since `time`.
pub(super) async fn due_since(world: &World, text: &str, time: Timestamp) {
    let timing = format!("{{\"every\":3600,\"anchor\":\"{time}\"}}");
    world
        .sql(&format!(
            "update schedule set timing = '{timing}' where name = '{text}'"
        ))
        .await;
    left_since(world, text, time).await;
}

/// Lets nobody have looked at the schedule since `time`, when it was due.
pub(super) async fn left_since(world: &World, text: &str, time: Timestamp) {
    let time = written(world, time);
    world
        .sql(&format!(
            "update schedule set next_at = {time}, look_at = {time} where name = '{text}'"
        ))
        .await;
}

/// Lets the next look at the schedule come now, as when some time has passed.
pub(super) async fn look_now(world: &World, text: &str) {
    let now = written(world, later(-1));
    world
        .sql(&format!(
            "update schedule set look_at = {now} where name = '{text}'"
        ))
        .await;
}

pub(super) async fn fire(world: &World) -> Fired {
    world.store.fire_schedules(10).await.unwrap()
}

/// The only task that `fired` has submitted.
pub(super) fn only(fired: &Fired) -> TaskId {
    assert_eq!(fired.created.len(), 1, "{fired:?}");
    fired.created[0].id
}

pub(super) async fn states(world: &World, text: &str) -> Vec<FiringState> {
    let firings = world.store.firings(&name(text), 500).await.unwrap();
    firings.iter().map(|firing| firing.state).collect()
}

/// Ends a task that is ready.
pub(super) async fn end(world: &World, task: TaskId) {
    let executor = world.executor().await;
    assert_eq!(world.claim(executor, &[task]).await.len(), 1);
    drop(world.settle(executor, task, 1, succeeded()).await);
}

pub(crate) async fn a_schedule_comes_back_as_it_was(world: &World) {
    let spec = ScheduleSpec {
        timing: Timing::Cron {
            cron: Cron::new("*/5 3 * * MON-FRI").unwrap(),
            zone: Zone::new("Europe/Prague").unwrap(),
        },
        task: echo().with_label("team", "red"),
        overlap: Overlap::Queue,
        catch_up: CatchUp::All,
        ..hourly("nightly.report")
    };
    let record = create(world, spec.clone()).await;
    assert_eq!(record.state(), ScheduleState::Active);
    assert_eq!(record.spec, spec);
    assert_eq!(found(world, "nightly.report").await, record);
    let next = spec.timing.next_after(record.created_at, record.created_at);
    assert_eq!(
        (record.next_at, record.created_by.as_str()),
        (next, "a test")
    );
    let every = ScheduleSpec {
        timing: Timing::Interval {
            every: Duration::from_micros(1_500_001),
            anchor: Some(Timestamp::from_microsecond(1_700_000_000_000_001).unwrap()),
        },
        ..hourly("b")
    };
    create(world, every.clone()).await;
    let once = ScheduleSpec {
        timing: Timing::Once(Timestamp::from_second(4_000_000_000).unwrap()),
        ..hourly("a")
    };
    create(world, once.clone()).await;
    let list = |after: Option<&str>, limit| ScheduleList {
        after: after.map(str::to_owned),
        limit,
    };
    let first = world.store.schedules(&list(None, 2)).await.unwrap();
    let specs: Vec<_> = first.schedules.iter().map(|one| one.spec.clone()).collect();
    assert_eq!(specs, [once, every]);
    assert_eq!(first.next(2).as_deref(), Some("b"));
    let rest = world.store.schedules(&list(Some("b"), 2)).await.unwrap();
    assert_eq!((rest.schedules.len(), rest.next(2)), (1, None));
    let none = world.store.schedule(&name("nobody")).await.unwrap();
    assert_eq!(none, None);
}

pub(crate) async fn the_same_schedule_is_made_once_and_another_is_refused(world: &World) {
    let record = create(world, hourly("h")).await;
    let again = world.store.create_schedule(&hourly("h"), "another").await;
    assert_eq!(again.unwrap(), ScheduleCreated::Known(Box::new(record)));
    let mut other = hourly("h");
    (other.overlap, other.task.priority) = (Overlap::Queue, 7);
    let differences = vec!["overlap", "priority"];
    assert_eq!(
        refused(world, other).await,
        ScheduleRefusal::Taken { differences }
    );
    let mut nowhere = hourly("n");
    nowhere.task = nowhere.task.on_queue(queue("nowhere"));
    assert_eq!(
        refused(world, nowhere).await,
        ScheduleRefusal::UnknownQueue(queue("nowhere"))
    );
    let past = later(-5);
    let over = ScheduleSpec {
        timing: Timing::Once(past),
        ..hourly("p")
    };
    assert_eq!(refused(world, over).await, ScheduleRefusal::Over(past));
}

pub(crate) async fn nothing_fires_before_its_time(world: &World) {
    assert_eq!(fire(world).await, Fired::default());
    create(world, hourly("h")).await;
    let fired = fire(world).await;
    assert_eq!((fired.created.len(), fired.looked_at), (0, 0));
    let next_in = fired.next_in.unwrap();
    assert!(
        next_in > Duration::from_mins(59) && next_in <= LONG,
        "{next_in:?}"
    );
}

pub(crate) async fn a_schedule_that_is_due_submits_its_task(world: &World) {
    let mut spec = hourly("h");
    spec.task = Submission {
        priority: 5,
        ..echo().with_label("team", "red")
    };
    create(world, spec.clone()).await;
    let due_at = Timestamp::from_microsecond(later(-3).as_microsecond()).unwrap();
    due_since(world, "h", due_at).await;
    let fired = fire(world).await;
    let task = world.task(only(&fired)).await;
    assert_eq!(fired.created[0], task.facts());
    assert_eq!(task.id, TaskId::of_firing(&spec.name, due_at));
    assert_eq!((task.state, task.priority), (TaskState::Ready, 5));
    let labels: Vec<_> = task
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(labels, ["schedule=h", "team=red"]);
    assert_eq!(task.input, spec.task.input);
    let record = found(world, "h").await;
    assert_eq!(record.last_task, Some(task.id));
    assert!(record.next_at > Some(later(3000)), "{record:?}");
    let firings = world.store.firings(&spec.name, 9).await.unwrap();
    assert_eq!(firings.len(), 1);
    let firing = (firings[0].due_at, firings[0].state, firings[0].task);
    assert_eq!(firing, (due_at, FiringState::Fired, Some(task.id)));
    assert!(fired.next_in > Some(Duration::from_mins(50)));
    assert_eq!(fire(world).await.created, [], "it fires once");
}

/// The guard holds also when a schedule is set back, as from an old copy of the database.
pub(crate) async fn a_time_that_has_fired_fires_never_again(world: &World) {
    create(world, hourly("h")).await;
    let due_at = later(-3);
    due_since(world, "h", due_at).await;
    let task = only(&fire(world).await);
    end(world, task).await;
    due_since(world, "h", due_at).await;
    let fired = fire(world).await;
    assert_eq!((fired.created.len(), fired.looked_at), (0, 1));
    assert_eq!(found(world, "h").await.last_task, Some(task));
    assert_eq!(states(world, "h").await, [FiringState::Fired]);
    // Its task may be deleted by now, and then only the firing tells.
    world.sql("delete from task").await;
    due_since(world, "h", due_at).await;
    assert_eq!(fire(world).await.created, []);
    assert_eq!(states(world, "h").await, [FiringState::Fired]);
}

pub(crate) async fn housekeepers_that_look_at_once_fire_each_schedule_once(world: &World) {
    for number in 0..12 {
        let text = format!("s{number}");
        create(world, hourly(&text)).await;
        due_since(world, &text, later(-1)).await;
    }
    let mut looks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = world.another().await;
        looks.spawn(async move {
            let mut fired = 0;
            loop {
                let one = store.fire_schedules(5).await.unwrap();
                fired += one.created.len();
                if one.next_in != Some(Duration::ZERO) {
                    store.close().await;
                    return fired;
                }
            }
        });
    }
    assert_eq!(looks.join_all().await.iter().sum::<usize>(), 12);
    for number in 0..12 {
        let states = states(world, &format!("s{number}")).await;
        assert_eq!(states, [FiringState::Fired]);
    }
}

pub(crate) async fn a_deleted_schedule_leaves_its_tasks(world: &World) {
    create(world, hourly("h")).await;
    due_since(world, "h", later(-1)).await;
    let task = only(&fire(world).await);
    assert!(world.store.delete_schedule(&name("h")).await.unwrap());
    assert!(!world.store.delete_schedule(&name("h")).await.unwrap());
    assert_eq!(world.store.schedule(&name("h")).await.unwrap(), None);
    assert_eq!(states(world, "h").await, []);
    assert_eq!(world.task(task).await.state, TaskState::Ready);
    assert_eq!(fire(world).await, Fired::default());
    create(world, hourly("h")).await;
}

pub(crate) async fn a_damaged_schedule_is_named_and_holds_up_no_other(world: &World) {
    for (text, column, value) in [
        ("a", "timing", "{\"cron\":\"0 25 * * *\"}"),
        ("b", "task", "{broken"),
        ("c", "overlap", "perhaps"),
        ("d", "overlap", "skip"),
    ] {
        create(world, hourly(text)).await;
        world
            .sql(&format!(
                "update schedule set {column} = '{value}' where name = '{text}'"
            ))
            .await;
        left_since(world, text, later(-1)).await;
    }
    let fired = fire(world).await;
    only(&fired);
    assert!(
        fired.next_in > Some(Duration::from_mins(50)),
        "they are not looked at again"
    );
    let listed = ScheduleList {
        after: None,
        limit: 9,
    };
    let listed = world.store.schedules(&listed).await.unwrap();
    assert_eq!(listed.schedules.len(), 1);
    let said: Vec<_> = listed.unreadable.iter().map(ToString::to_string).collect();
    for (said, expected) in said.iter().zip([
        "the row `a` of `schedule` cannot be read: `timing`: `cron`: the field `hour`",
        "the row `b` of `schedule` cannot be read: `task`: ",
        "the row `c` of `schedule` cannot be read: `overlap`: not an overlap policy",
    ]) {
        assert!(said.starts_with(expected), "{said}");
    }
    assert_eq!(said.len(), 3);
    let error = world.store.schedule(&name("b")).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    // Repaired, it tells why it stopped, and can go on.
    world
        .sql("update schedule set overlap = 'queue' where name = 'c'")
        .await;
    let record = found(world, "c").await;
    assert_eq!(record.state(), ScheduleState::Paused);
    let error = record.error.unwrap();
    assert!(
        error.contains("`overlap`: not an overlap policy"),
        "{error}"
    );
    assert!(world.store.resume_schedule(&name("c")).await.unwrap());
    assert_eq!(found(world, "c").await.error, None);
    assert!(world.store.delete_schedule(&name("b")).await.unwrap());
}

pub(crate) async fn a_schedule_whose_queue_is_gone_is_paused_with_the_reason(world: &World) {
    world.store.create_queue(&queue("bulk")).await.unwrap();
    let mut spec = hourly("h");
    spec.task = spec.task.on_queue(queue("bulk"));
    create(world, spec).await;
    world.sql("delete from queue where name = 'bulk'").await;
    due_since(world, "h", later(-1)).await;
    assert_eq!(fire(world).await.created, []);
    let record = found(world, "h").await;
    assert_eq!(record.state(), ScheduleState::Paused);
    let error = record.error.unwrap();
    assert!(
        error.ends_with("`task`: there is no queue `bulk`"),
        "{error}"
    );
    assert_eq!(states(world, "h").await, [], "nothing of it is stored");
}

/// A firing that some process has carried out and whose answer was lost, then done once more by hand: one task.
pub(crate) async fn the_task_of_a_firing_is_known_by_its_id(world: &World) {
    let record = create(world, hourly("h")).await;
    let due_at = later(-1);
    let due_at = Timestamp::from_microsecond(due_at.as_microsecond()).unwrap();
    let task: NewTask = record.spec.task_due(due_at);
    world.submit(std::slice::from_ref(&task)).await;
    due_since(world, "h", due_at).await;
    let fired = fire(world).await;
    assert_eq!((fired.created.len(), fired.looked_at), (0, 1));
    assert_eq!(found(world, "h").await.last_task, Some(task.id));
}

/// Whatever a store is asked in an idle pass, it answers within the time of a look.
pub(crate) async fn a_closed_store_fires_nothing(world: &World) {
    let store = world.another().await;
    store.close().await;
    let error = Store::fire_schedules(store.as_ref(), 1).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
}
