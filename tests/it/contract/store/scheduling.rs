//! Schedules: each time fires once, whoever looks, and as its policies say.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore::domain::limits::{FIRINGS_KEPT, FIRINGS_WAITING_MAX};
use longshore::domain::{
    CatchUp, Cron, FiringState, NewTask, Overlap, ScheduleName, ScheduleRecord, ScheduleSpec,
    ScheduleState, Submission, TaskId, TaskState, Timing, Zone,
};
use longshore::store::{
    Fired, ScheduleCreated, ScheduleList, ScheduleRefusal, Store, StoreError, Triggered,
};

use super::World;
use super::world::{LONG, below, echo, later, queue, succeeded};

fn name(text: &str) -> ScheduleName {
    ScheduleName::new(text).unwrap()
}

/// Fires each hour.
fn hourly(text: &str) -> ScheduleSpec {
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

fn overlapping(overlap: Overlap) -> ScheduleSpec {
    ScheduleSpec {
        overlap,
        ..hourly("often")
    }
}

async fn create(world: &World, spec: ScheduleSpec) -> ScheduleRecord {
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

async fn found(world: &World, text: &str) -> ScheduleRecord {
    let found = world.store.schedule(&name(text)).await.unwrap();
    found.expect("the schedule is stored")
}

/// A time, as it is written in a statement.
fn written(world: &World, time: Timestamp) -> String {
    if world.is_postgres() {
        format!("'{time}'::timestamptz")
    } else {
        time.as_microsecond().to_string()
    }
}

/// Lets the schedule, which fires each hour, be due since `time`.
async fn due_since(world: &World, text: &str, time: Timestamp) {
    let timing = format!("{{\"every\":3600,\"anchor\":\"{time}\"}}");
    world
        .sql(&format!(
            "update schedule set timing = '{timing}' where name = '{text}'"
        ))
        .await;
    left_since(world, text, time).await;
}

/// Lets nobody have looked at the schedule since `time`, when it was due.
async fn left_since(world: &World, text: &str, time: Timestamp) {
    let time = written(world, time);
    world
        .sql(&format!(
            "update schedule set next_at = {time}, look_at = {time} where name = '{text}'"
        ))
        .await;
}

/// Lets the next look at the schedule come now, as when some time has passed.
async fn look_now(world: &World, text: &str) {
    let now = written(world, later(-1));
    world
        .sql(&format!(
            "update schedule set look_at = {now} where name = '{text}'"
        ))
        .await;
}

async fn fire(world: &World) -> Fired {
    world.store.fire_schedules(10).await.unwrap()
}

/// The only task that `fired` has submitted.
fn only(fired: &Fired) -> TaskId {
    assert_eq!(fired.created.len(), 1, "{fired:?}");
    fired.created[0].id
}

async fn states(world: &World, text: &str) -> Vec<FiringState> {
    let firings = world.store.firings(&name(text), 500).await.unwrap();
    firings.iter().map(|firing| firing.state).collect()
}

/// Ends a task that is ready.
async fn end(world: &World, task: TaskId) {
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

pub(crate) async fn a_firing_is_skipped_while_the_task_before_is_open(world: &World) {
    create(world, overlapping(Overlap::Skip)).await;
    due_since(world, "often", later(-30)).await;
    let first = only(&fire(world).await);
    due_since(world, "often", later(-20)).await;
    assert_eq!(fire(world).await.created, []);
    end(world, first).await;
    due_since(world, "often", later(-10)).await;
    let second = only(&fire(world).await);
    assert_ne!(first, second);
    assert_eq!(
        states(world, "often").await,
        [FiringState::Fired, FiringState::Skipped, FiringState::Fired]
    );
}

pub(crate) async fn a_firing_waits_for_the_task_before(world: &World) {
    create(world, overlapping(Overlap::Queue)).await;
    due_since(world, "often", later(-30)).await;
    let first = only(&fire(world).await);
    let waits = later(-20);
    due_since(world, "often", waits).await;
    let fired = fire(world).await;
    assert_eq!(fired.created, []);
    let soon = Duration::from_secs(5);
    assert!(fired.next_in <= Some(soon), "{fired:?}");
    assert_eq!(
        states(world, "often").await,
        [FiringState::Waiting, FiringState::Fired]
    );
    // Looked at, and the task before is still open.
    look_now(world, "often").await;
    assert_eq!(fire(world).await.created, []);
    end(world, first).await;
    look_now(world, "often").await;
    let fired = fire(world).await;
    let second = only(&fired);
    let waited = Timestamp::from_microsecond(waits.as_microsecond()).unwrap();
    assert_eq!(second, TaskId::of_firing(&name("often"), waited));
    assert!(
        fired.next_in > Some(Duration::from_mins(50)),
        "nothing waits"
    );
    assert_eq!(states(world, "often").await, [FiringState::Fired; 2]);
}

pub(crate) async fn a_firing_cancels_the_task_before_with_all_below_it(world: &World) {
    create(world, overlapping(Overlap::CancelPrevious)).await;
    due_since(world, "often", later(-30)).await;
    let waiting = only(&fire(world).await);
    let child = world.submit_one(below(waiting)).await;
    due_since(world, "often", later(-20)).await;
    let fired = fire(world).await;
    let second = only(&fired);
    let mut cancelled: Vec<_> = fired.cancelled.iter().map(|facts| facts.id).collect();
    cancelled.sort();
    let mut expected = [waiting, child];
    expected.sort();
    assert_eq!(
        (cancelled.as_slice(), fired.running.len()),
        (&expected[..], 0)
    );
    let error = world.task(waiting).await.error.unwrap();
    assert_eq!(error.message, Fired::CANCEL_REASON);
    // One that runs is asked to stop.
    let executor = world.executor().await;
    world.claim(executor, &[second]).await;
    due_since(world, "often", later(-10)).await;
    let fired = fire(world).await;
    assert_eq!(fired.running, [(second, executor)]);
    assert!(world.task(second).await.cancel_requested_at.is_some());
    assert_eq!(world.task(only(&fired)).await.state, TaskState::Ready);
    assert_eq!(states(world, "often").await, [FiringState::Fired; 3]);
}

pub(crate) async fn an_outage_of_hours_is_caught_up_with_as_the_policy_says(world: &World) {
    let last = Timestamp::from_microsecond(later(-5).as_microsecond()).unwrap();
    let every = |text, catch_up, overlap| ScheduleSpec {
        timing: Timing::Interval {
            every: Duration::from_mins(10),
            anchor: Some(last),
        },
        catch_up,
        overlap,
        ..hourly(text)
    };
    create(world, every("none", CatchUp::None, Overlap::Skip)).await;
    create(world, every("last", CatchUp::Last, Overlap::Skip)).await;
    create(world, every("all", CatchUp::All, Overlap::Queue)).await;
    let since = last - SignedDuration::from_hours(3);
    for text in ["none", "last", "all"] {
        left_since(world, text, since).await;
    }
    assert_eq!(
        fire(world).await.created.len(),
        3,
        "none of them was due just now"
    );
    assert_eq!(states(world, "none").await, [FiringState::Fired]);
    assert_eq!(states(world, "last").await, [FiringState::Fired]);
    let all = world.store.firings(&name("all"), 50).await.unwrap();
    assert_eq!(all.len(), 19, "each in three hours, both ends included");
    assert_eq!(all[18].state, FiringState::Fired, "the oldest first");
    assert!(
        all[..18]
            .iter()
            .all(|one| one.state == FiringState::Waiting)
    );
    let span = all[0].due_at.duration_since(all[18].due_at);
    assert_eq!(span, SignedDuration::from_hours(3));
    // They follow each other.
    for left in (1..=18).rev() {
        end(world, found(world, "all").await.last_task.unwrap()).await;
        look_now(world, "all").await;
        only(&fire(world).await);
        if left < 16 {
            break;
        }
    }
    // Without one on time there is nothing to do.
    let late = Timing::Once(later(3600));
    create(
        world,
        ScheduleSpec {
            timing: late.clone(),
            catch_up: CatchUp::None,
            ..hourly("late")
        },
    )
    .await;
    let at = later(-120);
    left_since(world, "late", at).await;
    let fired = fire(world).await;
    assert_eq!((fired.created.len(), fired.looked_at), (0, 1));
    assert_eq!(states(world, "late").await, []);
}

pub(crate) async fn a_schedule_of_one_time_ends_with_it(world: &World) {
    let spec = ScheduleSpec {
        timing: Timing::Once(later(3600)),
        ..hourly("party")
    };
    create(world, spec).await;
    let at = later(-1);
    left_since(world, "party", at).await;
    // What it says must agree with what is due.
    let timing = format!("{{\"at\":\"{at}\"}}");
    world
        .sql(&format!("update schedule set timing = '{timing}'"))
        .await;
    let fired = fire(world).await;
    assert_eq!((fired.created.len(), fired.next_in), (1, None));
    let record = found(world, "party").await;
    assert_eq!(
        (record.state(), record.next_at),
        (ScheduleState::Ended, None)
    );
}

pub(crate) async fn a_paused_schedule_fires_when_it_is_resumed(world: &World) {
    let nobody = name("nobody");
    assert!(!world.store.pause_schedule(&nobody).await.unwrap());
    assert!(!world.store.resume_schedule(&nobody).await.unwrap());
    create(world, hourly("h")).await;
    due_since(world, "h", later(-1)).await;
    for _ in 0..2 {
        assert!(world.store.pause_schedule(&name("h")).await.unwrap());
        let record = found(world, "h").await;
        assert_eq!(
            (record.state(), record.next_at),
            (ScheduleState::Paused, None)
        );
        assert_eq!(fire(world).await, Fired::default());
    }
    for _ in 0..2 {
        assert!(world.store.resume_schedule(&name("h")).await.unwrap());
        let record = found(world, "h").await;
        assert_eq!(record.state(), ScheduleState::Active);
        assert!(record.next_at > Some(later(0)), "what it missed is dropped");
        assert_eq!(fire(world).await.created, []);
    }
}

pub(crate) async fn what_waits_goes_on_waiting_while_a_schedule_is_paused(world: &World) {
    create(world, overlapping(Overlap::Queue)).await;
    due_since(world, "often", later(-30)).await;
    let first = only(&fire(world).await);
    due_since(world, "often", later(-20)).await;
    drop(fire(world).await);
    world.store.pause_schedule(&name("often")).await.unwrap();
    end(world, first).await;
    assert_eq!(fire(world).await, Fired::default());
    world.store.resume_schedule(&name("often")).await.unwrap();
    only(&fire(world).await);
}

async fn trigger(world: &World, text: &str) -> Triggered {
    let triggered = world.store.trigger_schedule(&name(text)).await.unwrap();
    triggered.expect("the schedule is stored")
}

pub(crate) async fn a_trigger_fires_out_of_turn_within_the_policy(world: &World) {
    let none = world.store.trigger_schedule(&name("nobody")).await.unwrap();
    assert_eq!(none, None);
    create(world, hourly("h")).await;
    world.store.pause_schedule(&name("h")).await.unwrap();
    let triggered = trigger(world, "h").await;
    let task = only(&triggered.fired);
    assert_eq!(triggered.firing.task, Some(task));
    assert_eq!(triggered.previous, None);
    assert_eq!(found(world, "h").await.state(), ScheduleState::Paused);
    assert_eq!(found(world, "h").await.last_task, Some(task));
    let skipped = trigger(world, "h").await;
    assert_eq!(
        (skipped.firing.state, skipped.firing.task, skipped.previous),
        (FiringState::Skipped, None, Some(task))
    );
    assert_eq!(skipped.fired.created, []);
    end(world, task).await;
    assert_ne!(only(&trigger(world, "h").await.fired), task);

    create(world, overlapping(Overlap::Queue)).await;
    let next_at = found(world, "often").await.next_at;
    let first = only(&trigger(world, "often").await.fired);
    let waits = trigger(world, "often").await;
    assert_eq!(waits.firing.state, FiringState::Waiting);
    assert_eq!(waits.previous, Some(first));
    assert_eq!(found(world, "often").await.next_at, next_at);
    end(world, first).await;
    look_now(world, "often").await;
    only(&fire(world).await);
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

pub(crate) async fn firings_are_forgotten(world: &World) {
    create(world, overlapping(Overlap::Queue)).await;
    let first = only(&trigger(world, "often").await.fired);
    for _ in 0..FIRINGS_WAITING_MAX + 2 {
        drop(trigger(world, "often").await);
    }
    let count = |states: &[FiringState], state| states.iter().filter(|one| **one == state).count();
    let all = states(world, "often").await;
    assert_eq!(count(&all, FiringState::Waiting), FIRINGS_WAITING_MAX);
    assert_eq!(count(&all, FiringState::Skipped), 2);
    end(world, first).await;
    create(world, hourly("h")).await;
    drop(trigger(world, "h").await);
    for _ in 0..FIRINGS_KEPT + 5 {
        drop(trigger(world, "h").await);
    }
    assert_eq!(
        states(world, "h").await,
        [FiringState::Skipped; FIRINGS_KEPT]
    );
    assert_eq!(world.store.prune(LONG, 500).await.unwrap(), 0);
    assert_eq!(states(world, "h").await.len(), FIRINGS_KEPT, "too young");
    assert_eq!(world.store.prune(Duration::ZERO, 500).await.unwrap(), 1);
    assert_eq!(states(world, "h").await, []);
    assert_eq!(
        states(world, "often").await,
        [FiringState::Waiting; FIRINGS_WAITING_MAX],
        "what waits is kept"
    );
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
