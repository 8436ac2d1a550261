//! The canary: a message of this process to itself. It proves that the broker takes messages and brings them, which a
//! connection that is merely open does not.
//!
//! Its queue and its exchange are this process's own, and go with the connection. Nothing is sent before somebody asks, so
//! an idle process costs the broker nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer, ExchangeKind};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use uuid::Uuid;

use super::super::topology;
use super::link::Link;
use super::trouble::Trouble;
use crate::background::Background;
use crate::clock::Clock;

/// How long a canary may be under way: longer than a busy broker takes, and shorter than a probe waits as a rule.
const FLIGHT_DURATION_MAX: Duration = Duration::from_secs(2);

/// How long a proof holds, so that many who ask cost no more than one.
const PROOF_DURATION: Duration = Duration::from_secs(1);

/// What sends canaries, and waits for them.
#[derive(Debug)]
pub(super) struct Canary {
    /// The name of its queue and of its exchange.
    name: String,
    clock: Arc<dyn Clock>,
    /// Held as long as a canary is under way.
    nest: Arc<Mutex<Option<Nest>>>,
}

/// What a canary flies from and to, on one link.
#[derive(Debug)]
struct Nest {
    /// Which link it is; whoever uses it keeps it.
    link: Weak<Link>,
    publish: Channel,
    consumer: Consumer,
    /// The number of the last canary.
    last: u64,
    /// When one came back.
    proven_at: Option<Duration>,
}

impl Canary {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            name: topology::canary(Uuid::new_v4()),
            clock,
            nest: Arc::default(),
        }
    }

    /// Sends a canary over `link`, and returns when it is back.
    ///
    /// It is followed to its end among `users`, also when nobody waits any more: a call that is dropped while an alarm holds
    /// its connection back costs the connection.
    ///
    /// # Errors
    ///
    /// It did not come back, or could not be sent.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn prove(&self, link: &Arc<Link>, users: &Background) -> Result<(), Trouble> {
        let proof = async {
            let nest = Arc::clone(&self.nest).lock_owned().await;
            let (says_so, proven) = oneshot::channel();
            let (name, clock, link) =
                (self.name.clone(), Arc::clone(&self.clock), Arc::clone(link));
            let stop = users.clone();
            users.spawn(async move {
                let proof = tokio::select! {
                    proof = fly(nest, &name, &link, &*clock) => proof,
                    () = link.failed() => Err(Trouble::Link(link.reason())),
                    () = stop.stopping() => return,
                };
                // Who does not wait any more does not want to know.
                drop(says_so.send(proof));
            });
            let is_over = |_| Trouble::Link("it was closed".to_owned());
            proven.await.map_err(is_over)?
        };
        tokio::select! {
            proof = proof => proof,
            () = self.clock.sleep(FLIGHT_DURATION_MAX) => Err(Trouble::Link(format!(
                "a message to ourselves did not come back in {FLIGHT_DURATION_MAX:?}"
            ))),
        }
    }
}

/// Lets a canary fly, unless one has just come back.
async fn fly(
    mut kept: OwnedMutexGuard<Option<Nest>>,
    name: &str,
    link: &Arc<Link>,
    clock: &dyn Clock,
) -> Result<(), Trouble> {
    // Taken out meanwhile: one on which something went wrong is not used again.
    let found = kept.take();
    let mut nest = match found.filter(|nest| nest.link.ptr_eq(&Arc::downgrade(link))) {
        Some(nest) => nest,
        None => Nest::on(link, name).await?,
    };
    if !nest.is_proven(clock.monotonic()) {
        nest.fly(name).await?;
        nest.proven_at = Some(clock.monotonic());
    }
    *kept = Some(nest);
    Ok(())
}

impl Nest {
    /// Makes the exchange and the queue, and consumes.
    async fn on(link: &Arc<Link>, name: &str) -> Result<Self, Trouble> {
        let channel = link.consuming_channel().await?;
        let exchange = ExchangeDeclareOptions {
            auto_delete: true,
            ..ExchangeDeclareOptions::default()
        };
        let (name, nothing) = (|| name.into(), FieldTable::default);
        link.call(channel.exchange_declare(name(), ExchangeKind::Fanout, exchange, nothing()))
            .await?;
        let queue = QueueDeclareOptions::exclusive().auto_delete();
        link.call(channel.queue_declare(name(), queue, nothing()))
            .await?;
        let bind = QueueBindOptions::default();
        link.call(channel.queue_bind(name(), name(), "".into(), bind, nothing()))
            .await?;
        let consume = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = link
            .call(channel.basic_consume(name(), "canary".into(), consume, nothing()))
            .await?;
        Ok(Self {
            link: Arc::downgrade(link),
            publish: link.own_publishing_channel().await?,
            consumer,
            last: 0,
            proven_at: None,
        })
    }

    fn is_proven(&self, now: Duration) -> bool {
        self.proven_at
            .is_some_and(|at| now.saturating_sub(at) < PROOF_DURATION)
    }

    async fn fly(&mut self, exchange: &str) -> Result<(), Trouble> {
        self.last += 1;
        let number = self.last.to_string();
        // Not confirmed: its arrival says more.
        let publish = self.publish.basic_publish(
            exchange.into(),
            "".into(),
            BasicPublishOptions::default(),
            number.as_bytes(),
            BasicProperties::default(),
        );
        publish.await?;
        while let Some(delivery) = self.consumer.next().await {
            if delivery?.data == number.as_bytes() {
                return Ok(());
            }
        }
        Err(Trouble::Channel(
            "the consumer of our messages to ourselves ended".to_owned(),
        ))
    }
}
