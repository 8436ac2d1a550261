//! Sub-tasks, and waiting for them.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::journal::{Found, Journal, Outside};
use super::operation::{Asked, Operation};
use crate::action::{Context, SpawnBatch, SpawnedAs};
use crate::domain::limits::SUBTASKS_MAX;
use crate::domain::{
    Failure, FailurePolicy, FanOut, FanOutPlan, Payload, StepKind, StepName, StepOutcome,
    Submission, Task, TaskId, TaskState,
};

/// Sub-tasks that are stored by one transaction: long enough to be quick, short enough to hold up nobody.
const SPAWN_BATCH: usize = 1000;

/// Results that are read at once.
const RESULTS_PAGE: usize = 100;

/// A sub-task that was spawned.
#[derive(Debug, Clone)]
pub struct Subtask {
    id: TaskId,
    subtasks: Subtasks,
}

/// Sub-tasks that were spawned together.
#[derive(Debug, Clone)]
pub struct Subtasks {
    name: StepName,
    journal: Arc<Journal>,
}

/// What sub-tasks came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// How many there are.
    pub total: u32,
    /// How many have failed or were cancelled; the others have succeeded.
    pub failed: u32,
}

impl Subtask {
    /// Which task it is.
    pub fn id(&self) -> TaskId {
        self.id
    }
}

impl Subtasks {
    /// The name that they were spawned by.
    pub fn name(&self) -> &StepName {
        &self.name
    }

    /// What they came to, in the order in which they were spawned, read page by page. Join them first: those that have
    /// not ended are among them as they are.
    pub fn results(&self) -> Results {
        Results {
            subtasks: self.clone(),
            next: 0,
            page: Vec::new().into_iter(),
        }
    }

    /// Cancels those that have not ended. It is not stored that this was done, so it is done again when the action runs
    /// again; what has ended stays as it is.
    ///
    /// # Errors
    ///
    /// A row of one cannot be read.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have cancelled some of them.
    pub async fn cancel(&self) -> Result<(), Failure> {
        self.journal.host().cancel_spawned(&self.name).await
    }

    /// The outputs of all of them, in the order in which they were spawned. For as many as fit into memory.
    ///
    /// # Errors
    ///
    /// The first that has not succeeded, or whose output is not a `T`.
    pub async fn outputs<T: DeserializeOwned>(&self) -> Result<Vec<T>, Failure> {
        let (mut results, mut outputs) = (self.results(), Vec::new());
        while let Some(task) = results.next().await? {
            outputs.push(output_of(&task)?);
        }
        Ok(outputs)
    }
}

/// The results of sub-tasks, page by page.
#[derive(Debug)]
pub struct Results {
    subtasks: Subtasks,
    next: u32,
    page: std::vec::IntoIter<Task>,
}

impl Results {
    /// The next sub-task; `None` after the last.
    ///
    /// # Errors
    ///
    /// A row of one cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: a dropped call has passed over none.
    pub async fn next(&mut self) -> Result<Option<Task>, Failure> {
        if self.page.len() == 0 {
            let journal = &self.subtasks.journal;
            let host = journal.host();
            let reading = host.spawned(&self.subtasks.name, self.next, RESULTS_PAGE);
            let page = journal.asking(reading).await?;
            self.page = page.into_iter();
        }
        let task = self.page.next();
        if let Some(place) = task.as_ref().and_then(|task| task.fan_out.as_ref()) {
            self.next = place.place + 1;
        }
        Ok(task)
    }
}

/// The output of a sub-task that has succeeded, or why there is none.
fn output_of<T: DeserializeOwned>(task: &Task) -> Result<T, Failure> {
    match (&task.output, task.state) {
        (Some(output), TaskState::Succeeded) => output.decode().map_err(|error| {
            Failure::fatal(format_args!(
                "the output of the sub-task `{}` is not what the action expects: {error}",
                task.id
            ))
        }),
        _ => Err(failure_of(task)),
    }
}

/// Why a sub-task has no output.
fn failure_of(task: &Task) -> Failure {
    let why = task
        .error
        .as_ref()
        .map_or("it has not ended", |error| &error.message);
    let failure = Failure::fatal(format_args!(
        "the sub-task `{}` (`{}`) is `{}`: {why}",
        task.id, task.action, task.state
    ));
    let detail = task.error.as_ref().and_then(|error| error.detail.clone());
    Failure { detail, ..failure }
}

impl Context {
    /// Spawns a sub-task: a task of its own, which any executor runs. It is cancelled when this one ends, or is cancelled,
    /// before it, unless [`Submission::outlives_parent`] says otherwise.
    ///
    /// It is named by its number (`spawn:1`), so the n-th of each attempt is the same sub-task; an action that runs again
    /// makes none twice. [`Context::spawn_as`] names it.
    ///
    /// # Errors
    ///
    /// A fatal failure when its queue is unknown or what it says is out of bounds. A store that is away is waited for.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have created the sub-task.
    pub fn spawn<'a>(&self, submission: Submission) -> Operation<'a, Subtask> {
        let name = self.journal().numbered("spawn");
        self.spawn_one(Ok(name), submission)
    }

    /// As [`Context::spawn`], by a name that is used once in a run.
    ///
    /// # Errors
    ///
    /// As [`Context::spawn`].
    ///
    /// # Cancel safety
    ///
    /// As [`Context::spawn`].
    pub fn spawn_as<'a>(&self, name: &str, submission: Submission) -> Operation<'a, Subtask> {
        self.spawn_one(StepName::new(name).map_err(Failure::fatal), submission)
    }

    fn spawn_one<'a>(
        &self,
        name: Result<StepName, Failure>,
        submission: Submission,
    ) -> Operation<'a, Subtask> {
        let parent = self.task().id;
        Operation::of(self.journal(), name, StepKind::Spawn, move |asked| {
            spawn_one(asked, parent, submission)
        })
    }

    /// Spawns many sub-tasks together, at most [`SUBTASKS_MAX`], stored in batches as `submissions` gives them. `plan` says
    /// how many of them may be in flight at once, and what failures mean.
    ///
    /// An attempt that was lost in the middle goes on where it was, so `submissions` must be the same each time. They have no
    /// idempotency keys; with a limit in flight they have no `run_at`.
    ///
    /// ```
    /// use longshore::action::{Context, Registry};
    /// use longshore::domain::{ActionName, Failure, FailurePolicy, FanOutPlan, Payload, Submission};
    ///
    /// async fn resize_all(context: Context, images: Vec<String>) -> Result<u32, Failure> {
    ///     let resize = ActionName::new("images.resize")?;
    ///     let mut submissions = Vec::new();
    ///     for image in &images {
    ///         submissions.push(Submission::new(resize.clone(), Payload::of(image)?));
    ///     }
    ///     let plan = FanOutPlan { in_flight_max: Some(10), on_failure: FailurePolicy::Tolerate(5) };
    ///     let resized = context.spawn_all("resize", submissions, plan).await?;
    ///     let joined = context.join(&resized).await?;
    ///     Ok(joined.total - joined.failed)
    /// }
    ///
    /// let registry = Registry::new().with_fn("images.resize_all", resize_all);
    /// # assert_eq!(registry.names().count(), 1);
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Context::spawn`]; what was stored before the one that is refused stays.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have created some of them.
    pub fn spawn_all<'a, I>(
        &self,
        name: &str,
        submissions: I,
        plan: FanOutPlan,
    ) -> Operation<'a, Subtasks>
    where
        I: IntoIterator<Item = Submission>,
        I::IntoIter: Send + 'a,
    {
        let name = StepName::new(name).map_err(Failure::fatal);
        let submissions = submissions.into_iter();
        Operation::of(self.journal(), name, StepKind::Spawn, move |asked| {
            spawn_all(asked, submissions, plan)
        })
    }

    /// Waits until `subtasks` have ended, or more of them have failed than their policy allows: then the others are
    /// cancelled. Meanwhile the task holds no slot, if nothing else keeps it busy.
    ///
    /// # Errors
    ///
    /// Too many have failed; the failure names the first.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, the sub-tasks go on.
    pub fn join<'a>(&self, subtasks: &Subtasks) -> Operation<'a, Joined> {
        let spawned = subtasks.name.clone();
        let name = Ok(spawned.joined());
        Operation::of(
            self.journal(),
            name,
            StepKind::Join,
            move |asked| async move { join(&asked, &spawned).await },
        )
    }

    /// Waits until `subtask` has ended, and returns its output.
    ///
    /// # Errors
    ///
    /// Its failure, if it has failed or was cancelled.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, the sub-task goes on.
    pub fn join_one<'a, T: DeserializeOwned + Send + 'a>(
        &self,
        subtask: &Subtask,
    ) -> Operation<'a, T> {
        let (id, subtasks) = (subtask.id, subtask.subtasks.clone());
        let name = Ok(subtasks.name.joined());
        Operation::of(
            self.journal(),
            name,
            StepKind::Join,
            move |asked| async move {
                join(&asked, &subtasks.name).await?;
                match subtasks.results().next().await? {
                    Some(task) => output_of(&task),
                    None => Err(Failure::fatal(format_args!("the sub-task `{id}` is gone"))),
                }
            },
        )
    }
}

async fn spawn_one(
    asked: Asked,
    parent: TaskId,
    submission: Submission,
) -> Result<Subtask, Failure> {
    let id = submission
        .id
        .unwrap_or_else(|| TaskId::of_subtask(parent, asked.name().as_str()));
    let mut subtask = Subtask {
        id,
        subtasks: Subtasks {
            name: asked.name().clone(),
            journal: Arc::clone(asked.journal()),
        },
    };
    match asked.find().await? {
        Found::Ended(StepOutcome::Done(payload)) => {
            // Another task has its key: then that one's id is stored.
            let known: Option<String> = asked.decode(&payload, "the stored id")?;
            if let Some(id) = known.and_then(|id| id.parse().ok()) {
                subtask.id = id;
            }
            return Ok(subtask);
        }
        Found::Ended(StepOutcome::Failed(failure)) => return Err(asked.failed(failure)),
        Found::Ended(StepOutcome::Skipped(_) | StepOutcome::Expired)
        | Found::Begun { .. }
        | Found::New => {}
    }
    let host = asked.journal().host();
    let journal = asked.journal();
    journal.asking(host.may_go_on()).await;
    let place = asked.journal().reserve(asked.name());
    let batch = SpawnBatch {
        name: asked.name().clone(),
        // Its failure is told by its own join.
        plan: FanOutPlan {
            in_flight_max: None,
            on_failure: FailurePolicy::Collect,
        },
        first_place: 0,
        submissions: vec![Submission {
            id: Some(id),
            ..submission
        }],
        last: Some(place),
    };
    let spawned = journal.asking(host.spawn(batch)).await;
    match spawned.map_err(|failure| asked.failed(failure))? {
        SpawnedAs::Stored => asked.journal().turn(place).await,
        SpawnedAs::Known(known) => {
            asked.journal().give_back(place);
            let payload = Payload::of(&known.to_string())?;
            asked.end(StepOutcome::Done(payload)).await;
            subtask.id = known;
        }
    }
    Ok(subtask)
}

/// What is wrong with a plan.
fn wrong_plan(plan: FanOutPlan) -> Option<&'static str> {
    match plan {
        FanOutPlan {
            in_flight_max: Some(0),
            ..
        } => Some("`in_flight_max` is 0, so no sub-task would ever have its turn"),
        FanOutPlan {
            on_failure: FailurePolicy::Tolerate(101..),
            ..
        } => Some("more than 100 percent of failures cannot be tolerated: `Collect` waits for all"),
        FanOutPlan { .. } => None,
    }
}

async fn spawn_all(
    asked: Asked,
    submissions: impl Iterator<Item = Submission> + Send,
    plan: FanOutPlan,
) -> Result<Subtasks, Failure> {
    let subtasks = Subtasks {
        name: asked.name().clone(),
        journal: Arc::clone(asked.journal()),
    };
    match asked.find().await? {
        Found::Ended(StepOutcome::Failed(failure)) => return Err(asked.failed(failure)),
        Found::Ended(StepOutcome::Done(_) | StepOutcome::Skipped(_) | StepOutcome::Expired) => {
            return Ok(subtasks);
        }
        Found::Begun { .. } | Found::New => {}
    }
    if let Some(wrong) = wrong_plan(plan) {
        return Err(asked.failed(Failure::fatal(wrong)));
    }
    let host = asked.journal().host();
    let counts = asked.journal().asking(host.fan_out(asked.name())).await?;
    let stored = counts.map_or(0, |counts| counts.stored);
    let mut first_place = stored;
    let mut submissions = submissions
        .skip(usize::try_from(stored).unwrap_or(usize::MAX))
        .peekable();
    loop {
        let journal = asked.journal();
        journal.asking(host.may_go_on()).await;
        let batch: Vec<Submission> = submissions.by_ref().take(SPAWN_BATCH).collect();
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        if first_place.saturating_add(count) > SUBTASKS_MAX {
            return Err(asked.failed(Failure::fatal(format_args!(
                "more than {SUBTASKS_MAX} sub-tasks are spawned by one call; let sub-tasks spawn a part of them"
            ))));
        }
        let is_timed = |one: &Submission| one.run_at.is_some();
        if plan.in_flight_max.is_some() && batch.iter().any(is_timed) {
            return Err(asked.failed(Failure::fatal(
                "a sub-task has a `run_at`, and only so many of them may be in flight: its turn would come at another time",
            )));
        }
        let is_last = submissions.peek().is_none();
        let last = is_last.then(|| asked.journal().reserve(asked.name()));
        let batch = SpawnBatch {
            name: asked.name().clone(),
            plan,
            first_place,
            submissions: batch,
            last,
        };
        let spawned = journal.asking(host.spawn(batch)).await;
        if let SpawnedAs::Known(task) = spawned.map_err(|failure| asked.failed(failure))? {
            return Err(asked.failed(Failure::fatal(format_args!(
                "the task `{task}` exists already and is no sub-task of this one: sub-tasks that are spawned together \
                 have no ids or idempotency keys of others"
            ))));
        }
        if let Some(place) = last {
            asked.journal().turn(place).await;
            return Ok(subtasks);
        }
        first_place += count;
    }
}

async fn join(asked: &Asked, spawned: &StepName) -> Result<Joined, Failure> {
    let journal = asked.journal();
    match asked.find().await? {
        Found::Ended(StepOutcome::Done(payload)) => {
            return asked.decode(&payload, "the stored outcome");
        }
        Found::Ended(StepOutcome::Failed(failure)) => return Err(asked.failed(failure)),
        Found::Ended(StepOutcome::Skipped(_)) => {
            return Ok(joined(&counts(asked, spawned).await?));
        }
        Found::Ended(StepOutcome::Expired) | Found::Begun { .. } | Found::New => {}
    }
    loop {
        let seen = journal.nudges();
        let counts = counts(asked, spawned).await?;
        if counts.is_broken() {
            let cancelling = journal.host().cancel_spawned(spawned);
            journal.asking(cancelling).await?;
            let failure = asked.failed(too_many_failed(asked, spawned, &counts).await?);
            asked.end(StepOutcome::Failed(failure.clone())).await;
            return Err(failure);
        }
        if counts.is_over() {
            let joined = joined(&counts);
            asked.end(StepOutcome::Done(Payload::of(&joined)?)).await;
            return Ok(joined);
        }
        let outside = Outside {
            fan_out: Some(spawned.clone()),
            ..Outside::default()
        };
        journal.outside(outside, seen).await;
    }
}

async fn counts(asked: &Asked, spawned: &StepName) -> Result<FanOut, Failure> {
    let journal = asked.journal();
    let counts = journal.asking(journal.host().fan_out(spawned)).await?;
    counts.ok_or_else(|| {
        asked.failed(Failure::fatal(format_args!(
            "no sub-task was spawned as `{spawned}`: what has its idempotency key is another's, and cannot be joined"
        )))
    })
}

fn joined(counts: &FanOut) -> Joined {
    Joined {
        total: counts.stored,
        failed: counts.failed,
    }
}

async fn too_many_failed(
    asked: &Asked,
    spawned: &StepName,
    counts: &FanOut,
) -> Result<Failure, Failure> {
    let subtasks = Subtasks {
        name: spawned.clone(),
        journal: Arc::clone(asked.journal()),
    };
    let mut results = subtasks.results();
    let mut first = None;
    while let Some(task) = results.next().await? {
        if matches!(task.state, TaskState::Failed | TaskState::Cancelled) {
            first = Some(failure_of(&task));
            if task.state == TaskState::Failed {
                break; // Rather than one that was only cancelled for it.
            }
        }
    }
    let (failed, stored) = (counts.failed, counts.stored);
    let first = first.map_or_else(String::new, |first| format!("; {}", first.message));
    Ok(Failure::fatal(format_args!(
        "{failed} of {stored} sub-tasks of `{spawned}` failed{first}"
    )))
}
