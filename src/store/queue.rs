//! A row of a queue, and who serves it, for both stores.

use std::collections::BTreeMap;

use super::StoreError;
use super::row::{RowName, name};
use super::time::Time;
use crate::domain::{Operator, QueueName, QueuePause, QueueRecord};

/// A queue, and whether it is paused.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct NameRow {
    name: String,
    paused_at: Option<Time>,
    paused_by: Option<String>,
}

/// The same with the counts of its open tasks.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct QueueRow {
    #[sqlx(flatten)]
    queue: NameRow,
    scheduled: i64,
    ready: i64,
    running: i64,
}

impl NameRow {
    /// The name, and the pause if there is one.
    pub(super) fn read(&self) -> Result<(QueueName, Option<QueuePause>), StoreError> {
        let queue = name("queue", &self.name)?;
        let Some(at) = self.paused_at else {
            return Ok((queue, None));
        };
        let row = RowName("queue", &self.name);
        let by = self.paused_by.as_deref().unwrap_or_default();
        let pause = QueuePause {
            at: row.time("paused_at", at)?,
            by: row.read("paused_by", Operator::new(by))?,
        };
        Ok((queue, Some(pause)))
    }
}

impl QueueRow {
    /// The queue that the row says.
    pub(super) fn into_record(self) -> Result<QueueRecord, StoreError> {
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        let (name, paused) = self.queue.read()?;
        Ok(QueueRecord {
            name,
            paused,
            scheduled: count(self.scheduled),
            ready: count(self.ready),
            running: count(self.running),
        })
    }
}

/// The names of paused queues that can be read: one that nobody could have written pauses nothing.
pub(super) fn names(texts: &[String]) -> Vec<QueueName> {
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// How many executors serve each queue, of texts of their slots and how many have the same. Slots that cannot be read are
/// left out: `executor list` complains of them, and no lease depends on it.
pub(super) fn fleet(
    alike: impl IntoIterator<Item = (impl AsRef<str>, i64)>,
) -> BTreeMap<QueueName, u32> {
    let mut fleet = BTreeMap::new();
    for (text, executors) in alike {
        let slots: BTreeMap<String, u16> = serde_json::from_str(text.as_ref()).unwrap_or_default();
        let served = slots.iter().filter(|(_, slots)| **slots > 0);
        for queue in served.filter_map(|(queue, _)| queue.parse().ok()) {
            let count: &mut u32 = fleet.entry(queue).or_default();
            *count = count.saturating_add(u32::try_from(executors).unwrap_or(u32::MAX));
        }
    }
    fleet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_has_as_many_executors_as_serve_it() {
        let alike = [
            (r#"{"default": 4, "bulk": 1}"#, 2),
            (r#"{"default": 9, "idle": 0}"#, 1),
            ("rubbish", 7),
            (r#"{"No Queue": 1}"#, 7),
        ];
        let expected = [("default", 3), ("bulk", 2)];
        assert_eq!(
            fleet(alike),
            BTreeMap::from(expected.map(|(name, count)| (name.parse().unwrap(), count)))
        );
    }
}
