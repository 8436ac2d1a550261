//! Numbers and durations in few letters.

use std::time::Duration;

use crate::domain::thousands;

/// A duration in at most seven letters: `340ms`, `1.2s`, `12s`, `4m 10s`, `2h 05m`, `12d 03h`.
pub(super) fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..10 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        86_400..8_640_000 => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// As [`age`], in whole seconds: what is drawn once a second shall not flicker.
pub(super) fn whole_age(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..10 => format!("{seconds}s"),
        seconds => age(Duration::from_secs(seconds)),
    }
}

/// A rate in few letters: `0`, `0.2`, `12`, `1,204`.
pub(super) fn per_second(rate: f64) -> String {
    if rate == 0.0 {
        "0".to_owned()
    } else if rate < 9.95 {
        format!("{rate:.1}")
    } else {
        thousands(&format!("{rate:.0}"))
    }
}

/// A count: `1,204,000`.
pub(super) fn count(count: u64) -> String {
    thousands(&count.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_numbers_are_short() {
        let said = [0.34, 1.26, 12.9, 250.0, 7_500.0, 1_047_600.0, 9_000_000.0]
            .map(|seconds| age(Duration::from_secs_f64(seconds)));
        let expected = [
            "340ms", "1.2s", "12s", "4m 10s", "2h 05m", "12d 03h", "104d",
        ];
        assert_eq!(said, expected);
        assert_eq!(whole_age(Duration::from_millis(2_900)), "2s");
        let said = [0.0, 0.25, 9.96, 812.4, 1_204.2].map(per_second);
        assert_eq!(said, ["0", "0.2", "10", "812", "1,204"]);
        assert_eq!(
            [999, 1_000, 1_204_000].map(count),
            ["999", "1,000", "1,204,000"]
        );
    }
}
