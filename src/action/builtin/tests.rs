//! The built-in actions, run by a host that only remembers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::action::{Context, Host, Running, SpawnBatch, SpawnedAs};
use crate::clock::SystemClock;
use crate::domain::limits::LOG_CHUNK_BYTES_MAX;
use crate::domain::{
    ActionName, Attempt, FanOut, LogStream, Payload, PayloadLimits, SignalName, Step, StepName,
    Submission, Task, TaskState,
};

/// A host that keeps the log.
#[derive(Default)]
struct Memory {
    /// How long it takes to keep a piece.
    pause: Duration,
    log: Mutex<Vec<(LogStream, String)>>,
}

#[async_trait]
impl Host for Memory {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }

    fn chance(&self) -> f64 {
        0.5
    }

    fn payload_limits(&self) -> PayloadLimits {
        PayloadLimits::default()
    }

    async fn may_go_on(&self) {}

    async fn steps(&self) -> Result<Vec<Step>, Failure> {
        Ok(Vec::new())
    }

    async fn record(&self, _: Step) {}

    async fn take_signal(&self, _: &SignalName, _: &StepName, _: u32) -> Option<Payload> {
        None
    }

    async fn spawn(&self, _: SpawnBatch) -> Result<SpawnedAs, Failure> {
        Ok(SpawnedAs::Stored)
    }

    async fn fan_out(&self, _: &StepName) -> Result<Option<FanOut>, Failure> {
        Ok(None)
    }

    async fn spawned(&self, _: &StepName, _: u32, _: usize) -> Result<Vec<Task>, Failure> {
        Ok(Vec::new())
    }

    async fn cancel_spawned(&self, _: &StepName) -> Result<(), Failure> {
        Ok(())
    }

    async fn write_log(&self, stream: LogStream, text: String) {
        assert!(text.len() <= LOG_CHUNK_BYTES_MAX);
        if !self.pause.is_zero() {
            SystemClock::shared().sleep(self.pause).await;
        }
        self.log.lock().unwrap().push((stream, text));
    }

    fn report_progress(&self, _: (u64, Option<u64>), _: &str) {}
}

impl Memory {
    fn text(&self, of: LogStream) -> String {
        let log = self.log.lock().unwrap();
        let pieces = log.iter().filter(|(stream, _)| *stream == of);
        pieces.map(|(_, text)| text.as_str()).collect()
    }

    /// Waits until the log of standard output has `lines` lines.
    #[expect(clippy::disallowed_methods, reason = "the log of a test wakes nobody")]
    async fn lines(&self, lines: usize) -> Vec<String> {
        for _ in 0..3_000 {
            let text = self.text(LogStream::Stdout);
            if text.matches('\n').count() >= lines {
                return text.lines().map(str::to_owned).collect();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("last seen: {:?}", self.text(LogStream::Stdout));
    }
}

/// One attempt under way.
struct Try {
    host: Arc<Memory>,
    stop: watch::Sender<Option<Stop>>,
    running: Running,
}

impl Try {
    fn begin(registry: &Registry, action: &str, input: &str) -> Self {
        Self::begin_on(Memory::default(), registry, action, input)
    }

    fn begin_on(host: Memory, registry: &Registry, action: &str, input: &str) -> Self {
        let host = Arc::new(host);
        let (stop, stopped) = watch::channel(None);
        let task = Arc::new(task(action));
        let context = Context::new(task, Arc::<Memory>::clone(&host), stopped);
        let input = Payload::parse(input, PayloadLimits::default()).unwrap();
        let name = ActionName::new(action).unwrap();
        let running = registry.begin(&name, context, input).unwrap();
        Self {
            host,
            stop,
            running,
        }
    }
}

fn task(action: &str) -> Task {
    let submission = Submission::new(ActionName::new(action).unwrap(), Payload::null());
    Task {
        state: TaskState::Running,
        attempt: Attempt(1),
        ..Task::stored(&submission)
    }
}

/// The built-in actions on a machine where `programs` may run.
fn actions(programs: &[&str]) -> Registry {
    let allowed = Allowed::new(programs.iter().copied(), environment());
    registry(SystemClock::shared(), allowed, HttpRights::default())
}

fn environment() -> [(String, String); 1] {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    [("PATH".to_owned(), path.to_owned())]
}

/// The machine's clock, on which every wait is fifty times as short.
#[derive(Debug)]
struct Hasty(Arc<dyn Clock>);

impl Clock for Hasty {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> crate::clock::Sleep {
        self.0.sleep(duration / 50)
    }

    fn random(&self) -> u128 {
        self.0.random()
    }
}

/// The built-in actions on a clock on which every grace is short.
fn hasty_actions() -> Registry {
    let clock = Arc::new(Hasty(SystemClock::shared()));
    registry(
        clock,
        Allowed::new(["*"], environment()),
        HttpRights::default(),
    )
}

/// Runs an action to its end.
async fn run(action: &str, input: &Value) -> Result<Value, Failure> {
    let attempt = Try::begin(&actions(&["*"]), action, &input.to_string());
    let output = attempt.running.await?;
    Ok(serde_json::from_str(output.as_str()).unwrap())
}

/// Runs a line of shell as a command.
async fn shell(line: &str) -> Result<Value, Failure> {
    run("command", &json!({"program": "sh", "args": ["-c", line]})).await
}

/// Waits until the process `id` is gone, or dead and not buried.
#[expect(
    clippy::disallowed_methods,
    reason = "the end of somebody else's process wakes nobody"
)]
async fn gone(id: &str) {
    let pid = Pid::from_raw(id.parse().unwrap());
    for _ in 0..3_000 {
        let is_zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" Z"));
        if is_zombie || kill(pid, None) == Err(Errno::ESRCH) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the process {pid} lives");
}

#[tokio::test]
async fn echo_returns_its_input_byte_for_byte() {
    let input = r#"{ "b":1.50, "a" : [ ] }"#;
    let attempt = Try::begin(&actions(&[]), "echo", input);
    assert_eq!(attempt.running.await.unwrap().as_str(), input);
}

#[tokio::test]
async fn sleep_ends_by_itself_says_its_bounds_and_stops_when_asked() {
    let slept = run("sleep", &json!({"seconds": 0.001})).await;
    assert_eq!(slept.unwrap(), json!({"seconds": 0.001}));
    for wrong in [-1.0, 86_401.0] {
        let failure = run("sleep", &json!({"seconds": wrong})).await.unwrap_err();
        assert!(!failure.is_retryable());
        let expected = "`seconds` is a number of seconds from 0 to 86400, not";
        assert!(failure.message.starts_with(expected), "{}", failure.message);
    }
    let attempt = Try::begin(&actions(&[]), "sleep", r#"{"seconds": 1000}"#);
    attempt
        .stop
        .send_replace(Some(Stop::Cancelled("enough".to_owned())));
    let failure = attempt.running.await.unwrap_err();
    assert_eq!(failure.message, "the sleep was cancelled: enough");
}

#[tokio::test]
async fn fail_fails_as_its_input_says() {
    let failure = run("fail", &json!({})).await.unwrap_err();
    assert_eq!(failure, Failure::fatal("this action always fails"));
    let input = json!({"message": "no", "retryable": true, "detail": {"code": 7}});
    let failure = run("fail", &input).await.unwrap_err();
    assert!(failure.is_retryable());
    assert_eq!(failure.detail.unwrap().as_str(), r#"{"code":7}"#);
    let failure = run("fail", &json!({"mesage": "no"})).await.unwrap_err();
    assert!(
        failure.message.contains("unknown field `mesage`"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_program_gets_its_arguments_input_environment_and_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let input = json!({
        "program": "sh", "args": ["-c", r#"cat; echo "$1 $WORD"; pwd; env | wc -l"#, "sh", "a b"],
        "stdin": "in\n", "env": {"WORD": "$HOME"}, "dir": dir,
    });
    let output = run("command", &input).await.unwrap();
    let expected = format!("in\na b $HOME\n{}\n3\n", dir.display());
    assert_eq!(
        output["stdout"],
        json!(expected),
        "PWD, WORD and PATH, and nothing else"
    );
    assert_eq!(output["stdout_bytes"], json!(expected.len()));
    assert_eq!(
        (&output["status"], &output["signal"]),
        (&json!(0), &Value::Null)
    );
}

#[tokio::test]
async fn a_program_may_end_without_reading_its_input() {
    let input = json!({"program": "true", "stdin": "x".repeat(300_000)});
    assert_eq!(run("command", &input).await.unwrap()["status"], json!(0));
}

#[tokio::test]
async fn output_is_in_the_log_as_it_comes_and_in_order() {
    let line = "for i in 1 2 3; do echo out $i; echo err $i >&2; read x; done";
    let input = json!({"program": "sh", "args": ["-c", line], "stdin": "\n\n\n"});
    let attempt = Try::begin(&actions(&["sh"]), "command", &input.to_string());
    attempt.running.await.unwrap();
    assert_eq!(
        attempt.host.text(LogStream::Stdout),
        "out 1\nout 2\nout 3\n"
    );
    assert_eq!(
        attempt.host.text(LogStream::Stderr),
        "err 1\nerr 2\nerr 3\n"
    );
}

#[tokio::test]
async fn a_status_that_is_not_zero_is_a_failure_with_the_last_line_and_the_output() {
    let failure = shell("echo out; echo first >&2; echo 'no disk' >&2; echo >&2; exit 3").await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.message, "`sh` ended with status 3: no disk");
    assert!(failure.is_retryable());
    let detail: CommandOutput = failure.detail.unwrap().decode().unwrap();
    assert_eq!((detail.status, detail.stdout.as_str()), (Some(3), "out\n"));
}

#[tokio::test]
async fn a_program_that_a_signal_ends_is_a_failure_that_names_it() {
    let failure = shell("kill -9 $$").await.unwrap_err();
    assert_eq!(failure.message, "`sh` was ended by signal 9 (SIGKILL)");
    let detail: CommandOutput = failure.detail.unwrap().decode().unwrap();
    assert_eq!((detail.status, detail.signal), (None, Some(9)));
}

#[tokio::test]
async fn a_program_that_is_not_allowed_does_not_run() {
    let check = async |programs: &[&str], program: &str| {
        let input = json!({"program": program}).to_string();
        Try::begin(&actions(programs), "command", &input)
            .running
            .await
    };
    for (programs, program) in [
        (&[] as &[&str], "true"),
        (&["true"], "false"),
        (&["true"], "./true"),
        (&["true"], "/tmp/true"),
        (&["/nowhere/true"], "true"),
    ] {
        let failure = check(programs, program).await.unwrap_err();
        assert!(!failure.is_retryable(), "{failure:?}");
        for expected in [
            "`executor.allow_commands` (`--allow-command NAME`)",
            program,
        ] {
            assert!(failure.message.contains(expected), "{}", failure.message);
        }
    }
    let found = shell(
        "command -v true >/dev/null; for d in $(echo $PATH | tr : ' '); do
        test -x $d/true && echo $d/true && break; done",
    );
    let found = found.await.unwrap()["stdout"]
        .as_str()
        .unwrap()
        .trim()
        .to_owned();
    check(&["true"], &found).await.unwrap();
    check(&[&found], "true").await.unwrap();
}

#[tokio::test]
async fn a_submitter_cannot_choose_which_program_a_name_means() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/false", dir.path().join("true")).unwrap();
    let input = json!({"program": "true", "env": {"PATH": dir.path()}, "dir": dir.path()});
    let attempt = Try::begin(&actions(&["true"]), "command", &input.to_string());
    attempt.running.await.unwrap();
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let check = async |input: Value, expected: &str| {
        let failure = run("command", &input).await.unwrap_err();
        assert!(failure.message.contains(expected), "{}", failure.message);
    };
    check(
        json!({"program": "no-such-program"}),
        "no such program in its `PATH`: `no-such-",
    )
    .await;
    check(
        json!({"program": "/no/such"}),
        "`/no/such` cannot be started: No such file",
    )
    .await;
    check(
        json!({"program": "true", "dir": "/no/such"}),
        "no folder `/no/such`",
    )
    .await;
    check(
        json!({"program": "true", "env": {"A=B": "c"}}),
        "has no `=`: `A=B`",
    )
    .await;
    check(
        json!({"program": "true", "timeout": -1}),
        "`timeout` is a number of seconds",
    )
    .await;
    check(
        json!({"program": "true", "shell": true}),
        "unknown field `shell`",
    )
    .await;
}

#[tokio::test]
async fn a_large_output_is_kept_by_its_end_and_logged_as_a_whole() {
    let line = "yes 0123456789abcde | head -c 1000000; echo end";
    let input = json!({"program": "sh", "args": ["-c", line]}).to_string();
    let attempt = Try::begin(&actions(&["sh"]), "command", &input);
    let output: CommandOutput = attempt.running.await.unwrap().decode().unwrap();
    assert_eq!(output.stdout_bytes, 1_000_004);
    assert_eq!(output.stdout.len(), 64 * 1024);
    assert!(output.stdout.ends_with("end\n"));
    assert_eq!(attempt.host.text(LogStream::Stdout).len(), 1_000_004);
}

#[tokio::test]
async fn what_is_not_utf_8_is_replaced() {
    let output = shell(r"printf 'a\377b\000c\342\202'").await.unwrap();
    assert_eq!(output["stdout"], json!("a\u{fffd}b\u{fffd}c\u{fffd}"));
    assert_eq!(output["stdout_bytes"], json!(7));
}

/// Prints its own id and that of what it started, and waits.
const FAMILY: &str = "sleep 1000 & echo $$; echo $!; wait";

#[tokio::test]
async fn a_cancelled_program_ends_with_all_that_it_started() {
    let input = json!({"program": "sh", "args": ["-c", FAMILY]}).to_string();
    let Try {
        host,
        stop,
        running,
    } = Try::begin(&actions(&["sh"]), "command", &input);
    let (ended, family) = tokio::join!(running, async {
        let family = host.lines(2).await;
        stop.send_replace(Some(Stop::Cancelled("enough".to_owned())));
        family
    });
    let failure = ended.unwrap_err();
    assert_eq!(failure.message, "`sh` was cancelled: enough");
    let detail: CommandOutput = failure.detail.unwrap().decode().unwrap();
    assert_eq!(detail.signal, Some(15));
    for process in &family {
        gone(process).await;
    }
}

#[tokio::test]
async fn a_program_that_runs_too_long_ends_with_all_that_it_started() {
    let input = json!({"program": "sh", "args": ["-c", FAMILY], "timeout": 2}).to_string();
    let attempt = Try::begin(&actions(&["sh"]), "command", &input);
    let failure = attempt.running.await.unwrap_err();
    assert_eq!(failure.message, "`sh` ran longer than its timeout of 2s");
    for process in attempt.host.lines(2).await {
        gone(&process).await;
    }
}

#[tokio::test]
async fn a_dropped_attempt_leaves_no_process_behind() {
    let line = format!("trap '' TERM; {FAMILY}");
    let input = json!({"program": "sh", "args": ["-c", line]}).to_string();
    let Try { host, running, .. } = Try::begin(&actions(&["sh"]), "command", &input);
    let family = tokio::select! {
        family = host.lines(2) => family,
        ended = running => panic!("{ended:?}"),
    };
    for process in &family {
        gone(process).await;
    }
}

#[tokio::test]
async fn a_program_ends_the_command_even_if_it_leaves_something_behind() {
    let output = shell("sleep 1000 & echo $!").await.unwrap();
    gone(output["stdout"].as_str().unwrap().trim()).await;
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed_after_the_grace() {
    let line = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
    let input = json!({"program": "sh", "args": ["-c", line]}).to_string();
    let Try {
        host,
        stop,
        running,
    } = Try::begin(&hasty_actions(), "command", &input);
    let (ended, ()) = tokio::join!(running, async {
        host.lines(1).await;
        stop.send_replace(Some(Stop::Released));
    });
    let detail: CommandOutput = ended.unwrap_err().detail.unwrap().decode().unwrap();
    assert_eq!(detail.signal, Some(9));
}

#[tokio::test]
async fn a_slow_log_loses_nothing_even_when_the_program_ended_long_ago() {
    let line = "yes 0123456789abcde | head -c 60000; echo end";
    let input = json!({"program": "sh", "args": ["-c", line]}).to_string();
    // Longer than the grace of a pipe, on the hasty clock, for each of about eight pieces.
    let pause = Duration::from_millis(30);
    let host = Memory {
        pause,
        ..Memory::default()
    };
    let attempt = Try::begin_on(host, &hasty_actions(), "command", &input);
    attempt.running.await.unwrap();
    assert_eq!(attempt.host.text(LogStream::Stdout).len(), 60_004);
}

#[tokio::test]
async fn a_process_that_left_the_group_does_not_hold_the_command() {
    // The program waits until what it started is in a session of its own, and holds its output.
    let line = "exec 3>&1; id=$(setsid sh -c 'sleep 1000 >&3 & echo $!'); echo $id";
    let input = json!({"program": "sh", "args": ["-c", line]}).to_string();
    let attempt = Try::begin(&hasty_actions(), "command", &input);
    attempt.running.await.unwrap();
    let left = attempt.host.text(LogStream::Stdout).trim().parse().unwrap();
    kill(Pid::from_raw(left), nix::sys::signal::Signal::SIGKILL).unwrap();
}
