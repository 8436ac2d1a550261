//! `longshore queue`.

use super::args::{Common, Flags, QueueVerb};
use super::complaint::Complaint;
use super::output::Output;
use super::status::ExitStatus;
use super::{process, verbs};
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
                &["QUEUE", "SCHEDULED", "READY", "RUNNING", "PAUSED"],
                &queues,
                |queue| {
                    vec![
                        queue.name.clone(),
                        queue.scheduled.to_string(),
                        queue.ready.to_string(),
                        queue.running.to_string(),
                        paused(queue),
                    ]
                },
            )?;
            store.close().await;
        }
        QueueVerb::Pause { name, by } => {
            let queue = QueueName::new(&name)?;
            let by = verbs::operator(by.as_deref())?;
            let store = config.store.address()?.open().await?;
            let is_there = store.pause_queue(&queue, &by).await;
            store.close().await;
            is_there_or(is_there?, &queue)?;
            output.say(&format!(
                "the queue `{queue}` is paused: what runs goes on, and within 5 s no other task begins"
            ));
        }
        QueueVerb::Resume { name } => {
            let queue = QueueName::new(&name)?;
            let store = config.store.address()?.open().await?;
            let is_there = store.resume_queue(&queue).await;
            store.close().await;
            is_there_or(is_there?, &queue)?;
            output.say(&format!("the queue `{queue}` goes on, within 5 s"));
        }
    }
    Ok(ExitStatus::Done)
}

/// By whom, and since when.
fn paused(queue: &QueueJson) -> String {
    match (&queue.paused_by, queue.paused_at) {
        (Some(by), Some(at)) => format!("by {by} at {at}"),
        _ => String::new(),
    }
}

fn is_there_or(is_there: bool, queue: &QueueName) -> Result<(), Complaint> {
    if is_there {
        return Ok(());
    }
    Err(Complaint::failed(format!("there is no queue `{queue}`"))
        .with_hint("`longshore queue list` shows those that there are"))
}
