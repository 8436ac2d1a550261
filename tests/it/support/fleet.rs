//! A fleet as it is in production: processes of the real program on a real store and a real broker, each logged in
//! as its role, so that the least rights are proven by use.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use longshore::action::{Context, Registry};
use longshore::broker::{BrokerAddress, Since};
use longshore::domain::{
    ExecutorName, PayloadLimits, QueueName, Slots, TaskId, limits::PAYLOAD_BYTES_DEFAULT,
};
use longshore::executor::ExecutorSettings;
use longshore::runtime::{DEFAULT_RETENTION, RunningExecutor, Runtime};
use longshore::store::StoreAddress;
use longshore::tap::{Filter, Seen, Tap};
use longshore::wire::{Event, EventKind};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::database::fresh_database;
use super::eventually::{eventually, eventually_within};
use super::ledger::Ledger;
use super::proxy::Proxy;
use super::rabbitmq::{Rabbit, Vhost};
use super::world::{PATIENCE, submission};

/// A database, a virtual host and a folder of one's own, for processes to work on.
pub(crate) struct Fleet {
    pub(crate) vhost: Vhost<'static>,
    database: String,
    dir: TempDir,
    http: reqwest::Client,
}

/// How a process reaches its servers: straight, or by way of a proxy.
#[derive(Clone, Copy, Default)]
pub(crate) struct Way<'a> {
    pub(crate) store: Option<&'a Proxy>,
    pub(crate) broker: Option<&'a Proxy>,
}

impl Fleet {
    /// A fleet without processes yet, on the servers that tests share. It has the queues `default` and `bulk`.
    pub(crate) async fn begin() -> Self {
        Self::on(Rabbit::shared(), fresh_database().await).await
    }

    /// The same on servers that may be one's own.
    pub(crate) async fn on(rabbit: &'static Rabbit, database: String) -> Self {
        rabbit.has_users().await;
        longshore::broker::install_tls();
        let fleet = Self {
            vhost: rabbit.vhost().await,
            database,
            dir: tempfile::tempdir().unwrap(),
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        fleet.create_queue("bulk");
        fleet
    }

    /// The broker's address for a role.
    pub(crate) fn broker(&self, role: &str) -> String {
        self.vhost.rabbit.amqp(role, &self.vhost.name)
    }

    /// A proxy before the store.
    pub(crate) fn store_proxy(&self) -> Proxy {
        Proxy::before(&self.database)
    }

    /// A proxy before the broker.
    pub(crate) fn broker_proxy(&self) -> Proxy {
        Proxy::before(&self.vhost.url())
    }

    /// What the store says.
    pub(crate) fn ledger(&self) -> Ledger {
        Ledger::of(&self.database)
    }

    /// A file of the fleet's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Creates a queue, as an operator does.
    pub(crate) fn create_queue(&self, queue: &str) {
        let way = Way::default();
        let mut command = self.command("longshore-operator", &["queue", "create", queue], way);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Makes what is missing on the broker, as an operator does after a loss: users, virtual host, topology.
    pub(crate) async fn apply_topology(&self) {
        let output = self.try_to_apply_topology().await;
        assert!(output.status.success(), "{output:?}");
    }

    /// The same, and what came of it: it cannot be done while the store is away.
    pub(crate) async fn try_to_apply_topology(&self) -> Output {
        let rabbit = self.vhost.rabbit;
        rabbit.make_users().await;
        let mut command = self.command("longshore-admin", &["broker", "apply"], Way::default());
        command.env("LONGSHORE_BROKER_MANAGEMENT_URL", rabbit.management());
        tokio::process::Command::from(command)
            .output()
            .await
            .unwrap()
    }

    /// Starts a web server and waits until it listens.
    pub(crate) async fn web(&self, name: &str) -> Web {
        self.web_by(Way::default(), name, &[]).await
    }

    /// The same by another way to its servers.
    pub(crate) async fn web_by(&self, way: Way<'_>, name: &str, flags: &[&str]) -> Web {
        let arguments = [&["web", "--listen", "127.0.0.1:0"], flags].concat();
        let process = self.start("longshore-web", name, &arguments, way);
        let line = process.said("Web server listens on").await;
        let address = line["web.address"].as_str().unwrap().to_owned();
        let http = self.http.clone();
        Web {
            process,
            address,
            http,
        }
    }

    /// Starts an executor and waits until it serves its queues.
    pub(crate) async fn executor(&self, name: &str, flags: &[&str]) -> Process {
        self.executor_by(Way::default(), name, flags).await
    }

    /// The same by another way to its servers.
    pub(crate) async fn executor_by(&self, way: Way<'_>, name: &str, flags: &[&str]) -> Process {
        let arguments = [&["executor", "--name", name], flags].concat();
        let process = self.start("longshore-executor", name, &arguments, way);
        process.said("serves").await;
        process
    }

    /// The parts of a process in this one, logged in as a role.
    pub(crate) async fn runtime(&self, role: &str) -> Runtime {
        let (store, broker) = self.addresses(role);
        Runtime::connect(&store, &broker, "test").await.unwrap()
    }

    /// Where the store is, and the broker for a role: for parts of a process that are not of this one.
    pub(crate) fn addresses(&self, role: &str) -> (StoreAddress, BrokerAddress) {
        let store = self.database.parse().unwrap();
        (store, self.broker(role).parse().unwrap())
    }

    /// A tap on everything since the beginning.
    pub(crate) async fn tap(&self) -> FleetTap {
        let runtime = self.runtime("longshore-tap").await;
        let tap = Tap::open(runtime.broker(), Filter::default(), Since::First);
        let tap = tap.await.unwrap();
        FleetTap {
            tap,
            runtime,
            seen: Vec::new(),
        }
    }

    /// Messages of each queue that has some, those that a consumer holds included. The history is no queue.
    pub(crate) fn messages(&self) -> Value {
        let vhost = &self.vhost;
        let listed = vhost.rabbit.ctl(&[
            "list_queues",
            "--vhost",
            &vhost.name,
            "--formatter=json",
            "--silent",
            "name",
            "messages",
        ]);
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        let full = listed
            .into_iter()
            .filter(|queue| !is_kept(queue["name"].as_str().unwrap()) && queue["messages"] != 0);
        full.collect()
    }

    /// Waits until every queue is empty, and the audit of everything finds nothing: the end of most tests.
    pub(crate) async fn is_idle(&self) {
        let messages = async || self.messages();
        eventually("all queues are empty", messages, |full| *full == json!([])).await;
        eventually(
            "the audit finds nothing",
            async || self.audit().await,
            |found| found.as_array().is_some_and(Vec::is_empty),
        )
        .await;
    }

    /// What an operator's audit of everything finds, the broker's counts held against it.
    pub(crate) async fn audit(&self) -> Value {
        let arguments = ["audit", "--all", "-o", "json"];
        let mut command = self.command("longshore-admin", &arguments, Way::default());
        let management = self.vhost.rabbit.management();
        command.env("LONGSHORE_BROKER_MANAGEMENT_URL", management);
        command.stdout(Stdio::piped());
        let output = tokio::process::Command::from(command)
            .output()
            .await
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    fn start(&self, role: &str, name: &str, arguments: &[&str], way: Way<'_>) -> Process {
        let log = self.path(&format!("{name}.log"));
        let mut command = self.command(role, arguments, way);
        command
            .args(["--log-format", "json"])
            .stderr(File::create(&log).unwrap());
        let child = command.spawn().unwrap();
        Process {
            name: name.to_owned(),
            command,
            child,
            log,
            log_begin: 0,
        }
    }

    /// The program, with nothing of this process's environment but the `PATH`.
    fn command(&self, role: &str, arguments: &[&str], way: Way<'_>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        let path = longshore::config::env::variables().filter(|(name, _)| name == "PATH");
        let by = |proxy: Option<&Proxy>, address: String| {
            proxy.map_or_else(|| address.clone(), |proxy| proxy.through(&address))
        };
        command
            .args(arguments)
            .env_clear()
            .envs(path)
            .env("DATABASE_URL", by(way.store, self.database.clone()))
            .env("AMQP_URL", by(way.broker, self.broker(role)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }
}

/// A process of the fleet. It dies with this value, and shows its log when the test fails.
pub(crate) struct Process {
    name: String,
    command: Command,
    child: Child,
    log: PathBuf,
    /// Where in the log the present incarnation begins.
    log_begin: usize,
}

impl Process {
    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Starts it again under the same name, as an init system does. It must have ended.
    pub(crate) fn restart(&mut self) {
        assert!(self.has_ended(), "`{}` still runs", self.name);
        self.log_begin = fs::read_to_string(&self.log).unwrap().len();
        let log = File::options().append(true).open(&self.log).unwrap();
        self.child = self.command.stderr(log).spawn().unwrap();
    }

    /// How many messages with `words` its log has, of all its incarnations.
    pub(crate) fn times_said(&self, words: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        let messages = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|it| it.contains(words))
            });
        messages.count()
    }

    /// Waits until its log has a message with `words`; the line.
    pub(crate) async fn said(&self, words: &str) -> Value {
        let look = async || {
            let log = || fs::read_to_string(&self.log).unwrap();
            self.last_said(words).ok_or_else(log)
        };
        let what = format!("`{}` says `{words}`", self.name);
        eventually(&what, look, Result::is_ok).await.unwrap()
    }

    /// The last line of its present incarnation with a message that has `words`.
    pub(crate) fn last_said(&self, words: &str) -> Option<Value> {
        let log = fs::read_to_string(&self.log).unwrap();
        let mut lines = log[self.log_begin..]
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| {
            line["message"]
                .as_str()
                .is_some_and(|it| it.contains(words))
        })
    }

    /// Waits until its log has a message with `words` in a line that names `what`; the line.
    pub(crate) async fn said_of(&self, words: &str, what: &str) -> Value {
        let look = async || {
            let log = fs::read_to_string(&self.log).unwrap();
            let mut lines = log
                .lines()
                .filter(|line| line.contains(words) && line.contains(what));
            lines
                .next()
                .and_then(|line| serde_json::from_str(line).ok())
        };
        let what = format!("`{}` says `{words}` of `{what}`", self.name);
        eventually(&what, look, Option::is_some).await.unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Ends it without a warning, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let what = format!("`{}` ends", self.name);
        let look = async || self.child.try_wait().unwrap();
        eventually(&what, look, Option::is_some).await.unwrap()
    }
}

impl Drop for Process {
    #[expect(
        clippy::print_stderr,
        reason = "what the process said is wanted when the test fails"
    )]
    fn drop(&mut self) {
        // An error says that it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- the log of `{}`:\n{log}", self.name);
        }
    }
}

/// A web server of the fleet.
pub(crate) struct Web {
    pub(crate) process: Process,
    address: String,
    http: reqwest::Client,
}

impl Web {
    /// Where it listens, or has listened until it ended.
    pub(crate) fn address(&mut self) -> &str {
        if let Some(line) = self.process.last_said("Web server listens on") {
            line["web.address"]
                .as_str()
                .unwrap()
                .clone_into(&mut self.address);
        }
        &self.address
    }

    /// Waits until `/readyz` answers with `status`, at most for `patience`; the body.
    pub(crate) async fn is_ready(&self, status: u16, patience: Duration) -> Value {
        let what = format!("`/readyz` is {status}");
        let look = async || self.read("/readyz").await;
        let (_, body) = eventually_within(patience, &what, look, |seen| seen.0 == status).await;
        body
    }

    /// A request, for a test that wants to say more, or to have it under way.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.http.request(method, url)
    }

    /// `GET`; the status and the body.
    pub(crate) async fn read(&self, path: &str) -> (u16, Value) {
        answer(self.request(Method::GET, path)).await
    }

    /// `POST`; the status and the body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Submits a task; its id.
    pub(crate) async fn submit(&self, submission: &Value) -> String {
        let (status, body) = self.post("/v1/tasks", submission).await;
        assert_eq!(status, 202, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// Submits a task and waits for its end in the same request; the task.
    pub(crate) async fn run(&self, submission: &Value) -> Value {
        let request = self.request(Method::POST, "/v1/tasks").json(submission);
        let (status, body) = answer(request.header("Prefer", "wait=30")).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Waits until a task ends, whoever submitted it; the task.
    pub(crate) async fn finished(&self, id: &str) -> Value {
        let (status, body) = self.read(&format!("/v1/tasks/{id}/wait?timeout=60")).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Waits until a task is in `state`; the task.
    pub(crate) async fn until(&self, id: &str, state: &str) -> Value {
        let path = format!("/v1/tasks/{id}");
        let look = async || self.read(&path).await.1;
        eventually(state, look, |task| task["state"] == state).await
    }
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// A tap that keeps what it has seen.
pub(crate) struct FleetTap {
    tap: Tap,
    runtime: Runtime,
    /// Each event, and the exchange that it was published to.
    pub(crate) seen: Vec<(Event, String)>,
}

impl FleetTap {
    /// Listens until `is_last` is seen.
    pub(crate) async fn listen_until(&mut self, is_last: impl Fn(&Event) -> bool) {
        loop {
            let seen = tokio::time::timeout(PATIENCE, self.tap.next());
            match seen.await.expect("an event comes").unwrap() {
                Seen::Event {
                    event, exchange, ..
                } => {
                    let is_last = is_last(&event);
                    self.seen.push((*event, exchange));
                    if is_last {
                        return;
                    }
                }
                Seen::Gap { missed } => panic!("{missed} messages are missing"),
            }
        }
    }

    /// Listens until everything has been heard that was said before now.
    pub(crate) async fn listen_to_the_end(&mut self, web: &Web) {
        // An event may be lost, after an outage of the broker above all: then another task tells the end.
        for _ in 0..3 {
            let last = web.run(&json!({"action": "echo"})).await;
            let last = last["id"].as_str().unwrap().parse().unwrap();
            let heard =
                self.listen_until(|event| event.task == last && event.kind == EventKind::Succeeded);
            if tokio::time::timeout(PATIENCE / 2, heard).await.is_ok() {
                return;
            }
        }
        panic!("no event of three tasks came");
    }

    /// How often the task was announced that was announced most often.
    pub(crate) fn announcements_max(&self) -> usize {
        let mut counts = HashMap::<TaskId, usize>::new();
        for (event, exchange) in &self.seen {
            if exchange == "longshore.announced" {
                *counts.entry(event.task).or_default() += 1;
            }
        }
        counts.into_values().max().unwrap_or(0)
    }

    /// The kinds of a task's events, in order.
    pub(crate) fn kinds(&self, task: &str) -> Vec<&'static str> {
        let task: TaskId = task.parse().unwrap();
        let own = self.seen.iter().filter(|(event, _)| event.task == task);
        own.map(|(event, _)| event.kind.as_str()).collect()
    }

    pub(crate) async fn close(self) {
        drop(self.tap);
        self.runtime.stop().await;
    }
}

/// Whether a queue holds messages for good: the history, and the token of an executor that lives.
fn is_kept(queue: &str) -> bool {
    queue == "longshore.history" || queue.rsplit('.').next() == Some("token")
}

/// An executor in this process, for actions that the program does not have.
pub(crate) async fn own_executor(
    runtime: &Runtime,
    registry: Registry,
    queue: &str,
) -> RunningExecutor {
    let settings = ExecutorSettings {
        name: ExecutorName::new("own").unwrap(),
        host: "localhost".to_owned(),
        slots: Slots::from([(QueueName::new(queue).unwrap(), 2)]),
        creates_queues: false,
        limits: PayloadLimits {
            bytes_max: PAYLOAD_BYTES_DEFAULT,
        },
    };
    let executor = runtime.executor(registry, settings, DEFAULT_RETENTION);
    executor.await.unwrap()
}

/// The action `fan_out`: so many sub-tasks in the queue `default`, joined one by one.
pub(crate) fn fan_out_action() -> Registry {
    Registry::new().with_fn("fan_out", |context: Context, count: u32| async move {
        let mut parts = Vec::new();
        for number in 0..count {
            let mut part = submission("echo", &json!(number));
            part.queue = QueueName::default_queue();
            parts.push(context.spawn(part).await?);
        }
        for (part, number) in parts.iter().zip(0..count) {
            assert_eq!(context.join_one::<u32>(part).await?, number);
        }
        Ok(())
    })
}

/// Whether a process runs: a dead one that nobody has buried does not.
pub(crate) fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    // After the name, which is in brackets and may hold anything, comes the state.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !"ZX".contains(state))
}
