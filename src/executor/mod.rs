//! Claiming tasks and running them.
//!
//! | file | what it does |
//! | --- | --- |
//! | `intake` | takes deliveries of one queue, as slots allow |
//! | `idle` | finds ready tasks whose announcement was lost |
//! | `attempt` | runs one task once and stores how it ended |
//! | `trial` | runs suspects of a crash one by one |
//! | `lease` | renews the lease of everything that runs |
//! | `token` | holds what tells the others of this executor's death |
//! | `host` | what actions need of it: their steps, signals and sub-tasks in the store |
//! | `control` | carries out signals and nudges |
//! | `submissions` | stores whole tasks that came by the broker |
//! | `progress` | stores how far attempts are |
//! | `drain` | ends: waits, then gives back |

mod attempt;
mod control;
mod drain;
mod host;
mod idle;
mod intake;
mod lease;
mod local;
mod progress;
mod running;
mod slots;
mod submissions;
mod token;
mod trial;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::action::{Registry, Stop};
use crate::background::Background;
use crate::broker::{Broker, BrokerError, Deliveries, Outgoing, Source, Speaker};
use crate::client::LocalExecutor;
use crate::clock::{Clock, Pauses};
use crate::domain::limits::LEASE_DURATION;
use crate::domain::{
    ExecutorId, ExecutorName, ExecutorRecord, ExecutorState, LogChunk, PayloadLimits, Progress,
    QueueName, QueueRecord, Slots, TaskId,
};
use crate::store::{Below, GroupCommit, Grouped, Store, StoreError};
pub use drain::Drained;
use local::Local;
use running::RunningAttempts;
use slots::QueueSlots;
use token::Token;

/// How an executor is set up.
#[derive(Debug, Clone)]
pub struct ExecutorSettings {
    /// What people call it.
    pub name: ExecutorName,
    /// The host it runs on.
    pub host: String,
    /// The concurrency limit for each queue that it serves.
    pub slots: Slots,
    /// Whether it creates its queues when they do not exist.
    pub creates_queues: bool,
    /// What outputs and submissions from the broker may weigh.
    pub limits: PayloadLimits,
}

/// What an executor is built on.
#[derive(Debug, Clone)]
pub struct ExecutorParts {
    /// Where tasks live.
    pub store: Arc<dyn Store>,
    /// The store's hot calls, gathered.
    pub group: GroupCommit,
    /// What carries announcements.
    pub broker: Arc<dyn Broker>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// What it can run.
    pub registry: Registry,
    /// Told when something was scheduled, so that housekeeping looks when the next task is due.
    pub scheduled: Arc<Notify>,
    /// Changes when the housekeeping of this process has found executors lost: what was lent to them is to be looked for.
    pub losses: watch::Receiver<()>,
    /// Where its work goes on, until it shall stop.
    pub background: Background,
    /// Where its last words go on, until they are said.
    pub carriers: Background,
}

/// Why an executor did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The machine gives no thread for the heartbeat.
    #[error("no thread can be started for the heartbeat")]
    Thread(#[source] std::io::Error),
    /// A queue that does not exist.
    #[error("there is no queue `{queue}` in the store")]
    UnknownQueue {
        /// Which.
        queue: QueueName,
    },
}

impl StartError {
    /// What to do about it, for people.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownQueue { queue } => Some(format!(
                "type `longshore queue create {queue}`, or start the executor with `--create-queues`"
            )),
            Self::Store(_) | Self::Broker(_) | Self::Thread(_) => None,
        }
    }
}

/// A process that claims tasks and runs them. Its id is new at each start.
pub struct Executor {
    shared: Arc<Shared>,
    local: Arc<dyn LocalExecutor>,
    keep: Background,
}

/// What all parts of one executor share.
struct Shared {
    id: ExecutorId,
    record: ExecutorRecord,
    store: Arc<dyn Store>,
    group: GroupCommit,
    logs: Grouped<LogChunk, ()>,
    progress: Grouped<(TaskId, Progress), bool>,
    broker: Arc<dyn Broker>,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    registry: Registry,
    running: RunningAttempts,
    token: Token,
    /// When the threads that all share last went on; on the process's monotonic clock.
    pulse: watch::Sender<Duration>,
    /// The right to run a suspect on trial: one at a time.
    trial: Semaphore,
    /// Told when the store may have given this executor a task that nobody here runs.
    doubt: Notify,
    /// What takes in new work: stops when the executor begins to leave.
    intake: Background,
    attempts: Background,
    /// Cancelled when an operator asks this executor to drain.
    drain_asked: CancellationToken,
    /// Cancelled when what still runs is dropped where it stands.
    abandoned: CancellationToken,
    scheduled: Arc<Notify>,
    losses: watch::Receiver<()>,
    queues: BTreeMap<QueueName, Arc<QueueSlots>>,
    limits: PayloadLimits,
}

impl Shared {
    /// Starts work on one task. It ends by itself, or is dropped where it stands when the executor is abandoned.
    fn spawn_attempt(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let abandoned = self.abandoned.clone();
        // Some kilobytes, which would be moved from hand to hand half a dozen times until it stands where it is polled.
        let work = Box::pin(work);
        self.attempts.spawn(async move {
            tokio::select! {
                biased; // What has just ended counts.
                () = work => {}
                () = abandoned.cancelled() => {}
            }
        });
    }

    /// Says what was cancelled below a task, and asks those that run to stop.
    async fn tell_of_below(&self, below: Below, reason: &str) {
        for facts in below.cancelled {
            self.outgoing.report(facts);
        }
        for (task, executor) in below.running {
            if !self.running.stop(task, Stop::Cancelled(reason.to_owned())) {
                let nudge = self.outgoing.speaker().nudge(executor, task, reason);
                self.outgoing.say(nudge).await;
            }
        }
    }

    /// Lets housekeeping look when a timer is due that comes before its next regular look. `due_at` is the store's time,
    /// and this host's clock may be another: then it is found by the regular look.
    fn tell_of_timer(&self, due_at: Timestamp) {
        let left = due_at.duration_since(self.clock.now());
        if left < SOON {
            self.scheduled.notify_one();
        }
    }

    /// Asks the store again, with growing pauses, until it has answered. `None` when the process stops meanwhile: then
    /// nobody knows, and whoever asked leaves the delivery to others.
    async fn until_answered<T, R: Future<Output = Result<T, StoreError>>>(
        &self,
        task: TaskId,
        ask: impl Fn() -> R,
    ) -> Option<Result<T, StoreError>> {
        let mut pauses = Pauses::new(&self.clock);
        loop {
            match ask().await {
                Err(error) if error.is_transient() => {
                    tracing::debug!(task.id = %task, error = %error, "The store has not answered about task `{task}` yet");
                }
                answer => return Some(answer),
            }
            tokio::select! {
                biased;
                () = self.attempts.stopping() => return None,
                () = self.clock.sleep(pauses.next()) => {}
            }
        }
    }
}

impl Executor {
    /// Starts an executor: entered in the store, its queues consumed.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the store does not answer, a queue does not exist, or the broker refuses it. A broker that
    /// is away is no error: tasks are found in the store until it is back.
    pub async fn start(
        parts: ExecutorParts,
        settings: ExecutorSettings,
    ) -> Result<Self, StartError> {
        let ExecutorParts {
            store,
            group,
            broker,
            clock,
            registry,
            scheduled,
            losses,
            background,
            carriers,
        } = parts;
        let known = make_queues(&store, &broker, &settings).await?;
        let id = ExecutorId::new(clock.now(), clock.random());
        let record = record(id, &settings, &registry, &clock);
        let entered_at = clock.monotonic(); // Not the time of the answer: the store counts from before that.
        store.enroll(&record, LEASE_DURATION).await?;
        let (keep, attempts) = (background.another(), background.another());
        let logs = logs(&store, &carriers);
        let progress = progress(id, &store, &carriers);
        let speaker = Arc::new(Speaker::executor(id, Arc::clone(&clock)));
        let outgoing = Outgoing::start(&carriers, Arc::clone(&broker), speaker);
        let running = RunningAttempts::default();
        let limits = settings.limits;
        let shared = Arc::new(Shared {
            id,
            record,
            store,
            group,
            logs,
            progress,
            broker,
            outgoing,
            clock,
            registry,
            running,
            token: Token::default(),
            pulse: watch::Sender::new(entered_at),
            trial: Semaphore::new(1),
            doubt: Notify::new(),
            intake: background.part(),
            attempts,
            drain_asked: CancellationToken::new(),
            abandoned: CancellationToken::new(),
            scheduled,
            losses,
            queues: queues(&settings.slots, &known),
            limits,
        });
        let queues = shared.queues.clone();
        let local = Local {
            shared: Arc::clone(&shared),
            queues: queues.clone(),
        };
        let executor = Self {
            shared,
            local: Arc::new(local),
            keep,
        };
        executor.begin(queues, entered_at).await?;
        Ok(executor)
    }

    /// This executor, for the clients of its process.
    pub fn local(&self) -> &Arc<dyn LocalExecutor> {
        &self.local
    }

    /// Which incarnation this is.
    pub fn id(&self) -> ExecutorId {
        self.shared.id
    }

    /// How many attempts run now.
    pub fn running(&self) -> usize {
        self.shared.running.len()
    }

    async fn begin(
        &self,
        slots: BTreeMap<QueueName, Arc<QueueSlots>>,
        entered_at: Duration,
    ) -> Result<(), StartError> {
        let shared = &self.shared;
        // First: the lease runs since the executor was entered.
        let (store, stop) = (shared.store.apart(), self.keep.clone());
        let heart = lease::keep(Arc::clone(shared), store, entered_at, stop);
        self.keep
            .spawn_apart("longshore-heart", heart)
            .map_err(StartError::Thread)?;
        self.keep
            .spawn(lease::pulse(Arc::clone(shared), self.keep.clone()));
        let tokens = shared
            .broker
            .consume(Source::Token(shared.id), token::CREDIT)
            .await?;
        let (holder, keep) = (Arc::clone(shared), self.keep.clone());
        self.keep
            .spawn(async move { token::hold(&holder, tokens, &keep).await });
        let control = shared
            .broker
            .consume(Source::Control(shared.id), control::CREDIT)
            .await?;
        let signals = shared
            .broker
            .consume(Source::Signals, control::CREDIT)
            .await?;
        let submissions = shared
            .broker
            .consume(Source::Submissions, submissions::CREDIT)
            .await?;
        let mut queues = Vec::with_capacity(slots.len());
        for (queue, slots) in slots {
            let deliveries = shared
                .broker
                .consume(Source::Work(queue), slots.credit())
                .await?;
            queues.push((slots, deliveries));
        }
        self.intake(control, |shared, delivery| async move {
            control::carry_out(&shared, delivery).await;
        });
        self.intake(signals, |shared, delivery| async move {
            control::carry_out(&shared, delivery).await;
        });
        self.intake(submissions, |shared, delivery| async move {
            submissions::take(&shared, delivery).await;
        });
        for (slots, deliveries) in queues {
            shared.intake.spawn(idle::look(
                Arc::clone(shared),
                Arc::clone(&slots),
                shared.intake.clone(),
            ));
            shared.intake.spawn(intake::serve(
                Arc::clone(shared),
                slots,
                deliveries,
                shared.intake.clone(),
            ));
        }
        let adopts = idle::adopt_what_is_ours(Arc::clone(shared), shared.intake.clone());
        shared.intake.spawn(adopts);
        Ok(())
    }

    /// Carries out each delivery of a shared or own queue, until the intake stops. Several at once, as the
    /// credit allows, so that one slow store call does not hold up the next.
    fn intake<F, R>(&self, mut deliveries: Deliveries, carry_out: F)
    where
        F: Fn(Arc<Shared>, crate::broker::Delivery) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let (shared, background) = (Arc::clone(&self.shared), self.shared.intake.clone());
        self.shared.intake.spawn(async move {
            loop {
                let delivery = tokio::select! {
                    biased; // A flood of deliveries must not hold up the end.
                    () = background.stopping() => None,
                    delivery = deliveries.next() => delivery,
                };
                let Some(delivery) = delivery else { return };
                background.spawn(carry_out(Arc::clone(&shared), delivery));
            }
        });
    }
}

/// The slots of each queue.
fn queues(slots: &Slots, known: &[QueueRecord]) -> BTreeMap<QueueName, Arc<QueueSlots>> {
    let queue = |(queue, count): (&QueueName, &u16)| {
        let slots = QueueSlots::new(queue.clone(), *count);
        let is_paused = |known: &QueueRecord| known.name == *queue && known.paused.is_some();
        slots.set_paused(known.iter().any(is_paused));
        (queue.clone(), Arc::new(slots))
    };
    slots.iter().map(queue).collect()
}

/// Lines of logs on their way to the store.
fn logs(store: &Arc<dyn Store>, carriers: &Background) -> Grouped<LogChunk, ()> {
    let store = Arc::clone(store);
    Grouped::start(carriers, move |chunks: Vec<LogChunk>| {
        let store = Arc::clone(&store);
        async move {
            store
                .append_logs(&chunks)
                .await
                .map(|()| vec![(); chunks.len()])
        }
    })
}

/// What attempts say of their progress, on its way to the store.
fn progress(
    id: ExecutorId,
    store: &Arc<dyn Store>,
    carriers: &Background,
) -> Grouped<(TaskId, Progress), bool> {
    let store = Arc::clone(store);
    Grouped::start(carriers, move |words: Vec<(TaskId, Progress)>| {
        let store = Arc::clone(&store);
        async move { store.note_progress(id, &words).await }
    })
}

/// Sees to it that the queues are there; answers with all that were known.
async fn make_queues(
    store: &Arc<dyn Store>,
    broker: &Arc<dyn Broker>,
    settings: &ExecutorSettings,
) -> Result<Vec<QueueRecord>, StartError> {
    let known = store.queues().await?;
    for queue in settings.slots.keys() {
        let exists = known.iter().any(|record| record.name == *queue);
        if settings.creates_queues {
            // The broker first: a queue that is in the store only would take tasks that nobody announces.
            broker.create_queue(queue).await?;
            store.create_queue(queue).await?;
        } else if !exists {
            return Err(StartError::UnknownQueue {
                queue: queue.clone(),
            });
        }
    }
    Ok(known)
}

fn record(
    id: ExecutorId,
    settings: &ExecutorSettings,
    registry: &Registry,
    clock: &Arc<dyn Clock>,
) -> ExecutorRecord {
    let now = clock.now();
    ExecutorRecord {
        id,
        name: settings.name.clone(),
        host: settings.host.clone(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: settings.slots.clone(),
        actions: registry.names().cloned().collect(),
        started_at: now,
        lease_ends_at: now,
        state: ExecutorState::Live,
    }
}

/// Timers that are due within this time are told to housekeeping: it looks about as often.
const SOON: jiff::SignedDuration = jiff::SignedDuration::from_secs(8);

/// How long an attempt that is asked to stop may still go on before its future is dropped.
const STOP_GRACE: Duration = Duration::from_secs(10);

impl Drop for Executor {
    /// Without a drain: it takes nothing new, and its lease ends by itself.
    fn drop(&mut self) {
        self.shared.intake.stop();
        self.keep.stop();
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor")
            .field("id", &self.shared.id)
            .finish_non_exhaustive()
    }
}
