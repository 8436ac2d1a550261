//! Values as people write them: durations, sizes, slots, lists.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::domain::limits::SLOTS_MAX;
use crate::domain::{QueueName, Slots, masked_url};

/// The units of a duration, in seconds.
const DURATIONS: [(&str, f64); 5] = [
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// The units of a size, in bytes.
const SIZES: [(&str, usize); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which messages are logged: a level, and `MODULE=LEVEL` after commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// An address that may hold a password, which it never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl LogFilter {
    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SecretUrl {
    /// The address in full, with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("it is `text` or `json`, not `{text}`")),
        }
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(format!(
                "it is a level or `MODULE=LEVEL`, joined by commas, not `{text}`"
            )),
        }
    }
}

impl FromStr for SecretUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["http://", "https://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            Ok(Self(text.to_owned()))
        } else {
            Err("it is an address that begins with `http://` or `https://`".to_owned())
        }
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&masked_url(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A duration within `bounds`: `250ms`, `30s`, `5m`, `12h`, `7d`, or a number of seconds.
///
/// # Errors
///
/// A sentence that says what would be right.
pub fn duration(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit = if unit.is_empty() { "s" } else { unit };
    let unit = DURATIONS.iter().find(|(name, _)| *name == unit);
    number
        .parse::<f64>()
        .ok()
        .zip(unit)
        .and_then(|(number, (_, seconds))| Duration::try_from_secs_f64(number * seconds).ok())
        .filter(|duration| bounds.contains(duration))
        .ok_or_else(|| format!("it is a duration such as `30s`, `5m` or `7d`, not `{text}`"))
}

/// A number of bytes within `bounds`: `65536`, `64KiB`, `1MiB`.
pub(super) fn size(text: &str, bounds: RangeInclusive<usize>) -> Result<usize, String> {
    let (number, unit) = split(text);
    let unit = if unit.is_empty() { "B" } else { unit };
    let unit = SIZES.iter().find(|(name, _)| *name == unit);
    number
        .parse::<usize>()
        .ok()
        .zip(unit)
        .and_then(|(number, (_, bytes))| number.checked_mul(*bytes))
        .filter(|bytes| bounds.contains(bytes))
        .ok_or_else(|| {
            format!("it is a number of bytes such as `65536`, `64KiB` or `1MiB`, not `{text}`")
        })
}

/// `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("it is `true` or `false`, not `{text}`")),
    }
}

/// Queues with their slots: `default=8,bulk=2`.
pub(super) fn slots(text: &str) -> Result<Slots, String> {
    let mut slots = BTreeMap::new();
    for word in list(text) {
        let pair = word.split_once('=');
        let (queue, number) = pair
            .ok_or_else(|| format!("each queue has its slots, such as `{word}=8`, not `{word}`"))?;
        let queue = QueueName::new(queue.trim()).map_err(|error| error.to_string())?;
        let number = number
            .trim()
            .parse()
            .ok()
            .filter(|number| (1..=SLOTS_MAX).contains(number));
        let number = number.ok_or_else(|| {
            format!("the slots of a queue are from 1 to {SLOTS_MAX}, not `{word}`")
        })?;
        if slots.insert(queue, number).is_some() {
            return Err(format!("a queue is named once, not again as `{word}`"));
        }
    }
    if slots.is_empty() {
        return Err("it names at least one queue, such as `default=8`".to_owned());
    }
    Ok(slots)
}

/// The words between commas.
pub(super) fn list(text: &str) -> Vec<String> {
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

/// A number and its unit.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_a_unit_or_in_seconds() {
        let day = Duration::from_hours(24);
        let read = |text: &str| duration(text, Duration::ZERO..=7 * day).ok();
        assert_eq!(read("30s"), Some(Duration::from_secs(30)));
        assert_eq!(read("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(read("1.5 h"), Some(Duration::from_mins(90)));
        assert_eq!(read("7d"), Some(7 * day));
        assert_eq!(read("0.5"), Some(Duration::from_millis(500)));
        for wrong in ["", "d", "8d", "5x", "-1s", "1e3", "1.2.3s", "inf"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_written_with_a_unit_or_in_bytes() {
        let read = |text: &str| size(text, 1..=1 << 20).ok();
        assert_eq!(read("4096"), Some(4096));
        assert_eq!(read("64KiB"), Some(65_536));
        assert_eq!(read("1 MiB"), Some(1 << 20));
        for wrong in ["", "0", "1MB", "1.5KiB", "2MiB", "99999999999999999999GiB"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn slots_are_queues_with_their_number() {
        let read = |text: &str| slots(text).map(|slots| format!("{slots:?}"));
        assert_eq!(
            read("default=8, bulk = 2").unwrap(),
            r#"{"bulk": 2, "default": 8}"#
        );
        for (wrong, expected) in [
            ("", "at least one queue"),
            ("default", "such as `default=8`, not `default`"),
            ("default=0", "from 1 to 10000, not `default=0`"),
            ("Bulk=1", "not a name of a queue"),
            ("a=1,a=2", "named once, not again as `a=2`"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_address_never_shows_its_password() {
        let url: SecretUrl = "http://me:hunter2@host:15672".parse().unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "http://me:***@host:15672 http://me:***@host:15672"
        );
    }
}
