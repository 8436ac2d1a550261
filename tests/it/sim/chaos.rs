//! What goes wrong with whole processes and servers, and when.

use std::sync::Arc;
use std::time::Duration;

use longshore::broker::{Broker, Credit, Source};
use longshore::domain::QueueName;

use super::chance::Chance;
use super::fleet::{Fleet, Instance, Role};
use super::hub::{Hub, Violated};
use super::network::Network;

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    KillExecutor,
    KillWeb,
    Freeze,
    Drain,
    CutFromStore,
    CutFromBroker,
    BreakLink,
    StoreAway,
    BrokerAway,
    Wipe,
}

const KINDS: [Kind; 10] = [
    Kind::KillExecutor,
    Kind::KillWeb,
    Kind::Freeze,
    Kind::Drain,
    Kind::CutFromStore,
    Kind::CutFromBroker,
    Kind::BreakLink,
    Kind::StoreAway,
    Kind::BrokerAway,
    Kind::Wipe,
];

/// What goes wrong in one simulation.
pub(super) struct Chaos {
    chance: Chance,
    /// Some of the kinds, so that one does not hide another.
    kinds: Vec<Kind>,
    /// How long nothing happens, at most.
    pause_max: Duration,
}

impl Chaos {
    pub(super) fn new(mut chance: Chance) -> Self {
        let mut kinds = KINDS.to_vec();
        chance.shuffle(&mut kinds);
        kinds.truncate(2 + chance.below(5));
        let pause_max = Duration::from_secs([5, 15, 30][chance.below(3)]);
        Self {
            chance,
            kinds,
            pause_max,
        }
    }

    /// Only processes that stand still, longer than their lease.
    pub(super) fn of_one_alone(chance: Chance) -> Self {
        Self {
            chance,
            kinds: vec![Kind::Freeze],
            pause_max: Duration::from_secs(30),
        }
    }

    /// How long until the next event.
    pub(super) fn pause(&mut self) -> Duration {
        self.chance.between(Duration::ZERO, self.pause_max)
    }

    /// Lets something go wrong, and be right again after a while.
    pub(super) async fn strike(&mut self, fleet: &Arc<Fleet>) -> Result<(), Violated> {
        let hub = &fleet.hub;
        let kind = self.kinds[self.chance.below(self.kinds.len())];
        // More often than not longer than a lease.
        let least = [0, 16, 16][self.chance.below(3)];
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(35));
        let length = self.chance.between(least, most);
        match kind {
            Kind::StoreAway => {
                hub.say(format_args!("the store is away for {length:?}"));
                hub.network().is_store_away = true;
                later(fleet, length, |fleet| {
                    fleet.hub.network().is_store_away = false;
                });
            }
            Kind::BrokerAway => broker_away(fleet, length),
            Kind::Wipe => {
                broker_away(fleet, length);
                wipe(hub).await?;
            }
            Kind::KillExecutor | Kind::Drain => {
                let executors = fleet.executors();
                if let Some(instance) = self.one_of(executors) {
                    if kind == Kind::Drain {
                        let limit = self.chance.between(Duration::ZERO, Duration::from_secs(20));
                        fleet.drain(instance, limit);
                    } else {
                        fleet.kill(&instance);
                    }
                }
            }
            Kind::KillWeb => {
                let webs = fleet.alive(Role::is_web);
                if let Some(instance) = self.one_of(webs) {
                    fleet.kill(&instance);
                }
            }
            Kind::Freeze | Kind::CutFromStore | Kind::CutFromBroker | Kind::BreakLink => {
                // Whoever runs something has most to lose.
                let is_busy = |one: &Arc<Instance>| {
                    let executor = one.executor();
                    executor.is_some_and(|executor| executor.running() > 0)
                };
                let mut all = fleet.alive(|_| true);
                if self.chance.hits(750) && all.iter().any(is_busy) {
                    all.retain(is_busy);
                }
                if let Some(instance) = self.one_of(all) {
                    befall(fleet, kind, instance, length);
                }
            }
        }
        Ok(())
    }

    fn one_of(&mut self, mut instances: Vec<Arc<Instance>>) -> Option<Arc<Instance>> {
        if instances.is_empty() {
            return None;
        }
        let place = self.chance.below(instances.len());
        Some(instances.swap_remove(place))
    }
}

fn befall(fleet: &Arc<Fleet>, kind: Kind, instance: Arc<Instance>, length: Duration) {
    let process = &instance.process;
    fleet
        .hub
        .say(format_args!("{kind:?} of {} for {length:?}", process.name));
    match kind {
        Kind::Freeze => fleet.freeze(&instance),
        Kind::CutFromStore => process.state().is_cut_from_store = true,
        Kind::CutFromBroker => {
            process.state().is_cut_from_broker = true;
            process.break_link();
        }
        Kind::BreakLink => return process.break_link(),
        Kind::KillExecutor
        | Kind::KillWeb
        | Kind::Drain
        | Kind::StoreAway
        | Kind::BrokerAway
        | Kind::Wipe => unreachable!("it befalls all"),
    }
    fleet.tell();
    later(fleet, length, move |fleet| heal(fleet, &instance));
}

fn heal(fleet: &Fleet, instance: &Instance) {
    let process = &instance.process;
    {
        let mut state = process.state();
        state.is_cut_from_store = false;
        state.is_cut_from_broker = false;
    }
    if process.is_frozen() {
        fleet.hub.say(format_args!("{} goes on", process.name));
        process.thaw();
    }
    fleet.tell();
}

fn later(fleet: &Arc<Fleet>, after: Duration, act: impl FnOnce(&Fleet) + Send + 'static) {
    let fleet = Arc::clone(fleet);
    let hub = Arc::clone(&fleet.hub);
    hub.background.spawn(async move {
        fleet.hub.pause(after).await;
        act(&fleet);
    });
}

fn broker_away(fleet: &Arc<Fleet>, length: Duration) {
    fleet
        .hub
        .say(format_args!("the broker is away for {length:?}"));
    fleet.hub.network().is_broker_away = true;
    for instance in fleet.alive(|_| true) {
        instance.process.break_link();
    }
    fleet.tell();
    later(fleet, length, |fleet| {
        fleet.hub.network().is_broker_away = false;
        fleet.tell();
    });
}

/// Empties every shared queue. Nobody is connected.
async fn wipe(hub: &Hub) -> Result<(), Violated> {
    // Until all have let go of what they were lent.
    while hub.step(hub.now()).await? {}
    let work = Source::Work(QueueName::default_queue());
    for (source, name) in [
        (work, "longshore.work.default"),
        (Source::Submissions, "longshore.submissions"),
        (Source::Signals, "longshore.signals"),
    ] {
        let messages = hub.embedded.depth(name).unwrap_or(0);
        hub.say(format_args!("{name} is wiped: {messages}"));
        let mut deliveries = hub.embedded.consume(source, Credit::MAX).await.unwrap();
        for _ in 0..messages {
            let delivery = deliveries.next().await;
            delivery.expect("what is in a queue is delivered").ack();
        }
    }
    Ok(())
}

/// Everything is right again, and stays so.
pub(super) fn end(fleet: &Fleet) {
    fleet.hub.say("all faults are over");
    *fleet.hub.network() = Network::calm();
    for instance in fleet.alive(|_| true) {
        heal(fleet, &instance);
    }
}
