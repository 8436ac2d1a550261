//! One thing in full: names and what they say. A name that is empty goes on with the one before.

use super::model::{Events, Key, Model};
use super::words::{age, per_second};
use crate::domain::{ExecutorRecord, ExecutorState, Progress, Task, Why};
use crate::store::QueueOverview;

/// Letters of a payload that are shown.
const PAYLOAD_MAX: usize = 2_000;

/// Names and what they say.
pub(super) type Facts = Vec<(String, String)>;

fn fact(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// What is known of what is shown; `None` while it is asked for, or when it is gone.
pub(super) fn of(model: &Model, key: &Key, found: Option<&Facts>) -> Option<Facts> {
    match key {
        Key::Queue(name) => {
            let mut queues = model.queues().iter();
            let queue = queues.find(|one| one.name.as_str() == name)?;
            Some(of_queue(model, queue))
        }
        Key::Executor(id) => {
            let executor = model.executors().iter().find(|one| one.id == *id)?;
            Some(of_executor(model, executor))
        }
        Key::Task(_) | Key::Event(_) => found.cloned(),
    }
}

fn of_queue(model: &Model, queue: &QueueOverview) -> Facts {
    let mut facts = vec![
        fact("queue", queue.name.as_str()),
        fact("ready", queue.ready.to_string()),
        fact("running", queue.running.to_string()),
        fact("scheduled", queue.scheduled.to_string()),
        fact("blocked", queue.blocked.to_string()),
        fact("suspended", queue.suspended.to_string()),
        fact("paused", queue.paused.to_string()),
    ];
    if let Some(pause) = &queue.pause {
        let since = age(model.age(pause.at));
        let words = format!("by {} for {since}: `r` lets it go on", pause.by);
        facts.push(fact("queue paused", words));
    }
    if let Some(since) = queue.oldest_ready_at {
        facts.push(fact(
            "oldest",
            format!("ready for {}", age(model.age(since))),
        ));
    }
    for (seconds, name) in [(1, "last 1 s"), (10, "last 10 s"), (60, "last 60 s")] {
        let rates = model.queue_rates(queue.name.as_str());
        let rates = rates.filter(|_| !matches!(model.events, Events::Never(_)));
        if let Some(rate) = rates.and_then(|rates| rates.per_second(seconds)) {
            let [created, succeeded, failed, cancelled] =
                [rate.created, rate.succeeded, rate.failed, rate.cancelled].map(per_second);
            let words = format!(
                "{created} created, {succeeded} succeeded, {failed} failed, {cancelled} cancelled a second"
            );
            facts.push(fact(name, words));
        }
    }
    facts.push(fact("slots", model.slots(queue).to_string()));
    let serving = model
        .executors()
        .iter()
        .filter(|one| one.state == ExecutorState::Live && one.slots.contains_key(&queue.name));
    let mut name = "served by";
    for executor in serving {
        let slots = executor.slots.get(&queue.name).map_or(0, |slots| *slots);
        facts.push(fact(
            name,
            format!("{} on {} with {slots} slots", executor.name, executor.host),
        ));
        name = "";
    }
    if !name.is_empty() {
        facts.push(fact(name, "nobody: start an executor for it"));
    }
    facts
}

fn of_executor(model: &Model, executor: &ExecutorRecord) -> Facts {
    let state = match executor.state {
        ExecutorState::Lost => "lost: its tasks are taken over",
        ExecutorState::Live if model.is_draining(executor.id) => "live, asked to drain",
        ExecutorState::Live => "live",
    };
    let mut facts = vec![
        fact("executor", executor.name.as_str()),
        fact("id", executor.id.to_string()),
        fact("state", state),
        fact("host", executor.host.as_str()),
        fact("process", executor.pid.to_string()),
        fact("version", executor.version.as_str()),
        fact(
            "started",
            format!(
                "{:.0}, {} ago",
                executor.started_at,
                age(model.age(executor.started_at))
            ),
        ),
        fact("lease ends", format!("{:.0}", executor.lease_ends_at)),
        fact("running", model.busy(executor.id).to_string()),
    ];
    let mut name = "queues";
    for (queue, slots) in &executor.slots {
        facts.push(fact(name, format!("{queue}, {slots} slots")));
        name = "";
    }
    let mut name = "actions";
    for action in &executor.actions {
        facts.push(fact(name, action.as_str()));
        name = "";
    }
    let mut name = "tasks";
    for task in model
        .tasks()
        .iter()
        .filter(|task| task.executor == Some(executor.id))
    {
        let words = format!(
            "{} {} {} for {}",
            task.id,
            task.action,
            task.state,
            age(model.age(task.since))
        );
        facts.push(fact(name, words));
        name = "";
    }
    facts
}

/// What is known of a task, and why it is where it is.
pub(super) fn of_task(task: &Task, why: &Why) -> Facts {
    let mut facts = vec![fact("why", format!("{}: {}", task.state, why.verdict))];
    facts.extend(why.evidence.iter().map(|words| fact("", words.as_str())));
    let cut = |text: &str| {
        let mut shown: String = text.chars().take(PAYLOAD_MAX).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown
    };
    let labels: Vec<String> = task
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let time = |time: Option<jiff::Timestamp>| time.map(|time| format!("{time:.3}"));
    let more = [
        ("task", Some(task.id.to_string())),
        ("action", Some(task.action.to_string())),
        ("queue", Some(task.queue.to_string())),
        ("state", Some(task.state.to_string())),
        ("attempt", Some(task.attempt.to_string())),
        ("executor", task.executor.map(|id| id.to_string())),
        ("parent", task.parent.map(|id| id.to_string())),
        ("labels", (!labels.is_empty()).then(|| labels.join(" "))),
        ("progress", task.progress.as_ref().map(Progress::sentence)),
        ("created", time(Some(task.created_at))),
        ("run at", time(task.run_at)),
        ("started", time(task.started_at)),
        ("finished", time(task.finished_at)),
        (
            "error",
            task.error.as_ref().map(|error| cut(&error.message)),
        ),
        ("input", Some(cut(task.input.as_str()))),
        (
            "output",
            task.output.as_ref().map(|output| cut(output.as_str())),
        ),
    ];
    let more = more.into_iter();
    facts.extend(more.filter_map(|(name, value)| Some(fact(name, value?))));
    facts
}
