//! `longshore bench`: measures this machine and these servers. The executor and the web server are processes of their
//! own, as they are in earnest; with the embedded broker everything is in this one.

mod args;
mod drain;
mod ends;
mod fanout;
mod idle;
mod latency;
mod load;
mod measure;
mod proxy;
mod report;
mod stand;
mod start;
mod submit;
mod suspend;
mod sustained;
mod takeover;
mod usage;

use std::time::Duration;

pub(super) use args::BenchArgs;

use self::args::Scenario;
use self::stand::Stand;
use super::args::{Common, Flags};
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::process;
use super::status::ExitStatus;
use crate::config::{self, Config};

/// What can be injected: timers tick once a millisecond, and nobody is farther away than a second.
const LATENCY: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(1);

/// The longest run: a day.
const RUN_MAX: Duration = Duration::from_hours(24);

pub(super) async fn run(
    common: &Common,
    args: BenchArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    if let Scenario::Suspend(args) = &args.scenario
        && args.serve
    {
        return suspend::serve(common, args.slots).await;
    }
    let latency = args.inject_latency.as_deref().map(|text| {
        config::duration(text, LATENCY)
            .map_err(|reason| Complaint::usage(format!("`--inject-latency`: {reason}")))
    });
    let latency = latency.transpose()?;
    let config = process::settings(common, Flags::new())?;
    let stand = Stand::set_up(config, latency, output).await?;
    let report = match args.scenario {
        Scenario::Drain(args) => drain::run(&stand, args).await,
        Scenario::Sustained(args) => sustained::run(&stand, args).await,
        Scenario::Latency(args) => latency::run(&stand, args).await,
        Scenario::Fanout(args) => fanout::run(&stand, args).await,
        Scenario::Suspend(args) => suspend::run(&stand, args).await,
        Scenario::Idle(args) => idle::run(&stand, args).await,
        Scenario::Takeover(args) => takeover::run(&stand, args).await,
        Scenario::Submit(args) => submit::run(&stand, args).await,
        Scenario::Start(args) => start::run(&stand, args).await,
    };
    stand.tear_down().await;
    let mut report = report?;
    if let Some(latency) = latency {
        let millis = latency.as_secs_f64() * 1000.0;
        report.number("injected_latency_ms", millis, "ms");
    }
    report.show(output)?;
    Ok(ExitStatus::Done)
}

/// So many seconds, as an argument has them.
fn seconds(value: f64, name: &str) -> Result<Duration, Complaint> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|duration| *duration <= RUN_MAX)
        .ok_or_else(|| {
            Complaint::usage(format!(
                "`--{name}` is a number of seconds up to {}, not `{value}`",
                RUN_MAX.as_secs()
            ))
        })
}
