//! Tasks and their sub-tasks in memory: how they are made, how they end, and what that means for each other.

use super::world::{Kept, World, later};
use crate::action::{SpawnBatch, SpawnedAs};
use crate::domain::{
    Ending, Failure, FanOut, FanOutPlace, Payload, PayloadLimits, Step, StepKind, StepName,
    StepOutcome, StepProgress, Submission, Task, TaskId, TaskState, differences,
};

/// What is known about chance.
pub(super) const CHANCE: f64 = 0.5;

impl World {
    /// How an attempt ended.
    pub(super) fn end(&mut self, id: TaskId, ending: Ending) {
        let now = self.now;
        let Some(kept) = self.tasks.get_mut(&id) else {
            return;
        };
        match ending {
            Ending::Succeeded(output) => self.close(id, TaskState::Succeeded, Ok(output)),
            Ending::Failed(failure) => self.close(id, TaskState::Failed, Err(failure)),
            Ending::Cancelled(failure) => self.close(id, TaskState::Cancelled, Err(failure)),
            Ending::Paused(failure) => {
                kept.task.state = TaskState::Paused;
                kept.task.error = Some(failure);
            }
            Ending::RetryPlanned { failure, pause } => {
                kept.task.state = TaskState::Scheduled;
                kept.task.run_at = Some(later(now, pause));
                kept.task.error = Some(failure);
                for step in kept.steps.values_mut().filter(|step| runs_again(step)) {
                    step.progress = StepProgress::Waiting {
                        tries: 0,
                        due_at: now,
                    };
                }
            }
            Ending::Released => kept.task.state = TaskState::Ready,
            Ending::Suspended {
                waiting_for,
                wakes_at,
            } => {
                kept.task.state = TaskState::Suspended;
                kept.task.waiting_for = Some(waiting_for);
                kept.wakes_at = wakes_at;
            }
        }
    }

    /// A task has ended for good: what is below it is cancelled, and its siblings have their turn.
    pub(super) fn close(&mut self, id: TaskId, state: TaskState, result: Result<Payload, Failure>) {
        let now = self.now;
        let Some(kept) = self.tasks.get_mut(&id) else {
            return;
        };
        kept.task.state = state;
        kept.task.finished_at = Some(now);
        match result {
            Ok(output) => {
                kept.task.output = Some(output);
                kept.task.error = None;
            }
            Err(failure) => kept.task.error = Some(failure),
        }
        let fan_out = kept.task.fan_out.clone();
        let is_below = |kept: &&Kept| {
            let task = &kept.task;
            task.parent == Some(id) && !task.outlives_parent && !task.state.is_final()
        };
        let below: Vec<TaskId> = self
            .tasks
            .values()
            .filter(is_below)
            .map(|kept| kept.task.id)
            .collect();
        for below in below {
            let failure = Failure::fatal("its parent has ended");
            self.close(below, TaskState::Cancelled, Err(failure));
        }
        if let Some(place) = fan_out {
            self.grant(place.parent, &place.name);
        }
    }

    /// The counts of the sub-tasks of `parent` that were spawned as `name`.
    pub(super) fn fan_out(&self, parent: TaskId, name: &StepName) -> Option<FanOut> {
        let group = self.groups.get(&(parent, name.clone()))?;
        let mut counts = FanOut {
            plan: group.plan,
            is_complete: group.is_complete,
            ..FanOut::default()
        };
        for kept in group.members.iter().filter_map(|id| self.tasks.get(id)) {
            let state = kept.task.state;
            let one = |is: bool| u32::from(is);
            counts.stored += 1;
            counts.granted += one(kept.is_granted);
            counts.open += one(!state.is_final());
            counts.in_flight += one(kept.is_granted && !state.is_final());
            counts.failed += one(matches!(state, TaskState::Failed | TaskState::Cancelled));
        }
        Some(counts)
    }

    /// Gives the next sub-tasks their turn.
    fn grant(&mut self, parent: TaskId, name: &StepName) {
        let Some(counts) = self.fan_out(parent, name) else {
            return;
        };
        let Some(group) = self.groups.get(&(parent, name.clone())) else {
            return;
        };
        let now = self.now;
        let mut left = counts.allowance();
        for id in &group.members {
            let Some(kept) = self.tasks.get_mut(id).filter(|kept| !kept.is_granted) else {
                continue;
            };
            if left == 0 {
                return;
            }
            left -= 1;
            kept.is_granted = true;
            if kept.task.state == TaskState::Blocked {
                let is_due = kept.task.run_at.is_none_or(|run_at| run_at <= now);
                kept.task.state = TaskState::at_submission(is_due);
            }
        }
    }

    /// The sub-tasks that `batch` makes of `parent`, or the task that is there before them.
    pub(super) fn subtasks(
        &self,
        parent: TaskId,
        batch: &SpawnBatch,
        limits: PayloadLimits,
    ) -> Result<Result<Vec<Task>, TaskId>, Failure> {
        let Some(above) = self.tasks.get(&parent).map(|kept| &kept.task) else {
            return Ok(Ok(Vec::new()));
        };
        let is_only = batch.submissions.len() == 1;
        let mut tasks = Vec::new();
        for (submission, place) in batch.submissions.iter().zip(batch.first_place..) {
            let submission = Submission {
                parent: Some(parent),
                ..submission.clone()
            };
            let submission = submission.checked(limits)?;
            let name = &batch.name;
            let id = submission
                .id
                .unwrap_or_else(|| TaskId::of_subtask(parent, &format!("{name}/{place}")));
            if let Some(known) = self.known(id, &submission) {
                let differs = is_only.then(|| differences(&submission, known));
                return match differs.and_then(|all| all.into_iter().next()) {
                    None => Ok(Err(known.id)),
                    Some(difference) => Err(Failure::fatal(format_args!(
                        "the idempotency key of the sub-task belongs to the task `{}`, which differs in `{}`",
                        known.id, difference.field
                    ))),
                };
            }
            let deadlines = [submission.deadline, above.deadline];
            let is_due = submission.run_at.is_none_or(|run_at| run_at <= self.now);
            tasks.push(Task {
                id,
                root: above.root,
                state: TaskState::at_submission(is_due),
                created_at: self.now,
                deadline: deadlines.into_iter().flatten().min(),
                fan_out: Some(FanOutPlace {
                    parent,
                    name: name.clone(),
                    place,
                }),
                ..Task::stored(&submission)
            });
        }
        Ok(Ok(tasks))
    }

    /// The task that has this id or the submission's key.
    fn known(&self, id: TaskId, submission: &Submission) -> Option<&Task> {
        let key = submission.idempotency_key.as_ref();
        let mut tasks = self.tasks.values().map(|kept| &kept.task);
        tasks.find(|task| task.id == id || key.is_some() && task.idempotency_key.as_ref() == key)
    }

    /// Stores sub-tasks, and with the last batch the end of the step that spawns them.
    pub(super) fn spawn(
        &mut self,
        parent: TaskId,
        batch: &SpawnBatch,
        tasks: Vec<Task>,
    ) -> SpawnedAs {
        let key = (parent, batch.name.clone());
        let group = self.groups.entry(key).or_default();
        group.plan = batch.plan;
        group.members.extend(tasks.iter().map(|task| task.id));
        group.is_complete |= batch.last.is_some();
        for task in tasks {
            let task = Task {
                state: TaskState::Blocked,
                ..task
            };
            self.keep(task, false);
        }
        self.grant(parent, &batch.name);
        if let Some(place) = batch.last {
            let step = Step {
                name: batch.name.clone(),
                kind: StepKind::Spawn,
                progress: StepProgress::Ended {
                    place,
                    outcome: StepOutcome::Done(Payload::null()),
                },
            };
            self.record(parent, step);
        }
        SpawnedAs::Stored
    }

    /// Sub-tasks that were spawned as `name`, from the place `from` on.
    pub(super) fn spawned(
        &self,
        parent: TaskId,
        name: &StepName,
        from: u32,
        limit: usize,
    ) -> Vec<Task> {
        let group = self.groups.get(&(parent, name.clone()));
        let members = group.map(|group| group.members.as_slice());
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let page = members.unwrap_or_default().iter().skip(from).take(limit);
        page.filter_map(|id| self.tasks.get(id))
            .map(|kept| kept.task.clone())
            .collect()
    }

    /// Cancels what is open of them.
    pub(super) fn cancel_spawned(&mut self, parent: TaskId, name: &StepName) {
        let group = self.groups.get(&(parent, name.clone()));
        let members = group.map(|group| group.members.clone());
        for id in members.unwrap_or_default() {
            let is_open = |kept: &Kept| !kept.task.state.is_final();
            if self.tasks.get(&id).is_some_and(is_open) {
                let failure = Failure::fatal("too many of its siblings have failed");
                self.close(id, TaskState::Cancelled, Err(failure));
            }
        }
    }
}

/// Whether a step runs again with the next attempt that a task's policy makes: as both stores have it.
fn runs_again(step: &Step) -> bool {
    matches!(
        &step.progress,
        StepProgress::Ended { outcome: StepOutcome::Failed(failure), .. } if failure.is_retryable()
    )
}
