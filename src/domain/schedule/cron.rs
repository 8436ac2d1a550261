//! Cron expressions: five fields, as `crontab` has them, and the shortcuts such as `@daily`.
//!
//! Source: the crontab of Debian and of most others (Vixie cron), `crontab(5)`.

use std::fmt;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};

use super::Zone;

/// A cron expression: at which minutes it fires. As it was written, and as sets.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: Set,
    hours: Set,
    days: Set,
    months: Set,
    weekdays: Set,
    /// Whether a day is one of the month *or* one of the week: when neither field begins with `*`.
    is_either_day: bool,
}

/// Why a text is no cron expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It has too many fields, or too few.
    #[error(
        "a cron expression has 5 fields (minute, hour, day of month, month, day of week), not {count}: `{found}`"
    )]
    Fields {
        /// How many there are.
        count: usize,
        /// The expression, cut to 80 characters.
        found: String,
    },
    /// One field is wrong.
    #[error("the field `{field}` is {rule}, not `{found}`")]
    Field {
        /// Which one.
        field: &'static str,
        /// What would be right.
        rule: &'static str,
        /// The part that is wrong, cut to 80 characters.
        found: String,
    },
    /// A shortcut that is none.
    #[error(
        "there is no `{0}`; there are `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`"
    )]
    Shortcut(String),
    /// A day that no month has.
    #[error("it would never fire, because no such month has such a day: `{0}`")]
    Never(String),
}

/// Small numbers, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set(u64);

impl Set {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.0 >> number & 1 == 1)
    }

    /// The numbers from `low` on, in order.
    fn from(self, low: i8, high: i8) -> impl Iterator<Item = i8> {
        (low..=high).filter(move |number| self.has(*number))
    }
}

/// What one of the five fields may say.
struct Field {
    name: &'static str,
    rule: &'static str,
    low: u8,
    high: u8,
    /// Words for numbers, from `low` on.
    words: &'static [&'static str],
}

const MINUTE: Field = Field {
    name: "minute",
    rule: "`*`, or numbers from 0 to 59 such as `30`, `0,30`, `10-20` or `*/15`",
    low: 0,
    high: 59,
    words: &[],
};

const HOUR: Field = Field {
    name: "hour",
    rule: "`*`, or numbers from 0 to 23 such as `3`, `8,20`, `9-17` or `*/2`",
    low: 0,
    high: 23,
    words: &[],
};

const DAY: Field = Field {
    name: "day of month",
    rule: "`*`, or numbers from 1 to 31 such as `1`, `1,15` or `1-7`",
    low: 1,
    high: 31,
    words: &[],
};

const MONTH: Field = Field {
    name: "month",
    rule: "`*`, or numbers from 1 to 12 or `JAN` to `DEC`, such as `6`, `JAN,JUL` or `4-9`",
    low: 1,
    high: 12,
    words: &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ],
};

/// 7 is Sunday as well as 0.
const WEEKDAY: Field = Field {
    name: "day of week",
    rule: "`*`, or numbers from 0 to 7 or `SUN` to `SAT` (0 and 7 are Sunday), such as `MON-FRI` or `6,7`",
    low: 0,
    high: 7,
    words: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

/// The longest time between two days that an expression can mean: eight years around 2100, when 29 February is left
/// out, and one more.
const DAYS_AHEAD_MAX: u32 = 9 * 366;

impl Cron {
    /// The expression that `text` is.
    ///
    /// # Errors
    ///
    /// [`CronError`] says which field is wrong and what would be right.
    pub fn new(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let fields: Vec<&str> = expanded(text)?.split_whitespace().collect();
        let &[minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(CronError::Fields {
                count: fields.len(),
                found: cut(text),
            });
        };
        let weekdays = WEEKDAY.set(weekday)?.0;
        let cron = Self {
            text: text.to_owned(),
            minutes: MINUTE.set(minute)?,
            hours: HOUR.set(hour)?,
            days: DAY.set(day)?,
            months: MONTH.set(month)?,
            weekdays: Set(weekdays & 0x7f | weekdays >> 7),
            is_either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let longest = |month: i8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut months = cron.months.from(1, 12);
        let has_day = months.any(|month| cron.days.from(1, longest(month)).next().is_some());
        if has_day || cron.is_either_day {
            Ok(cron)
        } else {
            Err(CronError::Never(cut(text)))
        }
    }

    /// The expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first firing after `after`, on the clocks of `zone`. `None` beyond all times.
    ///
    /// A time of day that clocks skip fires at the first instant after the gap, and one that they show twice fires the
    /// first time. An expression for every hour goes by the hours that pass: it skips none, and fires in both of two.
    pub fn next_after(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        if self.hours.from(0, 23).count() == 24 {
            self.next_in_every_hour(after, zone)
        } else {
            self.next_on_clocks(after, zone)
        }
    }

    /// First instants are in the order of what clocks show, so the first that is late enough is the next one.
    fn next_on_clocks(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let mut time = self.next_time(zone.clocks(after))?;
        loop {
            let instant = zone.first_instant(time)?;
            if instant > after {
                return Some(instant);
            }
            time = self.next_time(time.checked_add(1.minute()).ok()?)?;
        }
    }

    /// Between two changes clocks go as time does.
    fn next_in_every_hour(&self, after: Timestamp, zone: &Zone) -> Option<Timestamp> {
        let mut from = after.checked_add(1.microsecond()).ok()?;
        loop {
            let (offset, change) = zone.offset(from);
            let instant = self.next_instant(from, offset)?;
            match change {
                Some(change) if change <= instant => from = change,
                Some(_) | None => return Some(instant),
            }
        }
    }

    fn next_instant(&self, from: Timestamp, offset: Offset) -> Option<Timestamp> {
        let time = self.next_time(offset.to_datetime(from))?;
        offset.to_timestamp(time).ok()
    }

    /// The first minute at `from` or after it that the expression means, on a clock that never changes.
    fn next_time(&self, from: DateTime) -> Option<DateTime> {
        let is_whole = from.second() == 0 && from.subsec_nanosecond() == 0;
        let from = if is_whole {
            from
        } else {
            from.checked_add(1.minute()).ok()?
        };
        let (mut date, mut hour, mut minute) = (from.date(), from.hour(), from.minute());
        for _ in 0..DAYS_AHEAD_MAX {
            if self.has_day(date) {
                for on in self.hours.from(hour, 23) {
                    let first = if on == hour { minute } else { 0 };
                    if let Some(found) = self.minutes.from(first, 59).next() {
                        return Some(date.to_datetime(Time::new(on, found, 0, 0).ok()?));
                    }
                }
            }
            (date, hour, minute) = (date.tomorrow().ok()?, 0, 0);
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let in_month = self.days.has(date.day());
        let in_week = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        let is_day = if self.is_either_day {
            in_month || in_week
        } else {
            in_month && in_week
        };
        is_day && self.months.has(date.month())
    }
}

impl Field {
    /// The numbers that `text` means: parts joined by commas.
    fn set(&self, text: &str) -> Result<Set, CronError> {
        let mut bits = 0;
        for part in text.split(',') {
            let (low, high, step) = self.part(part).ok_or_else(|| CronError::Field {
                field: self.name,
                rule: self.rule,
                found: cut(part),
            })?;
            bits |= (low..=high)
                .step_by(step)
                .fold(0, |bits, number| bits | 1_u64 << number);
        }
        Ok(Set(bits))
    }

    /// One part: `*`, a number, a range; the first and the last of these with a step behind `/`.
    fn part(&self, part: &str) -> Option<(u8, u8, usize)> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse().ok().filter(|step| *step >= 1)?;
                // `5/15` means something else in each program that takes it.
                (range == "*" || range.contains('-')).then_some(())?;
                (range, step)
            }
            None => (part, 1),
        };
        if range == "*" {
            return Some((self.low, self.high, step));
        }
        let Some((low, high)) = range.split_once('-') else {
            let number = self.number(range)?;
            return Some((number, number, step));
        };
        let (low, mut high) = (self.number(low)?, self.number(high)?);
        if self.high == 7 && high == 0 {
            high = 7; // `SAT-SUN`
        }
        (low <= high).then_some((low, high, step))
    }

    fn number(&self, text: &str) -> Option<u8> {
        let mut words = self.words.iter();
        if let Some(place) = words.position(|word| word.eq_ignore_ascii_case(text)) {
            return u8::try_from(place).ok().map(|place| place + self.low);
        }
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| is_number)?;
        (self.low..=self.high).contains(&number).then_some(number)
    }
}

/// The five fields that a shortcut stands for.
fn expanded(text: &str) -> Result<&str, CronError> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    match text.to_ascii_lowercase().as_str() {
        "@hourly" => Ok("0 * * * *"),
        "@daily" | "@midnight" => Ok("0 0 * * *"),
        "@weekly" => Ok("0 0 * * 0"),
        "@monthly" => Ok("0 0 1 * *"),
        "@yearly" | "@annually" => Ok("0 0 1 1 *"),
        _ => Err(CronError::Shortcut(cut(text))),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first firings after `after`, in UTC.
    fn firings(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::new(cron).unwrap(), Zone::new(zone).unwrap());
        let next = |after: &Timestamp| cron.next_after(*after, &zone);
        let first = next(&after.parse().unwrap());
        std::iter::successors(first, next)
            .take(count)
            .map(|instant| format!("{instant:.0}").replace(":00Z", ""))
            .collect()
    }

    #[test]
    fn each_field_is_understood() {
        for (cron, expected) in [
            ("* * * * *", ["2026-02-27T12:01", "2026-02-27T12:02"]),
            ("*/15 * * * *", ["2026-02-27T12:15", "2026-02-27T12:30"]),
            (
                "5,10-12/2 * * * *",
                ["2026-02-27T12:05", "2026-02-27T12:10"],
            ),
            ("0 3 * * *", ["2026-02-28T03:00", "2026-03-01T03:00"]),
            ("30 9-17/4 * * *", ["2026-02-27T13:30", "2026-02-27T17:30"]),
            ("0 0 31 * *", ["2026-03-31T00:00", "2026-05-31T00:00"]),
            ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00"]),
            ("0 0 1 jan,JUL *", ["2026-07-01T00:00", "2027-01-01T00:00"]),
            ("0 6 * * MON-FRI", ["2026-03-02T06:00", "2026-03-03T06:00"]),
            ("0 6 * * 7", ["2026-03-01T06:00", "2026-03-08T06:00"]),
            ("0 6 * * sat-sun", ["2026-02-28T06:00", "2026-03-01T06:00"]),
            // Both days are said: either will do. With a star in front, both must be so.
            ("0 0 13 * FRI", ["2026-03-06T00:00", "2026-03-13T00:00"]),
            ("0 0 */13 * FRI", ["2026-03-27T00:00", "2026-05-01T00:00"]),
            ("@hourly", ["2026-02-27T13:00", "2026-02-27T14:00"]),
            ("@daily", ["2026-02-28T00:00", "2026-03-01T00:00"]),
            ("@weekly", ["2026-03-01T00:00", "2026-03-08T00:00"]),
            ("@monthly", ["2026-03-01T00:00", "2026-04-01T00:00"]),
            ("@Yearly", ["2027-01-01T00:00", "2028-01-01T00:00"]),
        ] {
            let found = firings(cron, "UTC", "2026-02-27T12:00:00Z", 2);
            assert_eq!(found, expected, "{cron}");
        }
    }

    #[test]
    fn a_firing_comes_after_and_never_at_the_time_that_is_given() {
        let found = firings("0 12 * * *", "UTC", "2026-02-27T11:59:59.999999Z", 1);
        assert_eq!(found, ["2026-02-27T12:00"]);
        let found = firings("0 12 * * *", "UTC", "2026-02-27T12:00:00Z", 1);
        assert_eq!(found, ["2026-02-28T12:00"]);
    }

    #[test]
    fn the_29th_of_february_is_found_across_a_year_that_has_none() {
        let found = firings("0 0 29 2 *", "UTC", "2096-02-29T00:00:00Z", 1);
        assert_eq!(found, ["2104-02-29T00:00"]);
    }

    /// Prague: 29 March 2026, 02:00 (+01) is followed by 03:00 (+02), at 01:00 UTC. New York: 8 March, 02:00 to 03:00,
    /// at 07:00 UTC. Lord Howe: half an hour. Samoa had no 30 December 2011.
    #[test]
    fn a_time_that_clocks_skip_fires_at_the_first_instant_after_it() {
        for (cron, zone, after, expected) in [
            (
                "30 2 * * *",
                "Europe/Prague",
                "2026-03-28T12:00:00Z",
                vec!["2026-03-29T01:00", "2026-03-30T00:30"],
            ),
            // Four skipped times are one firing.
            (
                "*/15 2 * * *",
                "Europe/Prague",
                "2026-03-29T00:00:00Z",
                vec!["2026-03-29T01:00", "2026-03-30T00:00"],
            ),
            // What falls on the same instant fires once.
            (
                "0,30 2-3 * * *",
                "Europe/Prague",
                "2026-03-29T00:00:00Z",
                vec!["2026-03-29T01:00", "2026-03-29T01:30", "2026-03-30T00:00"],
            ),
            (
                "15 2 8 3 *",
                "America/New_York",
                "2026-03-01T00:00:00Z",
                vec!["2026-03-08T07:00"],
            ),
            (
                "10 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T10:00:00Z",
                vec!["2026-10-03T15:30", "2026-10-04T15:10"],
            ),
            (
                "0 12 * * *",
                "Pacific/Apia",
                "2011-12-29T00:00:00Z",
                vec!["2011-12-29T22:00", "2011-12-30T10:00", "2011-12-30T22:00"],
            ),
            // Every hour goes by the hours that pass.
            (
                "30 * * * *",
                "Europe/Prague",
                "2026-03-29T00:00:00Z",
                vec!["2026-03-29T00:30", "2026-03-29T01:30"],
            ),
            (
                "*/20 * 29 3 *",
                "Europe/Prague",
                "2026-03-29T00:30:00Z",
                vec!["2026-03-29T00:40", "2026-03-29T01:00", "2026-03-29T01:20"],
            ),
        ] {
            let found = firings(cron, zone, after, expected.len());
            assert_eq!(found, expected, "{cron} {zone}");
        }
    }

    /// Prague: 25 October 2026, 03:00 (+02) is followed by 02:00 (+01), at 01:00 UTC.
    #[test]
    fn a_time_that_clocks_show_twice_fires_once() {
        for (cron, after, expected) in [
            (
                "30 2 * * *",
                "2026-10-24T12:00:00Z",
                vec!["2026-10-25T00:30", "2026-10-26T01:30"],
            ),
            // Asked between the two, and in the second: it has fired.
            (
                "30 2 * * *",
                "2026-10-25T00:45:00Z",
                vec!["2026-10-26T01:30"],
            ),
            (
                "30 2 * * *",
                "2026-10-25T01:10:00Z",
                vec!["2026-10-26T01:30"],
            ),
            (
                "*/30 2 * * *",
                "2026-10-24T12:00:00Z",
                vec!["2026-10-25T00:00", "2026-10-25T00:30", "2026-10-26T01:00"],
            ),
            (
                "0 */2 * * *",
                "2026-10-24T23:00:00Z",
                vec!["2026-10-25T00:00", "2026-10-25T03:00"],
            ),
            // Every hour goes by the hours that pass: four from half past midnight to half past three.
            (
                "30 * * * *",
                "2026-10-24T23:00:00Z",
                vec![
                    "2026-10-24T23:30",
                    "2026-10-25T00:30",
                    "2026-10-25T01:30",
                    "2026-10-25T02:30",
                ],
            ),
        ] {
            let found = firings(cron, "Europe/Prague", after, expected.len());
            assert_eq!(found, expected, "{cron} {after}");
        }
    }

    #[test]
    fn an_error_names_the_field_and_what_would_be_right() {
        for (wrong, expected) in [
            ("", "not 0: ``"),
            (
                "0 3 * *",
                "5 fields (minute, hour, day of month, month, day of week), not 4",
            ),
            ("0 0 3 * * *", "not 6: `0 0 3 * * *`"),
            ("60 * * * *", "`minute` is `*`, or numbers from 0 to 59"),
            (
                "0 24 * * *",
                "`hour` is `*`, or numbers from 0 to 23 such as `3`, `8,20`, `9-17` or `*/2`, not `24`",
            ),
            ("0 0 0 * *", "`day of month`"),
            ("0 0 * JUNE *", "not `JUNE`"),
            ("0 0 * * MON-", "`day of week`"),
            ("0 17-9 * * *", "not `17-9`"),
            ("*/0 * * * *", "not `*/0`"),
            ("5/15 * * * *", "not `5/15`"),
            ("+5 * * * *", "not `+5`"),
            ("1,,2 * * * *", "not ``"),
            ("@dayly", "there is no `@dayly`; there are `@hourly`"),
            ("0 0 30 2 *", "it would never fire"),
            ("0 0 31 4,6,9,11 *", "it would never fire"),
        ] {
            let error = Cron::new(wrong).unwrap_err().to_string();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }
}
