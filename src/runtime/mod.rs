//! Building a process of its parts, starting them in order and stopping them in order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::action::Registry;
use crate::background::Background;
use crate::broker::amqp::AmqpBroker;
use crate::broker::embedded::EmbeddedBroker;
use crate::broker::{Broker, BrokerAddress, BrokerError, Health, NoBroker, Outgoing, Speaker};
use crate::client::{Client, ClientParts, ClientSettings, LocalExecutors};
use crate::clock::{Clock, SystemClock};
use crate::domain::{ExecutorId, ExecutorName, PayloadLimits, QueueName, Slots};
use crate::executor::{Drained, Executor, ExecutorParts, ExecutorSettings, StartError};
use crate::housekeeping::{Housekeeper, HousekeepingParts};
use crate::store::{GroupCommit, SCHEMA_VERSION, Store, StoreAddress, StoreError};

/// How long the last messages of a process may take to leave it.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(5);

/// Why a process could not be built.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The executor.
    #[error(transparent)]
    Executor(#[from] StartError),
}

impl RuntimeError {
    /// What to do about it, for people.
    pub fn hint(&self) -> Option<String> {
        let words = match self {
            Self::Store(StoreError::Unavailable { .. }) => {
                "is the server of `DATABASE_URL` running and reachable?"
            }
            Self::Store(StoreError::Denied { .. }) => {
                "check `DATABASE_URL`: user, password and database; or the folder of the SQLite file and the rights to it"
            }
            Self::Broker(BrokerError::Denied { .. }) => {
                "check user, password and virtual host in `AMQP_URL`"
            }
            Self::Broker(BrokerError::Unavailable { .. }) => {
                "is the server of `AMQP_URL` running and reachable?"
            }
            Self::Executor(error) => return error.hint(),
            Self::Store(_) | Self::Broker(_) => return None,
        };
        Some(words.to_owned())
    }
}

/// The connections of a process, and what runs on them.
///
/// A whole system in one process, for tests and small applications:
///
/// ```
/// use std::time::Duration;
///
/// use longshore::action::Registry;
/// use longshore::client::ClientSettings;
/// use longshore::domain::{ActionName, Payload, Submission};
/// use longshore::runtime::Runtime;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let runtime = Runtime::in_memory().await?;
/// let registry = Registry::new().with_fn("double", |_context, number: u32| async move { Ok(number * 2) });
/// let executor = runtime.executor_with_slots(registry, 4).await?;
/// let client = runtime.client(ClientSettings::default()).await?;
/// let submission = Submission::new(ActionName::new("double")?, Payload::of(&21)?);
/// let task = client.submit_and_wait(submission, Duration::from_secs(10)).await?.into_task();
/// assert_eq!(task.output.map(|output| output.as_str().to_owned()).as_deref(), Some("42"));
/// let drained = executor.drain(Duration::from_secs(1)).await;
/// assert_eq!(drained.given_back, 0);
/// drop((client, executor));
/// runtime.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct Runtime {
    store: Arc<dyn Store>,
    group: GroupCommit,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    /// The executors of this process, for its clients.
    local: LocalExecutors,
    /// What stops first: it takes in new work.
    services: Background,
    /// What stops last: it carries what the others still have to say.
    carriers: Background,
}

/// An executor with the housekeeping that runs beside it.
#[derive(Debug)]
pub struct RunningExecutor {
    executor: Executor,
    housekeeping: Background,
}

impl Runtime {
    /// Connects to a store and a broker. `role` names the process to the broker: `web`, `executor`.
    ///
    /// # Errors
    ///
    /// [`RuntimeError`]: the store does not answer or refuses, or the broker refuses. A broker that is away is
    /// no error: it is said in the log, and tried again by itself.
    pub async fn connect(
        store: &StoreAddress,
        broker: &BrokerAddress,
        role: &str,
    ) -> Result<Self, RuntimeError> {
        let clock = SystemClock::shared();
        let store = store.open().await?;
        let carriers = Background::new();
        let broker: Arc<dyn Broker> = match broker {
            BrokerAddress::Embedded => EmbeddedBroker::new(),
            BrokerAddress::None => NoBroker::new(),
            BrokerAddress::Amqp(url) => {
                let name = format!(
                    "longshore-{role}:{}",
                    ExecutorId::new(clock.now(), clock.random())
                );
                AmqpBroker::connect(url, &name, Arc::clone(&clock), &Background::new()).await?
            }
        };
        Ok(Self::of(store, broker, clock, carriers))
    }

    /// A whole system in this process: a SQLite store in memory and the embedded broker. Migrated.
    ///
    /// # Errors
    ///
    /// As [`Runtime::connect`].
    pub async fn in_memory() -> Result<Self, RuntimeError> {
        let store: StoreAddress = "sqlite::memory:".parse()?;
        let runtime = Self::connect(&store, &BrokerAddress::Embedded, "all").await?;
        runtime.store.migrate().await?;
        Ok(runtime)
    }

    /// The runtime of parts that are there already.
    pub fn of(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        clock: Arc<dyn Clock>,
        carriers: Background,
    ) -> Self {
        let group = GroupCommit::start(&carriers, &store);
        Self {
            store,
            group,
            broker,
            clock,
            local: LocalExecutors::default(),
            services: carriers.another(),
            carriers,
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The broker.
    pub fn broker(&self) -> &Arc<dyn Broker> {
        &self.broker
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Refuses to go on with a schema that is not the one of this program.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] says what to type.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        match self.store.schema_version().await? {
            Some(SCHEMA_VERSION) => Ok(()),
            found => Err(StoreError::Schema {
                found,
                expected: SCHEMA_VERSION,
            }),
        }
    }

    /// Refuses to go on with a broker that is away: for commands that do nothing without it.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unavailable`] with the reason.
    pub fn check_broker(&self) -> Result<(), BrokerError> {
        match self.broker.health().borrow().clone() {
            Health::Up => Ok(()),
            Health::Blocked(reason) | Health::Down(reason) => {
                Err(BrokerError::Unavailable { reason })
            }
        }
    }

    /// Starts a client.
    ///
    /// # Errors
    ///
    /// The broker refuses it.
    pub async fn client(&self, settings: ClientSettings) -> Result<Client, RuntimeError> {
        let parts = ClientParts {
            store: Arc::clone(&self.store),
            group: self.group.clone(),
            broker: Arc::clone(&self.broker),
            clock: Arc::clone(&self.clock),
            local: self.local.clone(),
            background: self.services.part(),
            carriers: self.carriers.clone(),
        };
        Ok(Client::start(parts, settings).await?)
    }

    /// Starts an executor with its housekeeping; final tasks are kept for `retention`.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::Executor`].
    pub async fn executor(
        &self,
        registry: Registry,
        settings: ExecutorSettings,
        retention: Duration,
    ) -> Result<RunningExecutor, RuntimeError> {
        let scheduled = Arc::new(Notify::new());
        let (losses, lost) = watch::channel(());
        let parts = ExecutorParts {
            store: Arc::clone(&self.store),
            group: self.group.clone(),
            broker: Arc::clone(&self.broker),
            clock: Arc::clone(&self.clock),
            registry,
            scheduled: Arc::clone(&scheduled),
            losses: lost,
            background: self.services.part(),
            carriers: self.carriers.clone(),
        };
        let executor = Executor::start(parts, settings).await?;
        self.local.add(executor.local());
        let housekeeping = self.services.part();
        let speaker = Arc::new(Speaker::executor(executor.id(), Arc::clone(&self.clock)));
        let outgoing = Outgoing::start(&self.carriers, Arc::clone(&self.broker), speaker);
        let parts = HousekeepingParts {
            store: Arc::clone(&self.store),
            broker: Arc::clone(&self.broker),
            outgoing,
            clock: Arc::clone(&self.clock),
            scheduled,
            losses,
        };
        let housekeeper = Housekeeper::new(parts, retention);
        housekeeper.listen(&housekeeping).await?;
        housekeeping.spawn(housekeeper.run(housekeeping.clone()));
        Ok(RunningExecutor {
            executor,
            housekeeping,
        })
    }

    /// Starts an executor with `slots` slots for the queue `default`, and defaults for everything else.
    ///
    /// # Errors
    ///
    /// As [`Runtime::executor`].
    pub async fn executor_with_slots(
        &self,
        registry: Registry,
        slots: u16,
    ) -> Result<RunningExecutor, RuntimeError> {
        self.executor_for(registry, &QueueName::default_queue(), slots)
            .await
    }

    /// Starts an executor with `slots` slots for the queue `queue`, and defaults for everything else.
    ///
    /// # Errors
    ///
    /// As [`Runtime::executor`].
    #[expect(clippy::expect_used, reason = "a literal that is a name")]
    pub async fn executor_for(
        &self,
        registry: Registry,
        queue: &QueueName,
        slots: u16,
    ) -> Result<RunningExecutor, RuntimeError> {
        let settings = ExecutorSettings {
            name: ExecutorName::new("embedded").expect("it is a name"),
            host: "localhost".to_owned(),
            slots: Slots::from([(queue.clone(), slots)]),
            creates_queues: false,
            limits: PayloadLimits::default(),
        };
        self.executor(registry, settings, DEFAULT_RETENTION).await
    }

    /// Stops what is left, says the last words, and closes broker and store. Drop clients and executors first:
    /// their words are waited for, at most a few seconds.
    pub async fn stop(self) {
        let Self {
            store,
            group,
            broker,
            clock,
            local: _,
            services,
            carriers,
        } = self;
        services.stop();
        tokio::select! {
            biased;
            () = services.ended() => {}
            () = clock.sleep(LAST_WORDS_LIMIT) => {}
        }
        drop(group);
        tokio::select! {
            biased;
            () = carriers.ended() => {}
            () = clock.sleep(LAST_WORDS_LIMIT) => {}
        }
        broker.close().await;
        carriers.stop();
        store.close().await;
    }
}

/// How long final tasks are kept by default: a week.
pub const DEFAULT_RETENTION: Duration = Duration::from_hours(7 * 24);

impl RunningExecutor {
    /// Which incarnation this is.
    pub fn id(&self) -> ExecutorId {
        self.executor.id()
    }

    /// How many attempts run now.
    pub fn running(&self) -> usize {
        self.executor.running()
    }

    /// As [`Executor::drain_asked`].
    ///
    /// # Cancel safety
    ///
    /// Safe: what was asked stays asked.
    pub async fn drain_asked(&self) {
        self.executor.drain_asked().await;
    }

    /// As [`Executor::drain`]; housekeeping ends with it.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, it takes nothing new and what runs goes on; call it again with a shorter limit.
    pub async fn drain(&self, limit: Duration) -> Drained {
        self.housekeeping.stop();
        self.executor.drain(limit).await
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("store", &self.store)
            .field("broker", &self.broker)
            .finish_non_exhaustive()
    }
}
