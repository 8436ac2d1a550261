//! The command line: noun, then verb. stdout is data, stderr is for people.

mod args;
mod audit;
mod bench;
mod broker;
mod complaint;
mod condition;
mod config;
mod db;
mod demo;
mod dev;
mod doctor;
mod executor;
mod logs;
mod output;
mod process;
mod queue;
mod schedule;
mod session;
mod shutdown;
mod status;
mod submission;
mod tap;
mod task;
mod top;
mod verbs;
mod web;
mod workflow;

use std::ffi::OsString;

use clap::Parser;

use args::{Cli, Command};
use complaint::Complaint;
use output::Output;
pub use status::ExitStatus;

/// Runs the command that `args` say, the program's name first, and answers with how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitStatus {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Where clap cannot write either, there is nobody to tell.
            drop(error.print());
            return if error.use_stderr() {
                ExitStatus::Usage
            } else {
                ExitStatus::Done
            };
        }
    };
    let output = Output::new(cli.common.output);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output.complain(&Complaint::from(error));
            return ExitStatus::Failed;
        }
    };
    crate::broker::install_tls();
    let ended = runtime.block_on(Box::pin(carry_out(cli, output)));
    silence_connections();
    // User code that blocks must not hold the process up: its task is given back already.
    runtime.shutdown_background();
    ended.unwrap_or_else(|complaint| {
        output.complain(&complaint);
        complaint.status()
    })
}

/// A connection that lapin is still trying to make panics in its own thread when the process ends under it. Nothing is
/// lost by that, and it is no news for people.
fn silence_connections() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() != Some("lapin-io-loop") {
            tell(panic);
        }
    }));
}

async fn carry_out(cli: Cli, output: Output) -> Result<ExitStatus, Complaint> {
    let Cli { common, command } = cli;
    match command {
        Command::Demo => demo::run(&common, output).await,
        Command::Dev(args) => dev::run(&common, args, output).await,
        Command::Web(args) => web::run(&common, &args, output).await,
        Command::Executor(args) => executor::run(&common, args, output).await,
        Command::Task { verb } => Box::pin(task::run(&common, verb, output)).await,
        Command::Workflow { verb } => Box::pin(workflow::run(&common, verb, output)).await,
        Command::Queue { verb } => queue::run(&common, verb, output).await,
        Command::Schedule { verb } => Box::pin(schedule::run(&common, verb, output)).await,
        Command::Tap(args) => tap::run(&common, args, output).await,
        Command::Top(args) => Box::pin(top::run(&common, &args, output)).await,
        Command::Db { verb } => db::run(&common, verb, output).await,
        Command::Broker { verb } => broker::run(&common, verb, output).await,
        Command::Config { verb } => config::run(&common, &verb, output),
        Command::Audit(args) => audit::run(&common, &args, output).await,
        Command::Doctor => doctor::run(&common, output).await,
        Command::Bench(args) => Box::pin(bench::run(&common, args, output)).await,
    }
}
