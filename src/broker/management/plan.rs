//! How what is found on a broker differs from the topology. Pure.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::topology::{Binding, Destination, Policy, ROUTE, Role, Topology, work_binding};
use super::{Change, Item};
use crate::domain::QueueName;

#[derive(Debug, Deserialize)]
pub(super) struct Vhost {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct FoundExchange {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    durable: bool,
    internal: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct FoundQueue {
    name: String,
    durable: bool,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FoundBinding {
    source: String,
    destination: String,
    destination_type: String,
    routing_key: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct FoundPolicy {
    name: String,
    pattern: String,
    #[serde(rename = "apply-to")]
    apply_to: String,
    definition: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct FoundPermission {
    user: String,
    configure: String,
    write: String,
    read: String,
}

/// What is on a broker.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) has_vhost: bool,
    pub(super) exchanges: Vec<FoundExchange>,
    pub(super) queues: Vec<FoundQueue>,
    pub(super) bindings: Vec<FoundBinding>,
    pub(super) policies: Vec<FoundPolicy>,
    /// All users, and their rights in the virtual host; `None` when nobody asked.
    pub(super) permissions: Option<(Vec<User>, Vec<FoundPermission>)>,
}

/// The differences, in an order in which they can be put right.
pub(super) fn plan(topology: &Topology, vhost: &str, found: &Found) -> Vec<Change> {
    let mut changes = Vec::new();
    if !found.has_vhost {
        changes.push(Change::Missing(Item::Vhost(vhost.to_owned())));
    }
    plan_exchanges(topology, found, &mut changes);
    // Before the queues: some settings of a queue count from its first moment.
    plan_policies(topology, found, &mut changes);
    plan_queues(topology, found, &mut changes);
    plan_bindings(topology, found, &mut changes);
    plan_permissions(topology, found, &mut changes);
    changes
}

/// Compares one item with what was found of it.
fn compare<T>(
    item: Item,
    found: Option<&T>,
    describe: impl Fn(&T) -> Option<String>,
) -> Option<Change> {
    match found {
        None => Some(Change::Missing(item)),
        Some(found) => describe(found).map(|found| Change::Different { item, found }),
    }
}

fn plan_exchanges(topology: &Topology, found: &Found, changes: &mut Vec<Change>) {
    for exchange in &topology.exchanges {
        let same = found.exchanges.iter().find(|one| one.name == exchange.name);
        changes.extend(compare(Item::Exchange(*exchange), same, |one| {
            let is_right = one.kind == exchange.kind.word()
                && one.durable
                && one.internal == exchange.is_internal;
            let durable = if one.durable { "durable" } else { "transient" };
            let internal = if one.internal { ", internal" } else { "" };
            (!is_right).then(|| format!("{}, {durable}{internal}", one.kind))
        }));
    }
    for one in &found.exchanges {
        let is_ours = topology
            .exchanges
            .iter()
            .any(|exchange| exchange.name == one.name);
        if !is_ours && !one.name.is_empty() && !one.name.starts_with("amq.") {
            changes.push(Change::Unexpected(format!("exchange {}", one.name)));
        }
    }
}

fn plan_policies(topology: &Topology, found: &Found, changes: &mut Vec<Change>) {
    for policy in &topology.policies {
        let same = found.policies.iter().find(|one| one.name == policy.name);
        changes.extend(compare(Item::Policy(policy.clone()), same, |one| {
            differences(policy, one)
        }));
    }
    for one in &found.policies {
        if !topology
            .policies
            .iter()
            .any(|policy| policy.name == one.name)
        {
            changes.push(Change::Unexpected(format!(
                "policy {} for {}",
                one.name, one.pattern
            )));
        }
    }
}

fn differences(policy: &Policy, found: &FoundPolicy) -> Option<String> {
    let mut parts = Vec::new();
    if found.pattern != policy.pattern {
        parts.push(format!("pattern {}", found.pattern));
    }
    if found.apply_to != policy.apply_to {
        parts.push(format!("apply-to {}", found.apply_to));
    }
    if found.definition != policy.definition {
        parts.push(found.definition.to_string());
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn plan_queues(topology: &Topology, found: &Found, changes: &mut Vec<Change>) {
    for queue in &topology.queues {
        let same = found.queues.iter().find(|one| one.name == queue.name);
        changes.extend(compare(Item::Queue(queue.clone()), same, |one| {
            let kind = one.arguments.get("x-queue-type").and_then(Value::as_str);
            let is_right =
                one.durable && one.arguments.len() == 1 && kind == Some(queue.kind.word());
            let durable = if one.durable { "durable" } else { "transient" };
            (!is_right).then(|| format!("{durable}, {}", Value::Object(one.arguments.clone())))
        }));
    }
    for one in &found.queues {
        let is_ours = topology.queues.iter().any(|queue| queue.name == one.name);
        if !is_ours && !is_made_later(&one.name) {
            changes.push(Change::Unexpected(format!("queue {}", one.name)));
        }
    }
}

fn plan_bindings(topology: &Topology, found: &Found, changes: &mut Vec<Change>) {
    let bindings: Vec<Binding> = found.bindings.iter().filter_map(binding).collect();
    for binding in &topology.bindings {
        if !bindings.contains(binding) {
            changes.push(Change::Missing(Item::Binding(binding.clone())));
        }
    }
    for binding in bindings {
        if !topology.bindings.contains(&binding) && !is_bound_later(&binding) {
            changes.push(Change::Unexpected(Item::Binding(binding).to_string()));
        }
    }
}

/// A binding that somebody made; not the one that every queue has to the default exchange.
fn binding(found: &FoundBinding) -> Option<Binding> {
    let name = found.destination.clone();
    (!found.source.is_empty()).then(|| Binding {
        source: found.source.clone(),
        destination: match found.destination_type.as_str() {
            "exchange" => Destination::Exchange(name),
            _ => Destination::Queue(name),
        },
        key: found.routing_key.clone(),
    })
}

fn plan_permissions(topology: &Topology, found: &Found, changes: &mut Vec<Change>) {
    let Some((users, permissions)) = &found.permissions else {
        return;
    };
    let exists = |role: &&Role| users.iter().any(|user| user.name == role.user);
    for role in topology.roles.iter().filter(exists) {
        let same = permissions.iter().find(|one| one.user == role.user);
        changes.extend(compare(Item::Permission(*role), same, |one| {
            let FoundPermission {
                configure,
                write,
                read,
                ..
            } = one;
            let is_right =
                *configure == role.configure && *write == role.write && *read == role.read;
            (!is_right).then(|| format!("configure {configure}, write {write}, read {read}"))
        }));
    }
}

/// Work queues are made when somebody needs one, and every process makes its own queue.
fn is_made_later(queue: &str) -> bool {
    let is_own = ["longshore.web.", "longshore.executor."]
        .iter()
        .any(|own| queue.starts_with(own));
    is_own || work_name(queue).is_some()
}

fn is_bound_later(binding: &Binding) -> bool {
    let Destination::Queue(queue) = &binding.destination else {
        return false;
    };
    match work_name(queue) {
        Some(name) => binding.source == ROUTE && work_binding(&name) == *binding,
        None => is_made_later(queue),
    }
}

fn work_name(queue: &str) -> Option<QueueName> {
    queue.strip_prefix("longshore.work.")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::topology::topology;
    use super::*;

    #[test]
    fn an_empty_broker_lacks_everything_in_an_order_that_works() {
        let topology = topology(&[QueueName::default_queue()]);
        let changes = plan(&topology, "v", &Found::default());
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "+ virtual host v");
        assert_eq!(lines[1], "+ exchange longshore.tasks (fanout, durable)");
        let count = topology.exchanges.len() + topology.queues.len() + topology.bindings.len();
        assert_eq!(lines.len(), 1 + count + topology.policies.len());
    }

    #[test]
    fn what_comes_and_goes_is_not_unexpected() {
        let bound = |source: &str, queue: &str, key: &str| Binding {
            source: source.to_owned(),
            destination: Destination::Queue(queue.to_owned()),
            key: key.to_owned(),
        };
        assert!(is_bound_later(&bound(
            ROUTE,
            "longshore.work.bulk",
            "*.bulk.#"
        )));
        assert!(!is_bound_later(&bound(ROUTE, "longshore.work.bulk", "#")));
        assert!(is_bound_later(&bound(
            "longshore.results",
            "longshore.web.7",
            "x.#"
        )));
        assert!(!is_bound_later(&bound("longshore.results", "mine", "#")));
    }
}
