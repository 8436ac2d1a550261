//! Everything at once: executors, web servers, a broker and a store of their own, all by way of proxies; a fault every
//! few seconds; and at the end nothing is lost and nothing is done twice that may be done once.
//!
//! A minute long, or as the environment says: `CHAOS_SECONDS`, `CHAOS_TASKS`, `CHAOS_SEED`. The seed is said, and makes
//! the same faults again; what they hit depends on the moment. With `--nocapture` it says what it does:
//!
//! ```sh
//! CHAOS_SECONDS=600 CHAOS_TASKS=20000 cargo test --test it -- chaos --nocapture
//! ```

mod faults;
mod report;
mod tasks;

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use longshore::domain::AuditDepth;

use crate::support::fleet::{Fleet, fan_out_action, own_executor};
use crate::support::load::{Clients, all_ended};
use crate::support::postgres::Postgres;
use crate::support::rabbitmq::OwnRabbit;
use crate::support::world::PATIENCE;
use faults::Faults;
use report::Report;
use tasks::{Kind, Planned};

/// Tasks that are being submitted, or waited for, at once.
const AT_ONCE: usize = 256;

/// Every so many tasks one is waited for.
const WAITED_EVERY: usize = 5;

/// How long the chaos lasts, how much is done in it, and what it is made of.
#[derive(Debug, Clone, Copy)]
struct Plan {
    duration: Duration,
    tasks: usize,
    seed: u64,
}

impl Plan {
    fn from_environment() -> Self {
        let given = |name: &str, default: u64| {
            let mut variables = longshore::config::env::variables();
            let value = variables.find_map(|(known, value)| (known == name).then_some(value));
            value.map_or(default, |value| value.parse().expect(name))
        };
        Self {
            duration: Duration::from_secs(given("CHAOS_SECONDS", 60)),
            tasks: usize::try_from(given("CHAOS_TASKS", 20_000)).unwrap(),
            seed: given("CHAOS_SEED", 1),
        }
    }
}

/// Chance that can be had again.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    /// A number below `bound`.
    ///
    /// Source: splitmix64, Steele, Lea and Flood 2014.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A duration from `least` to `most`, in milliseconds.
    fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_at_random_lose_nothing_and_double_nothing() {
    let plan = Plan::from_environment();
    let (rabbit, postgres) = (OwnRabbit::take(), Postgres::start().await);
    let fleet = Fleet::on(rabbit.node(), postgres.address()).await;
    fleet.create_queue("fans");
    // It is told of no fault itself: its action makes sub-tasks, which all others run.
    let runtime = fleet.runtime("longshore-executor").await;
    let fans = own_executor(&runtime, fan_out_action(), "fans").await;
    let faults = Faults::begin(&fleet, rabbit.node(), &postgres, plan.seed).await;
    let clients = faults.clients();
    let planned = tasks::plan(&fleet, plan.tasks, plan.seed);
    let ids: Vec<_> = planned.iter().map(|task| task.id).collect();
    let work = async {
        let ((), waited) = futures_util::join!(
            faults.go_on_for(plan.duration),
            submit(&clients, &planned, plan.duration)
        );
        (waited, all_ended(&fleet, &ids).await)
    };
    let (waited, rows) = tokio::select! {
        done = work => done,
        never = faults.restart_again_and_again() => match never {},
    };
    let mut report = Report::of(plan, &faults);
    report.waited = waited;
    report.judge(&fleet, &faults.kills(), &planned, &rows).await;
    let audit = runtime.store().audit(AuditDepth::All).await.unwrap();
    let found = audit.violations.iter().map(|one| format!("audit: {one}"));
    report.violations.extend(found);
    report.print();
    assert_eq!(report.violations, Vec::<String>::new(), "{plan:?}");
    assert_eq!(fans.drain(PATIENCE).await.given_back, 0);
    drop((fans, faults));
    runtime.stop().await;
    postgres.stop();
}

/// Submits all tasks, each at its time, and waits for some; how many waiters were answered.
async fn submit(clients: &Clients, planned: &[Planned], duration: Duration) -> usize {
    let count = u32::try_from(planned.len()).unwrap();
    let mut pace = tokio::time::interval(duration / count);
    // What an outage has held up comes in a rush.
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let paced = stream::unfold(pace, |mut pace| async move {
        pace.tick().await;
        Some(((), pace))
    });
    let run = async |(number, task): (usize, &Planned)| {
        clients.submit(number, &task.submission).await;
        let is_waited_for = number.is_multiple_of(WAITED_EVERY);
        if is_waited_for {
            let answer = clients.wait(number + 1, task.id).await;
            let is_expected = match task.kind {
                Kind::Failing => answer["state"] == "failed",
                Kind::Poison => answer["state"] == "paused",
                Kind::Once => answer["state"] == "succeeded" || answer["state"] == "failed",
                Kind::Echo | Kind::Nap | Kind::Rerun | Kind::FanOut => {
                    answer["state"] == "succeeded"
                }
            };
            assert!(is_expected, "{answer}");
        }
        usize::from(is_waited_for)
    };
    let numbered = stream::iter(planned.iter().enumerate());
    let runs = numbered
        .zip(paced)
        .map(|(task, ())| run(task))
        .buffer_unordered(AT_ONCE);
    runs.fold(0, |sum, waited| async move { sum + waited })
        .await
}
