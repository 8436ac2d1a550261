//! What a process used, as Linux tells it.

use std::path::PathBuf;

/// Clock ticks in a second, as `/proc/PID/stat` counts them: 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Seconds of CPU, in user code and kernel.
    pub(super) cpu_s: f64,
    /// KiB of memory in use now.
    pub(super) rss_kib: u64,
}

impl Usage {
    /// What the process `pid` used; nothing where that is not told.
    ///
    /// Source: proc(5), `/proc/pid/stat` fields 14 and 15, `/proc/pid/status` field `VmRSS`.
    pub(super) fn of(pid: Option<u32>) -> Self {
        let Some(pid) = pid else {
            return Self::default();
        };
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
        // The name, in brackets, may hold blanks: the fields are counted behind it, the third is the first there.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |field: usize| {
            fields
                .get(field - 3)
                .and_then(|ticks| ticks.parse::<f64>().ok())
                .unwrap_or(0.0)
        };
        let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib = rss
            .and_then(|rss| rss.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        Self {
            cpu_s: (ticks(14) + ticks(15)) / TICKS_PER_SECOND,
            rss_kib,
        }
    }

    /// The seconds of CPU since `before`, for each 10,000 of `tasks`.
    pub(super) fn cpu_s_per_10k(self, before: Self, tasks: usize) -> f64 {
        rounded(
            (self.cpu_s - before.cpu_s) * 10_000.0
                / f64::from(u32::try_from(tasks.max(1)).unwrap_or(u32::MAX)),
        )
    }
}

/// `value` to three digits behind the point.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
