//! What became of the signals of a batch, for both stores.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::row::name;
use super::{Signalled, StoreError};
use crate::domain::{ExecutorId, IdempotencyKey, NewSignal, TaskFacts, TaskId, TaskState};

/// A task that signals are for.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Receiver {
    id: Uuid,
    state: String,
    executor: Option<Uuid>,
}

/// What is known of the tasks that a batch of signals is for.
#[derive(Debug)]
pub(super) struct Stored {
    receivers: HashMap<Uuid, (TaskState, Option<ExecutorId>)>,
    waiting: HashMap<Uuid, i64>,
    /// How many of a task may wait.
    max: i64,
    /// Keys that were stored before, by task; looked up only where some may be refused for want of room.
    known: HashSet<(Uuid, String)>,
    /// The keys that were stored now, by task.
    keys: HashSet<(Uuid, String)>,
    /// The signals of a batch that were let in, in its order.
    admitted: Vec<bool>,
}

impl Stored {
    pub(super) fn new(
        receivers: Vec<Receiver>,
        waiting: Vec<(Uuid, i64)>,
        max: u32,
    ) -> Result<Self, StoreError> {
        let mut known = HashMap::with_capacity(receivers.len());
        for row in receivers {
            let state: TaskState = name("task", &row.state)?;
            let executor = row.executor.filter(|_| state == TaskState::Running);
            known.insert(row.id, (state, executor.map(ExecutorId::from_uuid)));
        }
        Ok(Self {
            receivers: known,
            waiting: waiting.into_iter().collect(),
            max: max.into(),
            known: HashSet::new(),
            keys: HashSet::new(),
            admitted: Vec::new(),
        })
    }

    /// Whether some of `signals` may find no room: then it matters which keys are known, because what is known needs none.
    pub(super) fn is_crowded(&self, signals: &[NewSignal]) -> bool {
        let coming = i64::try_from(signals.len()).unwrap_or(i64::MAX);
        let most = self.waiting.values().max().copied().unwrap_or(0);
        most.saturating_add(coming) > self.max
    }

    /// These keys were stored before.
    pub(super) fn know(&mut self, keys: Vec<(Uuid, String)>) {
        self.known = keys.into_iter().collect();
    }

    /// Whether the next signal of the batch is to be stored.
    pub(super) fn admits(&mut self, signal: &NewSignal) -> bool {
        let task = signal.task.as_uuid();
        let is_open = self
            .receivers
            .get(&task)
            .is_some_and(|(state, _)| !state.is_final());
        let is_known = (signal.key.as_ref())
            .is_some_and(|key| self.known.contains(&(task, key.as_str().to_owned())));
        let waiting = self.waiting.entry(task).or_default();
        let has_room = *waiting < self.max;
        if is_open && has_room && !is_known {
            *waiting += 1;
        }
        let is_admitted = is_open && (has_room || is_known);
        self.admitted.push(is_admitted);
        is_admitted
    }

    /// Whether a signal that was let in was stored: the key of any other was known.
    pub(super) fn is_new(&self, signal: &NewSignal) -> bool {
        let task = signal.task.as_uuid();
        signal
            .key
            .as_ref()
            .is_none_or(|key| self.keys.contains(&(task, key.as_str().to_owned())))
    }

    /// Enters what was stored: the others had keys that were known.
    pub(super) fn enter_keys(&mut self, rows: Vec<(Uuid, Option<String>)>) {
        let keys = rows
            .into_iter()
            .filter_map(|(task, key)| Some((task, key?)));
        self.keys = keys.collect();
    }
}

/// The keys of a batch.
pub(super) fn keys(signals: &[NewSignal]) -> Vec<&str> {
    let keys = signals.iter().filter_map(|signal| signal.key.as_ref());
    keys.map(IdempotencyKey::as_str).collect()
}

/// The answers of a batch, in its order.
pub(super) fn signalled(
    signals: &[NewSignal],
    stored: &mut Stored,
    woken: Vec<TaskFacts>,
) -> Vec<Signalled> {
    // Removed, not looked up: a task is announced once, and a key that was sent twice is known the second time.
    let mut woken: HashMap<TaskId, TaskFacts> =
        woken.into_iter().map(|facts| (facts.id, facts)).collect();
    let admitted = std::mem::take(&mut stored.admitted);
    let answer = |(signal, is_admitted): (&NewSignal, bool)| {
        let task = signal.task.as_uuid();
        let (state, executor) = match stored.receivers.get(&task) {
            None => return Signalled::Unknown,
            Some((state, _)) if state.is_final() => return Signalled::Final(*state),
            Some(_) if !is_admitted => return Signalled::Full,
            Some((state, executor)) => (*state, *executor),
        };
        let is_new = match &signal.key {
            None => true,
            Some(key) => stored.keys.remove(&(task, key.as_str().to_owned())),
        };
        if !is_new {
            return Signalled::Known;
        }
        Signalled::Stored {
            woken: woken.remove(&signal.task),
            executor: executor.filter(|_| state == TaskState::Running),
        }
    };
    signals.iter().zip(admitted).map(answer).collect()
}
