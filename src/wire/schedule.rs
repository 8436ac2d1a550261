//! Schedules in JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::submission::field;
use super::{SubmissionJson, WireError, nearest};
use crate::domain::{
    Cron, Firing, PayloadLimits, ScheduleName, ScheduleRecord, ScheduleSpec, Timing, Zone,
    ZoneError,
};

/// Firings to come that are shown with a schedule.
const UPCOMING: usize = 5;

/// A request for a schedule: `name`, `task`, and one of `cron`, `every` and `at`. An unknown field is an error.
///
/// Unit: durations in seconds; times RFC 3339.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewScheduleJson {
    /// What it is called.
    pub name: String,
    /// Five fields, or a shortcut such as `@daily`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// On whose clocks: a name such as `Europe/Prague`; `UTC` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The time between two firings, in seconds, from 1.
    #[serde(
        default,
        with = "super::seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub every: Option<Duration>,
    /// A time at which a firing falls; the others lie around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Timestamp>,
    /// The only time at which it fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// `skip`, `queue` or `cancel_previous`; `skip` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// `none`, `last` or `all`; `last` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<String>,
    /// What each firing submits.
    pub task: SubmissionJson,
}

/// When a schedule fires, in JSON: one of `cron`, `every` and `at`, with what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimingJson {
    /// As in [`NewScheduleJson`], and so are the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// On whose clocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The time between two firings, in seconds.
    #[serde(
        default,
        with = "super::seconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub every: Option<Duration>,
    /// A time at which a firing falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Timestamp>,
    /// The only time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A schedule in JSON.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduleJson {
    /// What it is called.
    pub name: String,
    /// `active`, `paused` or `ended`.
    pub state: String,
    /// When it fires.
    #[serde(flatten)]
    pub timing: TimingJson,
    /// What a firing does while the task of the one before is open.
    pub overlap: String,
    /// What is done about firings that were missed.
    pub catch_up: String,
    /// When it fires next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// The task of its last firing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_task: Option<String>,
    /// Why it was paused, when nobody asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What each firing submits.
    pub task: SubmissionJson,
    /// When it was made.
    pub created_at: Timestamp,
    /// The process that made it.
    pub created_by: String,
}

/// A schedule with what comes and what was.
#[derive(Debug, Clone, Serialize)]
pub struct ScheduleDetailJson {
    /// The schedule.
    #[serde(flatten)]
    pub schedule: ScheduleJson,
    /// The next firings.
    pub upcoming: Vec<Timestamp>,
    /// The last firings, the newest first.
    pub firings: Vec<FiringJson>,
}

/// A firing in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FiringJson {
    /// For when it was due.
    pub due_at: Timestamp,
    /// `fired`, `skipped` or `waiting`.
    pub state: String,
    /// Its task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// When that was decided.
    pub at: Timestamp,
}

/// A page of schedules, by name.
#[derive(Debug, Clone, Serialize)]
pub struct SchedulePage {
    /// The schedules.
    pub schedules: Vec<ScheduleJson>,
    /// Schedules that belong here and whose rows cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableScheduleJson>,
    /// The cursor of the next page, when there may be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A schedule whose row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadableScheduleJson {
    /// What it is called.
    pub name: String,
    /// Which column, and what is wrong with it.
    pub reason: String,
}

impl NewScheduleJson {
    /// The schedule that it asks for. Its task is held against all bounds but the one for the size of its input.
    ///
    /// # Errors
    ///
    /// [`WireError::Refused`], with the field and what would be right.
    pub fn into_domain(self) -> Result<ScheduleSpec, WireError> {
        let timing = TimingJson {
            cron: self.cron,
            time_zone: self.time_zone,
            every: self.every,
            anchor: self.anchor,
            at: self.at,
        };
        let task = self.task.into_domain(PayloadLimits::NONE);
        Ok(ScheduleSpec {
            name: ScheduleName::new(&self.name)
                .map_err(|error| WireError::Refused(format!("`name`: {error}")))?,
            timing: timing.into_domain()?,
            task: task.map_err(in_task)?,
            overlap: field("overlap", self.overlap.as_deref())?.unwrap_or_default(),
            catch_up: field("catch_up", self.catch_up.as_deref())?.unwrap_or_default(),
        })
    }
}

impl TimingJson {
    /// The timing that it says.
    ///
    /// # Errors
    ///
    /// [`WireError::Refused`], with the field and what would be right.
    pub fn into_domain(self) -> Result<Timing, WireError> {
        let belongs = |field, to| {
            Err(WireError::Refused(format!(
                "`{field}` belongs to `{to}`, which is not there"
            )))
        };
        if self.time_zone.is_some() && self.cron.is_none() {
            return belongs("time_zone", "cron");
        }
        if self.anchor.is_some() && self.every.is_none() {
            return belongs("anchor", "every");
        }
        match (self.cron, self.every, self.at) {
            (Some(cron), None, None) => Ok(Timing::Cron {
                cron: Cron::new(&cron)
                    .map_err(|error| WireError::Refused(format!("`cron`: {error}")))?,
                zone: self.time_zone.map_or(Ok(Zone::utc()), |name| zone(&name))?,
            }),
            // Stores know microseconds.
            (None, Some(every), None) => Ok(Timing::Interval {
                every: Duration::from_micros(
                    u64::try_from((every.as_nanos() + 500) / 1000).unwrap_or(u64::MAX),
                ),
                anchor: self.anchor.map(whole),
            }),
            (None, None, Some(at)) => Ok(Timing::Once(whole(at))),
            (None, None, None) => Err(WireError::Refused(
                "it says not when: one of `cron`, `every` and `at` must be there".to_owned(),
            )),
            (_, _, _) => Err(WireError::Refused(
                "only one of `cron`, `every` and `at` can be there".to_owned(),
            )),
        }
    }
}

/// The zone of a name, or which one was probably meant.
fn zone(name: &str) -> Result<Zone, WireError> {
    Zone::new(name).map_err(|error: ZoneError| {
        let known = Zone::names();
        let near = nearest(name, known.iter().map(String::as_str));
        let near = near.map(|near| format!(", did you mean `{near}`?"));
        WireError::Refused(format!("`time_zone`: {error}{}", near.unwrap_or_default()))
    })
}

/// Whole microseconds, as stores cut them.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn in_task(error: WireError) -> WireError {
    match error {
        WireError::Refused(reason) => WireError::Refused(format!("`task`: {reason}")),
        other @ (WireError::Shape { .. } | WireError::UnknownType(_)) => other,
    }
}

impl From<&Timing> for TimingJson {
    fn from(timing: &Timing) -> Self {
        match timing {
            Timing::Cron { cron, zone } => Self {
                cron: Some(cron.to_string()),
                time_zone: Some(zone.to_string()),
                ..Self::default()
            },
            Timing::Interval { every, anchor } => Self {
                every: Some(*every),
                anchor: *anchor,
                ..Self::default()
            },
            Timing::Once(at) => Self {
                at: Some(*at),
                ..Self::default()
            },
        }
    }
}

impl From<&ScheduleRecord> for ScheduleJson {
    fn from(record: &ScheduleRecord) -> Self {
        let spec = &record.spec;
        Self {
            name: spec.name.to_string(),
            state: record.state().to_string(),
            timing: TimingJson::from(&spec.timing),
            overlap: spec.overlap.to_string(),
            catch_up: spec.catch_up.to_string(),
            next_at: record.next_at,
            last_task: record.last_task.map(|task| task.to_string()),
            error: record.error.clone(),
            task: SubmissionJson::from(&spec.task),
            created_at: record.created_at,
            created_by: record.created_by.clone(),
        }
    }
}

impl From<&Firing> for FiringJson {
    fn from(firing: &Firing) -> Self {
        Self {
            due_at: firing.due_at,
            state: firing.state.to_string(),
            task: firing.task.map(|task| task.to_string()),
            at: firing.at,
        }
    }
}

impl ScheduleDetailJson {
    /// A schedule and its last firings.
    pub fn new(record: &ScheduleRecord, firings: &[Firing]) -> Self {
        let next = record.next_at.into_iter();
        let timing = &record.spec.timing;
        let later = record
            .next_at
            .into_iter()
            .flat_map(|next| timing.upcoming(next, record.created_at, UPCOMING - 1));
        Self {
            schedule: ScheduleJson::from(record),
            upcoming: next.chain(later).collect(),
            firings: firings.iter().map(FiringJson::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CatchUp, Overlap};
    use crate::wire::parse_object;

    fn read(json: &str) -> Result<ScheduleSpec, WireError> {
        parse_object::<NewScheduleJson>(json.as_bytes())?.into_domain()
    }

    fn refused(timing: &str) -> String {
        let json = format!(r#"{{"name": "n", "task": {{"action": "echo"}}{timing}}}"#);
        read(&json).unwrap_err().to_string()
    }

    #[test]
    fn a_schedule_is_read_as_it_is_meant() {
        let spec = read(
            r#"{"name": "nightly", "cron": "0 3 * * *", "time_zone": "Europe/Prague", "overlap": "queue",
                "catch_up": "all", "task": {"action": "echo", "input": 1, "labels": {"team": "red"}}}"#,
        )
        .unwrap();
        assert_eq!(spec.timing.to_string(), "0 3 * * * Europe/Prague");
        assert_eq!(
            (spec.overlap, spec.catch_up),
            (Overlap::Queue, CatchUp::All)
        );
        assert_eq!(spec.task.labels["team"], "red");
        let spec = read(r#"{"name": "n", "every": 90.5, "task": {"action": "echo"}}"#).unwrap();
        assert_eq!(
            (spec.overlap, spec.catch_up),
            (Overlap::Skip, CatchUp::Last)
        );
        let json = serde_json::to_string(&TimingJson::from(&spec.timing)).unwrap();
        assert_eq!(json, r#"{"every":90.5}"#);
    }

    #[test]
    fn what_is_wrong_comes_with_what_would_be_right() {
        for (timing, expected) in [
            ("", "one of `cron`, `every` and `at` must be there"),
            (
                r#", "every": 60, "at": "2026-01-01T00:00:00Z""#,
                "only one of",
            ),
            (
                r#", "every": 60, "time_zone": "UTC""#,
                "`time_zone` belongs to `cron`",
            ),
            (
                r#", "cron": "0 25 * * *""#,
                "`cron`: the field `hour` is `*`, or numbers from 0 to 23",
            ),
            (
                r#", "cron": "@daily", "time_zone": "Europe/Prag""#,
                "`time_zone`: there is no time zone `Europe/Prag`; it is a name such as `Europe/Prague` or `UTC`, did you mean `Europe/Prague`?",
            ),
            (r#", "every": -1"#, "not a number of seconds"),
            (
                r#", "every": 60, "overlap": "drop""#,
                "not an overlap policy (`skip`",
            ),
            (r#", "evry": 60"#, "did you mean `every`?"),
        ] {
            let error = refused(timing);
            assert!(error.contains(expected), "{timing}: {error}");
        }
        let error = read(r#"{"name": "n", "every": 60, "task": {"action": "a b"}}"#).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("`task`: `action`: not a name")
        );
    }
}
