//! One simulation: a time of faults, then quiet, until everything has ended.

use std::sync::Arc;
use std::time::Duration;

use super::calm;
use super::chance::Chance;
use super::chaos::{self, Chaos};
use super::fleet::{Fleet, Role};
use super::hub::{Hub, Violated};
use super::network::Network;
use super::time::Idle;
use super::users;
use super::work::Spec;

/// How long things go wrong.
const FAULTS: Duration = Duration::from_mins(1);

/// How long everything may take to end when nothing goes wrong any more. The longest work is 150 s and may have begun
/// again; a lease, its discovery and pauses between tries are less than a minute.
const QUIET_MAX: Duration = Duration::from_mins(10);

/// How often it is looked whether all has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a simulation came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) trace: Vec<String>,
    /// What was wrong, if anything was.
    pub(super) violation: Option<String>,
    pub(super) steps: u64,
    pub(super) tasks: usize,
}

/// Runs `simulate` on a runtime of its own that says when it is idle.
pub(super) fn on_one_thread<T>(simulate: impl AsyncFnOnce(Arc<Idle>) -> T) -> T {
    let idle = Arc::new(Idle::default());
    let parked = Arc::clone(&idle);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time() // The store's own limits.
        .on_thread_park(move || parked.parked())
        .build()
        .unwrap();
    runtime.block_on(simulate(idle))
}

/// Every how manieth seed has one executor, which is lost, finds itself lost, and meets its own former attempts: rare
/// where everything goes wrong at once.
const ALONE: u64 = 10;

/// Runs the simulation of one seed.
pub(super) fn seed(seed: u64) -> Outcome {
    on_one_thread(async |idle| {
        let mut chance = Chance::new(seed);
        let is_alone = seed.is_multiple_of(ALONE);
        let network = if is_alone {
            Network::slow()
        } else {
            Network::faulty(&mut chance)
        };
        let hub = Hub::new(chance.next(), network, idle).await;
        let roles = if is_alone {
            vec![Role::Web, Role::Executor { slots: 4 }]
        } else {
            roles(&mut chance)
        };
        hub.say(format_args!("{roles:?}"));
        hub.say(format_args!("{:?}", hub.network().clone()));
        let fleet = Fleet::start(&hub, &roles);
        let count = 6 + chance.below(9);
        let specs: Vec<_> = if is_alone {
            (0..3).map(|_| Spec::long(FAULTS, &mut chance)).collect()
        } else {
            (0..count).map(|_| Spec::any(FAULTS, &mut chance)).collect()
        };
        users::come(&fleet, &specs, &mut chance);
        let chaos = if is_alone {
            Chaos::of_one_alone(chance.fork())
        } else {
            Chaos::new(chance.fork())
        };
        // The violation is in the model.
        drop(Box::pin(live(&fleet, &specs, chaos, chance)).await);
        outcome(&hub)
    })
}

fn roles(chance: &mut Chance) -> Vec<Role> {
    let mut roles = vec![Role::Web; 1 + chance.below(2)];
    // Alone an executor is its own housekeeper, and meets its own former attempts.
    for _ in 0..=chance.below(3) {
        let slots = u16::try_from(1 + chance.below(4)).unwrap();
        roles.push(if chance.hits(250) {
            Role::Both { slots }
        } else {
            Role::Executor { slots }
        });
    }
    roles
}

pub(super) fn outcome(hub: &Hub) -> Outcome {
    let model = hub.model();
    Outcome {
        violation: model.violation().map(str::to_owned),
        steps: model.steps(),
        tasks: model.rows().count(),
        trace: hub.take_trace(),
    }
}

async fn live(
    fleet: &Arc<Fleet>,
    specs: &[Spec],
    mut chaos: Chaos,
    mut chance: Chance,
) -> Result<(), Violated> {
    let hub = &fleet.hub;
    loop {
        let next = hub.now() + chaos.pause();
        hub.run_until(next.min(FAULTS)).await?;
        if next >= FAULTS {
            break;
        }
        chaos.strike(fleet).await?;
    }
    chaos::end(fleet);
    until_all_has_ended(fleet).await?;
    check_ends(fleet, specs);
    calm::probe(fleet, &mut chance).await
}

/// Lets the rest happen; a violation when it does not come to an end.
pub(super) async fn until_all_has_ended(fleet: &Fleet) -> Result<(), Violated> {
    let hub = &fleet.hub;
    let limit = hub.now() + QUIET_MAX;
    loop {
        hub.run_until(hub.now() + LOOK_INTERVAL).await?;
        let Some(unrest) = fleet.unrest() else {
            hub.say("all has ended");
            hub.look_at_all().await;
            return Ok(());
        };
        if hub.now() > limit {
            let mut model = hub.model();
            let open = model.rows().filter(|row| !row.state.ends_a_wait());
            let open: Vec<_> = open.map(|row| format!("\n  {row:?}")).collect();
            model.violated(format!(
                "it does not come to an end: {unrest}{}",
                open.concat()
            ));
            return Err(Violated);
        }
    }
}

/// Holds how each task ended against how it may.
pub(super) fn check_ends(fleet: &Fleet, specs: &[Spec]) {
    let hub = &fleet.hub;
    let mut model = hub.model();
    let wrong: Vec<String> = specs
        .iter()
        .filter_map(|spec| match model.row(spec.id()) {
            Some(row) => spec.wrong_end(row),
            None => Some(format!("a task was never stored: {spec:?}")),
        })
        .collect();
    if let Some(wrong) = wrong.into_iter().next() {
        model.violated(wrong);
    }
}
