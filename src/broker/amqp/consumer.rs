//! One consumer of the port: across links, channels and changes of credit.

use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::stream::{SelectAll, StreamExt};
use futures_util::{Stream, stream};
use lapin::Channel;
use lapin::message::Delivery as LapinDelivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::topology::{self, Binding, DEATHS, FLAGS, HISTORY, SIGNALS, SUBMISSIONS};
use super::super::{BrokerError, Credit, Delivery, Since, Source};
use super::Links;
use super::credit::{Step, Tag, step};
use super::link::Link;
use super::status::Status;
use super::token;
use super::trouble::Trouble;
use super::unacked::{GATHERED_FOR, Unacked};
use crate::clock::{Clock, Pauses, Sleep, passed};

/// The argument of a stream's consumer that says where to begin, and the header that says where one is.
const OFFSET: &str = "x-stream-offset";

/// What an AMQP consumer yields: deliveries, and at last `None`.
type Incoming =
    Pin<Box<dyn Stream<Item = (Arc<Tag>, Option<lapin::Result<LapinDelivery>>)> + Send>>;

/// One consumer of the port.
pub(super) struct Consumer {
    pub(super) id: u64,
    pub(super) source: Source,
    pub(super) outgoing: mpsc::Sender<Delivery>,
    pub(super) asked: watch::Receiver<Credit>,
    pub(super) links: watch::Receiver<Links>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Arc<dyn Clock>,
    /// Cancelled when the broker is closed.
    pub(super) stop: CancellationToken,
    /// Where whoever asked for it waits to hear whether it works; used once.
    pub(super) first: Option<oneshot::Sender<Result<(), BrokerError>>>,
}

/// Why a channel is not consumed from any longer.
enum End {
    /// Nobody wants deliveries any more.
    Done,
    /// Something went wrong; it is tried again.
    Trouble(Trouble),
}

impl Consumer {
    /// Consumes until nobody wants deliveries any more.
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::new(&self.clock);
        let mut is_logged = false;
        while let Some(link) = self.link().await {
            let trouble = match self.consume_on(&link).await {
                End::Done => break,
                End::Trouble(trouble) => trouble,
            };
            let is_permanent = matches!(trouble, Trouble::NotFound(_) | Trouble::Denied(_));
            if is_permanent && self.first.is_some() {
                self.say_first(Err(trouble.into_error()));
                break;
            }
            self.say_first(Ok(()));
            if let Trouble::Link(reason) = &trouble {
                // The supervisor tells of it, and says when there is another.
                link.fail(reason);
                pauses.reset();
                is_logged = false;
                continue;
            }
            let name = self.name();
            let reason = format!("`{name}` is not consumed: {}", trouble.reason());
            if !std::mem::replace(&mut is_logged, true) {
                tracing::warn!(
                    queue = name,
                    reason = trouble.reason(),
                    "lost a consumer; trying again"
                );
            }
            self.status.consumer(self.id, Some(reason));
            tokio::select! {
                () = self.clock.sleep(pauses.next()) => {}
                () = self.outgoing.closed() => break,
                () = self.stop.cancelled() => break,
            }
        }
        self.status.consumer_ended(self.id);
    }

    /// The link, once there is one. `None`: nobody wants deliveries any more.
    async fn link(&mut self) -> Option<Arc<Link>> {
        loop {
            let links = self.links.borrow_and_update().clone();
            if let Links::Up(link) = links
                && !link.is_failed()
            {
                return Some(link);
            }
            // It is kept, and begins when the broker is back.
            self.say_first(Ok(()));
            tokio::select! {
                changed = self.links.changed() => changed.ok()?,
                () = self.outgoing.closed() => return None,
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn say_first(&mut self, result: Result<(), BrokerError>) {
        if let Some(first) = self.first.take() {
            // Who does not wait any more has dropped the consumer as well.
            drop(first.send(result));
        }
    }

    async fn consume_on(&mut self, link: &Arc<Link>) -> End {
        let channel = match link.consuming_channel().await {
            Ok(channel) => channel,
            Err(trouble) => return End::Trouble(trouble),
        };
        let unacked = Unacked::new(channel.clone());
        let end = match self.declare(link, &channel).await {
            Ok(()) => self.follow(link, &channel, &unacked).await,
            Err(trouble) => End::Trouble(trouble),
        };
        unacked.flush();
        if !link.is_failed() && channel.status().connected() {
            let outlives = self.source.token_of().is_some();
            if matches!(end, End::Done) && !self.own_bindings().is_empty() && !outlives {
                let delete =
                    channel.queue_delete(self.name().into(), QueueDeleteOptions::default());
                // It would go with the connection at the latest.
                drop(link.call(delete).await);
            }
            // What is in hand comes again, also when closing goes wrong.
            drop(link.call(channel.close(200, "OK".into())).await);
        }
        end
    }

    fn name(&self) -> String {
        match &self.source {
            Source::Work(queue) => topology::work_queue(queue),
            Source::Submissions => SUBMISSIONS.to_owned(),
            Source::Signals => SIGNALS.to_owned(),
            Source::Results(web, _) => topology::results_queue(*web),
            Source::Control(executor) => topology::control_queue(*executor),
            Source::Token(executor) => topology::token_queue(*executor),
            Source::Deaths => DEATHS.to_owned(),
            Source::Flags => FLAGS.to_owned(),
            Source::History(_) => HISTORY.to_owned(),
        }
    }

    fn own_bindings(&self) -> Vec<Binding> {
        match &self.source {
            Source::Results(web, origin) => vec![topology::results_binding(*web, origin)],
            Source::Control(executor) => topology::control_bindings(*executor).into(),
            Source::Token(executor) => vec![topology::token_binding(*executor)],
            Source::Work(_)
            | Source::Submissions
            | Source::Signals
            | Source::Deaths
            | Source::Flags
            | Source::History(_) => Vec::new(),
        }
    }

    /// Makes the queue of its own, if it has one. Exclusive: it goes with the connection. Not `auto-delete`: it
    /// has no consumer while the credit is 0. The queue of a token outlives the connection, to tell of its end.
    async fn declare(&self, link: &Link, channel: &Channel) -> Result<(), Trouble> {
        let bindings = self.own_bindings();
        if bindings.is_empty() {
            return Ok(());
        }
        let exclusive = || (QueueDeclareOptions::exclusive(), FieldTable::default());
        let (options, arguments) = self.source.token_of().map_or_else(exclusive, token::queue);
        let declare = channel.queue_declare(self.name().into(), options, arguments);
        link.call(declare).await?;
        for binding in bindings {
            let bind = channel.queue_bind(
                self.name().into(),
                binding.source.into(),
                binding.key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            link.call(bind).await?;
        }
        Ok(())
    }

    /// Keeps the credit that is asked for, and hands over what comes.
    async fn follow(&mut self, link: &Arc<Link>, channel: &Channel, unacked: &Arc<Unacked>) -> End {
        let mut tags = Tags::default();
        let mut incoming = SelectAll::new();
        let mut is_taken_up = false;
        let mut gathering: Option<Sleep> = None;
        let mut ask = pin!(token::ask(self.source.token_of(), Arc::clone(link)));
        loop {
            let asked = *self.asked.borrow_and_update();
            match tags.step(asked, &self.source) {
                Some(Step::Add(prefetch)) => {
                    let tag = tags.next(prefetch);
                    match self.add(link, channel, &tag).await {
                        Ok(stream) => incoming.push(stream),
                        Err(trouble) => return End::Trouble(trouble),
                    }
                    tags.live.push(tag);
                    continue;
                }
                Some(Step::Cancel(place)) => {
                    let tag = tags.cancel(place);
                    unacked.flush();
                    let options = BasicCancelOptions::default();
                    let cancel = channel.basic_cancel(tag.name().into(), options);
                    if let Err(trouble) = link.call(cancel).await {
                        return End::Trouble(trouble);
                    }
                    continue;
                }
                None => {}
            }
            if !std::mem::replace(&mut is_taken_up, true) && !link.is_failed() {
                self.status.consumer(self.id, None);
                self.say_first(Ok(()));
            }
            tokio::select! {
                Some((tag, item)) = incoming.next(), if !incoming.is_empty() => match item {
                    Some(Ok(delivery)) => self.hand_over(unacked, &tag, delivery).await,
                    Some(Err(error)) => return End::Trouble(error.into()),
                    None if tag.is_cancelled() => tags.ended(&tag),
                    None => {
                        let reason = "the broker ended the consumer (is its queue gone?)";
                        return End::Trouble(Trouble::Channel(reason.to_owned()));
                    }
                },
                changed = self.asked.changed() => {
                    if changed.is_err() {
                        return End::Done;
                    }
                }
                () = tags.freed.notified() => {}
                () = unacked.waits(), if gathering.is_none() => {
                    gathering = Some(self.clock.sleep(GATHERED_FOR));
                }
                () = passed(gathering.as_mut()) => {
                    gathering = None;
                    unacked.flush();
                }
                // Only when its consumer is there: the token would expire otherwise.
                () = &mut ask => {}
                () = link.failed() => return End::Trouble(Trouble::Link(link.reason())),
                () = self.stop.cancelled() => return End::Done,
            }
        }
    }

    async fn add(
        &self,
        link: &Link,
        channel: &Channel,
        tag: &Arc<Tag>,
    ) -> Result<Incoming, Trouble> {
        let mut arguments = FieldTable::default();
        if let Source::History(since) = &self.source {
            arguments.insert(OFFSET.into(), offset_argument(*since));
        }
        let qos = channel.basic_qos(tag.prefetch, BasicQosOptions::default());
        link.call(qos).await?;
        let options = BasicConsumeOptions::default();
        let name = self.name().into();
        let consume = channel.basic_consume(name, tag.name().into(), options, arguments);
        let consumer = link.call(consume).await?;
        let tag = Arc::clone(tag);
        // lapin tells of a cancel by the end of the stream only.
        let items = consumer.map(Some).chain(stream::once(async { None }));
        Ok(Box::pin(items.map(move |item| (Arc::clone(&tag), item))))
    }

    async fn hand_over(&mut self, unacked: &Arc<Unacked>, tag: &Arc<Tag>, delivery: LapinDelivery) {
        let settle = unacked.lend(delivery.delivery_tag, tag);
        let offset = if let Source::History(since) = &mut self.source {
            let offset = offset_of(&delivery);
            // A stream is read in chunks: it may begin before the offset that was asked for.
            if let (Some(offset), Since::Offset(wanted)) = (offset, *since)
                && offset < wanted
            {
                return settle.ack();
            }
            if let Some(offset) = offset {
                *since = Since::Offset(offset + 1);
            }
            offset
        } else {
            None
        };
        let delivery = Delivery {
            exchange: delivery.exchange.to_string(),
            key: delivery.routing_key.to_string(),
            message_id: delivery
                .properties
                .message_id()
                .as_ref()
                .map(ToString::to_string),
            content_type: delivery
                .properties
                .content_type()
                .as_ref()
                .map(ToString::to_string),
            body: delivery.data,
            is_redelivered: delivery.redelivered,
            offset,
            settle,
        };
        // There is room, credit sees to it. Who has dropped the consumer gets nothing; the broker will.
        drop(self.outgoing.send(delivery).await);
    }
}

/// The AMQP consumers of one channel.
#[derive(Default)]
struct Tags {
    live: Vec<Arc<Tag>>,
    /// Cancelled, but still yielding what had arrived before.
    ending: Vec<Arc<Tag>>,
    /// Cancelled, and holding deliveries.
    old: Vec<Arc<Tag>>,
    freed: Arc<Notify>,
    last: u32,
}

impl Tags {
    fn next(&mut self, prefetch: Credit) -> Arc<Tag> {
        self.last += 1;
        Tag::new(self.last, prefetch, Arc::clone(&self.freed))
    }

    /// The next step towards the credit that is asked for, when it can be told.
    fn step(&mut self, asked: Credit, source: &Source) -> Option<Step> {
        self.old.retain(|tag| tag.held() > 0);
        if !self.ending.is_empty() {
            return None;
        }
        if matches!(source, Source::History(_)) {
            // Two consumers would read everything twice: one only, with what is asked for.
            return match &*self.live {
                [] if asked > 0 => Some(Step::Add(asked)),
                [tag] if tag.prefetch != asked => Some(Step::Cancel(0)),
                _ => None,
            };
        }
        let live: Vec<Credit> = self.live.iter().map(|tag| tag.prefetch).collect();
        step(asked, &live, self.old.iter().map(|tag| tag.held()).sum())
    }

    fn cancel(&mut self, place: usize) -> Arc<Tag> {
        let tag = self.live.remove(place);
        tag.cancel();
        self.ending.push(Arc::clone(&tag));
        tag
    }

    fn ended(&mut self, tag: &Arc<Tag>) {
        self.ending.retain(|ending| !Arc::ptr_eq(ending, tag));
        self.old.push(Arc::clone(tag));
    }
}

fn offset_argument(since: Since) -> AMQPValue {
    match since {
        Since::Next => AMQPValue::LongString("next".into()),
        Since::First => AMQPValue::LongString("first".into()),
        Since::Offset(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
    }
}

fn offset_of(delivery: &LapinDelivery) -> Option<u64> {
    let headers = delivery.properties.headers().as_ref()?;
    let offset = headers.inner().get(OFFSET)?.as_long_long_int()?;
    u64::try_from(offset).ok()
}
