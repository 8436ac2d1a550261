//! What the simulated tasks do, and how they may end.

use std::sync::Arc;
use std::time::Duration;

use longshore::action::{Context, Registry};
use longshore::clock::Clock;
use longshore::domain::{
    ActionName, Delivery, Failure, FailurePolicy, FanOutPlan, OnFailure, Payload, RetryPolicy,
    Submission, Task, TaskId, TaskState,
};
use serde::{Deserialize, Serialize};

use super::chance::Chance;
use super::hub::Hub;
use super::process::Process;
use super::time::wall;

/// The input of every action.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Work {
    /// How long it takes.
    pub(super) millis: u64,
    /// How often it fails before it succeeds.
    pub(super) failures: u32,
    /// How many sub-tasks it makes.
    pub(super) children: u32,
    /// Whether it stops when it is asked to.
    pub(super) is_polite: bool,
}

/// The actions of the simulation.
const ACTIONS: [&str; 7] = [
    "work", "shaky", "bad", "panics", "parent", "saga", "fragile",
];

/// The steps of a saga that have an effect.
const EFFECTS: [&str; 5] = ["reserve", "charge", "pack", "ship", "thank"];

/// The signal that a saga waits for.
pub(super) const GO: &str = "go";

/// Where an action runs.
#[derive(Clone)]
struct Site {
    hub: Arc<Hub>,
    process: Arc<Process>,
    clock: Arc<dyn Clock>,
}

/// An action under way; over when dropped.
struct Body {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.hub.model().body_ends(self.number);
    }
}

/// The actions, for the executor in `process`.
pub(super) fn registry(hub: &Arc<Hub>, process: &Arc<Process>, clock: &Arc<dyn Clock>) -> Registry {
    let site = Site {
        hub: Arc::clone(hub),
        process: Arc::clone(process),
        clock: Arc::clone(clock),
    };
    ACTIONS.into_iter().fold(Registry::new(), |registry, name| {
        let site = site.clone();
        registry.with_fn(name, move |context, work| {
            run(site.clone(), name, context, work)
        })
    })
}

async fn run(
    site: Site,
    action: &'static str,
    context: Context,
    work: Work,
) -> Result<u64, Failure> {
    let task = context.task();
    let number = site.hub.model().body_begins(task, &site.process.name);
    let _body = Body {
        hub: Arc::clone(&site.hub),
        number,
    };
    let (name, attempt) = (site.hub.name(task.id), task.attempt);
    site.hub.say(format_args!(
        "{} runs {name}.{attempt} {action}",
        site.process.name
    ));
    context.log(action).await;
    if action == "saga" {
        return saga(&site, number, context, work).await;
    }
    if action == "fragile" {
        return fragile(context, work).await;
    }
    let mut parts = Vec::new();
    for _ in 0..work.children {
        let child = Work {
            millis: work.millis,
            ..Work::default()
        };
        parts.push(context.spawn(submission("work", child)).await?);
        site.clock.sleep(Duration::from_millis(50)).await;
    }
    for part in &parts {
        // One that somebody has cancelled is no less joined.
        drop(context.join_one::<u64>(part).await);
    }
    let done = site.clock.sleep(Duration::from_millis(work.millis));
    if work.is_polite {
        tokio::select! {
            biased;
            () = done => {}
            _ = context.stopped() => return Err(Failure::retry("it was asked to stop")),
        }
    } else {
        done.await;
    }
    match action {
        "bad" => Err(Failure::fatal("it is bad")),
        // Not `panic!`: a hundred messages of panics that are meant would hide the one that is not.
        "panics" => std::panic::resume_unwind(Box::new("it panics")),
        _ if task.failures < work.failures => Err(Failure::retry("not yet")),
        _ => Ok(work.millis),
    }
}

/// Sub-tasks of which one fails, so that the others are cancelled.
async fn fragile(context: Context, work: Work) -> Result<u64, Failure> {
    context.progress(1, Some(2), "half of it").await;
    let long = Work {
        millis: 60_000,
        is_polite: true,
        ..Work::default()
    };
    let good = (1..work.children).map(|_| submission("work", long));
    let bad = submission("bad", Work::default());
    let parts = context
        .spawn_all("parts", good.chain([bad]), FanOutPlan::default())
        .await?;
    match context.join(&parts).await {
        Ok(joined) => Err(Failure::fatal(format_args!("nothing failed: {joined:?}"))),
        Err(_) => Ok(work.millis),
    }
}

/// Five steps, with all that is durable between them.
async fn saga(site: &Site, body: u64, context: Context, work: Work) -> Result<u64, Failure> {
    let step = async |name: &'static str| {
        let effect = async || {
            site.hub.model().effect(body, name);
            site.clock.sleep(Duration::from_millis(work.millis)).await;
            Ok(1_u64)
        };
        context.step(name, effect).await
    };
    let mut done = step(EFFECTS[0]).await?;
    context.sleep(Duration::from_millis(1_500)).await?;
    done += step(EFFECTS[1]).await?;
    context.wait_for::<u64>(GO).await?;
    done += step(EFFECTS[2]).await?;
    let part = Work {
        millis: 20,
        ..Work::default()
    };
    let plan = FanOutPlan {
        in_flight_max: Some(2),
        on_failure: FailurePolicy::Collect,
    };
    let parts = (0..work.children).map(|_| submission("work", part));
    let parts = context.spawn_all("parts", parts, plan).await?;
    let joined = context.join(&parts).await?;
    done += step(EFFECTS[3]).await?;
    // It takes the whole of the shorter wait, and none of the longer.
    let mut nobody = context.wait_for::<u64>("nobody");
    let mut nap = context.sleep(Duration::from_millis(700));
    tokio::select! {
        biased;
        _ = &mut nobody => return Err(Failure::fatal("a signal that nobody has sent")),
        slept = &mut nap => slept?,
    }
    done += step(EFFECTS[4]).await?;
    Ok(done + u64::from(joined.total))
}

pub(super) fn submission(action: &str, work: Work) -> Submission {
    Submission::new(
        ActionName::new(action).unwrap(),
        Payload::of(&work).unwrap(),
    )
}

/// One task that somebody submits.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) submission: Submission,
    pub(super) submitted_at: Duration,
    /// When somebody cancels it, if anybody does.
    pub(super) cancelled_at: Option<Duration>,
    /// When somebody sends it its signal, if it waits for one.
    pub(super) signalled_at: Option<Duration>,
    /// How it ends when nothing goes wrong.
    pub(super) natural: TaskState,
    /// How many failures are counted when it succeeds; `None` when that depends on what goes wrong.
    pub(super) failures: Option<u32>,
}

impl Spec {
    /// A task that is submitted at `submitted_at`, with an identity of its own.
    pub(super) fn new(submission: Submission, submitted_at: Duration, chance: &mut Chance) -> Self {
        let id = TaskId::new(wall(submitted_at), chance.bits());
        Self {
            submission: Submission {
                id: Some(id),
                ..submission
            },
            submitted_at,
            cancelled_at: None,
            signalled_at: None,
            natural: TaskState::Succeeded,
            failures: Some(0),
        }
    }

    pub(super) fn id(&self) -> TaskId {
        self.submission.id.unwrap()
    }

    /// A task that takes long and does not stop when it is asked to, submitted until `latest`.
    pub(super) fn long(latest: Duration, chance: &mut Chance) -> Self {
        let at = chance.between(Duration::ZERO, latest / 2);
        let work = Work {
            millis: 20_000 + 1_000 * u64::try_from(chance.below(30)).unwrap(),
            ..Work::default()
        };
        Self::new(submission("work", work), at, chance)
    }

    /// A task of any kind, submitted until `latest`.
    pub(super) fn any(latest: Duration, chance: &mut Chance) -> Self {
        let seconds = |chance: &mut Chance, least, most| {
            chance.between(Duration::from_secs(least), Duration::from_secs(most))
        };
        let at = chance.between(Duration::ZERO, latest);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap();
        let mut work = Work {
            millis: millis(seconds(chance, 0, 2)),
            is_polite: chance.hits(500),
            ..Work::default()
        };
        let kind = chance.below(12);
        match kind {
            0 => work.millis = millis(seconds(chance, 60, 150)),
            1 | 2 | 7 | 8 => work.millis = millis(seconds(chance, 3, 40)),
            3 => work.failures = 2,
            6 => work.children = 2,
            10 | 11 => (work.children, work.millis) = (3, 300),
            9 => work.millis = 60_000,
            _ => {}
        }
        let action = match kind {
            3 => "shaky",
            4 => "bad",
            5 => "panics",
            6 => "parent",
            10 | 11 => "saga",
            _ => "work",
        };
        let mut spec = Self::new(submission(action, work), at, chance);
        spec.shape(kind, seconds(chance, 5, 60), chance);
        if action == "saga" {
            spec.signalled_at = Some(at + seconds(chance, 0, 20));
        }
        if chance.hits(150) {
            let delay = seconds(chance, 0, 20);
            spec.cancelled_at = Some(at + delay);
        }
        if chance.hits(200) {
            spec.submission.run_at = Some(wall(at + seconds(chance, 0, 30)));
        }
        spec.submission.priority = i16::try_from(chance.below(3)).unwrap();
        spec
    }

    /// What sets the kinds of tasks apart, beside what they do.
    fn shape(&mut self, kind: usize, later: Duration, chance: &mut Chance) {
        let options = &mut self.submission.options;
        let retry = |attempts, delay| {
            RetryPolicy::new(attempts, Duration::from_secs(delay), Duration::from_secs(5)).unwrap()
        };
        match kind {
            3 => {
                (options.retry, self.failures) = (retry(5, 2), Some(2));
            }
            4 | 5 => {
                self.natural = TaskState::Failed;
                if chance.hits(500) {
                    (options.on_failure, self.natural) = (OnFailure::Pause, TaskState::Paused);
                }
            }
            6 => (options.retry, self.failures) = (retry(50, 1), None), // The store may fail it.
            7 | 2 => {
                options.delivery = Delivery::Once;
                if chance.hits(500) {
                    options.on_failure = OnFailure::Pause;
                }
            }
            8 => {
                let deadline = self.submitted_at + Duration::from_secs(31) + later;
                self.submission.deadline = Some(wall(deadline));
            }
            9 => {
                (options.retry, self.natural) = (retry(2, 1), TaskState::Failed);
                options.timeout = Some(Duration::from_secs(5));
            }
            _ => {}
        }
    }

    /// What is wrong with how the task ended.
    pub(super) fn wrong_end(&self, row: &Task) -> Option<String> {
        let options = &self.submission.options;
        let says = |word: &str| {
            let error = row.error.as_ref();
            error.is_some_and(|error| error.message.contains(word))
        };
        let is_right = match row.state {
            TaskState::Succeeded if self.signalled_at.is_some() => {
                let output = row.output.as_ref().map(|output| output.as_str().to_owned());
                output.as_deref() == Some("8")
            }
            state if state == self.natural => {
                let counted = self
                    .failures
                    .is_none_or(|failures| failures == row.failures);
                state != TaskState::Succeeded || counted
            }
            TaskState::Cancelled => self.cancelled_at.is_some(),
            TaskState::Failed | TaskState::Paused => {
                let is_lost = options.delivery == Delivery::Once && says("`once`");
                let is_late = self.submission.deadline.is_some() && says("deadline");
                // Whoever asks for a cancel stops a polite action, which may say so before it is cancelled.
                let is_stopped = self.cancelled_at.is_some();
                is_lost || is_late || is_stopped || row.crashes > 0
            }
            TaskState::Scheduled
            | TaskState::Blocked
            | TaskState::Ready
            | TaskState::Running
            | TaskState::Suspended
            | TaskState::Succeeded => false,
        };
        (!is_right).then(|| format!("it should be {}: {row:?}", self.natural))
    }
}
