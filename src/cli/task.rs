//! `longshore task`.

use std::time::Duration;

use super::args::{Common, Flags, ListArgs, SubmitArgs, TaskVerb};
use super::complaint::Complaint;
use super::condition::Condition;
use super::logs;
use super::output::{self, Format, Output};
use super::process;
use super::session::Session;
use super::status::ExitStatus;
use super::submission::{payload, seconds, submission_json, time};
use super::verbs::{self, Act};
use crate::client::{Client, ClientError, Waited};
use crate::config::Config;
use crate::domain::limits::{PAGE_MAX, SIGNALS_MAX};
use crate::domain::{
    IdError, NewSignal, Payload, PayloadLimits, Progress, SignalName, Submission, Task, TaskId,
    TaskState,
};
use crate::store::{List, Listed, Signalled};
use crate::wire::{SubmissionJson, TaskJson, WhyJson};

/// How long a wait without a limit lasts: one look follows the other.
const FOR_EVER: Duration = Duration::from_hours(24 * 365);

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
        TaskVerb::Cancel { which, reason } => {
            verbs::run(&config, which, Act::Cancel(reason), output).await
        }
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
        TaskVerb::Resume { which } => verbs::run(&config, which, Act::Resume, output).await,
        TaskVerb::Skip { which, returns } => {
            let step = returns.map(|text| payload(&text, config.limits.payload));
            let act = Act::Skip(step.transpose()?.unwrap_or_else(Payload::null));
            verbs::run(&config, which, act, output).await
        }
        TaskVerb::Retry { which } => verbs::run(&config, which, Act::Retry, output).await,
        TaskVerb::Abandon { which, reason } => {
            verbs::run(&config, which, Act::Abandon(reason), output).await
        }
        TaskVerb::Show { id } => show(&config, id.parse()?, output).await,
        TaskVerb::List(args) => list(&config, args, output).await,
        TaskVerb::Why { id } => why(&config, id.parse()?, output).await,
        TaskVerb::Tree { id } => tree(&config, id.parse()?, output).await,
        TaskVerb::Logs(args) => logs::run(&config, args, output).await,
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
    let json = submission_json(args.action, args.input.as_deref(), args.flags, limits)?;
    let json = SubmissionJson {
        id: args.id,
        idempotency_key: args.idempotency_key,
        run_at: time("--run-at", args.run_at.as_deref())?,
        deadline: time("--deadline", args.deadline.as_deref())?,
        parent: args.parent,
        outlives_parent: args.outlives_parent,
        ..json
    };
    Ok(json.into_domain(limits)?)
}

fn wait_limit(limit: Option<f64>) -> Result<Duration, Complaint> {
    Ok(limit
        .map(seconds)
        .transpose()?
        .unwrap_or(FOR_EVER)
        .min(FOR_EVER))
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

async fn show(config: &Config, id: TaskId, output: Output) -> Result<ExitStatus, Complaint> {
    let store = config.store.address()?.open().await?;
    let task = store.task(id).await?;
    let history = store.history(id).await?;
    store.close().await;
    let task = task.ok_or(ClientError::Unknown(id))?;
    show_task(output, &task)?;
    if output.format() == Format::Table && !history.is_empty() {
        output.line("\nHISTORY")?;
        for entry in &history {
            output.line(&entry.sentence())?;
        }
    }
    Ok(ExitStatus::Done)
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
    let store = config.store.address()?.open().await?;
    let list = match &args.condition {
        Some(condition) => condition.parse::<Condition>()?.list(&*store).await?,
        None => asked(&args)?,
    };
    let list = List {
        before: args.cursor.as_deref().map(str::parse).transpose()?,
        limit: args.limit,
        ..list
    };
    let listed = store.list(&list).await?;
    store.close().await;
    show_tasks(output, &listed.tasks)?;
    say_unreadable(output, &listed);
    if let Some(last) = listed.next(list.limit) {
        output.say(&format!("there may be more: add `--cursor {last}`"));
    }
    Ok(ExitStatus::Done)
}

/// What the flags ask for.
fn asked(args: &ListArgs) -> Result<List, Complaint> {
    let label = |label: &String| {
        let pair = label
            .split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| Complaint::usage(format!("`--label` is NAME=VALUE, not `{label}`")))
    };
    let states = args.state.iter().map(|state| state.parse());
    Ok(List {
        states: states.collect::<Result<_, _>>()?,
        queue: args.queue.as_deref().map(str::parse).transpose()?,
        action: args.action.as_deref().map(str::parse).transpose()?,
        labels: args.label.iter().map(label).collect::<Result<_, _>>()?,
        parent: args.parent.as_deref().map(str::parse).transpose()?,
        ..List::default()
    })
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
        return Err(ClientError::Unknown(id).into());
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
                ("progress", task.progress.as_ref().map(Progress::sentence)),
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
