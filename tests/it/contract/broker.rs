//! The cases that every broker passes.

use std::sync::Arc;

use async_trait::async_trait;
use longshore::broker::topology::{DEATHS, SIGNALS, dead_executor, nudge_key, work_queue};
use longshore::broker::{
    Broker, BrokerError, Content, Deliveries, Delivery, Health, Ingress, Message, Since, Source,
};
use longshore::clock::{Clock, SystemClock};
use longshore::domain::limits::MESSAGE_BYTES_MAX;
use longshore::domain::{ExecutorId, OriginToken, QueueName, WebId};

pub(crate) use super::dead_letters::{
    an_announcement_for_no_queue_is_kept, what_nobody_can_use_goes_to_the_dead_letters,
};
use crate::support::eventually::eventually;

/// A broker to test, with nothing in it, and a look behind it.
#[async_trait]
pub(crate) trait Bench: Send + Sync {
    /// The broker.
    fn broker(&self) -> &dyn Broker;

    /// How many messages of a queue nobody holds; `None`: there is no such queue.
    async fn depth(&self, queue: &str) -> Option<usize>;
}

/// The cases, for one backend.
macro_rules! broker_contract {
    ($backend:ident, $begin:path) => {
        broker_contract!(
            $backend,
            $begin,
            [
                an_announcement_reaches_exactly_one_consumer,
                credit_bounds_what_is_unsettled,
                an_acknowledgement_frees_credit,
                credit_can_be_raised,
                credit_can_be_lowered_and_counts_what_is_in_hand,
                a_credit_of_nothing_consumes_nothing_until_it_is_raised,
                what_is_unsettled_comes_back_when_the_consumer_is_dropped,
                what_nobody_can_use_goes_to_the_dead_letters,
                a_work_queue_that_does_not_exist_is_an_error,
                a_created_queue_gets_its_announcements_and_creating_it_again_changes_nothing,
                an_announcement_for_no_queue_is_kept,
                results_reach_only_the_web_server_that_they_are_for,
                a_nudge_reaches_the_executor_that_is_meant,
                a_nudge_to_an_executor_that_is_gone_comes_back_as_a_signal,
                an_operator_reaches_every_executor,
                a_queue_of_ones_own_goes_with_its_consumer,
                a_token_in_hand_becomes_a_death_notice_when_its_consumer_ends,
                a_token_given_back_tells_nobody,
                the_history_has_everything_but_submissions_and_single_announcements,
                the_history_is_read_again_from_any_place,
                many_publishes_are_answered_in_order,
                a_message_keeps_all_that_it_is_made_of,
                a_closed_broker_ends_its_consumers_and_publishes_nothing,
            ]
        );
    };
    ($backend:ident, $begin:path, [$($case:ident),* $(,)?]) => {
        mod $backend {
            $(
                #[tokio::test]
                async fn $case() {
                    $crate::contract::broker::$case(&$begin().await).await;
                }
            )*
        }
    };
}
pub(crate) use broker_contract;

pub(super) fn message(ingress: Ingress, key: &str, body: &str) -> Message {
    Message {
        ingress,
        key: key.to_owned(),
        id: format!("id of {body}"),
        content: Content::Event,
        body: body.as_bytes().to_vec(),
    }
}

/// Announcements for the queue `default`, numbered from 0.
pub(crate) fn announcements(count: usize) -> Vec<Message> {
    let announce =
        |number: usize| message(Ingress::Tasks, "created.default.echo", &number.to_string());
    (0..count).map(announce).collect()
}

pub(crate) fn default_work() -> Source {
    Source::Work(QueueName::default_queue())
}

pub(super) fn default_queue() -> String {
    work_queue(&QueueName::default_queue())
}

/// Publishes, and expects the broker to take charge of everything.
pub(crate) async fn publish(broker: &dyn Broker, messages: Vec<Message>) {
    for result in broker.publish(messages).await {
        result.unwrap();
    }
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.clone()).unwrap()
}

/// The next deliveries.
pub(crate) async fn take(deliveries: &mut Deliveries, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(next(deliveries).await);
    }
    taken
}

pub(super) async fn next(deliveries: &mut Deliveries) -> Delivery {
    let patience = std::time::Duration::from_secs(30);
    let next = tokio::time::timeout(patience, deliveries.next()).await;
    next.expect("a delivery should have come")
        .expect("the consumer should go on")
}

fn ack_all(deliveries: Vec<Delivery>) {
    deliveries.into_iter().for_each(Delivery::ack);
}

pub(super) async fn is_left(bench: &impl Bench, queue: &str, count: usize) {
    eventually(
        &format!("{queue} holds {count}"),
        async || bench.depth(queue).await,
        |depth| *depth == Some(count),
    )
    .await;
}

/// Waits until nothing more can come: a message that was published later has been through the same broker.
async fn nothing_comes(deliveries: &mut Deliveries, bench: &impl Bench, queue: &str, left: usize) {
    is_left(bench, queue, left).await;
    let waited = std::time::Duration::from_millis(100);
    let came = tokio::time::timeout(waited, deliveries.next()).await;
    assert!(came.is_err(), "nothing should come: {came:?}");
    is_left(bench, queue, left).await;
}

fn clock() -> Arc<dyn Clock> {
    SystemClock::shared()
}

fn executor() -> ExecutorId {
    ExecutorId::new(clock().now(), clock().random())
}

fn web() -> (WebId, OriginToken) {
    let clock = clock();
    (
        WebId::new(clock.now(), clock.random()),
        OriginToken::new(clock.random()),
    )
}

pub(crate) async fn an_announcement_reaches_exactly_one_consumer(bench: &impl Bench) {
    let mut one = bench.broker().consume(default_work(), 10).await.unwrap();
    let mut other = bench.broker().consume(default_work(), 10).await.unwrap();
    publish(bench.broker(), announcements(10)).await;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let delivery = tokio::select! {
            delivery = next(&mut one) => delivery,
            delivery = next(&mut other) => delivery,
        };
        seen.push(body(&delivery).parse::<usize>().unwrap());
        delivery.ack();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
    nothing_comes(&mut one, bench, &default_queue(), 0).await;
    nothing_comes(&mut other, bench, &default_queue(), 0).await;
}

pub(crate) async fn credit_bounds_what_is_unsettled(bench: &impl Bench) {
    let mut deliveries = bench.broker().consume(default_work(), 3).await.unwrap();
    publish(bench.broker(), announcements(5)).await;
    let held = take(&mut deliveries, 3).await;
    nothing_comes(&mut deliveries, bench, &default_queue(), 2).await;
    assert_eq!(held.iter().map(body).collect::<Vec<_>>(), ["0", "1", "2"]);
}

pub(crate) async fn an_acknowledgement_frees_credit(bench: &impl Bench) {
    let mut deliveries = bench.broker().consume(default_work(), 1).await.unwrap();
    publish(bench.broker(), announcements(3)).await;
    for number in ["0", "1", "2"] {
        let delivery = next(&mut deliveries).await;
        assert_eq!(body(&delivery), number);
        delivery.ack();
    }
    is_left(bench, &default_queue(), 0).await;
}

pub(crate) async fn credit_can_be_raised(bench: &impl Bench) {
    let mut deliveries = bench.broker().consume(default_work(), 1).await.unwrap();
    publish(bench.broker(), announcements(10)).await;
    let mut held = take(&mut deliveries, 1).await;
    deliveries.set_credit(4);
    held.extend(take(&mut deliveries, 3).await);
    nothing_comes(&mut deliveries, bench, &default_queue(), 6).await;
    ack_all(held);
    let held = take(&mut deliveries, 4).await;
    nothing_comes(&mut deliveries, bench, &default_queue(), 2).await;
    drop(held);
}

pub(crate) async fn credit_can_be_lowered_and_counts_what_is_in_hand(bench: &impl Bench) {
    let mut deliveries = bench.broker().consume(default_work(), 4).await.unwrap();
    publish(bench.broker(), announcements(10)).await;
    let mut held = take(&mut deliveries, 4).await;
    deliveries.set_credit(2);
    nothing_comes(&mut deliveries, bench, &default_queue(), 6).await;
    ack_all(held.split_off(2));
    nothing_comes(&mut deliveries, bench, &default_queue(), 6).await;
    ack_all(held.split_off(1));
    let later = take(&mut deliveries, 1).await;
    nothing_comes(&mut deliveries, bench, &default_queue(), 5).await;
    ack_all(held);
    ack_all(later);
    let held = take(&mut deliveries, 2).await;
    nothing_comes(&mut deliveries, bench, &default_queue(), 3).await;
    drop(held);
}

pub(crate) async fn a_credit_of_nothing_consumes_nothing_until_it_is_raised(bench: &impl Bench) {
    let mut deliveries = bench.broker().consume(default_work(), 0).await.unwrap();
    publish(bench.broker(), announcements(3)).await;
    nothing_comes(&mut deliveries, bench, &default_queue(), 3).await;
    deliveries.set_credit(1);
    let held = take(&mut deliveries, 1).await;
    deliveries.set_credit(0);
    nothing_comes(&mut deliveries, bench, &default_queue(), 2).await;
    ack_all(held);
    nothing_comes(&mut deliveries, bench, &default_queue(), 2).await;
    deliveries.set_credit(2);
    ack_all(take(&mut deliveries, 2).await);
}

pub(crate) async fn what_is_unsettled_comes_back_when_the_consumer_is_dropped(bench: &impl Bench) {
    let mut first = bench.broker().consume(default_work(), 5).await.unwrap();
    publish(bench.broker(), announcements(4)).await;
    let mut held = take(&mut first, 3).await;
    held.remove(0).ack();
    drop(first);
    is_left(bench, &default_queue(), 3).await;
    // Too late: it is somebody else's now.
    ack_all(held);
    let mut second = bench.broker().consume(default_work(), 5).await.unwrap();
    let again = take(&mut second, 3).await;
    assert_eq!(again.iter().map(body).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(again[0].is_redelivered && again[1].is_redelivered);
    ack_all(again);
    is_left(bench, &default_queue(), 0).await;
}

pub(crate) async fn a_work_queue_that_does_not_exist_is_an_error(bench: &impl Bench) {
    let source = Source::Work("nowhere".parse().unwrap());
    let error = bench.broker().consume(source, 1).await.unwrap_err();
    let what = "queue `longshore.work.nowhere`".to_owned();
    assert_eq!(error, BrokerError::NoQueue { what });
    assert_eq!(*bench.broker().health().borrow(), Health::Up);
}

pub(crate) async fn a_created_queue_gets_its_announcements_and_creating_it_again_changes_nothing(
    bench: &impl Bench,
) {
    let queue: QueueName = "bulk".parse().unwrap();
    bench.broker().create_queue(&queue).await.unwrap();
    publish(
        bench.broker(),
        vec![message(Ingress::Tasks, "created.bulk.echo", "a")],
    )
    .await;
    bench.broker().create_queue(&queue).await.unwrap();
    publish(
        bench.broker(),
        vec![message(Ingress::Subtasks, "woken.bulk.echo.more", "b")],
    )
    .await;
    publish(bench.broker(), announcements(1)).await;
    let mut deliveries = bench
        .broker()
        .consume(Source::Work(queue), 5)
        .await
        .unwrap();
    let taken = take(&mut deliveries, 2).await;
    assert_eq!(taken.iter().map(body).collect::<Vec<_>>(), ["a", "b"]);
    is_left(bench, &default_queue(), 1).await;
}

pub(crate) async fn results_reach_only_the_web_server_that_they_are_for(bench: &impl Bench) {
    let (web_one, token_one) = web();
    let (web_two, token_two) = web();
    let results = |web, token: &OriginToken| Source::Results(web, token.clone());
    let mut one = bench
        .broker()
        .consume(results(web_one, &token_one), 9)
        .await
        .unwrap();
    let mut two = bench
        .broker()
        .consume(results(web_two, &token_two), 9)
        .await
        .unwrap();
    let result =
        |token: &OriginToken, body| message(Ingress::Results, &format!("{token}.finished"), body);
    let nobody = OriginToken::new(0);
    let messages = vec![
        result(&nobody, "0"),
        result(&token_one, "1"),
        result(&token_two, "2"),
    ];
    publish(bench.broker(), messages).await;
    publish(
        bench.broker(),
        vec![result(&token_one, "3"), result(&token_two, "4")],
    )
    .await;
    let seen_one = take(&mut one, 2).await;
    let seen_two = take(&mut two, 2).await;
    assert_eq!(seen_one.iter().map(body).collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(seen_two.iter().map(body).collect::<Vec<_>>(), ["2", "4"]);
}

pub(crate) async fn a_nudge_reaches_the_executor_that_is_meant(bench: &impl Bench) {
    let (one, other) = (executor(), executor());
    let mut deliveries = bench
        .broker()
        .consume(Source::Control(one), 9)
        .await
        .unwrap();
    let mut others = bench
        .broker()
        .consume(Source::Control(other), 9)
        .await
        .unwrap();
    publish(
        bench.broker(),
        vec![message(Ingress::Control, &nudge_key(one), "a")],
    )
    .await;
    publish(
        bench.broker(),
        vec![message(Ingress::Control, &nudge_key(other), "b")],
    )
    .await;
    assert_eq!(body(&next(&mut deliveries).await), "a");
    assert_eq!(body(&next(&mut others).await), "b");
    is_left(bench, SIGNALS, 0).await;
}

pub(crate) async fn a_nudge_to_an_executor_that_is_gone_comes_back_as_a_signal(bench: &impl Bench) {
    publish(
        bench.broker(),
        vec![message(Ingress::Control, &nudge_key(executor()), "a")],
    )
    .await;
    let mut signals = bench.broker().consume(Source::Signals, 1).await.unwrap();
    let delivery = next(&mut signals).await;
    assert_eq!(body(&delivery), "a");
    assert_eq!(delivery.exchange, Ingress::Control.exchange());
}

pub(crate) async fn an_operator_reaches_every_executor(bench: &impl Bench) {
    let mut one = bench
        .broker()
        .consume(Source::Control(executor()), 9)
        .await
        .unwrap();
    let mut other = bench
        .broker()
        .consume(Source::Control(executor()), 9)
        .await
        .unwrap();
    publish(
        bench.broker(),
        vec![message(Ingress::Control, "all.drain", "a")],
    )
    .await;
    assert_eq!(next(&mut one).await.key, "all.drain");
    assert_eq!(next(&mut other).await.key, "all.drain");
}

pub(crate) async fn a_token_in_hand_becomes_a_death_notice_when_its_consumer_ends(
    bench: &impl Bench,
) {
    let (one, other) = (executor(), executor());
    let mut tokens = bench.broker().consume(Source::Token(one), 2).await.unwrap();
    let mut others = bench
        .broker()
        .consume(Source::Token(other), 2)
        .await
        .unwrap();
    let (token, kept) = (next(&mut tokens).await, next(&mut others).await);
    let mut notices = bench.broker().consume(Source::Deaths, 2).await.unwrap();
    drop((token, tokens));
    let notice = next(&mut notices).await;
    assert_eq!(dead_executor(&notice.key), Some(one));
    notice.ack();
    drop((kept, others));
    assert_eq!(dead_executor(&next(&mut notices).await.key), Some(other));
}

pub(crate) async fn a_token_given_back_tells_nobody(bench: &impl Bench) {
    let (one, other) = (executor(), executor());
    let mut tokens = bench.broker().consume(Source::Token(one), 2).await.unwrap();
    next(&mut tokens).await.ack();
    drop(tokens);
    // Another's death comes after it: there is nothing before it.
    let mut tokens = bench
        .broker()
        .consume(Source::Token(other), 2)
        .await
        .unwrap();
    let token = next(&mut tokens).await;
    drop((token, tokens));
    let mut notices = bench.broker().consume(Source::Deaths, 2).await.unwrap();
    assert_eq!(dead_executor(&next(&mut notices).await.key), Some(other));
    is_left(bench, DEATHS, 0).await;
}

pub(crate) async fn a_queue_of_ones_own_goes_with_its_consumer(bench: &impl Bench) {
    let executor = executor();
    let queue = longshore::broker::topology::control_queue(executor);
    let deliveries = bench
        .broker()
        .consume(Source::Control(executor), 9)
        .await
        .unwrap();
    drop(deliveries);
    eventually(
        "the queue is gone",
        async || {
            // What meets the queue in its last moment may be refused.
            let nudge = message(Ingress::Control, &nudge_key(executor), "a");
            drop(bench.broker().publish(vec![nudge]).await);
            bench.depth(SIGNALS).await
        },
        |signals| signals.is_some_and(|signals| signals > 0),
    )
    .await;
    assert_eq!(bench.depth(&queue).await, None);
}

pub(crate) async fn the_history_has_everything_but_submissions_and_single_announcements(
    bench: &impl Bench,
) {
    let mut history = bench
        .broker()
        .consume(Source::History(Since::Next), 50)
        .await
        .unwrap();
    let key = |ingress| match ingress {
        Ingress::Signals => "cancel.x",
        Ingress::Tasks
        | Ingress::Submissions
        | Ingress::Results
        | Ingress::Subtasks
        | Ingress::Announced
        | Ingress::Control => "all.default.x",
    };
    let one_of_each =
        Ingress::ALL.map(|ingress| message(ingress, key(ingress), ingress.exchange()));
    // A signal has a payload: it is not for taps.
    let signal = message(Ingress::Signals, "signal.x", "secret");
    for message in [signal].into_iter().chain(one_of_each) {
        publish(bench.broker(), vec![message]).await;
    }
    let seen = take(&mut history, 4).await;
    let exchanges: Vec<String> = seen
        .iter()
        .map(|delivery| delivery.exchange.clone())
        .collect();
    let expected: Vec<String> = Ingress::ALL
        .into_iter()
        .filter(|ingress| {
            ![Ingress::Submissions, Ingress::Tasks, Ingress::Subtasks].contains(ingress)
        })
        .map(|ingress| ingress.exchange().to_owned())
        .collect();
    assert_eq!(exchanges, expected);
    assert_eq!(bench.depth("longshore.submissions").await, Some(1));
}

pub(crate) async fn the_history_is_read_again_from_any_place(bench: &impl Bench) {
    let told = |number: u32| message(Ingress::Announced, "announced", &number.to_string());
    publish(bench.broker(), (0..20).map(told).collect()).await;
    let offsets = |since, count| async move {
        let mut reader = bench
            .broker()
            .consume(Source::History(since), 7)
            .await
            .unwrap();
        let mut seen = Vec::new();
        for _ in 0..count {
            let delivery = next(&mut reader).await;
            seen.push((delivery.offset.unwrap(), body(&delivery)));
            delivery.ack();
        }
        seen
    };
    let all = offsets(Since::First, 20).await;
    assert!(
        all.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1),
        "{all:?}"
    );
    assert_eq!(all[0].1, "0");
    assert_eq!(offsets(Since::Offset(all[13].0), 7).await, all[13..]);
    assert_eq!(offsets(Since::First, 20).await, all);
}

pub(crate) async fn many_publishes_are_answered_in_order(bench: &impl Bench) {
    let mut messages = announcements(2_000);
    messages[1_000].body = vec![b'x'; MESSAGE_BYTES_MAX + 1];
    let results = bench.broker().publish(messages).await;
    let too_large = BrokerError::TooLarge {
        bytes: MESSAGE_BYTES_MAX + 1,
        bytes_max: MESSAGE_BYTES_MAX,
    };
    for (place, result) in results.into_iter().enumerate() {
        let expected = if place == 1_000 {
            Err(too_large.clone())
        } else {
            Ok(())
        };
        assert_eq!(result, expected, "{place}");
    }
    is_left(bench, &default_queue(), 1_999).await;
    let mut deliveries = bench.broker().consume(default_work(), 500).await.unwrap();
    for _ in 0..1_999 {
        next(&mut deliveries).await.ack();
    }
    is_left(bench, &default_queue(), 0).await;
}

pub(crate) async fn a_message_keeps_all_that_it_is_made_of(bench: &impl Bench) {
    let sent = Message {
        content: Content::Batch,
        body: vec![0, 159, 255],
        ..message(Ingress::Submissions, "submit.default.echo", "a")
    };
    publish(bench.broker(), vec![sent.clone()]).await;
    let mut deliveries = bench
        .broker()
        .consume(Source::Submissions, 1)
        .await
        .unwrap();
    let got = next(&mut deliveries).await;
    assert_eq!(got.exchange, "longshore.submissions");
    assert_eq!((&got.key, &got.body), (&sent.key, &sent.body));
    assert_eq!(got.message_id, Some(sent.id));
    assert_eq!(
        got.content_type.as_deref(),
        Some(Content::Batch.content_type())
    );
    assert_eq!((got.is_redelivered, got.offset), (false, None));
}

pub(crate) async fn a_closed_broker_ends_its_consumers_and_publishes_nothing(bench: &impl Bench) {
    let mut deliveries = bench.broker().consume(default_work(), 1).await.unwrap();
    bench.broker().close().await;
    assert!(deliveries.next().await.is_none());
    let results = bench.broker().publish(announcements(1)).await;
    assert!(
        matches!(results[..], [Err(BrokerError::Unavailable { .. })]),
        "{results:?}"
    );
    assert!(matches!(*bench.broker().health().borrow(), Health::Down(_)));
    assert!(bench.broker().consume(default_work(), 1).await.is_err());
}
