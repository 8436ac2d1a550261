//! When nothing goes wrong, everything is prompt: what is found only because somebody looks again after seconds was
//! lost by us, not by the network. And nothing has leaked: every slot can be used.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use longshore::broker::{Broker as _, Speaker};
use longshore::domain::limits::LEASE_DURATION;
use longshore::domain::{ExecutorId, RetryPolicy, TaskId, TaskState};

use super::chance::Chance;
use super::fleet::{Fleet, Place, Role};
use super::hub::{Hub, Violated};
use super::run::until_all_has_ended;
use super::time::{SimClock, wall};
use super::users;
use super::work::{Spec, Work, submission};

/// How long a few messages and a few calls of the store take at most, with timers that fire a little late. Far below
/// every interval at which somebody looks for what was lost.
const PROMPT: Duration = Duration::from_millis(150);

/// How long a lost executor is found at the latest after its lease: the longest pause of a housekeeper, and a little.
const FOUND: Duration = Duration::from_secs(8);

/// The longest that a task which was taken over may take.
const PROBE: Duration = Duration::from_mins(1);

/// Messages in the time of a lease when all has ended: of ends that were heard of late, and no more of each.
const TALK_MAX: u64 = 30;

/// Tries everything once more, in calm.
pub(super) async fn probe(fleet: &Arc<Fleet>, chance: &mut Chance) -> Result<(), Violated> {
    let hub = &fleet.hub;
    // So that every executor has been there for a whole lease: only then does it find others lost.
    let published = hub.published.load(Ordering::Relaxed);
    nudge_the_dead(hub).await;
    hub.run_until(hub.now() + LEASE_DURATION).await?;
    hub.say("the calm begins");
    let published = hub.published.load(Ordering::Relaxed) - published;
    if published > TALK_MAX {
        hub.model().violated(format!(
            "all has ended, and they still talk: {published} messages in {LEASE_DURATION:?}"
        ));
    }
    promptly(fleet, chance).await?;
    all_slots(fleet, chance).await?;
    cancelled(fleet, chance).await?;
    // It takes as long as all the others together.
    if fleet.executors().len() > 1 && chance.hits(300) {
        taken_over(fleet, chance).await?;
    }
    Ok(())
}

/// What was on its way to an executor when it died: somebody else gets it.
async fn nudge_the_dead(hub: &Hub) {
    let Some(task) = hub.model().rows().next().map(|row| row.id) else {
        return;
    };
    let dead = ExecutorId::new(wall(hub.now()), 1);
    let speaker = Speaker::executor(dead, Arc::new(SimClock::of_store(&hub.timeline)));
    let nudges = vec![
        speaker.nudge_signalled(dead, task),
        speaker.nudge(dead, task, "nobody needs it"),
        speaker.drain(dead),
    ];
    let published = hub.embedded.publish(nudges).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
}

fn quick(millis: u64) -> Work {
    Work {
        millis,
        ..Work::default()
    }
}

/// Lets users come with `specs`, and waits until all has ended.
async fn done(fleet: &Arc<Fleet>, specs: &[Spec], chance: &mut Chance) -> Result<(), Violated> {
    users::come(
        fleet,
        &specs.iter().map(at_once).collect::<Vec<_>>(),
        chance,
    );
    until_all_has_ended(fleet).await
}

/// A user waits from the moment of the submission: specs are made with the time of the whole simulation.
fn at_once(spec: &Spec) -> Spec {
    Spec {
        submitted_at: Duration::ZERO,
        ..spec.clone()
    }
}

fn late(fleet: &Fleet, what: &str, task: TaskId, from: Timestamp, limit: Duration) {
    let mut model = fleet.hub.model();
    let Some(row) = model.row(task).cloned() else {
        return model.violated(format!("{what}: it was never stored"));
    };
    let ended = row.finished_at.unwrap_or(Timestamp::MAX);
    if ended.duration_since(from) > jiff::SignedDuration::try_from(limit).unwrap() {
        model.violated(format!(
            "{what}: late in calm, from {from}, within {limit:?}: {row:?}"
        ));
    }
}

/// A plain task, one with a start, one that is retried, and one with sub-tasks.
async fn promptly(fleet: &Arc<Fleet>, chance: &mut Chance) -> Result<(), Violated> {
    let hub = &fleet.hub;
    let begun = wall(hub.now());
    let millis = Duration::from_millis;
    let plain = Spec::new(submission("work", quick(0)), hub.now(), chance);
    done(fleet, std::slice::from_ref(&plain), chance).await?;
    late(fleet, "plain", plain.id(), begun, PROMPT);

    let begun = wall(hub.now());
    let start = begun + Duration::from_secs(9);
    let mut scheduled = Spec::new(submission("work", quick(0)), hub.now(), chance);
    scheduled.submission.run_at = Some(start);
    let delay = Duration::from_secs(2);
    let retry = RetryPolicy::new(2, delay, delay).unwrap();
    let shaky = Work {
        failures: 1,
        ..quick(0)
    };
    let retried = Spec::new(
        submission("shaky", shaky).with_retry(retry),
        hub.now(),
        chance,
    );
    done(fleet, &[scheduled.clone(), retried.clone()], chance).await?;
    late(fleet, "scheduled", scheduled.id(), start, PROMPT);
    late(fleet, "retried", retried.id(), begun, PROMPT * 2 + delay);

    let begun = wall(hub.now());
    let parent = Work {
        children: 2,
        ..quick(0)
    };
    let parent = Spec::new(submission("parent", parent), hub.now(), chance);
    done(fleet, std::slice::from_ref(&parent), chance).await?;
    for child in [1, 2] {
        let child = TaskId::of_subtask(parent.id(), &format!("spawn:{child}"));
        late(fleet, "a sub-task", child, begun, PROMPT * 2 + millis(150));
    }
    Ok(())
}

/// As many tasks as there are slots: they run at the same time.
async fn all_slots(fleet: &Arc<Fleet>, chance: &mut Chance) -> Result<(), Violated> {
    let hub = &fleet.hub;
    let slots = fleet.places.iter().filter_map(|place| place.role.slots());
    let slots: usize = slots.map(usize::from).sum();
    let begun = wall(hub.now());
    let specs: Vec<_> = (0..slots)
        .map(|_| Spec::new(submission("work", quick(1_000)), hub.now(), chance))
        .collect();
    done(fleet, &specs, chance).await?;
    // The broker may lend a task to an executor whose slots its own process has just filled: it waits there for a second.
    let fills_itself = |place: &Arc<Place>| matches!(place.role, Role::Both { .. });
    let astray = u32::from(fleet.places.iter().any(fills_itself));
    for spec in &specs {
        let limit = PROMPT * 2 + Duration::from_secs(1) * (1 + astray);
        late(fleet, "one for each slot", spec.id(), begun, limit);
    }
    Ok(())
}

/// A task that runs, and stops as soon as somebody cancels it.
async fn cancelled(fleet: &Arc<Fleet>, chance: &mut Chance) -> Result<(), Violated> {
    let hub = &fleet.hub;
    let polite = Work {
        is_polite: true,
        ..quick(60_000)
    };
    let mut spec = Spec::new(submission("work", polite), hub.now(), chance);
    spec.cancelled_at = Some(Duration::from_secs(2));
    let wish = wall(hub.now() + Duration::from_secs(2));
    done(fleet, std::slice::from_ref(&spec), chance).await?;
    late(fleet, "cancelled", spec.id(), wish, PROMPT);
    Ok(())
}

/// A task whose executor dies: it is found, and goes on at once.
async fn taken_over(fleet: &Arc<Fleet>, chance: &mut Chance) -> Result<(), Violated> {
    let hub = &fleet.hub;
    let spec = Spec::new(submission("work", quick(3_000)), hub.now(), chance);
    users::come(fleet, &[at_once(&spec)], chance);
    hub.run_until(hub.now() + Duration::from_secs(1)).await?;
    let row = hub.model().row(spec.id()).cloned();
    let owner = row.and_then(|row| row.executor.filter(|_| row.state == TaskState::Running));
    let owns = |executor: Option<Arc<_>>| -> bool {
        let executor: Option<Arc<longshore::runtime::RunningExecutor>> = executor;
        executor.is_some_and(|executor| Some(executor.id()) == owner)
    };
    let all = fleet.executors();
    let Some(victim) = all.into_iter().find(|one| owns(one.executor())) else {
        hub.model().violated("taken over: nobody runs the task");
        return Err(Violated);
    };
    let died = wall(hub.now());
    fleet.let_die();
    fleet.kill(&victim);
    let until = hub.now() + PROBE;
    while hub.now() < until && fleet.users.load(Ordering::Relaxed) > 0 {
        hub.run_until(hub.now() + PROMPT).await?;
    }
    let limit = LEASE_DURATION + FOUND + Duration::from_secs(3) + PROMPT;
    late(fleet, "taken over", spec.id(), died, limit);
    let row = hub.model().row(spec.id()).cloned();
    let released = row.and_then(|row| row.ready_at).unwrap_or(died);
    let limit = Duration::from_secs(3) + PROMPT;
    late(fleet, "announced again", spec.id(), released, limit);
    let users = fleet.users.load(Ordering::Relaxed);
    if users > 0 {
        hub.model()
            .violated(format!("{users} users wait after the calm"));
    }
    Ok(())
}
