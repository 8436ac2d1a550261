//! What the broker gives up on.

use longshore::broker::topology::{DEAD, UNROUTED};
use longshore::broker::{Ingress, Source};

use super::broker::{
    Bench, announcements, body, default_queue, default_work, is_left, message, next, publish,
};

/// What executors are told of a message that the broker gave up on: its exchange and its body.
async fn flagged(bench: &impl Bench) -> [String; 2] {
    let mut flags = bench.broker().consume(Source::Flags, 1).await.unwrap();
    let flag = next(&mut flags).await;
    [flag.exchange.clone(), body(&flag)]
}

pub(crate) async fn what_nobody_can_use_goes_to_the_dead_letters(bench: &impl Bench) {
    let mut deliveries = bench.broker().consume(default_work(), 1).await.unwrap();
    publish(bench.broker(), announcements(2)).await;
    next(&mut deliveries).await.reject();
    is_left(bench, DEAD, 1).await;
    assert_eq!(flagged(bench).await, [DEAD, "0"]);
    // It frees credit as well.
    assert_eq!(body(&next(&mut deliveries).await), "1");
}

pub(crate) async fn an_announcement_for_no_queue_is_kept(bench: &impl Bench) {
    publish(
        bench.broker(),
        vec![message(Ingress::Tasks, "created.nowhere.echo", "a")],
    )
    .await;
    is_left(bench, UNROUTED, 1).await;
    assert_eq!(flagged(bench).await, [Ingress::Tasks.exchange(), "a"]);
    is_left(bench, &default_queue(), 0).await;
}
