//! The topology as a definitions file, which RabbitMQ imports at boot or by `rabbitmqctl import_definitions`.
//!
//! Source: <https://www.rabbitmq.com/docs/definitions>.

use serde_json::{Value, json};

use super::{Binding, Destination, Policy, Queue, QueueKind, Role, Topology};

impl QueueKind {
    /// The word for it in the queue argument `x-queue-type`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }
}

/// The definitions file of `topology` in the virtual host `vhost`.
///
/// Users have an empty password hash: nobody can log in with a password until an operator sets one.
pub fn definitions(topology: &Topology, vhost: &str) -> Value {
    let exchanges = topology.exchanges.iter().map(|exchange| {
        json!({"name": exchange.name, "vhost": vhost, "type": exchange.kind.word(), "durable": true,
               "auto_delete": false, "internal": exchange.is_internal, "arguments": {}})
    });
    json!({
        "vhosts": [{"name": vhost}],
        "users": topology.roles.iter().map(user).collect::<Vec<_>>(),
        "permissions": list(&topology.roles, |role| permission(role, vhost)),
        "topic_permissions": [],
        "parameters": [],
        "global_parameters": [],
        "policies": list(&topology.policies, |one| policy(one, vhost)),
        "exchanges": exchanges.collect::<Vec<_>>(),
        "queues": list(&topology.queues, |one| queue(one, vhost)),
        "bindings": list(&topology.bindings, |one| binding(one, vhost)),
    })
}

fn list<T>(items: &[T], to_json: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(to_json).collect()
}

fn user(role: &Role) -> Value {
    // A list in newer versions, words joined by commas in older ones; both take the latter.
    json!({"name": role.user, "password_hash": "", "tags": role.tags,
           "hashing_algorithm": "rabbit_password_hashing_sha256", "limits": {}})
}

fn permission(role: &Role, vhost: &str) -> Value {
    json!({"user": role.user, "vhost": vhost, "configure": role.configure, "write": role.write,
           "read": role.read})
}

fn policy(policy: &Policy, vhost: &str) -> Value {
    json!({"vhost": vhost, "name": policy.name, "pattern": policy.pattern, "apply-to": policy.apply_to,
           "priority": 0, "definition": policy.definition})
}

fn queue(queue: &Queue, vhost: &str) -> Value {
    json!({"name": queue.name, "vhost": vhost, "durable": true, "auto_delete": false,
           "arguments": {"x-queue-type": queue.kind.word()}})
}

fn binding(binding: &Binding, vhost: &str) -> Value {
    let (kind, name) = match &binding.destination {
        Destination::Exchange(name) => ("exchange", name),
        Destination::Queue(name) => ("queue", name),
    };
    json!({"source": binding.source, "vhost": vhost, "destination": name, "destination_type": kind,
           "routing_key": binding.key, "arguments": {}})
}

#[cfg(test)]
mod tests {
    use super::super::{VHOST, topology};
    use super::*;
    use crate::domain::QueueName;

    #[test]
    fn the_definitions_file_is_what_the_topology_says() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/broker-config/definitions.json"
        );
        let kept: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let said = definitions(&topology(&[QueueName::default_queue()]), VHOST);
        assert!(
            kept == said,
            "broker-config/definitions.json is not what the topology says; type\n\
             cargo run -- broker definitions > broker-config/definitions.json\n{said:#}"
        );
    }
}
