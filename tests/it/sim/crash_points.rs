//! A process dies at each point of a task's path, one after the other: before a call of store or broker has left it,
//! and after the call was carried out but before the answer has come. Another executor and another web server live.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use longshore::broker::{Broker, Content, Ingress, Message};
use longshore::domain::limits::HEARTBEAT_INTERVAL;
use longshore::domain::{
    CatchUp, Delivery, HistoryKind, Overlap, RetryPolicy, ScheduleName, ScheduleSpec, TaskId,
    TaskState, Timing,
};
use longshore::store::ScheduleCreated;
use serde_json::json;

use super::chance::Chance;
use super::fleet::{Fleet, Role};
use super::hub::{Hub, Violated};
use super::network::Network;
use super::process::Process;
use super::run::{Outcome, check_ends, on_one_thread, outcome, until_all_has_ended};
use super::time::wall;
use super::users;
use super::work::{Spec, Work, submission};
use super::{complaint, spread};

/// Where the victim dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The call never leaves it.
    Before,
    /// The call is carried out, and it never hears so.
    After,
    /// The call is carried out, its answer gets lost, and it lives.
    Unheard,
}

/// Who dies at which of its calls.
#[derive(Debug)]
pub(super) struct Crash {
    victim: &'static str,
    /// The number of the call; `None` when it lives.
    point: Option<usize>,
    moment: Moment,
    /// Of which call the victim does not hear, the first time.
    unheard: Option<&'static str>,
    /// The calls that the victim has made.
    seen: Vec<&'static str>,
}

impl Crash {
    /// The death of `victim` at its call with this number.
    pub(super) fn new(victim: &'static str, point: Option<usize>, moment: Moment) -> Self {
        Self {
            victim,
            point,
            moment,
            unheard: None,
            seen: Vec::new(),
        }
    }

    /// The same; the victim does not hear of its first call of `method`.
    pub(super) fn with_unheard(self, method: &'static str) -> Self {
        Self {
            unheard: Some(method),
            ..self
        }
    }

    /// The calls that the victim has made, by now.
    pub(super) fn take_seen(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.seen)
    }

    /// A process makes a call: tells whether it dies of it.
    pub(super) fn meets(&mut self, process: &Process, method: &'static str) -> Option<Moment> {
        if process.name != self.victim {
            return None;
        }
        self.seen.push(method);
        if self.point == Some(self.seen.len() - 1) {
            return Some(self.moment);
        }
        let unheard = self.unheard.take_if(|unheard| *unheard == method);
        unheard.map(|_| Moment::Unheard)
    }
}

/// The victims: the first start of the first web server, and of the first executor.
const WEB: &str = "web0.1";
const EXECUTOR: &str = "executor2.1";

/// With these they make every call; if not, one of the next is taken.
const WEB_SEED: u64 = 5;
const EXECUTOR_SEED: u64 = 50;

/// When the victim leaves in order, if it is an executor that still lives.
const DRAINED_AT: Duration = Duration::from_secs(23);

/// When the last of those are cancelled that nobody wants.
const UNWANTED_UNTIL: Duration = Duration::from_secs(21);

/// Another executor, which dies in any case: the victim may be the one that takes over from it.
const LOST: &str = "executor4.1";

/// When it dies: while it runs something.
const LOST_AT: Duration = Duration::from_millis(2_200);

/// Everything that can happen to a task on its way, some of it twice so that both executors have a part.
fn specs(chance: &mut Chance) -> Vec<Spec> {
    let seconds = Duration::from_secs;
    let work = |millis, is_polite| Work {
        millis,
        is_polite,
        ..Work::default()
    };
    let mut specs = Vec::new();
    for round in [0, 1] {
        let at = |millis: u64| seconds(round) + Duration::from_millis(millis);
        specs.push(Spec::new(
            submission("work", work(10, false)),
            at(500),
            chance,
        ));
        let mut scheduled = Spec::new(submission("work", work(10, false)), at(600), chance);
        scheduled.submission.run_at = Some(wall(at(3_000)));
        specs.push(scheduled);
        let mut once = Spec::new(submission("work", work(1_500, false)), at(700), chance);
        once.submission.options.delivery = Delivery::Once;
        specs.push(once);
        let shaky = Work {
            failures: 1,
            ..work(10, false)
        };
        let retry = RetryPolicy::new(3, seconds(1), seconds(2)).unwrap();
        let shaky = submission("shaky", shaky).with_retry(retry);
        let mut shaky = Spec::new(shaky, at(2_500), chance);
        shaky.failures = Some(1);
        specs.push(shaky);
        let parent = Work {
            children: 2,
            ..work(10, false)
        };
        specs.push(Spec::new(submission("parent", parent), at(4_000), chance));
        let saga = Work {
            children: 3,
            ..work(10, false)
        };
        // Its signal comes before it is waited for, or after that.
        specs.push(Spec {
            signalled_at: Some(at(6_000 + 1_000 * round)),
            ..Spec::new(submission("saga", saga), at(4_500), chance)
        });
        let mut cancelled = Spec::new(submission("work", work(30_000, true)), at(5_000), chance);
        cancelled.cancelled_at = Some(at(6_500));
        specs.push(cancelled);
    }
    // Enough of them that each executor makes sub-tasks.
    for millis in [8_000, 8_300, 8_600, 9_100, 9_700, 10_400] {
        let parent = Work {
            children: 1,
            ..work(300, false)
        };
        let at = Duration::from_millis(millis);
        specs.push(Spec::new(submission("parent", parent), at, chance));
    }
    for until in [seconds(7), UNWANTED_UNTIL].repeat(4) {
        let mut unwanted = Spec::new(submission("work", work(10, false)), seconds(1), chance);
        unwanted.submission.run_at = Some(wall(seconds(60)));
        unwanted.cancelled_at = Some(until);
        specs.push(unwanted);
    }
    // Some run where an executor is lost, and some while the victim leaves.
    for (millis, at) in [(1_500, 2), (4_000, 22)] {
        for _ in 0..3 {
            specs.push(Spec::new(
                submission("work", work(millis, false)),
                seconds(at),
                chance,
            ));
        }
    }
    specs
}

/// Runs the scenario; `victim` dies at the call with this number.
fn scenario(
    victim: &'static str,
    seed: u64,
    point: Option<usize>,
    moment: Moment,
) -> (Outcome, Vec<&'static str>) {
    on_one_thread(async |idle| {
        let mut chance = Chance::new(seed);
        let hub = Hub::new(chance.next(), Network::calm(), idle).await;
        *hub.crash() = Some(Crash::new(victim, point, moment));
        let slots = Role::Executor { slots: 3 };
        let fleet = Fleet::start(&hub, &[Role::Web, Role::Web, slots, slots, slots]);
        fleet.let_die();
        let mut specs = specs(&mut chance);
        users::come(&fleet, &specs, &mut chance);
        let work = || submission("work", Work::default());
        let foreign: Vec<_> = (0..FOREIGN)
            .map(|_| Spec::new(work(), LOST_AT, &mut chance))
            .collect();
        specs.extend(foreign.iter().cloned());
        make_schedule(&fleet).await;
        // The violation is in the model.
        drop(Box::pin(live(&fleet, &specs, &foreign, victim)).await);
        let calls = hub.crash().as_mut().unwrap().take_seen();
        (outcome(&hub), calls)
    })
}

/// A client without the store: the whole task goes by the broker, twice.
async fn submit_by_message(fleet: &Fleet, spec: &Spec) {
    let body = json!({"id": spec.id().to_string(), "action": "work", "input": Work::default()});
    let message = Message {
        ingress: Ingress::Submissions,
        key: "submission".to_owned(),
        id: spec.id().to_string(),
        content: Content::Json,
        body: body.to_string().into_bytes(),
    };
    let answers = fleet
        .hub
        .embedded
        .publish(vec![message.clone(), message])
        .await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// Announces a task where nobody takes it, twice: the broker gives up on both.
async fn announce_nowhere(fleet: &Fleet, task: TaskId) {
    let message = Message {
        ingress: Ingress::Tasks,
        key: "created.nowhere.work".to_owned(),
        id: task.to_string(),
        content: Content::Event,
        body: json!({"subject": task.to_string()})
            .to_string()
            .into_bytes(),
    };
    let answers = fleet
        .hub
        .embedded
        .publish(vec![message.clone(), message])
        .await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// Whose announcements go nowhere: tasks that are open for long.
fn is_flagged(spec: &Spec) -> bool {
    spec.cancelled_at == Some(UNWANTED_UNTIL)
}

/// Holds that each of them is flagged, and once.
async fn check_flags(fleet: &Fleet, specs: &[Spec]) {
    for spec in specs.iter().filter(|spec| is_flagged(spec)) {
        let history = fleet.hub.store.history(spec.id()).await.unwrap();
        let kinds: Vec<_> = history.iter().map(|entry| entry.what).collect();
        if kinds != [HistoryKind::DeadLettered] {
            let words = format!("its dead letters are not noted once: {history:?}");
            fleet.hub.model().violated(words);
        }
    }
}

/// Tasks that come by the broker: so many that each executor gets some.
const FOREIGN: usize = 4;

/// When the schedule fires, once.
const FIRES_AT: Duration = Duration::from_secs(5);

fn schedule_name() -> ScheduleName {
    ScheduleName::new("once").unwrap()
}

/// A schedule that fires one time.
async fn make_schedule(fleet: &Fleet) {
    let spec = ScheduleSpec {
        name: schedule_name(),
        timing: Timing::Once(wall(FIRES_AT)),
        task: submission("work", Work::default()),
        overlap: Overlap::Skip,
        catch_up: CatchUp::Last,
    };
    let made = fleet.hub.store.create_schedule(&spec, "nobody").await;
    assert!(matches!(made, Ok(ScheduleCreated::Stored(_))), "{made:?}");
}

/// Holds what the schedule came to against what it should: one task, which has run.
async fn check_schedule(fleet: &Fleet) {
    let hub = &fleet.hub;
    let firings = hub.store.firings(&schedule_name(), 9).await.unwrap();
    let tasks: Vec<_> = firings.iter().filter_map(|firing| firing.task).collect();
    let mut model = hub.model();
    let states: Vec<_> = tasks
        .iter()
        .map(|task| model.row(*task).map(|row| row.state))
        .collect();
    if states != [Some(TaskState::Succeeded)] {
        model.violated(format!(
            "the schedule has fired wrongly: {firings:?}, {states:?}"
        ));
    }
}

async fn live(
    fleet: &Arc<Fleet>,
    specs: &[Spec],
    foreign: &[Spec],
    victim: &str,
) -> Result<(), Violated> {
    let hub = &fleet.hub;
    let named = |name: &str| {
        let executors = fleet.executors();
        executors.into_iter().find(|one| one.process.name == name)
    };
    hub.run_until(LOST_AT).await?;
    for spec in foreign {
        submit_by_message(fleet, spec).await;
    }
    for spec in specs.iter().filter(|spec| is_flagged(spec)) {
        announce_nowhere(fleet, spec.id()).await;
    }
    if let Some(lost) = named(LOST) {
        fleet.kill(&lost);
    }
    hub.run_until(DRAINED_AT).await?;
    if let Some(victim) = named(victim) {
        fleet.drain(victim, Duration::from_secs(1));
    }
    until_all_has_ended(fleet).await?;
    check_ends(fleet, specs);
    check_schedule(fleet).await;
    check_flags(fleet, specs).await;
    Ok(())
}

/// One run of a story with a seed: the process that is watched dies at the call with this number; answers with all its calls.
type Story = fn(u64, Option<usize>, Moment) -> (Outcome, Vec<&'static str>);

/// How many seeds are tried for one with which the victim makes every call.
const SEEDS_MAX: u64 = 200;

/// At which of a victim's calls it dies.
pub(super) struct Points<'a> {
    /// With this seed, or one of the next, it makes them. The one is told, so that it need not be looked for again.
    pub(super) seed: u64,
    /// The calls, in the order of the alphabet.
    pub(super) methods: &'a [&'static str],
    /// Whether it makes no others.
    pub(super) are_all: bool,
    /// Less than there are today: far fewer would mean that calls go past the points.
    pub(super) count_min: usize,
}

/// Lets the victim of a story die at each of its calls that is a point.
#[expect(
    clippy::print_stderr,
    reason = "how many points there are shall be seen"
)]
pub(super) fn dies_at_each(victim: &str, story: Story, points: &Points<'_>) {
    let Points {
        methods, count_min, ..
    } = *points;
    let whole = |seed: u64| {
        let (whole, made) = story(seed, None, Moment::Before);
        assert_eq!(complaint(victim, &whole), None, "with seed {seed}");
        let has_all = methods.iter().all(|method| made.contains(method));
        has_all.then_some((seed, made))
    };
    let seeds = points.seed..points.seed + SEEDS_MAX;
    let Some((seed, made)) = seeds.clone().find_map(whole) else {
        panic!("{victim} makes the calls {methods:?} with none of the seeds {seeds:?}")
    };
    if points.are_all {
        let found: BTreeSet<&str> = made.iter().copied().collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), methods);
    }
    let moments = [Moment::Before, Moment::After];
    let deaths: Vec<_> = (0..made.len())
        .filter(|point| methods.contains(&made[*point]))
        .flat_map(|point| moments.map(|moment| (point, moment)))
        .collect();
    let (calls, all) = (made.len(), deaths.len());
    assert!(all >= 2 * count_min, "{all}: {made:?}");
    eprintln!("{victim}: {calls} calls, {all} deaths, with seed {seed}");
    let complaints = spread(&deaths, |(point, moment)| {
        let count = made[..=*point]
            .iter()
            .filter(|method| **method == made[*point]);
        let name = format!("{victim}: {} #{} ({moment:?})", made[*point], count.count());
        let (outcome, met) = story(seed, Some(*point), *moment);
        assert_eq!(met[..=*point], made[..=*point], "{name} is another point");
        complaint(&name, &outcome)
    });
    let complaints: Vec<_> = complaints.into_iter().flatten().collect();
    let failed = complaints.len();
    if let Some(first) = complaints.first() {
        panic!("{failed} of {all} deaths do harm; the first:\n{first}");
    }
}

#[test]
fn an_executor_may_die_at_any_call_of_store_or_broker() {
    let methods = [
        "append_logs",
        "cancel",
        "claim",
        "claim_idle",
        "clear_below",
        "consume",
        "due",
        "enroll",
        "fan_out",
        "fire_schedules",
        "glance",
        "note_dead_letter",
        "prune",
        "publish",
        "queues",
        "record",
        "renew",
        "retire",
        "settle",
        "spawn",
        "spawned",
        "steps",
        "submit",
        "take_over",
        "take_signal",
        "tasks",
    ];
    let story = |seed, point, moment| scenario(EXECUTOR, seed, point, moment);
    let points = Points {
        seed: EXECUTOR_SEED,
        methods: &methods,
        are_all: true,
        count_min: 60,
    };
    dies_at_each(EXECUTOR, story, &points);
}

#[test]
fn a_web_server_may_die_at_any_call_of_store_or_broker() {
    let methods = [
        "cancel", "consume", "ended", "publish", "signal", "submit", "tasks",
    ];
    let story = |seed, point, moment| scenario(WEB, seed, point, moment);
    let points = Points {
        seed: WEB_SEED,
        methods: &methods,
        are_all: true,
        count_min: 20,
    };
    dies_at_each(WEB, story, &points);
}

#[test]
fn an_executor_whose_connection_stays_as_it_is_renews_its_lease_without_haste() {
    let (outcome, seen) = scenario(EXECUTOR, EXECUTOR_SEED, None, Moment::Before);
    assert_eq!(complaint(EXECUTOR, &outcome), None);
    let renewals = seen.iter().filter(|method| **method == "renew").count();
    // One more while it drains.
    let most = DRAINED_AT.as_secs() / HEARTBEAT_INTERVAL.as_secs() + 1;
    assert!(renewals as u64 <= most, "{renewals}: {seen:?}");
}
