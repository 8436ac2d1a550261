//! Numbers and durations as people read them.

use std::time::Duration;

/// A duration for people: `4m 10s`, `1.25s`, `12ms`.
pub fn duration_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 if duration.subsec_millis() == 0 => format!("{seconds}s"),
        1..60 => format!("{:.2}s", duration.as_secs_f64()),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of things for people: `1 slot`, `2 slots`. `thing` takes an `s` for many.
pub(super) fn counted(count: u64, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

/// A number for people, its thousands apart: `1,204,000`, `-12,000.5`. `number` is its digits.
pub fn thousands(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut apart = String::with_capacity(number.len() + number.len() / 3);
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !apart.ends_with('-') {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        let said = ["999", "1000", "1204000", "-999", "-12000.5000"].map(thousands);
        assert_eq!(said, ["999", "1,000", "1,204,000", "-999", "-12,000.5000"]);
    }

    #[test]
    fn durations_are_for_people() {
        let said = [0.012, 1.25, 30.0, 250.0, 7_260.0, 90_000.0]
            .map(|seconds| duration_words(Duration::from_secs_f64(seconds)));
        assert_eq!(said, ["12ms", "1.25s", "30s", "4m 10s", "2h 1m", "1d 1h"]);
    }
}
