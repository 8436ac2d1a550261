//! What all simulated processes share: the real store, the embedded broker, the network between, and who looks on.
//!
//! The store works on a thread of its own. So a call of it is carried out while nothing else can run, in an order that
//! the seed decides: then nobody can tell how long it took.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use longshore::background::Background;
use longshore::broker::embedded::EmbeddedBroker;
use longshore::domain::{AuditDepth, Task, TaskId, TaskState};
use longshore::store::sqlite::SqliteStore;
use longshore::store::{List, Store, StoreError};
use tokio::sync::{Notify, oneshot};

use super::chance::Chance;
use super::checks::Model;
use super::crash_points::{Crash, Moment};
use super::network::Network;
use super::process::Process;
use super::time::{Idle, SimClock, Timeline};

/// Steps of one simulation. More are a loop that never ends.
const STEPS_MAX: u64 = 200_000;

/// Rows that are looked at: more than any simulation has.
const ROWS_MAX: usize = 10_000;

/// Every how manieth look is at all rows.
const LOOK_AT_ALL: u64 = 16;

/// Every how manieth look is followed by the store's own audit, which reads everything. So is each look at all rows.
const AUDIT_AT: u64 = 8;

/// The states of tasks that something may happen to.
const OPEN: [TaskState; 6] = [
    TaskState::Scheduled,
    TaskState::Blocked,
    TaskState::Ready,
    TaskState::Running,
    TaskState::Suspended,
    TaskState::Paused,
];

/// A violation that ended the simulation: it is in the model, too.
#[derive(Debug)]
pub(super) struct Violated;

pub(super) struct Hub {
    pub(super) timeline: Arc<Timeline>,
    idle: Arc<Idle>,
    /// The store itself, which never fails.
    pub(super) store: Arc<dyn Store>,
    /// The broker itself, which loses nothing.
    pub(super) embedded: Arc<EmbeddedBroker>,
    /// Where everything that belongs to no process goes on.
    pub(super) background: Background,
    chance: Mutex<Chance>,
    network: Mutex<Network>,
    model: Mutex<Model>,
    turns: Mutex<Turns>,
    turn_over: Arc<Notify>,
    trace: Mutex<Trace>,
    crash: Mutex<Option<Crash>>,
    /// Messages that processes have sent.
    pub(super) published: AtomicU64,
}

#[derive(Default)]
struct Turns {
    waiting: Vec<oneshot::Sender<Turn>>,
    /// Whether the turn that is over may have changed a row.
    has_changed: bool,
    looks: u64,
    /// What was asked about since a row has changed, and what was answered.
    ended: BTreeMap<Vec<TaskId>, Vec<TaskId>>,
}

#[derive(Default)]
struct Trace {
    lines: Vec<String>,
    names: BTreeMap<TaskId, usize>,
}

/// The right to use the store; over when dropped.
pub(super) struct Turn(Arc<Notify>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A call that has left its process, and whose answer has not come.
#[must_use]
pub(super) struct Call<'hub> {
    hub: &'hub Hub,
    process: &'hub Process,
    dies: bool,
    is_unheard: bool,
}

impl Hub {
    pub(super) async fn new(seed: u64, network: Network, idle: Arc<Idle>) -> Arc<Self> {
        let timeline = Arc::new(Timeline::default());
        let clock = Arc::new(SimClock::of_store(&timeline));
        let store = SqliteStore::open_with_clock("sqlite::memory:", clock)
            .await
            .unwrap();
        store.migrate().await.unwrap();
        Arc::new(Self {
            timeline,
            idle,
            store: Arc::new(store),
            embedded: EmbeddedBroker::new(),
            background: Background::on_one_thread(),
            chance: Mutex::new(Chance::new(seed)),
            network: Mutex::new(network),
            model: Mutex::default(),
            turns: Mutex::default(),
            turn_over: Arc::new(Notify::new()),
            trace: Mutex::default(),
            crash: Mutex::new(None),
            published: AtomicU64::new(0),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.timeline.now()
    }

    pub(super) fn chance(&self) -> MutexGuard<'_, Chance> {
        self.chance.lock().unwrap()
    }

    pub(super) fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap()
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    pub(super) fn crash(&self) -> MutexGuard<'_, Option<Crash>> {
        self.crash.lock().unwrap()
    }

    /// Waits for simulated time; belongs to no process.
    pub(super) async fn pause(&self, duration: Duration) {
        self.timeline.sleep(duration, None).await;
    }

    /// Writes a line of the trace.
    pub(super) fn say(&self, words: impl fmt::Display) {
        let now = self.now().as_secs_f64();
        self.trace
            .lock()
            .unwrap()
            .lines
            .push(format!("{now:>11.6} {words}"));
    }

    /// A short name for a task, the same at each run of the seed.
    pub(super) fn name(&self, task: TaskId) -> String {
        let names = &mut self.trace.lock().unwrap().names;
        let next = names.len() + 1;
        format!("T{}", names.entry(task).or_insert(next))
    }

    pub(super) fn names(&self, tasks: impl IntoIterator<Item = TaskId>) -> String {
        let names: Vec<_> = tasks.into_iter().map(|task| self.name(task)).collect();
        names.join(" ")
    }

    pub(super) fn take_trace(&self) -> Vec<String> {
        std::mem::take(&mut self.trace.lock().unwrap().lines)
    }

    /// A call of a port begins: it is a point where a process can die, before the call has left it or before the answer
    /// has come.
    pub(super) async fn call<'hub>(
        &'hub self,
        process: &'hub Process,
        method: &'static str,
    ) -> Call<'hub> {
        process.gate().await;
        let moment = self
            .crash()
            .as_mut()
            .and_then(|crash| crash.meets(process, method));
        if moment == Some(Moment::Before) {
            self.kill(process).await;
        }
        Call {
            hub: self,
            process,
            dies: moment == Some(Moment::After),
            is_unheard: moment == Some(Moment::Unheard),
        }
    }

    async fn kill(&self, process: &Process) {
        self.say(format_args!("{} dies", process.name));
        self.model().process_died(&process.name);
        process.die();
        pending::<()>().await;
    }

    /// Waits until the store is this caller's alone.
    pub(super) async fn turn(&self) -> Turn {
        let (give, given) = oneshot::channel();
        self.turns.lock().unwrap().waiting.push(give);
        match given.await {
            Ok(turn) => turn,
            Err(_) => pending().await, // The simulation is over.
        }
    }

    /// Says that the turn has changed rows, so that they are looked at.
    pub(super) fn changed(&self) {
        self.turns.lock().unwrap().has_changed = true;
    }

    fn next_turn(&self) -> Option<oneshot::Sender<Turn>> {
        let mut turns = self.turns.lock().unwrap();
        turns.waiting.retain(|waiting| !waiting.is_closed());
        if turns.waiting.is_empty() {
            return None;
        }
        let place = self.chance().below(turns.waiting.len());
        Some(turns.waiting.remove(place))
    }

    /// Lets everything run that can; then one call of the store, or the next timer that fires until `until`. Tells
    /// whether there was one.
    pub(super) async fn step(&self, until: Duration) -> Result<bool, Violated> {
        self.idle.reached().await;
        self.is_sound()?;
        self.model().count_step(STEPS_MAX);
        if let Some(give) = self.next_turn() {
            if give.send(Turn(Arc::clone(&self.turn_over))).is_ok() {
                self.turn_over.notified().await;
            }
            // The answer is still on its way: nobody has acted on it.
            self.look().await;
            self.is_sound()?;
            return Ok(true);
        }
        Ok(self.timeline.go(until))
    }

    /// Lets everything run until `until`.
    pub(super) async fn run_until(&self, until: Duration) -> Result<(), Violated> {
        while self.step(until).await? {}
        Ok(())
    }

    fn is_sound(&self) -> Result<(), Violated> {
        if self.model().violation().is_some() {
            Err(Violated)
        } else {
            Ok(())
        }
    }

    /// Looks at every row that is or was open, when the last turn has changed some.
    async fn look(&self) {
        if !std::mem::take(&mut self.turns.lock().unwrap().has_changed) {
            return;
        }
        let looks = {
            let mut turns = self.turns.lock().unwrap();
            turns.looks += 1;
            turns.ended.clear();
            turns.looks
        };
        if looks.is_multiple_of(LOOK_AT_ALL) {
            return self.look_at_all().await;
        }
        let mut rows = self.rows(OPEN.to_vec()).await;
        let ended = self.model().open_without(&rows);
        if !ended.is_empty() {
            rows.extend(self.store.tasks(&ended).await.unwrap().tasks);
        }
        self.model().observe(self.now(), rows);
        if looks.is_multiple_of(AUDIT_AT) {
            self.audit().await;
        }
    }

    /// Looks at every row, those that are final too.
    pub(super) async fn look_at_all(&self) {
        let rows = self.rows(Vec::new()).await;
        self.model().observe_all(self.now(), rows);
        self.audit().await;
    }

    async fn rows(&self, states: Vec<TaskState>) -> Vec<Task> {
        let list = List {
            states,
            limit: ROWS_MAX,
            ..List::default()
        };
        self.store.list(&list).await.unwrap().tasks
    }

    /// Those of `tasks` that have ended, asked once as long as no row has changed: waiters ask again and again.
    pub(super) async fn ended(&self, tasks: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
        let known = self.turns.lock().unwrap().ended.get(tasks).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let answer = self.store.ended(tasks).await?;
        let ended = &mut self.turns.lock().unwrap().ended;
        ended.insert(tasks.to_vec(), answer.clone());
        Ok(answer)
    }

    /// Holds everything against the rules of the store's own audit.
    async fn audit(&self) {
        let audit = self.store.audit(AuditDepth::All).await.unwrap();
        if let Some(first) = audit.violations.first() {
            self.model().violated(format!("audit: {first}"));
        }
    }
}

impl Call<'_> {
    /// Whether the answer gets lost, and the process lives on.
    pub(super) fn is_unheard(&self) -> bool {
        self.is_unheard
    }

    /// The call was carried out, and its answer comes to the process.
    pub(super) async fn answered(self) {
        if self.dies {
            self.hub.kill(self.process).await;
        }
        self.process.gate().await;
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}
