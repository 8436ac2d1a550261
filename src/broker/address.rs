//! The address of a broker.

use std::fmt;
use std::str::FromStr;

use super::BrokerError;

/// The address of a broker.
#[derive(Clone, PartialEq, Eq)]
pub enum BrokerAddress {
    /// In this process.
    Embedded,
    /// No broker: executors find ready tasks in the store.
    None,
    /// RabbitMQ by AMQP 0-9-1: `amqp://USER:PASSWORD@HOST:5672/VHOST`.
    Amqp(String),
}

impl FromStr for BrokerAddress {
    type Err = BrokerError;

    fn from_str(text: &str) -> Result<Self, BrokerError> {
        match text {
            "embedded" => Ok(Self::Embedded),
            "none" => Ok(Self::None),
            url if url.starts_with("amqp://") || url.starts_with("amqps://") => {
                Ok(Self::Amqp(url.to_owned()))
            }
            other => {
                let scheme = other.split_once(':').map_or(other, |(scheme, _)| scheme);
                let scheme: String = scheme.chars().take(20).collect();
                Err(BrokerError::Address {
                    reason: format!("its scheme is `{scheme}`"),
                })
            }
        }
    }
}

impl fmt::Display for BrokerAddress {
    /// The address with its password masked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.pad("embedded"),
            Self::None => f.pad("none"),
            Self::Amqp(url) => f.pad(&crate::domain::masked_url(url)),
        }
    }
}

impl fmt::Debug for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
