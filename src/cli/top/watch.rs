//! What goes on beside the screen: looks at the store, and the tap. Neither holds up the other, nor the screen.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::model::{News, pause};
use crate::broker::{Broker, Health, Since};
use crate::clock::Clock;
use crate::store::Store;
use crate::tap::{Filter, Seen, Tap};

/// Tasks of each state that are looked at.
const TASKS_MAX: usize = 200;

/// Looks at the store again and again, and more rarely when that takes long; `wake` asks for a look at once.
pub(super) async fn look(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    news: mpsc::Sender<News>,
    mut wake: watch::Receiver<u64>,
) {
    loop {
        let (found, took) = look_once(&store, &clock).await;
        if news.send(found).await.is_err() {
            return; // Nobody watches any more.
        }
        tokio::select! {
            biased;
            changed = wake.changed() => if changed.is_err() { return },
            () = clock.sleep(pause(interval, took)) => {}
        }
    }
}

/// One look, and how long it took.
pub(super) async fn look_once(store: &Arc<dyn Store>, clock: &Arc<dyn Clock>) -> (News, Duration) {
    let began = clock.monotonic();
    let answer = store.overview(TASKS_MAX).await;
    let took = clock.monotonic().saturating_sub(began);
    let news = match answer {
        Ok(overview) => News::Looked(Box::new(overview), took),
        Err(error) => News::StoreAway(error.to_string()),
    };
    (news, took)
}

/// Listens to everything that happens from now on. When nobody takes it, it reads no further; the broker keeps the rest
/// for a while.
pub(super) async fn listen(broker: Arc<dyn Broker>, news: mpsc::Sender<News>) {
    let mut tap = match Tap::open(&broker, Filter::default(), Since::Next).await {
        Ok(tap) => tap,
        Err(error) => {
            drop(news.send(News::NoEvents(error.to_string())).await);
            return;
        }
    };
    while let Some(seen) = tap.next().await {
        let seen = match seen {
            Seen::Event { event, .. } => News::Seen(event),
            Seen::Gap { missed } => News::Missed(missed),
        };
        if news.send(seen).await.is_err() {
            return;
        }
    }
}

/// Tells what the broker is like, now and whenever that changes.
pub(super) async fn feel(mut health: watch::Receiver<Health>, news: mpsc::Sender<News>) {
    loop {
        let now = health.borrow_and_update().clone();
        if news.send(News::Broker(now)).await.is_err() || health.changed().await.is_err() {
            return;
        }
    }
}
