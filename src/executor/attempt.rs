//! One attempt: run the action, decide what its end means, store that, say it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::host::AttemptHost;
use super::lease::FENCE_GRACE;
use super::running::Running;
use super::{STOP_GRACE, Shared, trial};
use crate::action::{Context, Host, Stop};
use crate::clock::Pauses;
use crate::domain::{
    Ending, Failure, Payload, Settlement, Task, TaskFacts, TaskState, ending_of_failure,
    ending_of_loss,
};
use crate::store::Settled;
use crate::wire::EventKind;

/// What an action's future came to: its result, or `None` when it was dropped.
pub(super) type Finished = Option<Result<Payload, Failure>>;

/// Runs a claimed task to the end of this attempt. When it returns, the end is stored, or somebody else owns
/// the task.
pub(super) async fn run(shared: &Arc<Shared>, task: Task) {
    let facts = task.facts();
    let options = task.options;
    let failures = task.failures + 1;
    let task = Arc::new(task);
    let running = shared.running.enter(&task);
    let limit = time_limit(&task);
    let over = limit.map(TimeLimit::after);
    let result = if running.stop().borrow().is_some() {
        None // It may not begin any more.
    } else if task.is_suspect() {
        trial::run(shared, &task, &running, limit).await
    } else {
        until_it_ends(shared, &task, &running, over).await
    };
    let stop = running.stop().borrow().clone();
    let ending = match (result, stop) {
        (Some(Ok(output)), _) => match output.within(shared.limits) {
            Ok(output) => Ending::Succeeded(output),
            Err(error) => {
                let failure = Failure::fatal(format!("the output is refused: {error}"));
                ending_of_failure(&options, failures, failure, 0.0)
            }
        },
        (_, Some(Stop::Cancelled(reason))) => Ending::Cancelled(Failure::fatal(reason)),
        (_, Some(stop @ (Stop::Released | Stop::LeaseEnds))) => {
            let name = &shared.record.name;
            let what = if stop == Stop::Released {
                "stopped"
            } else {
                "could not renew its lease"
            };
            let cause = format!(
                "the executor `{name}` {what} while it ran the task, whose delivery is `once`"
            );
            ending_of_loss(&options, Failure::fatal(cause))
        }
        (_, Some(Stop::TimeLimit)) => match limit {
            Some(TimeLimit::Deadline(_)) => {
                Ending::Failed(Failure::fatal("the deadline of the task passed"))
            }
            Some(TimeLimit::Timeout(limit)) => {
                let failure = Failure::retry(format!(
                    "the time limit of {} s is over",
                    limit.as_secs_f64()
                ));
                ending_of_failure(&options, failures, failure, shared.clock.chance())
            }
            None => Ending::Released,
        },
        (Some(Err(failure)), None) => {
            ending_of_failure(&options, failures, failure, shared.clock.chance())
        }
        (None, None) => Ending::Released, // Its action is not known here any more.
    };
    settle(shared, facts, ending).await;
}

#[derive(Debug, Clone, Copy)]
pub(super) enum TimeLimit {
    Timeout(Duration),
    Deadline(Duration),
}

impl TimeLimit {
    pub(super) fn after(self) -> Duration {
        match self {
            Self::Timeout(limit) | Self::Deadline(limit) => limit,
        }
    }
}

/// The nearer of the attempt's time limit and the task's deadline. Both times are the store's, so no two clocks
/// are compared.
fn time_limit(task: &Task) -> Option<TimeLimit> {
    let timeout = task.options.timeout.map(TimeLimit::Timeout);
    let left = task
        .deadline
        .zip(task.started_at)
        .map(|(deadline, started)| {
            TimeLimit::Deadline(
                Duration::try_from(deadline.duration_since(started)).unwrap_or(Duration::ZERO),
            )
        });
    [timeout, left]
        .into_iter()
        .flatten()
        .min_by_key(|limit| limit.after())
}

pub(super) async fn until_it_ends(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    running: &Running,
    limit: Option<Duration>,
) -> Finished {
    let host = Arc::new(AttemptHost::new(Arc::clone(shared), Arc::clone(task)));
    let finished = {
        let action = carry_out(shared, task, running, limit, &host);
        tokio::select! {
            biased;
            finished = action => finished,
            () = said(&host) => None, // Never: it goes on for as long as there is a host.
        }
    };
    host.progress().finish().await;
    finished
}

/// Stores what the action says of its progress, and never ends.
async fn said(host: &AttemptHost) {
    host.progress().carry().await;
    std::future::pending::<()>().await;
}

async fn carry_out(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    running: &Running,
    limit: Option<Duration>,
    host: &Arc<AttemptHost>,
) -> Finished {
    let host: Arc<dyn Host> = Arc::<AttemptHost>::clone(host);
    let context = Context::new(Arc::clone(task), host, running.stop());
    let stopped = context.clone();
    // What runs before the first await is the action's own code as well, and may panic.
    let begun = std::panic::catch_unwind(AssertUnwindSafe(|| {
        shared
            .registry
            .begin(&task.action, context, task.input.clone())
    }));
    let future = match begun {
        Ok(future) => future?,
        Err(panic) => return Some(Err(panicked(panic.as_ref()))),
    };
    let mut future = AssertUnwindSafe(future).catch_unwind();
    let over = pass(shared, limit);
    tokio::select! {
        biased;
        result = &mut future => return Some(result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))),
        () = over => running.ask(Stop::TimeLimit),
        _ = stopped.stopped() => {}
    }
    let grace = match *running.stop().borrow() {
        Some(Stop::LeaseEnds) => FENCE_GRACE,
        _ => STOP_GRACE,
    };
    tokio::select! {
        biased;
        result = &mut future => Some(result.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))),
        () = shared.clock.sleep(grace) => None,
    }
}

/// Waits until the limit is over, if there is one.
pub(super) async fn pass(shared: &Arc<Shared>, limit: Option<Duration>) {
    match limit {
        Some(limit) => shared.clock.sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    Failure::retry(format!(
        "the action panicked: {}",
        words.as_deref().unwrap_or("without a message")
    ))
}

/// Stores the end of an attempt, for as long as it takes: nobody else can know it.
async fn settle(shared: &Arc<Shared>, facts: TaskFacts, ending: Ending) {
    let mut pauses = Pauses::new(&shared.clock);
    let settlement = Settlement {
        task: facts.id,
        attempt: facts.attempt,
        ending,
    };
    let id = facts.id;
    let mut is_in_doubt = false;
    loop {
        match shared.group.settle(shared.id, settlement.clone()).await {
            Ok(Settled::Stored { state, .. }) => return report(shared, facts, state).await,
            Ok(Settled::Stale) if is_in_doubt && was_stored(shared, &facts).await => return,
            Ok(Settled::Stale) => return tell_stale(shared, &facts).await,
            Err(error) => {
                if error.is_transient() {
                    tracing::debug!(task.id = %id, error = %error, "The end of task `{id}` is not stored yet");
                } else {
                    // Nobody else can know how it ended, so it is tried for as long as this executor lives.
                    tracing::error!(task.id = %id, error = %error, "The end of task `{id}` cannot be stored; trying again");
                }
                is_in_doubt = true;
                shared.clock.sleep(pauses.next()).await;
            }
        }
    }
}

/// Says that the end of this attempt was not stored, with both tokens.
async fn tell_stale(shared: &Arc<Shared>, facts: &TaskFacts) {
    let (id, own) = (facts.id, facts.attempt);
    match shared.group.look(id).await {
        Ok(Some(task)) if own > task.attempt => {
            tracing::error!(task.id = %id, task.attempt = %own,
                "The end of attempt {own} of task `{id}` is not stored: its row has counted to {} only, so somebody has \
                 changed it by hand", task.attempt);
        }
        Ok(Some(task)) => {
            tracing::info!(task.id = %id, task.attempt = %own,
                "The end of attempt {own} of task `{id}` came too late: it is `{}` with attempt {} now",
                task.state, task.attempt);
        }
        Ok(None) | Err(_) => {
            tracing::info!(task.id = %id, task.attempt = %own,
                "The end of attempt {own} of task `{id}` came too late: it is nobody's or somebody else's now");
        }
    }
}

/// Whether the end of this attempt was stored before, and only the answer lost: then it is reported now.
async fn was_stored(shared: &Arc<Shared>, facts: &TaskFacts) -> bool {
    let Ok(Some(task)) = shared.group.look(facts.id).await else {
        return false;
    };
    let is_ours = task.attempt == facts.attempt && task.executor == Some(shared.id);
    if is_ours && task.state != TaskState::Running {
        report(shared, facts.clone(), task.state).await;
        return true;
    }
    false
}

/// Says what is committed: to whoever waits, or to whoever goes on.
async fn report(shared: &Arc<Shared>, facts: TaskFacts, state: TaskState) {
    let facts = TaskFacts { state, ..facts };
    match state {
        TaskState::Ready => shared.outgoing.announce(EventKind::Released, &facts).await,
        TaskState::Scheduled => {
            shared.outgoing.report(facts);
            shared.scheduled.notify_one();
        }
        TaskState::Blocked
        | TaskState::Running
        | TaskState::Suspended
        | TaskState::Paused
        | TaskState::Succeeded
        | TaskState::Failed
        | TaskState::Cancelled => shared.outgoing.report(facts),
    }
}
