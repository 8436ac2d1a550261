//! Events and announcements: CloudEvents 1.0 in structured JSON, one or a batch.
//!
//! Source: CloudEvents 1.0.2, section 3 (attributes); JSON format, sections 3 and 4 (structured, batch).

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ProgressJson, WireError, parse};
use crate::domain::{ExecutorId, Payload, TaskFacts, TaskId, TaskState};

/// What an event is about; the last word of its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A task is stored, and ready to be claimed if its state says so.
    Created,
    /// A task succeeded.
    Succeeded,
    /// A task failed for good.
    Failed,
    /// A task was cancelled.
    Cancelled,
    /// A task needs a human.
    Paused,
    /// A task waits and holds no slot.
    Suspended,
    /// An attempt failed; another follows.
    Retried,
    /// A task is ready again: its executor gave it back or was lost.
    Released,
    /// A task is ready: its time came, or what it waited for happened.
    Woken,
    /// Somebody asks for a task's cancellation.
    CancelRequested,
    /// Somebody sends a task a signal, which is to be stored.
    Signal,
    /// A signal is stored for a task that runs: its executor is to look.
    Signalled,
    /// Somebody gives up a paused task.
    AbandonRequested,
    /// An operator has said the output of a paused task: an executor is to report its end.
    Skipped,
    /// An attempt says how far it is.
    Progressed,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 15] = [
        Self::Created,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Paused,
        Self::Suspended,
        Self::Retried,
        Self::Released,
        Self::Woken,
        Self::CancelRequested,
        Self::Signal,
        Self::Signalled,
        Self::AbandonRequested,
        Self::Skipped,
        Self::Progressed,
    ];

    /// The word for it: the first word of routing keys and tap filters.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Paused => "paused",
            Self::Suspended => "suspended",
            Self::Retried => "retried",
            Self::Released => "released",
            Self::Woken => "woken",
            Self::CancelRequested => "cancel",
            Self::Signal => "signal",
            Self::Signalled => "signalled",
            Self::AbandonRequested => "abandon",
            Self::Skipped => "skipped",
            Self::Progressed => "progressed",
        }
    }

    /// The event that says a task came into `state` by an attempt's ending or an operator's wish; `None` for
    /// states that are announced, not reported.
    pub const fn of_state(state: TaskState) -> Option<Self> {
        match state {
            TaskState::Succeeded => Some(Self::Succeeded),
            TaskState::Failed => Some(Self::Failed),
            TaskState::Cancelled => Some(Self::Cancelled),
            TaskState::Paused => Some(Self::Paused),
            TaskState::Suspended => Some(Self::Suspended),
            TaskState::Scheduled => Some(Self::Retried),
            TaskState::Blocked | TaskState::Ready | TaskState::Running => None,
        }
    }

    /// Whether it says that there is work, or will be.
    pub const fn announces(self) -> bool {
        match self {
            Self::Created | Self::Released | Self::Woken => true,
            Self::Succeeded
            | Self::Failed
            | Self::Cancelled
            | Self::Paused
            | Self::Suspended
            | Self::Retried
            | Self::CancelRequested
            | Self::Signal
            | Self::Signalled
            | Self::AbandonRequested
            | Self::Skipped
            | Self::Progressed => false,
        }
    }

    /// The CloudEvents `type`: `longshore.task.created`.
    pub fn type_name(self) -> String {
        format!("longshore.task.{}", self.as_str())
    }

    fn of_type(type_name: &str) -> Option<Self> {
        let word = type_name.strip_prefix("longshore.task.")?;
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A CloudEvents envelope around `T`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Always `1.0`.
    pub specversion: String,
    /// Unique for the source.
    pub id: String,
    /// The process that speaks: `/longshore/executor/…`.
    pub source: String,
    /// `longshore.task.created` and so on.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The task's id.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// Always `application/json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    /// The trace it belongs to (W3C Trace Context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What happened.
    pub data: T,
}

/// What an event says: ids and routing facts, and no payload but that of a signal on its way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EventData {
    /// The action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The task's state afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The attempt that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The parent task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The executor that speaks, or that is spoken to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<String>,
    /// A sentence for people: why it was cancelled or given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The name of a signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What a signal says; no other event has a payload, and a tap sees none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Payload>,
    /// The sender's own word for a signal; without it the event's source and id are that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How far the attempt is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressJson>,
}

/// An event, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub kind: EventKind,
    /// Unique for the source.
    pub id: String,
    /// The process that spoke.
    pub source: String,
    /// Which task.
    pub task: TaskId,
    /// When.
    pub time: Timestamp,
    /// What it says.
    pub data: EventData,
}

impl Event {
    /// The event `kind` of a task. `id` must be unique for `source`.
    pub fn of_task(
        kind: EventKind,
        id: String,
        source: &str,
        time: Timestamp,
        facts: &TaskFacts,
    ) -> Self {
        let data = EventData {
            action: Some(facts.action.to_string()),
            queue: Some(facts.queue.to_string()),
            state: Some(facts.state.to_string()),
            attempt: Some(facts.attempt.0),
            parent: facts.parent.map(|parent| parent.to_string()),
            ..EventData::default()
        };
        Self {
            kind,
            id,
            source: source.to_owned(),
            task: facts.id,
            time,
            data,
        }
    }

    /// The same event, spoken by or to `executor`.
    #[must_use]
    pub fn with_executor(mut self, executor: ExecutorId) -> Self {
        self.data.executor = Some(executor.to_string());
        self
    }

    /// What tap filters are held against: `failed.default.images.resize`.
    pub fn filter_key(&self) -> String {
        let queue = self.data.queue.as_deref().unwrap_or("-");
        let action = self.data.action.as_deref().unwrap_or("-");
        format!("{}.{queue}.{action}", self.kind)
    }

    /// The envelope that carries it.
    pub fn to_envelope(&self) -> Envelope<EventData> {
        self.clone().into_envelope()
    }

    /// The envelope that carries it.
    pub fn into_envelope(self) -> Envelope<EventData> {
        Envelope {
            specversion: "1.0".to_owned(),
            id: self.id,
            source: self.source,
            type_name: self.kind.type_name(),
            subject: self.task.to_string(),
            time: self.time,
            datacontenttype: Some("application/json".to_owned()),
            traceparent: None,
            data: self.data,
        }
    }

    fn from_envelope(envelope: Envelope<EventData>) -> Result<Self, WireError> {
        known_version(&envelope.specversion)?;
        let kind = EventKind::of_type(&envelope.type_name)
            .ok_or_else(|| WireError::UnknownType(envelope.type_name.chars().take(80).collect()))?;
        let task = envelope
            .subject
            .parse()
            .map_err(|error| WireError::Refused(format!("`subject`: {error}")))?;
        let Envelope {
            id,
            source,
            time,
            data,
            ..
        } = envelope;
        Ok(Self {
            kind,
            id,
            source,
            task,
            time,
            data,
        })
    }
}

/// Refuses an envelope of another version of CloudEvents.
pub(super) fn known_version(specversion: &str) -> Result<(), WireError> {
    if specversion == "1.0" {
        return Ok(());
    }
    let found: String = specversion.chars().take(80).collect();
    Err(WireError::Refused(format!(
        "`specversion` is `{found}`, this version reads `1.0`"
    )))
}

/// Reads the events of one message: an object is one event, an array a batch.
///
/// # Errors
///
/// [`WireError`]: nothing of the message is used.
pub fn parse_events(json: &[u8]) -> Result<Vec<Event>, WireError> {
    let is_batch = json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let envelopes: Vec<Envelope<EventData>> = if is_batch {
        parse(json)?
    } else {
        vec![parse(json)?]
    };
    envelopes.into_iter().map(Event::from_envelope).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ActionName, Attempt, QueueName};

    fn event(kind: EventKind) -> Event {
        let facts = TaskFacts {
            id: TaskId::new(Timestamp::from_second(1).unwrap(), 1),
            action: ActionName::new("images.resize").unwrap(),
            queue: QueueName::default_queue(),
            state: TaskState::Ready,
            attempt: Attempt(2),
            parent: None,
            origin: None,
        };
        Event::of_task(
            kind,
            "e1".to_owned(),
            "/longshore/web/w",
            Timestamp::from_second(2).unwrap(),
            &facts,
        )
    }

    #[test]
    fn every_kind_survives_the_wire_alone_and_in_a_batch() {
        let events: Vec<Event> = EventKind::ALL.into_iter().map(event).collect();
        let envelopes: Vec<_> = events.iter().map(Event::to_envelope).collect();
        assert_eq!(
            parse_events(&serde_json::to_vec(&envelopes).unwrap()).unwrap(),
            events
        );
        for (event, envelope) in events.iter().zip(&envelopes) {
            let read = parse_events(&serde_json::to_vec(envelope).unwrap()).unwrap();
            assert_eq!(read, std::slice::from_ref(event));
        }
    }

    #[test]
    fn an_event_has_the_shape_of_the_contract() {
        let envelope =
            serde_json::to_string_pretty(&event(EventKind::Created).to_envelope()).unwrap();
        insta::assert_snapshot!(envelope, @r#"
        {
          "specversion": "1.0",
          "id": "e1",
          "source": "/longshore/web/w",
          "type": "longshore.task.created",
          "subject": "00000000-03e8-7000-8000-000000000001",
          "time": "1970-01-01T00:00:02Z",
          "datacontenttype": "application/json",
          "data": {
            "action": "images.resize",
            "queue": "default",
            "state": "ready",
            "attempt": 2
          }
        }
        "#);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let change = |from: &str, to: &str| {
            let json = serde_json::to_string(&event(EventKind::Created).to_envelope()).unwrap();
            parse_events(json.replace(from, to).as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            change("longshore.task.created", "longshore.task.sung"),
            "the event type `longshore.task.sung` is not known to this version"
        );
        assert_eq!(
            change("\"1.0\"", "\"2.0\""),
            "`specversion` is `2.0`, this version reads `1.0`"
        );
        assert!(change("00000000-03e8", "x").starts_with("`subject`: not a task id"));
    }

    #[test]
    fn filters_see_kind_queue_and_action() {
        assert_eq!(
            event(EventKind::Failed).filter_key(),
            "failed.default.images.resize"
        );
    }
}
