//! A private RabbitMQ node, started by the first test that needs it, with a virtual host for each test.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use longshore::broker::management::{Management, Users};
use longshore::broker::topology::topology;
use longshore::domain::QueueName;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::keeper::Keeper;

static SHARED: LazyLock<Rabbit> = LazyLock::new(Rabbit::start);
/// Nodes that a test had to itself, and that the next one may have.
static IDLE: Mutex<Vec<&'static Rabbit>> = Mutex::new(Vec::new());
static LAST_VHOST: AtomicU32 = AtomicU32::new(0);

/// A RabbitMQ node.
pub(crate) struct Rabbit {
    keeper: Keeper,
    /// The lines that the keeper wrote.
    settings: Vec<(String, String)>,
    has_users: OnceCell<()>,
}

impl Rabbit {
    /// The node that tests share; nobody stops it.
    pub(crate) fn shared() -> &'static Self {
        &SHARED
    }

    /// A node of one's own, for a test that restarts or stops it.
    pub(crate) fn start() -> Self {
        let keeper = Keeper::start("rabbitmq.sh", &[]);
        let ready = keeper.ready();
        let settings = ready.lines().filter_map(|line| line.split_once('='));
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            settings: settings.collect(),
            has_users: OnceCell::new(),
            keeper,
        }
    }

    fn setting(&self, name: &str) -> &str {
        let found = self.settings.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).unwrap()
    }

    /// The address of the management interface, as administrator.
    pub(crate) fn management(&self) -> &str {
        self.setting("management")
    }

    /// The AMQP address for a user, whose password is the user's name.
    pub(crate) fn amqp(&self, user: &str, vhost: &str) -> String {
        let address = self.setting("amqp");
        let (_, host) = address.split_once('@').unwrap();
        format!("amqp://{user}:{user}@{host}/{vhost}")
    }

    /// A virtual host of one's own, with everything that the topology says.
    pub(crate) async fn vhost(&self) -> Vhost<'_> {
        let number = LAST_VHOST.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{number}");
        let management = Management::new(self.management(), &name).unwrap();
        let topology = topology(&[QueueName::default_queue()]);
        management.apply(&topology, Users::Permitted).await.unwrap();
        Vhost { rabbit: self, name }
    }

    /// Makes the users of the roles, each with its name as password. Virtual hosts that are made afterwards give
    /// them their rights.
    pub(crate) async fn make_users(&self) {
        for role in topology(&[]).roles {
            let body = json!({"password": role.user, "tags": role.tags});
            let path = format!("users/{}", role.user);
            self.call(Method::PUT, &path, body).await;
        }
    }

    /// The same, by the first who asks: the passwords must not change under others.
    pub(crate) async fn has_users(&self) {
        self.has_users.get_or_init(|| self.make_users()).await;
    }

    /// Calls the management interface.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        longshore::broker::install_tls();
        let url = format!("{}/api/{path}", self.management());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, url);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {response:?}");
        response.json().await.unwrap_or_default()
    }

    /// Calls `rabbitmqctl`; what it prints. It takes a second.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        let program = format!("{}/rabbitmqctl", self.setting("programs"));
        let environment = self
            .settings
            .iter()
            .filter(|(name, _)| name.chars().all(|c| !c.is_lowercase()));
        let output = Command::new(program)
            .args(arguments)
            .envs(environment.cloned())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends the node as a power cut would. Its data stays.
    pub(crate) async fn crash(&self) {
        self.keeper.run("rabbitmq-restart.sh", "stop").await;
    }

    /// Deletes the data of a node that has crashed.
    pub(crate) async fn wipe(&self) {
        self.keeper.run("rabbitmq-restart.sh", "wipe").await;
    }

    /// Starts a node that has crashed again, on the same ports and what is left of its data.
    pub(crate) async fn start_again(&self) {
        self.keeper.run("rabbitmq-restart.sh", "start").await;
    }

    /// Stops the node, and waits until it is gone.
    pub(crate) fn stop(self) {
        self.keeper.stop();
    }
}

/// A node that one test has to itself. It gives it back as it found it, running; starting one takes seconds, and with
/// this there are no more of them than tests at work.
pub(crate) struct OwnRabbit(&'static Rabbit);

impl OwnRabbit {
    pub(crate) fn take() -> Self {
        let idle = IDLE.lock().unwrap().pop();
        // Kept for ever: its keeper ends it with this process.
        Self(idle.unwrap_or_else(|| Box::leak(Box::new(Rabbit::start()))))
    }

    pub(crate) fn node(&self) -> &'static Rabbit {
        self.0
    }
}

impl Drop for OwnRabbit {
    fn drop(&mut self) {
        // A test that failed may have left it stopped.
        if !std::thread::panicking() {
            IDLE.lock().unwrap().push(self.0);
        }
    }
}

/// A virtual host on a node.
pub(crate) struct Vhost<'node> {
    pub(crate) rabbit: &'node Rabbit,
    pub(crate) name: String,
}

impl Vhost<'_> {
    /// The AMQP address of this virtual host, as administrator.
    pub(crate) fn url(&self) -> String {
        self.rabbit.amqp("longshore-admin", &self.name)
    }

    /// How many messages of a queue nobody holds; `None`: there is no such queue.
    pub(crate) async fn depth(&self, queue: &str) -> Option<usize> {
        let connection = Connection::connect(&self.url(), ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions::default().passive();
        let declared = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await;
        let depth = declared
            .ok()
            .map(|queue| usize::try_from(queue.message_count()).unwrap());
        connection.close(200, "OK".into()).await.unwrap();
        depth
    }

    /// Deletes a queue under whoever uses it.
    pub(crate) async fn delete_queue(&self, queue: &str) {
        let path = format!("queues/{}/{queue}", self.name);
        self.rabbit.call(Method::DELETE, &path, Value::Null).await;
    }

    /// Ends every connection to this virtual host, as an operator would.
    pub(crate) fn close_connections(&self) {
        let arguments = ["close_all_connections", "--vhost", &self.name, "a test"];
        self.rabbit.ctl(&arguments);
    }
}
