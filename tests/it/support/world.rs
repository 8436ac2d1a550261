//! A whole system in this process: store, broker, client, and executors as many as a test wants.

use std::sync::Arc;
use std::time::Duration;

use longshore::action::builtin::{self, Allowed, HttpRights};
use longshore::action::{Context, Registry};
use longshore::background::Background;
use longshore::broker::embedded::EmbeddedBroker;
use longshore::broker::{Broker, Since};
use longshore::client::{Client, ClientSettings, Waited};
use longshore::clock::{Clock, SystemClock};
use longshore::domain::{
    ActionName, ExecutorName, Failure, NewSignal, Payload, PayloadLimits, QueueName, SignalName,
    Slots, Submission, Task, TaskId, TaskState,
};
use longshore::executor::ExecutorSettings;
use longshore::runtime::{DEFAULT_RETENTION, RunningExecutor, Runtime};
use longshore::store::{Signalled, Store, StoreAddress};
use longshore::tap::{Filter, Seen, Tap};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::clock::{Hurried, Pushed};
use super::eventually::eventually;
use super::flaky::Flaky;

/// How long any task of a test may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A whole system in this process, in two parts that know nothing of each other: executors, and a web server.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    web: Runtime,
    pub(crate) client: Client,
    pub(crate) broker: Arc<EmbeddedBroker>,
    /// Opens the doors of the action `gate`: one permit lets one task through.
    pub(crate) gate: Arc<Semaphore>,
    /// Counts the tasks that wait at the gate, or have passed it.
    pub(crate) arrived: Arc<Semaphore>,
}

impl World {
    /// Embedded: SQLite in memory, the broker in this process.
    pub(crate) async fn embedded() -> Self {
        Self::with_clock(SystemClock::shared()).await
    }

    /// Embedded, where an hour takes 36 seconds.
    pub(crate) async fn hurried() -> Self {
        Self::with_clock(Arc::new(Hurried(SystemClock::shared()))).await
    }

    /// Embedded, where time passes as on the machine and may be pushed forward.
    pub(crate) async fn pushed() -> (Self, Arc<Pushed>) {
        let clock = Pushed::new();
        let as_clock: Arc<dyn Clock> = Arc::<Pushed>::clone(&clock);
        (Self::with_clock(as_clock).await, clock)
    }

    /// Embedded, on a store whose answers may get lost.
    pub(crate) async fn flaky() -> (Self, Arc<Flaky>) {
        Self::flaky_on(memory().await).await
    }

    /// The same on any store.
    pub(crate) async fn flaky_on(store: Arc<dyn Store>) -> (Self, Arc<Flaky>) {
        let store = Flaky::new(store);
        let as_store: Arc<dyn Store> = Arc::<Flaky>::clone(&store);
        // An hour in 36 seconds: a lost answer is made up for soon.
        let clock = Arc::new(Hurried(SystemClock::shared()));
        (Self::with(as_store, clock).await, store)
    }

    /// On a store of the test's own, hurried.
    pub(crate) async fn on(store: Arc<dyn Store>) -> Self {
        Self::with(store, Arc::new(Hurried(SystemClock::shared()))).await
    }

    /// On a store of the test's own, with the clock of the machine.
    pub(crate) async fn unhurried(store: Arc<dyn Store>) -> Self {
        Self::with(store, SystemClock::shared()).await
    }

    async fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self::with(memory().await, clock).await
    }

    async fn with(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let embedded = EmbeddedBroker::new();
        let broker: Arc<dyn Broker> = Arc::<EmbeddedBroker>::clone(&embedded);
        let part = || {
            let (store, broker) = (Arc::clone(&store), Arc::clone(&broker));
            Runtime::of(store, broker, Arc::clone(&clock), Background::new())
        };
        let (runtime, web) = (part(), part());
        let client = web.client(ClientSettings::default()).await.unwrap();
        Self {
            runtime,
            web,
            client,
            broker: embedded,
            gate: Arc::new(Semaphore::new(0)),
            arrived: Arc::new(Semaphore::new(0)),
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        self.runtime.store()
    }

    /// The built-in actions (`command` may run anything), and `gate`, which waits to be let through.
    pub(crate) fn registry(&self) -> Registry {
        let allowed = Allowed::new(["*".to_owned()], longshore::config::env::variables());
        let (gate, arrived) = (Arc::clone(&self.gate), Arc::clone(&self.arrived));
        let clock = Arc::clone(self.runtime.clock());
        builtin::registry(clock, allowed, HttpRights::default()).with_fn(
            "gate",
            move |_: Context, input: Payload| {
                let (gate, arrived) = (Arc::clone(&gate), Arc::clone(&arrived));
                async move {
                    arrived.add_permits(1);
                    gate.acquire().await?.forget();
                    Ok::<_, Failure>(input)
                }
            },
        )
    }

    /// An executor with `slots` for the queue `default`.
    pub(crate) async fn executor(&self, slots: u16) -> RunningExecutor {
        self.executor_with(self.registry(), &[("default", slots)])
            .await
    }

    pub(crate) async fn executor_with(
        &self,
        registry: Registry,
        queues: &[(&str, u16)],
    ) -> RunningExecutor {
        let slots = queues
            .iter()
            .map(|(name, slots)| (QueueName::new(name).unwrap(), *slots))
            .collect::<Slots>();
        let settings = ExecutorSettings {
            name: ExecutorName::new("x").unwrap(),
            host: "localhost".to_owned(),
            slots,
            creates_queues: true,
            limits: PayloadLimits::default(),
        };
        self.runtime
            .executor(registry, settings, DEFAULT_RETENTION)
            .await
            .unwrap()
    }

    /// Submits and answers with the task's id.
    pub(crate) async fn submit(&self, submission: Submission) -> TaskId {
        self.client.submit(submission).await.unwrap().task.id
    }

    /// Waits until the task ends.
    pub(crate) async fn ended(&self, task: TaskId) -> Task {
        match self.client.wait(task, PATIENCE).await.unwrap() {
            Waited::Ended(task) => task,
            Waited::StillOpen(task) => panic!("still {}: {task:?}", task.state),
        }
    }

    /// Submits and waits until the task ends.
    pub(crate) async fn run(&self, submission: Submission) -> Task {
        match self
            .client
            .submit_and_wait(submission, PATIENCE)
            .await
            .unwrap()
        {
            Waited::Ended(task) => task,
            Waited::StillOpen(task) => panic!("still {}: {task:?}", task.state),
        }
    }

    /// Waits until `count` tasks have come to the gate.
    pub(crate) async fn wait_at_gate(&self, count: u32) {
        let arrived = self.arrived.acquire_many(count);
        tokio::time::timeout(PATIENCE, arrived)
            .await
            .expect("the tasks came to the gate")
            .unwrap()
            .forget();
    }

    /// Sends a signal to a task; what became of it.
    pub(crate) async fn signal(&self, task: TaskId, name: &str, payload: &Value) -> Signalled {
        let signal = NewSignal {
            task,
            name: SignalName::new(name).unwrap(),
            key: None,
            payload: Payload::of(payload).unwrap(),
        };
        self.client.signal(signal).await.unwrap()
    }

    /// A tap on everything from the beginning.
    pub(crate) async fn tap(&self) -> Tap {
        Tap::open(self.runtime.broker(), Filter::default(), Since::First)
            .await
            .unwrap()
    }

    /// Stops the executors and everything else.
    pub(crate) async fn stop(self, executors: impl IntoIterator<Item = RunningExecutor>) {
        for executor in executors {
            let drained = executor.drain(PATIENCE).await;
            assert_eq!(drained.given_back, 0);
        }
        drop(self.client);
        self.runtime.stop().await;
        self.web.stop().await;
    }
}

/// A fresh store in memory.
async fn memory() -> Arc<dyn Store> {
    let address: StoreAddress = "sqlite::memory:".parse().unwrap();
    let store = address.open().await.unwrap();
    store.migrate().await.unwrap();
    store
}

/// A submission of `action` with `input`.
pub(crate) fn submission(action: &str, input: &Value) -> Submission {
    Submission::new(
        ActionName::new(action).unwrap(),
        Payload::of(input).unwrap(),
    )
}

/// A submission of the action that waits to be let through.
pub(crate) fn gate() -> Submission {
    submission("gate", &json!(null))
}

/// What a task returned, as JSON.
pub(crate) fn output(task: &Task) -> Value {
    task.output
        .as_ref()
        .unwrap_or_else(|| panic!("no output: {:?}", task.error))
        .decode()
        .unwrap()
}

/// The task, once it is suspended.
pub(crate) async fn suspended(world: &World, task: TaskId) -> Task {
    eventually(
        "it is suspended",
        async || world.client.task(task).await.unwrap(),
        |task| task.state == TaskState::Suspended,
    )
    .await
}

/// The message of a task's error.
pub(crate) fn error(task: &Task) -> &str {
    &task
        .error
        .as_ref()
        .unwrap_or_else(|| panic!("no error: {task:?}"))
        .message
}

/// The next event of a tap as `kind action`, within patience.
pub(crate) async fn next_event(tap: &mut Tap) -> (String, TaskId) {
    match tokio::time::timeout(PATIENCE, tap.next())
        .await
        .expect("an event comes")
        .unwrap()
    {
        Seen::Event { event, .. } => (event.filter_key(), event.task),
        Seen::Gap { missed } => panic!("{missed} messages are missing"),
    }
}
