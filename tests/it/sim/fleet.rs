//! The simulated processes: executors and web servers that die, freeze and come back.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use longshore::background::Background;
use longshore::broker::Broker;
use longshore::client::{Client, ClientSettings};
use longshore::clock::Clock;
use longshore::domain::{ExecutorName, PayloadLimits, QueueName, Slots};
use longshore::executor::ExecutorSettings;
use longshore::runtime::{DEFAULT_RETENTION, RunningExecutor, Runtime};
use longshore::store::Store;

use super::broker::SimBroker;
use super::hub::Hub;
use super::process::Process;
use super::store::SimStore;
use super::time::SimClock;
use super::work;

/// Queues of the broker that shall be empty when all is done.
const QUEUES: [&str; 5] = [
    "longshore.work.default",
    "longshore.submissions",
    "longshore.signals",
    "longshore.dead",
    "longshore.flags",
];

/// What a place runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Web,
    Executor {
        slots: u16,
    },
    /// A web server and an executor in one process.
    Both {
        slots: u16,
    },
}

impl Role {
    pub(super) fn slots(self) -> Option<u16> {
        match self {
            Self::Web => None,
            Self::Executor { slots } | Self::Both { slots } => Some(slots),
        }
    }

    pub(super) fn is_web(self) -> bool {
        matches!(self, Self::Web | Self::Both { .. })
    }
}

/// A host with one program, which is started again when it dies.
pub(super) struct Place {
    pub(super) role: Role,
    name: String,
    starts: AtomicUsize,
    current: Mutex<Option<Arc<Instance>>>,
}

/// One start of a program.
pub(super) struct Instance {
    pub(super) process: Arc<Process>,
    broker: Arc<SimBroker>,
    parts: Mutex<Parts>,
}

#[derive(Default)]
struct Parts {
    runtime: Option<Runtime>,
    executor: Option<Arc<RunningExecutor>>,
    client: Option<Client>,
}

/// All of them.
pub(super) struct Fleet {
    pub(super) hub: Arc<Hub>,
    pub(super) places: Vec<Arc<Place>>,
    /// Users that still wait for something.
    pub(super) users: AtomicUsize,
    /// Whether what dies is started again.
    restarts: AtomicBool,
}

impl Place {
    pub(super) fn current(&self) -> Option<Arc<Instance>> {
        let current = self.current.lock().unwrap();
        current
            .as_ref()
            .filter(|one| !one.process.is_dead())
            .map(Arc::clone)
    }
}

impl Instance {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap()
    }

    pub(super) fn client(&self) -> Option<Client> {
        self.parts().client.clone()
    }

    pub(super) fn executor(&self) -> Option<Arc<RunningExecutor>> {
        self.parts().executor.as_ref().map(Arc::clone)
    }
}

impl Fleet {
    /// Starts a program in each place.
    pub(super) fn start(hub: &Arc<Hub>, roles: &[Role]) -> Arc<Self> {
        let place = |(number, role): (usize, &Role)| {
            let kind = match role {
                Role::Web => "web",
                Role::Executor { .. } => "executor",
                Role::Both { .. } => "both",
            };
            Arc::new(Place {
                role: *role,
                name: format!("{kind}{number}"),
                starts: AtomicUsize::new(0),
                current: Mutex::default(),
            })
        };
        let fleet = Arc::new(Self {
            hub: Arc::clone(hub),
            places: roles.iter().enumerate().map(place).collect(),
            users: AtomicUsize::new(0),
            restarts: AtomicBool::new(true),
        });
        for place in &fleet.places {
            let keeper = Arc::clone(&fleet).keep(Arc::clone(place));
            hub.background.spawn(keeper);
        }
        fleet
    }

    /// From now on what dies stays dead.
    pub(super) fn let_die(&self) {
        self.restarts.store(false, Ordering::Relaxed);
    }

    /// Keeps a program running in `place`.
    async fn keep(self: Arc<Self>, place: Arc<Place>) {
        loop {
            let instance = self.prepare(&place);
            let dead = instance.process.dead.clone();
            let started = tokio::select! {
                biased;
                () = dead.cancelled() => Ok(()),
                started = begin(place.role, &self.hub, &instance) => started,
            };
            if let Err(error) = started {
                self.hub.say(format_args!(
                    "{} cannot start: {error}",
                    instance.process.name
                ));
                self.kill(&instance);
            }
            dead.cancelled().await;
            let pause = {
                let mut chance = self.hub.chance();
                chance.between(Duration::from_millis(100), Duration::from_secs(10))
            };
            self.hub.pause(pause).await;
            if !self.restarts.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// A process with its own clock and its own ways to store and broker.
    fn prepare(&self, place: &Arc<Place>) -> Arc<Instance> {
        let hub = &self.hub;
        let start = place.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let process = Process::new(format!("{}.{start}", place.name));
        let chance = hub.chance().fork();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::of_process(&hub.timeline, &process, chance));
        let store: Arc<dyn Store> = Arc::new(SimStore::new(hub, &process));
        let broker = Arc::new(SimBroker::new(hub, &process));
        broker.tell();
        let as_broker: Arc<dyn Broker> = Arc::<SimBroker>::clone(&broker);
        let parts = Parts {
            runtime: Some(Runtime::of(
                store,
                as_broker,
                clock,
                Background::on_one_thread(),
            )),
            ..Parts::default()
        };
        hub.say(format_args!("{} starts", process.name));
        let instance = Arc::new(Instance {
            process,
            broker,
            parts: Mutex::new(parts),
        });
        *place.current.lock().unwrap() = Some(Arc::clone(&instance));
        instance
    }

    pub(super) fn kill(&self, instance: &Instance) {
        let process = &instance.process;
        if !process.is_dead() {
            self.hub.say(format_args!("{} dies", process.name));
            self.hub.model().process_died(&process.name);
            process.die();
        }
    }

    pub(super) fn freeze(&self, instance: &Instance) {
        self.hub
            .say(format_args!("{} freezes", instance.process.name));
        self.hub.model().process_frozen(&instance.process.name);
        instance.process.freeze();
    }

    /// Ends an executor in order.
    pub(super) fn drain(self: &Arc<Self>, instance: Arc<Instance>, limit: Duration) {
        let fleet = Arc::clone(self);
        self.hub.background.spawn(async move {
            let Some(executor) = instance.executor() else {
                return;
            };
            fleet
                .hub
                .say(format_args!("{} drains", instance.process.name));
            let dead = instance.process.dead.clone();
            let end = async {
                let drained = executor.drain(limit).await;
                drop(executor);
                let parts = std::mem::take(&mut *instance.parts());
                drop((parts.executor, parts.client));
                if let Some(runtime) = parts.runtime {
                    runtime.stop().await;
                }
                fleet.hub.say(format_args!(
                    "{} is drained: {drained:?}",
                    instance.process.name
                ));
            };
            tokio::select! { biased; () = dead.cancelled() => {} () = end => {} }
            fleet.kill(&instance);
        });
    }

    /// Those that live now.
    pub(super) fn alive(&self, is_wanted: impl Fn(Role) -> bool) -> Vec<Arc<Instance>> {
        let places = self.places.iter().filter(|place| is_wanted(place.role));
        places.filter_map(|place| place.current()).collect()
    }

    pub(super) fn executors(&self) -> Vec<Arc<Instance>> {
        self.alive(|role| role.slots().is_some())
    }

    /// Any web server that is there, as soon as there is one.
    pub(super) async fn web(&self) -> (Client, Arc<Instance>) {
        loop {
            let webs: Vec<_> = self
                .alive(Role::is_web)
                .into_iter()
                .filter_map(|instance| Some((instance.client()?, instance)))
                .collect();
            if !webs.is_empty() {
                let place = self.hub.chance().below(webs.len());
                let mut webs = webs;
                return webs.swap_remove(place);
            }
            self.hub.pause(Duration::from_millis(50)).await;
        }
    }

    /// Tells every process whether it is connected to the broker.
    pub(super) fn tell(&self) {
        for instance in self.alive(|_| true) {
            instance.broker.tell();
        }
    }

    /// What is left to do, for people; `None` when nothing is.
    pub(super) fn unrest(&self) -> Option<String> {
        let users = self.users.load(Ordering::Relaxed);
        if users > 0 {
            return Some(format!("{users} users wait"));
        }
        if !self.hub.model().is_settled() {
            return Some("tasks are open".to_owned());
        }
        let mut own = Vec::new();
        for place in &self.places {
            let instance = place.current();
            let Some(instance) = instance.filter(|_| self.restarts.load(Ordering::Relaxed)) else {
                if self.restarts.load(Ordering::Relaxed) {
                    return Some(format!("{} is down", place.name));
                }
                continue;
            };
            let (executor, client) = (instance.executor(), instance.client());
            let lacks_executor = place.role.slots().is_some() && executor.is_none();
            let lacks_client = place.role.is_web() && client.is_none();
            if lacks_executor || lacks_client {
                return Some(format!("{} starts", place.name));
            }
            if let Some(executor) = executor {
                if executor.running() > 0 {
                    let running = executor.running();
                    return Some(format!("{} runs {running}", instance.process.name));
                }
                own.push(format!("longshore.executor.{}", executor.id()));
            }
            own.extend(client.map(|client| format!("longshore.web.{}", client.id())));
        }
        let queues = QUEUES.into_iter().chain(own.iter().map(String::as_str));
        let full = |queue: &&str| {
            let embedded = &self.hub.embedded;
            embedded.depth(queue).unwrap_or(0) + embedded.lent(queue) > 0
        };
        let mut queues = queues;
        queues
            .find(full)
            .map(|queue| format!("`{queue}` is not empty"))
    }
}

async fn begin(role: Role, hub: &Arc<Hub>, instance: &Arc<Instance>) -> Result<(), String> {
    let Some(runtime) = instance.parts().runtime.take() else {
        return Ok(());
    };
    if let Some(slots) = role.slots() {
        let settings = ExecutorSettings {
            name: ExecutorName::new("x").unwrap(),
            host: "localhost".to_owned(),
            slots: Slots::from([(QueueName::default_queue(), slots)]),
            creates_queues: false,
            limits: PayloadLimits::default(),
        };
        let registry = work::registry(hub, &instance.process, runtime.clock());
        let executor = Box::pin(runtime.executor(registry, settings, DEFAULT_RETENTION)).await;
        let executor = executor.map_err(|error| error.to_string())?;
        instance.parts().executor = Some(Arc::new(executor));
    }
    if role.is_web() {
        let client = runtime.client(ClientSettings::default()).await;
        let client = client.map_err(|error| error.to_string())?;
        instance.parts().client = Some(client);
    }
    instance.parts().runtime = Some(runtime);
    Ok(())
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}
