//! A process that is web server and executor at once dies at what an executor seldom does: it judges a death, holds a trial,
//! finds what is its own, cancels siblings, carries out a signal that came by the broker.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore::broker::{Broker, Content, Ingress, Message};
use longshore::domain::NewTask;
use longshore::store::Store;
use serde_json::json;

use super::chance::Chance;
use super::crash_points::{Crash, Moment, Points, dies_at_each};
use super::fleet::{Fleet, Role};
use super::hub::{Hub, Violated};
use super::network::Network;
use super::process::Process;
use super::run::{Outcome, check_ends, on_one_thread, outcome, until_all_has_ended};
use super::store::SimStore;
use super::users;
use super::work::{GO, Spec, Work, submission};
use crate::contract::store::record;

/// With this seed the victim makes every call; if not, one of the next is taken.
const SEED: u64 = 1;

/// Who dies.
const VICTIM: &str = "both1.1";

/// Those that die in any case, and when: the victim is to judge one of them.
const LOST: [(&str, Duration); 2] = [
    ("executor2.1", Duration::from_secs(6)),
    ("executor3.1", Duration::from_secs(9)),
];

/// When the signals come by the broker.
const SIGNALLED_AT: Duration = Duration::from_millis(4_500);

fn work(millis: u64) -> Work {
    Work {
        millis,
        ..Work::default()
    }
}

/// What users submit.
fn specs(chance: &mut Chance) -> Vec<Spec> {
    let mut specs = Vec::new();
    // One after the other, so that the victim has room, and begins some that it takes in itself.
    for at in (500..3_000).step_by(250) {
        let at = Duration::from_millis(at);
        specs.push(Spec::new(submission("work", work(10)), at, chance));
    }
    for at in (3_000..4_000).step_by(200) {
        let fragile = Work {
            children: 3,
            ..work(10)
        };
        let at = Duration::from_millis(at);
        specs.push(Spec::new(submission("fragile", fragile), at, chance));
    }
    // These run where executors die.
    for at in [5_500, 5_600, 8_500, 8_600] {
        let at = Duration::from_millis(at);
        specs.push(Spec::new(submission("work", work(2_000)), at, chance));
    }
    specs
}

/// Sagas whose signal comes by the broker.
fn sagas(chance: &mut Chance) -> Vec<Spec> {
    let saga = Work {
        children: 3,
        ..work(10)
    };
    let saga = |_| {
        let at = Duration::from_secs(1);
        Spec::new(submission("saga", saga), at, chance)
    };
    (0..4).map(saga).collect()
}

/// Somebody without the store: the signal goes by the broker, twice.
async fn signal_by_message(fleet: &Fleet, spec: &Spec) {
    let id = spec.id().to_string();
    let body = json!({
        "specversion": "1.0", "id": id, "source": "/somebody", "type": "longshore.task.signal",
        "subject": id, "time": "2026-01-01T00:00:00Z", "data": {"signal": GO, "payload": 1},
    });
    let message = Message {
        ingress: Ingress::Signals,
        key: format!("signal.{id}"),
        id,
        content: Content::Event,
        body: body.to_string().into_bytes(),
    };
    let twice = vec![message.clone(), message];
    let answers = fleet.hub.embedded.publish(twice).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

/// Stores tasks that have killed an executor already: each ran alone in one that died.
async fn suspects(fleet: Arc<Fleet>, specs: Vec<Spec>) {
    let process = Process::new("ghost".to_owned());
    let store = SimStore::new(&fleet.hub, &process);
    for spec in specs {
        let task = NewTask {
            id: spec.id(),
            submission: spec.submission,
            origin: None,
            fan_out: None,
        };
        drop(store.submit(std::slice::from_ref(&task)).await.unwrap());
        let ghost = record("ghost");
        store.enroll(&ghost, Duration::from_mins(1)).await.unwrap();
        let claimed = store.claim(ghost.id, &[task.id]).await.unwrap();
        assert_eq!(claimed.len(), 1);
        let ends_at = store.lease_end(ghost.id).await.unwrap().unwrap();
        assert!(store.end_lease(ghost.id, ends_at).await.unwrap());
        let taken = store.take_over(Some(ghost.id), 9).await.unwrap();
        assert_eq!(taken.released.len(), 1, "{taken:?}");
    }
    fleet.users.fetch_sub(1, Ordering::Relaxed);
}

fn story(seed: u64, point: Option<usize>, moment: Moment) -> (Outcome, Vec<&'static str>) {
    on_one_thread(async |idle| {
        let mut chance = Chance::new(seed);
        let hub = Hub::new(chance.next(), Network::calm(), idle).await;
        let crash = Crash::new(VICTIM, point, moment).with_unheard("submit_and_claim");
        *hub.crash() = Some(crash);
        let slots = 3;
        let roles = [
            Role::Web,
            Role::Both { slots },
            Role::Executor { slots },
            Role::Executor { slots },
            Role::Executor { slots },
        ];
        let fleet = Fleet::start(&hub, &roles);
        fleet.let_die();
        let mut specs = specs(&mut chance);
        let sagas = sagas(&mut chance);
        let suspected: Vec<_> = (0..6)
            .map(|_| Spec::new(submission("work", work(400)), Duration::ZERO, &mut chance))
            .collect();
        specs.extend(sagas.iter().cloned());
        users::come(&fleet, &specs, &mut chance);
        fleet.users.fetch_add(1, Ordering::Relaxed);
        let ghost = Box::pin(suspects(Arc::clone(&fleet), suspected.clone()));
        hub.background.spawn(ghost);
        specs.extend(suspected);
        // The violation is in the model.
        drop(Box::pin(live(&fleet, &specs, &sagas)).await);
        let calls = hub.crash().as_mut().unwrap().take_seen();
        (outcome(&hub), calls)
    })
}

async fn live(fleet: &Arc<Fleet>, specs: &[Spec], sagas: &[Spec]) -> Result<(), Violated> {
    let hub = &fleet.hub;
    hub.run_until(SIGNALLED_AT).await?;
    for saga in sagas {
        signal_by_message(fleet, saga).await;
    }
    for (name, at) in LOST {
        hub.run_until(at).await?;
        let executors = fleet.executors();
        if let Some(lost) = executors.iter().find(|one| one.process.name == name) {
            fleet.kill(lost);
        }
    }
    until_all_has_ended(fleet).await?;
    check_ends(fleet, specs);
    Ok(())
}

#[test]
fn an_executor_may_die_at_what_it_seldom_does() {
    let methods = [
        "cancel_spawned",
        "end_lease",
        "lease_end",
        "note_progress",
        "owned",
        "put_on_trial",
        "signal",
        "submit_and_claim",
    ];
    let points = Points {
        seed: SEED,
        methods: &methods,
        are_all: false,
        count_min: 16,
    };
    dies_at_each(VICTIM, story, &points);
}
