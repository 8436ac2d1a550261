//! What can be typed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::bench::BenchArgs;
use super::output::Format;
use super::schedule::ScheduleVerb;
use super::top::TopArgs;
use crate::config::{Config, ConfigError, Loaded, env};
use crate::domain::Verb;

/// Background tasks for web applications on many hosts: any live executor can take any task.
#[derive(Debug, Parser)]
#[command(
    name = "longshore",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Begin with `longshore demo`. Settings come from flags, then the environment \
    (DATABASE_URL, AMQP_URL, LONGSHORE_*), then longshore.toml; `longshore config show` tells them.\n\
    Exit status: 0 done, 1 it failed, 2 usage, 3 the task failed, 4 it was cancelled, 124 the wait timed out."
)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The file of settings; `longshore.toml` in this folder when absent.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where tasks live: `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH` [env: `DATABASE_URL`].
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// What carries announcements: `amqp://USER:PASSWORD@HOST/VHOST`, `embedded` or `none` [env: `AMQP_URL`].
    #[arg(long, global = true, value_name = "URL")]
    broker: Option<String>,
    /// RabbitMQ's management API, for `broker plan|apply|check` and `doctor`.
    #[arg(long, global = true, value_name = "URL")]
    management_url: Option<String>,
    /// How data is written to stdout.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(super) output: Format,
    /// What is logged to stderr: `error`, `warn`, `info`, `debug`, `trace`, and `MODULE=LEVEL` after commas.
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    /// How the log is written: `text` or `json`.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// Flags as settings: the key, and the text as the file would have it.
pub(super) type Flags = BTreeMap<&'static str, String>;

impl Common {
    /// All settings, these flags and `more` included.
    pub(super) fn load(&self, more: Flags) -> Result<Loaded, ConfigError> {
        let own = [
            ("store.url", &self.store),
            ("broker.url", &self.broker),
            ("broker.management_url", &self.management_url),
            ("log.filter", &self.log),
            ("log.format", &self.log_format),
        ];
        let mut flags = more;
        for (key, value) in own {
            if let Some(value) = value {
                flags.insert(key, value.clone());
            }
        }
        Config::load(&flags, env::variables(), self.config.as_deref())
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows everything at work in seconds: embedded, nothing to install.
    Demo,
    /// A whole system in one process for development: SQLite, embedded broker, web server and executor.
    Dev(DevArgs),
    /// Runs a web server: the HTTP interface over a store and a broker.
    Web(WebArgs),
    /// Runs an executor, or lists them.
    Executor(ExecutorArgs),
    /// Submits, shows, awaits and cancels tasks.
    Task {
        #[command(subcommand)]
        verb: TaskVerb,
    },
    /// Checks, shows and runs workflows: steps in a file, without a line of Rust.
    Workflow {
        #[command(subcommand)]
        verb: WorkflowVerb,
    },
    /// Creates, lists, pauses and resumes queues.
    Queue {
        #[command(subcommand)]
        verb: QueueVerb,
    },
    /// Submits tasks again and again: by cron, after an interval, or once at a time.
    Schedule {
        #[command(subcommand)]
        verb: ScheduleVerb,
    },
    /// Listens to everything that happens: every event of the four flows, live.
    Tap(TapArgs),
    /// Watches queues, executors, tasks and events on one screen, with keys to act on them.
    ///
    /// Counts and ages come from the store; rates and latencies from the events that the broker brings, over the last
    /// minute. `?` tells the keys. Without a terminal, with `--once` or with `-o json` it writes what is to be seen once,
    /// after it has listened for the interval, and ends.
    #[command(after_help = "Examples:\n  \
        longshore top\n  \
        longshore top --interval 5\n  \
        longshore top --broker none          # what the store knows\n  \
        longshore top --once                 # tables, for a report\n  \
        longshore top -o json | jq '.queues[] | select(.ready > 1000) | .name'")]
    Top(TopArgs),
    /// Prepares the store.
    Db {
        #[command(subcommand)]
        verb: DbVerb,
    },
    /// Prepares the broker.
    Broker {
        #[command(subcommand)]
        verb: BrokerVerb,
    },
    /// Tells the settings.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Looks at everything that must be right: versions, reachability, schema, topology, clocks.
    Doctor,
    /// Proves that no task is lost, doubled or stuck: holds everything stored against its rules.
    ///
    /// Each line is one violation: the rule (KIND), the task or executor, and what was found. Nothing is changed without
    /// `--fix`. It reads every task once; work goes on meanwhile. A task that is `ready` for a minute is held against the
    /// broker's queues when `broker.management_url` is set, and against the executors' free slots otherwise.
    #[command(
        after_help = "Exit status: 0 nothing is wrong, or all of it is repaired; 1 violations are left."
    )]
    Audit(AuditArgs),
    /// Measures this machine and these servers.
    ///
    /// Writes one object: the scenario, its tasks, seconds and tasks a second, what they took (p50, p95, p99), and what they
    /// cost. Executor and web server are processes of their own; with the broker `embedded` everything is in this one.
    /// What cannot be read, such as the CPU of a server on another host, is null, with the reason beside it.
    #[command(
        after_help = "The queues `bench`, `bench-parents` and `bench-waiting` are made when they are not there.\n\
        Example: longshore bench drain -o json"
    )]
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    pub(super) web: WebArgs,
    #[command(flatten)]
    pub(super) executor: ExecutorFlags,
}

#[derive(Debug, Args, Clone)]
pub(super) struct WebArgs {
    /// The address and port to listen on [default: 127.0.0.1:7373].
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<String>,
    /// Whether a task is refused when no executor ever offered its action [default: true].
    #[arg(long, value_name = "BOOL")]
    pub(super) strict_actions: Option<String>,
}

impl WebArgs {
    pub(super) fn flags(&self) -> Flags {
        settings([
            ("web.listen", self.listen.clone()),
            ("web.strict_actions", self.strict_actions.clone()),
        ])
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ExecutorArgs {
    #[command(subcommand)]
    pub(super) verb: Option<ExecutorVerb>,
    #[command(flatten)]
    pub(super) flags: ExecutorFlags,
}

#[derive(Debug, Subcommand)]
pub(super) enum ExecutorVerb {
    /// Runs an executor, as `executor` alone does.
    Run(ExecutorFlags),
    /// Lists executors, the newest first.
    List,
    /// Asks an executor to drain, as SIGTERM does: it takes nothing new, ends what runs, and stops.
    ///
    /// It is asked through the broker, by a user that may write to `longshore.control`: `longshore-operator`.
    Drain {
        /// The executor's id.
        id: String,
    },
}

#[derive(Debug, Args, Clone, Default)]
pub(super) struct ExecutorFlags {
    /// What people call the executor [default: the host's name].
    #[arg(long)]
    pub(super) name: Option<String>,
    /// A queue to serve with its slots, such as `default=8`; once for each queue.
    #[arg(long = "queue", value_name = "NAME=SLOTS")]
    pub(super) queues: Vec<String>,
    /// A program that the action `command` may run; `*` for all. Once for each program.
    #[arg(long = "allow-command", value_name = "PROGRAM")]
    pub(super) allow_commands: Vec<String>,
    /// How long a stopping executor lets its tasks run before others take them [default: 30s].
    #[arg(long, value_name = "DURATION")]
    pub(super) drain_timeout: Option<String>,
    /// Create the queues that are not there.
    #[arg(long)]
    pub(super) create_queues: bool,
}

impl ExecutorFlags {
    pub(super) fn flags(&self) -> Flags {
        let joined = |values: &[String]| (!values.is_empty()).then(|| values.join(","));
        settings([
            ("executor.name", self.name.clone()),
            ("executor.queues", joined(&self.queues)),
            ("executor.allow_commands", joined(&self.allow_commands)),
            ("executor.drain_timeout", self.drain_timeout.clone()),
            (
                "executor.create_queues",
                self.create_queues.then(|| "true".to_owned()),
            ),
        ])
    }
}

fn settings<const N: usize>(flags: [(&'static str, Option<String>); N]) -> Flags {
    flags
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

#[derive(Debug, Subcommand)]
pub(super) enum TaskVerb {
    /// Submits a task.
    Submit(SubmitArgs),
    /// Shows a task.
    Show {
        /// The task's id.
        id: String,
    },
    /// Lists tasks, the newest first.
    List(ListArgs),
    /// Waits for a task to end; exit status 0, 3 (failed or paused), 4 (cancelled) or 124 (goes on).
    Wait {
        /// The task's id.
        id: String,
        /// Seconds to wait at most; for ever when absent.
        #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
        timeout: Option<f64>,
    },
    /// Cancels a task and all below it, at most 10000 tasks at once; or all tasks that match.
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Why, for people.
        #[arg(long, default_value = "cancelled on the command line")]
        reason: String,
    },
    /// Sends a signal to a task: it is kept until the task takes it.
    Signal {
        /// The task's id.
        id: String,
        /// The signal's name, such as `approved`.
        name: String,
        /// What it says, JSON: as text, `@FILE`, or `-` for stdin [default: null].
        payload: Option<String>,
        /// A word of your own for it: sent twice to a task it is one signal.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Lets a paused task go on: one more try.
    Resume {
        #[command(flatten)]
        which: Which,
    },
    /// Lets a paused task go on without the step that failed.
    ///
    /// A sub-task in which no step failed may be a step itself, as those of workflows are: it succeeds, and its parent
    /// goes on.
    Skip {
        #[command(flatten)]
        which: Which,
        /// What the step returns, JSON: as text, `@FILE`, or `-` for stdin [default: null].
        #[arg(long, value_name = "JSON")]
        returns: Option<String>,
    },
    /// Runs a task again: a paused one as if it had never failed, of a failed or cancelled one a copy.
    ///
    /// Writes the id of the task that runs. A copy has the action, input, queue, priority, labels and options of the
    /// task, and no idempotency key, parent, start or deadline.
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Gives up a paused task: it fails.
    Abandon {
        #[command(flatten)]
        which: Which,
        /// Why, for people.
        #[arg(long, default_value = Verb::ABANDONED)]
        reason: String,
    },
    /// Says why a task is where it is: one verdict, and what it rests on.
    Why {
        /// The task's id.
        id: String,
    },
    /// Shows a task and all below it.
    Tree {
        /// The task's id.
        id: String,
    },
    /// Writes what a task has logged.
    Logs(LogsArgs),
}

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The task's id.
    pub(super) id: String,
    /// Write on until the task ends.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Begin at this place: `attempt:offset`, as JSON lines tell them.
    #[arg(long, value_name = "PLACE")]
    pub(super) since: Option<String>,
}

/// One task, or all that match.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The task's id.
    #[arg(required_unless_present = "condition", conflicts_with = "condition")]
    pub(super) id: Option<String>,
    /// All tasks that match: `state=paused action=images.*`, of `state`, `action`, `queue`, `label.NAME`, `parent` and
    /// `older` (such as `1h`). Without `state`: those that it can be done to.
    #[arg(long = "where", id = "condition", value_name = "CONDITIONS")]
    pub(super) condition: Option<String>,
    /// Do not ask before many tasks are changed.
    #[arg(long, requires = "condition")]
    pub(super) yes: bool,
    /// Who does it, for the history; you on this host when absent.
    #[arg(long, value_name = "NAME")]
    pub(super) by: Option<String>,
}

#[derive(Debug, Args, Default)]
pub(super) struct SubmitArgs {
    /// The action to run.
    pub(super) action: String,
    /// Its input, JSON: as text, `@FILE`, or `-` for stdin [default: null].
    pub(super) input: Option<String>,
    #[command(flatten)]
    pub(super) flags: SubmissionFlags,
    /// The task's id, a UUID; sent twice it is one task.
    #[arg(long)]
    pub(super) id: Option<String>,
    /// A word of your own for this wish, such as `order-7`: sent twice it is one task, as long as that is stored.
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Not before: RFC 3339, such as `2026-12-24T18:00:00Z`.
    #[arg(long, value_name = "TIME")]
    pub(super) run_at: Option<String>,
    /// Not after: RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub(super) deadline: Option<String>,
    /// The task it belongs to.
    #[arg(long, value_name = "ID")]
    pub(super) parent: Option<String>,
    /// Go on when the parent has ended or is cancelled.
    #[arg(long, requires = "parent")]
    pub(super) outlives_parent: bool,
    /// Wait for it to end, at most so many seconds; for ever without a number.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    #[expect(
        clippy::option_option,
        reason = "absent, without a number, and with one are three things"
    )]
    pub(super) wait: Option<Option<f64>>,
}

/// What a task and the tasks of a schedule are submitted with.
#[derive(Debug, Args, Default)]
pub(super) struct SubmissionFlags {
    /// The queue [default: default].
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// From -100 to 100; higher first among tasks that wait in the store.
    #[arg(long, allow_negative_numbers = true)]
    pub(super) priority: Option<i16>,
    /// A word to find the task by; once for each.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(super) labels: Vec<String>,
    /// The time limit of one attempt, in seconds.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) timeout: Option<f64>,
    /// Attempts in all, when one fails [default: 1].
    #[arg(long, value_name = "ATTEMPTS")]
    pub(super) retry: Option<u32>,
    /// What a failure for good leads to: `fail` or `pause`.
    #[arg(long, value_name = "CHOICE")]
    pub(super) on_failure: Option<String>,
    /// What a lost executor leads to: `rerun` or `once`.
    #[arg(long, value_name = "CHOICE")]
    pub(super) delivery: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Those that match: `state=paused action=images.*`, of `state`, `action`, `queue`, `label.NAME`, `parent` and `older`
    /// (such as `1h`).
    #[arg(
        long = "where",
        value_name = "CONDITIONS",
        conflicts_with_all = ["state", "queue", "action", "label", "parent"]
    )]
    pub(super) condition: Option<String>,
    /// In one of these states, joined by commas.
    #[arg(long, value_delimiter = ',')]
    pub(super) state: Vec<String>,
    /// In this queue.
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// Of this action.
    #[arg(long)]
    pub(super) action: Option<String>,
    /// With this label.
    #[arg(long, value_name = "NAME=VALUE")]
    pub(super) label: Option<String>,
    /// Directly below this task.
    #[arg(long, value_name = "ID")]
    pub(super) parent: Option<String>,
    /// Older than this task: the last id of the page before.
    #[arg(long, value_name = "ID")]
    pub(super) cursor: Option<String>,
    /// How many at most, up to 1000.
    #[arg(long, default_value_t = 50)]
    pub(super) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(super) enum WorkflowVerb {
    /// Says what is wrong with a workflow, each with the path to it. Needs no server.
    #[command(after_help = "Exit status: 0 nothing is wrong; 1 something is.")]
    Check {
        /// The workflow, YAML or JSON; `-` for stdin.
        file: String,
    },
    /// Shows what runs after what. Needs no server.
    Show {
        /// The workflow, YAML or JSON; `-` for stdin.
        file: String,
    },
    /// Submits a workflow as a task of the action `workflow`.
    Run(WorkflowRunArgs),
}

#[derive(Debug, Args)]
pub(super) struct WorkflowRunArgs {
    /// The workflow, YAML or JSON; `-` for stdin.
    pub(super) file: String,
    /// Its input, a JSON object as text or `@FILE`: values in the place of those that its `input` has.
    #[arg(long, value_name = "JSON")]
    pub(super) input: Option<String>,
    #[command(flatten)]
    pub(super) flags: SubmissionFlags,
    /// A word of your own for this wish, such as `order-7`: sent twice it is one task, as long as that is stored.
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Wait for it to end, at most so many seconds; for ever without a number.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    #[expect(
        clippy::option_option,
        reason = "absent, without a number, and with one are three things"
    )]
    pub(super) wait: Option<Option<f64>>,
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueVerb {
    /// Creates a queue, in the store and on the broker.
    Create {
        /// Its name.
        name: String,
    },
    /// Lists queues and what waits in them.
    List,
    /// Lets the tasks of a queue wait: what runs goes on, and no other begins until it is resumed.
    ///
    /// Tasks are submitted, scheduled and cancelled as ever. Executors hear of it with their next heartbeat, within 5
    /// seconds.
    #[command(after_help = "Examples:\n  \
        longshore queue pause bulk           # before a migration of what its tasks write to\n  \
        longshore queue list                 # who has paused what\n  \
        longshore queue resume bulk")]
    Pause {
        /// Its name.
        name: String,
        /// Who does it, for whoever asks later; `USER@HOST` unless it is said.
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Lets the tasks of a paused queue go on, within 5 seconds.
    Resume {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct TapArgs {
    /// Only these events: a topic pattern over `kind.queue.action`, such as `failed.#` or `*.bulk.#`; once for each.
    #[arg(long, value_name = "PATTERN")]
    pub(super) filter: Vec<String>,
    /// Where to begin: `next`, `first` (the oldest that is kept), or an offset.
    #[arg(long, default_value = "next")]
    pub(super) since: String,
    /// End after so many events.
    #[arg(long, value_name = "EVENTS")]
    pub(super) count: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(super) enum DbVerb {
    /// Brings the store's schema to this version. Safe to repeat, and to run on several hosts at once.
    Migrate,
}

#[derive(Debug, Subcommand)]
pub(super) enum BrokerVerb {
    /// Shows what the broker lacks or has otherwise; changes nothing.
    Plan,
    /// Makes the broker as it should be. Deletes nothing.
    Apply,
    /// Exit status 0 when the broker is as it should be, 1 with the differences otherwise.
    Check,
    /// Writes what the broker should be, as RabbitMQ's definitions file.
    Definitions,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Shows each setting, its value and where that came from. Passwords are masked.
    Show,
}

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Repair what is safe: release what runs without an owner, set missing timers, announce again, delete what
    /// nobody can use. Never ends a task that did not end, and never makes up an output.
    #[arg(long)]
    pub(super) fix: bool,
    /// Read the rows of final tasks as well, to see whether they can be read.
    #[arg(long)]
    pub(super) all: bool,
}
