//! How long tasks take from the event that they are stored to the event that they have ended, both by the moment at
//! which they are heard here: the clocks of two hosts are never compared.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::rates::SECONDS;
use crate::domain::TaskId;

/// Tasks whose end is waited for. The oldest are forgotten: they would be no news of this minute.
const OPEN_MAX: usize = 50_000;

/// Buckets for each power of two: what is told is off by an eighth at most.
const STEPS: usize = 4;

/// Powers of two of microseconds: up to 12 days.
const POWERS: usize = 40;

/// Durations of one second, counted by size.
#[derive(Debug, Clone)]
struct Histogram(Vec<u32>);

/// The latencies of the last minute.
#[derive(Debug)]
pub(super) struct Latencies {
    open: HashMap<TaskId, Duration>,
    /// The same tasks by age; those that have ended meanwhile are still in it.
    order: VecDeque<TaskId>,
    ring: VecDeque<Histogram>,
    current: u64,
}

/// What is told of the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// How many tasks that rests on.
    pub(super) tasks: u64,
}

impl Latencies {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            open: HashMap::new(),
            order: VecDeque::new(),
            ring: VecDeque::from([Histogram::new()]),
            current: now.as_secs(),
        }
    }

    /// A task is ready for the first time.
    pub(super) fn begin(&mut self, task: TaskId, now: Duration) {
        if self.order.len() == OPEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
        self.open.insert(task, now);
        self.order.push_back(task);
    }

    /// A task has ended.
    pub(super) fn end(&mut self, task: TaskId, now: Duration) {
        let Some(began) = self.open.remove(&task) else {
            return; // It began before anybody listened.
        };
        self.advance(now);
        if let Some(histogram) = self.ring.back_mut() {
            histogram.add(now.saturating_sub(began));
        }
        // Most end in the order in which they came.
        while self
            .order
            .front()
            .is_some_and(|task| !self.open.contains_key(task))
        {
            self.order.pop_front();
        }
    }

    /// Events were missed, or come late all at once: what is open now would be told a wrong latency.
    pub(super) fn forget_open(&mut self) {
        self.open.clear();
        self.order.clear();
    }

    /// Forgets what is older than a minute.
    pub(super) fn advance(&mut self, now: Duration) {
        let passed = now.as_secs().saturating_sub(self.current);
        for _ in 0..passed.min(u64::from(SECONDS) + 1) {
            self.ring.push_back(Histogram::new());
            if self.ring.len() > SECONDS as usize + 1 {
                self.ring.pop_front();
            }
        }
        self.current += passed;
    }

    /// `None` when nothing has ended within the last minute.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let mut sum = vec![0_u64; STEPS * POWERS];
        for histogram in &self.ring {
            for (all, one) in sum.iter_mut().zip(&histogram.0) {
                *all += u64::from(*one);
            }
        }
        let tasks: u64 = sum.iter().sum();
        Some(Percentiles {
            p50: at_share(&sum, tasks.div_ceil(2))?,
            p99: at_share(&sum, tasks - tasks / 100)?,
            tasks,
        })
    }
}

/// The size of the one that `rank` others are not above; `None` for none.
fn at_share(counts: &[u64], rank: u64) -> Option<Duration> {
    let mut before = 0;
    counts.iter().enumerate().find_map(|(bucket, count)| {
        before += count;
        (before >= rank && before > 0).then(|| middle(bucket))
    })
}

/// The middle of what `bucket` holds.
fn middle(bucket: usize) -> Duration {
    let (power, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    let begin = ((STEPS as u64 + step) << power) / STEPS as u64;
    let width = (1_u64 << power) / STEPS as u64;
    Duration::from_micros(begin + width / 2)
}

impl Histogram {
    fn new() -> Self {
        Self(vec![0; STEPS * POWERS])
    }

    fn add(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let micros = micros.clamp(1, (1 << POWERS) - 1);
        let power = micros.ilog2() as usize;
        // Less than 2 * STEPS, because a duration has fewer bits than `POWERS`.
        let step = usize::try_from((micros * STEPS as u64) >> power).unwrap_or(0) % STEPS;
        let count = &mut self.0[power * STEPS + step];
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId::new(jiff::Timestamp::UNIX_EPOCH, number)
    }

    #[test]
    fn percentiles_are_near_what_was_heard() {
        let mut latencies = Latencies::new(Duration::ZERO);
        for number in 1..=1000_u32 {
            let begin = Duration::from_secs(10);
            latencies.begin(task(number.into()), begin);
            latencies.end(
                task(number.into()),
                begin + Duration::from_millis(number.into()),
            );
        }
        let told = latencies.percentiles().unwrap();
        assert_eq!(told.tasks, 1000);
        let is_near = |told: Duration, exact: f64| (told.as_secs_f64() / exact - 1.0).abs() < 0.13;
        assert!(
            is_near(told.p50, 0.5) && is_near(told.p99, 0.99),
            "{told:?}"
        );
        latencies.advance(Duration::from_secs(100));
        assert_eq!(latencies.percentiles(), None);
    }

    #[test]
    fn what_began_unheard_counts_for_nothing_and_what_never_ends_is_forgotten() {
        let mut latencies = Latencies::new(Duration::ZERO);
        latencies.end(task(7), Duration::from_secs(1));
        assert_eq!(latencies.percentiles(), None);
        for number in 0..=OPEN_MAX as u128 {
            latencies.begin(task(number), Duration::ZERO);
        }
        assert_eq!(latencies.open.len(), OPEN_MAX);
        latencies.end(task(0), Duration::from_secs(1));
        assert_eq!(latencies.percentiles(), None);
        latencies.end(task(1), Duration::from_secs(1));
        assert_eq!(latencies.percentiles().unwrap().tasks, 1);
        latencies.forget_open();
        latencies.end(task(2), Duration::from_secs(1));
        assert_eq!(latencies.percentiles().unwrap().tasks, 1);
    }
}
