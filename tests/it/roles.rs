//! Who may do what on the broker: each role against each exchange and queue. What is expected is written down here
//! by hand, from what each kind of program is for, not from the patterns of the topology.

use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::support::rabbitmq::Rabbit;

/// Every exchange, and the one without a name that leads to every queue.
const EXCHANGES: [&str; 14] = [
    "",
    "longshore.tasks",
    "longshore.submissions",
    "longshore.results",
    "longshore.signals",
    "longshore.subtasks",
    "longshore.announced",
    "longshore.control",
    "longshore.route",
    "longshore.nudge",
    "longshore.tap",
    "longshore.dead",
    "longshore.unrouted",
    "longshore.deaths",
];

const SHARED_QUEUES: [&str; 8] = [
    "longshore.submissions",
    "longshore.signals",
    "longshore.dead",
    "longshore.unrouted",
    "longshore.deaths",
    "longshore.flags",
    "longshore.history",
    "longshore.work.default",
];

/// Queues that somebody may want to make.
const NEW_QUEUES: [&str; 5] = [
    "longshore.web.1",
    "longshore.executor.1",
    "longshore.work.new",
    "longshore.tap.1",
    "mine",
];

/// What a role may do; everything else it may not.
struct Role {
    user: &'static str,
    /// Exchanges that it may publish to.
    publishes: &'static [&'static str],
    /// Shared queues that it may consume.
    consumes: &'static [&'static str],
    /// The new queue that it may make, if any.
    makes: Option<&'static str>,
    /// Exchanges that it may bind that queue to. A right to consume a queue is one to bind to the exchange of the
    /// same name: who may read the messages may read them twice.
    binds: &'static [&'static str],
}

const ROLES: [Role; 5] = [
    Role {
        user: "longshore-web",
        publishes: &[
            "longshore.tasks",
            "longshore.announced",
            "longshore.signals",
        ],
        consumes: &["longshore.history"],
        makes: Some("longshore.web.1"),
        binds: &["longshore.results"],
    },
    Role {
        user: "longshore-executor",
        publishes: &[
            "longshore.results",
            "longshore.signals",
            "longshore.subtasks",
            "longshore.announced",
            "longshore.control",
            "longshore.deaths",
        ],
        consumes: &[
            "longshore.submissions",
            "longshore.signals",
            "longshore.deaths",
            "longshore.flags",
            "longshore.work.default",
        ],
        makes: Some("longshore.executor.1"),
        binds: &[
            "longshore.control",
            "longshore.nudge",
            "longshore.submissions",
            "longshore.signals",
            "longshore.deaths",
        ],
    },
    Role {
        user: "longshore-client",
        publishes: &["longshore.submissions", "longshore.signals"],
        consumes: &[],
        makes: None,
        binds: &[],
    },
    Role {
        user: "longshore-tap",
        publishes: &[],
        consumes: &["longshore.history"],
        makes: None,
        binds: &[],
    },
    Role {
        user: "longshore-operator",
        publishes: &[
            "longshore.tasks",
            "longshore.announced",
            "longshore.signals",
            "longshore.control",
        ],
        consumes: &["longshore.dead", "longshore.unrouted", "longshore.history"],
        makes: Some("longshore.work.new"),
        binds: &["longshore.route", "longshore.dead", "longshore.unrouted"],
    },
];

/// What somebody tries.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Publish(&'static str),
    Consume(&'static str),
    MakeQueue(&'static str),
    /// A queue, and the exchange it shall be bound to.
    Bind(&'static str, &'static str),
    MakeExchange(&'static str),
    DeleteQueue(&'static str),
}

impl Deed {
    /// Tries it on a channel of its own, which a refusal closes.
    async fn is_allowed(self, connection: &Connection) -> bool {
        let channel = connection.create_channel().await.unwrap();
        let outcome = self.attempt(&channel).await;
        if channel.status().connected() {
            channel.close(200, "OK".into()).await.unwrap();
        }
        match outcome {
            Ok(()) => true,
            Err(error) if error.to_string().contains("ACCESS_REFUSED") => false,
            Err(error) => panic!("{self:?}: {error}"),
        }
    }

    async fn attempt(self, channel: &Channel) -> lapin::Result<()> {
        let none = FieldTable::default();
        match self {
            Self::Publish(exchange) => {
                channel
                    .confirm_select(ConfirmSelectOptions::default())
                    .await?;
                let options = BasicPublishOptions::default();
                let properties = BasicProperties::default();
                let publish =
                    channel.basic_publish(exchange.into(), "a".into(), options, b"{}", properties);
                publish.await?.await.map(drop)
            }
            Self::Consume(queue) => {
                channel.basic_qos(1, BasicQosOptions::default()).await?;
                let options = BasicConsumeOptions::default();
                let consumer = channel
                    .basic_consume(queue.into(), "c".into(), options, none)
                    .await?;
                channel
                    .basic_cancel(
                        consumer.tag(),
                        lapin::options::BasicCancelOptions::default(),
                    )
                    .await
            }
            Self::MakeQueue(queue) => {
                let mut arguments = FieldTable::default();
                arguments.insert(
                    "x-queue-type".into(),
                    AMQPValue::LongString("quorum".into()),
                );
                let options = QueueDeclareOptions::durable();
                channel
                    .queue_declare(queue.into(), options, arguments)
                    .await
                    .map(drop)
            }
            Self::Bind(queue, exchange) => {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(queue.into(), exchange.into(), "k".into(), options, none)
                    .await
            }
            Self::MakeExchange(exchange) => {
                let options = ExchangeDeclareOptions::default();
                channel
                    .exchange_declare(exchange.into(), ExchangeKind::Topic, options, none)
                    .await
            }
            Self::DeleteQueue(queue) => {
                let options = QueueDeleteOptions::default();
                channel.queue_delete(queue.into(), options).await.map(drop)
            }
        }
    }
}

impl Role {
    /// Every deed, and whether it is allowed; in an order that works.
    fn deeds(&self) -> Vec<(Deed, bool)> {
        let mut deeds = Vec::new();
        deeds.extend(EXCHANGES.map(|name| (Deed::Publish(name), self.publishes.contains(&name))));
        deeds
            .extend(SHARED_QUEUES.map(|name| (Deed::Consume(name), self.consumes.contains(&name))));
        deeds.extend(NEW_QUEUES.map(|name| (Deed::MakeQueue(name), self.makes == Some(name))));
        let named = EXCHANGES.into_iter().filter(|name| !name.is_empty());
        // Who may make no queue tries with one of the others.
        let queue = self.makes.unwrap_or("longshore.signals");
        deeds.extend(named.map(|name| (Deed::Bind(queue, name), self.binds.contains(&name))));
        deeds.extend(["longshore.tasks2", "mine"].map(|name| (Deed::MakeExchange(name), false)));
        deeds.push((Deed::DeleteQueue("longshore.signals"), false));
        deeds.push((Deed::DeleteQueue("longshore.history"), false));
        deeds
    }
}

#[tokio::test]
async fn every_role_may_do_what_it_is_for_and_nothing_else() {
    let rabbit = Rabbit::shared();
    rabbit.make_users().await;
    let vhost = rabbit.vhost().await;
    let mut wrong = Vec::new();
    for role in ROLES {
        let url = rabbit.amqp(role.user, &vhost.name);
        let connection = Connection::connect(&url, ConnectionProperties::default())
            .await
            .unwrap();
        for (deed, is_right) in role.deeds() {
            if deed.is_allowed(&connection).await != is_right {
                let may = if is_right { "may not" } else { "may" };
                wrong.push(format!("{} {may} {deed:?}", role.user));
            }
        }
        connection.close(200, "OK".into()).await.unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
