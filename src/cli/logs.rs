//! `longshore task logs`.

use std::sync::Arc;

use super::args::LogsArgs;
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::status::ExitStatus;
use crate::client::{ClientError, Followed, LogFollower};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::domain::{LogChunk, LogPosition, TaskId};
use crate::store::Store;
use crate::wire::LogChunkJson;

/// Log chunks that are read at once.
const LOG_PAGE: usize = 500;

/// Writes what a task has logged; with `--follow` also what it logs until it ends.
pub(super) async fn run(
    config: &Config,
    args: LogsArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let id: TaskId = args.id.parse()?;
    let after: Option<LogPosition> = args.since.as_deref().map(str::parse).transpose()?;
    let store = config.store.address()?.open().await?;
    let written = if args.follow {
        let clock = SystemClock::shared();
        follow(
            LogFollower::new(Arc::clone(&store), clock, id, after),
            output,
        )
        .await
    } else {
        read(&*store, id, after, output).await
    };
    store.close().await;
    written?;
    Ok(ExitStatus::Done)
}

async fn follow(mut follower: LogFollower, output: Output) -> Result<(), Complaint> {
    loop {
        match follower.next().await? {
            Followed::Chunks(chunks) => write(output, &chunks)?,
            Followed::Ended(task) => {
                output.say(&format!("the task is {}", task.state));
                return Ok(());
            }
        }
    }
}

async fn read(
    store: &dyn Store,
    id: TaskId,
    mut after: Option<LogPosition>,
    output: Output,
) -> Result<(), Complaint> {
    let mut is_first = true;
    loop {
        let chunks = store.logs(id, after, LOG_PAGE).await?;
        if chunks.is_empty() && is_first && store.task(id).await?.is_none() {
            return Err(ClientError::Unknown(id).into());
        }
        is_first = false;
        write(output, &chunks)?;
        after = chunks.last().map(LogChunk::end).or(after);
        if chunks.len() < LOG_PAGE {
            return Ok(());
        }
    }
}

fn write(output: Output, chunks: &[LogChunk]) -> std::io::Result<()> {
    for chunk in chunks {
        match output.format() {
            Format::Table => output.text(&chunk.text)?,
            Format::Json | Format::Jsonl => output.jsonl(&LogChunkJson::from(chunk))?,
        }
    }
    Ok(())
}
