//! One attempt: run the action, decide what its end means, store that, say it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::host::AttemptHost;
use super::lease::FENCE_GRACE;
use super::running::Running;
use super::{STOP_GRACE, Shared, trial};
use crate::action::durable::{Changes, Drive, Driven};
use crate::action::{Context, Host, Stop};
use crate::clock::{Pauses, passed};
use crate::domain::{
    Attempt, Ending, Failure, FanOutPlace, Settlement, Task, TaskFacts, TaskState,
    ending_of_failure, ending_of_loss,
};
use crate::store::Settled;
use crate::wire::EventKind;

/// What came of running an action.
pub(super) enum Finished {
    /// It has ended, or waits.
    Driven(Driven),
    /// It was dropped, or never begun.
    Dropped,
    /// What is stored of it cannot be read, so it cannot go on, and must not begin again.
    Unreadable(Failure),
}

/// An attempt whose action has ended, and whose end is not stored yet.
#[must_use = "it is nobody's until its end is stored"]
pub(super) struct Over {
    facts: TaskFacts,
    ending: Ending,
    fan_out: Option<FanOutPlace>,
    /// It still runs, for whoever asks.
    running: Running,
}

/// Runs a claimed task to the end of this attempt. When it returns, the end is stored, or somebody else owns
/// the task.
pub(super) async fn run(shared: &Arc<Shared>, task: Task) {
    let over = act(shared, task).await;
    store(shared, over).await;
}

/// Runs the action of a claimed task. What it came to is to be stored next.
pub(super) async fn act(shared: &Arc<Shared>, task: Task) -> Over {
    let facts = task.facts();
    let task = Arc::new(task);
    let running = shared.running.enter(&task);
    let limit = time_limit(&task);
    let over = limit.map(TimeLimit::after);
    let result = if running.stop().borrow().is_some() {
        Finished::Dropped // It may not begin any more.
    } else if task.is_suspect() {
        trial::run(shared, &task, &running, limit).await
    } else {
        until_it_ends(shared, &task, &running, over).await
    };
    let stop = running.stop().borrow().clone();
    let ending = ending(shared, &task, result, stop, limit);
    Over {
        facts,
        ending,
        fan_out: task.fan_out.clone(),
        running,
    }
}

/// What the attempt came to. Its action has ended with `result`, or was asked to `stop`.
fn ending(
    shared: &Shared,
    task: &Task,
    result: Finished,
    stop: Option<Stop>,
    limit: Option<TimeLimit>,
) -> Ending {
    let (options, failures) = (&task.options, task.failures + 1);
    match (result, stop) {
        (
            Finished::Driven(Driven::Suspended {
                waiting_for,
                wakes_at,
            }),
            None,
        ) => Ending::Suspended {
            waiting_for,
            wakes_at,
        },
        (Finished::Driven(Driven::Ended(Ok(output))), _) => match output.within(shared.limits) {
            Ok(output) => Ending::Succeeded(output),
            Err(error) => {
                let failure = Failure::fatal(format!("the output is refused: {error}"));
                ending_of_failure(options, failures, failure, 0.0)
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
            ending_of_loss(options, Failure::fatal(cause))
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
                ending_of_failure(options, failures, failure, shared.clock.chance())
            }
            None => Ending::Released,
        },
        (Finished::Unreadable(failure), None) => Ending::Paused(failure),
        (Finished::Driven(Driven::Ended(Err(failure))), None) => {
            ending_of_failure(options, failures, failure, shared.clock.chance())
        }
        (Finished::Dropped, None) => Ending::Released, // Its action is not known here any more.
    }
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
            failure = host.unreadable() => Finished::Unreadable(failure),
            () = said(&host) => Finished::Dropped, // Never: it goes on for as long as there is a host.
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
        Ok(Some(future)) => future,
        Ok(None) => return Finished::Dropped,
        Err(panic) => return Finished::Driven(Driven::Ended(Err(panicked(panic.as_ref())))),
    };
    let caught = AssertUnwindSafe(future)
        .catch_unwind()
        .map(|result| result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
    let journal = stopped.journal();
    running.begun(journal);
    let mut future = Drive::new(Box::pin(caught), Arc::clone(journal));
    let over = pass(shared, limit);
    tokio::select! {
        biased;
        driven = &mut future => return Finished::Driven(told_of_changes(&stopped, driven).await),
        () = over => running.ask(Stop::TimeLimit),
        _ = stopped.stopped() => {}
    }
    journal.stop();
    let grace = match *running.stop().borrow() {
        Some(Stop::LeaseEnds) => FENCE_GRACE,
        _ => STOP_GRACE,
    };
    tokio::select! {
        biased;
        driven = &mut future => Finished::Driven(driven),
        () = shared.clock.sleep(grace) => Finished::Dropped,
    }
}

/// Says in the task's log how the code of an action that has ended differs from the one whose steps are stored.
async fn told_of_changes(context: &Context, driven: Driven) -> Driven {
    let Changes {
        mut not_asked_for,
        out_of_order,
    } = match &driven {
        Driven::Ended(_) => context.journal().changes(),
        Driven::Suspended { .. } => return driven,
    };
    if matches!(driven, Driven::Ended(Err(_))) {
        not_asked_for.clear(); // It may have failed before it came to them.
    }
    let findings = [
        (
            not_asked_for,
            "stored steps were not asked for, and are passed over",
            "what was only renamed has run again: keep the names of steps",
        ),
        (
            out_of_order,
            "stored steps were asked for in another order",
            "what depends on the order may now be decided otherwise: add new steps behind those that may be stored",
        ),
    ];
    for (names, what, advice) in findings {
        if names.is_empty() {
            continue;
        }
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let names = names.join(", ");
        let task = context.task();
        let line = format!(
            "{what}: {names}. The code of `{}` has changed since they ran. If that was not meant: {advice}, or let tasks that \
             began with the former code end with it, by giving the new code a name of its own",
            task.action
        );
        tracing::warn!(task.id = %task.id, "Task `{}`: {line}", task.id);
        context.log(format!("-- {line} --")).await;
    }
    driven
}

/// Waits until the limit is over, if there is one.
pub(super) async fn pass(shared: &Arc<Shared>, limit: Option<Duration>) {
    passed(limit.map(|limit| shared.clock.sleep(limit)).as_mut()).await;
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

/// Stores the end of an attempt, for as long as it takes, and says it: nobody else can know it.
pub(super) async fn store(shared: &Arc<Shared>, over: Over) {
    let Over {
        facts,
        ending,
        fan_out,
        running: _running,
    } = over;
    let ready_as = match &ending {
        Ending::Suspended { .. } => EventKind::Woken,
        Ending::Succeeded(_)
        | Ending::Failed(_)
        | Ending::Paused(_)
        | Ending::RetryPlanned { .. }
        | Ending::Cancelled(_)
        | Ending::Released => EventKind::Released,
    };
    let mut pauses = Pauses::new(&shared.clock);
    let settlement = Settlement {
        task: facts.id,
        attempt: facts.attempt,
        ending,
        fan_out,
    };
    if let Ending::Suspended {
        wakes_at: Some(wakes_at),
        ..
    } = settlement.ending
    {
        shared.tell_of_timer(wakes_at);
    }
    let id = facts.id;
    let mut is_in_doubt = false;
    loop {
        match shared.group.settle(shared.id, settlement.clone()).await {
            Ok(Settled::Stored { state, ready, .. }) => {
                for woken in ready.iter().filter(|woken| woken.id != id) {
                    shared.outgoing.announce(EventKind::Woken, woken).await;
                }
                let parent = settlement.fan_out.as_ref().map(|place| place.parent);
                if let Some(parent) = parent.filter(|_| state.is_final()) {
                    shared.running.nudge(parent); // If it runs here it need not look for itself.
                }
                return report(shared, facts, state, ready_as).await;
            }
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
            park(shared, &task, own).await;
        }
        Ok(Some(task)) if is_left(shared, &task) => {
            // Counted on by hand, or claimed once more with the answer lost: nobody else would find it.
            tracing::warn!(task.id = %id, task.attempt = %own,
                "The end of attempt {own} of task `{id}` is not stored: its row says that attempt {} runs here",
                task.attempt);
            shared.doubt.notify_one();
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

/// Whether the row says that an attempt runs here of which nobody here knows.
fn is_left(shared: &Shared, task: &Task) -> bool {
    task.state == TaskState::Running
        && task.executor == Some(shared.id)
        && !shared.running.runs(task)
}

/// Pauses a task whose row has counted back, for an operator to see: run again it would do everything twice, and left alone
/// it would run for ever.
async fn park(shared: &Arc<Shared>, task: &Task, own: Attempt) {
    if !is_left(shared, task) {
        return;
    }
    let words = format!(
        "attempt {own} has ended, and the row has counted to {} only: somebody has changed it by hand",
        task.attempt
    );
    let settlement = Settlement {
        task: task.id,
        attempt: task.attempt,
        ending: Ending::Paused(Failure::fatal(words)),
        fan_out: task.fan_out.clone(),
    };
    match shared.group.settle(shared.id, settlement).await {
        Ok(Settled::Stored { state, .. }) => {
            report(shared, task.facts(), state, EventKind::Released).await;
        }
        Ok(Settled::Stale) => {} // Changed once more: no longer ours.
        Err(error) => {
            // It is released when this executor leaves.
            tracing::error!(task.id = %task.id, error = %error, "Task `{}` could not be paused", task.id);
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
        report(shared, facts.clone(), task.state, EventKind::Released).await;
        return true;
    }
    false
}

/// Says what is committed: to whoever waits, or to whoever goes on.
async fn report(shared: &Arc<Shared>, facts: TaskFacts, state: TaskState, ready_as: EventKind) {
    let facts = TaskFacts { state, ..facts };
    match state {
        TaskState::Ready => shared.outgoing.announce(ready_as, &facts).await,
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
