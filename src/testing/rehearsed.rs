//! What a rehearsal came to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::error::RehearsalError;
use super::world::{Kept, World};
use crate::domain::{
    ActionName, Failure, Payload, Step, StepKind, StepName, StepOutcome, StepProgress, Task,
    TaskState,
};

/// What a rehearsal came to.
#[derive(Debug, Clone)]
pub struct Rehearsed {
    /// What the action returned, or why the task failed.
    pub result: Result<Payload, Failure>,
    /// How many attempts the task has taken: one, and one for each wait, retry and crash.
    pub attempts: u32,
    /// The steps that are stored, in the order in which they ended; then those that have not ended, by their names.
    pub steps: Vec<Step>,
    /// The sub-tasks, and theirs, in the order in which they were made.
    pub subtasks: Vec<RehearsedSubtask>,
    /// What the action has written to the task's log, in all attempts.
    pub log: String,
    /// How much time has passed on the rehearsal's clock.
    pub elapsed: Duration,
    /// How often the code of each step ran.
    pub runs: BTreeMap<StepName, u32>,
    /// The steps that are stored, and that the last attempt did not ask for. Empty for an action that decides the same
    /// again in each attempt, unless it failed before it came to them.
    pub not_asked_for: BTreeSet<StepName>,
}

/// A sub-task of a rehearsal.
#[derive(Debug, Clone)]
pub struct RehearsedSubtask {
    /// The name that it was spawned by.
    pub spawned_as: Option<StepName>,
    /// What it runs.
    pub action: ActionName,
    /// What it was given.
    pub input: Payload,
    /// Where it stood at the end: one that outlives its parent may not have run.
    pub state: TaskState,
    /// What it returned, or why there is nothing; `None` for one that has not ended.
    pub result: Option<Result<Payload, Failure>>,
    /// As [`Rehearsed::not_asked_for`].
    pub not_asked_for: BTreeSet<StepName>,
}

impl Rehearsed {
    /// What the action returned.
    ///
    /// # Errors
    ///
    /// [`RehearsalError::Failed`] when the task failed, and [`RehearsalError::Output`] when the output is not a `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Result<T, RehearsalError> {
        let output = self.result.as_ref();
        let output = output.map_err(|failure| RehearsalError::Failed(failure.clone()))?;
        output.decode().map_err(|source| RehearsalError::Output {
            output: output.as_str().to_owned(),
            source,
        })
    }

    /// What the step `name` came to; `None` when it has not ended.
    pub fn outcome(&self, name: &str) -> Option<&StepOutcome> {
        let step = self.steps.iter().find(|step| step.name.as_str() == name)?;
        match &step.progress {
            StepProgress::Ended { outcome, .. } => Some(outcome),
            StepProgress::Waiting { .. } => None,
        }
    }

    /// How often the code of the step `name` ran.
    pub fn runs(&self, name: &str) -> u32 {
        let mut runs = self.runs.iter();
        runs.find(|(step, _)| step.as_str() == name)
            .map_or(0, |(_, runs)| *runs)
    }

    /// What is left of `world`, whose first task has ended.
    pub(super) fn of(world: &World) -> Option<Self> {
        let root = world.tasks.get(&world.root)?;
        let others = world.order.iter().filter(|id| **id != world.root);
        let mut steps: Vec<Step> = root.steps.values().cloned().collect();
        steps.sort_by_key(|step| match step.progress {
            StepProgress::Ended { place, .. } => place,
            StepProgress::Waiting { .. } => u32::MAX,
        });
        let elapsed = world.now.duration_since(world.started_at);
        Some(Self {
            result: result_of(&root.task)?,
            attempts: root.task.attempt.0,
            steps,
            subtasks: others
                .filter_map(|id| world.tasks.get(id))
                .map(RehearsedSubtask::of)
                .collect(),
            log: root.log.clone(),
            elapsed: Duration::try_from(elapsed).unwrap_or(Duration::ZERO),
            runs: root.runs.clone(),
            not_asked_for: root.not_asked_for.clone(),
        })
    }

    /// Whether a crash made no difference. The failure of a join counts how many sub-tasks have failed, and those that the
    /// join itself has cancelled before the crash are among them afterwards: of such a failure only the step is compared.
    pub(super) fn is_same_result(&self, other: &Self) -> bool {
        let is_of_join = |failure: &Failure| {
            let mut joins = self.steps.iter().filter(|step| step.kind == StepKind::Join);
            joins.any(|join| Some(&join.name) == failure.step.as_ref())
        };
        match (&self.result, &other.result) {
            (Ok(own), Ok(other)) => own.is_same_value(other),
            (Err(own), Err(other)) => {
                own.step == other.step
                    && own.is_retryable() == other.is_retryable()
                    && (own.message == other.message || is_of_join(own))
            }
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        }
    }

    pub(super) fn result_words(&self) -> String {
        match &self.result {
            Ok(output) => format!("the action returned `{}`", output.as_str()),
            Err(failure) => format!("the action failed with \"{}\"", failure.message),
        }
    }

    /// The steps, also of sub-tasks, that are stored and were not asked for.
    pub(super) fn all_not_asked_for(&self) -> BTreeSet<&StepName> {
        let below = self.subtasks.iter().flat_map(|one| &one.not_asked_for);
        self.not_asked_for.iter().chain(below).collect()
    }

    /// The sub-tasks in words, sorted.
    pub(super) fn spawned(&self) -> Vec<String> {
        let words =
            |one: &RehearsedSubtask| format!("`{}` of `{}`", one.action, one.input.as_str());
        let mut spawned: Vec<String> = self.subtasks.iter().map(words).collect();
        spawned.sort();
        spawned
    }
}

impl RehearsedSubtask {
    fn of(kept: &Kept) -> Self {
        let task = &kept.task;
        Self {
            spawned_as: task.fan_out.as_ref().map(|place| place.name.clone()),
            action: task.action.clone(),
            input: task.input.clone(),
            state: task.state,
            result: result_of(task),
            not_asked_for: kept.not_asked_for.clone(),
        }
    }
}

/// What a task that has ended came to.
fn result_of(task: &Task) -> Option<Result<Payload, Failure>> {
    if !task.state.is_final() {
        return None;
    }
    match (&task.output, &task.error) {
        (Some(output), _) => Some(Ok(output.clone())),
        (None, Some(failure)) => Some(Err(failure.clone())),
        (None, None) => None,
    }
}
