//! What a scenario has found: names, values and units, as a table for people or as one JSON object.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{Complaint, Format, Output};
use crate::domain::thousands;

/// The columns for people.
const HEADER: [&str; 3] = ["MEASURE", "VALUE", "UNIT"];

/// What a scenario has found.
#[derive(Debug)]
pub(super) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: String,
    value: Value,
    unit: &'static str,
    /// Why there is no value.
    reason: Option<String>,
}

impl Report {
    /// The report of a scenario in which `tasks` took so many seconds.
    pub(super) fn new(scenario: &'static str, tasks: usize, seconds: f64) -> Self {
        Self::with_rate(scenario, tasks, seconds, rate(tasks, seconds))
    }

    /// The same where the rate is not simply the one by the other.
    pub(super) fn with_rate(
        scenario: &'static str,
        tasks: usize,
        seconds: f64,
        tasks_per_s: f64,
    ) -> Self {
        let mut report = Self { rows: Vec::new() };
        report.add("scenario", scenario, "");
        report.add("tasks", tasks, "");
        report.number("seconds", seconds, "s");
        report.number("tasks_per_s", tasks_per_s, "tasks/s");
        report
    }

    /// A value as it is; null when there is none.
    pub(super) fn add(&mut self, name: &str, value: impl Into<Value>, unit: &'static str) {
        self.rows.push(Row {
            name: name.to_owned(),
            value: value.into(),
            unit,
            reason: None,
        });
    }

    /// A number, with three digits behind the point.
    pub(super) fn number(&mut self, name: &str, value: f64, unit: &'static str) {
        self.add(name, rounded(value), unit);
    }

    /// A number that may not have been measured.
    pub(super) fn measured(
        &mut self,
        name: &str,
        value: Result<f64, impl Into<String>>,
        unit: &'static str,
    ) {
        match value {
            Ok(value) => self.number(name, value, unit),
            Err(reason) => self.rows.push(Row {
                name: name.to_owned(),
                value: Value::Null,
                unit: "",
                reason: Some(reason.into()),
            }),
        }
    }

    /// The median and the tail of what took so long: `NAME_p50_ms` and so on.
    pub(super) fn spread(&mut self, name: &str, spread: &Spread) {
        for share in [50, 95, 99] {
            let millis = spread.at(share).as_secs_f64() * 1000.0;
            self.number(&format!("{name}_p{share}_ms"), millis, "ms");
        }
    }

    /// Writes it: one object.
    pub(super) fn show(&self, output: Output) -> Result<(), Complaint> {
        match output.format() {
            Format::Json => output.json(&self.object())?,
            Format::Jsonl => output.jsonl(&self.object())?,
            Format::Table => {
                output.table(&HEADER, self.lines())?;
            }
        }
        Ok(())
    }

    /// What was not measured is null, and `not_measured` tells why.
    fn object(&self) -> Value {
        let mut object = Map::new();
        let mut reasons = Map::new();
        for row in &self.rows {
            object.insert(row.name.clone(), row.value.clone());
            if let Some(reason) = &row.reason {
                reasons.insert(row.name.clone(), Value::String(reason.clone()));
            }
        }
        if !reasons.is_empty() {
            object.insert("not_measured".to_owned(), Value::Object(reasons));
        }
        Value::Object(object)
    }

    /// Values end at the same column.
    fn lines(&self) -> Vec<Vec<String>> {
        let words: Vec<String> = self.rows.iter().map(|row| words(&row.value)).collect();
        let width = words.iter().map(String::len).max().unwrap_or(0);
        let line = |(row, word): (&Row, &String)| {
            let unit = row.reason.as_ref().map_or_else(
                || row.unit.to_owned(),
                |reason| format!("not measured: {reason}"),
            );
            vec![row.name.clone(), format!("{word:>width$}"), unit]
        };
        self.rows.iter().zip(&words).map(line).collect()
    }
}

/// A value for people: thousands apart, three digits behind the point.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => {
            let text = match number.as_f64().filter(|_| number.is_f64()) {
                Some(real) => format!("{real:.3}"),
                None => number.to_string(),
            };
            thousands(&text)
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// How long each of many took.
#[derive(Debug, Default, Clone)]
pub(super) struct Spread {
    sorted: Vec<Duration>,
}

impl FromIterator<Duration> for Spread {
    fn from_iter<T: IntoIterator<Item = Duration>>(all: T) -> Self {
        let mut sorted: Vec<Duration> = all.into_iter().collect();
        sorted.sort_unstable();
        Self { sorted }
    }
}

impl Spread {
    /// What so many percent did not exceed (the nearest rank); nothing when there was none.
    pub(super) fn at(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100);
        let at = self.sorted.get(rank.saturating_sub(1));
        at.copied().unwrap_or_default()
    }
}

/// So many in so many seconds, each second.
pub(super) fn rate(count: usize, seconds: f64) -> f64 {
    // A run that is too short to be measured has no infinite rate.
    super::usage::real(count as u64) / seconds.max(0.001)
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_tells_the_nearest_rank() {
        let spread: Spread = (1..=200).rev().map(Duration::from_millis).collect();
        let at = |percent| spread.at(percent).as_millis();
        assert_eq!((at(50), at(95), at(99), at(100)), (100, 190, 198, 200));
        let one: Spread = [Duration::from_secs(1)].into_iter().collect();
        assert_eq!((one.at(50).as_secs(), one.at(99).as_secs()), (1, 1));
        assert_eq!(Spread::default().at(99), Duration::ZERO);
    }

    #[test]
    fn people_see_units_and_reasons_and_programs_see_nulls() {
        let mut report = Report::new("drain", 12_345, 2.0);
        report.spread("wait", &[Duration::from_millis(3)].into_iter().collect());
        report.measured("commits", Err::<f64, _>("nobody counts"), "");
        let lines: Vec<String> = report.lines().iter().map(|line| line.join("|")).collect();
        assert_eq!(
            lines,
            [
                "scenario|    drain|",
                "tasks|   12,345|",
                "seconds|    2.000|s",
                "tasks_per_s|6,172.500|tasks/s",
                "wait_p50_ms|    3.000|ms",
                "wait_p95_ms|    3.000|ms",
                "wait_p99_ms|    3.000|ms",
                "commits|        -|not measured: nobody counts",
            ]
        );
        let object = report.object();
        assert_eq!(object["tasks_per_s"], 6172.5);
        assert_eq!(object["commits"], Value::Null);
        assert_eq!(object["not_measured"]["commits"], "nobody counts");
    }
}
