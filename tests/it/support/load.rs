//! Clients that submit under faults: with ids of their own, again and again and to any web server, until a task is
//! accepted; and that wait in the same way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use uuid::Uuid;

use super::eventually::eventually_within;
use super::fleet::{Fleet, Web};
use super::ledger::Entry;

/// How long one request may take: a web server whose store is away answers after ten seconds.
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// How long a client goes on: longer than any outage of a test.
const PATIENCE: Duration = Duration::from_mins(3);

/// Tasks that are submitted, or waited for, at once.
const AT_ONCE: usize = 32;

/// Clients of several web servers. Clones are the same clients.
#[derive(Clone)]
pub(crate) struct Clients {
    http: reqwest::Client,
    /// Where the web servers listen now.
    addresses: Arc<Mutex<Vec<String>>>,
}

impl Clients {
    pub(crate) fn of(webs: &mut [Web]) -> Self {
        let addresses = webs.iter_mut().map(|web| web.address().to_owned());
        Self::at(addresses.collect())
    }

    /// The same by the addresses.
    pub(crate) fn at(addresses: Vec<String>) -> Self {
        Self {
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(REQUEST_MAX)
                .build()
                .unwrap(),
            addresses: Arc::new(Mutex::new(addresses)),
        }
    }

    /// A web server listens somewhere else now.
    pub(crate) fn moved(&self, number: usize, address: &str) {
        address.clone_into(&mut self.addresses.lock().unwrap()[number]);
    }

    fn url(&self, number: usize, path: &str) -> String {
        let addresses = self.addresses.lock().unwrap();
        format!("http://{}{path}", addresses[number % addresses.len()])
    }

    /// Asks one web server after the other, beginning with `number`, until one answers with 200 or 202; the status and
    /// the body. Nothing but "try again" may be answered before.
    async fn answer(
        &self,
        number: usize,
        ask: impl Fn(&reqwest::Client, &dyn Fn(&str) -> String) -> reqwest::RequestBuilder,
    ) -> (u16, Value) {
        let mut tries = number;
        let look = async || {
            let url = |path: &str| self.url(tries, path);
            let sent = ask(&self.http, &url).send().await;
            tries += 1;
            let response = sent.ok()?;
            let status = response.status().as_u16();
            let body = response.json::<Value>().await.ok()?;
            assert!([200, 202, 503].contains(&status), "{status}: {body}");
            (status != 503).then_some((status, body))
        };
        let answer = eventually_within(PATIENCE, "a web server answers", look, Option::is_some);
        answer.await.unwrap()
    }

    /// Submits a task until some web server has accepted it.
    pub(crate) async fn submit(&self, number: usize, submission: &Value) {
        self.answer(number, |http, url| {
            http.post(url("/v1/tasks")).json(submission)
        })
        .await;
    }

    /// Waits until a task has ended, at whichever web server answers; the task.
    pub(crate) async fn wait(&self, number: usize, id: Uuid) -> Value {
        let path = format!("/v1/tasks/{id}/wait?timeout=10");
        let look = async || self.answer(number, |http, url| http.get(url(&path))).await;
        let (_, task) =
            eventually_within(PATIENCE, "the task ends", look, |seen| seen.0 == 200).await;
        task
    }
}

/// What to submit: echoes and short naps, one in ten of them on the queue `bulk`.
pub(crate) fn small_task(number: usize) -> Value {
    let queue = if number.is_multiple_of(10) {
        "bulk"
    } else {
        "default"
    };
    let mut task = if number.is_multiple_of(3) {
        json!({"action": "sleep", "input": {"seconds": 0.02}})
    } else {
        json!({"action": "echo", "input": number})
    };
    task["queue"] = json!(queue);
    task["id"] = json!(Uuid::now_v7());
    task
}

/// Submits small tasks, each at its place in a rate of `tasks_a_second`, until `during` ends; every fourth is waited
/// for. Answers once all were accepted and all waiters answered: the ids of the tasks, and what `during` came to.
pub(crate) async fn under_load<T>(
    clients: &Clients,
    tasks_a_second: u32,
    during: impl Future<Output = T>,
) -> (Vec<Uuid>, T) {
    let is_over = Arc::new(Mutex::new(false));
    let mut pace = tokio::time::interval(Duration::from_secs(1) / tasks_a_second);
    // What could not be submitted in time is not made up for at once.
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let numbers = stream::unfold((pace, 0), |(mut pace, number)| {
        let is_over = Arc::clone(&is_over);
        async move {
            pace.tick().await;
            let is_over = *is_over.lock().unwrap();
            (!is_over).then_some((number, (pace, number + 1)))
        }
    });
    let run = async |number: usize| {
        let task = small_task(number);
        let id: Uuid = task["id"].as_str().unwrap().parse().unwrap();
        clients.submit(number, &task).await;
        if number.is_multiple_of(4) {
            let task = clients.wait(number + 1, id).await;
            assert_eq!(task["state"], "succeeded", "{task}");
        }
        id
    };
    let load = numbers
        .map(run)
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    let during = async {
        let answer = during.await;
        *is_over.lock().unwrap() = true;
        answer
    };
    futures_util::join!(load, during)
}

/// Waits until all of `tasks` have ended, and holds that each ran once and succeeded.
pub(crate) async fn each_ran_once(fleet: &Fleet, tasks: &[Uuid]) {
    for (id, entry) in all_ended(fleet, tasks).await {
        let facts = (entry.state.as_str(), entry.attempt);
        assert_eq!(facts, ("succeeded", 1), "{id}: {entry:?}");
    }
}

/// Waits until all of `tasks` have ended, or need a human; their rows.
pub(crate) async fn all_ended(fleet: &Fleet, tasks: &[Uuid]) -> Vec<(Uuid, Entry)> {
    let ledger = fleet.ledger();
    let look = async || {
        let rows = ledger.tasks().await;
        let open = |id: &&Uuid| rows.get(*id).is_none_or(Entry::is_open);
        tasks.iter().filter(open).count()
    };
    eventually_within(PATIENCE, "all tasks have ended", look, |open| *open == 0).await;
    let mut rows = ledger.tasks().await;
    tasks
        .iter()
        .map(|id| (*id, rows.remove(id).unwrap()))
        .collect()
}
