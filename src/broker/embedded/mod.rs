//! A broker in this process: the same `topology`, bounded queues, nothing on disk.

mod routes;
mod shelf;
mod switch;

pub use shelf::HISTORY_LENGTH_MAX;

use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{Broker, BrokerError, Credit, Deliveries, Health, Message, Promises, Source, topology};
use crate::background::Background;
use crate::domain::QueueName;
use switch::{Shared, Switch, lock};

/// Places between the broker and one consumer: as many as credit can ask for, so that handing over never
/// waits. A place costs nothing until it is used, and credit bounds the use.
const ROOM: usize = Credit::MAX as usize;

/// A broker in this process. What it holds ends with it.
#[derive(Debug)]
pub struct EmbeddedBroker {
    switch: Arc<Shared>,
    health: watch::Sender<Health>,
    background: Background,
}

impl EmbeddedBroker {
    /// An empty broker with the shared queues and the work queue `default`.
    pub fn new() -> Arc<Self> {
        let topology = topology::topology(&[QueueName::default_queue()]);
        Arc::new(Self {
            switch: Arc::new_cyclic(|me| Mutex::new(Switch::new(Weak::clone(me), &topology))),
            health: watch::Sender::new(Health::Up),
            background: Background::new(),
        })
    }

    /// How many messages of a broker queue nobody holds; `None` when there is no such queue.
    pub fn depth(&self, queue: &str) -> Option<usize> {
        lock(&self.switch).depth(queue)
    }

    /// How many messages of a broker queue its consumers hold.
    pub fn lent(&self, queue: &str) -> usize {
        lock(&self.switch).lent(queue)
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    fn promises(&self) -> Promises {
        Promises {
            survives_restart: false,
            announces: true,
        }
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn identity(&self) -> Option<String> {
        Some(concat!("embedded ", env!("CARGO_PKG_VERSION")).to_owned())
    }

    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let mut switch = lock(&self.switch);
        let publish = |message| switch.publish(message);
        messages.into_iter().map(publish).collect()
    }

    async fn consume(&self, source: Source, credit: Credit) -> Result<Deliveries, BrokerError> {
        let (deliveries, outgoing, mut asked) = Deliveries::new(credit, ROOM);
        let id = lock(&self.switch).consume(&source, credit, outgoing)?;
        let switch = Arc::downgrade(&self.switch);
        let stop = self.background.stop_token();
        self.background.spawn(async move {
            let follow = async {
                while asked.changed().await.is_ok() {
                    let credit = *asked.borrow_and_update();
                    let Some(switch) = switch.upgrade() else {
                        return;
                    };
                    lock(&switch).set_credit(id, credit);
                }
                if let Some(switch) = switch.upgrade() {
                    lock(&switch).end(id);
                }
            };
            // Closing ends all consumers by itself: then there is nothing left to follow.
            stop.run_until_cancelled(follow).await;
        });
        Ok(deliveries)
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), BrokerError> {
        lock(&self.switch).create_queue(queue);
        Ok(())
    }

    async fn close(&self) {
        lock(&self.switch).close();
        self.health
            .send_replace(Health::Down("it was closed".to_owned()));
        self.background.stop();
        self.background.ended().await;
    }
}
