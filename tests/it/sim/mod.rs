//! The real client, executor and housekeeping code on one thread, in a world whose time and chance a seed decides: the
//! network loses, doubles, delays and reorders, processes die, freeze and come back. What must hold is checked after
//! each step, and when the faults stop everything ends.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `time`, `chance` | time that stands still until nothing can run; numbers that a seed repeats |
//! | `hub` | what all processes share, and the steps |
//! | `process`, `fleet` | processes with a gate that can be shut; executors and web servers |
//! | `network`, `store`, `store_port`, `broker` | what lies between a process and the real store and broker |
//! | `work`, `users` | what tasks do, and who asks for them |
//! | `checks` | what must hold at every step |
//! | `chaos`, `run`, `calm` | a time of faults, then quiet, then calm |
//! | `crash_points`, `crash_seldom` | a death at each call of store and broker |
//!
//! `SIM_SEED=8135 cargo test --test it -- sim` repeats one seed and prints its trace; `SIM_SEEDS=5000` runs that many.

mod broker;
mod calm;
mod chance;
mod chaos;
mod checks;
mod crash_points;
mod crash_seldom;
mod fleet;
mod hub;
mod network;
mod notes;
mod process;
mod run;
mod store;
mod store_port;
mod time;
mod users;
mod work;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use run::Outcome;

/// Seeds of a normal run.
const SEEDS: u64 = 300;

/// Lines of a trace that a failure shows; the seed repeats all of it.
const TRACE_LINES_MAX: usize = 80;

/// Does `jobs` on as many threads as there are cores; answers in order.
fn spread<J: Sync, T: Send>(jobs: &[J], carry_out: impl Fn(&J) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((place, job)) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(place).map(|job| (place, job))
                } {
                    let result = carry_out(job);
                    done.lock().unwrap().push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What a person needs to see of a simulation that went wrong.
fn complaint(name: &str, outcome: &Outcome) -> Option<String> {
    let violation = outcome.violation.as_ref()?;
    let from = outcome.trace.len().saturating_sub(TRACE_LINES_MAX);
    let last = outcome.trace[from..].join("\n");
    Some(format!("{name}:\n{last}\n{name}: {violation}"))
}

fn number(variable: &str) -> Option<u64> {
    let (_, value) = longshore::config::env::variables().find(|(name, _)| name == variable)?;
    Some(value.parse().unwrap())
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "whoever asks for one seed wants to see it"
)]
fn whatever_goes_wrong_every_invariant_holds_and_everything_ends() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = run::seed(seed);
        eprintln!("{}", outcome.trace.join("\n"));
        eprintln!("{} steps, {} tasks", outcome.steps, outcome.tasks);
        assert_eq!(outcome.violation, None);
        return;
    }
    let seeds: Vec<u64> = (1..=number("SIM_SEEDS").unwrap_or(SEEDS)).collect();
    let complaints = spread(&seeds, |seed| {
        let name = format!("SIM_SEED={seed} cargo test --test it -- sim");
        complaint(&name, &run::seed(*seed))
    });
    let complaints: Vec<_> = complaints.into_iter().flatten().collect();
    let failed = complaints.len();
    if let Some(first) = complaints.first() {
        panic!(
            "{failed} of {} seeds fail; the first:\n{first}",
            seeds.len()
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let twice = |seed: &u64| (run::seed(*seed), run::seed(*seed));
    for (first, second) in spread(&[1, 2, 3, 4], twice) {
        assert!(first.steps > 100, "{} steps", first.steps);
        let differs = first
            .trace
            .iter()
            .zip(&second.trace)
            .find(|(one, other)| one != other);
        assert_eq!(differs, None);
        assert_eq!(first.trace.len(), second.trace.len());
    }
}
