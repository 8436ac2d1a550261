//! The broker as one simulated process sees it: the embedded one, behind a network.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use longshore::broker::{
    Broker, BrokerError, Credit, Deliveries, Delivery, Health, Message, Promises, Source,
};
use longshore::domain::QueueName;
use tokio::sync::{mpsc, watch};

use super::hub::Hub;
use super::network::MessageFate;
use super::process::Process;

/// How long a connection attempt waits before it looks again.
const RECONNECT: Duration = Duration::from_millis(100);

/// The broker of one process.
pub(super) struct SimBroker {
    hub: Arc<Hub>,
    process: Arc<Process>,
    health: watch::Sender<Health>,
}

/// One consumer of one process, across connections.
struct Pump {
    hub: Arc<Hub>,
    process: Arc<Process>,
    source: Source,
    outgoing: mpsc::Sender<Delivery>,
    asked: watch::Receiver<Credit>,
}

/// Why a connection is not consumed from any longer.
enum End {
    Broken,
    Gone,
}

impl SimBroker {
    pub(super) fn new(hub: &Arc<Hub>, process: &Arc<Process>) -> Self {
        Self {
            hub: Arc::clone(hub),
            process: Arc::clone(process),
            health: watch::Sender::new(Health::Up),
        }
    }

    /// Tells the process whether it is connected.
    pub(super) fn tell(&self) {
        let health = if is_away(&self.hub, &self.process) {
            Health::Down("it is away".to_owned())
        } else {
            Health::Up
        };
        self.health.send_replace(health);
    }

    async fn publish_one(&self, message: Message) -> Result<(), BrokerError> {
        let hub = &self.hub;
        let fate = {
            let mut chance = hub.chance();
            hub.network().of_message(&mut chance)
        };
        hub.published.fetch_add(1, Ordering::Relaxed);
        let (ingress, key) = (message.ingress.exchange(), message.key.clone());
        if fate != MessageFate::Arrives {
            hub.say(format_args!(
                "{} publish {ingress} {key}: {fate:?}",
                self.process.name
            ));
        }
        match fate {
            MessageFate::Dropped => Ok(()),
            MessageFate::Refused => Err(BrokerError::Refused),
            MessageFate::Arrives => arrive(hub, message).await,
            MessageFate::Unconfirmed => {
                arrive(hub, message).await?;
                Err(BrokerError::Unconfirmed)
            }
            MessageFate::Doubled(later) => {
                self.arrive_later(message.clone(), later);
                arrive(hub, message).await
            }
            MessageFate::Delayed(later) => {
                self.arrive_later(message, later);
                Ok(())
            }
        }
    }

    fn arrive_later(&self, message: Message, later: Duration) {
        let hub = Arc::clone(&self.hub);
        self.hub.background.spawn(async move {
            hub.pause(later).await;
            drop(arrive(&hub, message).await);
        });
    }
}

fn is_away(hub: &Hub, process: &Process) -> bool {
    hub.network().is_broker_away || process.state().is_cut_from_broker
}

async fn arrive(hub: &Hub, message: Message) -> Result<(), BrokerError> {
    let answers = hub.embedded.publish(vec![message]).await;
    answers.into_iter().collect()
}

#[async_trait]
impl Broker for SimBroker {
    fn promises(&self) -> Promises {
        self.hub.embedded.promises()
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn identity(&self) -> Option<String> {
        self.hub.embedded.identity()
    }

    async fn publish(&self, mut messages: Vec<Message>) -> Vec<Result<(), BrokerError>> {
        let call = self.hub.call(&self.process, "publish").await;
        let way = || {
            let mut chance = self.hub.chance();
            self.hub.network().way(&mut chance)
        };
        let there = way();
        self.hub.pause(there).await;
        let mut answers = Vec::with_capacity(messages.len());
        if is_away(&self.hub, &self.process) {
            let away = |_| {
                Err(BrokerError::Unavailable {
                    reason: "it is away".to_owned(),
                })
            };
            answers.extend(messages.iter().map(away));
        } else {
            if self.hub.network().delayed > 0 {
                self.hub.chance().shuffle(&mut messages);
            }
            for message in messages {
                answers.push(self.publish_one(message).await);
            }
        }
        let back = way();
        self.hub.pause(back).await;
        call.answered().await;
        answers
    }

    async fn consume(&self, source: Source, credit: Credit) -> Result<Deliveries, BrokerError> {
        let call = self.hub.call(&self.process, "consume").await;
        let (deliveries, outgoing, asked) = Deliveries::new(credit, usize::from(Credit::MAX));
        let first = if is_away(&self.hub, &self.process) {
            None
        } else {
            Some(self.hub.embedded.consume(source.clone(), credit).await?)
        };
        let pump = Pump {
            hub: Arc::clone(&self.hub),
            process: Arc::clone(&self.process),
            source,
            outgoing,
            asked,
        };
        self.hub.background.spawn(pump.run(first));
        call.answered().await;
        Ok(deliveries)
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), BrokerError> {
        let call = self.hub.call(&self.process, "create_queue").await;
        let answer = self.hub.embedded.create_queue(queue).await;
        call.answered().await;
        answer
    }

    /// The process ends in order; what it was lent goes back when its consumers are dropped.
    async fn close(&self) {
        self.process.break_link();
    }
}

impl Pump {
    /// Consumes until the process is gone, or wants no more. A dropped connection gives back what was lent by it: some
    /// of it is in the process's hands, and comes twice.
    async fn run(mut self, first: Option<Deliveries>) {
        let mut next = first;
        loop {
            let (link, dead) = (self.process.link(), self.process.dead.clone());
            let from = if let Some(from) = next.take() {
                from
            } else {
                tokio::select! {
                    biased;
                    () = dead.cancelled() => return,
                    () = self.outgoing.closed() => return,
                    from = self.connect() => from,
                }
            };
            let end = tokio::select! {
                biased;
                () = dead.cancelled() => End::Gone,
                () = link.cancelled() => End::Broken,
                end = self.carry(from) => end,
            };
            match end {
                End::Gone => return,
                End::Broken => {}
            }
        }
    }

    async fn connect(&self) -> Deliveries {
        loop {
            if !is_away(&self.hub, &self.process) {
                let credit = *self.asked.borrow();
                let source = self.source.clone();
                return self.hub.embedded.consume(source, credit).await.unwrap();
            }
            self.hub.pause(RECONNECT).await;
        }
    }

    async fn carry(&mut self, mut from: Deliveries) -> End {
        loop {
            tokio::select! {
                biased;
                changed = self.asked.changed() => {
                    if changed.is_err() {
                        return End::Gone;
                    }
                    from.set_credit(*self.asked.borrow_and_update());
                }
                delivery = from.next() => {
                    let Some(delivery) = delivery else { return End::Gone };
                    let way = {
                        let mut chance = self.hub.chance();
                        self.hub.network().of_delivery(&mut chance)
                    };
                    self.hub.pause(way).await;
                    self.process.gate().await;
                    if self.outgoing.send(delivery).await.is_err() {
                        return End::Gone;
                    }
                }
            }
        }
    }
}

impl fmt::Debug for SimBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimBroker")
            .field(&self.process.name)
            .finish()
    }
}
