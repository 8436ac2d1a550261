//! A broker that is away, that has lost everything, or that takes nothing, under load.

use std::time::Duration;

use serde_json::json;

use super::was_brought;
use crate::support::database::fresh_database;
use crate::support::eventually::{eventually, fault_lasts};
use crate::support::fleet::{Fleet, Process, Web};
use crate::support::load::{Clients, each_ran_once, under_load};
use crate::support::rabbitmq::OwnRabbit;

/// Tasks that are submitted in a second: enough to see a pause, and little for a busy machine.
const RATE: u32 = 30;

/// How long the broker is away.
const OUTAGE: Duration = Duration::from_mins(1);

/// How long others may take to notice that a server is away, or back.
const NOTICE_PATIENCE: Duration = Duration::from_mins(1);

/// Tasks that are submitted one after the other when it is over.
const TASKS_AFTER: usize = 20;

/// Two web servers and two executors on a broker of their own.
struct Scene {
    // The processes before the fleet: their logs are in its folder, and shown when a test fails.
    webs: [Web; 2],
    executors: [Process; 2],
    clients: Clients,
    fleet: Fleet,
    rabbit: OwnRabbit,
}

impl Scene {
    async fn begin() -> Self {
        let rabbit = OwnRabbit::take();
        let fleet = Fleet::on(rabbit.node(), fresh_database().await).await;
        let queues = ["--queue", "default=8", "--queue", "bulk=2"];
        let executors = [
            fleet.executor("x1", &queues).await,
            fleet.executor("x2", &queues).await,
        ];
        let mut webs = [fleet.web("w1").await, fleet.web("w2").await];
        Self {
            rabbit,
            fleet,
            clients: Clients::of(&mut webs),
            webs,
            executors,
        }
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
            let broker = body["broker"].as_str().unwrap();
            assert!(broker.contains(words), "{broker}");
        }
    }

    /// Lets `duration` pass, and holds that work went on in it: most of what was submitted meanwhile was done meanwhile.
    async fn goes_on_for(&self, duration: Duration) {
        let ledger = self.fleet.ledger();
        let counts = async || (ledger.tasks().await.len(), ledger.ended().await);
        let before = counts().await;
        fault_lasts(duration).await;
        let after = counts().await;
        let (submitted, done) = (after.0 - before.0, after.1 - before.1);
        assert!(submitted > 0, "nothing was submitted in {duration:?}");
        assert!(done * 2 > submitted, "{done} of {submitted} were done");
    }

    /// Holds that announcements bring tasks again: most begin before anybody would look for them in the store.
    async fn is_announced_to_again(&self) {
        let mut in_time = 0;
        for number in 0..TASKS_AFTER {
            let web = &self.webs[number % self.webs.len()];
            let task = web.run(&json!({"action": "echo", "input": number})).await;
            in_time += usize::from(was_brought(&task));
        }
        assert!(in_time * 2 > TASKS_AFTER, "{in_time} of {TASKS_AFTER}");
    }

    /// Holds what must be true when the broker is back: it is used again, nothing lies about in it, and everybody has
    /// said once that it was away and once that it came back.
    async fn is_as_before(&self) {
        self.is_announced_to_again().await;
        let mut tap = self.fleet.tap().await;
        tap.listen_to_the_end(&self.webs[0]).await;
        tap.listen_to_the_end(&self.webs[1]).await;
        assert!(tap.announcements_max() <= 2, "{}", tap.announcements_max());
        tap.close().await;
        self.fleet.is_idle().await;
        let webs = self.webs.iter().map(|web| &web.process);
        for process in webs.chain(&self.executors) {
            let words = ["the broker is away", "the broker is back"];
            let said = async || words.map(|words| process.times_said(words));
            eventually("it says each once", said, |said| *said == [1, 1]).await;
        }
    }
}

#[tokio::test]
async fn broker_stopped_for_a_minute_under_load() {
    let scene = Scene::begin().await;
    let outage = async {
        scene.has_ended(50).await;
        scene.rabbit.node().crash().await;
        scene.is_ready(503, "it is away").await;
        scene.goes_on_for(OUTAGE).await;
        scene.is_ready(503, "it is away").await;
        scene.rabbit.node().start_again().await;
        scene.is_ready(200, "up").await;
    };
    let (tasks, ()) = under_load(&scene.clients, RATE, outage).await;
    each_ran_once(&scene.fleet, &tasks).await;
    scene.is_as_before().await;
}

#[tokio::test]
async fn broker_s_data_wiped_under_load() {
    let scene = Scene::begin().await;
    let loss = async {
        scene.has_ended(50).await;
        scene.rabbit.node().crash().await;
        scene.rabbit.node().wipe().await;
        scene.is_ready(503, "it is away").await;
        scene.rabbit.node().start_again().await;
        // It runs and knows nobody: neither user nor queue.
        scene.goes_on_for(Duration::from_secs(15)).await;
        scene.fleet.apply_topology().await;
        scene.is_ready(200, "up").await;
    };
    let (tasks, ()) = under_load(&scene.clients, RATE, loss).await;
    each_ran_once(&scene.fleet, &tasks).await;
    scene.is_as_before().await;
}

#[tokio::test]
async fn broker_that_is_out_of_memory() {
    let scene = Scene::begin().await;
    let watermark = async |part: &'static str| {
        let node = scene.rabbit.node();
        let set = move || node.ctl(&["set_vm_memory_high_watermark", part]);
        tokio::task::spawn_blocking(set).await.unwrap();
    };
    let alarm = async {
        scene.has_ended(50).await;
        watermark("0.0001").await;
        scene.is_ready(503, "it takes no messages").await;
        scene.goes_on_for(Duration::from_secs(15)).await;
        watermark("0.4").await;
        scene.is_ready(200, "up").await;
    };
    let (tasks, ()) = under_load(&scene.clients, RATE, alarm).await;
    each_ran_once(&scene.fleet, &tasks).await;
    let mut tap = scene.fleet.tap().await;
    tap.listen_to_the_end(&scene.webs[0]).await;
    assert!(tap.announcements_max() <= 2, "{}", tap.announcements_max());
    tap.close().await;
    scene.fleet.is_idle().await;
    let webs = scene.webs.iter().map(|web| &web.process);
    for process in webs.chain(&scene.executors) {
        let said = process.last_said("the broker is away");
        assert_eq!(said, None, "an alarm is no reason to connect anew");
    }
}
