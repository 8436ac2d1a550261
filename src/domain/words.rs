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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_for_people() {
        let said = [0.012, 1.25, 30.0, 250.0, 7_260.0, 90_000.0]
            .map(|seconds| duration_words(Duration::from_secs_f64(seconds)));
        assert_eq!(said, ["12ms", "1.25s", "30s", "4m 10s", "2h 1m", "1d 1h"]);
    }
}
