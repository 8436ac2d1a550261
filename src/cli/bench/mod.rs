//! `longshore bench`: measures this machine and these servers. The executor and the web server are processes of
//! their own, as they are in earnest.

mod drain;
mod fanout;
mod latency;
mod suspend;
mod usage;

use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use super::args::{Common, Flags, Scenario};
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::process;
use super::status::ExitStatus;
use crate::config::Config;
use crate::domain::QueueName;

/// The queue of the benchmarks; it is created when it is not there.
const QUEUE: &str = "bench";

pub(super) async fn run(
    common: &Common,
    scenario: Scenario,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    let runtime = process::connect(&config, "web").await?;
    let queue = QueueName::new(QUEUE)?;
    runtime.broker().create_queue(&queue).await?;
    runtime.store().create_queue(&queue).await?;
    let result = match scenario {
        Scenario::Drain(args) => drain::run(&config, &runtime, &queue, args, output).await,
        Scenario::Fanout(args) => fanout::run(&config, &runtime, &queue, args, output).await,
        Scenario::Suspend(args) => suspend::run(&runtime, args, output).await,
        Scenario::Latency(args) => latency::run(&config, &runtime, args, output).await,
    };
    runtime.stop().await;
    show(output, &result?)?;
    Ok(ExitStatus::Done)
}

/// Shows what was measured: one object.
fn show(output: Output, result: &Value) -> Result<(), Complaint> {
    match output.format() {
        Format::Json => output.json(result)?,
        Format::Jsonl => output.jsonl(result)?,
        Format::Table => {
            for (name, value) in result.as_object().into_iter().flatten() {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                output.line(&format!("{name:<28}{value}"))?;
            }
        }
    }
    Ok(())
}

/// Starts this program again with `args`, on the same store and broker. It is killed when it is dropped.
fn spawn(config: &Config, args: &[String]) -> Result<Child, Complaint> {
    let store = config.store.address()?;
    let broker = match config.broker.address()? {
        crate::broker::BrokerAddress::Amqp(url) => url.clone(),
        other @ (crate::broker::BrokerAddress::Embedded | crate::broker::BrokerAddress::None) => {
            return Err(Complaint::usage(format!(
                "a benchmark runs several processes, the broker is `{other}`"
            ))
            .with_hint("set `AMQP_URL`"));
        }
    };
    let child = Command::new(std::env::current_exe()?)
        .args(args)
        .env("DATABASE_URL", store.expose())
        .env("AMQP_URL", broker)
        .env("LONGSHORE_LOG_FILTER", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok(child)
}

/// Starts an executor with `slots` slots for the queue of the benchmarks.
fn spawn_executor(config: &Config, slots: u16) -> Result<Child, Complaint> {
    let queue = format!("{QUEUE}={slots}");
    spawn(
        config,
        &["executor", "--name", "bench", "--queue", &queue].map(str::to_owned),
    )
}

/// A port that is free now.
fn free_port() -> Result<u16, Complaint> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
