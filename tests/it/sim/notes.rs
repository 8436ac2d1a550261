//! What is noted of the answers of the store: for the model, and for people.

use longshore::domain::{ExecutorId, NewTask, Task, TaskId};
use longshore::store::{Below, Submitted, TakenOver};

use super::hub::Hub;

fn ids(tasks: &[Task]) -> impl Iterator<Item = TaskId> {
    tasks.iter().map(|task| task.id)
}

pub(super) fn claimed(hub: &Hub, executor: ExecutorId, tasks: &[Task]) -> Option<String> {
    hub.model().claimed(hub.now(), executor, tasks);
    (!tasks.is_empty()).then(|| hub.names(ids(tasks)))
}

pub(super) fn submitted(hub: &Hub, tasks: &[NewTask], answers: &[Submitted]) -> String {
    hub.model().act("submit", None);
    let answers = tasks.iter().zip(answers);
    let words = answers.map(|(task, answer)| match answer {
        Submitted::Stored(facts) => format!("{} {}", hub.name(task.id), facts.state),
        Submitted::Known(_) => format!("{} known", hub.name(task.id)),
        Submitted::Refused(refusal) => format!("{} {refusal}", hub.name(task.id)),
    });
    words.collect::<Vec<_>>().join(", ")
}

pub(super) fn taken(hub: &Hub, taken: &TakenOver) -> Option<String> {
    let all = taken.released.iter().chain(&taken.ended);
    let all: Vec<_> = all.chain(&taken.cancelled).collect();
    hub.model()
        .ended(all.iter().map(|facts| (facts.id, facts.state)));
    if all.is_empty() && taken.lost.is_empty() {
        return None;
    }
    let lost = taken.lost.len();
    let words = all
        .iter()
        .map(|facts| format!("{} {}", hub.name(facts.id), facts.state));
    Some(format!(
        "lost {lost}; {}",
        words.collect::<Vec<_>>().join(", ")
    ))
}

pub(super) fn below(hub: &Hub, below: &Below) -> Option<String> {
    hub.model().act("below", None);
    let cancelled = &below.cancelled;
    hub.model()
        .ended(cancelled.iter().map(|facts| (facts.id, facts.state)));
    (!cancelled.is_empty() || !below.running.is_empty()).then(|| {
        let names = hub.names(cancelled.iter().map(|facts| facts.id));
        format!("{names} cancelled, {} run", below.running.len())
    })
}
