//! What an action asks of its executor, answered from memory.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::crash::What;
use super::family::CHANCE;
use super::world::{World, later};
use crate::action::{Host, SpawnBatch, SpawnedAs};
use crate::domain::limits::LOG_BYTES_MAX;
use crate::domain::{
    Attempt, Failure, FanOut, LogStream, Payload, PayloadLimits, SignalName, Step, StepName,
    StepProgress, Task, TaskId,
};

/// How long an action that only waits is kept loaded elsewhere; here not at all.
const LINGER_MAX: Duration = Duration::from_millis(20);

/// The world, shared by all attempts of a rehearsal.
#[derive(Clone)]
pub(super) struct Shared(pub(super) Arc<Mutex<World>>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the attempts under way look again for what they wait for.
    pub(super) fn nudge(&self) {
        let journals = self.lock().journals();
        for journal in journals {
            journal.nudge();
        }
    }
}

/// The host of one attempt.
pub(super) struct RehearsalHost {
    pub(super) world: Shared,
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
}

impl RehearsalHost {
    fn by(&self) -> (TaskId, Attempt) {
        (self.task, self.attempt)
    }

    /// The world, if the attempt is still the task's.
    fn own(&self) -> Option<MutexGuard<'_, World>> {
        Some(self.world.lock()).filter(|world| world.is_current(self.task, self.attempt))
    }
}

/// What was found; never returns for an attempt that is lost.
async fn or_lost<T>(found: Option<T>) -> T {
    match found {
        Some(found) => found,
        None => std::future::pending().await,
    }
}

#[async_trait]
impl Host for RehearsalHost {
    fn now(&self) -> Timestamp {
        self.world.lock().now
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        if duration <= LINGER_MAX {
            return Box::pin(std::future::ready(()));
        }
        // Whoever moves the clock polls the action again.
        let world = self.world.clone();
        let until = later(self.now(), duration);
        Box::pin(std::future::poll_fn(move |_| {
            if world.lock().now < until {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }))
    }

    fn chance(&self) -> f64 {
        CHANCE
    }

    fn payload_limits(&self) -> PayloadLimits {
        PayloadLimits::default()
    }

    async fn may_go_on(&self) {
        let is_own = self.own().map(|_| ());
        or_lost(is_own).await;
    }

    fn begin_step(&self, name: &StepName) {
        self.world.lock().begin_step(self.task, name);
    }

    async fn steps(&self) -> Result<Vec<Step>, Failure> {
        let world = self.world.lock();
        let kept = world.tasks.get(&self.task);
        Ok(kept.map_or_else(Vec::new, |kept| kept.steps.values().cloned().collect()))
    }

    async fn record(&self, step: Step) {
        let what = match step.progress {
            StepProgress::Waiting { .. } => What::Wait,
            StepProgress::Ended { .. } => What::End,
        };
        let name = step.name.clone();
        let written = self
            .world
            .lock()
            .write(self.by(), Some(&name), what, |world| {
                world.record(self.task, step)
            });
        if or_lost(written).await {
            self.world.nudge(); // A signal has followed.
        }
    }

    async fn take_signal(
        &self,
        signal: &SignalName,
        step: &StepName,
        place: u32,
    ) -> Option<Payload> {
        let taken = self.own().map(|mut world| {
            let is_root = world.root == self.task;
            let mut sent = world.signals.iter();
            let oldest = sent.position(|(name, _)| is_root && name == signal)?;
            Some(world.write(self.by(), Some(step), What::Signal, |world| {
                world.take(oldest, step, place)
            }))
        });
        match or_lost(taken).await {
            None => None,
            Some(taken) => Some(or_lost(taken).await),
        }
    }

    async fn spawn(&self, batch: SpawnBatch) -> Result<SpawnedAs, Failure> {
        let spawned = self.own().map(|mut world| {
            match world.subtasks(self.task, &batch, self.payload_limits()) {
                Err(failure) => Some(Err(failure)),
                Ok(Err(known)) => Some(Ok(SpawnedAs::Known(known))),
                Ok(Ok(tasks)) => {
                    let name = batch.name.clone();
                    let what = What::Spawn;
                    let spawn = |world: &mut World| world.spawn(self.task, &batch, tasks);
                    world.write(self.by(), Some(&name), what, spawn).map(Ok)
                }
            }
        });
        or_lost(spawned.flatten()).await
    }

    async fn fan_out(&self, name: &StepName) -> Result<Option<FanOut>, Failure> {
        Ok(self.world.lock().fan_out(self.task, name))
    }

    async fn spawned(
        &self,
        name: &StepName,
        from: u32,
        limit: usize,
    ) -> Result<Vec<Task>, Failure> {
        Ok(self.world.lock().spawned(self.task, name, from, limit))
    }

    async fn cancel_spawned(&self, name: &StepName) -> Result<(), Failure> {
        let cancelled = self
            .own()
            .map(|mut world| world.cancel_spawned(self.task, name));
        or_lost(cancelled).await;
        Ok(())
    }

    async fn write_log(&self, _stream: LogStream, text: String) {
        if let Some(kept) = self.world.lock().tasks.get_mut(&self.task)
            && kept.log.len() < LOG_BYTES_MAX
        {
            kept.log.push_str(&text);
        }
    }

    fn report_progress(&self, _counts: (u64, Option<u64>), _message: &str) {}
}
