//! The one task that publishes. lapin numbers publishes and queues their frames under different locks, so a
//! channel with confirms must have one owner.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::{BrokerError, Ingress, Message};
use super::Links;
use super::link::Link;
use super::status::Status;
use super::trouble::Trouble;
use crate::clock::{Clock, Pauses};

/// Publishes that may wait for their confirms. From 512 on the broker is as fast as it gets; each costs us its
/// body until it is confirmed.
pub(super) const PUBLISHES_IN_FLIGHT_MAX: usize = 512;

/// Publishes that may wait for a place in flight; further callers wait to hand over.
pub(super) const PUBLISHES_WAITING_MAX: usize = 512;

/// How long a confirm may take. A quorum queue that elects a leader takes some seconds.
const CONFIRM_DURATION_MAX: Duration = Duration::from_secs(10);

/// How often confirms are looked at for being late.
const LATE_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// After so many refusals in a row the channel is opened anew: on RabbitMQ 3.10 a channel that was opened while
/// a queue had no leader refuses for ever.
const NACKS_IN_A_ROW_MAX: u32 = 3;

/// The delivery mode of messages that a broker writes to its disk.
const PERSISTENT: u8 = 2;

/// A message, and who waits for what becomes of it.
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) answer: oneshot::Sender<Result<(), BrokerError>>,
}

struct InFlight {
    answer: oneshot::Sender<Result<(), BrokerError>>,
    ingress: Ingress,
    since: Duration,
}

/// Why a channel is not used any longer.
enum End {
    /// Nobody will publish any more.
    Closed,
    /// The link is broken.
    Link,
    /// The broker closed the channel, or keeps refusing on it.
    Channel,
}

/// The task that publishes.
pub(super) struct Publisher {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) links: watch::Receiver<Links>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when the publisher shall finish what it has, and end.
    pub(super) stop: CancellationToken,
}

impl Publisher {
    /// Publishes until it shall stop; then answers everybody who still waits.
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::new(&self.clock);
        while let Some(link) = self.link().await {
            let Ok(channel) = confirming_channel(&link).await else {
                if !link.is_failed() {
                    self.refuse_during(pauses.next()).await;
                }
                continue;
            };
            pauses.reset();
            let end = self.publish_on(&link, &channel).await;
            if !link.is_failed() {
                // Whether it closes well or not, it is not used again.
                drop(link.call(channel.close(200, "OK".into())).await);
            }
            if matches!(end, End::Closed) {
                break;
            }
        }
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            answer(request.answer, Err(closed()));
        }
    }

    /// The link, once there is one; until then everybody is told that there is none. `None`: stop.
    async fn link(&mut self) -> Option<Arc<Link>> {
        loop {
            let links = self.links.borrow_and_update().clone();
            let reason = match links {
                Links::Up(link) if !link.is_failed() => return Some(link),
                Links::Up(link) => link.reason(),
                Links::Down(reason) => reason,
            };
            tokio::select! {
                changed = self.links.changed() => changed.ok()?,
                request = self.requests.recv() => {
                    let error = BrokerError::Unavailable { reason };
                    answer(request?.answer, Err(error));
                }
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Waits; who wants to publish meanwhile is told that it does not work.
    async fn refuse_during(&mut self, pause: Duration) {
        let mut pause = self.clock.sleep(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                () = self.stop.cancelled() => return,
                Some(request) = self.requests.recv() => {
                    let reason = "no channel to publish on".to_owned();
                    answer(request.answer, Err(BrokerError::Unavailable { reason }));
                }
            }
        }
    }

    async fn publish_on(&mut self, link: &Link, channel: &Channel) -> End {
        let mut confirms = FuturesUnordered::new();
        let mut waiting = Waiting::default();
        let mut incoming = Vec::with_capacity(PUBLISHES_IN_FLIGHT_MAX);
        let mut late_look = self.clock.sleep(LATE_LOOK_INTERVAL);
        let mut end = None;
        let mut refusals = 0;
        let mut blocked_at = None;
        loop {
            if let Some(end) = end.take_if(|_| waiting.is_empty()) {
                return end;
            }
            // What hangs on a blocked connection keeps its place until it is confirmed after all.
            let room = PUBLISHES_IN_FLIGHT_MAX.saturating_sub(confirms.len());
            tokio::select! {
                biased;
                Some((number, outcome)) = confirms.next(), if !confirms.is_empty() => {
                    let mut done = Some((number, outcome));
                    // One turn for all that have come by now.
                    while let Some((number, outcome)) = done {
                        if let Some(next) = waiting.settle(number, outcome, &mut refusals, link) {
                            end.get_or_insert(next);
                        }
                        done = confirms.next().now_or_never().flatten();
                    }
                }
                taken = self.requests.recv_many(&mut incoming, room), if room > 0 && end.is_none() => {
                    if taken == 0 {
                        end = Some(End::Closed);
                    }
                    let now = self.clock.monotonic();
                    let silence = self.status.silence();
                    for request in incoming.drain(..) {
                        if let Some(reason) = silence.clone() {
                            answer(request.answer, Err(BrokerError::Unavailable { reason }));
                            continue;
                        }
                        let number = waiting.add(request.answer, request.message.ingress, now);
                        confirms.push(async move {
                            (number, publish_one(channel, request.message).await)
                        });
                    }
                }
                () = link.failed() => {
                    waiting.give_up(&BrokerError::Unconfirmed);
                    return End::Link;
                }
                () = self.stop.cancelled(), if !self.requests.is_closed() => self.requests.close(),
                () = &mut late_look, if !waiting.is_empty() => {
                    late_look = self.clock.sleep(LATE_LOOK_INTERVAL);
                    let now = self.clock.monotonic();
                    if self.status.is_blocked() {
                        blocked_at = Some(now);
                    }
                    let is_late = waiting.give_up_late(now);
                    // What was held back by an alarm is not late through the link's fault, nor just after it.
                    let is_excused =
                        blocked_at.is_some_and(|at| now.saturating_sub(at) < CONFIRM_DURATION_MAX);
                    if is_late && !is_excused {
                        link.fail("it did not confirm a message in time");
                    }
                }
            }
        }
    }
}

/// Those who wait for a confirm, oldest first.
#[derive(Default)]
struct Waiting {
    by_number: BTreeMap<u64, InFlight>,
    last: u64,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    fn add(
        &mut self,
        answer: oneshot::Sender<Result<(), BrokerError>>,
        ingress: Ingress,
        since: Duration,
    ) -> u64 {
        self.last += 1;
        let in_flight = InFlight {
            answer,
            ingress,
            since,
        };
        self.by_number.insert(self.last, in_flight);
        self.last
    }

    /// Answers for one publish. Answers also why the channel cannot be used further, if so.
    fn settle(
        &mut self,
        number: u64,
        outcome: lapin::Result<Confirmation>,
        refusals: &mut u32,
        link: &Link,
    ) -> Option<End> {
        let in_flight = self.by_number.remove(&number);
        let (result, end) = match outcome.map_err(Trouble::from) {
            Ok(Confirmation::Ack(_)) => {
                *refusals = 0;
                (Ok(()), None)
            }
            Ok(Confirmation::Nack(_)) => {
                *refusals += 1;
                let end = (*refusals >= NACKS_IN_A_ROW_MAX).then_some(End::Channel);
                (Err(BrokerError::Refused), end)
            }
            Ok(Confirmation::NotRequested) => (Err(BrokerError::Unconfirmed), Some(End::Channel)),
            Err(Trouble::Link(reason)) => {
                link.fail(&reason);
                (Err(BrokerError::Unconfirmed), Some(End::Link))
            }
            // The broker names one exchange, and closes the channel for all.
            Err(trouble) => {
                let is_meant = in_flight.as_ref().is_some_and(|one| {
                    let name = format!("'{}'", one.ingress.exchange());
                    trouble.reason().contains(&name)
                });
                let error = if is_meant {
                    trouble.into_error()
                } else {
                    BrokerError::Unconfirmed
                };
                (Err(error), Some(End::Channel))
            }
        };
        if let Some(in_flight) = in_flight {
            answer(in_flight.answer, result);
        }
        end
    }

    /// Answers to those who have waited too long; whether there were any.
    fn give_up_late(&mut self, now: Duration) -> bool {
        let mut is_late = false;
        while let Some(oldest) = self.by_number.first_entry() {
            if now.saturating_sub(oldest.get().since) < CONFIRM_DURATION_MAX {
                break;
            }
            is_late = true;
            answer(oldest.remove().answer, Err(BrokerError::Unconfirmed));
        }
        is_late
    }

    fn give_up(&mut self, error: &BrokerError) {
        for (_, in_flight) in std::mem::take(&mut self.by_number) {
            answer(in_flight.answer, Err(error.clone()));
        }
    }
}

async fn confirming_channel(link: &Link) -> Result<Channel, Trouble> {
    let channel = link.publishing_channel().await?;
    link.call(channel.confirm_select(ConfirmSelectOptions::default()))
        .await?;
    Ok(channel)
}

async fn publish_one(channel: &Channel, message: Message) -> lapin::Result<Confirmation> {
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.into())
        .with_content_type(message.content.content_type().into());
    let exchange = message.ingress.exchange().into();
    // `mandatory` would say nothing: a tap makes every message routed. Alternate exchanges catch what is not.
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish(
        exchange,
        message.key.into(),
        options,
        &message.body,
        properties,
    );
    publish.await?.await
}

fn answer(to: oneshot::Sender<Result<(), BrokerError>>, result: Result<(), BrokerError>) {
    // Who was dropped does not want to know.
    drop(to.send(result));
}

/// What is said once the broker was closed.
pub(super) fn closed() -> BrokerError {
    BrokerError::Unavailable {
        reason: "it was closed".to_owned(),
    }
}
