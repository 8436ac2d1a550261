//! `longshore queue`.

use super::args::{Common, Flags, QueueVerb};
use super::complaint::Complaint;
use super::output::Output;
use super::process;
use super::status::ExitStatus;
use crate::domain::QueueName;
use crate::wire::QueueJson;

pub(super) async fn run(
    common: &Common,
    verb: QueueVerb,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    match verb {
        QueueVerb::Create { name } => {
            let queue = QueueName::new(&name)?;
            let runtime = process::connect(&config, "operator").await?;
            // The broker first: a queue that is in the store only would take tasks that nobody announces.
            runtime.broker().create_queue(&queue).await?;
            runtime.store().create_queue(&queue).await?;
            output.say(&format!("queue `{queue}` is there"));
            runtime.stop().await;
        }
        QueueVerb::List => {
            let store = config.store.address()?.open().await?;
            let queues: Vec<QueueJson> =
                store.queues().await?.iter().map(QueueJson::from).collect();
            output.rows(
                &["QUEUE", "SCHEDULED", "READY", "RUNNING"],
                &queues,
                |queue| {
                    vec![
                        queue.name.clone(),
                        queue.scheduled.to_string(),
                        queue.ready.to_string(),
                        queue.running.to_string(),
                    ]
                },
            )?;
            store.close().await;
        }
    }
    Ok(ExitStatus::Done)
}
