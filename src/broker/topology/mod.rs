//! All names on the broker, and how they hang together: exchanges, queues, bindings, policies, permissions.
//! Pure. `broker-config/definitions.json` is generated from it, and a test holds them equal.
//!
//! * Two stages wherever an alternate exchange is used: a tap bound to the same exchange would silently switch
//!   it off, and `mandatory` too.
//! * One ingress exchange for each privilege: topic permissions alone can be bypassed by dead-lettering.
//! * What may change is a policy, never an argument of a queue.
//!
//! Source: <https://www.rabbitmq.com/docs/ae>, <https://www.rabbitmq.com/docs/access-control>,
//! <https://www.rabbitmq.com/docs/quorum-queues>; tried on RabbitMQ 3.10, 4.0 and 4.3.

mod definitions;

use serde_json::{Value, json};
use uuid::Uuid;

pub use definitions::definitions;

use super::Ingress;
use crate::domain::{ExecutorId, OriginToken, QueueName, WebId};

/// The virtual host that everything lives in.
pub const VHOST: &str = "longshore";

/// Where announcements of tasks and sub-tasks come together. Internal; what it cannot route goes to
/// [`UNROUTED`].
pub const ROUTE: &str = "longshore.route";
/// Nudges to one executor. Internal; what it cannot route comes back as a signal.
pub const NUDGE: &str = "longshore.nudge";
/// Every event, for taps. Internal.
pub const TAP: &str = "longshore.tap";
/// The stream behind [`TAP`].
pub const HISTORY: &str = "longshore.history";
/// What the broker gave up on: an internal exchange, and the queue behind it.
pub const DEAD: &str = "longshore.dead";
/// Announcements for queues that do not exist: an internal exchange, and the queue behind it.
pub const UNROUTED: &str = "longshore.unrouted";
/// Notices that an executor's connection died: an exchange, and the queue behind it. Not internal: executors publish the
/// tokens that become notices, and whoever may name an exchange as a dead-letter exchange may publish to it anyway.
pub const DEATHS: &str = "longshore.deaths";
/// What went to [`DEAD`] and [`UNROUTED`], once more: there it lies for people, from here housekeeping flags the tasks that it
/// is about.
pub const FLAGS: &str = "longshore.flags";
/// Whole tasks from clients without the store.
pub const SUBMISSIONS: &str = "longshore.submissions";
/// Signals and cancels.
pub const SIGNALS: &str = "longshore.signals";

/// How an exchange routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By patterns that the routing key is held against.
    Topic,
    /// To everything that is bound to it. Only where every binding says `#`: a topic exchange goes through a tree of
    /// words for that, once for each message.
    Fanout,
}

impl ExchangeKind {
    /// AMQP's word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Fanout => "fanout",
        }
    }
}

/// An exchange. All are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: &'static str,
    /// How it routes.
    pub kind: ExchangeKind,
    /// Whether only the broker itself may publish to it.
    pub is_internal: bool,
}

/// The kind of a shared queue. All are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// Replicated, acknowledged, with a delivery limit.
    Quorum,
    /// An append-only log that is read, not emptied.
    Stream,
}

/// A shared queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: QueueKind,
}

/// Where a binding leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// To another exchange.
    Exchange(String),
    /// To a queue.
    Queue(String),
}

/// What flows from an exchange onwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The exchange.
    pub source: String,
    /// Where it leads.
    pub destination: Destination,
    /// The topic pattern.
    pub key: String,
}

/// A policy: the knobs of queues and exchanges that may be turned later.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: &'static str,
    /// Which names it is for: a regular expression, anchored.
    pub pattern: &'static str,
    /// `queues` or `exchanges`: the finer words are refused before RabbitMQ 3.12.
    pub apply_to: &'static str,
    /// What it sets.
    pub definition: Value,
}

/// A user for one role, with the least rights that work. All patterns are anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Role {
    /// The user's name.
    pub user: &'static str,
    /// What it may declare and delete.
    pub configure: &'static str,
    /// What it may publish to, and bind queues to.
    pub write: &'static str,
    /// What it may consume, and bind from.
    pub read: &'static str,
    /// The tags that open the management plugin.
    pub tags: &'static str,
}

/// Everything that has to be there before programs start.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// The exchanges.
    pub exchanges: Vec<Exchange>,
    /// The shared queues.
    pub queues: Vec<Queue>,
    /// The bindings between them.
    pub bindings: Vec<Binding>,
    /// The policies.
    pub policies: Vec<Policy>,
    /// The users.
    pub roles: Vec<Role>,
}

impl Topology {
    /// Where `exchange` sends what it cannot route, if anywhere.
    pub fn alternate(&self, exchange: &str) -> Option<&str> {
        let literal = format!("^{}$", exchange.replace('.', r"\."));
        let mut policies = self
            .policies
            .iter()
            .filter(|policy| policy.pattern == literal);
        policies.find_map(|policy| policy.definition["alternate-exchange"].as_str())
    }
}

/// The broker queue that announces the tasks of `queue`.
pub fn work_queue(queue: &QueueName) -> String {
    format!("longshore.work.{queue}")
}

/// The queue of one web server's results.
pub fn results_queue(web: WebId) -> String {
    format!("longshore.web.{web}")
}

/// The queue and the exchange by which a process proves that the broker works: within the rights of web servers.
pub fn canary(process: Uuid) -> String {
    format!("longshore.web.{process}.canary")
}

/// The queue of one executor's nudges.
pub fn control_queue(executor: ExecutorId) -> String {
    format!("longshore.executor.{executor}")
}

/// The binding that leads announcements for `queue` into its work queue.
pub fn work_binding(queue: &QueueName) -> Binding {
    binding(
        ROUTE,
        Destination::Queue(work_queue(queue)),
        &format!("*.{queue}.#"),
    )
}

/// The binding that leads results into a web server's own queue.
pub fn results_binding(web: WebId, origin: &OriginToken) -> Binding {
    let destination = Destination::Queue(results_queue(web));
    binding(
        Ingress::Results.exchange(),
        destination,
        &format!("{origin}.#"),
    )
}

/// The bindings that lead nudges and control messages into an executor's own queue.
pub fn control_bindings(executor: ExecutorId) -> [Binding; 2] {
    let destination = Destination::Queue(control_queue(executor));
    [
        binding(NUDGE, destination.clone(), &nudge_key(executor)),
        binding(Ingress::Control.exchange(), destination, "all.#"),
    ]
}

/// The queue that lends an executor its token: as long as it holds it, its connection lives.
pub fn token_queue(executor: ExecutorId) -> String {
    format!("longshore.executor.{executor}.token")
}

/// The binding that leads an executor's token into its own queue. Its key is the token's.
pub fn token_binding(executor: ExecutorId) -> Binding {
    let destination = Destination::Queue(token_queue(executor));
    binding(DEATHS, destination, &format!("token.{executor}"))
}

/// The routing key of a death notice.
pub fn death_key(executor: ExecutorId) -> String {
    format!("dead.{executor}")
}

/// Whose death a routing key tells.
pub fn dead_executor(key: &str) -> Option<ExecutorId> {
    key.strip_prefix("dead.")?.parse().ok()
}

/// The routing key of a nudge to `executor`, on [`Ingress::Control`].
pub fn nudge_key(executor: ExecutorId) -> String {
    format!("executor.{executor}")
}

/// For which executor the nudge with a routing key was. One that is gone is told nothing: what is for it comes to
/// `longshore.signals`, by the alternate exchange, and some other executor gets it.
pub fn nudged_executor(key: &str) -> Option<ExecutorId> {
    key.strip_prefix("executor.")?.parse().ok()
}

/// Everything that has to be there, with the work queues of `queues`.
pub fn topology(queues: &[QueueName]) -> Topology {
    Topology {
        exchanges: exchanges(),
        queues: shared_queues(queues),
        bindings: bindings(queues),
        policies: policies(),
        roles: ROLES.to_vec(),
    }
}

/// Whether a topic `pattern` is for a routing `key`: words joined by dots, `*` for one word, `#` for any number.
///
/// Source: AMQP 0-9-1, section 3.1.3.3.
///
/// ```
/// use longshore::broker::topology::topic_matches;
///
/// assert!(topic_matches("*.bulk.#", "created.bulk.images.resize"));
/// assert!(topic_matches("failed.#", "failed"));
/// assert!(!topic_matches("failed.*", "failed"));
/// ```
pub fn topic_matches(pattern: &str, key: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    let words: Vec<&str> = if key.is_empty() {
        Vec::new()
    } else {
        key.split('.').collect()
    };
    let (mut at, mut word) = (0, 0);
    // The last `#`, and the first word that it has not swallowed yet: where to try again. Earlier ones never need
    // another try, so the time is the product of the lengths, whatever a stranger sends.
    let mut retry: Option<(usize, usize)> = None;
    while word < words.len() {
        match (pattern.get(at), retry) {
            (Some(&"#"), _) => {
                retry = Some((at, word));
                at += 1;
            }
            (Some(&wanted), _) if wanted == "*" || wanted == words[word] => {
                at += 1;
                word += 1;
            }
            (_, Some((hash, swallowed))) => {
                retry = Some((hash, swallowed + 1));
                at = hash + 1;
                word = swallowed + 1;
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|wanted| *wanted == "#")
}

fn exchanges() -> Vec<Exchange> {
    let ingress = Ingress::ALL.map(|ingress| (ingress.exchange(), false));
    let internal = [ROUTE, NUDGE, TAP, DEAD, UNROUTED].map(|name| (name, true));
    let named = ingress.into_iter().chain(internal).chain([(DEATHS, false)]);
    let exchange = |(name, is_internal)| Exchange {
        name,
        kind: kind_of(name),
        is_internal,
    };
    named.map(exchange).collect()
}

/// What every announcement goes through only hands it on.
fn kind_of(exchange: &str) -> ExchangeKind {
    let hands_on = [Ingress::Tasks, Ingress::Subtasks, Ingress::Announced].map(Ingress::exchange);
    if exchange == TAP || hands_on.contains(&exchange) {
        ExchangeKind::Fanout
    } else {
        ExchangeKind::Topic
    }
}

fn shared_queues(queues: &[QueueName]) -> Vec<Queue> {
    let quorum = [SUBMISSIONS, SIGNALS, DEAD, UNROUTED, DEATHS, FLAGS];
    let quorum = quorum.map(|name| Queue {
        name: name.to_owned(),
        kind: QueueKind::Quorum,
    });
    let history = Queue {
        name: HISTORY.to_owned(),
        kind: QueueKind::Stream,
    };
    let work = queues.iter().map(|queue| Queue {
        name: work_queue(queue),
        kind: QueueKind::Quorum,
    });
    quorum.into_iter().chain([history]).chain(work).collect()
}

fn bindings(queues: &[QueueName]) -> Vec<Binding> {
    let exchange = |name: &str| Destination::Exchange(name.to_owned());
    let queue = |name: &str| Destination::Queue(name.to_owned());
    let mut bindings = vec![
        binding(Ingress::Tasks.exchange(), exchange(ROUTE), "#"),
        binding(Ingress::Subtasks.exchange(), exchange(ROUTE), "#"),
        binding(Ingress::Submissions.exchange(), queue(SUBMISSIONS), "#"),
        binding(Ingress::Signals.exchange(), queue(SIGNALS), "#"),
        binding(Ingress::Control.exchange(), exchange(NUDGE), "executor.*"),
        binding(DEAD, queue(DEAD), "#"),
        binding(UNROUTED, queue(UNROUTED), "#"),
        binding(DEAD, queue(FLAGS), "#"),
        binding(UNROUTED, queue(FLAGS), "#"),
        binding(DEATHS, queue(DEATHS), "dead.*"),
        binding(TAP, queue(HISTORY), "#"),
    ];
    // Not `Submissions`: they carry payloads, and a tap sees none. What is stored is announced as created.
    // Not `Tasks` and `Subtasks`: what is announced there one by one is told to taps in packs.
    let tapped = [
        (Ingress::Announced, "#"),
        (Ingress::Results, "#"),
        // Not `signal.#`: these carry payloads as well.
        (Ingress::Signals, "cancel.#"),
        (Ingress::Signals, "abandon.#"),
        (Ingress::Signals, "signalled.#"),
        (Ingress::Control, "#"),
    ];
    bindings.extend(tapped.map(|(ingress, key)| binding(ingress.exchange(), exchange(TAP), key)));
    bindings.extend(queues.iter().map(work_binding));
    bindings
}

fn binding(source: &str, destination: Destination, key: &str) -> Binding {
    Binding {
        source: source.to_owned(),
        destination,
        key: key.to_owned(),
    }
}

fn policies() -> Vec<Policy> {
    let exchange_policy = |name, pattern, alternate: &str| Policy {
        name,
        pattern,
        apply_to: "exchanges",
        definition: json!({"alternate-exchange": alternate}),
    };
    let queue_policy = |name, pattern, definition| Policy {
        name,
        pattern,
        apply_to: "queues",
        definition,
    };
    vec![
        exchange_policy("longshore-route", r"^longshore\.route$", UNROUTED),
        exchange_policy(
            "longshore-nudge",
            r"^longshore\.nudge$",
            Ingress::Signals.exchange(),
        ),
        queue_policy(
            "longshore-shared",
            r"^longshore\.(work\..+|submissions|signals)$",
            shared_policy(),
        ),
        queue_policy(
            "longshore-kept",
            r"^longshore\.(dead|unrouted|deaths)$",
            // Read by people and by housekeeping: the newest matter.
            json!({"delivery-limit": 1_000_000, "overflow": "drop-head", "max-length": 1_000_000,
                   "queue-leader-locator": "balanced"}),
        ),
        queue_policy(
            "longshore-flags",
            r"^longshore\.flags$",
            // Hints: of a flood the newest are enough.
            json!({"delivery-limit": 1_000_000, "overflow": "drop-head", "max-length": 10_000,
                   "queue-leader-locator": "balanced"}),
        ),
        queue_policy(
            "longshore-own",
            r"^longshore\.(web|executor)\.",
            // Hints for one process: when it is stuck they shall cost the broker little.
            json!({"message-ttl": 60_000, "max-length": 20_000, "overflow": "drop-head", "expires": 600_000}),
        ),
        queue_policy(
            "longshore-history",
            r"^longshore\.history$",
            json!({"max-age": "7D", "max-length-bytes": 5_000_000_000_u64,
                   "stream-max-segment-size-bytes": 100_000_000, "queue-leader-locator": "balanced"}),
        ),
    ]
}

/// The delivery limit is said here because RabbitMQ 3.10 has none by itself; `reject-publish` is what makes
/// dead-lettering at least once possible.
fn shared_policy() -> Value {
    json!({
        "delivery-limit": 20,
        "dead-letter-exchange": DEAD,
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
        "max-length": 1_000_000,
        "max-length-bytes": 2_147_483_648_u64,
        "queue-leader-locator": "balanced",
    })
}

const NOTHING: &str = "^$";

const ROLES: [Role; 6] = [
    Role {
        user: "longshore-web",
        configure: r"^longshore\.web\..+$",
        write: r"^longshore\.(tasks|announced|signals|web\..+)$",
        read: r"^longshore\.(results|history|web\..+)$",
        tags: "",
    },
    Role {
        user: "longshore-executor",
        configure: r"^longshore\.executor\..+$",
        write: r"^longshore\.(results|subtasks|announced|signals|control|deaths|executor\..+)$",
        read: r"^longshore\.(work\..+|submissions|signals|deaths|flags|control|nudge|executor\..+)$",
        tags: "",
    },
    Role {
        user: "longshore-client",
        configure: NOTHING,
        write: r"^longshore\.(submissions|signals)$",
        read: NOTHING,
        tags: "",
    },
    Role {
        user: "longshore-tap",
        configure: NOTHING,
        write: NOTHING,
        read: r"^longshore\.history$",
        tags: "",
    },
    Role {
        user: "longshore-operator",
        configure: r"^longshore\.work\..+$",
        write: r"^longshore\.(tasks|announced|signals|control|work\..+)$",
        read: r"^longshore\.(route|dead|unrouted|history)$",
        tags: "monitoring",
    },
    Role {
        user: "longshore-admin",
        configure: ".*",
        write: ".*",
        read: ".*",
        tags: "administrator",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_with_an_alternate_is_never_tapped_itself() {
        let topology = topology(&[QueueName::default_queue()]);
        for guarded in [ROUTE, NUDGE] {
            let is_tapped = topology.bindings.iter().any(|binding| {
                binding.source == guarded
                    && binding.destination == Destination::Exchange(TAP.to_owned())
            });
            assert!(!is_tapped, "{guarded}");
        }
    }

    #[test]
    fn all_that_a_fanout_is_bound_to_wants_everything() {
        let topology = topology(&[QueueName::default_queue()]);
        for exchange in &topology.exchanges {
            let mut from_it = topology.bindings.iter();
            let selects =
                from_it.any(|binding| binding.source == exchange.name && binding.key != "#");
            assert!(
                !selects || exchange.kind == ExchangeKind::Topic,
                "{exchange:?}"
            );
        }
    }

    #[test]
    fn topic_patterns_match_as_the_broker_does() {
        for (pattern, key) in [
            ("#", ""),
            ("#", "a.b"),
            ("a.#", "a"),
            ("a.#", "a.b.c"),
            ("*.b.#", "a.b"),
            ("#.c", "a.b.c"),
            ("#.b.#.d", "a.b.b.c.d"),
            ("a.*.c", "a.b.c"),
            ("#.#", "a"),
        ] {
            assert!(topic_matches(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("*", ""),
            ("a", "b"),
            ("a.*", "a"),
            ("a.*.c", "a.c"),
            ("#.b", "b.c"),
            ("a", "a.b"),
        ] {
            assert!(!topic_matches(pattern, key), "{pattern} {key}");
        }
    }

    #[test]
    fn every_pattern_of_a_role_is_anchored() {
        for role in ROLES.iter().filter(|role| role.tags != "administrator") {
            for pattern in [role.configure, role.write, role.read] {
                assert!(
                    pattern.starts_with('^') && pattern.ends_with('$'),
                    "{}: {pattern}",
                    role.user
                );
            }
        }
    }

    #[test]
    fn every_binding_joins_what_exists() {
        let topology = topology(&[QueueName::default_queue()]);
        for binding in &topology.bindings {
            assert!(
                topology
                    .exchanges
                    .iter()
                    .any(|exchange| exchange.name == binding.source)
            );
            let exists = match &binding.destination {
                Destination::Exchange(name) => {
                    topology.exchanges.iter().any(|one| one.name == name)
                }
                Destination::Queue(name) => topology.queues.iter().any(|one| one.name == *name),
            };
            assert!(exists, "{binding:?}");
        }
    }
}
