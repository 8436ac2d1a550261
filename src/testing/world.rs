//! What a store would hold: the tasks of one rehearsal with their steps and signals, and a clock that moves when it is
//! told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Weak;
use std::time::Duration;

use jiff::Timestamp;

use super::crash::{Crash, Side, What, Write};
use super::error::RehearsalError;
use super::stage::Plan;
use crate::action::durable::Journal;
use crate::domain::{
    ActionName, Attempt, Failure, FanOutPlan, Payload, SignalName, Step, StepKind, StepName,
    StepOutcome, StepProgress, Task, TaskId, TaskState, WaitingFor, ending_of_loss,
};

/// Attempts of one task, at most: each wait takes one, so an action that loops for ever ends here.
const ATTEMPTS_MAX: u32 = 20_000;

/// A task and what belongs to it.
pub(super) struct Kept {
    pub(super) task: Task,
    pub(super) steps: BTreeMap<StepName, Step>,
    /// How often the code of each step was run.
    pub(super) runs: BTreeMap<StepName, u32>,
    pub(super) log: String,
    /// The steps that its last attempt did not ask for.
    pub(super) not_asked_for: BTreeSet<StepName>,
    /// When its timer wakes it.
    pub(super) wakes_at: Option<Timestamp>,
    /// The steps of the attempt that is under way.
    journal: Weak<Journal>,
    /// Whether it has had its turn among its siblings.
    pub(super) is_granted: bool,
}

/// Sub-tasks that were spawned together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) plan: FanOutPlan,
    pub(super) is_complete: bool,
    pub(super) members: Vec<TaskId>,
}

/// When a signal is sent.
#[derive(Debug, Clone)]
pub(super) enum Cue {
    /// Before the first attempt.
    First,
    /// Once this step of the task has ended.
    After(StepName),
    /// So long after the start.
    At(Duration),
}

/// A signal that is to be sent.
#[derive(Debug, Clone)]
pub(super) struct Scripted {
    pub(super) cue: Cue,
    pub(super) name: SignalName,
    pub(super) payload: Payload,
}

/// All that is stored.
pub(super) struct World {
    pub(super) root: TaskId,
    pub(super) started_at: Timestamp,
    pub(super) now: Timestamp,
    pub(super) tasks: BTreeMap<TaskId, Kept>,
    /// The tasks as they were made.
    pub(super) order: Vec<TaskId>,
    pub(super) groups: BTreeMap<(TaskId, StepName), Group>,
    /// Signals that are to be sent.
    script: Vec<Scripted>,
    /// Steps of the root that take time, until they have.
    lasting: Vec<(StepName, Duration)>,
    /// Signals to the root that wait to be taken.
    pub(super) signals: Vec<(SignalName, Payload)>,
    /// What was written, in order.
    pub(super) writes: Vec<Write>,
    counts: BTreeMap<(TaskId, Option<StepName>, What), u32>,
    /// The crash that is still to come.
    pub(super) crash: Option<Crash>,
    /// A step whose code was run though its outcome was stored.
    pub(super) ran_again: Option<(ActionName, StepName)>,
}

impl World {
    pub(super) fn new(plan: &Plan, crash: Option<Crash>) -> Self {
        let (submission, now) = (&plan.submission, plan.starting_at);
        // The same at each run, so that what is made of it is the same.
        let root = submission.id.unwrap_or_else(|| TaskId::new(now, 1));
        let mut world = Self {
            root,
            started_at: now,
            now,
            tasks: BTreeMap::new(),
            order: Vec::new(),
            groups: BTreeMap::new(),
            script: plan.script.clone(),
            lasting: plan.lasting.clone(),
            signals: Vec::new(),
            writes: Vec::new(),
            counts: BTreeMap::new(),
            crash,
            ran_again: None,
        };
        let task = Task {
            id: root,
            root,
            created_at: now,
            ready_at: Some(now),
            ..Task::stored(submission)
        };
        world.keep(task, true);
        world.send(|cue| matches!(cue, Cue::First));
        world
    }

    pub(super) fn keep(&mut self, task: Task, is_granted: bool) {
        self.order.push(task.id);
        let kept = Kept {
            steps: BTreeMap::new(),
            runs: BTreeMap::new(),
            log: String::new(),
            not_asked_for: BTreeSet::new(),
            wakes_at: None,
            journal: Weak::new(),
            is_granted,
            task,
        };
        self.tasks.insert(kept.task.id, kept);
    }

    /// Whether the attempt is under way, and the task's last.
    pub(super) fn is_current(&self, task: TaskId, attempt: Attempt) -> bool {
        self.tasks.get(&task).is_some_and(|kept| {
            kept.task.state == TaskState::Running && kept.task.attempt == attempt
        })
    }

    /// Writes what `apply` does, and lets the attempt's executor die if it is time; `None` when the attempt is lost.
    pub(super) fn write<T>(
        &mut self,
        (task, attempt): (TaskId, Attempt),
        step: Option<&StepName>,
        what: What,
        apply: impl FnOnce(&mut Self) -> T,
    ) -> Option<T> {
        if !self.is_current(task, attempt) {
            return None;
        }
        match self.crash_at(task, step, what) {
            None => Some(apply(self)),
            Some(Side::Before) => {
                self.lose(task);
                None
            }
            Some(Side::After) => {
                drop(apply(self));
                self.lose(task);
                None
            }
        }
    }

    fn crash_at(&mut self, task: TaskId, step: Option<&StepName>, what: What) -> Option<Side> {
        let action = self.tasks.get(&task)?.task.action.clone();
        let count = self.counts.entry((task, step.cloned(), what)).or_default();
        *count += 1;
        let write = Write {
            task,
            action,
            is_root: task == self.root,
            step: step.cloned(),
            what,
            nth: *count,
        };
        let index = self.writes.len();
        let is_now = self
            .crash
            .as_ref()
            .is_some_and(|crash| crash.is_at(&write, index));
        self.writes.push(write);
        if !is_now {
            return None;
        }
        self.crash.take().map(|crash| crash.point.side)
    }

    /// The executor of the task's attempt has died.
    fn lose(&mut self, id: TaskId) {
        let Some(kept) = self.tasks.get_mut(&id) else {
            return;
        };
        let cause =
            Failure::fatal("the executor died while it ran the task, whose delivery is `once`");
        let ending = ending_of_loss(&kept.task.options, cause);
        self.end(id, ending);
    }

    /// Keeps a step of `task`, and lets happen what follows from its end. Whether anything did.
    pub(super) fn record(&mut self, task: TaskId, step: Step) -> bool {
        let Some(kept) = self.tasks.get_mut(&task) else {
            return false;
        };
        let is_ended = |step: &Step| matches!(step.progress, StepProgress::Ended { .. });
        if kept.steps.get(&step.name).is_some_and(is_ended) {
            return false; // What has ended is never changed.
        }
        let ended = is_ended(&step).then(|| step.name.clone());
        kept.steps.insert(step.name.clone(), step);
        let Some(ended) = ended.filter(|_| task == self.root) else {
            return false;
        };
        let before = self.now;
        for (_, duration) in self.lasting.extract_if(.., |(name, _)| *name == ended) {
            self.now = later(self.now, duration);
        }
        let is_sent = self.send(|cue| matches!(cue, Cue::After(name) if *name == ended));
        if self.now > before {
            self.catch_up();
        }
        is_sent || self.now > before
    }

    /// Takes the oldest signal `signal` of the root for the step `step`.
    pub(super) fn take(&mut self, place: usize, step: &StepName, told: u32) -> Payload {
        let (_, payload) = self.signals.remove(place);
        let step = Step {
            name: step.clone(),
            kind: StepKind::Signal,
            progress: StepProgress::Ended {
                place: told,
                outcome: StepOutcome::Done(payload.clone()),
            },
        };
        self.record(self.root, step);
        payload
    }

    /// Sends the signals whose cue has come. Whether there were any.
    fn send(&mut self, has_come: impl Fn(&Cue) -> bool) -> bool {
        let script = std::mem::take(&mut self.script).into_iter();
        let (come, later): (Vec<Scripted>, _) =
            script.partition(|scripted| has_come(&scripted.cue));
        self.script = later;
        let is_sent = !come.is_empty();
        let come = come.into_iter().map(|one| (one.name, one.payload));
        self.signals.extend(come);
        is_sent
    }

    /// The code of a step is about to run.
    pub(super) fn begin_step(&mut self, task: TaskId, name: &StepName) {
        if let Some(kept) = self.tasks.get_mut(&task) {
            *kept.runs.entry(name.clone()).or_default() += 1;
            let stored = kept.steps.get(name).map(|step| &step.progress);
            if matches!(stored, Some(StepProgress::Ended { .. })) {
                self.ran_again = Some((kept.task.action.clone(), name.clone()));
            }
        }
    }

    /// Begins the next attempt of a task.
    pub(super) fn begin(&mut self, id: TaskId) -> Result<Option<Task>, RehearsalError> {
        let now = self.now;
        let Some(kept) = self.tasks.get_mut(&id) else {
            return Ok(None);
        };
        let task = &mut kept.task;
        if task.attempt.0 >= ATTEMPTS_MAX {
            return Err(RehearsalError::Endless {
                action: task.action.clone(),
                attempts: ATTEMPTS_MAX,
            });
        }
        task.attempt.0 += 1;
        task.state = TaskState::Running;
        task.started_at = Some(now);
        task.waiting_for = None;
        kept.wakes_at = None;
        Ok(Some(task.clone()))
    }

    pub(super) fn loaded(&mut self, id: TaskId, journal: Weak<Journal>) {
        if let Some(kept) = self.tasks.get_mut(&id) {
            kept.journal = journal;
        }
    }

    /// The journals of the attempts that are under way: they may be told to look again.
    pub(super) fn journals(&self) -> Vec<std::sync::Arc<Journal>> {
        let running = self.tasks.values();
        running.filter_map(|kept| kept.journal.upgrade()).collect()
    }

    /// Lets all happen whose time has come, and what follows from it.
    pub(super) fn catch_up(&mut self) {
        while self.catch_up_once() {} // The end of one may be what another waits for.
    }

    /// Whether anything happened.
    fn catch_up_once(&mut self) -> bool {
        let (now, started_at) = (self.now, self.started_at);
        self.send(|cue| matches!(cue, Cue::At(after) if later(started_at, *after) <= now));
        let has_come = |time: Option<Timestamp>| time.is_some_and(|time| time <= now);
        let mut over = Vec::new();
        for id in &self.order {
            let Some(kept) = self.tasks.get(id) else {
                continue;
            };
            let waits = match kept.task.state {
                TaskState::Scheduled => has_come(kept.task.run_at),
                TaskState::Suspended => has_come(kept.wakes_at) || self.is_woken(kept),
                TaskState::Blocked | TaskState::Ready => false,
                TaskState::Running
                | TaskState::Paused
                | TaskState::Succeeded
                | TaskState::Failed
                | TaskState::Cancelled => continue,
            };
            if has_come(kept.task.deadline) {
                over.push((*id, TaskState::Failed));
            } else if waits {
                over.push((*id, TaskState::Ready));
            }
        }
        let is_anything = !over.is_empty();
        for (id, state) in over {
            if state == TaskState::Failed {
                let failure = Failure::fatal("the deadline of the task passed");
                self.close(id, state, Err(failure));
            } else if let Some(kept) = self.tasks.get_mut(&id) {
                kept.task.state = state;
            }
        }
        is_anything
    }

    /// Whether a suspended task has what it waits for.
    fn is_woken(&self, kept: &Kept) -> bool {
        let Some(waiting_for) = &kept.task.waiting_for else {
            return false;
        };
        let is_sent = |name: &SignalName| {
            kept.task.id == self.root && self.signals.iter().any(|(sent, _)| sent == name)
        };
        let is_over = |name: &StepName| {
            self.fan_out(kept.task.id, name)
                .is_some_and(|counts| counts.is_over())
        };
        waiting_for.signals.iter().any(is_sent) || waiting_for.fan_outs.iter().any(is_over)
    }

    /// The first task that may run, apart from those under way.
    pub(super) fn ready(&self) -> Option<TaskId> {
        let is_ready = |id: &&TaskId| {
            self.tasks
                .get(id)
                .is_some_and(|kept| kept.task.state == TaskState::Ready)
        };
        self.order.iter().find(is_ready).copied()
    }

    /// Moves the clock to what happens next. Whether there is anything. Of a task under way it is the next time that one of
    /// its steps waits for.
    pub(super) fn move_clock(&mut self) -> bool {
        let mut times = Vec::new();
        for kept in self.tasks.values() {
            let task = &kept.task;
            match task.state {
                TaskState::Scheduled => times.extend(task.run_at),
                TaskState::Suspended => times.extend(kept.wakes_at),
                TaskState::Running => times.extend(kept.steps.values().filter_map(waits_until)),
                TaskState::Blocked | TaskState::Ready => {}
                TaskState::Paused
                | TaskState::Succeeded
                | TaskState::Failed
                | TaskState::Cancelled => continue,
            }
            times.extend(task.deadline);
        }
        for scripted in &self.script {
            if let Cue::At(after) = scripted.cue {
                times.push(later(self.started_at, after));
            }
        }
        let next = times.into_iter().filter(|time| *time > self.now).min();
        self.now = next.unwrap_or(self.now);
        next.is_some()
    }

    /// What each open task waits for, for people.
    pub(super) fn waits(&self) -> String {
        let mut waits = Vec::new();
        for id in &self.order {
            let Some(kept) = self.tasks.get(id) else {
                continue;
            };
            let (action, state) = (&kept.task.action, kept.task.state);
            if state.is_final() {
                continue;
            }
            waits.push(match &kept.task.waiting_for {
                Some(waiting_for) => format!("`{action}` waits for {}", words(waiting_for)),
                None => format!("`{action}` is `{state}`"),
            });
        }
        let script = self
            .script
            .iter()
            .filter_map(|scripted| match &scripted.cue {
                Cue::After(step) => Some(format!(
                    "the signal `{}` is to follow the step `{step}`, which has not ended",
                    scripted.name
                )),
                Cue::First | Cue::At(_) => None,
            });
        waits.extend(script);
        waits.join("; ")
    }
}

/// `duration` after `start`.
pub(super) fn later(start: Timestamp, duration: Duration) -> Timestamp {
    start.saturating_add(duration).unwrap_or(Timestamp::MAX)
}

fn waits_until(step: &Step) -> Option<Timestamp> {
    match step.progress {
        StepProgress::Waiting { due_at, .. } => Some(due_at),
        StepProgress::Ended { .. } => None,
    }
}

fn words(waiting_for: &WaitingFor) -> String {
    let signals = waiting_for.signals.iter();
    let mut words: Vec<String> = signals.map(|name| format!("the signal `{name}`")).collect();
    let fan_outs = waiting_for.fan_outs.iter();
    words.extend(fan_outs.map(|name| format!("the sub-tasks of `{name}`")));
    if waiting_for.has_timer {
        words.push("a time".to_owned());
    }
    words.join(" or ")
}
