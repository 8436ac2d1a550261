//! What carries announcements, events and signals between processes. A message may be lost, doubled, delayed
//! or reordered: the store is the truth.
//!
//! Two backends, both passing `tests/it/contract/broker.rs`: [`embedded`] (in this process) and [`amqp`]
//! (RabbitMQ); and [`NoBroker`], for those who want none. Names, bindings, policies and permissions are in [`topology`].
//!
//! **Invariant:** `lapin` is named only in `broker/amqp`.

mod address;
pub mod amqp;
pub mod embedded;
mod error;
pub mod management;
mod none;
mod outgoing;
mod speaker;
pub mod topology;

use std::fmt;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

pub use address::BrokerAddress;
pub use error::BrokerError;
pub use none::NoBroker;
pub use outgoing::Outgoing;
pub use speaker::Speaker;

use crate::domain::{ExecutorId, OriginToken, QueueName, WebId};

/// The exchanges that programs publish to: one for each privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ingress {
    /// Flow 1, web to executor: task created. Its row is stored.
    Tasks,
    /// Flow 1, from somebody without the store: the whole task.
    Submissions,
    /// Flow 2, executor to web: suspended, paused, finished.
    Results,
    /// Flow 3, from outside: signal, cancel.
    Signals,
    /// Flow 4, executor to executor: sub-task created, task woken, retried, released.
    Subtasks,
    /// The announcements of flows 1 and 4 once more, for taps only: many in one message.
    Announced,
    /// An operator to executors, and nudges to the executor that runs a task.
    Control,
}

impl Ingress {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Tasks,
        Self::Submissions,
        Self::Results,
        Self::Signals,
        Self::Subtasks,
        Self::Announced,
        Self::Control,
    ];

    /// The exchange's name on the broker.
    pub const fn exchange(self) -> &'static str {
        match self {
            Self::Tasks => "longshore.tasks",
            Self::Submissions => "longshore.submissions",
            Self::Results => "longshore.results",
            Self::Signals => "longshore.signals",
            Self::Subtasks => "longshore.subtasks",
            Self::Announced => "longshore.announced",
            Self::Control => "longshore.control",
        }
    }
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub ingress: Ingress,
    /// The routing key: words joined by dots, at most 255 bytes.
    pub key: String,
    /// The message's id, for whoever receives it twice.
    pub id: String,
    /// What the body is.
    pub content: Content,
    /// JSON, UTF-8.
    pub body: Vec<u8>,
}

/// What a message's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// One event of CloudEvents in structured JSON.
    Event,
    /// A batch of them.
    Batch,
    /// Plain JSON.
    Json,
}

impl Content {
    /// The content type on the wire.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Event => "application/cloudevents+json",
            Self::Batch => "application/cloudevents-batch+json",
            Self::Json => "application/json",
        }
    }
}

/// Where deliveries come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The announcements of a queue, shared by all executors that serve it.
    Work(QueueName),
    /// Whole tasks from clients without the store, shared by all executors.
    Submissions,
    /// Signals and cancels, shared by all executors.
    Signals,
    /// Result events for one web server: a queue of its own, bound to its origin token. Made by `consume`;
    /// gone with the process.
    Results(WebId, OriginToken),
    /// Nudges to one executor and control messages to all: a queue of its own. Made by `consume`; gone with the
    /// process.
    Control(ExecutorId),
    /// The token of one executor, in a queue of its own: one delivery for each connection, to be held unsettled. When the
    /// consumer ends with the token in hand, however it ends, a notice of it goes to [`Source::Deaths`]. Settled, it is
    /// forgotten. Made by `consume`.
    Token(ExecutorId),
    /// Notices of executors whose connection ended with the token in hand, shared by all executors: the routing key says
    /// whose, see [`topology::dead_executor`].
    Deaths,
    /// What the broker gave up on, once more, shared by all executors. By the exchange [`topology::DEAD`] comes what is dead; what
    /// comes by any other could not be routed.
    Flags,
    /// Every event there is, read without taking it away.
    History(Since),
}

impl Source {
    /// Whose token it is, if it is one.
    pub(crate) const fn token_of(&self) -> Option<ExecutorId> {
        if let Self::Token(executor) = self {
            Some(*executor)
        } else {
            None
        }
    }
}

/// Where a reader of the history begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Since {
    /// With what comes next.
    Next,
    /// With the oldest that is kept.
    First,
    /// With this offset.
    Offset(u64),
}

/// How many deliveries a consumer may hold unsettled.
pub type Credit = u16;

/// Whether the broker can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Connected, and everything that was asked for is consumed.
    Up,
    /// Connected, but the broker takes no messages (memory or disk alarm). Deliveries go on.
    Blocked(String),
    /// Not connected; the reason, for people. It is tried again by itself.
    Down(String),
}

/// Makes `ring` do the cryptography of every TLS connection of this process, unless something was chosen before.
///
/// Several libraries would otherwise each choose for themselves, or refuse to choose.
pub fn install_tls() {
    // An error says that somebody was first, and that is as well.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// What a broker promises beyond the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promises {
    /// Messages in shared queues outlive this process.
    pub survives_restart: bool,
    /// What is published arrives somewhere; without a broker nothing does.
    pub announces: bool,
}

/// What carries messages.
///
/// It reconnects by itself, with pauses that grow, and takes up every consumer again; [`Broker::health`]
/// tells. After a reconnect, deliveries that were not settled come again.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync + 'static {
    /// What it promises beyond the contract.
    fn promises(&self) -> Promises;

    /// Whether it can be used, now and from now on.
    fn health(&self) -> watch::Receiver<Health>;

    /// Its name, for people: `RabbitMQ`; `None` while it is away.
    fn identity(&self) -> Option<String>;

    /// Publishes messages, pipelined; answers in order once the broker has taken charge of each, or not.
    ///
    /// Bounded: at most `PUBLISHES_IN_FLIGHT_MAX` wait for their confirms, further callers wait for a place; a
    /// confirm that does not come in time is [`BrokerError::Unconfirmed`]. While the broker is away it answers
    /// [`BrokerError::Unavailable`] at once. Never tries again by itself: whoever published knows whether
    /// it matters.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have published any part.
    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>>;

    /// Begins to consume; at most `credit` deliveries are unsettled at a time. A `credit` of 0 consumes nothing
    /// until it is raised.
    ///
    /// # Errors
    ///
    /// [`BrokerError::NoQueue`]: a shared queue does not exist; [`BrokerError::Denied`]: no right to it. While
    /// the broker is away the consumer is kept, and begins when it is back.
    async fn consume(&self, source: Source, credit: Credit) -> Result<Deliveries, BrokerError>;

    /// Makes the work queue of `queue` and its binding. Idempotent.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Denied`]: the user may not; [`BrokerError::Unavailable`].
    async fn create_queue(&self, queue: &QueueName) -> Result<(), BrokerError>;

    /// Proves that messages are taken and brought: sends one to this process itself, and returns when it has come. A broker
    /// within this process, and none at all, need no proof. Asked often, it is done once a second at most.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Unavailable`]: it did not come in 2 s, or the broker is away or takes no messages;
    /// [`BrokerError::Denied`]: the user has not the rights of a web server.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    async fn prove(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Waits for publishes that are under way, ends every consumer and lets go of the connections.
    async fn close(&self);
}

/// A message that the broker lends to this process.
///
/// It is settled once, by value. A delivery that is dropped unsettled stays lent until its consumer ends,
/// and comes again.
///
/// ```compile_fail
/// fn twice(delivery: longshore::broker::Delivery) {
///     delivery.ack();
///     delivery.ack();
/// }
/// ```
#[must_use = "an unsettled delivery holds one credit of its consumer"]
pub struct Delivery {
    /// The exchange it was published to.
    pub exchange: String,
    /// Its routing key.
    pub key: String,
    /// The id that its publisher gave it.
    pub message_id: Option<String>,
    /// The content type that its publisher gave it.
    pub content_type: Option<String>,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether it was lent before.
    pub is_redelivered: bool,
    /// Its place in the history; only from [`Source::History`].
    pub offset: Option<u64>,
    settle: Box<dyn Settle>,
}

/// How a backend takes a delivery back. Returns at once: nothing that matters depends on it.
pub(crate) trait Settle: Send {
    /// The delivery is done with.
    fn ack(self: Box<Self>);
    /// The delivery can never be used: to `longshore.dead`, with `reason` in the broker's words.
    fn reject(self: Box<Self>);
}

impl Delivery {
    /// Tells the broker to forget it. Queued, not awaited: an acknowledgement is only flow control.
    pub fn ack(self) {
        self.settle.ack();
    }

    /// Tells the broker to put it into `longshore.dead`: nobody can ever use it.
    pub fn reject(self) {
        self.settle.reject();
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.body.len();
        f.debug_struct("Delivery")
            .field("exchange", &self.exchange)
            .field("key", &self.key)
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

/// A consumer: the deliveries of one source, across reconnects. Ends when it is dropped.
#[derive(Debug)]
pub struct Deliveries {
    incoming: mpsc::Receiver<Delivery>,
    credit: watch::Sender<Credit>,
}

impl Deliveries {
    /// A consumer for a backend to feed: what the backend sends arrives here; the credit that is asked for
    /// arrives there, and the end of that channel is the end of the consumer.
    ///
    /// `room` is how many deliveries may lie in it: as many as there can ever be credit, if handing over must not wait.
    pub fn new(
        credit: Credit,
        room: usize,
    ) -> (Self, mpsc::Sender<Delivery>, watch::Receiver<Credit>) {
        let (sender, incoming) = mpsc::channel(room.max(1));
        let (credit, asked) = watch::channel(credit);
        (Self { incoming, credit }, sender, asked)
    }

    /// The next delivery; `None` once the broker was closed.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped call takes nothing.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.incoming.recv().await
    }

    /// Asks for another credit. Takes effect soon; deliveries in hand stay in hand.
    pub fn set_credit(&self, credit: Credit) {
        self.credit.send_if_modified(|asked| {
            let is_new = *asked != credit;
            *asked = credit;
            is_new
        });
    }
}
