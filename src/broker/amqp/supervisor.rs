//! What opens a link, watches it, and opens the next.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use lapin::uri::AMQPUri;
use tokio::sync::watch;

use super::super::BrokerError;
use super::Links;
use super::link::Link;
use super::status::Status;
use crate::background::Background;
use crate::clock::{Clock, Pauses};

/// A link that lived this long was a good one: the next attempt comes soon again. One that keeps breaking at
/// once shall not keep the broker busy with handshakes.
const GOOD_LINK_DURATION: Duration = Duration::from_secs(10);

/// How long a link must live until the broker is said to be back.
const STEADY_DURATION: Duration = Duration::from_secs(3);

/// How long publishes and consumers may take to finish before their link is closed under them.
const FINISH_DURATION_MAX: Duration = Duration::from_secs(4);

/// The task that keeps a link open.
pub(super) struct Supervisor {
    pub(super) uri: AMQPUri,
    pub(super) name: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) status: Arc<Status>,
    pub(super) links: watch::Sender<Links>,
    /// The publisher and the consumers: the link is closed after they have ended.
    pub(super) users: Background,
}

impl Supervisor {
    /// Tells what the first attempt has brought, before anybody asks.
    pub(super) fn announce(&self, first: &Result<Arc<Link>, BrokerError>) {
        match first {
            Ok(link) => self.up(link),
            Err(error) => self.down(&reason(error)),
        }
    }

    /// Keeps a link open until the users shall stop, beginning with what the first attempt has brought.
    pub(super) async fn run(self, first: Result<Arc<Link>, BrokerError>) {
        let mut next = first;
        let mut pauses = Pauses::new(&self.clock);
        let mut is_lost = false;
        loop {
            let (reason, is_over) = match next {
                Ok(link) => {
                    let begun = self.clock.monotonic();
                    let is_over = self.use_up(&link, &mut is_lost).await;
                    if self.clock.monotonic().saturating_sub(begun) >= GOOD_LINK_DURATION {
                        pauses.reset();
                    }
                    (link.reason(), is_over)
                }
                Err(error) => {
                    self.down(&reason(&error));
                    (reason(&error), false)
                }
            };
            if is_over || self.users.is_stopping() {
                return self.down("it was closed");
            }
            if !std::mem::replace(&mut is_lost, true) {
                tracing::warn!(reason, "the broker is away; trying again");
            }
            let attempt = async {
                self.clock.sleep(pauses.next()).await;
                Link::open(&self.uri, &self.name, &self.clock).await
            };
            next = tokio::select! {
                next = attempt => next.map(Arc::new),
                () = self.users.stopping() => return self.down("it was closed"),
            };
        }
    }

    /// Lets everybody use the link until it breaks, or until they shall stop; answers whether they shall.
    async fn use_up(&self, link: &Arc<Link>, is_lost: &mut bool) -> bool {
        self.up(link);
        let mut watch = pin!(link.watch(&self.status));
        let mut steady = pin!(self.clock.sleep(STEADY_DURATION));
        let is_over = loop {
            tokio::select! {
                () = &mut watch => break false,
                // Said late: a broker that starts up lets clients in, and throws them out again.
                () = &mut steady, if *is_lost => {
                    *is_lost = false;
                    tracing::info!("the broker is back");
                }
                () = self.users.stopping() => {
                    tokio::select! {
                        () = self.users.ended() => {}
                        () = &mut watch => {}
                        () = self.clock.sleep(FINISH_DURATION_MAX) => {}
                    }
                    break true;
                }
            }
        };
        link.fail("it was closed");
        self.down(&link.reason());
        link.close().await;
        is_over
    }

    fn up(&self, link: &Arc<Link>) {
        self.status.up();
        self.links.send_replace(Links::Up(Arc::clone(link)));
    }

    fn down(&self, reason: &str) {
        self.status.down(reason);
        self.links.send_replace(Links::Down(reason.to_owned()));
    }
}

/// The cause without the words that every broker error begins with: health says those itself.
fn reason(error: &BrokerError) -> String {
    match error {
        BrokerError::Unavailable { reason } | BrokerError::Denied { reason } => reason.clone(),
        BrokerError::Address { .. }
        | BrokerError::NoQueue { .. }
        | BrokerError::Refused
        | BrokerError::Unconfirmed
        | BrokerError::TooLarge { .. } => error.to_string(),
    }
}
