//! `longshore broker`.

use std::collections::BTreeMap;

use super::args::{BrokerVerb, Common, Flags};
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::process;
use super::status::ExitStatus;
use crate::broker::BrokerAddress;
use crate::broker::management::{Change, Management, ManagementError, Users};
use crate::broker::topology::{self, Topology, VHOST};
use crate::config::Config;
use crate::domain::QueueName;

pub(super) async fn run(
    common: &Common,
    verb: BrokerVerb,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    if matches!(verb, BrokerVerb::Definitions) {
        let topology = topology::topology(&[QueueName::default_queue()]);
        output.json(&topology::definitions(&topology, VHOST))?;
        return Ok(ExitStatus::Done);
    }
    let config = process::settings(common, Flags::new())?;
    let (management, topology) = (management(&config)?, wanted(&config).await?);
    match verb {
        BrokerVerb::Plan => {
            let changes = management.plan(&topology, Users::Permitted).await?;
            show(output, &changes)?;
            output.say(&match changes.len() {
                0 => "the broker is as it should be".to_owned(),
                count => {
                    format!("{count} differences; `longshore broker apply` makes what is missing")
                }
            });
            Ok(ExitStatus::Done)
        }
        BrokerVerb::Apply => {
            let changes = management.apply(&topology, Users::Permitted).await?;
            show(output, &changes)?;
            output.say(&format!("{} changes made", changes.len()));
            Ok(ExitStatus::Done)
        }
        BrokerVerb::Check => {
            let check = management.check(&topology, Users::Permitted).await?;
            show(output, &check.changes)?;
            check
                .troubles
                .iter()
                .for_each(|trouble| output.say(&format!("trouble: {trouble}")));
            let is_good = check.is_good();
            let verdict = if is_good {
                "is as it should be"
            } else {
                "is not as it should be"
            };
            output.say(&format!("RabbitMQ {} {verdict}", check.version));
            Ok(if is_good {
                ExitStatus::Done
            } else {
                ExitStatus::Failed
            })
        }
        BrokerVerb::Definitions => Ok(ExitStatus::Done),
    }
}

/// How the broker differs from what it should be.
pub(super) async fn differences(config: &Config) -> Result<Vec<Change>, Complaint> {
    Ok(management(config)?
        .plan(&wanted(config).await?, Users::Permitted)
        .await?)
}

/// The version of the broker.
pub(super) async fn version(config: &Config) -> Result<String, Complaint> {
    Ok(management(config)?.version().await?)
}

/// How many messages the work queue of each of `queues` holds; `None` when there is no management interface to ask.
pub(super) async fn work(
    config: &Config,
    queues: impl IntoIterator<Item = &QueueName>,
) -> Result<Option<BTreeMap<QueueName, u64>>, Complaint> {
    let has_queues = matches!(config.broker.url, Some(BrokerAddress::Amqp(_)) | None);
    if config.broker.management_url.is_none() || !has_queues {
        return Ok(None);
    }
    let messages = management(config)?.messages().await?;
    let held = queues.into_iter().map(|queue| {
        let held = messages.get(&topology::work_queue(queue));
        (queue.clone(), held.copied().unwrap_or(0))
    });
    Ok(Some(held.collect()))
}

fn show(output: Output, changes: &[Change]) -> Result<(), Complaint> {
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    match output.format() {
        Format::Table => lines.iter().try_for_each(|line| output.line(line))?,
        Format::Json => output.json(&lines)?,
        Format::Jsonl => lines.iter().try_for_each(|line| output.jsonl(line))?,
    }
    Ok(())
}

/// The management interface that the settings name, for the virtual host of the broker's address.
pub(super) fn management(config: &Config) -> Result<Management, Complaint> {
    let url = config.broker.management_url.as_ref().ok_or_else(|| {
        Complaint::usage("`broker.management_url` is not set").with_hint(
            "set `LONGSHORE_BROKER_MANAGEMENT_URL`, for example `http://admin:PASSWORD@localhost:15672`, and enable \
             the plugin: `rabbitmq-plugins enable rabbitmq_management`",
        )
    })?;
    Ok(Management::new(url.expose(), &vhost(config)?)?)
}

/// The virtual host that programs use: the path of the broker's address; `longshore` when that is not set.
fn vhost(config: &Config) -> Result<String, Complaint> {
    match &config.broker.url {
        Some(BrokerAddress::Amqp(url)) => {
            let rest = url.split_once("://").map_or("", |(_, rest)| rest);
            let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let path = rest
                .split_once('/')
                .map(|(_, path)| path.split('?').next().unwrap_or_default());
            // No path at all is the virtual host `/`; an empty one is the empty name, which no broker has.
            let path = path.map_or_else(
                || "/".to_owned(),
                |path| path.replace("%2f", "/").replace("%2F", "/"),
            );
            if path.is_empty() {
                return Err(
                    Complaint::usage("the address of the broker names no virtual host").with_hint(
                        "end it with `/longshore`, or with `/%2f` for the virtual host `/`",
                    ),
                );
            }
            Ok(path)
        }
        Some(other @ (BrokerAddress::Embedded | BrokerAddress::None)) => Err(Complaint::usage(
            format!("the broker is `{other}`: there is nothing to prepare"),
        )),
        None => Ok(VHOST.to_owned()),
    }
}

/// What the broker should be: with a work queue for each queue of the store, when that can be asked.
async fn wanted(config: &Config) -> Result<Topology, Complaint> {
    let Some(address) = &config.store.url else {
        return Ok(topology::topology(&[QueueName::default_queue()]));
    };
    let store = address.open().await?;
    let queues = store.queues().await;
    store.close().await;
    let queues: Vec<QueueName> = queues?.into_iter().map(|queue| queue.name).collect();
    Ok(topology::topology(&queues))
}

impl From<ManagementError> for Complaint {
    fn from(error: ManagementError) -> Self {
        let hint = match &error {
            ManagementError::Login { user } => Some(format!(
                "check user and password in `LONGSHORE_BROKER_MANAGEMENT_URL`; `rabbitmqctl set_user_tags {user} \
                 administrator` gives the right"
            )),
            ManagementError::Address { .. }
            | ManagementError::Unreachable { .. }
            | ManagementError::Denied { .. }
            | ManagementError::Conflict { .. }
            | ManagementError::Answer { .. } => None,
        };
        let complaint = Self::failed(error.to_string());
        match hint {
            Some(hint) => complaint.with_hint(hint),
            None => complaint,
        }
    }
}
