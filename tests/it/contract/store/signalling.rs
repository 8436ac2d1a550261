//! Signals: kept until somebody takes them, and waking whoever waits.

use longshore::domain::limits::SIGNALS_MAX;
use longshore::domain::{
    Attempt, Ending, ExecutorId, NewSignal, SignalName, StepName, TaskId, TaskState, WaitingFor,
};
use longshore::store::{Settled, Signalled, TakeSignal, TookSignal};
use uuid::Uuid;

use super::World;
use super::world::{echo, payload, succeeded};

fn name(name: &str) -> SignalName {
    SignalName::new(name).unwrap()
}

fn signal(task: TaskId, text: &str, key: Option<&str>) -> NewSignal {
    NewSignal {
        task,
        name: name(text),
        key: key.map(|key| key.parse().unwrap()),
        payload: payload("[1]"),
    }
}

async fn send(world: &World, task: TaskId, text: &str, key: Option<&str>) -> Signalled {
    let signal = signal(task, text, key);
    world.store.signal(&[signal]).await.unwrap()[0].clone()
}

/// Takes a signal `go` for `step`.
async fn take(
    world: &World,
    (executor, task, attempt): (ExecutorId, TaskId, u32),
    step: &str,
) -> TookSignal {
    let wish = TakeSignal {
        task,
        attempt: Attempt(attempt),
        signal: name("go"),
        step: StepName::new(step).unwrap(),
        place: 0,
    };
    world.store.take_signal(executor, &wish).await.unwrap()
}

/// Suspends attempt 1 of a task until a signal `go`; which tasks became ready by it.
async fn suspend(world: &World, executor: ExecutorId, task: TaskId) -> Vec<TaskId> {
    let ending = Ending::Suspended {
        waiting_for: WaitingFor {
            signals: [name("go")].into(),
            ..WaitingFor::default()
        },
        wakes_at: None,
    };
    match world.settle(executor, task, 1, ending).await {
        Settled::Stored { ready, .. } => ready.iter().map(|facts| facts.id).collect(),
        Settled::Stale => panic!("stale"),
    }
}

pub(crate) async fn a_signal_that_came_before_the_suspension_wakes_at_once(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let told = Signalled::Stored {
        woken: None,
        executor: Some(executor),
    };
    assert_eq!(send(world, task, "go", None).await, told);
    assert_eq!(suspend(world, executor, task).await, [task]);
    let found = world.task(task).await;
    assert_eq!((found.state, found.waiting_for), (TaskState::Ready, None));
}

pub(crate) async fn only_the_signal_that_is_waited_for_wakes(world: &World) {
    let (executor, task) = world.running(echo()).await;
    drop(send(world, task, "other", None).await);
    assert_eq!(suspend(world, executor, task).await, []);
    let kept = Signalled::Stored {
        woken: None,
        executor: None,
    };
    assert_eq!(send(world, task, "other", None).await, kept);
    assert_eq!(world.task(task).await.state, TaskState::Suspended);
    let woken = send(world, task, "go", None).await;
    assert!(matches!(woken, Signalled::Stored { woken: Some(facts), .. } if facts.id == task));
    assert_eq!(world.task(task).await.state, TaskState::Ready);
}

pub(crate) async fn a_signal_with_a_known_key_is_one_and_wakes_nobody(world: &World) {
    let (executor, task) = world.running(echo()).await;
    let twice = [signal(task, "go", Some("k")), signal(task, "go", Some("k"))];
    let answers = world.store.signal(&twice).await.unwrap();
    assert!(matches!(answers[0], Signalled::Stored { .. }));
    assert_eq!(answers[1], Signalled::Known);
    let known = send(world, task, "other", Some("k")).await;
    assert_eq!(known, Signalled::Known, "whatever its name");
    let held = (executor, task, 1);
    let taken = TookSignal::Taken(payload("[1]"));
    assert_eq!(take(world, held, "first").await, taken);
    assert_eq!(take(world, held, "second").await, TookSignal::NoneYet);
    assert_eq!(suspend(world, executor, task).await, []);
    let known = send(world, task, "go", Some("k")).await;
    assert_eq!(known, Signalled::Known, "also when it was taken");
    assert_eq!(world.task(task).await.state, TaskState::Suspended);
    let other = world.submit_one(echo()).await;
    let stored = send(world, other, "go", Some("k")).await;
    assert!(matches!(stored, Signalled::Stored { .. }), "{stored:?}");
}

pub(crate) async fn a_stale_attempt_takes_no_signal(world: &World) {
    let (executor, task) = world.running(echo()).await;
    drop(send(world, task, "go", None).await);
    let stranger = world.executor().await;
    for stale in [(executor, task, 2), (stranger, task, 1)] {
        assert_eq!(take(world, stale, "first").await, TookSignal::Stale);
    }
    // Asked twice it answers the same, so that a lost answer loses no signal.
    for _ in 0..2 {
        let taken = take(world, (executor, task, 1), "first").await;
        assert_eq!(taken, TookSignal::Taken(payload("[1]")));
    }
}

pub(crate) async fn a_signal_that_nobody_can_take_is_not_stored(world: &World) {
    let nobody = TaskId::from_uuid(Uuid::now_v7());
    assert_eq!(send(world, nobody, "go", None).await, Signalled::Unknown);
    let (executor, done) = world.running(echo()).await;
    drop(world.settle(executor, done, 1, succeeded()).await);
    let late = Signalled::Final(TaskState::Succeeded);
    assert_eq!(send(world, done, "go", None).await, late);
    let task = world.submit_one(echo()).await;
    let mut many: Vec<NewSignal> = (0..=SIGNALS_MAX)
        .map(|_| signal(task, "go", None))
        .collect();
    many[0] = signal(task, "go", Some("first"));
    let answers = world.store.signal(&many).await.unwrap();
    let (last, stored) = answers.split_last().unwrap();
    assert!(
        stored
            .iter()
            .all(|one| matches!(one, Signalled::Stored { .. }))
    );
    assert_eq!(*last, Signalled::Full);
    assert_eq!(send(world, task, "go", None).await, Signalled::Full);
    // One that is sent again needs no room.
    let again = [
        signal(task, "go", Some("first")),
        signal(task, "go", Some("second")),
    ];
    let answers = world.store.signal(&again).await.unwrap();
    assert_eq!(answers, [Signalled::Known, Signalled::Full]);
}
