//! `longshore demo`: everything at work in seconds, embedded.
//!
//! Real work: the files of this folder are hashed by the program `sha256sum`, one task a file, all of them sub-tasks
//! of one; beside it a task that fails and one that is cancelled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::{Common, Flags};
use super::complaint::Complaint;
use super::output::{self, Output};
use super::process;
use super::status::ExitStatus;
use super::task::first_line;
use crate::action::Context;
use crate::action::builtin::{self, Allowed, HttpRights};
use crate::client::{Client, ClientSettings};
use crate::config::env;
use crate::domain::{
    ActionName, Failure, FailurePolicy, FanOutPlan, Payload, Submission, Task, TaskId, TaskState,
};
use crate::runtime::Runtime;

/// Tasks that run at once.
const SLOTS: u16 = 8;

/// Files that are hashed at most, so that the demo ends in seconds in any folder.
const FILES_MAX: usize = 200;

/// Files that are shown by name.
const SHOWN_MAX: usize = 5;

/// How long is waited before it is looked again.
const GLANCE: Duration = Duration::from_millis(50);

/// How long anything of the demo may take before it is called broken.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn run(common: &Common, output: Output) -> Result<ExitStatus, Complaint> {
    let flags = Flags::from([("log.filter", "warn".to_owned())]);
    process::settings(common, flags)?;
    let runtime = Runtime::in_memory().await?;
    let allowed = Allowed::new(["sha256sum".to_owned()], env::variables());
    let clock = std::sync::Arc::clone(runtime.clock());
    let registry = builtin::registry(clock, allowed, HttpRights::default())
        .with_fn("demo.hash_folder", hash_folder);
    let executor = runtime.executor_with_slots(registry, SLOTS).await?;
    let client = runtime
        .client(ClientSettings {
            refuses_unknown_actions: true,
            ..ClientSettings::default()
        })
        .await?;
    output.say(&format!(
        "running: embedded broker, SQLite in memory, {SLOTS} slots"
    ));
    let begun = runtime.clock().monotonic();
    let work = Work::submit(&client).await?;
    let ended = work.watch(&client, output).await?;
    let took = runtime.clock().monotonic().saturating_sub(begun);
    ended.show(output, took)?;
    let drained = executor.drain(Duration::from_secs(5)).await;
    drop((client, executor));
    runtime.stop().await;
    let is_right = drained.given_back == 0 && ended.is_right();
    Ok(if is_right {
        ExitStatus::Done
    } else {
        ExitStatus::Failed
    })
}

/// Creates one sub-task for each file of a folder and waits for them; answers how many.
async fn hash_folder(context: Context, folder: PathBuf) -> Result<u32, Failure> {
    let files = files(&folder);
    context
        .log(format!("{} files below {}", files.len(), folder.display()))
        .await;
    let mut hashes = Vec::with_capacity(files.len());
    for file in &files {
        let input = Payload::of(&json!({"program": "sha256sum", "args": ["--", file]}))?;
        hashes.push(Submission::new(action("command"), input));
    }
    let plan = FanOutPlan {
        on_failure: FailurePolicy::Collect,
        ..FanOutPlan::default()
    };
    let all = context.spawn_all("hash", hashes, plan).await?;
    Ok(context.join(&all).await?.total)
}

/// The files below `folder` in the order of their names, without what is hidden or built.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        let mut entries: Vec<_> = entries.flatten().collect();
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let is_skipped = name.as_encoded_bytes().starts_with(b".")
                || name == "target"
                || name == "node_modules";
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_skipped => folders.push(entry.path()),
                Ok(kind) if kind.is_file() && !is_skipped && files.len() < FILES_MAX => {
                    files.push(entry.path());
                }
                _ => {}
            }
        }
    }
    files
}

/// What the demo submitted.
struct Work {
    folder: TaskId,
    failing: TaskId,
    endless: TaskId,
}

impl Work {
    async fn submit(client: &Client) -> Result<Self, Complaint> {
        let submit = async |name: &str, input: serde_json::Value| -> Result<TaskId, Complaint> {
            let input =
                Payload::of(&input).map_err(|error| Complaint::failed(error.to_string()))?;
            Ok(client
                .submit(Submission::new(action(name), input))
                .await?
                .task
                .id)
        };
        Ok(Self {
            endless: submit("sleep", json!({"seconds": 3600})).await?,
            failing: submit("fail", json!({"message": "the crane is out of order"})).await?,
            folder: submit("demo.hash_folder", json!(".")).await?,
        })
    }

    /// Follows the work to its end, with a bar where somebody looks.
    async fn watch(&self, client: &Client, output: Output) -> Result<Ended, Complaint> {
        // Its sub-tasks are there once it waits for them, or has ended.
        let tree = loop {
            let tree = client.tree(self.folder).await?.tasks;
            let is_there = tree
                .first()
                .is_some_and(|task| task.state == TaskState::Suspended || task.state.is_final());
            if is_there {
                break tree;
            }
            let _open = client.wait(self.folder, GLANCE).await?;
        };
        output.say(&format!(
            "submitted: 3 tasks, one of them created {} sub-tasks",
            tree.len() - 1
        ));
        let bar = ProgressBar::new(tree.len() as u64 - 1);
        if let Ok(style) = ProgressStyle::with_template("hashing {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        let mut files = Vec::with_capacity(tree.len());
        for task in tree.iter().skip(1) {
            files.push(ended(client, task.id).await?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        let folder = ended(client, self.folder).await?;
        let failing = ended(client, self.failing).await?;
        let answer = client
            .cancel(self.endless, "the demo has seen enough")
            .await?;
        tracing::debug!(?answer, "Cancelled the task that never ends");
        let endless = ended(client, self.endless).await?;
        Ok(Ended {
            folder,
            files,
            failing,
            endless,
        })
    }
}

/// What became of it.
struct Ended {
    folder: Task,
    files: Vec<Task>,
    failing: Task,
    endless: Task,
}

impl Ended {
    fn is_right(&self) -> bool {
        let hashed = self
            .files
            .iter()
            .all(|task| task.state == TaskState::Succeeded);
        hashed
            && self.folder.state == TaskState::Succeeded
            && self.failing.state == TaskState::Failed
            && self.endless.state == TaskState::Cancelled
    }

    fn show(&self, output: Output, took: Duration) -> Result<(), Complaint> {
        let shown = self.files.iter().take(SHOWN_MAX);
        let tasks = std::iter::once(&self.folder)
            .chain(shown)
            .chain([&self.failing, &self.endless]);
        output.table(
            &["ACTION", "STATE", "WAITED", "RAN", "RESULT"],
            tasks.map(row),
        )?;
        let (files, took) = (self.files.len(), output::duration(took));
        let shown = if files > SHOWN_MAX {
            format!(" (the first {SHOWN_MAX} are shown)")
        } else {
            String::new()
        };
        output.say(&format!(
            "done in {took}: {files} files hashed{shown}, one task failed as it should, one was cancelled while it ran"
        ));
        output.say(
            "next: `longshore dev` for a system to play with, `longshore --help` for everything",
        );
        Ok(())
    }
}

fn row(task: &Task) -> Vec<String> {
    let between = |from: Option<jiff::Timestamp>, to: Option<jiff::Timestamp>| {
        let span = from
            .zip(to)
            .and_then(|(from, to)| Duration::try_from(to.duration_since(from)).ok());
        span.map_or_else(|| "-".to_owned(), output::duration)
    };
    vec![
        task.action.to_string(),
        task.state.to_string(),
        between(task.ready_at, task.started_at),
        between(task.started_at, task.finished_at),
        first_line(&result(task)),
    ]
}

fn result(task: &Task) -> String {
    if let Some(error) = &task.error {
        return error.message.clone();
    }
    let Some(output) = &task.output else {
        return "-".to_owned();
    };
    let printed = output.decode::<serde_json::Value>().ok();
    match printed
        .as_ref()
        .and_then(|output| output.get("stdout"))
        .and_then(serde_json::Value::as_str)
    {
        // `sha256sum` says the hash, two blanks, and the file.
        Some(line) => line.split_once("  ").map_or_else(
            || line.to_owned(),
            |(hash, file)| {
                format!(
                    "{} {}",
                    hash.chars().take(12).collect::<String>(),
                    file.trim_end()
                )
            },
        ),
        None => output.as_str().to_owned(),
    }
}

async fn ended(client: &Client, task: TaskId) -> Result<Task, Complaint> {
    Ok(client.wait(task, PATIENCE).await?.into_task())
}

#[expect(clippy::expect_used, reason = "the demo's own names are names")]
fn action(name: &str) -> ActionName {
    ActionName::new(name).expect("it is the name of an action")
}
