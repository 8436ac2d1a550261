//! The brokers: their contract, and what only one of them can go through.

use std::sync::Arc;

use async_trait::async_trait;
use longshore::background::Background;
use longshore::broker::amqp::AmqpBroker;
use longshore::broker::embedded::EmbeddedBroker;
use longshore::broker::management::{Change, Management, ManagementError, Users};
use longshore::broker::topology::{VHOST, definitions, topology, work_queue};
use longshore::broker::{Broker, BrokerError, Health};
use longshore::clock::SystemClock;
use longshore::domain::QueueName;
use reqwest::Method;
use serde_json::json;

use crate::contract::broker::{
    Bench, announcements, body, broker_contract, default_work, publish, take,
};
use crate::support::eventually::eventually;
use crate::support::proxy::Proxy;
use crate::support::rabbitmq::{Rabbit, Vhost};

struct Embedded(Arc<EmbeddedBroker>);

impl Embedded {
    fn begin() -> std::future::Ready<Self> {
        std::future::ready(Self(EmbeddedBroker::new()))
    }
}

#[async_trait]
impl Bench for Embedded {
    fn broker(&self) -> &dyn Broker {
        &*self.0
    }

    async fn depth(&self, queue: &str) -> Option<usize> {
        self.0.depth(queue)
    }
}

struct Amqp {
    broker: Arc<AmqpBroker>,
    vhost: Vhost<'static>,
    background: Background,
}

impl Amqp {
    async fn begin() -> Self {
        let vhost = Rabbit::shared().vhost().await;
        let background = Background::new();
        let broker = connect(&vhost.url(), &background).await.unwrap();
        assert_eq!(*broker.health().borrow(), Health::Up);
        Self {
            broker,
            vhost,
            background,
        }
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        self.background.stop();
    }
}

#[async_trait]
impl Bench for Amqp {
    fn broker(&self) -> &dyn Broker {
        &*self.broker
    }

    async fn depth(&self, queue: &str) -> Option<usize> {
        self.vhost.depth(queue).await
    }
}

impl Amqp {
    /// Work queues refuse what comes while they hold a message.
    async fn refuse_all_but_one(&self) {
        let policy = json!({"pattern": "^longshore\\.work\\.", "apply-to": "queues", "priority": 9,
            "definition": {"max-length": 1, "overflow": "reject-publish"}});
        let path = format!("policies/{}/tiny", self.vhost.name);
        self.vhost.rabbit.call(Method::PUT, &path, policy).await;
    }

    /// Another connection, by way of a proxy.
    async fn by_a_proxy(&self, background: &Background) -> (Proxy, Arc<AmqpBroker>) {
        let url = self.vhost.url();
        let proxy = Proxy::before(&url);
        let broker = connect(&proxy.through(&url), background).await.unwrap();
        (proxy, broker)
    }
}

async fn connect(url: &str, background: &Background) -> Result<Arc<AmqpBroker>, BrokerError> {
    AmqpBroker::connect(url, "test:1", SystemClock::shared(), background).await
}

broker_contract!(embedded, crate::broker::Embedded::begin);
broker_contract!(amqp, crate::broker::Amqp::begin);

/// Waits for a health; answers with the reason that it gives.
async fn is(broker: &AmqpBroker, is_expected: impl Fn(&Health) -> bool) -> String {
    let mut health = broker.health();
    let patience = std::time::Duration::from_secs(30);
    let waited =
        tokio::time::timeout(patience, health.wait_for(|health| is_expected(health))).await;
    match &*waited
        .expect("the broker should change its health")
        .unwrap()
    {
        Health::Up => String::new(),
        Health::Down(reason) | Health::Blocked(reason) => reason.clone(),
    }
}

async fn is_up(broker: &AmqpBroker) {
    is(broker, |health| *health == Health::Up).await;
}

async fn is_down(broker: &AmqpBroker) -> String {
    is(broker, |health| matches!(health, Health::Down(_))).await
}

#[tokio::test]
async fn a_lost_connection_comes_back_and_brings_what_was_unsettled() {
    let bench = Amqp::begin().await;
    let mut deliveries = bench.broker.consume(default_work(), 4).await.unwrap();
    publish(&*bench.broker, announcements(4)).await;
    let mut held = take(&mut deliveries, 4).await;
    // Two: half of the credit is acknowledged at once, less waits for more.
    held.drain(..2).for_each(longshore::broker::Delivery::ack);
    bench.vhost.close_connections();
    is_down(&bench.broker).await;
    is_up(&bench.broker).await;
    let again = take(&mut deliveries, 2).await;
    assert_eq!(again.iter().map(body).collect::<Vec<_>>(), ["2", "3"]);
    assert!(again.iter().all(|delivery| delivery.is_redelivered));
    // Those of the lost connection are worthless, and harmless.
    for delivery in held.into_iter().chain(again) {
        delivery.ack();
    }
    publish(&*bench.broker, announcements(1)).await;
    assert_eq!(body(&take(&mut deliveries, 1).await[0]), "0");
}

#[tokio::test]
async fn a_queue_deleted_under_its_consumer_is_noticed_and_taken_up_again() {
    let bench = Amqp::begin().await;
    let queue: QueueName = "bulk".parse().unwrap();
    bench.broker.create_queue(&queue).await.unwrap();
    let source = longshore::broker::Source::Work(queue.clone());
    let mut deliveries = bench.broker.consume(source, 1).await.unwrap();
    bench.vhost.delete_queue(&work_queue(&queue)).await;
    let reason = is_down(&bench.broker).await;
    assert!(reason.contains("longshore.work.bulk"), "{reason}");
    bench.broker.create_queue(&queue).await.unwrap();
    is_up(&bench.broker).await;
    let mut message = announcements(1).remove(0);
    message.key = "created.bulk.echo".to_owned();
    publish(&*bench.broker, vec![message]).await;
    take(&mut deliveries, 1).await.remove(0).ack();
}

#[tokio::test]
async fn a_node_in_need_holds_publishers_back_and_one_that_stops_is_away() {
    let rabbit = Rabbit::start();
    let vhost = rabbit.vhost().await;
    let background = Background::new();
    let broker = connect(&vhost.url(), &background).await.unwrap();
    let mut deliveries = broker.consume(default_work(), 9).await.unwrap();
    rabbit.ctl(&["set_disk_free_limit", "1000000GB"]);
    let relieve = async {
        // The first message is taken off the wire and held back; whoever comes now need not wait for it.
        let reason = is(&broker, |health| matches!(health, Health::Blocked(_))).await;
        assert!(reason.contains("disk"), "{reason}");
        let results = broker.publish(announcements(1)).await;
        assert!(
            matches!(results[..], [Err(BrokerError::Unavailable { .. })]),
            "{results:?}"
        );
        rabbit.ctl(&["set_disk_free_limit", "50MB"]);
    };
    let (results, ()) = tokio::join!(broker.publish(announcements(1)), relieve);
    // It may have taken longer than a publisher waits; then nobody knows, until it arrives after all.
    assert!(
        matches!(results[..], [Ok(()) | Err(BrokerError::Unconfirmed)]),
        "{results:?}"
    );
    is_up(&broker).await;
    take(&mut deliveries, 1).await.remove(0).ack();
    rabbit.stop();
    is_down(&broker).await;
    let results = broker.publish(announcements(1)).await;
    assert!(
        matches!(results[..], [Err(BrokerError::Unavailable { .. })]),
        "{results:?}"
    );
    broker.close().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_virtual_host_are_refused_at_once() {
    let rabbit = Rabbit::shared();
    let right = rabbit.amqp("longshore-admin", "%2F");
    let wrong = right.replacen(":longshore-admin@", ":wrong@", 1);
    for url in [wrong, rabbit.amqp("longshore-admin", "nowhere")] {
        let error = connect(&url, &Background::new()).await.unwrap_err();
        assert!(matches!(error, BrokerError::Denied { .. }), "{error:?}");
        assert!(!error.to_string().contains("wrong@"), "{error}");
    }
}

#[tokio::test]
async fn a_broker_that_is_away_is_down_and_waited_for() {
    // Nobody listens on a port that was just given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let background = Background::new();
    let broker = connect(&format!("amqp://u:p@127.0.0.1:{port}/v"), &background)
        .await
        .unwrap();
    assert!(matches!(&*broker.health().borrow(), Health::Down(reason) if !reason.is_empty()));
    assert_eq!(broker.identity(), None);
    let results = broker.publish(announcements(2)).await;
    assert!(
        matches!(results[..], [Err(BrokerError::Unavailable { .. }), Err(_)]),
        "{results:?}"
    );
    let mut deliveries = broker.consume(default_work(), 1).await.unwrap();
    broker.close().await;
    assert!(deliveries.next().await.is_none());
    background.stop();
    background.ended().await;
}

#[tokio::test]
async fn a_publish_to_a_missing_exchange_hurts_nobody_else() {
    let bench = Amqp::begin().await;
    let path = format!("exchanges/{}/longshore.signals", bench.vhost.name);
    bench
        .vhost
        .rabbit
        .call(Method::DELETE, &path, serde_json::Value::Null)
        .await;
    let mut lost = announcements(1).remove(0);
    lost.ingress = longshore::broker::Ingress::Signals;
    let results = bench.broker.publish(vec![lost]).await;
    let what = "exchange `longshore.signals`".to_owned();
    assert_eq!(results, [Err(BrokerError::NoQueue { what })]);
    publish(&*bench.broker, announcements(1)).await;
    assert_eq!(*bench.broker.health().borrow(), Health::Up);
}

/// What a client says when it opens a channel: class 20, method 10 (AMQP 0-9-1, 1.5).
const CHANNEL_OPEN: &str = "\0\u{14}\0\u{a}";

#[tokio::test]
async fn a_channel_that_keeps_refusing_is_opened_anew() {
    let bench = Amqp::begin().await;
    let background = Background::new();
    let (proxy, broker) = bench.by_a_proxy(&background).await;
    publish(&*broker, announcements(1)).await; // Now it has a channel.
    bench.refuse_all_but_one().await;
    proxy.lose(CHANNEL_OPEN);
    eventually(
        "the queue refuses",
        async || broker.publish(announcements(2)).await,
        |results| results[..] == [Err(BrokerError::Refused), Err(BrokerError::Refused)],
    )
    .await;
    // Some channels of RabbitMQ 3.10 refuse for ever: after three refusals in a row there is another one.
    eventually(
        "another channel is opened",
        async || {
            drop(broker.publish(announcements(1)).await);
            proxy.has_sprung()
        },
        |has_sprung| *has_sprung,
    )
    .await;
    is_up(&broker).await;
    broker.close().await;
    background.stop();
    background.ended().await;
}

#[tokio::test]
async fn a_link_that_confirms_nothing_in_time_is_opened_anew() {
    let bench = Amqp::begin().await;
    let background = Background::new();
    let (proxy, broker) = bench.by_a_proxy(&background).await;
    publish(&*broker, announcements(1)).await;
    proxy.swallow_answers();
    let results = broker.publish(announcements(2)).await;
    assert_eq!(results, vec![Err(BrokerError::Unconfirmed); 2]);
    let reason = is_down(&broker).await;
    assert!(reason.contains("did not confirm"), "{reason}");
    proxy.resume();
    is_up(&broker).await;
    publish(&*broker, announcements(1)).await;
    broker.close().await;
    background.stop();
    background.ended().await;
}

#[tokio::test]
async fn what_a_full_queue_refuses_is_refused_until_there_is_room() {
    let bench = Amqp::begin().await;
    bench.refuse_all_but_one().await;
    eventually(
        "the queue refuses",
        async || bench.broker.publish(announcements(5)).await,
        |results| results.contains(&Err(BrokerError::Refused)),
    )
    .await;
    let mut deliveries = bench.broker.consume(default_work(), 100).await.unwrap();
    eventually(
        "the queue takes messages again",
        async || {
            take(&mut deliveries, 1).await.remove(0).ack();
            bench.broker.publish(announcements(1)).await
        },
        |results| results[..] == [Ok(())],
    )
    .await;
}

#[tokio::test]
async fn what_is_applied_twice_is_there_once_and_then_nothing_is_to_be_done() {
    Rabbit::shared().make_users().await;
    let vhost = Rabbit::shared().vhost().await;
    let management = Management::new(vhost.rabbit.management(), &vhost.name).unwrap();
    let topology = topology(&[QueueName::default_queue()]);
    assert_eq!(
        management.plan(&topology, Users::Permitted).await.unwrap(),
        []
    );
    assert_eq!(
        management.apply(&topology, Users::Permitted).await.unwrap(),
        []
    );
    let check = management.check(&topology, Users::Ignored).await.unwrap();
    assert!(check.is_good(), "{check:?}");
}

#[tokio::test]
async fn a_plan_says_what_differs_and_apply_puts_right_what_it_can() {
    let vhost = Rabbit::shared().vhost().await;
    let rabbit = vhost.rabbit;
    let management = Management::new(rabbit.management(), &vhost.name).unwrap();
    let topology = topology(&[QueueName::default_queue()]);
    let name = &vhost.name;
    let delete =
        |path: String| async move { rabbit.call(Method::DELETE, &path, json!(null)).await };
    delete(format!("queues/{name}/longshore.signals")).await;
    let policy = json!({"pattern": "^x$", "apply-to": "queues", "definition": {"max-length": 1}});
    rabbit
        .call(
            Method::PUT,
            &format!("policies/{name}/longshore-own"),
            policy,
        )
        .await;
    rabbit
        .call(
            Method::PUT,
            &format!("queues/{name}/mine"),
            json!({"durable": true}),
        )
        .await;
    let plan = management.plan(&topology, Users::Ignored).await.unwrap();
    let lines: Vec<String> = plan.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "~ policy longshore-own for ^longshore\\.(web|executor)\\.: found pattern ^x$, {\"max-length\":1}",
            "+ queue longshore.signals (quorum)",
            "? unexpected queue mine",
            "+ binding longshore.signals -> queue longshore.signals (#)",
        ]
    );
    management.apply(&topology, Users::Ignored).await.unwrap();
    let left = management.plan(&topology, Users::Ignored).await.unwrap();
    assert_eq!(left, [Change::Unexpected("queue mine".to_owned())]);
    delete(format!("queues/{name}/longshore.signals")).await;
    let classic = json!({"durable": true, "arguments": {"x-queue-type": "classic"}});
    rabbit
        .call(
            Method::PUT,
            &format!("queues/{name}/longshore.signals"),
            classic,
        )
        .await;
    let error = management
        .apply(&topology, Users::Ignored)
        .await
        .unwrap_err();
    assert!(matches!(error, ManagementError::Conflict { .. }), "{error}");
}

#[tokio::test]
async fn trouble_with_the_management_interface_says_what_to_do() {
    let rabbit = Rabbit::shared();
    let topology = topology(&[]);
    let wrong = rabbit.management().replace(":longshore-admin@", ":wrong@");
    let management = Management::new(&wrong, "v").unwrap();
    let error = management
        .plan(&topology, Users::Ignored)
        .await
        .unwrap_err();
    let user = "longshore-admin".to_owned();
    assert_eq!(error, ManagementError::Login { user });
    let amqp_port = rabbit
        .amqp("longshore-admin", "")
        .replace("amqp://", "http://");
    let management = Management::new(&amqp_port, "v").unwrap();
    let error = management
        .plan(&topology, Users::Ignored)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ManagementError::Unreachable { url, .. } if !url.contains("admin")),
        "{error}"
    );
}

#[tokio::test]
async fn the_definitions_can_be_imported_and_are_the_same_as_what_is_applied() {
    let rabbit = Rabbit::shared();
    let topology = topology(&[QueueName::default_queue()]);
    // Without users: other tests give them passwords.
    let mut document = definitions(&topology, VHOST);
    for users in ["users", "permissions"] {
        document[users] = json!([]);
    }
    rabbit.call(Method::POST, "definitions", document).await;
    let management = Management::new(rabbit.management(), VHOST).unwrap();
    assert_eq!(
        management.plan(&topology, Users::Ignored).await.unwrap(),
        []
    );
}
