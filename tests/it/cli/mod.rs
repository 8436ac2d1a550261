//! The command line as people type it: processes in a folder of their own, with an environment of their own.

mod audit;
mod bench;
mod broker;
mod dev;
mod help;
mod keys;
mod logs;
mod schedule;
mod servers;
mod settings;
mod signal;
mod store;
mod task;
mod top;
mod verbs;
mod why;
mod workflow;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::world::PATIENCE;

/// Every password that a test makes up; it must never be seen.
const PASSWORD: &str = "hunter2";

/// A port of which nobody is listening: 1 is kept for a service that nobody runs.
const REFUSED: &str = "127.0.0.1:1";

/// A folder and an environment to type commands in.
struct Shell {
    folder: TempDir,
    variables: Vec<(&'static str, String)>,
}

/// How a command ended, and what it wrote.
struct Ran {
    line: String,
    status: i32,
    out: String,
    err: String,
}

/// A command that runs until it is told to stop.
struct Running {
    child: Child,
    said: Vec<String>,
}

impl Shell {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            variables: Vec::new(),
        }
    }

    /// With a SQLite store and no broker.
    fn sqlite() -> Self {
        Self::new()
            .with("DATABASE_URL", "sqlite:tasks.db")
            .with("AMQP_URL", "none")
    }

    /// The same, migrated.
    async fn migrated() -> Self {
        let shell = Self::sqlite();
        assert_eq!(shell.run("db migrate").await.status, 0);
        shell
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("COLUMNS", "100")
            .env("LONGSHORE_EXECUTOR_NAME", "crane")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Types words that have no blanks in them.
    async fn run(&self, line: &str) -> Ran {
        self.run_words(&line.split_whitespace().collect::<Vec<_>>())
            .await
    }

    async fn run_words(&self, words: &[&str]) -> Ran {
        self.run_with(words, "").await
    }

    /// With something to read on standard input.
    async fn run_with(&self, words: &[&str], input: &str) -> Ran {
        self.run_within(PATIENCE, words, input).await
    }

    /// With another patience.
    async fn run_within(&self, patience: Duration, words: &[&str], input: &str) -> Ran {
        let line = words.join(" ");
        let mut child = self.command(words).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Whoever does not read it may have ended already.
        drop(stdin.write_all(input.as_bytes()).await);
        drop(stdin);
        let output = timeout(patience, child.wait_with_output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("`{line}` does not end"))
            .unwrap();
        let ran = Ran {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            line,
        };
        for secret in [PASSWORD, ":longshore@", ":longshore-admin@"] {
            assert!(
                !ran.out.contains(secret) && !ran.err.contains(secret),
                "{ran}"
            );
        }
        ran
    }

    /// What several commands write, one after the other.
    async fn session(&self, lines: &[&str]) -> String {
        let mut said = String::new();
        for line in lines {
            said.push_str(&self.run(line).await.to_string());
        }
        said
    }

    /// Starts a command, and returns when it has said `ready`.
    async fn start(&self, line: &str, ready: &str) -> Running {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut child = self.command(&words).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        loop {
            let next = timeout(PATIENCE, lines.next_line()).await;
            let next = next.unwrap_or_else(|_| panic!("`{line}` says no `{ready}`: {said:?}"));
            let next = next.unwrap();
            let next = next.unwrap_or_else(|| panic!("`{line}` ended: {said:?}"));
            assert!(!next.contains(PASSWORD), "{next}");
            let is_ready = next.contains(ready);
            said.push(next);
            if is_ready {
                break;
            }
        }
        // The rest is read by nobody in particular, so that the pipe never fills up.
        let background = longshore::background::Background::new();
        background.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Running { child, said }
    }
}

impl Running {
    /// Asks it to stop, and answers with its status.
    async fn stop(mut self) -> i32 {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it stops").unwrap().code().unwrap()
    }
}

impl Ran {
    /// It ended with `status`.
    #[track_caller]
    fn with_status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// The JSON on standard output.
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Ran {
    /// As in a terminal: data as it is, words for people after `!`, the status after `=`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ longshore {}", redacted(&self.line))?;
        for line in self.out.lines() {
            writeln!(f, "{}", redacted(line))?;
        }
        for line in self.err.lines().filter(|line| !line.is_empty()) {
            writeln!(f, "! {}", redacted(line))?;
        }
        writeln!(f, "= {}", self.status)
    }
}

/// The same without what the doctor says of this machine: the version of SQLite, and how far the clocks are apart.
fn steady(said: &str) -> String {
    let line = |line: &str| {
        let stays = ["SQLite ", "clock      ok      ", "clock      ok       "];
        let stays = stays.iter().rev().find_map(|word| {
            let at = line.find(word)?;
            Some(&line[..at + word.len()])
        });
        stays.map_or_else(|| line.to_owned(), |stays| format!("{stays}[..]"))
    };
    said.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The same with ids and times replaced: what differs each time.
fn redacted(text: &str) -> String {
    let shaped = |rest: &str, shape: &str| {
        rest.len() >= shape.len()
            && rest
                .bytes()
                .zip(shape.bytes())
                .all(|(byte, like)| match like {
                    b'h' => byte.is_ascii_hexdigit(),
                    b'0' => byte.is_ascii_digit(),
                    other => byte == other,
                })
    };
    let (mut said, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        if shaped(rest, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh") {
            said.push_str("[id]");
            rest = &rest[36..];
        } else if shaped(rest, "0000-00-00T00:00:00") {
            said.push_str("[time]");
            rest = rest.split_once('Z').map_or("", |(_, rest)| rest);
        } else {
            said.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    said
}
