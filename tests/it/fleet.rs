//! Processes of the real program on a real store and a real broker. What fails is in `failures`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use futures_util::stream::{self, StreamExt as _};
use longshore::broker::Ingress;
use longshore::domain::TaskId;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::bad_input::{bad_announcements, message};
use crate::support::eventually::eventually;
use crate::support::fleet::{Fleet, Way, Web, fan_out_action, is_running, own_executor};
use crate::support::gate::{gated, open_gate, pids};
use crate::support::world::PATIENCE;

/// Tasks in the great test.
const COMMANDS: usize = 600;

/// The queues of an executor of the great test.
const TWO_QUEUES: [&str; 6] = [
    "--queue",
    "default=8",
    "--queue",
    "bulk=2",
    "--allow-command",
    "sha256sum",
];

/// Real files, as many as are here.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}

fn hash(file: &Path) -> String {
    let digest = Sha256::digest(fs::read(file).unwrap());
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap();
    let digits = digest
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

fn sha256sum(file: &Path, queue: &str) -> Value {
    json!({"action": "command", "queue": queue, "input": {"program": "sha256sum", "args": [file]}})
}

/// Submits the commands to both web servers in turn, many at once, every other one waiting in its request, and holds
/// every result against the hash; the executor of each task.
async fn run_commands(webs: [&Web; 2]) -> BTreeMap<String, String> {
    let files: Vec<(PathBuf, String)> = files()
        .into_iter()
        .map(|file| (file.clone(), hash(&file)))
        .collect();
    let run = async |number: usize| {
        let (file, expected) = &files[number % files.len()];
        let (web, other) = (webs[number % 2], webs[(number + 1) % 2]);
        let command = sha256sum(
            file,
            if number.is_multiple_of(5) {
                "bulk"
            } else {
                "default"
            },
        );
        let task = if (number / 2).is_multiple_of(2) {
            web.run(&command).await
        } else {
            let id = web.submit(&command).await;
            other.finished(&id).await
        };
        let stdout = task["output"]["stdout"].as_str();
        assert!(
            stdout.is_some_and(|stdout| stdout.starts_with(expected.as_str())),
            "{task}"
        );
        let word = |name: &str| task[name].as_str().unwrap().to_owned();
        (word("id"), word("executor"))
    };
    let runs = stream::iter(0..COMMANDS).map(run).buffer_unordered(64);
    runs.collect().await
}

/// Starts a long task on one web server and cancels it on the other; its id.
async fn cancel_across(webs: [&Web; 2]) -> String {
    let nap = json!({"action": "sleep", "input": {"seconds": 1000}});
    let id = webs[0].submit(&nap).await;
    webs[1].until(&id, "running").await;
    let (status, body) = webs[1]
        .post(
            &format!("/v1/tasks/{id}/cancel"),
            &json!({"reason": "enough"}),
        )
        .await;
    assert_eq!(status, 202, "{body}");
    let task = webs[0].finished(&id).await;
    assert_eq!(
        (&task["state"], &task["error"]["message"]),
        (&json!("cancelled"), &json!("enough"))
    );
    id
}

/// Runs a task with four sub-tasks; the ids, the parent's first.
async fn fan_out(fleet: &Fleet, web: &Web) -> Vec<String> {
    fleet.create_queue("fans");
    let runtime = fleet.runtime("longshore-executor").await;
    let executor = own_executor(&runtime, fan_out_action(), "fans").await;
    let task = web
        .run(&json!({"action": "fan_out", "queue": "fans", "input": 4}))
        .await;
    assert_eq!(task["state"], "succeeded", "{task}");
    let path = format!("/v1/tasks/{}/tree", task["id"].as_str().unwrap());
    let tree = eventually(
        "the sub-tasks have run",
        async || web.read(&path).await.1["tasks"].as_array().unwrap().clone(),
        |tree| tree.iter().all(|task| task["state"] == "succeeded"),
    )
    .await;
    assert_eq!((tree.len(), &tree[0]["id"]), (5, &task["id"]));
    assert!(
        tree[1..]
            .iter()
            .all(|part| part["parent"] == task["id"] && part["queue"] == "default")
    );
    assert_eq!(executor.drain(PATIENCE).await.given_back, 0);
    drop(executor);
    runtime.stop().await;
    tree.iter()
        .map(|task| task["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn two_web_servers_and_three_executors_share_600_commands() {
    let fleet = Fleet::begin().await;
    let mut tap = fleet.tap().await;
    let executors = [
        fleet.executor("x1", &TWO_QUEUES).await,
        fleet.executor("x2", &TWO_QUEUES).await,
        fleet.executor("x3", &TWO_QUEUES).await,
    ];
    let (one, two) = (fleet.web("w1").await, fleet.web("w2").await);
    let (commands, cancelled, tree) = futures_util::join!(
        run_commands([&one, &two]),
        cancel_across([&one, &two]),
        fan_out(&fleet, &two)
    );
    let ran: BTreeSet<&String> = commands.values().collect();
    assert_eq!((commands.len(), ran.len()), (COMMANDS, 3), "{ran:?}");
    fleet.is_idle().await;
    tap.listen_to_the_end(&one).await;
    for id in commands.keys().chain(&tree) {
        let mut kinds = tap.kinds(id);
        // The parent may have been suspended while it waited for its sub-tasks.
        if *id == tree[0] {
            kinds.retain(|kind| !["suspended", "woken"].contains(kind));
        }
        kinds.sort_unstable(); // Two connections speak of one task: their order is not promised.
        assert_eq!(kinds, ["created", "succeeded"], "{id}");
    }
    let kinds = tap.kinds(&cancelled);
    for kind in ["created", "cancel", "cancelled"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let exchanges: BTreeSet<&str> = tap
        .seen
        .iter()
        .map(|(_, exchange)| exchange.as_str())
        .collect();
    let flows = [
        "longshore.announced",
        "longshore.results",
        "longshore.signals",
    ];
    let listed = fleet.vhost.rabbit.ctl(&[
        "list_exchanges",
        "--vhost",
        &fleet.vhost.name,
        "--silent",
        "name",
    ]);
    for flow in flows {
        assert!(exchanges.contains(flow), "{flow}: {exchanges:?}");
        assert!(listed.lines().any(|name| name == flow), "{flow}: {listed}");
    }
    // Flow 1, and flow 4: which of them an announcement went by says who has made it.
    for speaker in ["/longshore/web/", "/longshore/executor/"] {
        let mut announced = tap.seen.iter().filter(|(event, _)| event.kind.announces());
        let has_said = announced.any(|(event, _)| event.source.starts_with(speaker));
        assert!(has_said, "{speaker}");
    }
    fleet.is_idle().await;
    tap.close().await;
    drop(executors);
}

#[tokio::test]
async fn sigterm_drains_an_executor_and_a_second_one_hands_its_tasks_back() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let flags = ["--allow-command", "sh", "--drain-timeout", "10m"];
    let mut first = fleet.executor("x1", &flags).await;
    let short = web.submit(&gated(&fleet, "short")).await;
    let long = web.submit(&gated(&fleet, "long")).await;
    let old = pids(&fleet, "long", 1).await;
    pids(&fleet, "short", 1).await;
    first.signal(Signal::SIGTERM);
    let stopping = first.said("may run on for").await;
    assert_eq!(stopping["tasks"], 2);
    let second = fleet.executor("x2", &flags).await;
    let later = web
        .run(&json!({"action": "echo", "input": "after the signal"}))
        .await;
    open_gate(&fleet, "short");
    let short = web.finished(&short).await;
    assert_ne!(later["executor"], short["executor"]);
    assert_eq!(
        (&short["state"], &short["attempt"]),
        (&json!("succeeded"), &json!(1))
    );
    first
        .said(&format!("Waiting for what runs (1): {long}"))
        .await;
    first.signal(Signal::SIGTERM);
    assert!(first.ended().await.success());
    assert_eq!(first.said("Stopped").await["tasks"], 1);
    assert!(
        !is_running(&old[0]),
        "the program of the first attempt runs on"
    );
    pids(&fleet, "long", 2).await;
    open_gate(&fleet, "long");
    let long = web.finished(&long).await;
    assert_eq!(
        (&long["state"], &long["attempt"]),
        (&json!("succeeded"), &json!(2))
    );
    assert_eq!(long["executor"], later["executor"]);
    fleet.is_idle().await;
    drop(second);
}

#[tokio::test]
async fn a_cancel_kills_the_whole_process_group_of_a_command() {
    let fleet = Fleet::begin().await;
    let (one, two) = (fleet.web("w1").await, fleet.web("w2").await);
    let executor = fleet.executor("x1", &["--allow-command", "sh"]).await;
    let script = "sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; wait";
    let input = json!({"program": "sh", "args": ["-c", script], "dir": fleet.path("")});
    let id = one
        .submit(&json!({"action": "command", "input": input}))
        .await;
    let noted = eventually(
        "the program has started another",
        async || fs::read_to_string(fleet.path("pids")),
        Result::is_ok,
    )
    .await
    .unwrap();
    let pids: Vec<&str> = noted.split_whitespace().collect();
    assert!(
        pids.len() == 2 && pids.iter().all(|pid| is_running(pid)),
        "{noted}"
    );
    let path = format!("/v1/tasks/{id}/cancel");
    let (status, body) = two.post(&path, &json!({"reason": "enough"})).await;
    assert_eq!(status, 202, "{body}");
    let task = one.finished(&id).await;
    assert_eq!(
        (&task["state"], &task["error"]["message"]),
        (&json!("cancelled"), &json!("enough"))
    );
    for pid in pids {
        assert!(!is_running(pid), "{pid} of {noted} runs on");
    }
    fleet.is_idle().await;
    drop(executor);
}

#[tokio::test]
async fn a_web_server_lets_browsers_tap_with_the_rights_of_its_role() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("w1").await;
    let executor = fleet.executor("x1", &[]).await;
    let id = web.submit(&json!({"action": "echo"})).await;
    web.finished(&id).await;
    let request = web.request(Method::GET, "/v1/taps?since=first");
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut heard = String::new();
    while !(heard.contains("event: succeeded") && heard.contains(&id)) {
        let chunk = tokio::time::timeout(PATIENCE, response.chunk());
        let chunk = chunk
            .await
            .expect(&heard)
            .unwrap()
            .expect("the stream goes on");
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    drop(executor);
}

#[tokio::test]
async fn a_bad_announcement_is_dead_with_its_reason_in_the_log_and_work_goes_on() {
    let fleet = Fleet::begin().await;
    let web = fleet.web("web").await;
    let executor = fleet.executor("x1", &["--queue", "default=1"]).await;
    let runtime = fleet.runtime("longshore-admin").await;
    let bad = bad_announcements(TaskId::from_uuid(uuid::Uuid::now_v7()));
    let (bodies, reasons): (Vec<_>, Vec<_>) = bad.into_iter().unzip();
    let messages = bodies
        .into_iter()
        .map(|body| message(Ingress::Tasks, "created.default.echo", body))
        .collect();
    let published = runtime.broker().publish(messages).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
    let done = web.run(&json!({"action": "echo", "input": 8})).await;
    assert_eq!(done["state"], "succeeded");
    let line = executor.said("is no announcement: to the dead").await;
    // Which of them is read first is not promised.
    let said = line["reason"].as_str().unwrap();
    assert!(reasons.iter().any(|reason| said.contains(reason)), "{line}");
    let log = fs::read_to_string(fleet.path("x1.log")).unwrap();
    for reason in &reasons {
        assert!(log.contains(reason), "{reason}: {log}");
    }
    let dead = async || fleet.vhost.depth("longshore.dead").await;
    eventually("all are dead", dead, |dead| *dead == Some(reasons.len())).await;
    runtime.stop().await;
}

#[tokio::test]
async fn without_a_broker_executors_share_the_database() {
    let fleet = Fleet::begin().await;
    let flags = ["--broker", "none"];
    let web = fleet.web_by(Way::default(), "w1", &flags).await;
    let flags = [&flags[..], &["--allow-command", "sh"]].concat();
    let mut first = fleet.executor("x1", &flags).await;
    let long = web.submit(&gated(&fleet, "long")).await;
    pids(&fleet, "long", 1).await;
    let second = fleet.executor("x2", &flags).await;
    let echo = async |number: u32| {
        let task = web.run(&json!({"action": "echo", "input": number})).await;
        assert_eq!(
            (&task["output"], &task["attempt"]),
            (&json!(number), &json!(1))
        );
    };
    let echoes = stream::iter(0..60).map(echo).buffer_unordered(8);
    echoes.collect::<()>().await;
    // Nobody hears of its death: its lease ends.
    first.kill();
    open_gate(&fleet, "long");
    let task = web.finished(&long).await;
    assert_eq!(
        (&task["state"], &task["attempt"]),
        (&json!("succeeded"), &json!(2))
    );
    drop(second);
}
