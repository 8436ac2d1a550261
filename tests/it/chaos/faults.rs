//! What is done to processes, connections and servers, at random.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::pin::Pin;
use std::process::Output;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nix::sys::signal::Signal;
use uuid::Uuid;

use super::Dice;
use crate::support::eventually::{eventually_within, fault_lasts};
use crate::support::fleet::{Fleet, Process, Way, Web};
use crate::support::load::Clients;
use crate::support::postgres::Postgres;
use crate::support::proxy::{Direction, Proxy};
use crate::support::rabbitmq::Rabbit;

/// How often dead processes are started again: sooner than systemd would by default, which is a tenth of a second.
const RESTART_INTERVAL: Duration = Duration::from_millis(500);

/// How long the processes may take to be ready when all is over.
const HEALING_PATIENCE: Duration = Duration::from_mins(2);

/// The kinds of faults, and for how long each lasts, in milliseconds. All come once before any comes again, so that a
/// short run has all. A frozen process outlives its lease now and then. Kills come oftener: they alone are counted.
const KINDS: [(&str, u64, u64); 18] = [
    ("executor killed", 0, 0),
    ("executor killed", 0, 0),
    ("executor killed", 0, 0),
    ("executor frozen", 500, 20_000),
    ("executor stopped by SIGTERM", 0, 0),
    ("broker connection cut", 0, 0),
    ("broker connection refused", 500, 8_000),
    ("broker connection held", 500, 12_000),
    ("broker's answers lost", 500, 6_000),
    ("store connection cut", 0, 0),
    ("store connection refused", 500, 8_000),
    ("store connection held", 500, 20_000),
    ("answers of the store lost", 200, 3_000),
    ("everything late", 1_000, 5_000),
    ("web server killed", 0, 0),
    ("broker crashed", 0, 5_000),
    ("broker's data wiped", 0, 2_000),
    ("PostgreSQL crashed", 0, 5_000),
];

/// A process, the proxies before its servers, and whether a fault is at work on it.
struct Target {
    process: Mutex<Member>,
    store: Proxy,
    broker: Proxy,
    is_busy: Mutex<bool>,
}

/// A process of the fleet.
enum Member {
    Executor(Process),
    Web(Web),
}

impl Member {
    fn process(&mut self) -> &mut Process {
        match self {
            Self::Executor(process) => process,
            Self::Web(web) => &mut web.process,
        }
    }
}

/// The faults, and what they are done to.
pub(super) struct Faults<'a> {
    fleet: &'a Fleet,
    rabbit: &'a Rabbit,
    postgres: &'a Postgres,
    executors: Vec<Target>,
    webs: Vec<Target>,
    clients: Clients,
    is_broker_busy: Mutex<bool>,
    is_store_busy: Mutex<bool>,
    dice: Mutex<Dice>,
    /// The kinds that have not come yet in this round.
    deck: Mutex<Vec<(&'static str, u64, u64)>>,
    counts: Mutex<BTreeMap<&'static str, usize>>,
    lost: Mutex<HashMap<Uuid, (i32, f64)>>,
    kills: Mutex<Vec<Kill>>,
}

/// An executor that was killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kill {
    pub(super) executor: Uuid,
    /// Unit: seconds since the epoch, by the store's clock.
    pub(super) at: f64,
    /// Whether its broker was away, so that it could tell nobody.
    pub(super) lacks_token: bool,
}

impl<'a> Faults<'a> {
    /// Starts three executors and two web servers.
    pub(super) async fn begin(
        fleet: &'a Fleet,
        rabbit: &'a Rabbit,
        postgres: &'a Postgres,
        seed: u64,
    ) -> Self {
        let flags = [
            "--allow-command",
            "sh",
            "--queue",
            "default=32",
            "--queue",
            "bulk=16",
            "--drain-timeout",
            "2s",
        ];
        let (mut executors, mut webs) = (Vec::new(), Vec::new());
        for name in ["x1", "x2", "x3", "w1", "w2"] {
            let (store, broker) = (fleet.store_proxy(), fleet.broker_proxy());
            let way = Way {
                store: Some(&store),
                broker: Some(&broker),
            };
            let is_web = name.starts_with('w');
            let member = if is_web {
                Member::Web(fleet.web_by(way, name, &[]).await)
            } else {
                Member::Executor(fleet.executor_by(way, name, &flags).await)
            };
            let target = Target {
                process: Mutex::new(member),
                store,
                broker,
                is_busy: Mutex::new(false),
            };
            if is_web { &mut webs } else { &mut executors }.push(target);
        }
        let addresses = webs.iter().map(Target::address).collect();
        Self {
            fleet,
            rabbit,
            postgres,
            executors,
            webs,
            clients: Clients::at(addresses),
            is_broker_busy: Mutex::new(false),
            is_store_busy: Mutex::new(false),
            dice: Mutex::new(Dice(seed)),
            deck: Mutex::default(),
            counts: Mutex::default(),
            lost: Mutex::default(),
            kills: Mutex::default(),
        }
    }

    /// Clients of the web servers, wherever these listen.
    pub(super) fn clients(&self) -> Clients {
        self.clients.clone()
    }

    /// How many faults of each kind there were.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.counts.lock().unwrap().clone()
    }

    /// What ran when its executor was killed: the attempt, and when by the store's clock.
    pub(super) fn lost(&self) -> HashMap<Uuid, (i32, f64)> {
        self.lost.lock().unwrap().clone()
    }

    /// Executors that were killed while the store was there.
    pub(super) fn kills(&self) -> Vec<Kill> {
        self.kills.lock().unwrap().clone()
    }

    /// Does something every one to four seconds, and heals everything in the end. Somebody has to start what has died:
    /// see [`Self::restart_again_and_again`].
    pub(super) async fn go_on_for(&self, duration: Duration) {
        let mut under_way: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + '_>>> =
            FuturesUnordered::new();
        let mut is_over = Box::pin(fault_lasts(duration));
        let mut next = Box::pin(fault_lasts(Duration::from_secs(2)));
        loop {
            tokio::select! {
                () = &mut is_over => break,
                () = &mut next => {
                    under_way.push(Box::pin(self.one_fault()));
                    next = Box::pin(fault_lasts(self.dice.lock().unwrap().millis(1_000, 4_000)));
                }
                Some(()) = under_way.next() => {}
            }
        }
        while under_way.next().await.is_some() {}
        self.all_are_well().await;
    }

    async fn one_fault(&self) {
        let (kind, duration, target) = {
            let (mut dice, mut deck) = (self.dice.lock().unwrap(), self.deck.lock().unwrap());
            if deck.is_empty() {
                deck.extend(KINDS);
            }
            let number = usize::try_from(dice.below(deck.len() as u64)).unwrap();
            let (kind, least, most) = deck.swap_remove(number);
            (kind, dice.millis(least, most), dice.below(60))
        };
        match kind {
            "broker crashed" | "broker's data wiped" => self.broker_crashes(kind, duration).await,
            "PostgreSQL crashed" => self.store_crashes(duration).await,
            "web server killed" => self.hit(kind, duration, &self.webs, target).await,
            _ if kind.starts_with("executor") => {
                self.hit(kind, duration, &self.executors, target).await;
            }
            // Three executors and two web servers have connections.
            _ if target % 5 < 3 => self.hit(kind, duration, &self.executors, target).await,
            _ => self.hit(kind, duration, &self.webs, target).await,
        }
    }

    /// Does one thing to one process or its connections, unless something is done to it already.
    async fn hit(&self, kind: &'static str, duration: Duration, targets: &[Target], number: u64) {
        let target = &targets[usize::try_from(number).unwrap() % targets.len()];
        if std::mem::replace(&mut *target.is_busy.lock().unwrap(), true) {
            return;
        }
        self.say(kind, duration);
        match kind {
            "executor killed" => self.kill(target).await,
            "executor frozen" => {
                target.signal(Signal::SIGSTOP);
                fault_lasts(duration).await;
                target.signal(Signal::SIGCONT);
            }
            "executor stopped by SIGTERM" => target.signal(Signal::SIGTERM),
            "web server killed" => target.signal(Signal::SIGKILL),
            _ => {
                let proxies: &[&Proxy] = match kind {
                    _ if kind.starts_with("broker") => &[&target.broker],
                    "everything late" => &[&target.broker, &target.store],
                    _ => &[&target.store],
                };
                for proxy in proxies {
                    match kind.rsplit(' ').next() {
                        Some("cut") => proxy.cut(),
                        Some("refused") => proxy.refuse(),
                        Some("lost") => proxy.swallow_answers(),
                        Some("late") => proxy.delay(Duration::from_millis(20 + number)),
                        _ if number.is_multiple_of(3) => proxy.hold_one(Direction::ToServer),
                        _ => proxy.hold(),
                    }
                }
                fault_lasts(duration).await;
                for proxy in proxies {
                    proxy.resume();
                }
            }
        }
        *target.is_busy.lock().unwrap() = false;
    }

    /// Kills an executor, and takes note of what it ran.
    async fn kill(&self, target: &Target) {
        let executor = {
            let mut member = target.process.lock().unwrap();
            member.process().last_said("serves")
        };
        target.signal(Signal::SIGKILL);
        let executor = executor.and_then(|line| line["executor.id"].as_str()?.parse().ok());
        // Whoever is killed while the store is away has no number in the report.
        let ledger = self.fleet.ledger();
        if let Some(executor) = executor
            && let Ok((running, now)) = ledger.try_running_for(executor).await
            && let Ok(lacks_token) = ledger.try_lacks_token(executor).await
        {
            self.kills.lock().unwrap().push(Kill {
                executor,
                at: now,
                lacks_token,
            });
            let mut lost = self.lost.lock().unwrap();
            lost.extend(
                running
                    .into_iter()
                    .map(|(task, attempt)| (task, (attempt, now))),
            );
        }
    }

    async fn broker_crashes(&self, kind: &'static str, duration: Duration) {
        if std::mem::replace(&mut *self.is_broker_busy.lock().unwrap(), true) {
            return;
        }
        let is_wiped = kind == "broker's data wiped";
        self.say(kind, duration);
        self.rabbit.crash().await;
        if is_wiped {
            self.rabbit.wipe().await;
        }
        fault_lasts(duration).await;
        self.rabbit.start_again().await;
        if is_wiped {
            // Again when PostgreSQL crashes meanwhile.
            let apply = async || {
                self.store_is_there().await;
                self.fleet.try_to_apply_topology().await
            };
            let is_made = |made: &Output| made.status.success();
            eventually_within(HEALING_PATIENCE, "the topology is made", apply, is_made).await;
        }
        *self.is_broker_busy.lock().unwrap() = false;
    }

    async fn store_crashes(&self, duration: Duration) {
        if std::mem::replace(&mut *self.is_store_busy.lock().unwrap(), true) {
            return;
        }
        self.say("PostgreSQL crashed", duration);
        self.postgres.crash().await;
        fault_lasts(duration).await;
        self.postgres.start_again().await;
        *self.is_store_busy.lock().unwrap() = false;
    }

    async fn store_is_there(&self) {
        let look = async || !*self.is_store_busy.lock().unwrap();
        eventually_within(HEALING_PATIENCE, "the store is there", look, |is| *is).await;
    }

    /// Starts dead processes again, as an init system does. Never ends: tasks kill executors when all faults are over.
    pub(super) async fn restart_again_and_again(&self) -> Infallible {
        loop {
            fault_lasts(RESTART_INTERVAL).await;
            for target in &self.executors {
                target.restart_if_dead();
            }
            for (number, web) in self.webs.iter().enumerate() {
                web.restart_if_dead();
                self.clients.moved(number, &web.address());
            }
        }
    }

    /// Waits until every process runs and is connected.
    async fn all_are_well(&self) {
        for target in self.executors.iter().chain(&self.webs) {
            let look = async || {
                let mut member = target.process.lock().unwrap();
                let process = member.process();
                let words = ["serves", "Web server listens on"];
                !process.has_ended() && words.iter().any(|it| process.last_said(it).is_some())
            };
            eventually_within(HEALING_PATIENCE, "the process runs", look, |is| *is).await;
        }
    }

    #[expect(
        clippy::print_stderr,
        reason = "the course of a run is wanted when it fails"
    )]
    fn say(&self, kind: &'static str, duration: Duration) {
        *self.counts.lock().unwrap().entry(kind).or_default() += 1;
        eprintln!("{kind} {duration:?}");
    }
}

impl Target {
    /// Sends a signal, if the process still runs.
    fn signal(&self, signal: Signal) {
        let mut member = self.process.lock().unwrap();
        let process = member.process();
        if !process.has_ended() {
            process.signal(signal);
        }
    }

    fn restart_if_dead(&self) {
        let mut member = self.process.lock().unwrap();
        let process = member.process();
        if process.has_ended() {
            process.restart();
        }
    }

    /// Where a web server listens, or has listened.
    fn address(&self) -> String {
        match &mut *self.process.lock().unwrap() {
            Member::Web(web) => web.address().to_owned(),
            Member::Executor(_) => String::new(),
        }
    }
}
