//! What can go wrong with a broker.

/// What can go wrong with a broker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// It is away, or went away: it is tried again by itself.
    #[error("the broker does not answer: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
    },
    /// It refuses who we are or what we do: user, password, virtual host, permission.
    #[error("the broker refuses: {reason}")]
    Denied {
        /// What it said.
        reason: String,
    },
    /// The address cannot be one.
    #[error(
        "not the address of a broker: {reason}; it is `amqp://USER:PASSWORD@HOST/VHOST`, `embedded` or `none`"
    )]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// A shared queue or an exchange is not there.
    #[error(
        "the broker has no {what}; run `longshore broker apply`, or for a work queue `longshore queue create NAME`"
    )]
    NoQueue {
        /// What is missing: queue `longshore.work.bulk`.
        what: String,
    },
    /// It did not take charge of a message: a full queue, or a node in trouble.
    #[error("the broker refused a message (NACK)")]
    Refused,
    /// It did not say in time whether it took charge of a message.
    #[error("the broker did not confirm a message in time")]
    Unconfirmed,
    /// The message is larger than the broker takes.
    #[error("the message has {bytes} bytes, more than the limit of {bytes_max}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl BrokerError {
    /// Whether the same call may succeed later.
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Refused | Self::Unconfirmed
        )
    }
}
