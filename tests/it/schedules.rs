//! Schedules in a whole system, and over days of a clock that a test moves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore::clock::{Clock, Sleep, SystemClock};
use longshore::domain::{
    ActionName, CatchUp, Cron, FiringState, Overlap, Payload, ScheduleName, ScheduleSpec,
    Submission, TaskState, Timing, Zone,
};
use longshore::store::sqlite::SqliteStore;
use longshore::store::{List, ScheduleCreated, Store};

use crate::support::eventually::eventually;
use crate::support::world::{World, gate, next_event, submission};

fn spec(name: &str, timing: Timing, task: Submission) -> ScheduleSpec {
    ScheduleSpec {
        name: ScheduleName::new(name).unwrap(),
        timing,
        task,
        overlap: Overlap::Skip,
        catch_up: CatchUp::Last,
    }
}

fn echo() -> Submission {
    Submission::new(ActionName::new("echo").unwrap(), Payload::null())
}

async fn memory() -> Arc<dyn Store> {
    let store = SqliteStore::open("sqlite::memory:").await.unwrap();
    store.migrate().await.unwrap();
    Arc::new(store)
}

/// Once a second, and it is due soon.
fn each_second() -> Timing {
    Timing::Interval {
        every: Duration::from_secs(1),
        anchor: Some(Timestamp::now() + SignedDuration::from_millis(50)),
    }
}

fn of_schedule(name: &str) -> List {
    List {
        labels: vec![("schedule".to_owned(), name.to_owned())],
        limit: 10,
        ..List::default()
    }
}

#[tokio::test]
async fn an_executor_fires_what_is_due_and_runs_it() {
    let world = World::on(memory().await).await;
    let executor = world.executor(2).await;
    let mut tap = world.tap().await;
    let spec = spec("tick", each_second(), submission("echo", &"tick".into()));
    let (record, is_new) = world.client.create_schedule(spec.clone()).await.unwrap();
    assert!(is_new && record.next_at.is_some());
    let listed = eventually(
        "a task of the schedule has ended",
        async || world.client.list(&of_schedule("tick")).await.unwrap(),
        |listed| {
            let mut tasks = listed.tasks.iter();
            tasks.any(|task| task.state == TaskState::Succeeded)
        },
    )
    .await;
    let first = listed.tasks.last().unwrap().id;
    assert_eq!(
        next_event(&mut tap).await,
        ("created.default.echo".to_owned(), first),
        "it was announced"
    );
    world.client.delete_schedule(&spec.name).await.unwrap();
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_task_that_runs_is_stopped_by_the_next_firing() {
    let world = World::on(memory().await).await;
    let executor = world.executor(2).await;
    let spec = ScheduleSpec {
        overlap: Overlap::CancelPrevious,
        ..spec("again", each_second(), gate())
    };
    world.client.create_schedule(spec.clone()).await.unwrap();
    world.wait_at_gate(1).await;
    // By a housekeeper.
    let cancelled = |count| {
        let world = &world;
        async move {
            eventually(
                "the tasks before are cancelled",
                async || world.client.list(&of_schedule("again")).await.unwrap(),
                |listed| {
                    let states = listed.tasks.iter().map(|task| task.state);
                    states
                        .filter(|state| *state == TaskState::Cancelled)
                        .count()
                        >= count
                },
            )
            .await
        }
    };
    drop(cancelled(1).await);
    // By a web server.
    world.client.pause_schedule(&spec.name).await.unwrap();
    let running = world.client.schedule(&spec.name).await.unwrap().last_task;
    let triggered = world.client.trigger_schedule(&spec.name).await.unwrap();
    let ended = world.ended(running.unwrap()).await;
    assert_eq!(ended.state, TaskState::Cancelled);
    assert_eq!(triggered.firing.state, FiringState::Fired);
    drop(
        world
            .client
            .cancel(triggered.firing.task.unwrap(), "enough")
            .await,
    );
    world.ended(triggered.firing.task.unwrap()).await;
    world.stop([executor]).await;
}

/// A clock that stands where a test puts it.
#[derive(Debug)]
struct Stopped {
    now: Mutex<Timestamp>,
    machine: Arc<dyn Clock>,
}

impl Stopped {
    fn at(now: &str) -> Arc<Self> {
        Arc::new(Self {
            now: Mutex::new(now.parse().unwrap()),
            machine: SystemClock::shared(),
        })
    }

    fn put(&self, now: &str) {
        *self.now.lock().unwrap() = now.parse().unwrap();
    }
}

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.machine.sleep(duration)
    }

    fn random(&self) -> u128 {
        self.machine.random()
    }
}

#[tokio::test]
async fn a_nightly_schedule_goes_by_the_clocks_of_its_zone() {
    let clock = Stopped::at("2026-03-27T12:00:00Z");
    let as_clock: Arc<dyn Clock> = Arc::<Stopped>::clone(&clock);
    let store = SqliteStore::open_with_clock("sqlite::memory:", as_clock).await;
    let store = store.unwrap();
    store.migrate().await.unwrap();
    let timing = Timing::Cron {
        cron: Cron::new("30 2 * * *").unwrap(),
        zone: Zone::new("Europe/Prague").unwrap(),
    };
    let nightly = ScheduleSpec {
        overlap: Overlap::Queue,
        ..spec("nightly", timing, echo())
    };
    let created = store.create_schedule(&nightly, "me").await.unwrap();
    assert!(matches!(created, ScheduleCreated::Stored(_)), "{created:?}");
    let mut fired = Vec::new();
    for now in [
        "2026-03-28T01:29:59Z",
        "2026-03-28T01:30:00Z",
        // The clocks go from 02:00 to 03:00.
        "2026-03-29T00:59:59Z",
        "2026-03-29T01:00:00Z",
        "2026-03-30T00:29:59Z",
        "2026-03-30T00:30:00Z",
        // Nobody looked for half a year: once.
        "2026-10-24T12:00:00Z",
        // The clocks go from 03:00 to 02:00.
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-26T01:30:00Z",
    ] {
        clock.put(now);
        let looked = store.fire_schedules(9).await.unwrap().looked_at;
        if looked > 0 {
            fired.push(now);
        }
        // Its task is out of the way of the next.
        let last = store.schedule(&nightly.name).await.unwrap().unwrap();
        if let Some(task) = last.last_task {
            drop(store.cancel(task, "enough").await.unwrap());
        }
    }
    assert_eq!(
        fired,
        [
            "2026-03-28T01:30:00Z",
            "2026-03-29T01:00:00Z",
            "2026-03-30T00:30:00Z",
            "2026-10-24T12:00:00Z",
            "2026-10-25T00:30:00Z",
            "2026-10-26T01:30:00Z",
        ]
    );
    let firings = store.firings(&nightly.name, 9).await.unwrap();
    let due: Vec<_> = firings.iter().map(|one| one.due_at.to_string()).collect();
    assert_eq!(
        due[2], "2026-10-24T00:30:00Z",
        "the last of those that were missed"
    );
    assert_eq!(due.len(), 6);
}
