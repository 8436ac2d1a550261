//! `longshore doctor`: everything that must be right, looked at one after the other.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::args::{Common, Flags};
use super::complaint::Complaint;
use super::output::{self, Output};
use super::process;
use super::status::ExitStatus;
use crate::broker::Health;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::runtime::Runtime;
use crate::store::{SCHEMA_VERSION, Store, StoreAddress, StoreError};

/// How far this host's clock may be from the store's before people are told. Nothing compares the two, but ids and
/// logs are confusing when they differ.
const SKEW_MAX: Duration = Duration::from_secs(1);

/// What a look found.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    result: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn right(what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            what,
            result: "ok",
            detail: detail.into(),
            hint: None,
        }
    }

    fn skipped(what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            what,
            result: "skipped",
            detail: detail.into(),
            hint: None,
        }
    }

    fn wrong(what: &'static str, complaint: &Complaint) -> Self {
        let mut lines = complaint.lines().into_iter();
        let detail = lines
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        let hint = lines
            .next_back()
            .and_then(|line| line.trim().strip_prefix("hint: ").map(str::to_owned));
        Self {
            what,
            result: "wrong",
            detail,
            hint,
        }
    }
}

pub(super) async fn run(common: &Common, output: Output) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::from([("log.filter", "error".to_owned())]))?;
    let mut findings = vec![Finding::right("longshore", env!("CARGO_PKG_VERSION"))];
    look_at_store(&config, &mut findings).await;
    look_at_broker(&config, &mut findings).await;
    output.rows(&["WHAT", "RESULT", "DETAIL"], &findings, |finding| {
        vec![
            finding.what.to_owned(),
            finding.result.to_owned(),
            finding.detail.clone(),
        ]
    })?;
    let wrong: Vec<&Finding> = findings
        .iter()
        .filter(|finding| finding.result == "wrong")
        .collect();
    for finding in &wrong {
        if let Some(hint) = &finding.hint {
            output.say(&format!("hint ({}): {hint}", finding.what));
        }
    }
    Ok(if wrong.is_empty() {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    })
}

async fn look_at_store(config: &Config, findings: &mut Vec<Finding>) {
    let opened = match config.store.address() {
        Ok(address) => address.open().await.map_err(Complaint::from),
        Err(error) => Err(error.into()),
    };
    let store = match opened {
        Ok(store) => store,
        Err(complaint) => return findings.push(Finding::wrong("store", &complaint)),
    };
    match store.identity().await {
        Ok(identity) => {
            findings.push(Finding::right("store", identity.version));
            findings.push(clock(SystemClock::shared().now(), identity.now));
        }
        Err(error) => findings.push(Finding::wrong("store", &error.into())),
    }
    findings.push(schema(&store).await);
    store.close().await;
}

fn clock(here: jiff::Timestamp, there: jiff::Timestamp) -> Finding {
    let skew = here.duration_since(there).unsigned_abs();
    if skew <= SKEW_MAX {
        return Finding::right(
            "clock",
            format!("{} from the store's", output::duration(skew)),
        );
    }
    let complaint = Complaint::failed(format!(
        "this host's clock is {} from the store's",
        output::duration(skew)
    ));
    Finding::wrong(
        "clock",
        &complaint.with_hint("run an NTP client on both hosts"),
    )
}

async fn schema(store: &Arc<dyn Store>) -> Finding {
    match store.schema_version().await {
        Ok(Some(SCHEMA_VERSION)) => Finding::right("schema", SCHEMA_VERSION.to_string()),
        Ok(found) => Finding::wrong(
            "schema",
            &StoreError::Schema {
                found,
                expected: SCHEMA_VERSION,
            }
            .into(),
        ),
        Err(error) => Finding::wrong("schema", &error.into()),
    }
}

async fn look_at_broker(config: &Config, findings: &mut Vec<Finding>) {
    let connected = match (
        config.broker.address(),
        "sqlite::memory:".parse::<StoreAddress>(),
    ) {
        (Ok(broker), Ok(no_store)) => Runtime::connect(&no_store, broker, "doctor")
            .await
            .map_err(Complaint::from),
        (Err(error), _) => Err(error.into()),
        (_, Err(error)) => Err(error.into()),
    };
    let runtime = match connected {
        Ok(runtime) => runtime,
        Err(complaint) => return findings.push(Finding::wrong("broker", &complaint)),
    };
    let health = runtime.broker().health().borrow().clone();
    findings.push(match health {
        Health::Up => Finding::right("broker", identity(config, &runtime).await),
        Health::Blocked(reason) => Finding::wrong(
            "broker",
            &Complaint::failed(format!("it takes no messages: {reason}")),
        ),
        Health::Down(_) => match runtime.check_broker() {
            Ok(()) => Finding::right("broker", "connected"),
            Err(error) => Finding::wrong("broker", &error.into()),
        },
    });
    findings.push(topology(config).await);
    runtime.stop().await;
}

/// What the broker is. Its version is told by the management plugin only.
async fn identity(config: &Config, runtime: &Runtime) -> String {
    let name = runtime.broker().identity();
    let name = name.unwrap_or_else(|| "connected".to_owned());
    if config.broker.management_url.is_none() {
        return name;
    }
    match super::broker::version(config).await {
        Ok(version) => format!("{name} {version}"),
        Err(_) => name, // The look at the topology says what is wrong.
    }
}

async fn topology(config: &Config) -> Finding {
    if config.broker.management_url.is_none() {
        return Finding::skipped(
            "topology",
            "set `broker.management_url` to have it compared",
        );
    }
    match super::broker::differences(config).await {
        Ok(changes) if changes.is_empty() => Finding::right("topology", "as it should be"),
        Ok(changes) => {
            let complaint = Complaint::failed(format!("{} differences", changes.len()));
            Finding::wrong(
                "topology",
                &complaint.with_hint("`longshore broker plan` shows them, `apply` makes it right"),
            )
        }
        Err(complaint) => Finding::wrong("topology", &complaint),
    }
}
