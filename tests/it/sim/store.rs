//! The store as one simulated process sees it: the real one, behind a network.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use longshore::domain::{
    ActionName, Audit, AuditDepth, ExecutorId, ExecutorRecord, Firing, LogChunk, LogPosition,
    NewTask, QueueName, QueueRecord, ScheduleName, ScheduleRecord, ScheduleSpec, Settlement, Task,
    TaskId, Violation,
};
use longshore::store::{
    Cancelled, Due, Fired, IdleFound, IdleLook, List, Listed, Renewal, ScheduleCreated,
    ScheduleList, SchedulesListed, Settled, Store, StoreError, StoreIdentity, Submitted, TakenOver,
    Triggered,
};

use super::hub::Hub;
use super::process::Process;

/// How long a call waits for a store that is away before it gives up.
const AWAY: Duration = Duration::from_millis(300);

/// The store of one process.
pub(super) struct SimStore {
    hub: Arc<Hub>,
    process: Arc<Process>,
}

impl SimStore {
    pub(super) fn new(hub: &Arc<Hub>, process: &Arc<Process>) -> Self {
        Self {
            hub: Arc::clone(hub),
            process: Arc::clone(process),
        }
    }

    fn is_away(&self) -> bool {
        self.hub.network().is_store_away || self.process.state().is_cut_from_store
    }

    /// Carries out one call. `note` tells the model what the store has answered, whether or not anybody hears it, and
    /// answers with a line for the trace when something came of it.
    async fn call<T: Send>(
        &self,
        method: &'static str,
        carry_out: impl Future<Output = Result<T, StoreError>> + Send,
        note: impl FnOnce(&Hub, &T) -> Option<String> + Send,
    ) -> Result<T, StoreError> {
        let (hub, process) = (&self.hub, &self.process);
        let call = hub.call(process, method).await;
        let fate = {
            let mut chance = hub.chance().fork();
            hub.network().of_call(&mut chance)
        };
        hub.pause(fate.way_there).await;
        if fate.is_unheard || self.is_away() {
            hub.say(format_args!("{} {method}: unheard", process.name));
            hub.pause(AWAY).await;
            call.answered().await;
            return Err(lost(method));
        }
        let answer = {
            let _turn = hub.turn().await;
            let answer = carry_out.await;
            let noted = match &answer {
                Ok(answer) => note(hub, answer),
                Err(error) => Some(error.to_string()),
            };
            if let Some(noted) = noted {
                hub.changed();
                hub.say(format_args!("{} {method}: {noted}", process.name));
            }
            answer
        };
        hub.pause(fate.way_back).await;
        let is_lost = fate.is_unanswered || self.is_away();
        if is_lost {
            hub.say(format_args!("{} {method}: unanswered", process.name));
            hub.pause(AWAY).await;
        }
        call.answered().await;
        if is_lost { Err(lost(method)) } else { answer }
    }

    /// A call that changes no task.
    async fn read<T: Send>(
        &self,
        method: &'static str,
        carry_out: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.call(method, carry_out, |_, _| None).await
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.hub.store
    }
}

fn lost(method: &str) -> StoreError {
    StoreError::Unavailable {
        reason: format!("`{method}` was lost on its way"),
    }
}

fn ids(tasks: &[Task]) -> impl Iterator<Item = TaskId> {
    tasks.iter().map(|task| task.id)
}

fn claimed(hub: &Hub, executor: ExecutorId, tasks: &[Task]) -> Option<String> {
    hub.model().claimed(hub.now(), executor, tasks);
    (!tasks.is_empty()).then(|| hub.names(ids(tasks)))
}

fn taken(hub: &Hub, taken: &TakenOver) -> Option<String> {
    let all = taken.released.iter().chain(&taken.ended);
    let all: Vec<_> = all.chain(&taken.cancelled).collect();
    hub.model()
        .ended(all.iter().map(|facts| (facts.id, facts.state)));
    if all.is_empty() && taken.lost.is_empty() {
        return None;
    }
    let lost = taken.lost.len();
    let words = all
        .iter()
        .map(|facts| format!("{} {}", hub.name(facts.id), facts.state));
    Some(format!(
        "lost {lost}; {}",
        words.collect::<Vec<_>>().join(", ")
    ))
}

#[async_trait]
impl Store for SimStore {
    async fn migrate(&self) -> Result<(), StoreError> {
        self.read("migrate", self.store().migrate()).await
    }

    async fn schema_version(&self) -> Result<Option<i64>, StoreError> {
        self.read("schema_version", self.store().schema_version())
            .await
    }

    async fn identity(&self) -> Result<StoreIdentity, StoreError> {
        self.read("identity", self.store().identity()).await
    }

    async fn submit(&self, tasks: &[NewTask]) -> Result<Vec<Submitted>, StoreError> {
        self.call("submit", self.store().submit(tasks), |hub, answers| {
            hub.model().act("submit", None);
            let answers = tasks.iter().zip(answers);
            let words = answers.map(|(task, answer)| match answer {
                Submitted::Stored(facts) => format!("{} {}", hub.name(task.id), facts.state),
                Submitted::Known(_) => format!("{} known", hub.name(task.id)),
                Submitted::Refused(refusal) => format!("{} {refusal}", hub.name(task.id)),
            });
            Some(words.collect::<Vec<_>>().join(", "))
        })
        .await
    }

    async fn claim(&self, executor: ExecutorId, tasks: &[TaskId]) -> Result<Vec<Task>, StoreError> {
        self.call(
            "claim",
            self.store().claim(executor, tasks),
            |hub, answer| claimed(hub, executor, answer),
        )
        .await
    }

    async fn claim_idle(
        &self,
        executor: ExecutorId,
        look: &IdleLook,
    ) -> Result<IdleFound, StoreError> {
        let call = self.store().claim_idle(executor, look);
        self.call("claim_idle", call, |hub, answer| {
            claimed(hub, executor, &answer.tasks)
        })
        .await
    }

    async fn settle(
        &self,
        executor: ExecutorId,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        let call = self.store().settle(executor, settlements);
        self.call("settle", call, |hub, answers| {
            hub.model().settled(executor, settlements, answers);
            let words = settlements.iter().zip(answers).map(|(one, answer)| {
                let (name, attempt) = (hub.name(one.task), one.attempt);
                match answer {
                    Settled::Stored { state, .. } => format!("{name}.{attempt} {state}"),
                    Settled::Stale => format!("{name}.{attempt} stale"),
                }
            });
            Some(words.collect::<Vec<_>>().join(", "))
        })
        .await
    }

    async fn cancel(&self, task: TaskId, reason: &str) -> Result<Cancelled, StoreError> {
        self.call(
            "cancel",
            self.store().cancel(task, reason),
            |hub, answer| {
                hub.model().act("cancel", None);
                if let Cancelled::Accepted { cancelled, .. } = answer {
                    hub.model()
                        .ended(cancelled.iter().map(|facts| (facts.id, facts.state)));
                }
                let name = hub.name(task);
                Some(match answer {
                    Cancelled::Unknown => format!("{name} unknown"),
                    Cancelled::Final(state) => format!("{name} was {state}"),
                    Cancelled::Accepted { cancelled, running } => {
                        format!(
                            "{name}: {} cancelled, {} run",
                            cancelled.len(),
                            running.len()
                        )
                    }
                })
            },
        )
        .await
    }

    async fn enroll(&self, executor: &ExecutorRecord, lease: Duration) -> Result<(), StoreError> {
        let call = self.store().enroll(executor, lease);
        self.call("enroll", call, |hub, ()| {
            hub.model().leased(executor.id, hub.now() + lease);
            Some("entered".to_owned())
        })
        .await
    }

    async fn renew(&self, executor: ExecutorId, lease: Duration) -> Result<Renewal, StoreError> {
        let call = self.store().renew(executor, lease);
        self.call("renew", call, |hub, renewal| match renewal {
            Renewal::Held { cancels, .. } => {
                hub.model().leased(executor, hub.now() + lease);
                (!cancels.is_empty()).then(|| {
                    let tasks = cancels.iter().map(|(task, _)| *task);
                    format!("wishes for {}", hub.names(tasks))
                })
            }
            Renewal::Fenced => Some("fenced".to_owned()),
        })
        .await
    }

    async fn retire(&self, executor: ExecutorId) -> Result<TakenOver, StoreError> {
        self.call("retire", self.store().retire(executor), |hub, answer| {
            hub.model().retired(executor);
            Some(taken(hub, answer).unwrap_or_default())
        })
        .await
    }

    async fn take_over(
        &self,
        whose: Option<ExecutorId>,
        limit: usize,
    ) -> Result<TakenOver, StoreError> {
        let call = self.store().take_over(whose, limit);
        self.call("take_over", call, |hub, answer| {
            hub.model().taken_over(hub.now(), &answer.lost);
            taken(hub, answer)
        })
        .await
    }

    fn apart(&self) -> Arc<dyn Store> {
        Arc::new(Self::new(&self.hub, &self.process))
    }

    async fn lease_end(&self, executor: ExecutorId) -> Result<Option<Timestamp>, StoreError> {
        self.read("lease_end", self.store().lease_end(executor))
            .await
    }

    async fn end_lease(
        &self,
        executor: ExecutorId,
        ends_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let call = self.store().end_lease(executor, ends_at);
        self.call("end_lease", call, |hub, is_ended| {
            is_ended.then(|| {
                hub.model().leased(executor, hub.now());
                "its lease is ended".to_owned()
            })
        })
        .await
    }

    async fn put_on_trial(&self, executor: ExecutorId, task: TaskId) -> Result<(), StoreError> {
        let call = self.store().put_on_trial(executor, task);
        self.read("put_on_trial", call).await
    }

    async fn ahead(&self, task: TaskId, limit: u64) -> Result<u64, StoreError> {
        self.read("ahead", self.store().ahead(task, limit)).await
    }

    async fn audit(&self, depth: AuditDepth) -> Result<Audit, StoreError> {
        self.read("audit", self.store().audit(depth)).await
    }

    async fn repair(&self, violations: &[Violation]) -> Result<TakenOver, StoreError> {
        let call = self.store().repair(violations);
        self.call("repair", call, taken).await
    }

    async fn due(&self, limit: usize) -> Result<Due, StoreError> {
        self.call("due", self.store().due(limit), |hub, answer| {
            hub.model().act("due", None);
            let all = || answer.ready.iter().chain(&answer.failed);
            hub.model()
                .ended(all().map(|facts| (facts.id, facts.state)));
            let words = all().map(|facts| format!("{} {}", hub.name(facts.id), facts.state));
            let words = words.collect::<Vec<_>>().join(", ");
            (!words.is_empty()).then_some(words)
        })
        .await
    }

    async fn prune(&self, keep: Duration, limit: usize) -> Result<u64, StoreError> {
        self.call("prune", self.store().prune(keep, limit), |_, count| {
            (*count > 0).then(|| format!("{count} deleted"))
        })
        .await
    }

    async fn executors(&self) -> Result<Vec<ExecutorRecord>, StoreError> {
        self.read("executors", self.store().executors()).await
    }

    async fn known_actions(&self) -> Result<Vec<ActionName>, StoreError> {
        self.read("known_actions", self.store().known_actions())
            .await
    }

    async fn create_queue(&self, queue: &QueueName) -> Result<(), StoreError> {
        self.read("create_queue", self.store().create_queue(queue))
            .await
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, StoreError> {
        self.read("queues", self.store().queues()).await
    }

    async fn task(&self, task: TaskId) -> Result<Option<Task>, StoreError> {
        self.read("task", self.store().task(task)).await
    }

    async fn tasks(&self, tasks: &[TaskId]) -> Result<Listed, StoreError> {
        self.read("tasks", self.store().tasks(tasks)).await
    }

    async fn owned(&self, executor: ExecutorId, limit: usize) -> Result<Vec<Task>, StoreError> {
        self.read("owned", self.store().owned(executor, limit))
            .await
    }

    async fn ended(&self, tasks: &[TaskId]) -> Result<Vec<TaskId>, StoreError> {
        self.read("ended", self.hub.ended(tasks)).await
    }

    async fn list(&self, list: &List) -> Result<Listed, StoreError> {
        self.read("list", self.store().list(list)).await
    }

    async fn tree(&self, task: TaskId) -> Result<Listed, StoreError> {
        self.read("tree", self.store().tree(task)).await
    }

    async fn append_logs(&self, chunks: &[LogChunk]) -> Result<(), StoreError> {
        self.read("append_logs", self.store().append_logs(chunks))
            .await
    }

    async fn logs(
        &self,
        task: TaskId,
        after: Option<LogPosition>,
        limit: usize,
    ) -> Result<Vec<LogChunk>, StoreError> {
        self.read("logs", self.store().logs(task, after, limit))
            .await
    }

    async fn create_schedule(
        &self,
        spec: &ScheduleSpec,
        created_by: &str,
    ) -> Result<ScheduleCreated, StoreError> {
        let call = self.store().create_schedule(spec, created_by);
        self.read("create_schedule", call).await
    }

    async fn schedules(&self, list: &ScheduleList) -> Result<SchedulesListed, StoreError> {
        self.read("schedules", self.store().schedules(list)).await
    }

    async fn schedule(&self, name: &ScheduleName) -> Result<Option<ScheduleRecord>, StoreError> {
        self.read("schedule", self.store().schedule(name)).await
    }

    async fn firings(&self, name: &ScheduleName, limit: usize) -> Result<Vec<Firing>, StoreError> {
        self.read("firings", self.store().firings(name, limit))
            .await
    }

    async fn pause_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        self.read("pause_schedule", self.store().pause_schedule(name))
            .await
    }

    async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        self.read("resume_schedule", self.store().resume_schedule(name))
            .await
    }

    async fn delete_schedule(&self, name: &ScheduleName) -> Result<bool, StoreError> {
        self.read("delete_schedule", self.store().delete_schedule(name))
            .await
    }

    async fn trigger_schedule(&self, name: &ScheduleName) -> Result<Option<Triggered>, StoreError> {
        self.read("trigger_schedule", self.store().trigger_schedule(name))
            .await
    }

    async fn fire_schedules(&self, limit: usize) -> Result<Fired, StoreError> {
        self.read("fire_schedules", self.store().fire_schedules(limit))
            .await
    }

    async fn close(&self) {} // It is everybody's.
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimStore").field(&self.process.name).finish()
    }
}
