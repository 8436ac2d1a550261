//! Time zones, and which instants they call by a time of day.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// A time zone of the IANA database, such as `Europe/Prague`.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// A text that names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone `{found}`; it is a name such as `Europe/Prague` or `UTC`")]
pub struct ZoneError {
    /// What was found, cut to 80 characters.
    pub found: String,
}

impl Zone {
    /// The zone that `name` says, in capitals or not.
    ///
    /// # Errors
    ///
    /// [`ZoneError`]: the database of this host and the one in this program have no such name.
    pub fn new(name: &str) -> Result<Self, ZoneError> {
        let unknown = || ZoneError {
            found: name.chars().take(80).collect(),
        };
        let rules = TimeZone::get(name).map_err(|_| unknown())?;
        let known = rules.iana_name().filter(|_| !rules.is_unknown());
        let name = known.ok_or_else(unknown)?.to_owned();
        Ok(Self { name, rules })
    }

    /// Universal time: no summer, no surprises.
    pub fn utc() -> Self {
        Self {
            name: "UTC".to_owned(),
            rules: TimeZone::UTC,
        }
    }

    /// Every name that there is.
    pub fn names() -> Vec<String> {
        jiff::tz::db()
            .available()
            .map(|name| name.to_string())
            .collect()
    }

    /// The name as the database writes it.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What clocks show at `instant`.
    pub(super) fn clocks(&self, instant: Timestamp) -> DateTime {
        self.rules.to_datetime(instant)
    }

    /// By how much clocks are ahead of universal time at `instant`, and when that changes next.
    pub(super) fn offset(&self, instant: Timestamp) -> (Offset, Option<Timestamp>) {
        let change = self.rules.following(instant).next();
        (
            self.rules.to_offset(instant),
            change.map(|change| change.timestamp()),
        )
    }

    /// The first instant at which clocks show `time`, or have gone past it: what they skip falls on the first instant
    /// after the gap. `None` beyond all times.
    pub(super) fn first_instant(&self, time: DateTime) -> Option<Timestamp> {
        let offset = match self.rules.to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Fold { before, .. } => before,
            AmbiguousOffset::Gap { before, .. } => {
                // As far behind the change as `time` is inside the gap.
                let inside = before.to_timestamp(time).ok()?;
                let behind = inside.checked_add(1.microsecond()).ok()?;
                return Some(self.rules.preceding(behind).next()?.timestamp());
            }
        };
        offset.to_timestamp(time).ok()
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.name, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_has_one_name_and_a_wrong_one_is_told() {
        assert_eq!(
            Zone::new("europe/prague").unwrap().as_str(),
            "Europe/Prague"
        );
        assert_eq!(Zone::new("UTC").unwrap(), Zone::utc());
        for wrong in ["", "Europe/Prag", "+02:00", "Etc/Unknown", "../passwd"] {
            let error = Zone::new(wrong).unwrap_err();
            assert_eq!(error.found, wrong);
        }
        assert!(Zone::names().contains(&"Asia/Tokyo".to_owned()));
    }
}
