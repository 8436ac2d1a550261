//! The actions that every executor has: `echo`, `sleep`, `fail`, `command`, `http` and `workflow`.

mod command;
mod echo;
mod fail;
pub mod http;
mod sleep;
pub mod workflow;

use std::sync::Arc;
use std::time::Duration;

pub use command::{Allowed, Command, CommandInput, CommandOutput};
pub use echo::Echo;
pub use fail::{Fail, FailInput};
pub use http::{Hosts, Http, HttpRights};
pub use sleep::{SLEEP_MAX, Sleep, SleepInput};
pub use workflow::Workflow;

use super::{Registry, Stop};
use crate::clock::Clock;
use crate::domain::Failure;

/// All built-in actions; `command` runs the programs that `allowed` names, `http` does what `rights` say.
///
/// ```
/// use longshore::action::builtin::{self, Allowed, HttpRights};
/// use longshore::clock::SystemClock;
///
/// let registry = builtin::registry(SystemClock::shared(), Allowed::none(), HttpRights::default());
/// let names: Vec<_> = registry.names().map(|name| name.as_str()).collect();
/// assert_eq!(names, ["command", "echo", "fail", "http", "sleep", "workflow"]);
/// ```
pub fn registry(clock: Arc<dyn Clock>, allowed: Allowed, rights: HttpRights) -> Registry {
    Registry::new()
        .with(Echo)
        .with(Sleep::new(Arc::clone(&clock)))
        .with(Fail)
        .with(Command::new(Arc::clone(&clock), allowed))
        .with(Http::new(clock, rights))
        .with(Workflow)
}

/// The duration of `seconds`, which `field` of the input says.
fn duration(field: &str, seconds: f64, max: Duration) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= max)
        .ok_or_else(|| {
            let max = max.as_secs();
            Failure::fatal(format!(
                "`{field}` is a number of seconds from 0 to {max}, not `{seconds}`"
            ))
        })
}

/// What remains of an attempt that was stopped. Another attempt may go through.
fn stopped(what: &str, stop: &Stop) -> Failure {
    match stop {
        Stop::Cancelled(reason) => Failure::retry(format!("{what} was cancelled: {reason}")),
        Stop::TimeLimit => Failure::retry(format!("{what} was stopped at the task's time limit")),
        Stop::LeaseEnds => Failure::retry(format!(
            "{what} was stopped because its executor's lease ends"
        )),
        Stop::Released => Failure::retry(format!("{what} was stopped because its executor stops")),
    }
}

#[cfg(test)]
mod tests;
