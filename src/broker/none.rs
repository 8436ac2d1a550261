//! No broker at all: executors find ready tasks in the store.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use super::{Broker, BrokerError, Credit, Deliveries, Delivery, Health, Message, Promises, Source};
use crate::domain::QueueName;

/// A broker that takes every message and delivers none.
#[derive(Debug)]
pub struct NoBroker {
    health: watch::Sender<Health>,
    /// What keeps consumers waiting; without it they would end at once.
    consumers: Mutex<Vec<mpsc::Sender<Delivery>>>,
}

impl NoBroker {
    /// It needs nothing.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            health: watch::Sender::new(Health::Up),
            consumers: Mutex::default(),
        })
    }
}

#[async_trait]
impl Broker for NoBroker {
    fn promises(&self) -> Promises {
        Promises {
            survives_restart: false,
            announces: false,
        }
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn identity(&self) -> Option<String> {
        Some("no broker".to_owned())
    }

    async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        messages.into_iter().map(|_| Ok(())).collect()
    }

    async fn consume(&self, _: Source, credit: Credit) -> Result<Deliveries, BrokerError> {
        let (deliveries, sender, _) = Deliveries::new(credit, 1);
        let mut consumers = self
            .consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        consumers.retain(|consumer| !consumer.is_closed());
        consumers.push(sender);
        Ok(deliveries)
    }

    async fn create_queue(&self, _: &QueueName) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn close(&self) {
        self.consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
