//! `longshore executor`.

use super::args::{Common, ExecutorArgs, ExecutorFlags, ExecutorVerb, Flags};
use super::complaint::Complaint;
use super::output::Output;
use super::process;
use super::shutdown::Shutdown;
use super::status::ExitStatus;
use crate::wire::ExecutorJson;

pub(super) async fn run(
    common: &Common,
    args: ExecutorArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    match args.verb {
        None => serve(common, &args.flags).await,
        Some(ExecutorVerb::Run(flags)) => serve(common, &flags).await,
        Some(ExecutorVerb::List) => list(common, output).await,
    }
}

async fn serve(common: &Common, flags: &ExecutorFlags) -> Result<ExitStatus, Complaint> {
    let mut shutdown = Shutdown::listen()?;
    let config = process::settings(common, flags.flags())?;
    let runtime = process::connect(&config, "executor").await?;
    let registry = process::registry(&config, &runtime);
    let executor = process::start_executor(&config, &runtime, registry).await?;
    process::until_drained(&config, executor, &mut shutdown).await;
    runtime.stop().await;
    Ok(ExitStatus::Done)
}

async fn list(common: &Common, output: Output) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    let store = config.store.address()?.open().await?;
    let executors: Vec<ExecutorJson> = store
        .executors()
        .await?
        .iter()
        .map(ExecutorJson::from)
        .collect();
    output.rows(
        &["ID", "NAME", "STATE", "HOST", "PID", "QUEUES", "STARTED"],
        &executors,
        |executor| {
            let queues: Vec<String> = executor
                .queues
                .iter()
                .map(|(queue, slots)| format!("{queue}={slots}"))
                .collect();
            vec![
                executor.id.clone(),
                executor.name.clone(),
                executor.state.clone(),
                executor.host.clone(),
                executor.pid.to_string(),
                queues.join(","),
                format!("{:.0}", executor.started_at),
            ]
        },
    )?;
    store.close().await;
    Ok(ExitStatus::Done)
}
