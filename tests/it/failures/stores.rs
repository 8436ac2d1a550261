//! A store that is away, under load.

use std::time::Duration;

use serde_json::json;

use crate::support::eventually::{eventually, eventually_within, fault_lasts};
use crate::support::fleet::{Fleet, Process, Web, is_running};
use crate::support::gate::{gated, open_gate, pids, result_of, runs};
use crate::support::load::{Clients, each_ran_once, under_load};
use crate::support::postgres::Postgres;
use crate::support::rabbitmq::Rabbit;

/// Tasks that are submitted in a second: enough to see a pause, and little for a busy machine.
const RATE: u32 = 30;

/// How long the store is away.
const OUTAGE: Duration = Duration::from_mins(1);

/// How long others may take to notice that a server is away, or back.
const NOTICE_PATIENCE: Duration = Duration::from_mins(1);

/// Two web servers and two executors on a store of their own.
struct Scene {
    // The processes before the fleet: their logs are in its folder, and shown when a test fails.
    webs: [Web; 2],
    executors: [Process; 2],
    clients: Clients,
    fleet: Fleet,
    postgres: Postgres,
}

impl Scene {
    async fn begin() -> Self {
        let postgres = Postgres::start().await;
        let fleet = Fleet::on(Rabbit::shared(), postgres.address()).await;
        let flags = [
            "--queue",
            "default=8",
            "--queue",
            "bulk=2",
            "--allow-command",
            "sh",
        ];
        let executors = [
            fleet.executor("x1", &flags).await,
            fleet.executor("x2", &flags).await,
        ];
        let mut webs = [fleet.web("w1").await, fleet.web("w2").await];
        Self {
            postgres,
            fleet,
            clients: Clients::of(&mut webs),
            webs,
            executors,
        }
    }

    /// The web servers and the executors.
    fn processes(&self) -> impl Iterator<Item = &Process> {
        let webs = self.webs.iter().map(|web| &web.process);
        webs.chain(&self.executors)
    }

    /// Waits until `count` tasks have ended.
    async fn has_ended(&self, count: usize) {
        let ledger = self.fleet.ledger();
        let look = async || ledger.ended().await;
        eventually("work is done", look, |ended| *ended >= count).await;
    }

    /// Waits until every web server says whether it is ready, for the reason that is in `words`.
    async fn is_ready(&self, status: u16, words: &str) {
        for web in &self.webs {
            let body = web.is_ready(status, NOTICE_PATIENCE).await;
            let store = body["store"].as_str().unwrap();
            assert!(store.contains(words), "{store}");
        }
    }

    /// Starts a command that waits at its gate; its task and its process.
    async fn running(&self, name: &str, delivery: &str) -> (String, String) {
        let mut command = gated(&self.fleet, name);
        command["delivery"] = json!(delivery);
        let id = self.webs[0].submit(&command).await;
        (id, pids(&self.fleet, name, 1).await.remove(0))
    }

    /// Holds that a command has ended by the first run of its program.
    async fn went_on(&self, (id, pid): &(String, String)) {
        let task = self.webs[1].finished(id).await;
        assert_eq!(
            (&task["state"], &task["attempt"], &task["output"]["stdout"]),
            (&json!("succeeded"), &json!(1), &result_of(pid))
        );
    }

    async fn end(self) {
        self.fleet.is_idle().await;
        drop((self.webs, self.executors));
        self.postgres.stop();
    }
}

#[tokio::test]
async fn postgresql_restarted_under_load() {
    let scene = Scene::begin().await;
    let command = scene.running("command", "once").await;
    let restart = async {
        scene.has_ended(50).await;
        scene.postgres.crash().await;
        scene.postgres.start_again().await;
        scene.is_ready(200, "up").await;
        let done = scene.fleet.ledger().ended().await;
        scene.has_ended(done + 50).await;
    };
    let (tasks, ()) = under_load(&scene.clients, RATE, restart).await;
    each_ran_once(&scene.fleet, &tasks).await;
    open_gate(&scene.fleet, "command");
    scene.went_on(&command).await;
    for process in scene.processes() {
        assert!(process.times_said("the store is away") <= 1);
        assert_eq!(process.times_said("is lost"), 0);
    }
    scene.end().await;
}

#[tokio::test]
async fn postgresql_away_for_a_minute_under_load() {
    let scene = Scene::begin().await;
    let ends_meanwhile = scene.running("ends_meanwhile", "rerun").await;
    let outlasts = scene.running("outlasts", "rerun").await;
    let (once, once_pid) = scene.running("once", "once").await;
    let outage = async {
        scene.has_ended(50).await;
        scene.postgres.crash().await;
        scene.is_ready(503, "does not answer").await;
        open_gate(&scene.fleet, "ends_meanwhile");
        fault_lasts(OUTAGE).await;
        // It may run only once, and its executor could not renew its lease.
        assert!(!is_running(&once_pid));
        scene.postgres.start_again().await;
        scene.is_ready(200, "up").await;
        let done = scene.fleet.ledger().ended().await;
        scene.has_ended(done + 50).await;
    };
    let (tasks, ()) = under_load(&scene.clients, RATE, outage).await;
    each_ran_once(&scene.fleet, &tasks).await;
    scene.went_on(&ends_meanwhile).await;
    open_gate(&scene.fleet, "outlasts");
    scene.went_on(&outlasts).await;
    let once = scene.webs[0].finished(&once).await;
    assert_eq!(
        (&once["state"], &once["attempt"]),
        (&json!("failed"), &json!(1))
    );
    assert_eq!(runs(&scene.fleet, "once"), [once_pid]);
    for process in scene.processes() {
        let words = ["the store is away", "the store is back"];
        let said = async || words.map(|words| process.times_said(words));
        let what = "each process says once that the store is away, and that it is back";
        eventually_within(NOTICE_PATIENCE, what, said, |said| *said == [1, 1]).await;
        assert_eq!(process.times_said("is lost"), 0);
    }
    scene.end().await;
}
