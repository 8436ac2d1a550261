//! `longshore tap`.

use serde_json::json;

use super::args::{Common, Flags, TapArgs};
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::process;
use super::shutdown::Shutdown;
use super::status::ExitStatus;
use crate::broker::Since;
use crate::runtime::Runtime;
use crate::store::StoreAddress;
use crate::tap::{Filter, Seen, Tap};

pub(super) async fn run(
    common: &Common,
    args: TapArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let mut shutdown = Shutdown::listen()?;
    let since = since(&args.since)?;
    let config = process::settings(common, Flags::new())?;
    // A tap needs no store, and has no right to one.
    let no_store: StoreAddress = "sqlite::memory:".parse()?;
    let runtime = Runtime::connect(&no_store, config.broker.address()?, "tap").await?;
    runtime.check_broker()?;
    let mut tap = Tap::open(runtime.broker(), Filter::new(args.filter), since).await?;
    let mut seen = 0;
    while args.count.is_none_or(|count| seen < count) {
        let next = tokio::select! {
            next = tap.next() => next,
            () = shutdown.asked() => None,
        };
        let Some(next) = next else { break };
        seen += u64::from(matches!(next, Seen::Event { .. }));
        if let Err(error) = show(output, &next) {
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                break; // Whoever read has seen enough.
            }
            return Err(error.into());
        }
    }
    drop(tap);
    runtime.stop().await;
    Ok(ExitStatus::Done)
}

fn show(output: Output, seen: &Seen) -> std::io::Result<()> {
    match (output.format(), seen) {
        (Format::Table, Seen::Event { event, .. }) => {
            let action = event.data.action.as_deref().unwrap_or("-");
            let queue = event.data.queue.as_deref().unwrap_or("-");
            let attempt = event.data.attempt.unwrap_or(0);
            let (time, kind, task) = (event.time, event.kind, event.task);
            output.line(&format!(
                "{time:.3}  {kind:<10}  {task}  {queue:<12}  {action:<20}  attempt {attempt}"
            ))
        }
        (Format::Table, Seen::Gap { missed }) => {
            output.line(&format!("-- {missed} messages are no longer kept --"))
        }
        (
            Format::Json | Format::Jsonl,
            Seen::Event {
                event,
                exchange,
                offset,
                ..
            },
        ) => {
            let mut line = json!(event.to_envelope());
            line["exchange"] = json!(exchange);
            line["offset"] = json!(offset);
            output.jsonl(&line)
        }
        (Format::Json | Format::Jsonl, Seen::Gap { missed }) => {
            output.jsonl(&json!({"gap": {"missed": missed}}))
        }
    }
}

fn since(text: &str) -> Result<Since, Complaint> {
    match text {
        "next" => Ok(Since::Next),
        "first" => Ok(Since::First),
        offset => offset.parse().map(Since::Offset).map_err(|_| {
            Complaint::usage(format!(
                "`--since` is `next`, `first` or an offset, not `{offset}`"
            ))
        }),
    }
}
