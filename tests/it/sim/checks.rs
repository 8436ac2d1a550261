//! What must hold at every step, whatever goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore::domain::{
    Attempt, Delivery, ExecutorId, Settlement, Task, TaskEvent, TaskId, TaskState,
};
use longshore::store::Settled;

/// What has been seen, and the first thing that was wrong.
#[derive(Default)]
pub(super) struct Model {
    rows: BTreeMap<TaskId, Task>,
    /// How often a store has answered that the task is final now.
    ends: BTreeMap<TaskId, u32>,
    leases: BTreeMap<ExecutorId, Duration>,
    /// Attempts whose action began, and how often.
    begun: BTreeMap<(TaskId, u32), u32>,
    bodies: BTreeMap<u64, Body>,
    bodies_begun: u64,
    /// Steps whose outcome is stored.
    stored_steps: BTreeSet<(TaskId, String)>,
    /// Tasks that somebody was told are stored.
    promised: BTreeSet<TaskId>,
    last: Act,
    steps: u64,
    violation: Option<String>,
}

/// The last call that the store has carried out.
#[derive(Debug, Default)]
struct Act {
    method: &'static str,
    executor: Option<ExecutorId>,
    /// The tasks whose end was stored.
    stored: BTreeSet<TaskId>,
}

/// The action of one attempt, while it runs.
#[derive(Debug)]
struct Body {
    task: TaskId,
    attempt: u32,
    process: String,
    is_once: bool,
    /// Whether its process was frozen meanwhile: then it cannot stop in time.
    was_frozen: bool,
}

impl Model {
    pub(super) fn violated(&mut self, words: impl Into<String>) {
        self.violation.get_or_insert(words.into());
    }

    pub(super) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Task> {
        self.rows.values()
    }

    pub(super) fn row(&self, task: TaskId) -> Option<&Task> {
        self.rows.get(&task)
    }

    /// How often an attempt of the task began.
    pub(super) fn begun(&self, task: TaskId) -> u32 {
        let attempts = self.begun.range((task, 0)..=(task, u32::MAX));
        attempts.map(|(_, count)| count).sum()
    }

    pub(super) fn count_step(&mut self, steps_max: u64) {
        self.steps += 1;
        if self.steps > steps_max {
            self.violated(format!("no end after {steps_max} steps"));
        }
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// The store has carried out a call.
    pub(super) fn act(&mut self, method: &'static str, executor: Option<ExecutorId>) {
        self.last = Act {
            method,
            executor,
            stored: BTreeSet::new(),
        };
    }

    /// Somebody was told that the task is stored.
    pub(super) fn promised(&mut self, task: TaskId) {
        self.promised.insert(task);
    }

    pub(super) fn leased(&mut self, executor: ExecutorId, until: Duration) {
        self.act("renew", Some(executor));
        self.leases.insert(executor, until);
    }

    pub(super) fn retired(&mut self, executor: ExecutorId) {
        self.act("retire", Some(executor));
        self.leases.remove(&executor);
    }

    pub(super) fn taken_over(&mut self, now: Duration, lost: &[ExecutorId]) {
        self.act("take_over", None);
        for executor in lost {
            if self.leases.get(executor).is_some_and(|until| *until > now) {
                self.violated(format!(
                    "the executor {executor} was found lost before its lease ended"
                ));
            }
        }
    }

    /// The store has answered that tasks are stored, which are claimed in the same call.
    pub(super) fn born(&mut self, tasks: &[Task]) {
        let ready = |task: &Task| Task {
            state: TaskState::Ready,
            attempt: Attempt(0),
            executor: None,
            started_at: None,
            ..task.clone()
        };
        let is_new = |task: &&Task| !self.rows.contains_key(&task.id);
        let born: Vec<_> = tasks.iter().filter(is_new).map(ready).collect();
        self.rows.extend(born.into_iter().map(|row| (row.id, row)));
    }

    /// The store has answered a claim.
    pub(super) fn claimed(&mut self, now: Duration, executor: ExecutorId, tasks: &[Task]) {
        self.act("claim", Some(executor));
        for task in tasks {
            let Some(before) = self.rows.get(&task.id) else {
                self.violated(format!("a claim has brought the unknown {task:?}"));
                return;
            };
            let again = before.state == TaskState::Running;
            let is_right = if again {
                before.executor == Some(executor) && before.attempt == task.attempt
            } else {
                task.attempt.0 == before.attempt.0 + 1
            };
            let holds = self.leases.get(&executor).is_some_and(|until| *until > now);
            if !is_right || task.executor != Some(executor) {
                let words = format!(
                    "a claim has brought what is somebody else's: {task:?} after {before:?}"
                );
                self.violated(words);
            } else if !holds {
                self.violated(format!("an executor without a lease has claimed {task:?}"));
            }
        }
    }

    /// The store has answered a settlement.
    pub(super) fn settled(
        &mut self,
        executor: ExecutorId,
        settlements: &[Settlement],
        answers: &[Settled],
    ) {
        self.act("settle", Some(executor));
        let mut seen = BTreeSet::new();
        for (one, answer) in settlements.iter().zip(answers) {
            let owns = self.rows.get(&one.task).is_some_and(|row| {
                row.state == TaskState::Running
                    && row.executor == Some(executor)
                    && row.attempt == one.attempt
            });
            let is_first = seen.insert((one.task, one.attempt.0));
            match answer {
                Settled::Stored { .. } if !owns => {
                    self.violated(format!(
                        "the end of an attempt that is nobody's was stored: {one:?}"
                    ));
                }
                Settled::Stale if owns && is_first => {
                    self.violated(format!(
                        "the end of an attempt was refused to its owner: {one:?}"
                    ));
                }
                Settled::Stored { state, .. } => {
                    self.last.stored.insert(one.task);
                    self.ended([(one.task, *state)]);
                }
                Settled::Stale => {}
            }
        }
    }

    /// The store has answered that tasks are in these states now.
    pub(super) fn ended(&mut self, tasks: impl IntoIterator<Item = (TaskId, TaskState)>) {
        for (task, _) in tasks.into_iter().filter(|(_, state)| state.is_final()) {
            let count = self.ends.entry(task).or_default();
            *count += 1;
            if *count > 1 {
                self.violated(format!("the task {task} has ended twice"));
            }
        }
    }

    /// The tasks that were open and are not among `rows`.
    pub(super) fn open_without(&self, rows: &[Task]) -> Vec<TaskId> {
        let listed: BTreeSet<TaskId> = rows.iter().map(|row| row.id).collect();
        let open = self.rows.values().filter(|row| !row.state.is_final());
        let open = open.map(|row| row.id);
        open.filter(|task| !listed.contains(task)).collect()
    }

    /// What all rows are.
    pub(super) fn observe_all(&mut self, now: Duration, rows: Vec<Task>) {
        let found: BTreeSet<TaskId> = rows.iter().map(|row| row.id).collect();
        let known = self.rows.keys().chain(&self.promised);
        if let Some(lost) = known.copied().find(|task| !found.contains(task)) {
            self.violated(format!("the task {lost} has disappeared"));
        }
        self.observe(now, rows);
    }

    /// What rows are after a step.
    pub(super) fn observe(&mut self, now: Duration, rows: Vec<Task>) {
        for row in rows {
            let wrong = match self.rows.get(&row.id) {
                Some(before) => self.wrong_step(now, before, &row),
                None => wrong_birth(&row),
            };
            if let Some(wrong) = wrong {
                let before = self.rows.get(&row.id);
                let words = format!("{wrong} by {:?}:\n  {before:?}\n  {row:?}", self.last);
                self.violated(words);
            }
            self.rows.insert(row.id, row);
        }
        self.check_bodies();
    }

    fn wrong_step(&self, now: Duration, before: &Task, row: &Task) -> Option<&'static str> {
        if before == row {
            return None;
        }
        if before.state.is_final() {
            return Some("a final task has changed");
        }
        if before.cancel_requested_at.is_some() && row.attempt != before.attempt {
            return Some("an attempt has followed the wish to cancel");
        }
        let is_step = TaskEvent::ALL.into_iter().any(|event| {
            let claims = u32::from(event == TaskEvent::Claimed);
            before.state.after(event) == Ok(row.state) && row.attempt.0 == before.attempt.0 + claims
        });
        let stays = before.state == row.state && before.attempt == row.attempt;
        if !is_step && !stays {
            return Some("the state does not follow from the one before");
        }
        let is_running = before.state == TaskState::Running;
        let owner = before.executor.filter(|_| is_running)?;
        let is_lost = || self.leases.get(&owner).is_none_or(|until| *until <= now);
        match self.last.method {
            _ if stays && row.executor == Some(owner) => None,
            "settle" if !self.last.stored.contains(&row.id) => {
                Some("an end that was refused has changed the row")
            }
            "settle" | "retire" if self.last.executor == Some(owner) => None,
            "take_over" if is_lost() => None,
            _ => Some("a running task was taken from its owner"),
        }
    }

    /// The action of an attempt begins; the answer names it.
    pub(super) fn body_begins(&mut self, task: &Task, process: &str) -> u64 {
        let count = self.begun.entry((task.id, task.attempt.0)).or_default();
        *count += 1;
        if *count > 1 {
            self.violated(format!("one attempt has begun twice: {task:?}"));
        }
        let is_once =
            task.options.delivery == Delivery::Once && task.options.retry.attempts_max() == 1;
        if is_once && self.begun(task.id) > 1 {
            self.violated(format!("what may run only once has begun twice: {task:?}"));
        }
        self.bodies_begun += 1;
        self.bodies.insert(
            self.bodies_begun,
            Body {
                task: task.id,
                attempt: task.attempt.0,
                process: process.to_owned(),
                is_once,
                was_frozen: false,
            },
        );
        self.bodies_begun
    }

    /// A step of the action has an effect outside.
    pub(super) fn effect(&mut self, body: u64, step: &str) {
        let Some(body) = self.bodies.get(&body) else {
            return; // Its process is dead.
        };
        let key = (body.task, step.to_owned());
        // One that was taken over may go on where it was, before it notices; then its step runs beside the next attempt's.
        let owns = self
            .rows
            .get(&body.task)
            .is_some_and(|row| row.attempt.0 == body.attempt);
        if self.stored_steps.contains(&key) && owns && !body.was_frozen {
            let words = format!("a step that was stored has run again: `{step}` of {body:?}");
            self.violated(words);
        }
    }

    /// The store has stored how a step ended.
    pub(super) fn step_stored(&mut self, task: TaskId, step: &str) {
        self.stored_steps.insert((task, step.to_owned()));
    }

    pub(super) fn body_ends(&mut self, body: u64) {
        self.bodies.remove(&body);
    }

    pub(super) fn process_frozen(&mut self, process: &str) {
        for body in self.bodies.values_mut() {
            body.was_frozen |= body.process == process;
        }
    }

    pub(super) fn process_died(&mut self, process: &str) {
        self.bodies.retain(|_, body| body.process != process);
    }

    /// What may run only once runs only while its task is its own.
    fn check_bodies(&mut self) {
        let is_foreign = |body: &&Body| {
            let owns = self.rows.get(&body.task).is_some_and(|row| {
                row.state == TaskState::Running && row.attempt.0 == body.attempt
            });
            body.is_once && !body.was_frozen && !owns
        };
        if let Some(body) = self.bodies.values().find(is_foreign) {
            let row = self.rows.get(&body.task);
            self.violated(format!(
                "what may run only once still runs, and is not its own: {body:?}, {row:?}"
            ));
        }
    }

    /// A client was told that the task ended so.
    pub(super) fn heard(&mut self, task: &Task) {
        let is_so = self.rows.get(&task.id).is_some_and(|row| {
            let is_same = row.state == task.state && row.output == task.output;
            is_same || task.state == TaskState::Paused
        });
        if !task.state.ends_a_wait() || !is_so {
            let row = self.rows.get(&task.id);
            self.violated(format!(
                "a client has heard what is not so: {task:?}, {row:?}"
            ));
        }
    }

    /// Whether every task is where it can stay.
    pub(super) fn is_settled(&self) -> bool {
        self.rows.values().all(|row| row.state.ends_a_wait())
    }
}

fn wrong_birth(row: &Task) -> Option<&'static str> {
    let is_new = matches!(
        row.state,
        TaskState::Scheduled | TaskState::Ready | TaskState::Blocked
    ) && row.attempt.0 == 0;
    (!is_new).then_some("a task was not stored as a new one")
}
