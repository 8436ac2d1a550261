//! A pair of connections: one to publish and one to consume, so that a publisher that the broker holds back
//! does not hold back acknowledgements. They live and die together.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio_util::sync::CancellationToken;

use super::super::BrokerError;
use super::status::Status;
use super::trouble::{Trouble, refusal};
use crate::clock::Clock;

/// How long connecting may take: a peer that accepts and stays silent would hold us for ever.
const CONNECT_DURATION_MAX: Duration = Duration::from_secs(5);

/// How long the broker may take to answer a declaration. A quorum queue that elects its leader takes seconds.
pub(super) const CALL_DURATION_MAX: Duration = Duration::from_secs(10);

/// How long closing a connection may take; after that the socket just goes.
const CLOSE_DURATION_MAX: Duration = Duration::from_secs(1);

/// Seconds between heartbeats. A dead peer is noticed after two of them.
const HEARTBEAT_SECONDS: u16 = 10;

/// Bytes of a frame. lapin keeps two buffers of 32 frames for each connection: 0.35 MiB instead of 8 MiB.
const FRAME_BYTES_MAX: u32 = 32 * 1024;

/// A pair of connections that work, or have worked.
#[derive(Debug)]
pub(super) struct Link {
    publish: Connection,
    consume: Connection,
    over: CancellationToken,
    reason: OnceLock<String>,
    clock: Arc<dyn Clock>,
}

/// Reads an address, with our defaults for what it does not say.
pub(super) fn parse(url: &str) -> Result<AMQPUri, BrokerError> {
    let address = |reason| BrokerError::Address { reason };
    let mut uri: AMQPUri = url.parse().map_err(address)?;
    // lapin's parser takes a host in brackets for `localhost`.
    if let Some((_, rest)) = url.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if let Some((inner, _)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            inner.clone_into(&mut uri.authority.host);
        }
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    uri.query.frame_max.get_or_insert(FRAME_BYTES_MAX);
    Ok(uri)
}

impl Link {
    /// Opens both connections.
    pub(super) async fn open(
        uri: &AMQPUri,
        name: &str,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, BrokerError> {
        let (publish, consume) = tokio::try_join!(
            connect(uri, format!("{name} publish"), &**clock),
            connect(uri, format!("{name} consume"), &**clock),
        )?;
        Ok(Self {
            publish,
            consume,
            over: CancellationToken::new(),
            reason: OnceLock::new(),
            clock: Arc::clone(clock),
        })
    }

    /// Declares the link broken. The first reason counts.
    pub(super) fn fail(&self, reason: &str) {
        // Only the first can be set: that is the point.
        drop(self.reason.set(reason.to_owned()));
        self.over.cancel();
    }

    /// Resolves once the link is broken.
    pub(super) async fn failed(&self) {
        self.over.cancelled().await;
    }

    pub(super) fn is_failed(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Why it is broken.
    pub(super) fn reason(&self) -> String {
        self.reason.get().cloned().unwrap_or_default()
    }

    /// Follows what happens to the connections; resolves once the link is broken.
    pub(super) async fn watch(&self, status: &Status) {
        let mut publishing = Box::pin(self.publish.events_listener());
        let mut consuming = Box::pin(self.consume.events_listener());
        loop {
            let (event, connection) = tokio::select! {
                () = self.failed() => return,
                event = publishing.next() => (event, &self.publish),
                event = consuming.next() => (event, &self.consume),
            };
            let is_publishing = std::ptr::eq(connection, &raw const self.publish);
            match event {
                Some(Event::ConnectionBlocked(reason)) if is_publishing => {
                    status.block(Some(reason));
                }
                Some(Event::ConnectionUnblocked) if is_publishing => status.block(None),
                Some(Event::Error(error)) => {
                    // An error of a channel is told here too; whoever uses that channel sees it.
                    if error.is_amqp_soft_error() && connection.status().connected() {
                        continue;
                    }
                    if let Trouble::Link(reason) = Trouble::from(error) {
                        self.fail(&reason);
                    }
                }
                // Nothing else says that the link is broken.
                Some(_) => {}
                None => self.fail("the connection ended"),
            }
            if !connection.status().connected() {
                self.fail("the connection ended");
            }
        }
    }

    /// A channel for publishing.
    pub(super) async fn publishing_channel(&self) -> Result<Channel, Trouble> {
        self.call(self.publish.create_channel()).await
    }

    /// Another one, without a limit of time: an alarm may hold it back for long, and that is no trouble of the link.
    pub(super) async fn own_publishing_channel(&self) -> Result<Channel, Trouble> {
        Ok(self.publish.create_channel().await?)
    }

    /// A channel for consuming and declaring.
    pub(super) async fn consuming_channel(&self) -> Result<Channel, Trouble> {
        self.call(self.consume.create_channel()).await
    }

    /// Waits for the broker's answer, within bounds. Trouble that reaches the link breaks it.
    pub(super) async fn call<T>(
        &self,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Trouble> {
        let answer = tokio::select! {
            answer = call => answer.map_err(Trouble::from),
            () = self.failed() => Err(Trouble::Link(self.reason())),
            () = self.clock.sleep(CALL_DURATION_MAX) => {
                Err(Trouble::Link("it did not answer in time".to_owned()))
            }
        };
        if let Err(Trouble::Link(reason)) = &answer {
            self.fail(reason);
        }
        answer
    }

    /// Closes both connections. Whoever still uses them gets errors at once.
    pub(super) async fn close(&self) {
        let close = async {
            // They may be broken already; closing is all we can do.
            drop(tokio::join!(
                self.consume.close(200, "OK".into()),
                self.publish.close(200, "OK".into())
            ));
        };
        tokio::select! {
            () = close => {}
            () = self.clock.sleep(CLOSE_DURATION_MAX) => {}
        }
    }
}

async fn connect(
    uri: &AMQPUri,
    name: String,
    clock: &dyn Clock,
) -> Result<Connection, BrokerError> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    tokio::select! {
        connection = Connection::connect_uri(uri.clone(), properties) => {
            connection.map_err(|error| refusal(&error))
        }
        () = clock.sleep(CONNECT_DURATION_MAX) => Err(BrokerError::Unavailable {
            reason: format!("no answer from `{}` in {CONNECT_DURATION_MAX:?}", uri.authority.host),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_what_it_says_and_gets_our_defaults() {
        let uri = parse("amqp://u:p%40@[::1]:5673/a%2Fb?heartbeat=4").unwrap();
        assert_eq!(uri.authority.host, "::1");
        assert_eq!(uri.authority.port, 5673);
        assert_eq!(uri.authority.userinfo.password, "p@");
        assert_eq!(uri.vhost, "a/b");
        assert_eq!(uri.query.heartbeat, Some(4));
        assert_eq!(uri.query.frame_max, Some(FRAME_BYTES_MAX));
        assert!(matches!(
            parse("amqp://h:x/"),
            Err(BrokerError::Address { .. })
        ));
    }
}
