//! A saga whose executor dies after each of its steps in turn, on the real servers and on SQLite without any.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore::action::{Context, Registry};
use longshore::broker::BrokerAddress;
use longshore::domain::{
    AuditDepth, Failure, FanOutPlan, IdempotencyKey, NewSignal, Payload, QueueName, SignalName,
    Task,
};
use longshore::runtime::Runtime;
use longshore::store::StoreAddress;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::support::fleet::{Fleet, own_executor};
use crate::support::world::{PATIENCE, submission};

/// The steps of the saga, each with an effect outside.
const STEPS: [&str; 5] = ["reserve", "charge", "pack", "ship", "thank"];

/// Where its executor dies: behind each of them, and behind its signal, its sub-tasks and their end.
const POINTS: [&str; 8] = [
    "reserve", "charge", "approved", "pack", "parts", "joined", "ship", "thank",
];

/// Its sub-tasks.
const PARTS: u32 = 50;

/// What has happened outside: how often each step of each saga had its effect.
type Effects = Arc<Mutex<BTreeMap<(String, &'static str), u32>>>;

/// The saga; behind the point `dies_after` it says so and goes no further, until its executor is gone.
fn saga(effects: &Effects, dies_after: Option<(&'static str, mpsc::Sender<()>)>) -> Registry {
    let effects = Arc::clone(effects);
    Registry::new().with_fn("saga", move |context: Context, name: String| {
        let (effects, dies_after) = (Arc::clone(&effects), dies_after.clone());
        async move {
            let behind = async |point: &str| -> Result<(), Failure> {
                if let Some((_, dies)) = dies_after.as_ref().filter(|(last, _)| *last == point) {
                    dies.send(()).await?;
                    std::future::pending::<()>().await;
                }
                Ok(())
            };
            let step = async |step: &'static str| -> Result<(), Failure> {
                let effect = async || {
                    let key = (name.clone(), step);
                    *effects.lock().unwrap().entry(key).or_default() += 1;
                    Ok(())
                };
                context.step(step, effect).await?;
                behind(step).await
            };
            step(STEPS[0]).await?;
            step(STEPS[1]).await?;
            let by: String = context.wait_for("approved").await?;
            behind("approved").await?;
            step(STEPS[2]).await?;
            let parts = (0..PARTS)
                .map(|part| submission("echo", &json!(part)).on_queue(QueueName::default_queue()));
            let parts = context
                .spawn_all("parts", parts, FanOutPlan::default())
                .await?;
            behind("parts").await?;
            let joined = context.join(&parts).await?;
            behind("joined").await?;
            let sum: u32 = parts.outputs::<u32>().await?.into_iter().sum();
            step(STEPS[3]).await?;
            step(STEPS[4]).await?;
            Ok((by, joined.total, sum))
        }
    })
}

/// An executor on threads of its own, which can be stopped in the middle of everything.
struct Victim {
    dies: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Victim {
    fn start(
        store: StoreAddress,
        broker: BrokerAddress,
        registry: Registry,
        queue: String,
    ) -> Self {
        let (dies, death) = oneshot::channel::<()>();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap();
            let executor = runtime.block_on(async {
                let parts = Runtime::connect(&store, &broker, "victim").await.unwrap();
                let executor = own_executor(&parts, registry, &queue).await;
                (executor, parts)
            });
            death.blocking_recv().unwrap();
            drop(executor); // Its heart stops; it says no farewell.
            runtime.shutdown_background();
        };
        Self {
            dies,
            thread: std::thread::spawn(run),
        }
    }

    /// Nothing of it goes on from here: its connections break.
    fn die(self) {
        self.dies.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

/// The result is right, and each step of the saga had its effect once.
fn has_done_all_once(last: &str, task: &Task, effects: &Effects) {
    let output = task.output.as_ref().map(Payload::as_str);
    assert_eq!(output, Some(r#"["ann",50,1225]"#), "{last}: {task:?}");
    assert!(task.attempt.0 > 1, "{last}: its executor died");
    for step in STEPS {
        let count = effects
            .lock()
            .unwrap()
            .get(&(last.to_owned(), step))
            .copied();
        assert_eq!(
            count,
            Some(1),
            "`{step}` of the saga that was cut off after `{last}`"
        );
    }
}

/// Where sagas live.
struct Ground {
    store: StoreAddress,
    /// The broker, as executors and as clients reach it.
    executors: BrokerAddress,
    clients: BrokerAddress,
}

/// Cuts off a saga at each point, and sees what the living make of them; `create_queue` makes a queue.
async fn cut_off_everywhere(ground: &Ground, create_queue: impl AsyncFn(&Runtime, &str)) {
    let effects = Effects::default();
    let connect = async |broker| Runtime::connect(&ground.store, broker, "test").await;
    let runtime = connect(&ground.executors).await.unwrap();
    let echo = longshore::action::builtin::registry(
        Arc::clone(runtime.clock()),
        longshore::action::builtin::Allowed::default(),
        longshore::action::builtin::HttpRights::default(),
    );
    let echoes = own_executor(&runtime, echo, "default").await;
    let web = connect(&ground.clients).await.unwrap();
    let settings = longshore::client::ClientSettings::default();
    let client = web.client(settings).await.unwrap();
    let mut sagas = Vec::new();
    for last in POINTS {
        let queue = format!("saga-{last}");
        create_queue(&runtime, &queue).await;
        let (says_so, mut deaths) = mpsc::channel(1);
        let victim = Victim::start(
            ground.store.clone(),
            ground.executors.clone(),
            saga(&effects, Some((last, says_so))),
            queue.clone(),
        );
        let task = submission("saga", &json!(last)).on_queue(QueueName::new(&queue).unwrap());
        let task = client.submit(task).await.unwrap().task.id;
        let approved = NewSignal {
            task,
            name: SignalName::new("approved").unwrap(),
            key: Some(IdempotencyKey::new("approval").unwrap()),
            payload: Payload::of("ann").unwrap(),
        };
        drop(client.signal(approved).await.unwrap());
        let death = tokio::time::timeout(PATIENCE, deaths.recv()).await;
        assert_eq!(death, Ok(Some(())), "{last}");
        victim.die();
        sagas.push((last, task, queue));
    }
    let mut survivors = Vec::new();
    for (_, _, queue) in &sagas {
        survivors.push(own_executor(&runtime, saga(&effects, None), queue).await);
    }
    for (last, task, _) in &sagas {
        let task = client.wait(*task, 2 * PATIENCE).await.unwrap().into_task();
        has_done_all_once(last, &task, &effects);
    }
    let audit = runtime.store().audit(AuditDepth::All).await.unwrap();
    assert_eq!(audit.violations, []);
    for executor in survivors.into_iter().chain([echoes]) {
        assert_eq!(executor.drain(Duration::from_secs(10)).await.given_back, 0);
    }
    drop(client);
    web.stop().await;
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_goes_on_where_it_was_after_whichever_step_its_executor_dies() {
    let fleet = Fleet::begin().await;
    let (store, executors) = fleet.addresses("longshore-executor");
    let (_, clients) = fleet.addresses("longshore-web");
    let ground = Ground {
        store,
        executors,
        clients,
    };
    cut_off_everywhere(&ground, async |_, queue| fleet.create_queue(queue)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_a_saga_goes_on_as_well() {
    longshore::broker::install_tls();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saga.db");
    let store: StoreAddress = format!("sqlite:{}", path.display()).parse().unwrap();
    let opened = store.open().await.unwrap();
    opened.migrate().await.unwrap();
    opened.close().await;
    let ground = Ground {
        store,
        executors: BrokerAddress::None,
        clients: BrokerAddress::None,
    };
    let create_queue = async |runtime: &Runtime, queue: &str| {
        let queue = QueueName::new(queue).unwrap();
        runtime.store().create_queue(&queue).await.unwrap();
    };
    cut_off_everywhere(&ground, create_queue).await;
}
