//! `longshore schedule`.

mod args;

use std::sync::Arc;

pub(super) use args::ScheduleVerb;

use self::args::{CreateArgs, ListArgs};
use super::args::{Common, Flags};
use super::complaint::Complaint;
use super::output::{Format, Output};
use super::process;
use super::session::Session;
use super::status::ExitStatus;
use super::submission::{submission_json, time};
use crate::client::ScheduleClientError;
use crate::config::{self, Config};
use crate::domain::limits::{DURATION_MAX, EVERY_MIN, FIRINGS_KEPT, FIRINGS_WAITING_MAX, PAGE_MAX};
use crate::domain::{FiringState, PayloadLimits, ScheduleName, ScheduleRecord, ScheduleSpec};
use crate::store::{ScheduleList, Store};
use crate::wire::{FiringJson, NewScheduleJson, ScheduleDetailJson, ScheduleJson};

pub(super) async fn run(
    common: &Common,
    verb: ScheduleVerb,
    output: Output,
) -> Result<ExitStatus, Complaint> {
    let config = process::settings(common, Flags::new())?;
    match verb {
        ScheduleVerb::Create(args) => create(&config, *args, output).await?,
        ScheduleVerb::List(args) => list(&config, args, output).await?,
        ScheduleVerb::Show { name, firings } => show(&config, &name, firings, output).await?,
        ScheduleVerb::Pause { name } => {
            let name = ScheduleName::new(&name)?;
            let store = open(&config).await?;
            is_known(&name, store.pause_schedule(&name).await?)?;
            store.close().await;
            output.say(&format!("the schedule `{name}` is paused"));
        }
        ScheduleVerb::Resume { name } => resume(&config, &name, output).await?,
        ScheduleVerb::Trigger { name } => trigger(&config, &name, output).await?,
        ScheduleVerb::Delete { name } => {
            let name = ScheduleName::new(&name)?;
            let store = open(&config).await?;
            is_known(&name, store.delete_schedule(&name).await?)?;
            store.close().await;
            output.say(&format!("the schedule `{name}` is deleted"));
        }
    }
    Ok(ExitStatus::Done)
}

async fn open(config: &Config) -> Result<Arc<dyn Store>, Complaint> {
    Ok(config.store.address()?.open().await?)
}

fn is_known(name: &ScheduleName, is_known: bool) -> Result<(), ScheduleClientError> {
    let unknown = || ScheduleClientError::Unknown(name.clone());
    is_known.then_some(()).ok_or_else(unknown)
}

async fn create(config: &Config, args: CreateArgs, output: Output) -> Result<(), Complaint> {
    let spec = spec(args, config.limits.payload)?;
    let session = Session::open(config).await?;
    let created = session.client.create_schedule(spec).await;
    session.close().await;
    let (record, is_new) = created?;
    let json = ScheduleJson::from(&record);
    match output.format() {
        Format::Json => output.json(&json)?,
        Format::Jsonl => output.jsonl(&json)?,
        Format::Table => {
            let made = if is_new {
                "is made"
            } else {
                "was there already"
            };
            let next = next_words(&record);
            output.say(&format!("the schedule `{}` {made}; {next}", json.name));
        }
    }
    Ok(())
}

fn spec(args: CreateArgs, limits: PayloadLimits) -> Result<ScheduleSpec, Complaint> {
    let every = args.every.as_deref().map(|text| {
        config::duration(text, EVERY_MIN..=DURATION_MAX)
            .map_err(|right| Complaint::usage(format!("`--every`: {right}, from 1s up")))
    });
    let json = NewScheduleJson {
        name: args.name,
        cron: args.cron,
        time_zone: args.time_zone,
        every: every.transpose()?,
        anchor: time("--anchor", args.anchor.as_deref())?,
        at: time("--at", args.at.as_deref())?,
        overlap: args.overlap,
        catch_up: args.catch_up,
        task: submission_json(args.action, args.input.as_deref(), args.flags, limits)?,
    };
    Ok(json.into_domain()?)
}

fn next_words(record: &ScheduleRecord) -> String {
    match record.next_at {
        Some(next) => format!("it fires next at {next:.0}"),
        None => format!("it is {}", record.state()),
    }
}

async fn list(config: &Config, args: ListArgs, output: Output) -> Result<(), Complaint> {
    within("--limit", args.limit, PAGE_MAX)?;
    let list = ScheduleList {
        after: args.cursor,
        limit: args.limit,
    };
    let store = open(config).await?;
    let listed = store.schedules(&list).await?;
    store.close().await;
    let rows: Vec<(ScheduleJson, String)> = listed
        .schedules
        .iter()
        .map(|record| (ScheduleJson::from(record), record.spec.timing.to_string()))
        .collect();
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    match output.format() {
        Format::Json => output.json(&rows.iter().map(|(json, _)| json).collect::<Vec<_>>())?,
        Format::Jsonl => rows.iter().try_for_each(|(json, _)| output.jsonl(json))?,
        Format::Table => output.table(
            &["SCHEDULE", "STATE", "WHEN", "ACTION", "NEXT", "LAST TASK"],
            rows.into_iter().map(|(json, when)| {
                let next = json.next_at.map(|next| format!("{next:.0}"));
                vec![
                    json.name,
                    json.state,
                    when,
                    json.task.action,
                    dash(next),
                    dash(json.last_task),
                ]
            }),
        )?,
    }
    for row in &listed.unreadable {
        output.say(&format!("left out: {row}"));
    }
    if let Some(last) = listed.next(list.limit) {
        output.say(&format!("there may be more: add `--cursor {last}`"));
    }
    Ok(())
}

fn within(flag: &str, found: usize, max: usize) -> Result<(), Complaint> {
    if (1..=max).contains(&found) {
        return Ok(());
    }
    Err(Complaint::usage(format!(
        "`{flag}` is from 1 to {max}, not {found}"
    )))
}

async fn show(
    config: &Config,
    name: &str,
    firings: usize,
    output: Output,
) -> Result<(), Complaint> {
    within("--firings", firings, FIRINGS_KEPT + FIRINGS_WAITING_MAX)?;
    let name = ScheduleName::new(name)?;
    let store = open(config).await?;
    let record = store.schedule(&name).await?;
    let record = record.ok_or_else(|| ScheduleClientError::Unknown(name.clone()))?;
    let firings = store.firings(&name, firings).await?;
    store.close().await;
    let json = ScheduleDetailJson::new(&record, &firings);
    match output.format() {
        Format::Json => output.json(&json)?,
        Format::Jsonl => output.jsonl(&json)?,
        Format::Table => show_table(&record, json, output)?,
    }
    Ok(())
}

fn show_table(
    record: &ScheduleRecord,
    json: ScheduleDetailJson,
    output: Output,
) -> Result<(), Complaint> {
    let (schedule, task) = (json.schedule, record.spec.task.clone());
    let labels = &task.labels;
    let rows = [
        ("name", Some(schedule.name)),
        ("state", Some(schedule.state)),
        ("error", schedule.error),
        ("when", Some(record.spec.timing.to_string())),
        ("overlap", Some(schedule.overlap)),
        ("catch up", Some(schedule.catch_up)),
        ("action", Some(task.action.to_string())),
        ("queue", Some(task.queue.to_string())),
        (
            "labels",
            (!labels.is_empty()).then(|| format!("{labels:?}")),
        ),
        ("input", Some(task.input.as_str().to_owned())),
        ("created", Some(schedule.created_at.to_string())),
        ("created by", Some(schedule.created_by)),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            output.line(&format!("{name:<12}{value}"))?;
        }
    }
    for next in json.upcoming {
        output.line(&format!("{:<12}{next:.0}", "next"))?;
    }
    if json.firings.is_empty() {
        return Ok(());
    }
    output.line("")?;
    output.table(
        &["DUE", "FIRING", "TASK"],
        json.firings.into_iter().map(|firing| {
            let task = firing.task.unwrap_or_else(|| "-".to_owned());
            vec![format!("{:.0}", firing.due_at), firing.state, task]
        }),
    )?;
    Ok(())
}

async fn resume(config: &Config, name: &str, output: Output) -> Result<(), Complaint> {
    let name = ScheduleName::new(name)?;
    let store = open(config).await?;
    is_known(&name, store.resume_schedule(&name).await?)?;
    let record = store.schedule(&name).await?;
    store.close().await;
    let next = record.map_or("it is gone".to_owned(), |record| next_words(&record));
    output.say(&format!("the schedule `{name}` is resumed; {next}"));
    Ok(())
}

async fn trigger(config: &Config, name: &str, output: Output) -> Result<(), Complaint> {
    let name = ScheduleName::new(name)?;
    let session = Session::open(config).await?;
    let triggered = session.client.trigger_schedule(&name).await;
    session.close().await;
    let triggered = triggered?;
    if let Some(sentence) = triggered.skipped_because(&name) {
        return Err(Complaint::failed(sentence)
            .with_hint("wait for it, or type `longshore task cancel` with its id"));
    }
    let json = FiringJson::from(&triggered.firing);
    match output.format() {
        Format::Json => output.json(&json)?,
        Format::Jsonl => output.jsonl(&json)?,
        Format::Table => match (triggered.firing.state, json.task) {
            (FiringState::Fired, Some(task)) => output.line(&task)?,
            (FiringState::Fired | FiringState::Waiting | FiringState::Skipped, _) => {
                output.say("it fires when the previous task has ended");
            }
        },
    }
    Ok(())
}
