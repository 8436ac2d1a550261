//! A store whose answers get lost: what was asked for is done, and nobody hears of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use longshore::domain::{
    ActionName, Attempt, Audit, AuditDepth, DeadLetter, ExecutorId, ExecutorRecord, FanOut, Firing,
    HistoryEntry, LogChunk, LogPosition, NewSignal, NewTask, Operator, Progress, QueueName,
    QueueRecord, ScheduleName, ScheduleRecord, ScheduleSpec, Settlement, Step, StepName,
    StepRecord, Task, TaskId, Verb, Violation,
};
use longshore::store::{
    Below, CancelSpawned, Cancelled, Due, Fired, Glance, IdleFound, IdleLook, List, Listed,
    Operated, Overview, Recorded, Renewal, ScheduleCreated, ScheduleList, SchedulesListed, Settled,
    Signalled, Spawn, Spawned, Store, StoreError, StoreIdentity, Submitted, TakeSignal, TakenOver,
    TookSignal, Triggered,
};

/// A store whose answers get lost, as often as a test says.
#[derive(Debug)]
pub(crate) struct Flaky {
    store: Arc<dyn Store>,
    /// Shared with the stores apart.
    losing: Arc<Mutex<VecDeque<&'static str>>>,
    /// Of which method none comes. Shared with the stores apart.
    losing_all: Arc<Mutex<Option<&'static str>>>,
    /// How often each method was called. Shared with the stores apart.
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Flaky {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            losing: Arc::default(),
            losing_all: Arc::default(),
            calls: Arc::default(),
        })
    }

    /// The answer to the next call of `method` that has one to give gets lost.
    pub(crate) fn lose(&self, method: &'static str) {
        self.losing.lock().unwrap().push_back(method);
    }

    /// Every answer to `method` gets lost from now on.
    pub(crate) fn lose_all(&self, method: &'static str) {
        *self.losing_all.lock().unwrap() = Some(method);
    }

    /// The answers to what [`Flaky::lose_all`] named come again.
    pub(crate) fn lose_no_more(&self) {
        *self.losing_all.lock().unwrap() = None;
    }

    /// Whether everything that was to get lost is.
    pub(crate) fn has_lost_all(&self) -> bool {
        self.losing.lock().unwrap().is_empty()
    }

    /// How often each method was called until now.
    pub(crate) fn calls(&self) -> BTreeMap<String, usize> {
        self.calls.lock().unwrap().clone()
    }

    fn count(&self, method: &str) {
        let mut calls = self.calls.lock().unwrap();
        *calls.entry(method.to_owned()).or_default() += 1;
    }

    fn pass<T>(&self, method: &str, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        self.count(method);
        let mut losing = self.losing.lock().unwrap();
        let is_next = losing.front() == Some(&method);
        if answer.is_ok() && is_next {
            losing.pop_front();
        }
        let is_lost = is_next || *self.losing_all.lock().unwrap() == Some(method);
        if answer.is_ok() && is_lost {
            return Err(StoreError::Unavailable {
                reason: format!("the answer to `{method}` is lost"),
            });
        }
        answer
    }
}

#[async_trait]
impl Store for Flaky {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.pass("migrate", self.store.migrate().await)
    }

    async fn schema_version(&self) -> Result<Option<i64>, StoreError> {
        self.pass("schema_version", self.store.schema_version().await)
    }

    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.pass("identity", self.store.identity().await)
    }

    async fn submit(&self, tasks: &[NewTask]) -> Result<Vec<Submitted>, StoreError> {
        self.pass("submit", self.store.submit(tasks).await)
    }

    async fn submit_and_claim(
        &self,
        executor: ExecutorId,
        tasks: &[NewTask],
    ) -> Result<Vec<(Submitted, Option<Task>)>, StoreError> {
        let answer = self.store.submit_and_claim(executor, tasks).await;
        self.pass("submit_and_claim", answer)
    }

    async fn claim(&self, executor: ExecutorId, tasks: &[TaskId]) -> Result<Vec<Task>, StoreError> {
        let answer = self.store.claim(executor, tasks).await?;
        if answer.is_empty() {
            self.count("claim");
            Ok(answer)
        } else {
            self.pass("claim", Ok(answer))
        }
    }

    async fn claim_idle(
        &self,
        executor: ExecutorId,
        look: &IdleLook,
    ) -> Result<IdleFound, StoreError> {
        let answer = self.store.claim_idle(executor, look).await?;
        if answer.tasks.is_empty() {
            self.count("claim_idle");
            Ok(answer)
        } else {
            self.pass("claim_idle", Ok(answer))
        }
    }

    async fn settle(
        &self,
        executor: ExecutorId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        self.pass("settle", self.store.settle(executor, settlements).await)
    }

    async fn cancel(&self, task: TaskId, reason: &str) -> Result<Cancelled, StoreError> {
        self.pass("cancel", self.store.cancel(task, reason).await)
    }

    async fn enroll(&self, executor: &ExecutorRecord, lease: Duration) -> Result<(), StoreError> {
        self.pass("enroll", self.store.enroll(executor, lease).await)
    }

    async fn renew(&self, executor: ExecutorId, lease: Duration) -> Result<Renewal, StoreError> {
        self.pass("renew", self.store.renew(executor, lease).await)
    }

    async fn retire(&self, executor: ExecutorId) -> Result<TakenOver, StoreError> {
        self.pass("retire", self.store.retire(executor).await)
    }

    async fn take_over(
        &self,
        whose: Option<ExecutorId>,
        limit: usize,
    ) -> Result<TakenOver, StoreError> {
        self.pass("take_over", self.store.take_over(whose, limit).await)
    }

    fn apart(&self) -> Arc<dyn Store> {
        Arc::new(Self {
            store: self.store.apart(),
            losing: Arc::clone(&self.losing),
            losing_all: Arc::clone(&self.losing_all),
            calls: Arc::clone(&self.calls),
        })
    }

    async fn lease_end(&self, executor: ExecutorId) -> Result<Option<Timestamp>, StoreError> {
        self.pass("lease_end", self.store.lease_end(executor).await)
    }

    async fn end_lease(
        &self,
        executor: ExecutorId,
        ends_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let answer = self.store.end_lease(executor, ends_at).await;
        self.pass("end_lease", answer)
    }

    async fn note_token(&self, executor: ExecutorId, is_held: bool) -> Result<(), StoreError> {
        let answer = self.store.note_token(executor, is_held).await;
        self.pass("note_token", answer)
    }

    async fn glance(&self, lease_left: Duration) -> Result<Glance, StoreError> {
        self.pass("glance", self.store.glance(lease_left).await)
    }

    async fn put_on_trial(
        &self,
        executor: ExecutorId,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<(), StoreError> {
        let answer = self.store.put_on_trial(executor, task, attempt).await;
        self.pass("put_on_trial", answer)
    }

    async fn due(&self, limit: usize) -> Result<Due, StoreError> {
        self.pass("due", self.store.due(limit).await)
    }

    async fn prune(&self, keep: Duration, limit: usize) -> Result<u64, StoreError> {
        self.pass("prune", self.store.prune(keep, limit).await)
    }

    async fn executors(&self) -> Result<Vec<ExecutorRecord>, StoreError> {
        self.pass("executors", self.store.executors().await)
    }

    async fn known_actions(&self) -> Result<Vec<ActionName>, StoreError> {
        self.pass("known_actions", self.store.known_actions().await)
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.pass("create_queue", self.store.create_queue(queue).await)
    }

    async fn pause_queue(&self, queue: &QueueName, by: &Operator) -> Result<bool, StoreError> {
        self.pass("pause_queue", self.store.pause_queue(queue, by).await)
    }

    async fn resume_queue(&self, queue: &QueueName) -> Result<bool, StoreError> {
        self.pass("resume_queue", self.store.resume_queue(queue).await)
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, StoreError> {
        self.pass("queues", self.store.queues().await)
    }

    async fn overview(&self, limit: usize) -> Result<Overview, StoreError> {
        self.pass("overview", self.store.overview(limit).await)
    }

    async fn task(&self, task: TaskId) -> Result<Option<Task>, StoreError> {
        self.pass("task", self.store.task(task).await)
    }

    async fn tasks(&self, tasks: &[TaskId]) -> Result<Listed, StoreError> {
        self.pass("tasks", self.store.tasks(tasks).await)
    }

    async fn owned(&self, executor: ExecutorId, limit: usize) -> Result<Vec<Task>, StoreError> {
        self.pass("owned", self.store.owned(executor, limit).await)
    }

    async fn ended(&self, tasks: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
        self.pass("ended", self.store.ended(tasks).await)
    }

    async fn ahead(&self, task: TaskId, limit: u64) -> Result<u64, StoreError> {
        self.pass("ahead", self.store.ahead(task, limit).await)
    }

    async fn list(&self, list: &List) -> Result<Listed, StoreError> {
        self.pass("list", self.store.list(list).await)
    }

    async fn tree(&self, task: TaskId) -> Result<Listed, StoreError> {
        self.pass("tree", self.store.tree(task).await)
    }

    async fn audit(&self, depth: AuditDepth) -> Result<Audit, StoreError> {
        self.pass("audit", self.store.audit(depth).await)
    }

    async fn repair(&self, violations: &[Violation]) -> Result<TakenOver, StoreError> {
        self.pass("repair", self.store.repair(violations).await)
    }

    async fn steps(&self, task: TaskId) -> Result<Vec<Step>, StoreError> {
        self.pass("steps", self.store.steps(task).await)
    }

    async fn record(
        &self,
        executor: ExecutorId,
        records: &[StepRecord],
    ) -> Result<Vec<Recorded>, StoreError> {
        self.pass("record", self.store.record(executor, records).await)
    }

    async fn signal(&self, signals: &[NewSignal]) -> Result<Vec<Signalled>, StoreError> {
        self.pass("signal", self.store.signal(signals).await)
    }

    async fn take_signal(
        &self,
        executor: ExecutorId,
        wish: &TakeSignal,
    ) -> Result<TookSignal, StoreError> {
        let answer = self.store.take_signal(executor, wish).await?;
        if answer == TookSignal::NoneYet {
            self.count("take_signal");
            Ok(answer)
        } else {
            self.pass("take_signal", Ok(answer))
        }
    }

    async fn spawn(&self, executor: ExecutorId, spawn: &Spawn) -> Result<Spawned, StoreError> {
        self.pass("spawn", self.store.spawn(executor, spawn).await)
    }

    async fn fan_out(&self, task: TaskId, name: &StepName) -> Result<Option<FanOut>, StoreError> {
        self.pass("fan_out", self.store.fan_out(task, name).await)
    }

    async fn spawned(
        &self,
        task: TaskId,
        name: &StepName,
        from: u32,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        let answer = self.store.spawned(task, name, from, limit).await;
        self.pass("spawned", answer)
    }

    async fn cancel_spawned(
        &self,
        executor: ExecutorId,
        wish: &CancelSpawned,
        limit: usize,
    ) -> Result<Option<Below>, StoreError> {
        let answer = self.store.cancel_spawned(executor, wish, limit).await;
        self.pass("cancel_spawned", answer)
    }

    async fn clear_below(&self, limit: usize) -> Result<Below, StoreError> {
        self.pass("clear_below", self.store.clear_below(limit).await)
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        self.pass("append_logs", self.store.append_logs(chunks).await)
    }

    async fn logs(
        &self,
        task: TaskId,
        after: Option<LogPosition>,
        limit: usize,
    ) -> Result<Vec<LogChunk>, StoreError> {
        self.pass("logs", self.store.logs(task, after, limit).await)
    }

    async fn cancel_by(
        &self,
        task: TaskId,
        reason: &str,
        by: &Operator,
    ) -> Result<Cancelled, StoreError> {
        let answer = self.store.cancel_by(task, reason, by).await;
        self.pass("cancel_by", answer)
    }

    async fn operate(
        &self,
        task: TaskId,
        verb: &Verb,
        by: &Operator,
    ) -> Result<Operated, StoreError> {
        self.pass("operate", self.store.operate(task, verb, by).await)
    }

    async fn note_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        let answer = self.store.note_dead_letter(letter).await;
        self.pass("note_dead_letter", answer)
    }

    async fn history(&self, task: TaskId) -> Result<Vec<HistoryEntry>, StoreError> {
        self.pass("history", self.store.history(task).await)
    }

    async fn count(&self, list: &List) -> Result<u64, StoreError> {
        self.pass("count", self.store.count(list).await)
    }

    async fn note_progress(
        &self,
        executor: ExecutorId,
        progress: &[(TaskId, Progress)],
    ) -> Result<Vec<bool>, StoreError> {
        let answer = self.store.note_progress(executor, progress).await;
        self.pass("note_progress", answer)
    }

    async fn create_schedule(
        &self,
        spec: &ScheduleSpec,
        created_by: &str,
    ) -> Result<ScheduleCreated, StoreError> {
        let answer = self.store.create_schedule(spec, created_by).await;
        self.pass("create_schedule", answer)
    }

    async fn schedules(&self, list: &ScheduleList) -> Result<SchedulesListed, StoreError> {
        self.pass("schedules", self.store.schedules(list).await)
    }

    async fn schedule(&self, name: &ScheduleName) -> Result<Option<ScheduleRecord>, StoreError> {
        self.pass("schedule", self.store.schedule(name).await)
    }

    async fn firings(&self, name: &ScheduleName, limit: usize) -> Result<Vec<Firing>, StoreError> {
        self.pass("firings", self.store.firings(name, limit).await)
    }

    async fn pause_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        self.pass("pause_schedule", self.store.pause_schedule(name).await)
    }

    async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        self.pass("resume_schedule", self.store.resume_schedule(name).await)
    }

    async fn delete_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        self.pass("delete_schedule", self.store.delete_schedule(name).await)
    }

    async fn trigger_schedule(&self, name: &ScheduleName) -> Result<Option<Triggered>, StoreError> {
        self.pass("trigger_schedule", self.store.trigger_schedule(name).await)
    }

    async fn fire_schedules(&self, limit: usize) -> Result<Fired, StoreError> {
        self.pass("fire_schedules", self.store.fire_schedules(limit).await)
    }

    async fn close(&self) {
        self.store.close().await;
    }
}
