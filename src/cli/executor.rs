//! `longshore executor`.

use std::sync::Arc;

use super::args::{Common, ExecutorArgs, ExecutorFlags, ExecutorVerb, Flags};
use super::complaint::Complaint;
use super::output::Output;
use super::process;
use super::shutdown::Shutdown;
use super::status::ExitStatus;
use crate::broker::Speaker;
use crate::domain::{ExecutorId, ExecutorState, WebId};
use crate::runtime::Runtime;
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
        Some(ExecutorVerb::Drain { id }) => drain(common, id.parse()?, output).await,
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

async fn drain(
    common: &Common,
    executor: ExecutorId,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    let runtime = process::connect(&config, "operator").await?;
    let asked = ask_to_drain(&runtime, executor).await;
    runtime.stop().await;
    asked?;
    output.say(&format!("executor `{executor}` is asked to drain"));
    Ok(ExitStatus::Done)
}

async fn ask_to_drain(runtime: &Runtime, executor: ExecutorId) -> Result<(), Complaint> {
    if !runtime.broker().promises().announces {
        return Err(
            Complaint::failed("without a broker no executor can be asked")
                .with_hint("send SIGTERM to its process"),
        );
    }
    let executors = runtime.store().executors().await?;
    match executors.iter().find(|one| one.id == executor) {
        Some(one) if one.state == ExecutorState::Live => {}
        Some(_) => {
            return Err(Complaint::failed(format!(
                "the executor is lost already: `{executor}`"
            )));
        }
        None => {
            return Err(
                Complaint::failed(format!("there is no executor `{executor}`"))
                    .with_hint("`longshore executor list` tells those that there are"),
            );
        }
    }
    let clock = runtime.clock();
    let id = WebId::new(clock.now(), clock.random());
    let speaker = Speaker::web(id, Arc::clone(clock));
    let answers = runtime
        .broker()
        .publish(vec![speaker.drain(executor)])
        .await;
    for answer in answers {
        answer?;
    }
    Ok(())
}
