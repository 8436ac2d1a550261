//! What every scenario stands on: the servers, a queue, a client's connections, and processes of our own.

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::{Child, Command};

use super::measure::{AMQP_PORT, Meter, Processes};
use super::proxy::{Proxy, authority, through};
use super::{Complaint, Config, Output};
use crate::action::Registry;
use crate::background::Background;
use crate::broker::BrokerAddress;
use crate::cli::process::{self, WebServer};
use crate::client::{Client, ClientSettings, Waited};
use crate::clock::Clock;
use crate::domain::{
    ActionName, ExecutorRecord, ExecutorState, Payload, QueueName, Submission, TaskId,
};
use crate::runtime::{RunningExecutor, Runtime};
use crate::store::StoreAddress;

/// The queue of the benchmarks; it is created when it is not there.
pub(super) const QUEUE: &str = "bench";

/// How long an executor may take to start and to run its first task.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long a process may take to end once it was asked to.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// The port of a PostgreSQL server whose address names none.
const POSTGRES_PORT: u16 = 5432;

/// Tasks that are submitted or cancelled at once.
const CALLS: usize = 512;

/// What every scenario stands on.
pub(super) struct Stand {
    pub(super) config: Config,
    pub(super) runtime: Runtime,
    pub(super) queue: QueueName,
    pub(super) meter: Meter,
    pub(super) output: Output,
    /// By way of the proxies, where there are some.
    store: StoreAddress,
    broker: BrokerAddress,
    _proxies: Vec<Proxy>,
}

/// An executor of the benchmark.
pub(super) enum Worker {
    /// A process of its own, as in earnest.
    Process(Child),
    /// In this process, where the broker or the store is.
    Here(RunningExecutor),
}

/// A web server of the benchmark.
pub(super) struct Web {
    pub(super) address: String,
    place: Place,
}

enum Place {
    Process(Child),
    Here(Background),
}

impl Stand {
    /// Connects, through proxies that delay when `latency` says so, and makes the queue.
    pub(super) async fn set_up(
        config: Config,
        latency: Option<Duration>,
        output: Output,
    ) -> Result<Self, Complaint> {
        let clock = crate::clock::SystemClock::shared();
        let (mut store, mut broker) = (
            config.store.address()?.clone(),
            config.broker.address()?.clone(),
        );
        let meter = Meter::of(&config, &store, &broker, &clock).await;
        let mut proxies = Vec::new();
        if let Some(delay) = latency {
            (store, broker) = farther_away(&store, &broker, delay, &clock, &mut proxies)?;
        }
        let runtime = Runtime::connect(&store, &broker, "web").await?;
        if !store.is_postgres() {
            runtime.store().migrate().await?; // A file that is not there yet is made, as `dev` does.
        }
        runtime.check_schema().await?;
        let queue = QueueName::new(QUEUE)?;
        let stand = Self {
            config,
            runtime,
            queue,
            meter,
            output,
            store,
            broker,
            _proxies: proxies,
        };
        stand.create_queue(&stand.queue).await?;
        Ok(stand)
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        self.runtime.clock()
    }

    /// Makes a queue, in the broker and in the store.
    pub(super) async fn create_queue(&self, queue: &QueueName) -> Result<(), Complaint> {
        self.runtime.broker().create_queue(queue).await?;
        self.runtime.store().create_queue(queue).await?;
        Ok(())
    }

    pub(super) async fn client(&self) -> Result<Client, Complaint> {
        Ok(self.runtime.client(ClientSettings::default()).await?)
    }

    /// Whether store and broker can be shared with other processes; if not, everything runs in this one.
    pub(super) fn has_processes(&self) -> bool {
        self.broker != BrokerAddress::Embedded && !self.store.is_in_memory()
    }

    /// An `echo` of about 250 bytes.
    pub(super) fn submission(&self) -> Result<Submission, Complaint> {
        submission(&self.queue)
    }

    /// Starts an executor with so many slots for the queue of the benchmarks.
    pub(super) async fn executor(&self, slots: u16) -> Result<Worker, Complaint> {
        if self.has_processes() {
            return self.executor_process("bench", slots);
        }
        self.executor_here(slots).await
    }

    /// Starts one in this process.
    pub(super) async fn executor_here(&self, slots: u16) -> Result<Worker, Complaint> {
        let registry = process::registry(&self.config, &self.runtime);
        let executor = self
            .runtime
            .executor_for(registry, &self.queue, slots)
            .await?;
        Ok(Worker::Here(executor))
    }

    /// Starts one that is a process of its own.
    pub(super) fn executor_process(&self, name: &str, slots: u16) -> Result<Worker, Complaint> {
        let queue = format!("{QUEUE}={slots}");
        let child = self.spawn(&["executor", "--name", name, "--queue", &queue])?;
        Ok(Worker::Process(child))
    }

    /// Starts an executor of `queue` whose action waits, a process of its own where there can be one; returns when it serves.
    pub(super) async fn waiting_executor(
        &self,
        queue: &QueueName,
        registry: Registry,
        slots: u16,
    ) -> Result<Worker, Complaint> {
        if !self.has_processes() {
            let executor = self.runtime.executor_for(registry, queue, slots).await?;
            return Ok(Worker::Here(executor));
        }
        let slots = slots.to_string();
        let child = self.spawn(&["bench", "suspend", "--serve", "--slots", &slots])?;
        let (clock, worker) = (self.clock(), Worker::Process(child));
        let begun = clock.monotonic();
        loop {
            let executors = self.runtime.store().executors().await?;
            let serves = |one: &ExecutorRecord| {
                one.state == ExecutorState::Live && one.slots.contains_key(queue)
            };
            if executors.iter().any(serves) {
                return Ok(worker);
            }
            if clock.monotonic().saturating_sub(begun) > START_PATIENCE {
                return Err(Complaint::failed("the executor has not started"));
            }
            clock.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Runs a first task: then the executor has started, and plans and connections are there.
    pub(super) async fn warm_up(&self, client: &Client) -> Result<(), Complaint> {
        let first = client.submit_and_wait(self.submission()?, START_PATIENCE);
        has_ended(first.await?, START_PATIENCE)
    }

    /// Starts a web server.
    pub(super) async fn web(&self) -> Result<Web, Complaint> {
        if self.has_processes() {
            let address = format!("127.0.0.1:{}", free_port()?);
            let child = self.spawn(&["web", "--listen", &address])?;
            return Ok(Web {
                address,
                place: Place::Process(child),
            });
        }
        let server =
            WebServer::start(&self.config, &self.runtime, ([127, 0, 0, 1], 0).into()).await?;
        let address = server.address()?.to_string();
        let background = Background::new();
        let stopping = background.clone();
        background.spawn(async move {
            let stop = async move { stopping.stopping().await };
            if let Err(complaint) = server.serve(stop).await {
                tracing::error!("The web server has ended: {}", complaint.lines().concat());
            }
        });
        Ok(Web {
            address,
            place: Place::Here(background),
        })
    }

    /// Waits until a web server answers and the executor behind it runs.
    pub(super) async fn until_served(
        &self,
        http: &reqwest::Client,
        web: &Web,
    ) -> Result<(), Complaint> {
        let clock = self.clock();
        let begun = clock.monotonic();
        while request(http, &web.address).await.is_err() {
            if clock.monotonic().saturating_sub(begun) > START_PATIENCE {
                request(http, &web.address).await?; // The error says what is wrong.
            }
            clock.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Starts this program again with `args`, on the same store and broker. It is killed when it is dropped.
    fn spawn(&self, args: &[&str]) -> Result<Child, Complaint> {
        let broker = match &self.broker {
            BrokerAddress::Amqp(url) => url.clone(),
            BrokerAddress::None if self.has_processes() => "none".to_owned(),
            BrokerAddress::Embedded | BrokerAddress::None => {
                return Err(Complaint::usage(
                    "this scenario runs several processes, and store or broker are part of this one",
                )
                .with_hint("set `DATABASE_URL` and `AMQP_URL` to servers"));
            }
        };
        let child = Command::new(std::env::current_exe()?)
            .args(args)
            .env("DATABASE_URL", self.store.expose())
            .env("AMQP_URL", broker)
            .env("LONGSHORE_LOG_FILTER", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        Ok(child)
    }

    /// Ends everything.
    pub(super) async fn tear_down(self) {
        self.runtime.stop().await;
    }
}

impl Worker {
    /// Its process, where that is not this one.
    pub(super) fn process(&self) -> Option<u32> {
        match self {
            Self::Process(child) => child.id(),
            Self::Here(_) => None,
        }
    }

    /// Stops it: it gives back what it has, and says that it is gone.
    pub(super) async fn end(self, clock: &Arc<dyn Clock>) {
        match self {
            Self::Process(child) => end(child, clock).await,
            Self::Here(executor) => {
                let drained = executor.drain(END_PATIENCE).await;
                tracing::debug!(?drained, "An executor of the benchmark has ended");
            }
        }
    }

    /// Ends it as a power cut would. One in this process cannot be.
    pub(super) async fn kill(self) -> Result<(), Complaint> {
        match self {
            Self::Process(mut child) => Ok(child.kill().await?),
            Self::Here(_) => Err(Complaint::usage(
                "an executor of this process cannot be killed",
            )),
        }
    }
}

impl Web {
    /// Its process, where that is not this one.
    pub(super) fn process(&self) -> Option<u32> {
        match &self.place {
            Place::Process(child) => child.id(),
            Place::Here(_) => None,
        }
    }

    /// Stops it.
    pub(super) async fn end(self, clock: &Arc<dyn Clock>) {
        match self.place {
            Place::Process(child) => end(child, clock).await,
            Place::Here(background) => {
                background.stop();
                tokio::select! {
                    biased;
                    () = background.ended() => {}
                    () = clock.sleep(END_PATIENCE) => {}
                }
            }
        }
    }
}

/// The processes of workers and web servers.
pub(super) fn processes<'a>(
    workers: impl IntoIterator<Item = &'a Worker>,
    web: Option<&Web>,
) -> Processes {
    Processes {
        executors: workers.into_iter().filter_map(Worker::process).collect(),
        web: web.and_then(Web::process).into_iter().collect(),
    }
}

/// An `echo` of about 250 bytes for a queue.
pub(super) fn submission(queue: &QueueName) -> Result<Submission, Complaint> {
    let input = json!({"text": "all hands on deck, the ship is in. ".repeat(6), "number": 7});
    let input = Payload::of(&input).map_err(|error| Complaint::failed(error.to_string()))?;
    Ok(Submission::new(ActionName::new("echo")?, input).on_queue(queue.clone()))
}

/// Submits a task over HTTP and waits for its result.
pub(super) async fn request(http: &reqwest::Client, address: &str) -> Result<(), Complaint> {
    let body = json!({"action": "echo", "queue": QUEUE, "input": {"text": "ahoy"}});
    let request = http
        .post(format!("http://{address}/v1/tasks"))
        .header("Prefer", "wait=10")
        .json(&body);
    answered(request, reqwest::StatusCode::OK).await
}

/// Sends a request whose answer has to be `expected`.
pub(super) async fn answered(
    request: reqwest::RequestBuilder,
    expected: reqwest::StatusCode,
) -> Result<(), Complaint> {
    let unreachable = |error| Complaint::failed(format!("the web server does not answer: {error}"));
    let answer = request.send().await.map_err(unreachable)?;
    let status = answer.status();
    // Read to its end, or the connection could not be used again.
    let body = answer.text().await.map_err(unreachable)?;
    if status == expected {
        return Ok(());
    }
    Err(Complaint::failed(format!(
        "a request was answered with {status}: {body}"
    )))
}

/// A client whose connections are kept between requests.
pub(super) fn http_client(connections: usize) -> Result<reqwest::Client, Complaint> {
    reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(connections)
        .build()
        .map_err(|error| Complaint::failed(error.to_string()))
}

/// Store and broker by way of proxies that delay.
fn farther_away(
    store: &StoreAddress,
    broker: &BrokerAddress,
    delay: Duration,
    clock: &Arc<dyn Clock>,
    proxies: &mut Vec<Proxy>,
) -> Result<(StoreAddress, BrokerAddress), Complaint> {
    let mut by_way = |url: &str, default_port: u16, what: &str| {
        let server = authority(url, default_port).ok_or_else(|| {
            Complaint::usage(format!("the address of the {what} names no host"))
                .with_hint("`--inject-latency` delays TCP connections: name host and port")
        })?;
        let proxy = Proxy::before(&server, delay, clock)?;
        let address = through(url, proxy.address()).unwrap_or_default();
        proxies.push(proxy);
        Ok::<String, Complaint>(address)
    };
    let store = if store.is_postgres() {
        by_way(store.expose(), POSTGRES_PORT, "store")?.parse()?
    } else {
        store.clone()
    };
    let broker = match broker {
        BrokerAddress::Amqp(url) if url.starts_with("amqps://") => {
            return Err(Complaint::usage(
                "`--inject-latency` cannot stand between TLS and the broker",
            )
            .with_hint("use an address that begins with `amqp://`"));
        }
        BrokerAddress::Amqp(url) => BrokerAddress::Amqp(by_way(url, AMQP_PORT, "broker")?),
        other @ (BrokerAddress::Embedded | BrokerAddress::None) => other.clone(),
    };
    if proxies.is_empty() {
        return Err(Complaint::usage(
            "`--inject-latency` delays connections to servers, and there are none",
        ));
    }
    Ok((store, broker))
}

/// Whether a task that was waited for has ended.
pub(super) fn has_ended(waited: Waited, patience: Duration) -> Result<(), Complaint> {
    let task = waited.into_task();
    if task.state.is_final() {
        return Ok(());
    }
    Err(Complaint::failed(format!(
        "a task is still `{}` after {} s",
        task.state,
        patience.as_secs()
    )))
}

/// Submits so many tasks through the library.
pub(super) async fn submit_all(
    client: &Client,
    submission: &Submission,
    tasks: usize,
) -> Result<Vec<TaskId>, Complaint> {
    submit_some(client, submission, tasks, CALLS).await
}

/// The same with so many at once.
pub(super) async fn submit_some(
    client: &Client,
    submission: &Submission,
    tasks: usize,
    at_once: usize,
) -> Result<Vec<TaskId>, Complaint> {
    let mut submits = futures_util::stream::iter(0..tasks)
        .map(|_| client.submit(submission.clone()))
        .buffer_unordered(at_once);
    let mut ids = Vec::with_capacity(tasks);
    while let Some(receipt) = submits.next().await {
        ids.push(receipt?.task.id);
    }
    Ok(ids)
}

/// Leaves nothing behind.
pub(super) async fn cancel_all(client: &Client, tasks: &[TaskId]) {
    let cancels = futures_util::stream::iter(tasks)
        .map(|task| client.cancel(*task, "the benchmark is over"))
        .buffer_unordered(CALLS);
    let failed = cancels
        .filter(|answer| std::future::ready(answer.is_err()))
        .count()
        .await;
    if failed > 0 {
        tracing::warn!(
            failed,
            "Tasks of the benchmark could not be cancelled: {failed}"
        );
    }
}

/// Asks a process to end, and ends it when it does not.
async fn end(mut child: Child, clock: &Arc<dyn Clock>) {
    let process = child.id().and_then(|process| i32::try_from(process).ok());
    if let Some(process) = process
        && let Err(error) = kill(Pid::from_raw(process), Signal::SIGTERM)
    {
        tracing::debug!(%error, "A process of the benchmark was gone already");
    }
    tokio::select! {
        biased;
        _ = child.wait() => {}
        () = clock.sleep(END_PATIENCE) => {}
    }
    // What has not ended is killed when it is dropped.
}

/// A port that is free now.
fn free_port() -> Result<u16, Complaint> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
