//! RabbitMQ by AMQP 0-9-1. The only place that names `lapin`.
//!
//! A link is a pair of connections. On the first error of anything the link is dropped and a new one is opened:
//! lapin's own recovery stays off, because it tells nobody that deliveries in hand have become worthless, and
//! because it can stay away for ever. Consumers and the publisher follow the links.
//!
//! Source: <https://www.rabbitmq.com/docs/confirms>, <https://www.rabbitmq.com/docs/consumer-prefetch>.

mod canary;
mod consumer;
mod credit;
mod link;
mod publisher;
mod status;
mod supervisor;
mod token;
mod trouble;
mod unacked;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Broker, BrokerError, Credit, Deliveries, Health, Message, Promises, Source, topology};
use crate::background::Background;
use crate::clock::Clock;
use crate::domain::QueueName;
use crate::domain::limits::MESSAGE_BYTES_MAX;
use canary::Canary;
use consumer::Consumer;
use link::Link;
use publisher::{PUBLISHES_WAITING_MAX, Publisher, Request};
use status::Status;
use supervisor::Supervisor;
use trouble::Trouble;

/// Places between the broker and one consumer: as many as credit can ask for, so that handing over never
/// waits. A place costs nothing until it is used, and credit bounds the use.
const ROOM: usize = Credit::MAX as usize;

/// How long closing may take altogether.
const CLOSE_DURATION_MAX: Duration = Duration::from_secs(5);

/// Bytes of a routing key or a message id (AMQP 0-9-1, section 4.2.5.3).
const SHORT_BYTES_MAX: usize = 255;

/// What there is to use.
#[derive(Debug, Clone)]
enum Links {
    Up(Arc<Link>),
    Down(String),
}

/// A RabbitMQ broker, or the wait for one.
#[derive(Debug)]
pub struct AmqpBroker {
    links: watch::Receiver<Links>,
    status: Arc<Status>,
    requests: mpsc::Sender<Request>,
    /// The publisher and the consumers.
    users: Background,
    clock: Arc<dyn Clock>,
    last_consumer: AtomicU64,
    canary: Canary,
}

impl AmqpBroker {
    /// Connects to `url` (`amqp://USER:PASSWORD@HOST:5672/VHOST`) as `name`, which the broker shows to people.
    ///
    /// When the broker is away it answers all the same: [`Broker::health`] is down and says why, and it goes on
    /// trying. What it starts ends with `background`: give it one that ends after whoever publishes.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Address`]: `url` cannot be one; [`BrokerError::Denied`]: wrong user, password or virtual
    /// host.
    pub async fn connect(
        url: &str,
        name: &str,
        clock: Arc<dyn Clock>,
        background: &Background,
    ) -> Result<Arc<Self>, BrokerError> {
        super::install_tls();
        let uri = link::parse(url)?;
        let first = Link::open(&uri, name, &clock).await.map(Arc::new);
        if let Err(refused) = &first
            && !refused.is_transient()
        {
            return Err(refused.clone());
        }
        let status = Arc::new(Status::new());
        let users = background.part();
        let (sender, links) = watch::channel(Links::Down("not connected yet".to_owned()));
        let supervisor = Supervisor {
            uri,
            name: name.to_owned(),
            clock: Arc::clone(&clock),
            status: Arc::clone(&status),
            links: sender,
            users: users.clone(),
        };
        let (requests, receiver) = mpsc::channel(PUBLISHES_WAITING_MAX);
        let publisher = Publisher {
            requests: receiver,
            links: links.clone(),
            status: Arc::clone(&status),
            clock: Arc::clone(&clock),
            stop: users.stop_token(),
        };
        supervisor.announce(&first);
        background.spawn(supervisor.run(first));
        users.spawn(publisher.run());
        Ok(Arc::new(Self {
            links,
            status,
            requests,
            users,
            canary: Canary::new(Arc::clone(&clock)),
            clock,
            last_consumer: AtomicU64::new(0),
        }))
    }

    fn link(&self) -> Result<Arc<Link>, BrokerError> {
        match &*self.links.borrow() {
            Links::Up(link) => Ok(Arc::clone(link)),
            Links::Down(reason) => Err(BrokerError::Unavailable {
                reason: reason.clone(),
            }),
        }
    }

    /// Hands a message to the publisher; answers with where its fate will be told.
    async fn hand_over(
        &self,
        message: Message,
    ) -> Result<oneshot::Receiver<Result<(), BrokerError>>, BrokerError> {
        check_length(message.body.len(), MESSAGE_BYTES_MAX)?;
        check_length(message.key.len(), SHORT_BYTES_MAX)?;
        check_length(message.id.len(), SHORT_BYTES_MAX)?;
        if let Some(reason) = self.status.silence() {
            return Err(BrokerError::Unavailable { reason });
        }
        let (answer, fate) = oneshot::channel();
        let request = Request { message, answer };
        self.requests
            .send(request)
            .await
            .map_err(|_| publisher::closed())?;
        Ok(fate)
    }

    async fn make_queue(&self, link: &Link, queue: &QueueName) -> Result<(), Trouble> {
        let channel = link.consuming_channel().await?;
        let binding = topology::work_binding(queue);
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        let name = topology::work_queue(queue);
        let options = QueueDeclareOptions::durable();
        link.call(channel.queue_declare(name.clone().into(), options, arguments))
            .await?;
        let bind = channel.queue_bind(
            name.into(),
            binding.source.into(),
            binding.key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        link.call(bind).await?;
        link.call(channel.close(200, "OK".into())).await
    }
}

fn check_length(bytes: usize, bytes_max: usize) -> Result<(), BrokerError> {
    if bytes > bytes_max {
        return Err(BrokerError::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

#[async_trait]
impl Broker for AmqpBroker {
    fn promises(&self) -> Promises {
        Promises {
            survives_restart: true,
            announces: true,
        }
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.status.subscribe()
    }

    /// The product only: lapin keeps the version that the server tells to itself.
    fn identity(&self) -> Option<String> {
        self.link().ok().map(|_| "RabbitMQ".to_owned())
    }

    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let mut fates = Vec::with_capacity(messages.len());
        for message in messages {
            fates.push(self.hand_over(message).await);
        }
        let mut results = Vec::with_capacity(fates.len());
        for fate in fates {
            results.push(match fate {
                Ok(fate) => fate.await.unwrap_or(Err(BrokerError::Unconfirmed)),
                Err(error) => Err(error),
            });
        }
        results
    }

    async fn consume(&self, source: Source, credit: Credit) -> Result<Deliveries, BrokerError> {
        if self.users.is_stopping() {
            return Err(publisher::closed());
        }
        let (deliveries, outgoing, asked) = Deliveries::new(credit, ROOM);
        let (first, outcome) = oneshot::channel();
        let consumer = Consumer {
            id: self.last_consumer.fetch_add(1, Ordering::Relaxed),
            source,
            outgoing,
            asked,
            links: self.links.clone(),
            status: Arc::clone(&self.status),
            clock: Arc::clone(&self.clock),
            stop: self.users.stop_token(),
            first: Some(first),
        };
        self.users.spawn(consumer.run());
        outcome.await.unwrap_or_else(|_| Err(publisher::closed()))?;
        Ok(deliveries)
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), BrokerError> {
        let link = self.link()?;
        self.make_queue(&link, queue)
            .await
            .map_err(Trouble::into_error)
    }

    async fn prove(&self) -> Result<(), BrokerError> {
        let link = self.link()?;
        let proof = self.canary.prove(&link, &self.users).await;
        proof.map_err(Trouble::into_error)
    }

    async fn close(&self) {
        self.users.stop();
        let mut links = self.links.clone();
        // The supervisor lets go of it when the connections are closed.
        let closed = async { while links.changed().await.is_ok() {} };
        tokio::select! {
            () = closed => {}
            () = self.clock.sleep(CLOSE_DURATION_MAX) => {}
        }
    }
}
