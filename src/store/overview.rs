//! What is open, at a glance: for people who watch. No payload is read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::progress::progress;
use super::queue::NameRow;
use super::row::RowName;
use super::time::Time;
use super::{StoreError, StoreIdentity};
use crate::domain::{
    ActionName, Attempt, ExecutorId, ExecutorRecord, Progress, QueueName, QueuePause, TaskId,
    TaskState,
};

/// The queues. These three statements are the same in both databases, which number arguments alike.
pub(super) const QUEUES: &str = "select name, paused_at, paused_by from queue";

/// Scans the tasks, once for all counts: an index on what is open would be written by every settlement.
pub(super) const COUNTS: &str = "
select queue, state, case when state = $1 then executor end as executor, count(*) as tasks,
    min(ready_at) filter (where state = $2) as oldest_ready_at
from task where finished_at is null
group by 1, 2, 3";

/// Scans the tasks, and keeps the few that come first.
pub(super) const OPEN: &str = "
select id, action, queue, attempt, executor, progress,
    coalesce(case when state = $2 then ready_at else started_at end, created_at) as since
from task where finished_at is null and state = $1
order by since, id limit cast($3 as bigint)";

/// Everything that is open, at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Who the store is, and when it was asked by its clock.
    pub identity: StoreIdentity,
    /// Every queue, sorted by name.
    pub queues: Vec<QueueOverview>,
    /// Every executor that is live, or was lost less than a day ago; the newest first.
    pub executors: Vec<ExecutorRecord>,
    /// How many tasks run for each executor that has any.
    pub busy: BTreeMap<ExecutorId, u64>,
    /// Some of the open tasks: those that are `paused`, `running` and `ready`, in that order; of each those that have
    /// been so for longest.
    pub tasks: Vec<OpenTask>,
}

/// A queue, and how many of its tasks are in which open state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOverview {
    /// Its name.
    pub name: QueueName,
    /// Tasks that are due later.
    pub scheduled: u64,
    /// Tasks that wait for their turn.
    pub blocked: u64,
    /// Tasks that are announced.
    pub ready: u64,
    /// Tasks that run.
    pub running: u64,
    /// Tasks that wait and hold no slot.
    pub suspended: u64,
    /// Tasks that need a human.
    pub paused: u64,
    /// Since when the one that is `ready` for longest is so.
    pub oldest_ready_at: Option<Timestamp>,
    /// Since when nobody takes its tasks, if an operator wants it so.
    pub pause: Option<QueuePause>,
}

/// An open task, without what is large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTask {
    /// Who it is.
    pub id: TaskId,
    /// What it runs.
    pub action: ActionName,
    /// Where it is announced.
    pub queue: QueueName,
    /// Where it stands.
    pub state: TaskState,
    /// How often it was claimed.
    pub attempt: Attempt,
    /// Who runs it, or ran it last.
    pub executor: Option<ExecutorId>,
    /// When its attempt began; when it became `ready`; for a `paused` one, when its last attempt began.
    pub since: Timestamp,
    /// How far an attempt last said that it is.
    pub progress: Option<Progress>,
}

/// The states whose tasks are shown, in this order: who needs a human, what is at work, what waits for it.
pub(super) const SHOWN: [TaskState; 3] = [TaskState::Paused, TaskState::Running, TaskState::Ready];

/// How many tasks of a queue are in a state, for each executor when they run.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct CountRow {
    queue: String,
    state: String,
    executor: Option<Uuid>,
    tasks: i64,
    oldest_ready_at: Option<Time>,
}

/// A row of `task`, without what is large.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct OpenRow {
    id: Uuid,
    action: String,
    queue: String,
    attempt: i32,
    executor: Option<Uuid>,
    since: Time,
    progress: Option<String>,
}

/// What counts say of queues and executors.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) queues: BTreeMap<QueueName, QueueOverview>,
    pub(super) busy: BTreeMap<ExecutorId, u64>,
}

impl Counted {
    /// The sum of `rows`, over the queues that are named.
    pub(super) fn of(queues: &[NameRow], rows: Vec<CountRow>) -> Result<Self, StoreError> {
        let mut counted = Self::default();
        for row in queues {
            let (name, pause) = row.read()?;
            let queue = QueueOverview {
                pause,
                ..nothing(name.clone())
            };
            counted.queues.insert(name, queue);
        }
        for row in rows {
            counted.add(&row);
        }
        Ok(counted)
    }

    /// A count that belongs to no queue, or to a state that there is not, is left out: it hides no other.
    fn add(&mut self, row: &CountRow) {
        let (Ok(state), Ok(queue)) = (row.state.parse(), row.queue.parse::<QueueName>()) else {
            return;
        };
        let tasks = u64::try_from(row.tasks).unwrap_or(0);
        if let Some(executor) = row.executor {
            *self
                .busy
                .entry(ExecutorId::from_uuid(executor))
                .or_default() += tasks;
        }
        let Some(queue) = self.queues.get_mut(&queue) else {
            return;
        };
        let count = match state {
            TaskState::Scheduled => &mut queue.scheduled,
            TaskState::Blocked => &mut queue.blocked,
            TaskState::Ready => &mut queue.ready,
            TaskState::Running => &mut queue.running,
            TaskState::Suspended => &mut queue.suspended,
            TaskState::Paused => &mut queue.paused,
            TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled => return,
        };
        *count += tasks;
        if let Some(oldest) = row.oldest_ready_at.and_then(|time| time.timestamp().ok()) {
            queue.oldest_ready_at = Some(queue.oldest_ready_at.unwrap_or(oldest).min(oldest));
        }
    }

    /// The states of [`SHOWN`] that some task is in: a scan for each of the others would find nothing.
    pub(super) fn shown(&self) -> impl Iterator<Item = TaskState> {
        let any = |count: fn(&QueueOverview) -> u64| self.queues.values().any(|q| count(q) > 0);
        let found = [any(|q| q.paused), any(|q| q.running), any(|q| q.ready)];
        let states = SHOWN.into_iter().zip(found);
        states.filter_map(|(state, is_found)| is_found.then_some(state))
    }

    /// The overview that they make with the rest.
    pub(super) fn into_overview(
        self,
        identity: StoreIdentity,
        executors: Vec<ExecutorRecord>,
        tasks: Vec<OpenTask>,
    ) -> Overview {
        Overview {
            identity,
            queues: self.queues.into_values().collect(),
            executors,
            busy: self.busy,
            tasks,
        }
    }
}

/// A queue in which nothing is open.
fn nothing(name: QueueName) -> QueueOverview {
    QueueOverview {
        name,
        scheduled: 0,
        blocked: 0,
        ready: 0,
        running: 0,
        suspended: 0,
        paused: 0,
        oldest_ready_at: None,
        pause: None,
    }
}

/// Those of `rows` that can be read; all are in `state`.
pub(super) fn open_tasks(state: TaskState, rows: Vec<OpenRow>) -> impl Iterator<Item = OpenTask> {
    rows.into_iter()
        .filter_map(move |row| row.into_task(state).ok())
}

impl OpenRow {
    fn into_task(self, state: TaskState) -> Result<OpenTask, StoreError> {
        let id = TaskId::from_uuid(self.id);
        let row = RowName("task", &id);
        Ok(OpenTask {
            id,
            action: row.read("action", self.action.parse())?,
            queue: row.read("queue", self.queue.parse())?,
            state,
            attempt: Attempt(row.read("attempt", u32::try_from(self.attempt))?),
            executor: self.executor.map(ExecutorId::from_uuid),
            since: row.read("started_at", self.since.timestamp())?,
            progress: progress(&row, self.progress.as_deref())?,
        })
    }
}
