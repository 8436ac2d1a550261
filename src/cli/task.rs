//! `longshore task`.

use std::io::Read;
use std::time::Duration;

use super::args::{Common, Flags, ListArgs, SubmitArgs, TaskVerb};
use super::complaint::Complaint;
use super::output::{self, Format, Output};
use super::process;
use super::status::ExitStatus;
use crate::client::{Client, Waited};
use crate::config::Config;
use crate::domain::limits::{PAGE_MAX, SIGNALS_MAX};
use crate::domain::{
    IdError, LogChunk, LogPosition, NewSignal, Payload, PayloadLimits, SignalName, Submission,
    Task, TaskId, TaskState,
};
use crate::runtime::Runtime;
use crate::store::{Cancelled, List, Listed, Signalled};
use crate::wire::{LogChunkJson, RetryJson, SubmissionJson, TaskJson, WhyJson};

/// How long a wait without a limit lasts: one look follows the other.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

/// Log chunks that are read at once.
const LOG_PAGE: usize = 500;

/// What a verb needs: a connection to the store, and to the broker where something is said or awaited.
struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    async fn open(config: &Config) -> Result<Self, Complaint> {
        let runtime = process::connect(config, "web").await?;
        let client = runtime.client(process::client_settings(config)).await?;
        Ok(Self { runtime, client })
    }

    async fn close(self) {
        let Self { runtime, client } = self;
        drop(client); // Its last words are said before the runtime stops.
        runtime.stop().await;
    }
}

pub(super) async fn run(
    common: &Common,
    verb: TaskVerb,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    match verb {
        TaskVerb::Submit(args) => submit(&config, args, output).await,
        TaskVerb::Wait { id, timeout } => {
            let session = Session::open(&config).await?;
            let waited = session.client.wait(id.parse()?, wait_limit(timeout)?).await;
            session.close().await;
            show_end(output, &waited?)
        }
        TaskVerb::Cancel { id, reason } => cancel(&config, id.parse()?, &reason, output).await,
        TaskVerb::Signal {
            id,
            name,
            payload: said,
            key,
        } => {
            let said = said.as_deref();
            let signal = NewSignal {
                task: id.parse()?,
                name: SignalName::new(&name)
                    .map_err(|error| Complaint::usage(error.to_string()))?,
                key: key
                    .map(|key| key.parse())
                    .transpose()
                    .map_err(|error: IdError| Complaint::usage(error.to_string()))?,
                payload: said
                    .map(|said| payload(said, config.limits.payload))
                    .transpose()?
                    .unwrap_or_else(Payload::null),
            };
            send(&config, signal, output).await
        }
        TaskVerb::Show { id } => {
            let task = read(&config, id.parse()?).await?;
            show_task(output, &task)?;
            Ok(ExitStatus::Done)
        }
        TaskVerb::List(args) => list(&config, args, output).await,
        TaskVerb::Why { id } => why(&config, id.parse()?, output).await,
        TaskVerb::Tree { id } => tree(&config, id.parse()?, output).await,
        TaskVerb::Logs { id } => logs(&config, id.parse()?, output).await,
    }
}

pub(super) async fn submit(
    config: &Config,
    args: SubmitArgs,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let wait = args.wait;
    let submission = submission(args, config.limits.payload)?;
    let session = Session::open(config).await?;
    let ended = match wait {
        None => session
            .client
            .submit(submission)
            .await
            .map(|receipt| (receipt.task.id, None)),
        Some(seconds) => {
            let waited = session
                .client
                .submit_and_wait(submission, wait_limit(seconds)?)
                .await;
            waited.map(|waited| (task_of(&waited).id, Some(waited)))
        }
    };
    let ended = match ended {
        Ok((id, None)) => read_with(&session.client, id)
            .await
            .map(|task| (task, None)),
        Ok((_, Some(waited))) => Ok((task_of(&waited).clone(), Some(waited))),
        Err(error) => Err(error.into()),
    };
    session.close().await;
    match ended? {
        (_, Some(waited)) => show_end(output, &waited),
        (task, None) if output.format() == Format::Table => {
            output.line(&task.id.to_string())?;
            Ok(ExitStatus::Done)
        }
        (task, None) => {
            show_task(output, &task)?;
            Ok(ExitStatus::Done)
        }
    }
}

fn submission(args: SubmitArgs, limits: PayloadLimits) -> Result<Submission, Complaint> {
    let mut labels = crate::domain::Labels::new();
    for label in &args.labels {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| Complaint::usage(format!("`--label` is NAME=VALUE, not `{label}`")))?;
        labels.insert(name.to_owned(), value.to_owned());
    }
    let time = |flag: &str, text: Option<&str>| {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                Complaint::usage(format!(
                    "`{flag}` is a time such as `2026-12-24T18:00:00Z`, not `{text}`"
                ))
            })
        };
        text.map(parse).transpose()
    };
    let json = SubmissionJson {
        action: args.action,
        input: args
            .input
            .as_deref()
            .map(|input| payload(input, limits))
            .transpose()?,
        id: args.id,
        idempotency_key: args.idempotency_key,
        queue: args.queue,
        priority: args.priority,
        labels,
        run_at: time("--run-at", args.run_at.as_deref())?,
        deadline: time("--deadline", args.deadline.as_deref())?,
        timeout: args.timeout.map(seconds).transpose()?,
        retry: args.retry.map(|attempts| RetryJson {
            attempts,
            delay: None,
            delay_max: None,
        }),
        on_failure: args.on_failure,
        delivery: args.delivery,
        parent: args.parent,
        ..SubmissionJson::default()
    };
    Ok(json.into_domain(limits)?)
}

fn payload(input: &str, limits: PayloadLimits) -> Result<Payload, Complaint> {
    let text = match input.strip_prefix('@') {
        _ if input == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Complaint::usage(format!("the input cannot be read from `{path}`: {error}"))
        })?,
        None => input.to_owned(),
    };
    Payload::parse(&text, limits).map_err(|error| {
        let cause = std::error::Error::source(&error)
            .map(|cause| format!(" ({cause})"))
            .unwrap_or_default();
        Complaint::usage(format!("{error}{cause}"))
            .with_hint("a text is JSON in quotes: '\"hello\"'")
    })
}

fn seconds(seconds: f64) -> Result<Duration, Complaint> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| Complaint::usage(format!("`{seconds}` is not a number of seconds from 0 up")))
}

fn wait_limit(limit: Option<f64>) -> Result<Duration, Complaint> {
    Ok(limit
        .map(seconds)
        .transpose()?
        .unwrap_or(FOR_EVER)
        .min(FOR_EVER))
}

async fn cancel(
    config: &Config,
    id: TaskId,
    reason: &str,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let session = Session::open(config).await?;
    let answer = session.client.cancel(id, reason).await;
    session.close().await;
    match answer? {
        Cancelled::Unknown => Err(Complaint::failed(format!("there is no task `{id}`"))),
        Cancelled::Final(TaskState::Cancelled) => {
            output.say("it was cancelled before");
            Ok(ExitStatus::Done)
        }
        Cancelled::Final(state) => Err(Complaint::failed(format!(
            "the task is final already: {state}"
        ))),
        Cancelled::Accepted {
            cancelled, running, ..
        } => {
            let (ended, stopping) = (cancelled.len(), running.len());
            output.say(&format!(
                "cancelled {ended}, asked {stopping} that run to stop"
            ));
            Ok(ExitStatus::Done)
        }
    }
}

async fn send(config: &Config, signal: NewSignal, output: Output) -> Result<ExitStatus, Complaint> {
    let (task, name) = (signal.task, signal.name.clone());
    let session = Session::open(config).await?;
    let answer = session.client.signal(signal).await;
    session.close().await;
    let said = match answer? {
        Signalled::Stored { woken: Some(_), .. } => format!("`{name}` wakes the task"),
        Signalled::Stored { woken: None, .. } => {
            format!("`{name}` is stored until the task takes it")
        }
        Signalled::Known => "it was sent before, by the same key".to_owned(),
        Signalled::Unknown => {
            return Err(Complaint::failed(format!("there is no task `{task}`")));
        }
        Signalled::Final(state) => {
            return Err(Complaint::failed(format!(
                "the task is final already: {state}"
            )));
        }
        Signalled::Full => {
            return Err(Complaint::failed(format!(
                "{SIGNALS_MAX} signals wait for the task already"
            )));
        }
    };
    output.say(&said);
    Ok(ExitStatus::Done)
}

async fn why(config: &Config, id: TaskId, output: Output) -> Result<ExitStatus, Complaint> {
    let session = Session::open(config).await?;
    let answer = session.client.why(id).await;
    session.close().await;
    let (task, why) = answer?;
    let json = WhyJson::new(&task, why);
    match output.format() {
        Format::Json => output.json(&json)?,
        Format::Jsonl => output.jsonl(&json)?,
        Format::Table => {
            output.line(&format!("{}: {}", json.state, json.verdict))?;
            for line in &json.evidence {
                output.line(&format!("  {line}"))?;
            }
        }
    }
    Ok(ExitStatus::Done)
}

async fn read(config: &Config, id: TaskId) -> Result<Task, Complaint> {
    let store = config.store.address()?.open().await?;
    let task = store.task(id).await?;
    store.close().await;
    task.ok_or_else(|| crate::client::ClientError::Unknown(id).into())
}

async fn read_with(client: &Client, id: TaskId) -> Result<Task, Complaint> {
    Ok(client.task(id).await?)
}

async fn list(config: &Config, args: ListArgs, output: Output) -> Result<ExitStatus, Complaint> {
    if args.limit == 0 || args.limit > PAGE_MAX {
        return Err(Complaint::usage(format!(
            "`--limit` is from 1 to {PAGE_MAX}, not {}",
            args.limit
        )));
    }
    let label = args.label.as_deref().map(|label| {
        let pair = label
            .split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Complaint::usage(format!("`--label` is NAME=VALUE, not `{label}`")))
    });
    let list = List {
        states: args
            .state
            .iter()
            .map(|state| state.parse())
            .collect::<Result<_, _>>()?,
        queue: args.queue.as_deref().map(str::parse).transpose()?,
        action: args.action.as_deref().map(str::parse).transpose()?,
        label: label.transpose()?,
        parent: args.parent.as_deref().map(str::parse).transpose()?,
        before: args.cursor.as_deref().map(str::parse).transpose()?,
        limit: args.limit,
    };
    let store = config.store.address()?.open().await?;
    let listed = store.list(&list).await?;
    store.close().await;
    show_tasks(output, &listed.tasks)?;
    say_unreadable(output, &listed);
    if let Some(last) = listed.next(list.limit) {
        output.say(&format!("there may be more: add `--cursor {last}`"));
    }
    Ok(ExitStatus::Done)
}

/// Names the rows that could not be shown.
fn say_unreadable(output: Output, listed: &Listed) {
    for row in &listed.unreadable {
        output.say(&format!("left out: {row}"));
    }
}

async fn tree(config: &Config, id: TaskId, output: Output) -> Result<ExitStatus, Complaint> {
    let store = config.store.address()?.open().await?;
    let listed = store.tree(id).await?;
    store.close().await;
    if listed.is_empty() {
        return Err(crate::client::ClientError::Unknown(id).into());
    }
    say_unreadable(output, &listed);
    let tasks = listed.tasks;
    // Without its root it is no tree, and below a row that was left out it has a gap: then a table shows more.
    let is_whole = listed.unreadable.is_empty();
    if output.format() != Format::Table || !is_whole {
        show_tasks(output, &tasks)?;
        return Ok(ExitStatus::Done);
    }
    let mut children: std::collections::HashMap<Option<TaskId>, Vec<&Task>> =
        std::collections::HashMap::new();
    for task in tasks.iter().skip(1) {
        children.entry(task.parent).or_default().push(task);
    }
    output.text(&drawn(&tasks[0], &children))?;
    Ok(ExitStatus::Done)
}

/// The tree as text. Not recursive: a tree may be as deep as it has tasks.
fn drawn(root: &Task, children: &std::collections::HashMap<Option<TaskId>, Vec<&Task>>) -> String {
    let line = |task: &Task| format!("{} {} {}\n", task.id, task.action, task.state);
    let mut text = line(root);
    let below = |task: &Task, indent: &str| -> Vec<(String, bool, &Task)> {
        let below = children.get(&Some(task.id)).map_or(&[][..], Vec::as_slice);
        let last = below.len();
        below
            .iter()
            .enumerate()
            .map(|(n, task)| (indent.to_owned(), n + 1 == last, *task))
            .rev()
            .collect()
    };
    let mut open = below(root, "");
    while let Some((indent, is_last, task)) = open.pop() {
        let (branch, rest) = if is_last {
            ("└── ", "    ")
        } else {
            ("├── ", "│   ")
        };
        text.push_str(&indent);
        text.push_str(branch);
        text.push_str(&line(task));
        open.extend(below(task, &format!("{indent}{rest}")));
    }
    text
}

async fn logs(config: &Config, id: TaskId, output: Output) -> Result<ExitStatus, Complaint> {
    let store = config.store.address()?.open().await?;
    let mut after: Option<LogPosition> = None;
    loop {
        let chunks = store.logs(id, after, LOG_PAGE).await?;
        if chunks.is_empty() && after.is_none() && store.task(id).await?.is_none() {
            return Err(crate::client::ClientError::Unknown(id).into());
        }
        for chunk in &chunks {
            match output.format() {
                Format::Table => output.text(&chunk.text)?,
                Format::Json | Format::Jsonl => output.jsonl(&LogChunkJson::from(chunk))?,
            }
        }
        after = chunks.last().map(LogChunk::end).or(after);
        if chunks.len() < LOG_PAGE {
            store.close().await;
            return Ok(ExitStatus::Done);
        }
    }
}

fn task_of(waited: &Waited) -> &Task {
    match waited {
        Waited::Ended(task) | Waited::StillOpen(task) => task,
    }
}

/// Shows what a wait ended with, and says it again by the exit status.
fn show_end(output: Output, waited: &Waited) -> Result<ExitStatus, Complaint> {
    let task = task_of(waited);
    match show_task(output, task) {
        // How the task ended is told by the status, also to those who read no further.
        Err(complaint) if complaint.is_reader_gone() => {}
        shown => shown?,
    }
    Ok(match (waited, task.state) {
        (Waited::StillOpen(_), _) => {
            output.say(&format!("the wait timed out; the task is {}", task.state));
            ExitStatus::TimedOut
        }
        (Waited::Ended(_), TaskState::Succeeded) => ExitStatus::Done,
        (Waited::Ended(_), TaskState::Cancelled) => ExitStatus::TaskCancelled,
        (Waited::Ended(_), _) => ExitStatus::TaskFailed,
    })
}

fn show_task(output: Output, task: &Task) -> Result<(), Complaint> {
    let json = TaskJson::from(task);
    match output.format() {
        Format::Json => output.json(&json)?,
        Format::Jsonl => output.jsonl(&json)?,
        Format::Table => {
            let rows = [
                ("id", Some(json.id)),
                ("key", json.idempotency_key),
                ("action", Some(json.action)),
                ("queue", Some(json.queue)),
                ("state", Some(json.state)),
                ("attempt", Some(json.attempt.to_string())),
                ("executor", json.executor),
                ("parent", json.parent),
                (
                    "labels",
                    (!json.labels.is_empty()).then(|| format!("{:?}", json.labels)),
                ),
                ("waiting for", json.waiting_for),
                ("created", Some(json.created_at.to_string())),
                ("run at", json.run_at.map(|at| at.to_string())),
                ("started", json.started_at.map(|at| at.to_string())),
                ("finished", json.finished_at.map(|at| at.to_string())),
                ("input", Some(json.input.as_str().to_owned())),
                (
                    "output",
                    json.output.map(|output| output.as_str().to_owned()),
                ),
                ("error", json.error.map(|error| error.message)),
            ];
            for (name, value) in rows {
                if let Some(value) = value {
                    output.line(&format!("{name:<12}{value}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Shows tasks, one a row.
pub(super) fn show_tasks(output: Output, tasks: &[Task]) -> Result<(), Complaint> {
    let json: Vec<TaskJson> = tasks.iter().map(TaskJson::from).collect();
    output.rows(
        &[
            "TASK", "ACTION", "QUEUE", "STATE", "ATTEMPT", "CREATED", "RAN", "ERROR",
        ],
        &json,
        |task| {
            let ran = task
                .started_at
                .zip(task.finished_at)
                .and_then(|(started, finished)| {
                    Duration::try_from(finished.duration_since(started))
                        .ok()
                        .map(output::duration)
                });
            vec![
                task.id.clone(),
                task.action.clone(),
                task.queue.clone(),
                task.state.clone(),
                task.attempt.to_string(),
                format!("{:.0}", task.created_at),
                ran.unwrap_or_else(|| "-".to_owned()),
                task.error
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |error| first_line(&error.message)),
            ]
        },
    )?;
    Ok(())
}

/// The first line of a message, cut to what fits into a table.
pub(super) fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    if line.chars().count() <= 60 {
        line.to_owned()
    } else {
        line.chars().take(59).chain(['…']).collect()
    }
}
