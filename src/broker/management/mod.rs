//! RabbitMQ's management interface: what is on a broker, what it lacks, and making it. For operators and
//! set-up; programs at work use AMQP only.
//!
//! Source: <https://www.rabbitmq.com/docs/http-api-reference>.

mod change;
mod error;
mod http;
mod plan;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

pub use change::{Change, Item};
pub use error::ManagementError;

use super::topology::{DEAD, Destination, Topology, UNROUTED};
use http::Http;
use plan::{Found, plan};

/// Whether the rights of users are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// No: somebody else sees to them.
    Ignored,
    /// Yes, of those users that exist.
    Permitted,
}

/// What a look at a broker has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The version of RabbitMQ.
    pub version: String,
    /// How it differs from the topology.
    pub changes: Vec<Change>,
    /// What else is wrong, for people: alarms, dead letters.
    pub troubles: Vec<String>,
}

impl Check {
    /// Whether everything is as it has to be.
    pub fn is_good(&self) -> bool {
        self.changes.is_empty() && self.troubles.is_empty()
    }
}

/// How many messages a virtual host carried since some moment in the past: only differences say something. RabbitMQ counts
/// every 5 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Published to it.
    pub published: u64,
    /// Delivered by it to consumers, those that were delivered again included.
    pub delivered: u64,
}

/// The management interface of one broker, for one virtual host.
#[derive(Debug)]
pub struct Management {
    http: Http,
    vhost: String,
}

#[derive(Deserialize)]
struct Overview {
    rabbitmq_version: String,
}

#[derive(Deserialize)]
struct Depth {
    name: String,
    #[serde(default)]
    messages: u64,
}

#[derive(Deserialize)]
struct Carried {
    /// Absent as long as nothing was carried.
    #[serde(default)]
    message_stats: Stats,
}

#[derive(Deserialize, Default)]
struct Stats {
    #[serde(default)]
    publish: u64,
    #[serde(default)]
    deliver_get: u64,
}

#[derive(Deserialize)]
struct Node {
    /// A number, as text.
    #[serde(default)]
    os_pid: String,
}

impl Management {
    /// The management interface at `url` (`http://USER:PASSWORD@HOST:15672`). Connects with the first call.
    ///
    /// # Errors
    ///
    /// [`ManagementError::Address`].
    pub fn new(url: &str, vhost: &str) -> Result<Self, ManagementError> {
        super::install_tls();
        Ok(Self {
            http: Http::new(url)?,
            vhost: vhost.to_owned(),
        })
    }

    /// The version of RabbitMQ.
    ///
    /// # Errors
    ///
    /// All of [`ManagementError`] but conflicts.
    pub async fn version(&self) -> Result<String, ManagementError> {
        let overview: Overview = self.http.read(&["overview"]).await?;
        Ok(overview.rabbitmq_version)
    }

    /// How many messages each queue of the broker holds, those that a consumer holds included.
    ///
    /// # Errors
    ///
    /// All of [`ManagementError`] but conflicts.
    pub async fn messages(&self) -> Result<BTreeMap<String, u64>, ManagementError> {
        let queues: Vec<Depth> = self.list("queues").await?;
        Ok(queues
            .into_iter()
            .map(|queue| (queue.name, queue.messages))
            .collect())
    }

    /// How many messages the virtual host carried so far.
    ///
    /// # Errors
    ///
    /// All of [`ManagementError`] but conflicts.
    pub async fn traffic(&self) -> Result<Traffic, ManagementError> {
        let carried: Carried = self.http.read(&["vhosts", &self.vhost]).await?;
        Ok(Traffic {
            published: carried.message_stats.publish,
            delivered: carried.message_stats.deliver_get,
        })
    }

    /// The process of each node of the broker, as its own host counts it.
    ///
    /// # Errors
    ///
    /// All of [`ManagementError`] but conflicts; the user needs the tag `monitoring`.
    pub async fn processes(&self) -> Result<Vec<u32>, ManagementError> {
        let nodes: Vec<Node> = self.http.read(&["nodes"]).await?;
        Ok(nodes
            .iter()
            .filter_map(|node| node.os_pid.parse().ok())
            .collect())
    }

    /// How the broker differs from `topology`, in the order in which `apply` works.
    ///
    /// # Errors
    ///
    /// All of [`ManagementError`] but conflicts: those are [`Change::Different`] here.
    pub async fn plan(
        &self,
        topology: &Topology,
        users: Users,
    ) -> Result<Vec<Change>, ManagementError> {
        Ok(plan(topology, &self.vhost, &self.look(users).await?))
    }

    /// Makes what is missing and changes what can be changed; deletes nothing. Idempotent. Answers with what it
    /// has done.
    ///
    /// # Errors
    ///
    /// All of [`ManagementError`]; what was made before stays.
    pub async fn apply(
        &self,
        topology: &Topology,
        users: Users,
    ) -> Result<Vec<Change>, ManagementError> {
        let mut changes = self.plan(topology, users).await?;
        changes.retain(|change| !matches!(change, Change::Unexpected(_)));
        for change in &changes {
            match change {
                Change::Missing(item) => self.make(item).await?,
                Change::Different { item, found } => match item {
                    Item::Policy(_) | Item::Permission(_) => self.make(item).await?,
                    Item::Vhost(_) | Item::Exchange(_) | Item::Queue(_) | Item::Binding(_) => {
                        return Err(ManagementError::Conflict {
                            what: item.to_string(),
                            found: found.clone(),
                        });
                    }
                },
                Change::Unexpected(_) => {}
            }
        }
        Ok(changes)
    }

    /// Looks at everything: the topology, alarms, and what the broker gave up on.
    ///
    /// # Errors
    ///
    /// All of [`ManagementError`] but conflicts.
    pub async fn check(&self, topology: &Topology, users: Users) -> Result<Check, ManagementError> {
        let version = self.version().await?;
        let found = self.look(users).await?;
        let mut check = Check {
            version,
            changes: plan(topology, &self.vhost, &found),
            troubles: Vec::new(),
        };
        if let Some(reason) = self.http.trouble(&["health", "checks", "alarms"]).await? {
            check.troubles.push(format!("an alarm is on: {reason}"));
        }
        if !found.has_vhost {
            return Ok(check); // Its queues cannot be asked for.
        }
        let queues: Vec<Depth> = self.list("queues").await?;
        for queue in queues.iter().filter(|queue| queue.messages > 0) {
            if queue.name == DEAD || queue.name == UNROUTED {
                let Depth { name, messages } = queue;
                check
                    .troubles
                    .push(format!("{name} holds {messages} messages"));
            }
        }
        Ok(check)
    }

    async fn look(&self, users: Users) -> Result<Found, ManagementError> {
        let vhosts: Vec<plan::Vhost> = self.http.read(&["vhosts"]).await?;
        let permissions = match users {
            Users::Ignored => None,
            Users::Permitted => {
                let users: Vec<plan::User> = self.http.read(&["users"]).await?;
                Some((users, Vec::new()))
            }
        };
        let mut found = Found {
            permissions,
            ..Found::default()
        };
        if vhosts.iter().any(|vhost| vhost.name == self.vhost) {
            found.has_vhost = true;
            found.exchanges = self.list("exchanges").await?;
            found.queues = self.list("queues").await?;
            found.bindings = self.list("bindings").await?;
            found.policies = self.list("policies").await?;
            if let Some((_, permissions)) = &mut found.permissions {
                *permissions = self
                    .http
                    .read(&["vhosts", &self.vhost, "permissions"])
                    .await?;
            }
        }
        Ok(found)
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
    ) -> Result<Vec<T>, ManagementError> {
        self.http.read(&[kind, &self.vhost]).await
    }

    async fn make(&self, item: &Item) -> Result<(), ManagementError> {
        let vhost = self.vhost.as_str();
        let doing = format!("make {item}");
        let (path, body): (Vec<&str>, Value) = match item {
            Item::Vhost(name) => return self.make_vhost(name).await,
            Item::Exchange(exchange) => (
                vec!["exchanges", vhost, exchange.name],
                json!({"type": exchange.kind.word(), "durable": true, "internal": exchange.is_internal}),
            ),
            Item::Queue(queue) => (
                vec!["queues", vhost, &queue.name],
                json!({"durable": true, "arguments": {"x-queue-type": queue.kind.word()}}),
            ),
            Item::Binding(binding) => {
                let (kind, name) = match &binding.destination {
                    Destination::Exchange(name) => ("e", name),
                    Destination::Queue(name) => ("q", name),
                };
                let path = ["bindings", vhost, "e", &binding.source, kind, name];
                let body = json!({"routing_key": binding.key});
                return self.http.post(&path, &body, &doing).await;
            }
            Item::Policy(policy) => (
                vec!["policies", vhost, policy.name],
                json!({"pattern": policy.pattern, "apply-to": policy.apply_to, "priority": 0,
                       "definition": policy.definition}),
            ),
            Item::Permission(role) => (
                vec!["permissions", vhost, role.user],
                json!({"configure": role.configure, "write": role.write, "read": role.read}),
            ),
        };
        self.http.put(&path, &body, &doing).await
    }

    /// Makes the virtual host, and lets our own user in, or it could make nothing there.
    async fn make_vhost(&self, name: &str) -> Result<(), ManagementError> {
        let doing = format!("make virtual host {name}");
        self.http.put(&["vhosts", name], &json!({}), &doing).await?;
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let path = ["permissions", name, self.http.user()];
        self.http.put(&path, &all, &doing).await
    }
}
