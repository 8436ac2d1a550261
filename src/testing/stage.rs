//! Where a rehearsal is played: one attempt after the other, and the clock moves when nothing else can.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::watch;

use super::crash::{Crash, What, Write};
use super::error::RehearsalError;
use super::family::CHANCE;
use super::host::{RehearsalHost, Shared};
use super::rehearsed::Rehearsed;
use super::world::{Scripted, World};
use crate::action::durable::{Drive, Driven, Journal};
use crate::action::{Context, Host, Registry, Running};
use crate::clock::{Clock, SystemClock};
use crate::domain::{
    ActionName, Attempt, Ending, Failure, Options, PayloadLimits, StepName, Submission, Task,
    TaskId, TaskState, ending_of_failure,
};

/// How long, on the machine's clock, an attempt that something else than a step keeps loaded is waited for before others
/// run and the clock moves.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often that may come to nothing.
const PATIENCE_MAX: u32 = 60;

/// All that is told of a rehearsal.
pub(super) struct Plan {
    pub(super) registry: Registry,
    /// What sub-tasks come to that are not run.
    pub(super) told: Registry,
    pub(super) submission: Submission,
    pub(super) script: Vec<Scripted>,
    /// Steps that take time.
    pub(super) lasting: Vec<(StepName, Duration)>,
    pub(super) starting_at: Timestamp,
}

/// What one run came to.
pub(super) struct Played {
    pub(super) rehearsed: Rehearsed,
    pub(super) writes: Vec<Write>,
    /// Whether no crash is still to come.
    pub(super) is_crashed: bool,
    pub(super) ran_again: Option<(ActionName, StepName)>,
}

impl Plan {
    /// Plays it from the start to the end of its task.
    pub(super) async fn play(&self, crash: Option<Crash>) -> Result<Played, RehearsalError> {
        let stage = Stage {
            plan: self,
            world: Shared(Arc::new(Mutex::new(World::new(self, crash)))),
            clock: SystemClock::shared(),
        };
        stage.run().await?;
        let world = stage.world.lock();
        let stuck = || RehearsalError::Stuck {
            waits: world.waits(),
        };
        Ok(Played {
            rehearsed: Rehearsed::of(&world).ok_or_else(stuck)?,
            writes: world.writes.clone(),
            is_crashed: world.crash.is_none(),
            ran_again: world.ran_again.clone(),
        })
    }

    fn begin(&self, task: &Task, context: Context) -> Option<Running> {
        let input = || task.input.clone();
        if self.told.has(&task.action) && task.parent.is_some() {
            return self.told.begin(&task.action, context, input());
        }
        self.registry.begin(&task.action, context, input())
    }
}

struct Stage<'a> {
    plan: &'a Plan,
    world: Shared,
    clock: Arc<dyn Clock>,
}

/// What comes next.
enum Next {
    Attempt(TaskId),
    Over,
}

impl Stage<'_> {
    async fn run(&self) -> Result<(), RehearsalError> {
        loop {
            match self.next()? {
                Next::Attempt(task) => self.attempt(task).await?,
                Next::Over => return Ok(()),
            }
        }
    }

    fn next(&self) -> Result<Next, RehearsalError> {
        let mut world = self.world.lock();
        loop {
            world.catch_up();
            let root = world.tasks.get(&world.root).map(|kept| &kept.task);
            if root.is_none_or(|root| root.state.is_final()) {
                return Ok(Next::Over);
            }
            let mut tasks = world.tasks.values().map(|kept| &kept.task);
            if let Some(paused) = tasks.find(|task| task.state == TaskState::Paused) {
                let failure = paused.error.clone();
                return Err(RehearsalError::Paused {
                    action: paused.action.clone(),
                    failure: failure.unwrap_or_else(|| Failure::fatal("it says nothing")),
                });
            }
            if let Some(ready) = world.ready() {
                return Ok(Next::Attempt(ready));
            }
            if !world.move_clock() {
                return Err(RehearsalError::Stuck {
                    waits: world.waits(),
                });
            }
        }
    }

    /// Runs one attempt of the task, and stores how it ended.
    fn attempt(
        &self,
        id: TaskId,
    ) -> Pin<Box<dyn Future<Output = Result<(), RehearsalError>> + Send + '_>> {
        Box::pin(async move {
            let Some(task) = self.world.lock().begin(id)? else {
                return Ok(());
            };
            let (attempt, options) = (task.attempt, task.options);
            let failures = task.failures + 1;
            let task = Arc::new(task);
            let host: Arc<dyn Host> = Arc::new(RehearsalHost {
                world: self.world.clone(),
                task: id,
                attempt,
            });
            let (_stop, stopped) = watch::channel(None); // Kept: nobody asks it to stop.
            let context = Context::new(Arc::clone(&task), host, stopped);
            let journal = Arc::clone(context.journal());
            self.world.lock().loaded(id, Arc::downgrade(&journal));
            // What runs before the first await is the action's own code as well, and may panic.
            let begun = catch_unwind(AssertUnwindSafe(|| self.plan.begin(&task, context)));
            let driven = match begun {
                Ok(Some(action)) => self.drive(&task, action, &journal).await?,
                Ok(None) => return Err(RehearsalError::UnknownAction(task.action.clone())),
                Err(panic) => Some(Driven::Ended(Err(panicked(panic.as_ref())))),
            };
            if let Some(driven) = driven {
                self.settle((id, attempt), driven, (&options, failures), &journal);
            }
            Ok(())
        })
    }

    /// Drives the attempt until it ends or waits; `None` when its executor has died.
    async fn drive(
        &self,
        task: &Task,
        action: Running,
        journal: &Arc<Journal>,
    ) -> Result<Option<Driven>, RehearsalError> {
        let caught = AssertUnwindSafe(action)
            .catch_unwind()
            .map(|result| result.unwrap_or_else(|panic| Err(panicked(panic.as_ref()))));
        let mut drive = Drive::new(Box::pin(caught), Arc::clone(journal));
        let mut idle = 0;
        loop {
            let driven = poll_fn(|context| {
                let polled = Pin::new(&mut drive).poll(context);
                if !self.world.lock().is_current(task.id, task.attempt) {
                    return Poll::Ready(None);
                }
                polled.map(Some)
            });
            tokio::select! {
                biased;
                driven = driven => return Ok(driven),
                // Made only once it is needed: a rehearsal without it needs no timer.
                () = async { self.clock.sleep(PATIENCE).await } => {}
            }
            let other = {
                let mut world = self.world.lock();
                world.catch_up();
                let other = world.ready();
                idle = if other.is_some() || world.move_clock() {
                    0
                } else {
                    idle + 1
                };
                world.catch_up();
                other
            };
            if let Some(other) = other {
                self.attempt(other).await?;
            }
            if idle >= PATIENCE_MAX {
                return Err(RehearsalError::Hangs {
                    action: task.action.clone(),
                    seconds: PATIENCE.as_secs() * u64::from(idle),
                });
            }
            journal.nudge();
        }
    }

    /// Stores how an attempt ended, as an executor does.
    fn settle(
        &self,
        (id, attempt): (TaskId, Attempt),
        driven: Driven,
        (options, failures): (&Options, u32),
        journal: &Journal,
    ) {
        let limits = PayloadLimits::default();
        let ended = match driven {
            Driven::Suspended {
                waiting_for,
                wakes_at,
            } => {
                let ending = Ending::Suspended {
                    waiting_for,
                    wakes_at,
                };
                return self.world.lock().end(id, ending);
            }
            Driven::Ended(ended) => ended,
        };
        let ended = ended.and_then(|output| {
            let refused = |error| Failure::fatal(format_args!("the output is refused: {error}"));
            output.within(limits).map_err(refused)
        });
        let not_asked_for = journal.changes().not_asked_for;
        let failed = u32::from(ended.is_err());
        let ending = match ended {
            Ok(output) => Ending::Succeeded(output),
            Err(failure) => ending_of_failure(options, failures, failure, CHANCE),
        };
        let store = |world: &mut World| {
            if let Some(kept) = world.tasks.get_mut(&id) {
                kept.task.failures += failed;
                kept.not_asked_for = not_asked_for;
            }
            world.end(id, ending);
        };
        let mut world = self.world.lock();
        let stored = world.write((id, attempt), None, What::Ending, store);
        stored.unwrap_or_default(); // Otherwise it is lost, and another attempt follows.
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::retry(format_args!(
        "the action panicked: {}",
        words.unwrap_or("without a message")
    ))
}
