//! What a broker lacks, as data and as lines for people.

use std::fmt;

use super::super::topology::{Binding, Destination, Exchange, Policy, Queue, Role};

/// Something that has to be on the broker.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The virtual host.
    Vhost(String),
    /// An exchange.
    Exchange(Exchange),
    /// A shared queue.
    Queue(Queue),
    /// A binding.
    Binding(Binding),
    /// A policy.
    Policy(Policy),
    /// What a user may do.
    Permission(Role),
}

/// A difference between a broker and the topology.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is not there; `apply` makes it.
    Missing(Item),
    /// It is there, but different; `apply` changes a policy or a permission, and refuses the rest.
    Different {
        /// What it has to be.
        item: Item,
        /// What it is.
        found: String,
    },
    /// Nobody needs it; `apply` leaves it alone.
    Unexpected(String),
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vhost(name) => write!(f, "virtual host {name}"),
            Self::Exchange(exchange) => {
                let internal = if exchange.is_internal {
                    ", internal"
                } else {
                    ""
                };
                let kind = exchange.kind.word();
                write!(f, "exchange {} ({kind}, durable{internal})", exchange.name)
            }
            Self::Queue(queue) => write!(f, "queue {} ({})", queue.name, queue.kind.word()),
            Self::Binding(binding) => write_binding(f, binding),
            Self::Policy(policy) => write!(f, "policy {} for {}", policy.name, policy.pattern),
            Self::Permission(role) => write!(f, "permissions of {}", role.user),
        }
    }
}

fn write_binding(f: &mut fmt::Formatter<'_>, binding: &Binding) -> fmt::Result {
    let (kind, name) = match &binding.destination {
        Destination::Exchange(name) => ("exchange", name),
        Destination::Queue(name) => ("queue", name),
    };
    write!(
        f,
        "binding {} -> {kind} {name} ({})",
        binding.source, binding.key
    )
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(item) => write!(f, "+ {item}"),
            Self::Different { item, found } => write!(f, "~ {item}: found {found}"),
            Self::Unexpected(what) => write!(f, "? unexpected {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::topology::ExchangeKind;
    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let exchange = Exchange {
            name: "longshore.tasks",
            kind: ExchangeKind::Fanout,
            is_internal: false,
        };
        let missing = Change::Missing(Item::Exchange(exchange));
        assert_eq!(
            missing.to_string(),
            "+ exchange longshore.tasks (fanout, durable)"
        );
        let binding = Binding {
            source: "a".to_owned(),
            destination: Destination::Queue("b".to_owned()),
            key: "#".to_owned(),
        };
        let unexpected = Change::Unexpected(Item::Binding(binding).to_string());
        assert_eq!(
            unexpected.to_string(),
            "? unexpected binding a -> queue b (#)"
        );
    }
}
