//! `command`: runs a program, with its output in the task's log as it comes.

mod allowed;
mod capture;
mod group;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join3, maybe_done};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};
use tokio_util::sync::CancellationToken;

pub use allowed::Allowed;
use capture::{Capture, Decoder};
use group::ProcessGroup;

use super::{duration, stopped};
use crate::action::{Action, Context, Stop};
use crate::clock::Clock;
use crate::domain::limits::{DURATION_MAX, LOG_CHUNK_BYTES_MAX};
use crate::domain::{Failure, LogStream};

/// How long processes may take to end after SIGTERM, before SIGKILL: 5 s.
const TERMINATE_GRACE: Duration = Duration::from_secs(5);

/// How long a pipe may stay open after its program ended: 1 s. Only a process that left the group holds it
/// longer.
const PIPE_GRACE: Duration = Duration::from_secs(1);

/// Bytes that a pipe holds: 64 KiB (`pipe(7)`). What comes beyond them, once a pipe is given up, was not written by the
/// program.
const PIPE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a program's last line that a message shows: 500.
const LINE_BYTES_MAX: usize = 500;

/// `command`: runs a program.
///
/// No shell is between: arguments are a list. Standard output and error go to the task's log as they come; a
/// slow log slows the program. The program and all that it starts are one process group: it gets SIGTERM when
/// the task is cancelled or too late, and SIGKILL after a grace, or when the program has ended before what it
/// started.
#[derive(Debug, Clone)]
pub struct Command {
    clock: Arc<dyn Clock>,
    allowed: Allowed,
}

/// What to run: `{"program": "sha256sum", "args": ["-b"], "stdin": "text"}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandInput {
    /// The program: a name that is looked up in the executor's `PATH`, or a path.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// What it reads from its standard input; nothing when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Variables of its environment, beside the executor's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The folder it runs in; the executor's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Unit: seconds; how long it may run. As long as the task may when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutput {
    /// Its exit status; absent (`null`) when a signal ended it.
    pub status: Option<i32>,
    /// The number of the signal that ended it.
    pub signal: Option<i32>,
    /// The end of its standard output, at most 64 KiB.
    pub stdout: String,
    /// The end of its standard error, at most 64 KiB.
    pub stderr: String,
    /// Bytes that it wrote to its standard output.
    pub stdout_bytes: u64,
    /// Bytes that it wrote to its standard error.
    pub stderr_bytes: u64,
}

/// Why a program was asked to end.
enum Cut {
    Stopped(Stop),
    TimeLimit(Duration),
}

impl Command {
    /// The action, which takes its time from `clock` and runs what is `allowed`.
    pub fn new(clock: Arc<dyn Clock>, allowed: Allowed) -> Self {
        Self { clock, allowed }
    }

    async fn start(&self, input: &CommandInput) -> Result<Child, Failure> {
        let program = self.allowed.find(&input.program).await?;
        check_environment(&input.env)?;
        if let Some(dir) = &input.dir {
            check_dir(dir).await?;
        }
        let mut command = tokio::process::Command::new(program);
        command
            .args(&input.args)
            .env_clear()
            .envs(self.allowed.environment())
            .envs(&input.env)
            .stdin(
                input
                    .stdin
                    .as_ref()
                    .map_or_else(Stdio::null, |_| Stdio::piped()),
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(dir) = &input.dir {
            command.current_dir(dir);
        }
        command.spawn().map_err(|error| {
            let message = format!("`{}` cannot be started: {error}", input.program);
            // What another executor may have, or this one later.
            let may_pass = [
                ErrorKind::NotFound,
                ErrorKind::WouldBlock,
                ErrorKind::OutOfMemory,
            ];
            if may_pass.contains(&error.kind()) {
                Failure::retry(message)
            } else {
                Failure::fatal(message)
            }
        })
    }

    /// Lets `child` run to its end, or cuts it short; answers with how it ended and what it wrote.
    async fn supervise(
        &self,
        context: &Context,
        child: &mut Child,
        stdin: Option<String>,
        time_limit: Option<Duration>,
    ) -> Result<(ExitStatus, Option<Cut>, Captures), Failure> {
        // Dropped with this future, it kills: a child that is not waited for cannot outlive its attempt.
        let mut group = ProcessGroup::of(child);
        let mut captures = Captures::default();
        let give_up = CancellationToken::new();
        let (input, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (status, cut) = {
            let to_log = |stream| Pump {
                context,
                stream,
                give_up: &give_up,
            };
            let mut streams = pin!(maybe_done(join3(
                feed(input, stdin),
                to_log(LogStream::Stdout).run(stdout, &mut captures.stdout),
                to_log(LogStream::Stderr).run(stderr, &mut captures.stderr),
            )));
            let ended = tokio::select! {
                status = child.wait() => Ok(status?),
                never = forever(streams.as_mut()) => match never {},
                stop = context.stopped() => Err(Cut::Stopped(stop)),
                limit = self.limit(time_limit) => Err(Cut::TimeLimit(limit)),
            };
            let (status, cut) = match ended {
                Ok(status) => (status, None),
                Err(cut) => {
                    group.terminate();
                    // Until the streams end too: what the program started may need the grace as well.
                    tokio::select! {
                        _ = join(child.wait(), streams.as_mut()) => {}
                        () = self.clock.sleep(TERMINATE_GRACE) => {}
                    }
                    group.kill();
                    (child.wait().await?, Some(cut))
                }
            };
            group.kill(); // What the program left behind.
            tokio::select! {
                () = streams.as_mut() => {}
                () = self.clock.sleep(PIPE_GRACE) => {
                    give_up.cancel();
                    streams.as_mut().await;
                }
            }
            (status, cut)
        };
        Ok((status, cut, captures))
    }

    async fn limit(&self, time_limit: Option<Duration>) -> Duration {
        match time_limit {
            Some(limit) => {
                self.clock.sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    }
}

impl Action for Command {
    const NAME: &'static str = "command";
    type Input = CommandInput;
    type Output = CommandOutput;

    async fn run(&self, context: Context, input: CommandInput) -> Result<CommandOutput, Failure> {
        let time_limit = input
            .timeout
            .map(|seconds| duration("timeout", seconds, DURATION_MAX))
            .transpose()?;
        let mut child = self.start(&input).await?;
        let (status, cut, captures) = self
            .supervise(&context, &mut child, input.stdin, time_limit)
            .await?;
        let output = captures.output(status);
        let program = &input.program;
        let failure = match cut {
            Some(Cut::Stopped(stop)) => stopped(&format!("`{program}`"), &stop),
            Some(Cut::TimeLimit(limit)) => Failure::retry(format!(
                "`{program}` ran longer than its timeout of {limit:?}"
            )),
            None if status.success() => return Ok(output),
            None => Failure::retry(format!("`{program}` {}", output.sentence())),
        };
        Err(failure.with_detail(&output))
    }
}

impl CommandOutput {
    /// How it ended, with the last line that it wrote about it.
    fn sentence(&self) -> String {
        let end = match (self.status, self.signal) {
            (Some(status), _) => format!("ended with status {status}"),
            (None, Some(number)) => match Signal::try_from(number) {
                Ok(signal) => format!("was ended by signal {number} ({signal})"),
                Err(_) => format!("was ended by signal {number}"),
            },
            (None, None) => "ended without a status".to_owned(),
        };
        let last = self
            .stderr
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty());
        match last {
            Some(line) => {
                format!(
                    "{end}: {}",
                    &line[..line.floor_char_boundary(LINE_BYTES_MAX)]
                )
            }
            None => end,
        }
    }
}

#[derive(Debug, Default)]
struct Captures {
    stdout: Capture,
    stderr: Capture,
}

impl Captures {
    fn output(self, status: ExitStatus) -> CommandOutput {
        let (stdout, stdout_bytes) = self.stdout.finish();
        let (stderr, stderr_bytes) = self.stderr.finish();
        CommandOutput {
            status: status.code(),
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
            stdout,
            stderr,
            stdout_bytes,
            stderr_bytes,
        }
    }
}

/// Goes on with `work`, and never resolves.
async fn forever(work: impl Future<Output = ()>) -> Infallible {
    work.await;
    std::future::pending().await
}

/// Writes `text` to the program, which may end without having read it.
async fn feed(pipe: Option<ChildStdin>, text: Option<String>) {
    if let (Some(mut pipe), Some(text)) = (pipe, text)
        && let Err(error) = pipe.write_all(text.as_bytes()).await
    {
        tracing::debug!(%error, "A program did not read all of its standard input");
    }
}

/// From a program's pipe to the task's log.
struct Pump<'a> {
    context: &'a Context,
    stream: LogStream,
    give_up: &'a CancellationToken,
}

impl Pump<'_> {
    async fn run(self, pipe: Option<impl AsyncRead + Unpin>, capture: &mut Capture) {
        let Some(mut pipe) = pipe else { return };
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; LOG_CHUNK_BYTES_MAX];
        let mut late_bytes = 0;
        while late_bytes <= PIPE_BYTES_MAX {
            let read = tokio::select! {
                biased; // What the program wrote before its end is still in the pipe.
                read = pipe.read(&mut buffer) => read,
                () = self.give_up.cancelled() => break,
            };
            match read {
                Ok(0) => break,
                Ok(bytes) => {
                    let text = decoder.decode(&buffer[..bytes]);
                    capture.push(&text, bytes);
                    late_bytes += if self.give_up.is_cancelled() {
                        bytes
                    } else {
                        0
                    };
                    self.context.write(self.stream, &text).await;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "The output of a program cannot be read: {error}");
                    break;
                }
            }
        }
        let rest = decoder.finish();
        capture.push(rest, 0);
        self.context.write(self.stream, rest).await;
    }
}

fn check_environment(env: &BTreeMap<String, String>) -> Result<(), Failure> {
    match env
        .keys()
        .find(|name| name.is_empty() || name.contains('='))
    {
        Some(name) => Err(Failure::fatal(format!(
            "a variable's name in `env` is not empty and has no `=`: `{name}`"
        ))),
        None => Ok(()),
    }
}

async fn check_dir(dir: &Path) -> Result<(), Failure> {
    let facts = tokio::fs::metadata(dir).await;
    if facts.is_ok_and(|facts| facts.is_dir()) {
        Ok(())
    } else {
        let dir = dir.display();
        Err(Failure::retry(format!(
            "this executor has no folder `{dir}` for `dir` to name"
        )))
    }
}
