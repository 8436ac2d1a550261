//! The wish that an executor drain: an event like all, but about an executor and not about a task.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Envelope, parse};
use crate::domain::ExecutorId;

/// The CloudEvents `type`.
const TYPE: &str = "longshore.executor.drain";

/// What it says beside its subject: nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DrainData {}

/// The wish that `executor` drain. `id` must be unique for `source`.
pub fn drain_envelope(
    executor: ExecutorId,
    id: String,
    source: &str,
    time: Timestamp,
) -> Envelope<DrainData> {
    Envelope {
        specversion: "1.0".to_owned(),
        id,
        source: source.to_owned(),
        type_name: TYPE.to_owned(),
        subject: executor.to_string(),
        time,
        datacontenttype: Some("application/json".to_owned()),
        traceparent: None,
        data: DrainData {},
    }
}

/// Which executor is to drain; `None` when `json` says something else.
pub fn parse_drain(json: &[u8]) -> Option<ExecutorId> {
    let envelope: Envelope<DrainData> = parse(json).ok()?;
    let is_drain = envelope.type_name == TYPE && envelope.specversion == "1.0";
    envelope.subject.parse().ok().filter(|_| is_drain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wish_survives_the_wire_and_nothing_else_is_one() {
        let executor = ExecutorId::new(Timestamp::UNIX_EPOCH, 7);
        let wish = drain_envelope(executor, "1".to_owned(), "/x", Timestamp::UNIX_EPOCH);
        let json = serde_json::to_string(&wish).unwrap();
        assert_eq!(parse_drain(json.as_bytes()), Some(executor));
        for (from, to) in [("drain", "drown"), ("\"1.0\"", "\"2.0\"")] {
            assert_eq!(parse_drain(json.replace(from, to).as_bytes()), None);
        }
    }
}
