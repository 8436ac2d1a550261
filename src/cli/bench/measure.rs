//! What a run costs apart from time: commits, bytes of log, messages, and CPU, each told apart by who had it.

use std::sync::Arc;
use std::time::Duration;

use super::proxy::authority;
use super::report::Report;
use super::usage::{self, Usage, real};
use crate::broker::BrokerAddress;
use crate::broker::management::{Management, Traffic};
use crate::cli::broker::management;
use crate::clock::Clock;
use crate::config::Config;
use crate::store::StoreAddress;
use crate::store::postgres::{Gauge, GaugeReading};

/// RabbitMQ counts messages every 5 s: what is read later than that has them all.
const COUNTED_AFTER: Duration = Duration::from_secs(6);

/// The port of an AMQP broker whose address names none.
pub(super) const AMQP_PORT: u16 = 5672;

/// Why the cost of a store or a broker is not told apart.
const IN_THIS_PROCESS: &str = "it is part of this process";

/// The processes of ours that a run has besides this one.
#[derive(Debug, Clone, Default)]
pub(super) struct Processes {
    pub(super) executors: Vec<u32>,
    pub(super) web: Vec<u32>,
}

/// What reads how much was done so far.
#[derive(Debug)]
pub(super) struct Meter {
    gauge: Result<Gauge, String>,
    /// Its first process: the one that started all others.
    store: Result<u32, String>,
    management: Result<Management, String>,
    broker: Result<u32, String>,
    clock: Arc<dyn Clock>,
}

/// How much was done so far. Only differences say something.
#[derive(Debug)]
pub(super) struct Reading {
    store: Result<GaugeReading, String>,
    traffic: Result<Traffic, String>,
    store_cpu_s: Result<f64, String>,
    broker_cpu_s: Result<f64, String>,
    client: Usage,
    executors: Vec<(u32, Usage)>,
    web: Vec<(u32, Usage)>,
}

impl Meter {
    /// Finds out what can be read of these servers; what cannot is told with the reason in the report.
    pub(super) async fn of(
        config: &Config,
        store: &StoreAddress,
        broker: &BrokerAddress,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let gauge = match store.gauge().await {
            Ok(Some(gauge)) => Ok(gauge),
            Ok(None) => Err("SQLite has no server that counts".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let process = match &gauge {
            Ok(gauge) => postmaster(gauge).await,
            Err(_) if !store.is_postgres() => Err(IN_THIS_PROCESS.to_owned()),
            Err(reason) => Err(reason.clone()),
        };
        let management = match (broker, &config.broker.management_url) {
            (BrokerAddress::Embedded, _) => Err(IN_THIS_PROCESS.to_owned()),
            (BrokerAddress::None, _) => Err("there is no broker".to_owned()),
            (BrokerAddress::Amqp(_), None) => Err(
                "RabbitMQ tells it by its management API: set `broker.management_url`".to_owned(),
            ),
            (BrokerAddress::Amqp(_), Some(_)) => {
                management(config).map_err(|complaint| complaint.lines().concat())
            }
        };
        let broker = match broker {
            BrokerAddress::Amqp(url) => node(url, management.as_ref().ok()).await,
            BrokerAddress::Embedded => Err(IN_THIS_PROCESS.to_owned()),
            BrokerAddress::None => Err("there is no broker".to_owned()),
        };
        Self {
            gauge,
            store: process,
            management,
            broker,
            clock: Arc::clone(clock),
        }
    }

    /// What was done before a run: call it when nothing is under way.
    pub(super) async fn before(&self, processes: &Processes) -> Reading {
        self.until_counted().await;
        self.read(processes).await
    }

    /// What was done when a run has just ended. The number of messages is waited for.
    pub(super) async fn after(&self, processes: &Processes) -> Reading {
        let reading = self.read(processes).await;
        self.until_counted().await;
        Reading {
            traffic: self.traffic().await,
            ..reading
        }
    }

    /// What was done so far, the messages of the last seconds left out.
    pub(super) async fn read(&self, processes: &Processes) -> Reading {
        let used = |processes: &[u32]| -> Vec<(u32, Usage)> {
            let usage = |process: &u32| (*process, Usage::of(*process));
            processes.iter().map(usage).collect()
        };
        let cpu_s = |process: &Result<u32, String>| match process {
            Ok(process) => usage::family_cpu_s(*process).ok_or_else(|| "it is gone".to_owned()),
            Err(reason) => Err(reason.clone()),
        };
        // These first: asking the servers costs them something.
        let (client, executors) = (Usage::own(), used(&processes.executors));
        let web = used(&processes.web);
        let (store_cpu_s, broker_cpu_s) = (cpu_s(&self.store), cpu_s(&self.broker));
        let store = match &self.gauge {
            Ok(gauge) => gauge.read().await.map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        };
        Reading {
            store,
            traffic: self.traffic().await,
            store_cpu_s,
            broker_cpu_s,
            client,
            executors,
            web,
        }
    }

    async fn traffic(&self) -> Result<Traffic, String> {
        match &self.management {
            Ok(management) => management
                .traffic()
                .await
                .map_err(|error| error.to_string()),
            Err(reason) => Err(reason.clone()),
        }
    }

    async fn until_counted(&self) {
        if self.management.is_ok() {
            self.clock.sleep(COUNTED_AFTER).await;
        }
    }
}

impl Reading {
    /// Adds what was done since `before`, in all for `tasks` tasks.
    pub(super) fn report(&self, before: &Self, tasks: usize, report: &mut Report) {
        let tasks = real(tasks.max(1) as u64);
        let cpu = |seconds: f64| seconds.max(0.0) * 10_000.0 / tasks;
        let unit = "CPU s";
        report.number(
            "client_cpu_s_per_10k",
            cpu(self.client.cpu_s - before.client.cpu_s),
            unit,
        );
        report.measured(
            "executor_cpu_s_per_10k",
            self.executor_cpu_s(before).map(cpu),
            unit,
        );
        if !self.web.is_empty() {
            report.number(
                "web_cpu_s_per_10k",
                cpu(spent(&before.web, &self.web)),
                unit,
            );
        }
        report.measured(
            "broker_cpu_s_per_10k",
            self.broker_cpu_s(before).map(cpu),
            unit,
        );
        report.measured(
            "store_cpu_s_per_10k",
            self.store_cpu_s(before).map(cpu),
            unit,
        );
        let each = |count: u64| real(count) / tasks;
        let commits = self.grown(before, |store| store.writes);
        report.measured("store_commits_per_task", commits.map(each), "commits");
        let wal_bytes = self.grown(before, |store| store.wal_bytes);
        report.measured("store_wal_bytes_per_task", wal_bytes.map(each), "bytes");
        let published = self.carried(before, |traffic| traffic.published);
        report.measured("amqp_published_per_task", published.map(each), "messages");
        let delivered = self.carried(before, |traffic| traffic.delivered);
        report.measured("amqp_delivered_per_task", delivered.map(each), "messages");
        let (count, rss_mib) = self.executor_rss_mib();
        if count > 0 {
            report.number("executor_rss_mib", rss_mib / real(count), "MiB");
        }
    }

    /// Seconds of CPU of the executors since `before`.
    pub(super) fn executor_cpu_s(&self, before: &Self) -> Result<f64, String> {
        if self.executors.is_empty() {
            return Err(IN_THIS_PROCESS.to_owned());
        }
        Ok(spent(&before.executors, &self.executors))
    }

    /// How many executors have a process of their own, and MiB of memory that they have together.
    pub(super) fn executor_rss_mib(&self) -> (u64, f64) {
        let together = self.executors.iter().map(|(_, usage)| usage.rss_mib());
        (self.executors.len() as u64, together.sum())
    }

    /// Seconds of CPU of the broker since `before`.
    pub(super) fn broker_cpu_s(&self, before: &Self) -> Result<f64, String> {
        Ok(self.broker_cpu_s.clone()? - before.broker_cpu_s.clone()?)
    }

    /// Seconds of CPU of the store since `before`.
    pub(super) fn store_cpu_s(&self, before: &Self) -> Result<f64, String> {
        Ok(self.store_cpu_s.clone()? - before.store_cpu_s.clone()?)
    }

    /// How much a number of the store has grown since `before`.
    pub(super) fn grown(
        &self,
        before: &Self,
        number: impl Fn(&GaugeReading) -> u64,
    ) -> Result<u64, String> {
        let [before, after] = [&before.store, &self.store].map(|read| read.as_ref().map(&number));
        Ok(after
            .map_err(Clone::clone)?
            .saturating_sub(before.map_err(Clone::clone)?))
    }

    /// How much a number of the broker has grown since `before`.
    pub(super) fn carried(
        &self,
        before: &Self,
        number: impl Fn(&Traffic) -> u64,
    ) -> Result<u64, String> {
        let [before, after] =
            [&before.traffic, &self.traffic].map(|read| read.as_ref().map(&number));
        Ok(after
            .map_err(Clone::clone)?
            .saturating_sub(before.map_err(Clone::clone)?))
    }
}

/// Seconds of CPU of processes between two moments. Whoever was not there before began with none.
fn spent(before: &[(u32, Usage)], after: &[(u32, Usage)]) -> f64 {
    let since = |(process, usage): &(u32, Usage)| {
        let known = before.iter().find(|(other, _)| other == process);
        (usage.cpu_s - known.map_or(0.0, |(_, usage)| usage.cpu_s)).max(0.0)
    };
    after.iter().map(since).sum()
}

/// The first process of the PostgreSQL server on this host that `gauge` talks to.
///
/// Another host may have a process of the same number: so the one here must call itself by the port of our connection.
async fn postmaster(gauge: &Gauge) -> Result<u32, String> {
    let reading = gauge.read().await.map_err(|error| error.to_string())?;
    let serves = reading
        .port
        .map_or_else(|| "[local]".to_owned(), |port| format!("({port})"));
    let title = usage::title(reading.process).unwrap_or_default();
    if !title.contains("postgres") || !title.contains(&serves) {
        return Err("the store runs on another host, or may not be looked at".to_owned());
    }
    usage::parent(reading.process).ok_or_else(|| "the store's processes are gone".to_owned())
}

/// The process of the RabbitMQ node on this host that listens at `url`: as the socket's owner, or as the node says itself.
async fn node(url: &str, management: Option<&Management>) -> Result<u32, String> {
    let elsewhere = || "the broker runs on another host, or may not be looked at".to_owned();
    let server = authority(url, AMQP_PORT).ok_or_else(elsewhere)?;
    let mut addresses = tokio::net::lookup_host(&server)
        .await
        .map_err(|error| error.to_string())?;
    let address = addresses
        .find(|address| usage::is_here(address.ip()))
        .ok_or_else(elsewhere)?;
    let is_node = |process: &u32| usage::program(*process).is_some_and(|name| name == "beam.smp");
    if let Some(process) = usage::listener(address.port()).filter(is_node) {
        return Ok(process);
    }
    let management = management.ok_or_else(elsewhere)?;
    let processes = management
        .processes()
        .await
        .map_err(|error| error.to_string())?;
    match processes.as_slice() {
        [process] if is_node(process) => Ok(*process),
        [_] | [] => Err(elsewhere()),
        [_, _, ..] => Err("the broker has several nodes".to_owned()),
    }
}
