//! The store in one SQLite file: for one host, and for no service at all.
//!
//! One connection writes, so writers never meet a lock of their own process; a few others read beside it
//! (write-ahead log). Each commit is on disk before it is answered. Batches travel as one JSON text
//! (`json_each`), because each statement is a message to the connection's thread.
//!
//! The store's clock is the host's: whoever uses the file is on that host.
//!
//! A bound limit is written `limit +?3`. SQLite looks at the value of a bare one while it plans, so each new value makes it plan
//! again (`sqlite3ExprIsInteger` in 3.51), which costs more than most statements.

mod audit;
mod below;
mod cancel;
mod claim;
mod error;
mod executors;
mod fan_out;
mod history;
mod housekeeping;
mod list;
mod operate;
mod overview;
mod pools;
mod progress;
mod queues;
mod read;
mod schedules;
mod schema;
mod settle;
mod signal;
mod spawn;
mod step;
mod submit;
mod take_over;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqlitePool};
use uuid::Uuid;

use self::pools::{ACQUIRE_MAX, CALL_MAX, call, connection, lazy_pool, pool, read_only};
use super::time::Time;
use super::{
    Below, CancelSpawned, Cancelled, Due, Fired, Glance, IdleFound, IdleLook, List, Listed,
    Operated, Overview, Recorded, Renewal, SCHEMA_VERSION, ScheduleCreated, ScheduleList,
    SchedulesListed, Settled, Signalled, Spawn, Spawned, Store, StoreError, StoreIdentity,
    Submitted, TakeSignal, TakenOver, TookSignal, Triggered,
};
use crate::clock::{Clock, SystemClock};
use crate::domain::limits::BATCH_MAX;
use crate::domain::{
    ActionName, Attempt, Audit, AuditDepth, DeadLetter, ExecutorId, ExecutorRecord, FanOut, Firing,
    HistoryEntry, LogChunk, LogPosition, NewSignal, NewTask, Operator, Progress, QueueName,
    QueueRecord, ScheduleName, ScheduleRecord, ScheduleSpec, Settlement, Step, StepName,
    StepRecord, Task, TaskId, Verb, Violation,
};

/// Connections that read beside the writer.
const READERS_MAX: u32 = 4;

/// The store in one SQLite file, or in the memory of this process.
pub struct SqliteStore {
    url: String,
    /// How to open the file again; `None` in memory.
    options: Option<SqliteConnectOptions>,
    writer: SqlitePool,
    readers: SqlitePool,
    /// Whether the connections are another's, who closes them.
    is_shared: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the file that `url` names (`sqlite:PATH`) and creates it if it is missing. `sqlite::memory:` is
    /// a store that lives as long as this value, known to nobody else. The schema is not looked at.
    ///
    /// # Errors
    ///
    /// [`StoreError::Address`]: the text is no address, or the file is no SQLite file.
    /// [`StoreError::Denied`]: the file cannot be opened or created.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with_clock(url, SystemClock::shared()).await
    }

    /// As [`SqliteStore::open`], by another clock than the host's: whoever moves it moves due times and leases.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub async fn open_with_clock(url: &str, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::from_str(url)
            .map_err(|cause| StoreError::Address {
                reason: cause.to_string(),
            })?
            .create_if_missing(true)
            .busy_timeout(ACQUIRE_MAX)
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let is_in_memory = url.contains(":memory:") || url.contains("mode=memory");
        let (options, writer, readers) = if is_in_memory {
            // Memory is the connection's: there is one, and it is never given up.
            let only = pool(options, 1).await?;
            (None, only.clone(), only)
        } else {
            let options = options.journal_mode(SqliteJournalMode::Wal);
            let writer = pool(options.clone(), 1).await?;
            let readers = pool(read_only(&options), READERS_MAX).await?;
            (Some(options), writer, readers)
        };
        Ok(Self {
            url: url.to_owned(),
            options,
            writer,
            readers,
            is_shared: false,
            clock,
        })
    }

    fn now(&self) -> Time {
        Time::from(self.clock.now())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        if let Some(found) = self.schema_version().await?
            && found > SCHEMA_VERSION
        {
            return Err(StoreError::Schema {
                found: Some(found),
                expected: SCHEMA_VERSION,
            });
        }
        schema::migrate(&self.writer).await
    }

    async fn schema_version(&self) -> Result<Option<i64>, StoreError> {
        call!(self.readers, read::schema_version())
    }

    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        call!(self.readers, read::identity(self.clock.now()))
    }

    async fn submit(&self, tasks: &[NewTask]) -> Result<Vec<Submitted>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        call!(self.writer, submit::submit(tasks, self.now()))
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
            self.writer,
            claim::submit_and_claim(executor, tasks, self.now())
        )
    }

    async fn claim(&self, executor: ExecutorId, tasks: &[TaskId]) -> Result<Vec<Task>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        call!(self.writer, claim::claim(executor, tasks, self.now()))
    }

    async fn claim_idle(
        &self,
        executor: ExecutorId,
        look: &IdleLook,
    ) -> Result<IdleFound, StoreError> {
        call!(self.writer, claim::claim_idle(executor, look, self.now()))
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
            self.writer,
            settle::settle(executor, settlements, self.now())
        )
    }

    async fn cancel(&self, task: TaskId, reason: &str) -> Result<Cancelled, StoreError> {
        call!(self.writer, cancel::cancel(task, reason, None, self.now()))
    }

    async fn enroll(&self, executor: &ExecutorRecord, lease: Duration) -> Result<(), StoreError> {
        call!(
            self.writer,
            executors::enroll(executor, self.now().after(lease))
        )
    }

    async fn renew(&self, executor: ExecutorId, lease: Duration) -> Result<Renewal, StoreError> {
        call!(
            self.writer,
            executors::renew(executor, self.now().after(lease), self.now())
        )
    }

    fn apart(&self) -> Arc<dyn Store> {
        let (writer, readers) = match &self.options {
            Some(options) => (lazy_pool(options), lazy_pool(&read_only(options))),
            None => (self.writer.clone(), self.readers.clone()),
        };
        Arc::new(Self {
            url: self.url.clone(),
            options: self.options.clone(),
            writer,
            readers,
            is_shared: self.options.is_none(),
            clock: Arc::clone(&self.clock),
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
        call!(
            self.writer,
            executors::end_lease(executor, ends_at, self.now())
        )
    }

    async fn note_token(&self, executor: ExecutorId, is_held: bool) -> Result<(), StoreError> {
        call!(self.writer, executors::note_token(executor, is_held))
    }

    async fn glance(&self, lease_left: Duration) -> Result<Glance, StoreError> {
        call!(self.readers, housekeeping::glance(lease_left, self.now()))
    }

    async fn put_on_trial(
        &self,
        executor: ExecutorId,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<(), StoreError> {
        call!(
            self.writer,
            executors::put_on_trial(executor, task, attempt)
        )
    }

    async fn retire(&self, executor: ExecutorId) -> Result<TakenOver, StoreError> {
        let mut all = TakenOver::default();
        loop {
            let (taken, is_done) = call!(
                self.writer,
                take_over::retire(executor, BATCH_MAX, self.now())
            )?;
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
        call!(self.writer, take_over::take_over(whose, limit, self.now()))
    }

    async fn due(&self, limit: usize) -> Result<Due, StoreError> {
        call!(self.writer, housekeeping::due(limit, self.now()))
    }

    async fn prune(&self, keep: Duration, limit: usize) -> Result<u64, StoreError> {
        let until = self.now().before(keep);
        call!(self.writer, schedules::prune(until, limit))?;
        call!(self.writer, housekeeping::prune(until, limit))
    }

    async fn executors(&self) -> Result<Vec<ExecutorRecord>, StoreError> {
        call!(self.readers, executors::executors(self.now()))
    }

    async fn known_actions(&self) -> Result<Vec<ActionName>, StoreError> {
        call!(self.readers, executors::known_actions())
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), StoreError> {
        call!(self.writer, queues::create_queue(queue))
    }

    async fn pause_queue(&self, queue: &QueueName, by: &Operator) -> Result<bool, StoreError> {
        call!(self.writer, queues::pause_queue(queue, by, self.now()))
    }

    async fn resume_queue(&self, queue: &QueueName) -> Result<bool, StoreError> {
        call!(self.writer, queues::resume_queue(queue))
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, StoreError> {
        call!(self.readers, queues::queues())
    }

    async fn overview(&self, limit: usize) -> Result<Overview, StoreError> {
        call!(self.readers, overview::overview(limit, self.now()))
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
        let mut findings = call!(self.readers, audit::findings(self.now()))?;
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
        call!(self.writer, audit::repair(violations, self.now()))
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
        call!(self.writer, step::record(executor, records))
    }

    async fn signal(&self, signals: &[NewSignal]) -> Result<Vec<Signalled>, StoreError> {
        if signals.is_empty() {
            return Ok(Vec::new());
        }
        call!(self.writer, signal::signal(signals, self.now()))
    }

    async fn take_signal(
        &self,
        executor: ExecutorId,
        wish: &TakeSignal,
    ) -> Result<TookSignal, StoreError> {
        call!(self.writer, signal::take(executor, wish))
    }

    async fn spawn(&self, executor: ExecutorId, spawn: &Spawn) -> Result<Spawned, StoreError> {
        call!(self.writer, spawn::spawn(executor, spawn, self.now()))
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
        call!(
            self.writer,
            below::cancel_spawned(executor, wish, limit, self.now())
        )
    }

    async fn clear_below(&self, limit: usize) -> Result<Below, StoreError> {
        call!(self.writer, below::clear_below(limit, self.now()))
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        if chunks.is_empty() {
            return Ok(());
        }
        call!(self.writer, housekeeping::append_logs(chunks))
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
        call!(
            self.writer,
            cancel::cancel(task, reason, Some(by), self.now())
        )
    }

    async fn operate(
        &self,
        task: TaskId,
        verb: &Verb,
        by: &Operator,
    ) -> Result<Operated, StoreError> {
        call!(self.writer, operate::operate(task, verb, by, self.now()))
    }

    async fn note_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        call!(self.writer, history::note_dead_letter(letter, self.now()))
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
        call!(self.writer, progress::note(executor, progress))
    }

    async fn create_schedule(
        &self,
        spec: &ScheduleSpec,
        created_by: &str,
    ) -> Result<ScheduleCreated, StoreError> {
        call!(self.writer, schedules::create(spec, created_by, self.now()))
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
        call!(self.writer, schedules::pause(name))
    }

    async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        call!(self.writer, schedules::resume(name, self.now()))
    }

    async fn delete_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        call!(self.writer, schedules::delete(name))
    }

    async fn trigger_schedule(&self, name: &ScheduleName) -> Result<Option<Triggered>, StoreError> {
        call!(self.writer, schedules::trigger(name, self.now()))
    }

    async fn fire_schedules(&self, limit: usize) -> Result<Fired, StoreError> {
        let mut fired = Fired {
            next_in: call!(self.readers, schedules::next_in(self.now()))?,
            ..Fired::default()
        };
        if fired.next_in != Some(Duration::ZERO) {
            return Ok(fired);
        }
        for name in call!(self.readers, schedules::due(limit, self.now()))? {
            match call!(self.writer, schedules::fire(&name, self.now())) {
                Ok(one) => fired.add(one),
                Err(error) if error.is_transient() => return fired.interrupted(error),
                Err(error) => {
                    tracing::error!(schedule.name = name, %error, "Schedule `{name}` is paused, because it cannot go on");
                    let reason = error.to_string();
                    if let Err(error) = call!(self.writer, schedules::stop(&name, &reason)) {
                        return fired.interrupted(error);
                    }
                }
            }
        }
        match call!(self.readers, schedules::next_in(self.now())) {
            Ok(next_in) => Ok(Fired { next_in, ..fired }),
            Err(error) => fired.interrupted(error),
        }
    }

    async fn close(&self) {
        if self.is_shared {
            return;
        }
        self.readers.close().await;
        self.writer.close().await;
    }
}

#[cfg(test)]
mod tests;
