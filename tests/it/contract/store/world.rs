//! One store for one test, and what tests do with it in one line.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use longshore::domain::{
    ActionName, Attempt, Ending, ExecutorId, ExecutorName, ExecutorRecord, ExecutorState, Failure,
    FanOutPlace, FanOutPlan, NewTask, Payload, QueueName, Settlement, StepName, Submission, Task,
    TaskId,
};
use longshore::store::{IdleLook, Settled, Spawn, Spawned, Store, StoreAddress, Submitted};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::support::database;

/// A lease that outlives every test.
pub(crate) const LONG: Duration = Duration::from_hours(1);

/// One store for one test.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) address: String,
    dir: Option<tempfile::TempDir>,
}

impl World {
    /// A PostgreSQL database of its own.
    pub(crate) async fn postgres() -> Self {
        Self::at(database::fresh_database().await, None).await
    }

    /// A SQLite file of its own.
    pub(crate) async fn sqlite() -> Self {
        let world = Self::empty_sqlite().await;
        world.store.migrate().await.unwrap();
        world
    }

    /// A PostgreSQL database without a schema.
    pub(crate) async fn empty_postgres() -> Self {
        Self::at(database::empty_database().await, None).await
    }

    /// A SQLite file without a schema.
    pub(crate) async fn empty_sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("sqlite:{}", dir.path().join("tasks.db").display());
        Self::at(address, Some(dir)).await
    }

    async fn at(address: String, dir: Option<tempfile::TempDir>) -> Self {
        let store = open(&address).await;
        Self {
            store,
            address,
            dir,
        }
    }

    /// The same store, opened once more: another process.
    pub(crate) async fn another(&self) -> Arc<dyn Store> {
        open(&self.address).await
    }

    /// Lets go of everything.
    pub(crate) async fn end(self) {
        self.store.close().await;
        if self.dir.is_none() {
            database::drop_database(&self.address).await;
        }
    }

    /// Changes rows behind the store's back. `sql` must be right in both databases.
    pub(crate) async fn sql(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.is_postgres() {
            let mut connection = PgConnection::connect(&self.address).await.unwrap();
            connection.execute(sql).await.unwrap();
        } else {
            let mut connection = SqliteConnection::connect(&self.address).await.unwrap();
            connection.execute(sql).await.unwrap();
        }
    }

    /// An id, as it is written in a statement.
    pub(crate) fn id(&self, id: Uuid) -> String {
        if self.is_postgres() {
            format!("'{id}'::uuid")
        } else {
            format!("x'{}'", id.simple())
        }
    }

    /// Whether it is PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        self.dir.is_none()
    }

    /// Enters an executor with a long lease.
    pub(crate) async fn executor(&self) -> ExecutorId {
        let record = record("x1");
        self.store.enroll(&record, LONG).await.unwrap();
        record.id
    }

    /// Enters an executor that has lost its lease by the time this returns, with the tasks it had claimed.
    pub(crate) async fn lost_executor(&self, tasks: &[TaskId]) -> ExecutorId {
        let record = record("x1");
        self.store.enroll(&record, LONG).await.unwrap();
        let claimed = self.store.claim(record.id, tasks).await.unwrap();
        assert_eq!(claimed.len(), tasks.len());
        self.store.enroll(&record, Duration::ZERO).await.unwrap();
        record.id
    }

    /// Stores tasks, all of which are taken.
    pub(crate) async fn submit(&self, tasks: &[NewTask]) -> Vec<TaskId> {
        for answer in self.store.submit(tasks).await.unwrap() {
            assert!(matches!(answer, Submitted::Stored(_)), "{answer:?}");
        }
        tasks.iter().map(|task| task.id).collect()
    }

    /// Stores one task.
    pub(crate) async fn submit_one(&self, submission: Submission) -> TaskId {
        self.submit(&[new(submission)]).await[0]
    }

    /// Stores `count` tasks that are ready.
    pub(crate) async fn ready(&self, count: usize) -> Vec<TaskId> {
        let tasks: Vec<NewTask> = (0..count).map(|_| new(echo())).collect();
        self.submit(&tasks).await
    }

    /// Stores one task, and claims it for a new executor.
    pub(crate) async fn running(&self, submission: Submission) -> (ExecutorId, TaskId) {
        let task = self.submit_one(submission).await;
        let executor = self.executor().await;
        assert_eq!(self.claim(executor, &[task]).await.len(), 1);
        (executor, task)
    }

    /// Spawns sub-tasks for attempt 1 of a task, all of them at once.
    pub(crate) async fn spawned(
        &self,
        executor: ExecutorId,
        parent: TaskId,
        count: u32,
    ) -> Vec<TaskId> {
        let name = StepName::new("parts").unwrap();
        let subtask = |place| NewTask {
            fan_out: Some(FanOutPlace {
                parent,
                name: name.clone(),
                place,
            }),
            ..new(below(parent))
        };
        let spawn = Spawn {
            parent,
            attempt: Attempt(1),
            name: name.clone(),
            plan: FanOutPlan::default(),
            subtasks: (0..count).map(subtask).collect(),
            place: Some(0),
        };
        match self.store.spawn(executor, &spawn).await.unwrap() {
            Spawned::Stored(tasks) => tasks.iter().map(|facts| facts.id).collect(),
            other @ (Spawned::Known(_) | Spawned::Refused(_) | Spawned::Stale) => {
                panic!("{other:?}")
            }
        }
    }

    /// Claims tasks.
    pub(crate) async fn claim(&self, executor: ExecutorId, tasks: &[TaskId]) -> Vec<Task> {
        self.store.claim(executor, tasks).await.unwrap()
    }

    /// Settles one attempt.
    pub(crate) async fn settle(
        &self,
        executor: ExecutorId,
        task: TaskId,
        attempt: u32,
        ending: Ending,
    ) -> Settled {
        let settlement = settlement(task, attempt, ending);
        self.store.settle(executor, &[settlement]).await.unwrap()[0].clone()
    }

    /// A task that is there.
    pub(crate) async fn task(&self, task: TaskId) -> Task {
        let found = self.store.task(task).await.unwrap();
        found.expect("the task is stored")
    }
}

async fn open(address: &str) -> Arc<dyn Store> {
    let address: StoreAddress = address.parse().unwrap();
    address.open().await.unwrap()
}

/// The plain request.
pub(crate) fn echo() -> Submission {
    Submission::new(action("echo"), payload("{\"a\":[1,2.50]}"))
}

/// A request with an identity, newer than all before it.
pub(crate) fn new(submission: Submission) -> NewTask {
    NewTask {
        fan_out: None,
        id: TaskId::from_uuid(Uuid::now_v7()),
        origin: None,
        submission,
    }
}

/// A request for a sub-task.
pub(crate) fn below(parent: TaskId) -> Submission {
    Submission {
        parent: Some(parent),
        ..echo()
    }
}

/// So much later than now, by the clock of this host, which is the store's as well.
pub(crate) fn later(seconds: i64) -> Timestamp {
    Timestamp::now() + jiff::SignedDuration::from_secs(seconds)
}

pub(crate) fn action(name: &str) -> ActionName {
    ActionName::new(name).unwrap()
}

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn payload(text: &str) -> Payload {
    Payload::parse(text, longshore::domain::PayloadLimits::default()).unwrap()
}

pub(crate) fn succeeded() -> Ending {
    Ending::Succeeded(payload("\"done\""))
}

pub(crate) fn failed() -> Ending {
    Ending::Failed(Failure::fatal("it broke"))
}

pub(crate) fn settlement(task: TaskId, attempt: u32, ending: Ending) -> Settlement {
    Settlement {
        fan_out: None,
        task,
        attempt: Attempt(attempt),
        ending,
    }
}

/// A look for everything that is ready.
pub(crate) fn look(limit: usize) -> IdleLook {
    IdleLook {
        queue: QueueName::default_queue(),
        actions: vec![action("echo")],
        older_than: Duration::ZERO,
        since: None,
        resume: None,
        before: None,
        limit,
    }
}

/// An executor that serves the queue `default`.
pub(crate) fn record(name: &str) -> ExecutorRecord {
    ExecutorRecord {
        id: ExecutorId::from_uuid(Uuid::now_v7()),
        name: ExecutorName::new(name).unwrap(),
        host: "host-1".to_owned(),
        pid: u32::MAX,
        version: "0.1.0".to_owned(),
        slots: BTreeMap::from([(QueueName::default_queue(), 4)]),
        actions: vec![action("echo")],
        started_at: Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
        lease_ends_at: Timestamp::UNIX_EPOCH,
        state: ExecutorState::Live,
    }
}

/// The state that a settlement led to; panics when it was stale.
pub(crate) fn stored(settled: &Settled) -> longshore::domain::TaskState {
    match settled {
        Settled::Stored { state, .. } => *state,
        Settled::Stale => panic!("stale"),
    }
}
