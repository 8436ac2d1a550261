//! What lapin's errors mean to us.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use super::super::BrokerError;

/// What went wrong on a connection or a channel, and how far it reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is of no use any more.
    Link(String),
    /// The broker has closed the channel: this is not there. In its words.
    NotFound(String),
    /// The broker has closed the channel: no right to it. In its words.
    Denied(String),
    /// The channel is of no use any more; another one may be.
    Channel(String),
}

impl Trouble {
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Link(reason)
            | Self::NotFound(reason)
            | Self::Denied(reason)
            | Self::Channel(reason) => reason,
        }
    }

    /// The same, for a caller of the port.
    pub(super) fn into_error(self) -> BrokerError {
        match self {
            Self::NotFound(reason) => BrokerError::NoQueue {
                what: missing(&reason),
            },
            Self::Denied(reason) => BrokerError::Denied { reason },
            Self::Link(reason) | Self::Channel(reason) => BrokerError::Unavailable { reason },
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        let ErrorKind::ProtocolError(said) = error.kind() else {
            // A channel in a wrong state was closed by an error that somebody else has seen.
            let is_of_channel = matches!(
                error.kind(),
                ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidChannel(_)
            );
            return if is_of_channel {
                Self::Channel("the channel is closed".to_owned())
            } else {
                Self::Link(plain(&error))
            };
        };
        let words = said.get_message().to_string();
        let AMQPErrorKind::Soft(kind) = said.kind() else {
            return Self::Link(words);
        };
        match kind {
            AMQPSoftError::NOTFOUND => Self::NotFound(words),
            AMQPSoftError::ACCESSREFUSED => Self::Denied(words),
            AMQPSoftError::CONTENTTOOLARGE
            | AMQPSoftError::NOROUTE
            | AMQPSoftError::NOCONSUMERS
            | AMQPSoftError::RESOURCELOCKED
            | AMQPSoftError::PRECONDITIONFAILED => Self::Channel(words),
        }
    }
}

/// What a failed attempt to connect means: trying again helps only when the broker is away.
pub(super) fn refusal(error: &Error) -> BrokerError {
    let ErrorKind::ProtocolError(said) = error.kind() else {
        return BrokerError::Unavailable {
            reason: plain(error),
        };
    };
    let reason = said.get_message().to_string();
    // A limit on connections is a refusal too, but a passing one.
    let is_passing = reason.contains("limit");
    match said.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
        | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)
            if !is_passing =>
        {
            BrokerError::Denied { reason }
        }
        AMQPErrorKind::Soft(_) | AMQPErrorKind::Hard(_) => BrokerError::Unavailable { reason },
    }
}

fn plain(error: &Error) -> String {
    if let ErrorKind::IOError(error) = error.kind() {
        return error.to_string();
    }
    error.to_string()
}

/// Names what RabbitMQ misses: `NOT_FOUND - no queue 'x' in vhost 'y'` is queue `x`.
fn missing(words: &str) -> String {
    let mut parts = words.split('\'');
    let kind = parts
        .next()
        .and_then(|before| before.split(' ').rev().nth(1));
    match (kind, parts.next()) {
        (Some(kind), Some(name)) => format!("{kind} `{name}`"),
        (_, _) => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let words = "NOT_FOUND - no queue 'longshore.work.x' in vhost 'longshore'";
        assert_eq!(missing(words), "queue `longshore.work.x`");
        assert_eq!(missing("NOT_FOUND"), "NOT_FOUND");
    }
}
