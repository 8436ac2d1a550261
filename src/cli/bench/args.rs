//! What can be typed after `bench`.

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(in crate::cli) struct BenchArgs {
    /// Delay what travels between our processes and store and broker, each way, by this much: from `1ms` to `1s`. Through
    /// a proxy of the benchmark; on average, because timers tick once a millisecond.
    #[arg(long, global = true, value_name = "DURATION")]
    pub(super) inject_latency: Option<String>,
    #[command(subcommand)]
    pub(super) scenario: Scenario,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Scenario {
    /// How fast one executor works off a backlog of `echo` tasks.
    #[command(
        after_help = "The rate counts from the first result to the last; everything else from the start of the executor.\n\
        Example: longshore bench drain --tasks 100000 --slots 1000 -o json"
    )]
    Drain(DrainArgs),
    /// How many tasks a second are submitted, run and settled together, and how long one takes.
    ///
    /// So many tasks are kept in flight: the next one is submitted when one has ended. A task takes from the call that
    /// submits it to the event of its result.
    #[command(
        after_help = "Examples:\n  longshore bench sustained --seconds 30\n  longshore bench sustained --http --in-flight 128"
    )]
    Sustained(SustainedArgs),
    /// How long the caller waits for the result of one task, at rest or while other tasks run.
    ///
    /// Through HTTP it is `Prefer: wait`, through the library `submit_and_wait`. At rest one request follows the other;
    /// under load one is sent every 20 ms, whether the one before was answered or not.
    #[command(
        after_help = "Examples:\n  longshore bench latency\n  longshore bench latency --library --rate 4000\n  longshore bench latency --load 50"
    )]
    Latency(LatencyArgs),
    /// How fast the sub-tasks of one task are worked off, beside as many tasks that are submitted one by one.
    #[command(
        after_help = "`share` is the rate of the sub-tasks by that of the tasks one by one, both with their submission.\n\
        Example: longshore bench fanout --tasks 1000 --limit 10"
    )]
    Fanout(FanoutArgs),
    /// What tasks cost that wait for a signal, and how fast one of them is woken.
    #[command(
        after_help = "`rss_growth_kib_per_10k` is what the memory of the executor's process grew by for 10,000 suspended tasks. With the \
        embedded broker that is this process, the client's part included.\nExample: longshore bench suspend --tasks 100000"
    )]
    Suspend(SuspendArgs),
    /// What executors cost that have nothing to do: transactions of the store and messages of the broker, a minute.
    #[command(
        after_help = "Each executor is a process and needs some connections to the store; with `--in-process` they share \
        those of one process.\nExample: longshore bench idle --executors 10"
    )]
    Idle(IdleArgs),
    /// How long it takes until the tasks of an executor that was killed run elsewhere, and how many run twice in vain.
    ///
    /// In each round two executors run tasks that sleep; one is ended with `kill -9`, and what it ran is looked for.
    #[command(after_help = "Example: longshore bench takeover --rounds 20 --tasks 8")]
    Takeover(TakeoverArgs),
    /// How fast one client gets tasks accepted: one by one, with some in flight, and in batches.
    #[command(
        after_help = "Nobody runs what is submitted; it is cancelled at the end.\nExample: longshore bench submit --tasks 50000"
    )]
    Submit(SubmitArgs),
    /// How long an executor takes from its start to the end of its first task.
    #[command(after_help = "Example: longshore bench start --rounds 20")]
    Start(StartArgs),
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct DrainArgs {
    /// How many tasks.
    #[arg(long, default_value_t = 20_000)]
    pub(super) tasks: usize,
    /// Slots of the executor.
    #[arg(long, default_value_t = 64)]
    pub(super) slots: u16,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct SustainedArgs {
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    pub(super) seconds: f64,
    /// Tasks in flight at once.
    #[arg(long, value_name = "TASKS", default_value_t = 512)]
    pub(super) in_flight: usize,
    /// Submit through a web server, one task a request on connections that are kept, instead of through the library.
    #[arg(long)]
    pub(super) http: bool,
    /// Listen to the events by a tap, instead of waiting for each result as a caller does. The tap costs the broker a
    /// message for each task.
    #[arg(long)]
    pub(super) events: bool,
    /// Slots of the executor.
    #[arg(long, default_value_t = 512)]
    pub(super) slots: u16,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct LatencyArgs {
    /// How many tasks are waited for.
    #[arg(long, default_value_t = 500)]
    pub(super) tasks: usize,
    /// Slots of the executor.
    #[arg(long, default_value_t = 64)]
    pub(super) slots: u16,
    /// Through the library instead of HTTP.
    #[arg(long)]
    pub(super) library: bool,
    /// Submit so many other tasks a second meanwhile, evenly and whether they end or not.
    #[arg(long, value_name = "TASKS_PER_S", conflicts_with = "load")]
    pub(super) rate: Option<u32>,
    /// The same at so many percent of the rate that a short `sustained` reaches first.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) load: Option<u32>,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct FanoutArgs {
    /// How many sub-tasks, at most 100000.
    #[arg(long, default_value_t = 10_000)]
    pub(super) tasks: u32,
    /// How many of them may be in flight at once [default: all].
    #[arg(long, value_name = "TASKS", alias = "in-flight")]
    pub(super) limit: Option<u32>,
    /// Slots of the executor.
    #[arg(long, default_value_t = 64)]
    pub(super) slots: u16,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct SuspendArgs {
    /// How many tasks, at least 100.
    #[arg(long, default_value_t = 10_000)]
    pub(super) tasks: usize,
    /// Slots of the executor.
    #[arg(long, default_value_t = 64)]
    pub(super) slots: u16,
    /// Be the executor whose memory is measured, until told to stop: the benchmark starts itself so.
    #[arg(long, hide = true)]
    pub(super) serve: bool,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct IdleArgs {
    /// How many executors.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) executors: u16,
    /// How long is counted.
    #[arg(long, default_value_t = 60.0)]
    pub(super) seconds: f64,
    /// Seconds after the last executor has started that are not counted. For 40 s after each change of its connection to the
    /// broker an executor renews its lease in haste.
    #[arg(long, value_name = "SECONDS", default_value_t = 50.0)]
    pub(super) warm_up: f64,
    /// All executors in this process, on connections that they share.
    #[arg(long)]
    pub(super) in_process: bool,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct TakeoverArgs {
    /// How many executors are killed, each with two executors that were just started.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) rounds: u16,
    /// Tasks of a round, at least 2; either executor could run all of them.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub(super) tasks: u16,
    /// Seconds that both executors run before one is killed. One that was just started waits for 5 s before it judges others.
    #[arg(long, value_name = "SECONDS", default_value_t = 6.0)]
    pub(super) warm_up: f64,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct SubmitArgs {
    /// How many tasks are submitted with some in flight, and in batches; one by one a tenth of it.
    #[arg(long, default_value_t = 20_000)]
    pub(super) tasks: usize,
    /// Submissions in flight at once.
    #[arg(long, value_name = "TASKS", default_value_t = 256)]
    pub(super) in_flight: usize,
    /// Tasks of a batch.
    #[arg(long, value_name = "TASKS", default_value_t = 500)]
    pub(super) batch: usize,
}

#[derive(Debug, Args, Clone, Copy)]
pub(in crate::cli) struct StartArgs {
    /// How many executors are started, one after the other.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) rounds: u16,
}
