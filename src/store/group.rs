//! Group commit: calls that come while the previous batch is under way make the next one. No timer: a lone
//! call goes out at once; under load the batches grow by themselves.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::vec;

use tokio::sync::{mpsc, oneshot};

use super::{Listed, Recorded, Settled, Signalled, Store, StoreError, Submitted};
use crate::background::Background;
use crate::domain::limits::{BATCH_MAX, BATCH_WAITING_MAX};
use crate::domain::{
    Difference, ExecutorId, NewSignal, NewTask, Settlement, StepRecord, Submission, Task, TaskId,
    differences,
};

/// One kind of call, gathered into batches of at most [`BATCH_MAX`]. Clones share it.
pub struct Grouped<I, O> {
    calls: mpsc::Sender<(I, Answer<O>)>,
}

type Answer<O> = oneshot::Sender<Result<O, StoreError>>;

impl<I, O> Clone for Grouped<I, O> {
    fn clone(&self) -> Self {
        Self {
            calls: self.calls.clone(),
        }
    }
}

impl<I, O> fmt::Debug for Grouped<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grouped").finish_non_exhaustive()
    }
}

impl<I: Send + 'static, O: Send + 'static> Grouped<I, O> {
    /// Starts the worker that carries out batches by `run`, which answers in the order of its argument.
    pub fn start<F, R>(background: &Background, run: F) -> Self
    where
        F: Fn(Vec<I>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Vec<O>, StoreError>> + Send + 'static,
    {
        let (calls, waiting) = mpsc::channel(BATCH_WAITING_MAX);
        background.spawn(carry_out(waiting, run));
        Self { calls }
    }

    /// Carries out one call with others, and answers when its batch is committed.
    ///
    /// # Errors
    ///
    /// The error of the whole batch: nothing of it was done, or it is unknown and the call may be repeated.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may still be carried out; its answer is lost.
    pub async fn call(&self, input: I) -> Result<O, StoreError> {
        let (answer, answered) = oneshot::channel();
        let gone = || StoreError::Unavailable {
            reason: "this process is stopping".to_owned(),
        };
        self.calls.send((input, answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Ends when the last [`Grouped`] is dropped, so that calls made while the process drains are carried out.
async fn carry_out<I, O, F, R>(mut waiting: mpsc::Receiver<(I, Answer<O>)>, run: F)
where
    F: Fn(Vec<I>) -> R,
    R: Future<Output = Result<Vec<O>, StoreError>>,
{
    let mut calls = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut calls, BATCH_MAX).await > 0 {
        let (inputs, answers): (Vec<I>, Vec<Answer<O>>) = calls.drain(..).unzip();
        let outputs: Vec<Result<O, StoreError>> = match run(inputs).await {
            Ok(outputs) => {
                assert_eq!(
                    outputs.len(),
                    answers.len(),
                    "a batch answers each of its calls"
                );
                outputs.into_iter().map(Ok).collect()
            }
            Err(error) => answers.iter().map(|_| Err(error.clone())).collect(),
        };
        for (answer, output) in answers.into_iter().zip(outputs) {
            drop(answer.send(output)); // Nobody waits any more: the call was dropped.
        }
    }
}

/// The hot calls of a store, gathered. Clones share the batches.
#[derive(Debug, Clone)]
pub struct GroupCommit {
    submit: Grouped<(NewTask, Option<ExecutorId>), (Submitted, Option<Task>)>,
    claim: Grouped<(ExecutorId, TaskId), Option<Task>>,
    settle: Grouped<(ExecutorId, Settlement), Settled>,
    record: Grouped<(ExecutorId, StepRecord), Recorded>,
    signal: Grouped<NewSignal, Signalled>,
    look: Grouped<TaskId, Result<Option<Task>, StoreError>>,
}

impl GroupCommit {
    /// Starts the batches over `store`, one worker for each kind of call.
    pub fn start(background: &Background, store: &Arc<dyn Store>) -> Self {
        let (submitter, claimer, settler, looker, recorder, signaller) = (
            Arc::clone(store),
            Arc::clone(store),
            Arc::clone(store),
            Arc::clone(store),
            Arc::clone(store),
            Arc::clone(store),
        );
        Self {
            submit: Grouped::start(background, move |calls| {
                submit(Arc::clone(&submitter), calls)
            }),
            claim: Grouped::start(background, move |calls| claim(Arc::clone(&claimer), calls)),
            settle: Grouped::start(background, move |calls| settle(Arc::clone(&settler), calls)),
            record: Grouped::start(background, move |calls| {
                record(Arc::clone(&recorder), calls)
            }),
            signal: Grouped::start(background, move |signals: Vec<NewSignal>| {
                let store = Arc::clone(&signaller);
                async move { store.signal(&signals).await }
            }),
            look: Grouped::start(background, move |tasks| look(Arc::clone(&looker), tasks)),
        }
    }

    /// Stores one task. As [`Store::submit`].
    ///
    /// # Errors
    ///
    /// As [`Store::submit`]; in doubt submit again with the same id.
    pub async fn submit(&self, task: NewTask) -> Result<Submitted, StoreError> {
        let (submitted, _) = self.submit.call((task, None)).await?;
        Ok(submitted)
    }

    /// Stores one task and gives it to `executor` if it is new and `ready`. As [`Store::submit_and_claim`].
    ///
    /// # Errors
    ///
    /// As [`Store::submit_and_claim`]; in doubt the task may be stored, and be the executor's.
    pub async fn submit_and_claim(
        &self,
        task: NewTask,
        executor: ExecutorId,
    ) -> Result<(Submitted, Option<Task>), StoreError> {
        self.submit.call((task, Some(executor))).await
    }

    /// What `submission` asks for otherwise than the task that has its key; nothing when it has none, because an id
    /// alone decides whatever else is said.
    ///
    /// # Errors
    ///
    /// As [`Store::tasks`]; [`StoreError::Unavailable`] too when the task was deleted in this moment.
    pub async fn differences(
        &self,
        submission: &Submission,
        task: TaskId,
    ) -> Result<Vec<Difference>, StoreError> {
        if submission.idempotency_key.is_none() {
            return Ok(Vec::new());
        }
        match self.look(task).await? {
            Some(stored) => Ok(differences(submission, &stored)),
            None => Err(StoreError::Unavailable {
                reason: format!("the task `{task}` was deleted in this moment"),
            }),
        }
    }

    /// Takes one task if it is `ready`. As [`Store::claim`].
    ///
    /// # Errors
    ///
    /// As [`Store::claim`]; a claim whose answer was lost is found again when the lease ends.
    pub async fn claim(
        &self,
        executor: ExecutorId,
        task: TaskId,
    ) -> Result<Option<Task>, StoreError> {
        self.claim.call((executor, task)).await
    }

    /// Stores how one attempt ended. As [`Store::settle`].
    ///
    /// # Errors
    ///
    /// As [`Store::settle`]; in doubt settle again: the second time it is [`Settled::Stale`].
    pub async fn settle(
        &self,
        executor: ExecutorId,
        settlement: Settlement,
    ) -> Result<Settled, StoreError> {
        self.settle.call((executor, settlement)).await
    }

    /// Stores one step. As [`Store::record`].
    ///
    /// # Errors
    ///
    /// As [`Store::record`]; in doubt record again.
    pub async fn record(
        &self,
        executor: ExecutorId,
        record: StepRecord,
    ) -> Result<Recorded, StoreError> {
        self.record.call((executor, record)).await
    }

    /// Stores one signal. As [`Store::signal`].
    ///
    /// # Errors
    ///
    /// As [`Store::signal`]; in doubt signal again with the same key.
    pub async fn signal(&self, signal: NewSignal) -> Result<Signalled, StoreError> {
        self.signal.call(signal).await
    }

    /// Reads one task. As [`Store::task`].
    ///
    /// # Errors
    ///
    /// As [`Store::task`].
    pub async fn look(&self, task: TaskId) -> Result<Option<Task>, StoreError> {
        self.look.call(task).await?
    }
}

/// By one transaction for each executor that is to have some of them, and one for the rest. Nearly always one in all.
async fn submit(
    store: Arc<dyn Store>,
    calls: Vec<(NewTask, Option<ExecutorId>)>,
) -> Result<Vec<(Submitted, Option<Task>)>, StoreError> {
    let order: Vec<Option<ExecutorId>> = calls.iter().map(|(_, executor)| *executor).collect();
    let mut submitted = HashMap::with_capacity(1);
    let calls = calls.into_iter().map(|(task, executor)| (executor, task));
    for (executor, tasks) in grouped(calls) {
        let answers = if let Some(executor) = executor {
            store.submit_and_claim(executor, &tasks).await?
        } else {
            let answers = store.submit(&tasks).await?;
            answers.into_iter().map(|one| (one, None)).collect()
        };
        submitted.insert(executor, answers.into_iter());
    }
    Ok(in_order(&order, submitted).flatten().collect())
}

async fn claim(
    store: Arc<dyn Store>,
    calls: Vec<(ExecutorId, TaskId)>,
) -> Result<Vec<Option<Task>>, StoreError> {
    let mut taken = HashMap::with_capacity(calls.len());
    for (executor, tasks) in grouped(calls.iter().copied()) {
        let tasks = store.claim(executor, &tasks).await?;
        taken.extend(tasks.into_iter().map(|task| ((executor, task.id), task)));
    }
    // Removed, not cloned: a task announced twice in one batch is given to the first of its callers only.
    Ok(calls.iter().map(|call| taken.remove(call)).collect())
}

async fn settle(
    store: Arc<dyn Store>,
    calls: Vec<(ExecutorId, Settlement)>,
) -> Result<Vec<Settled>, StoreError> {
    let order: Vec<(ExecutorId, TaskId)> = calls
        .iter()
        .map(|(executor, one)| (*executor, one.task))
        .collect();
    let mut settled = HashMap::with_capacity(order.len());
    for (executor, settlements) in grouped(calls) {
        let answers = store.settle(executor, &settlements).await?;
        settled.extend(
            settlements
                .iter()
                .map(|one| (executor, one.task))
                .zip(answers),
        );
    }
    Ok(order
        .iter()
        .map(|call| settled.remove(call).unwrap_or(Settled::Stale))
        .collect())
}

async fn record(
    store: Arc<dyn Store>,
    calls: Vec<(ExecutorId, StepRecord)>,
) -> Result<Vec<Recorded>, StoreError> {
    let order: Vec<ExecutorId> = calls.iter().map(|(executor, _)| *executor).collect();
    let mut recorded = HashMap::new();
    for (executor, records) in grouped(calls) {
        let answers = store.record(executor, &records).await?;
        recorded.insert(executor, answers.into_iter());
    }
    Ok(in_order(&order, recorded)
        .map(|one| one.unwrap_or(Recorded::Stale))
        .collect())
}

async fn look(
    store: Arc<dyn Store>,
    calls: Vec<TaskId>,
) -> Result<Vec<Result<Option<Task>, StoreError>>, StoreError> {
    let Listed { tasks, unreadable } = store.tasks(&calls).await?;
    let found: HashMap<TaskId, Task> = tasks.into_iter().map(|task| (task.id, task)).collect();
    // Told to those who asked for it only.
    let broken: HashMap<TaskId, StoreError> = unreadable
        .into_iter()
        .map(|row| (row.id, row.error))
        .collect();
    let answer = |task| match broken.get(task) {
        Some(error) => Err(error.clone()),
        None => Ok(found.get(task).cloned()),
    };
    Ok(calls.iter().map(answer).collect())
}

/// Calls by who makes them, or for whom they are made: nearly always one, because a process has one executor. Each group in
/// the order of its calls.
fn grouped<K: PartialEq, T>(calls: impl IntoIterator<Item = (K, T)>) -> Vec<(K, Vec<T>)> {
    let mut groups: Vec<(K, Vec<T>)> = Vec::with_capacity(1);
    for (key, call) in calls {
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(call),
            None => groups.push((key, vec![call])),
        }
    }
    groups
}

/// The answers of the groups, in the order of all calls; nothing for a call whose group had too few.
fn in_order<K: Eq + Hash, T>(
    order: &[K],
    mut answers: HashMap<K, vec::IntoIter<T>>,
) -> impl Iterator<Item = Option<T>> {
    let next = move |key| answers.get_mut(key).and_then(Iterator::next);
    order.iter().map(next)
}
