//! The store in PostgreSQL 14 or newer: for many hosts.
//!
//! Batches travel as arrays (`unnest`), so that a statement has one text and one round trip whatever its size.
//! Rows are locked in the order of their ids, or skipped when somebody else has them: two batches never wait
//! for each other in a circle. Housekeeping always skips; only `settle`, `cancel` and `take_over` wait.

mod audit;
mod below;
mod cancel;
mod claim;
mod connections;
mod error;
mod executors;
mod fan_out;
mod gauge;
mod history;
mod housekeeping;
mod list;
mod operate;
mod outage;
mod overview;
mod progress;
mod queues;
mod read;
mod schedules;
mod settle;
mod signal;
mod spawn;
mod step;
mod submit;
mod submit_in;
mod take_over;

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
pub use gauge::{Gauge, GaugeReading};
use jiff::Timestamp;
pub use sqlx;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
pub use submit_in::SubmitInError;
use uuid::Uuid;

use self::connections::{Connections, SMALL_MAX, call};
use self::outage::Outage;
use self::submit::Statements;
use super::{
    Below, CancelSpawned, Cancelled, Due, Fired, Glance, IdleFound, IdleLook, List, Listed,
    Operated, Overview, Recorded, Renewal, SCHEMA_VERSION, ScheduleCreated, ScheduleList,
    SchedulesListed, Settled, Signalled, Spawn, Spawned, Store, StoreError, StoreIdentity,
    Submitted, TakeSignal, TakenOver, TookSignal, Triggered,
};
use crate::domain::limits::BATCH_MAX;
use crate::domain::{
    ActionName, Attempt, Audit, AuditDepth, DeadLetter, ExecutorId, ExecutorRecord, FanOut, Firing,
    HistoryEntry, LogChunk, LogPosition, NewSignal, NewTask, Operator, Progress, QueueName,
    QueueRecord, ScheduleName, ScheduleRecord, ScheduleSpec, Settlement, Step, StepName,
    StepRecord, Task, TaskId, Verb, Violation, masked_url,
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("migrations/postgres");
    // Its lock would belong to the session.
    migrations.set_locking(false);
    migrations
});

/// Connections for writing. A process writes through a few batching workers; more only contend
/// (measured: two connections write 20 % more than one, four less than two).
const WRITERS_MAX: u32 = 3;

/// Connections for small batches: one each for what is submitted, claimed and settled, and one for steps and signals.
const QUICK_MAX: u32 = 4;

/// Connections for reading.
const READERS_MAX: u32 = 3;

/// The store in PostgreSQL.
pub struct PostgresStore {
    address: String,
    options: PgConnectOptions,
    outage: Arc<Outage>,
    /// For small batches: see [`connections::quick`].
    quick: Connections,
    writers: Connections,
    readers: Connections,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects to the server that `url` names. The schema is not looked at.
    ///
    /// # Errors
    ///
    /// [`StoreError::Address`]: the text is no address. [`StoreError::Denied`]: user, password or database.
    /// [`StoreError::Unavailable`]: nobody answers there; the address is in it, without its password.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let address = masked_url(url);
        let options = connections::options(url)?;
        connections::probe(&options, &address).await?;
        let outage = Arc::default();
        Ok(Self {
            quick: Connections::new(connections::quick(&options), QUICK_MAX, &address, &outage),
            writers: Connections::new(options.clone(), WRITERS_MAX, &address, &outage),
            readers: Connections::new(options.clone(), READERS_MAX, &address, &outage),
            options,
            outage,
            address,
        })
    }

    /// The connections for a batch of so many.
    fn for_batch(&self, count: usize) -> &Connections {
        if count <= SMALL_MAX {
            &self.quick
        } else {
            &self.writers
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        if let Some(found) = self.schema_version().await?
            && found > SCHEMA_VERSION
        {
            return Err(StoreError::Schema {
                found: Some(found),
                expected: SCHEMA_VERSION,
            });
        }
        self.writers.migrate(&MIGRATIONS).await
    }

    async fn schema_version(&self) -> Result<Option<i64>, StoreError> {
        call!(self.readers, read::schema_version())
    }

    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        call!(self.readers, read::identity())
    }

    async fn submit(&self, tasks: &[NewTask]) -> Result<Vec<Submitted>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        call!(
            self.for_batch(tasks.len()),
            submit::submit(tasks, Statements::Kept)
        )
    }

    async fn submit_and_claim(
        &self,
        executor: ExecutorId,
        tasks: &[NewTask],
    ) -> Result<Vec<(Submitted, Option<Task>)>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        call!(
            self.for_batch(tasks.len()),
            claim::submit_and_claim(executor, tasks)
        )
    }

    async fn claim(&self, executor: ExecutorId, tasks: &[TaskId]) -> Result<Vec<Task>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        call!(self.for_batch(tasks.len()), claim::claim(executor, tasks))
    }

    async fn claim_idle(
        &self,
        executor: ExecutorId,
        look: &IdleLook,
    ) -> Result<IdleFound, StoreError> {
        call!(self.writers, claim::claim_idle(executor, look))
    }

    async fn settle(
        &self,
        executor: ExecutorId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        if settlements.is_empty() {
            return Ok(Vec::new());
        }
        call!(
            self.for_batch(settlements.len()),
            settle::settle(executor, settlements)
        )
    }

    async fn cancel(&self, task: TaskId, reason: &str) -> Result<Cancelled, StoreError> {
        call!(self.writers, cancel::cancel(task, reason, None))
    }

    async fn enroll(&self, executor: &ExecutorRecord, lease: Duration) -> Result<(), StoreError> {
        call!(self.writers, executors::enroll(executor, lease))
    }

    fn apart(&self) -> Arc<dyn Store> {
        let connections = || Connections::apart(self.options.clone(), &self.address, &self.outage);
        Arc::new(Self {
            quick: connections(),
            writers: connections(),
            readers: connections(),
            outage: Arc::clone(&self.outage),
            options: self.options.clone(),
            address: self.address.clone(),
        })
    }

    async fn lease_end(&self, executor: ExecutorId) -> Result<Option<Timestamp>, StoreError> {
        call!(self.readers, executors::lease_end(executor))
    }

    async fn end_lease(
        &self,
        executor: ExecutorId,
        ends_at: Timestamp,
    ) -> Result<bool, StoreError> {
        call!(self.writers, executors::end_lease(executor, ends_at))
    }

    async fn note_token(&self, executor: ExecutorId, is_held: bool) -> Result<(), StoreError> {
        call!(self.writers, executors::note_token(executor, is_held))
    }

    async fn glance(&self, lease_left: Duration) -> Result<Glance, StoreError> {
        call!(self.readers, housekeeping::glance(lease_left))
    }

    async fn put_on_trial(
        &self,
        executor: ExecutorId,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<(), StoreError> {
        call!(
            self.writers,
            executors::put_on_trial(executor, task, attempt)
        )
    }

    async fn renew(&self, executor: ExecutorId, lease: Duration) -> Result<Renewal, StoreError> {
        call!(self.writers, executors::renew(executor, lease))
    }

    async fn retire(&self, executor: ExecutorId) -> Result<TakenOver, StoreError> {
        let mut all = TakenOver::default();
        loop {
            let (taken, is_done) = call!(self.writers, take_over::retire(executor, BATCH_MAX))?;
            all.released.extend(taken.released);
            all.ended.extend(taken.ended);
            all.cancelled.extend(taken.cancelled);
            if is_done {
                return Ok(all);
            }
        }
    }

    async fn take_over(
        &self,
        whose: Option<ExecutorId>,
        limit: usize,
    ) -> Result<TakenOver, StoreError> {
        call!(self.writers, take_over::take_over(whose, limit))
    }

    async fn due(&self, limit: usize) -> Result<Due, StoreError> {
        call!(self.writers, housekeeping::due(limit))
    }

    async fn prune(&self, keep: Duration, limit: usize) -> Result<u64, StoreError> {
        call!(self.writers, schedules::prune(keep, limit))?;
        call!(self.writers, housekeeping::prune(keep, limit))
    }

    async fn executors(&self) -> Result<Vec<ExecutorRecord>, StoreError> {
        call!(self.readers, executors::executors())
    }

    async fn known_actions(&self) -> Result<Vec<ActionName>, StoreError> {
        call!(self.readers, executors::known_actions())
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), StoreError> {
        call!(self.writers, queues::create_queue(queue))
    }

    async fn pause_queue(&self, queue: &QueueName, by: &Operator) -> Result<bool, StoreError> {
        call!(self.writers, queues::pause_queue(queue, by))
    }

    async fn resume_queue(&self, queue: &QueueName) -> Result<bool, StoreError> {
        call!(self.writers, queues::resume_queue(queue))
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, StoreError> {
        call!(self.readers, queues::queues())
    }

    async fn overview(&self, limit: usize) -> Result<Overview, StoreError> {
        call!(self.readers, overview::overview(limit))
    }

    async fn task(&self, task: TaskId) -> Result<Option<Task>, StoreError> {
        self.tasks(&[task]).await?.only()
    }

    async fn tasks(&self, tasks: &[TaskId]) -> Result<Listed, StoreError> {
        call!(self.readers, read::tasks(tasks))
    }

    async fn owned(&self, executor: ExecutorId, limit: usize) -> Result<Vec<Task>, StoreError> {
        call!(self.readers, read::owned(executor, limit))
    }

    async fn ended(&self, tasks: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
        call!(self.readers, read::ended(tasks))
    }

    async fn ahead(&self, task: TaskId, limit: u64) -> Result<u64, StoreError> {
        call!(self.readers, read::ahead(task, limit))
    }

    async fn list(&self, list: &List) -> Result<Listed, StoreError> {
        call!(self.readers, list::list(list))
    }

    async fn tree(&self, task: TaskId) -> Result<Listed, StoreError> {
        call!(self.readers, read::tree(task))
    }

    async fn audit(&self, depth: AuditDepth) -> Result<Audit, StoreError> {
        let mut findings = call!(self.readers, audit::findings())?;
        let mut last = Uuid::nil();
        loop {
            let rows = call!(self.readers, audit::page(last, depth))?;
            match rows.last() {
                Some(row) if !findings.is_full() => last = row.id(),
                _ => return Ok(findings.into_audit()),
            }
            findings.enter_page(rows);
        }
    }

    async fn repair(&self, violations: &[Violation]) -> Result<TakenOver, StoreError> {
        call!(self.writers, audit::repair(violations))
    }

    async fn steps(&self, task: TaskId) -> Result<Vec<Step>, StoreError> {
        call!(self.readers, step::steps(task))
    }

    async fn record(
        &self,
        executor: ExecutorId,
        records: &[StepRecord],
    ) -> Result<Vec<Recorded>, StoreError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        call!(
            self.for_batch(records.len()),
            step::record(executor, records)
        )
    }

    async fn signal(&self, signals: &[NewSignal]) -> Result<Vec<Signalled>, StoreError> {
        if signals.is_empty() {
            return Ok(Vec::new());
        }
        call!(self.for_batch(signals.len()), signal::signal(signals))
    }

    async fn take_signal(
        &self,
        executor: ExecutorId,
        wish: &TakeSignal,
    ) -> Result<TookSignal, StoreError> {
        call!(self.quick, signal::take(executor, wish))
    }

    async fn spawn(&self, executor: ExecutorId, spawn: &Spawn) -> Result<Spawned, StoreError> {
        call!(self.writers, spawn::spawn(executor, spawn))
    }

    async fn fan_out(&self, task: TaskId, name: &StepName) -> Result<Option<FanOut>, StoreError> {
        call!(self.readers, fan_out::fan_out(task, name))
    }

    async fn spawned(
        &self,
        task: TaskId,
        name: &StepName,
        from: u32,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        call!(self.readers, spawn::spawned(task, name, from, limit))
    }

    async fn cancel_spawned(
        &self,
        executor: ExecutorId,
        wish: &CancelSpawned,
        limit: usize,
    ) -> Result<Option<Below>, StoreError> {
        call!(self.writers, below::cancel_spawned(executor, wish, limit))
    }

    async fn clear_below(&self, limit: usize) -> Result<Below, StoreError> {
        call!(self.writers, below::clear_below(limit))
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        if chunks.is_empty() {
            return Ok(());
        }
        call!(self.writers, housekeeping::append_logs(chunks))
    }

    async fn logs(
        &self,
        task: TaskId,
        after: Option<LogPosition>,
        limit: usize,
    ) -> Result<Vec<LogChunk>, StoreError> {
        call!(self.readers, read::logs(task, after, limit))
    }

    async fn cancel_by(
        &self,
        task: TaskId,
        reason: &str,
        by: &Operator,
    ) -> Result<Cancelled, StoreError> {
        call!(self.writers, cancel::cancel(task, reason, Some(by)))
    }

    async fn operate(
        &self,
        task: TaskId,
        verb: &Verb,
        by: &Operator,
    ) -> Result<Operated, StoreError> {
        call!(self.writers, operate::operate(task, verb, by))
    }

    async fn note_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        call!(self.writers, history::note_dead_letter(letter))
    }

    async fn history(&self, task: TaskId) -> Result<Vec<HistoryEntry>, StoreError> {
        call!(self.readers, history::history(task))
    }

    async fn count(&self, list: &List) -> Result<u64, StoreError> {
        call!(self.readers, list::count(list))
    }

    async fn note_progress(
        &self,
        executor: ExecutorId,
        progress: &[(TaskId, Progress)],
    ) -> Result<Vec<bool>, StoreError> {
        if progress.is_empty() {
            return Ok(Vec::new());
        }
        call!(self.writers, progress::note(executor, progress))
    }

    async fn create_schedule(
        &self,
        spec: &ScheduleSpec,
        created_by: &str,
    ) -> Result<ScheduleCreated, StoreError> {
        call!(self.writers, schedules::create(spec, created_by))
    }

    async fn schedules(&self, list: &ScheduleList) -> Result<SchedulesListed, StoreError> {
        call!(self.readers, schedules::list(list))
    }

    async fn schedule(&self, name: &ScheduleName) -> Result<Option<ScheduleRecord>, StoreError> {
        call!(self.readers, schedules::one(name))
    }

    async fn firings(&self, name: &ScheduleName, limit: usize) -> Result<Vec<Firing>, StoreError> {
        call!(self.readers, schedules::last_firings(name, limit))
    }

    async fn pause_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        call!(self.writers, schedules::pause(name))
    }

    async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        call!(self.writers, schedules::resume(name))
    }

    async fn delete_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        call!(self.writers, schedules::delete(name))
    }

    async fn trigger_schedule(&self, name: &ScheduleName) -> Result<Option<Triggered>, StoreError> {
        call!(self.writers, schedules::trigger(name))
    }

    async fn fire_schedules(&self, limit: usize) -> Result<Fired, StoreError> {
        let mut fired = Fired {
            next_in: call!(self.readers, schedules::next_in())?,
            ..Fired::default()
        };
        if fired.next_in != Some(Duration::ZERO) {
            return Ok(fired);
        }
        for name in call!(self.readers, schedules::due(limit))? {
            match call!(self.writers, schedules::fire(&name)) {
                Ok(one) => fired.add(one),
                Err(error) if error.is_transient() => return fired.interrupted(error),
                Err(error) => {
                    tracing::error!(schedule.name = name, %error, "Schedule `{name}` is paused, because it cannot go on");
                    let reason = error.to_string();
                    if let Err(error) = call!(self.writers, schedules::stop(&name, &reason)) {
                        return fired.interrupted(error);
                    }
                }
            }
        }
        match call!(self.readers, schedules::next_in()) {
            Ok(next_in) => Ok(Fired { next_in, ..fired }),
            Err(error) => fired.interrupted(error),
        }
    }

    async fn close(&self) {
        self.quick.close().await;
        self.writers.close().await;
        self.readers.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_version_is_the_last_migration() {
        let last = MIGRATIONS.iter().map(|migration| migration.version).max();
        assert_eq!(last, Some(SCHEMA_VERSION));
    }
}
