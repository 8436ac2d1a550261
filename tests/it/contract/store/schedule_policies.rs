//! Schedules: what their policies make of a firing that overlaps, was missed, or is wished for.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore::domain::limits::{FIRINGS_KEPT, FIRINGS_WAITING_MAX};
use longshore::domain::{
    CatchUp, FiringState, Overlap, ScheduleSpec, ScheduleState, TaskId, TaskState, Timing,
};
use longshore::store::{Fired, Triggered};

use super::World;
use super::scheduling::{
    create, due_since, end, fire, found, hourly, left_since, look_now, name, only, overlapping,
    states,
};
use super::world::{LONG, below, later};

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
