//! What each call of the store tells the model.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use longshore::domain::{
    ActionName, Attempt, Audit, AuditDepth, DeadLetter, ExecutorId, ExecutorRecord, FanOut, Firing,
    HistoryEntry, LogChunk, LogPosition, NewSignal, NewTask, Operator, Progress, QueueName,
    QueueRecord, ScheduleName, ScheduleRecord, ScheduleSpec, Settlement, Step, StepName,
    StepProgress, StepRecord, Task, TaskId, Verb, Violation,
};
use longshore::store::{
    Below, CancelSpawned, Cancelled, Due, Fired, Glance, IdleFound, IdleLook, List, Listed,
    Operated, Overview, Recorded, Renewal, ScheduleCreated, ScheduleList, SchedulesListed, Settled,
    Signalled, Spawn, Spawned, Store, StoreError, StoreIdentity, Submitted, TakeSignal, TakenOver,
    TookSignal, Triggered,
};

use super::hub::Hub;
use super::notes::{below, claimed, submitted, taken};
use super::store::SimStore;

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
            Some(submitted(hub, tasks, answers))
        })
        .await
    }

    async fn submit_and_claim(
        &self,
        executor: ExecutorId,
        tasks: &[NewTask],
    ) -> Result<Vec<(Submitted, Option<Task>)>, StoreError> {
        let call = self.store().submit_and_claim(executor, tasks);
        self.call("submit_and_claim", call, |hub, answers| {
            let (answers, taken): (Vec<_>, Vec<_>) = answers.iter().cloned().unzip();
            let taken: Vec<Task> = taken.into_iter().flatten().collect();
            let words = submitted(hub, tasks, &answers);
            hub.model().born(&taken);
            match claimed(hub, executor, &taken) {
                Some(names) => Some(format!("{words}; {names} begun")),
                None => Some(words),
            }
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
                    Cancelled::Accepted {
                        cancelled, running, ..
                    } => {
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

    async fn note_token(&self, executor: ExecutorId, is_held: bool) -> Result<(), StoreError> {
        let call = self.store().note_token(executor, is_held);
        self.read("note_token", call).await
    }

    async fn glance(&self, lease_left: Duration) -> Result<Glance, StoreError> {
        self.read("glance", self.store().glance(lease_left)).await
    }

    async fn put_on_trial(
        &self,
        executor: ExecutorId,
        task: TaskId,
        attempt: Attempt,
    ) -> Result<(), StoreError> {
        let call = self.store().put_on_trial(executor, task, attempt);
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

    async fn pause_queue(&self, queue: &QueueName, by: &Operator) -> Result<bool, StoreError> {
        self.read("pause_queue", self.store().pause_queue(queue, by))
            .await
    }

    async fn resume_queue(&self, queue: &QueueName) -> Result<bool, StoreError> {
        self.read("resume_queue", self.store().resume_queue(queue))
            .await
    }

    async fn queues(&self) -> Result<Vec<QueueRecord>, StoreError> {
        self.read("queues", self.store().queues()).await
    }

    async fn overview(&self, limit: usize) -> Result<Overview, StoreError> {
        self.read("overview", self.store().overview(limit)).await
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

    async fn steps(&self, task: TaskId) -> Result<Vec<Step>, StoreError> {
        self.read("steps", self.store().steps(task)).await
    }

    async fn record(
        &self,
        executor: ExecutorId,
        records: &[StepRecord],
    ) -> Result<Vec<Recorded>, StoreError> {
        let call = self.store().record(executor, records);
        self.call("record", call, |hub, answers| {
            for (one, answer) in records.iter().zip(answers) {
                let is_ended = matches!(one.step.progress, StepProgress::Ended { .. });
                if *answer == Recorded::Stored && is_ended {
                    hub.model().step_stored(one.task, one.step.name.as_str());
                }
            }
            let words = records.iter().zip(answers).map(|(one, answer)| {
                let (name, step) = (hub.name(one.task), &one.step.name);
                format!("{name}.{} {step} {answer:?}", one.attempt)
            });
            Some(words.collect::<Vec<_>>().join(", "))
        })
        .await
    }

    async fn signal(&self, signals: &[NewSignal]) -> Result<Vec<Signalled>, StoreError> {
        let call = self.store().signal(signals);
        self.call("signal", call, |hub, answers| {
            hub.model().act("signal", None);
            let words = signals.iter().zip(answers).map(|(one, answer)| {
                let what = match answer {
                    Signalled::Stored { woken: Some(_), .. } => "woken".to_owned(),
                    Signalled::Stored { woken: None, .. } => "stored".to_owned(),
                    Signalled::Unknown
                    | Signalled::Final(_)
                    | Signalled::Full
                    | Signalled::Known => format!("{answer:?}"),
                };
                format!("{} {} {what}", hub.name(one.task), one.name)
            });
            Some(words.collect::<Vec<_>>().join(", "))
        })
        .await
    }

    async fn take_signal(
        &self,
        executor: ExecutorId,
        wish: &TakeSignal,
    ) -> Result<TookSignal, StoreError> {
        let call = self.store().take_signal(executor, wish);
        self.call("take_signal", call, |hub, answer| {
            let took = matches!(answer, TookSignal::Taken(_));
            took.then(|| format!("{}.{} {}", hub.name(wish.task), wish.attempt, wish.step))
        })
        .await
    }

    async fn spawn(&self, executor: ExecutorId, spawn: &Spawn) -> Result<Spawned, StoreError> {
        let call = self.store().spawn(executor, spawn);
        self.call("spawn", call, |hub, answer| {
            hub.model().act("spawn", None);
            let names = hub.names(spawn.subtasks.iter().map(|task| task.id));
            let what = match answer {
                Spawned::Stored(ready) => format!("{} ready", ready.len()),
                Spawned::Known(_) | Spawned::Refused(_) | Spawned::Stale => format!("{answer:?}"),
            };
            Some(format!("{} makes {names}: {what}", hub.name(spawn.parent)))
        })
        .await
    }

    async fn fan_out(&self, task: TaskId, name: &StepName) -> Result<Option<FanOut>, StoreError> {
        self.read("fan_out", self.store().fan_out(task, name)).await
    }

    async fn spawned(
        &self,
        task: TaskId,
        name: &StepName,
        from: u32,
        limit: usize,
    ) -> Result<Listed, StoreError> {
        self.read("spawned", self.store().spawned(task, name, from, limit))
            .await
    }

    async fn cancel_spawned(
        &self,
        executor: ExecutorId,
        wish: &CancelSpawned,
        limit: usize,
    ) -> Result<Option<Below>, StoreError> {
        let call = self.store().cancel_spawned(executor, wish, limit);
        let note = |hub: &Hub, answer: &Option<Below>| below(hub, answer.as_ref()?);
        self.call("cancel_spawned", call, note).await
    }

    async fn clear_below(&self, limit: usize) -> Result<Below, StoreError> {
        let call = self.store().clear_below(limit);
        self.call("clear_below", call, below).await
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

    async fn cancel_by(
        &self,
        task: TaskId,
        reason: &str,
        _: &Operator,
    ) -> Result<Cancelled, StoreError> {
        self.cancel(task, reason).await // Histories are nothing that a simulation looks at.
    }

    async fn operate(
        &self,
        task: TaskId,
        verb: &Verb,
        by: &Operator,
    ) -> Result<Operated, StoreError> {
        let call = self.store().operate(task, verb, by);
        self.read("operate", call).await
    }

    async fn note_dead_letter(&self, letter: &DeadLetter) -> Result<bool, StoreError> {
        self.read("note_dead_letter", self.store().note_dead_letter(letter))
            .await
    }

    async fn history(&self, task: TaskId) -> Result<Vec<HistoryEntry>, StoreError> {
        self.read("history", self.store().history(task)).await
    }

    async fn count(&self, list: &List) -> Result<u64, StoreError> {
        self.read("count", self.store().count(list)).await
    }

    async fn note_progress(
        &self,
        executor: ExecutorId,
        progress: &[(TaskId, Progress)],
    ) -> Result<Vec<bool>, StoreError> {
        let call = self.store().note_progress(executor, progress);
        self.read("note_progress", call).await
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
        let call = self.store().fire_schedules(limit);
        self.call("fire_schedules", call, |hub, fired| {
            hub.model().act("fire_schedules", None);
            let created = fired.created.iter().map(|facts| facts.id);
            (!fired.created.is_empty()).then(|| hub.names(created))
        })
        .await
    }

    async fn close(&self) {} // It is everybody's.
}
