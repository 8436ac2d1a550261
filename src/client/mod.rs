//! Submitting tasks and waiting for them: what a web server does.

mod error;
mod follow;
mod known;
mod local;
mod schedules;
mod verbs;
mod waiters;
mod why;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use crate::store::Receipt;
pub use error::{ClientError, SubmitError};
pub use follow::{Followed, LogFollower};
pub use local::{LocalExecutor, LocalExecutors, LocalPlace};
pub use schedules::{CreateScheduleError, ScheduleClientError};

use crate::background::Background;
use crate::broker::{Broker, BrokerError, Credit, Deliveries, Outgoing, Source, Speaker};
use crate::clock::Clock;
use crate::domain::{
    LogChunk, LogPosition, NewSignal, NewTask, OriginToken, PayloadLimits, Submission,
    SubmissionError, Task, TaskId, TaskState, WebId,
};
use crate::store::{Cancelled, GroupCommit, List, Listed, Signalled, Store, StoreError, Submitted};
use crate::wire::{EventKind, parse_events};
use known::KnownActions;
use waiters::Waiters;

/// Result messages that a web server may hold unsettled. Handling one takes microseconds.
const RESULTS_CREDIT: Credit = 256;

/// How a client is set up.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientSettings {
    /// What it lets in.
    pub limits: PayloadLimits,
    /// Whether an action that no executor ever offered is refused.
    pub refuses_unknown_actions: bool,
}

/// What a client is built on.
#[derive(Debug, Clone)]
pub struct ClientParts {
    /// Where tasks live.
    pub store: Arc<dyn Store>,
    /// The store's hot calls, gathered.
    pub group: GroupCommit,
    /// What carries announcements.
    pub broker: Arc<dyn Broker>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// The executors of the same process, which may begin what it submits.
    pub local: LocalExecutors,
    /// Where its work goes on, until it shall stop.
    pub background: Background,
    /// Where its last words go on, until they are said.
    pub carriers: Background,
}

/// Submits tasks and waits for them. Clones are the same client, with one reply queue and one map of waiters.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    id: WebId,
    origin: OriginToken,
    store: Arc<dyn Store>,
    group: GroupCommit,
    broker: Arc<dyn Broker>,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    waiters: Arc<Waiters>,
    local: LocalExecutors,
    known: KnownActions,
    settings: ClientSettings,
}

/// What a wait ended with.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited {
    /// The task is final, or paused and needs a human.
    Ended(Task),
    /// The time is over and the task goes on.
    StillOpen(Task),
}

impl Waited {
    /// The task, as its row was.
    pub fn into_task(self) -> Task {
        match self {
            Self::Ended(task) | Self::StillOpen(task) => task,
        }
    }
}

impl Client {
    /// Starts a client: it consumes the results of its own tasks before it returns.
    ///
    /// # Errors
    ///
    /// [`BrokerError::Denied`] and its like: the broker is there and does not let a web server work. A broker
    /// that is away is no error: results are found in the store until it is back.
    pub async fn start(parts: ClientParts, settings: ClientSettings) -> Result<Self, BrokerError> {
        let ClientParts {
            store,
            group,
            broker,
            clock,
            local,
            background,
            carriers,
        } = parts;
        let id = WebId::new(clock.now(), clock.random());
        let origin = OriginToken::new(clock.random());
        let waiters = Arc::new(Waiters::new());
        let results = broker
            .consume(Source::Results(id, origin.clone()), RESULTS_CREDIT)
            .await?;
        background.spawn(hear(results, Arc::clone(&waiters), background.clone()));
        let resync = waiters::resync(Arc::clone(&waiters), Arc::clone(&store), Arc::clone(&clock));
        let stopping = background.clone();
        background.spawn(async move {
            tokio::select! { biased; () = stopping.stopping() => {} () = resync => {} }
        });
        let speaker = Arc::new(Speaker::web(id, Arc::clone(&clock)));
        let outgoing = Outgoing::start(&carriers, Arc::clone(&broker), speaker);
        let known = KnownActions::new(Arc::clone(&store), Arc::clone(&clock));
        let inner = Inner {
            id,
            origin,
            store,
            group,
            broker,
            outgoing,
            clock,
            waiters,
            local,
            known,
            settings,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Which web server this is.
    pub fn id(&self) -> WebId {
        self.inner.id
    }

    /// What it lets in.
    pub fn limits(&self) -> PayloadLimits {
        self.inner.settings.limits
    }

    /// Time and chance.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Where tasks live, for what this client has no word for.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Stores a task and announces it. Once it returns, no crash loses the task. With an idempotency key that is
    /// known the receipt has the task of that key, whatever the id that was asked for.
    ///
    /// # Errors
    ///
    /// [`SubmitError`]; with a store that does not answer it is unknown whether the task was stored: submit
    /// again with the same id.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have stored the task; then some executor finds it.
    pub async fn submit(&self, submission: Submission) -> Result<Receipt, SubmitError> {
        let submission = self.admitted(submission).await?;
        self.store_and_announce(submission).await
    }

    /// Stores many tasks, each on its own, and announces them. Answers in order.
    pub async fn submit_all(
        &self,
        submissions: Vec<Submission>,
    ) -> Vec<Result<Receipt, SubmitError>> {
        futures_util::future::join_all(
            submissions
                .into_iter()
                .map(|submission| self.submit(submission)),
        )
        .await
    }

    /// The task that `submission` makes, checked as [`Client::submit`] checks it but not stored: for
    /// [`PostgresStore::submit_in`](crate::store::postgres::PostgresStore::submit_in), which stores it in a transaction
    /// of the caller's own. Call [`Client::announce`] when that is committed.
    ///
    /// # Errors
    ///
    /// [`SubmitError::Submission`] and [`SubmitError::UnknownAction`]; [`SubmitError::Store`] when the known actions
    /// cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn prepare(&self, submission: Submission) -> Result<NewTask, SubmitError> {
        let submission = self.admitted(submission).await?;
        Ok(self.named(submission))
    }

    /// Announces tasks whose transaction is committed, so that they run at once; what was stored before is left out.
    /// Whoever forgets it, or dies before it, loses nothing: executors find the tasks in the store, seconds later.
    ///
    /// Announced before the commit a task is not found, and is then found late.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was not announced is found late.
    pub async fn announce(&self, receipts: &[Receipt]) {
        for receipt in receipts.iter().filter(|receipt| receipt.is_new) {
            let outgoing = &self.inner.outgoing;
            outgoing.announce(EventKind::Created, &receipt.task).await;
        }
    }

    /// Submits a task and waits until it ends, at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`Client::submit`] and [`Client::wait`].
    ///
    /// # Cancel safety
    ///
    /// As [`Client::submit`].
    pub async fn submit_and_wait(
        &self,
        submission: Submission,
        limit: Duration,
    ) -> Result<Waited, SubmitError> {
        let submission = self.admitted(submission).await?;
        let id = submission
            .id
            .unwrap_or_else(|| TaskId::new(self.inner.clock.now(), self.inner.clock.random()));
        // Registered first: an executor may be done before `submit` returns.
        let waiter = self.inner.waiters.register(id);
        let receipt = self
            .store_and_announce(Submission {
                id: Some(id),
                ..submission
            })
            .await?;
        let is_fresh = receipt.is_new;
        // The task of a known key is another; it is looked at first, so that nothing of it is missed.
        let waiter = if receipt.task.id == id {
            waiter
        } else {
            self.inner.waiters.register(receipt.task.id)
        };
        waiter
            .wait(&self.inner.group, &self.inner.clock, limit, is_fresh)
            .await
            .map_err(|error| match error {
                ClientError::Unknown(task) => SubmitError::Vanished(task),
                ClientError::Payload(error) => {
                    SubmitError::Submission(SubmissionError::Input(error))
                }
                ClientError::Store(error) => SubmitError::Store(error),
            })
    }

    /// Waits until a task ends, at most for `limit`; whoever submitted it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`]: there is no such task. [`ClientError::Store`]: the store does not answer.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait(&self, task: TaskId, limit: Duration) -> Result<Waited, ClientError> {
        let waiter = self.inner.waiters.register(task);
        waiter
            .wait(&self.inner.group, &self.inner.clock, limit, false)
            .await
    }

    /// Cancels a task and all below it, at most `TREE_MAX` tasks in one call. What does not run is cancelled when this returns; what runs is asked to
    /// stop, and its row says when it has.
    ///
    /// # Errors
    ///
    /// [`ClientError::Store`]. An unknown or final task is an answer, not an error.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have stored the wish; then it is carried out.
    pub async fn cancel(&self, task: TaskId, reason: &str) -> Result<Cancelled, ClientError> {
        let answer = self.inner.store.cancel(task, reason).await?;
        self.tell_cancelled(&answer, reason).await;
        Ok(answer)
    }

    /// Says what was cancelled.
    async fn tell_cancelled(&self, answer: &Cancelled, reason: &str) {
        if let Cancelled::Accepted {
            cancelled,
            running,
            ready,
        } = answer
        {
            for facts in ready {
                self.inner.outgoing.announce(EventKind::Woken, facts).await;
            }
            // An executor reports the ends and nudges whoever runs a task: results are not a web server's to say.
            for task in cancelled
                .iter()
                .map(|facts| facts.id)
                .chain(running.iter().map(|(task, _)| *task))
            {
                self.inner
                    .outgoing
                    .say(self.inner.outgoing.speaker().cancel(task, reason))
                    .await;
            }
            for facts in cancelled {
                self.inner.waiters.wake(facts.id);
            }
        }
    }

    /// Sends a signal to a task: it is stored until the task takes it, and wakes the task if it waits for it. With `key`
    /// it is one signal however often it is sent.
    ///
    /// # Errors
    ///
    /// [`ClientError::Store`]; then it is unknown whether it was stored: send it again with the same key.
    /// [`ClientError::Payload`]: the payload is longer than the limit. An unknown or final task is an answer, not an error.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have stored the signal; then it is taken.
    pub async fn signal(&self, signal: NewSignal) -> Result<Signalled, ClientError> {
        let signal = NewSignal {
            payload: signal.payload.within(self.limits())?,
            ..signal
        };
        let (task, outgoing) = (signal.task, &self.inner.outgoing);
        let answer = self.inner.group.signal(signal).await?;
        if let Signalled::Stored { woken, executor } = &answer {
            if let Some(facts) = woken {
                outgoing.announce(EventKind::Woken, facts).await;
            }
            if let Some(executor) = executor {
                let message = outgoing.speaker().signalled(task, *executor);
                outgoing.say(message).await;
            }
        }
        Ok(answer)
    }

    /// One task.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`] or [`ClientError::Store`].
    pub async fn task(&self, task: TaskId) -> Result<Task, ClientError> {
        self.inner
            .group
            .look(task)
            .await?
            .ok_or(ClientError::Unknown(task))
    }

    /// Tasks that match, the newest first.
    ///
    /// # Errors
    ///
    /// [`ClientError::Store`].
    pub async fn list(&self, list: &List) -> Result<Listed, ClientError> {
        Ok(self.inner.store.list(list).await?)
    }

    /// A task and all below it, parents before children.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`] or [`ClientError::Store`].
    pub async fn tree(&self, task: TaskId) -> Result<Listed, ClientError> {
        let tree = self.inner.store.tree(task).await?;
        if tree.is_empty() {
            Err(ClientError::Unknown(task))
        } else {
            Ok(tree)
        }
    }

    /// Log chunks of a task after a position, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unknown`] or [`ClientError::Store`].
    pub async fn logs(
        &self,
        task: TaskId,
        after: Option<LogPosition>,
        limit: usize,
    ) -> Result<Vec<LogChunk>, ClientError> {
        let chunks = self.inner.store.logs(task, after, limit).await?;
        if chunks.is_empty() {
            self.task(task).await?;
        }
        Ok(chunks)
    }

    /// Holds a submission against everything that can be known before it is stored.
    async fn admitted(&self, submission: Submission) -> Result<Submission, SubmitError> {
        let submission = submission
            .checked(self.inner.settings.limits)
            .map_err(SubmitError::Submission)?;
        if self.inner.settings.refuses_unknown_actions {
            self.inner.known.check(&submission.action).await?;
        }
        Ok(submission)
    }

    async fn store_and_announce(&self, submission: Submission) -> Result<Receipt, SubmitError> {
        let inner = &self.inner;
        // Kept for the case that its key is known.
        let keyed = submission
            .idempotency_key
            .clone()
            .map(|key| (key, submission.clone()));
        let task = self.named(submission);
        let submitted = match inner.local.reserve(task.id, &task.submission) {
            Some(place) => self.begin_here(task, place).await?,
            None => (inner.group.submit(task).await?, false),
        };
        match submitted {
            (Submitted::Stored(task), has_begun) => {
                if !has_begun {
                    inner.outgoing.announce(EventKind::Created, &task).await;
                }
                Ok(Receipt { task, is_new: true })
            }
            (Submitted::Known(task), _) => {
                if let Some((key, submission)) = keyed {
                    let differences = inner.group.differences(&submission, task.id).await?;
                    if !differences.is_empty() {
                        return Err(SubmitError::KeyTaken {
                            key,
                            task: task.id,
                            differences,
                        });
                    }
                }
                Ok(Receipt {
                    task,
                    is_new: false,
                })
            }
            (Submitted::Refused(refusal), _) => Err(self.explained(refusal).await),
        }
    }

    /// Stores a task and begins it in this process; answers whether it has begun.
    async fn begin_here(
        &self,
        task: NewTask,
        place: Box<dyn LocalPlace>,
    ) -> Result<(Submitted, bool), StoreError> {
        let (id, executor) = (task.id, place.executor());
        let (submitted, claimed) = self.inner.group.submit_and_claim(task, executor).await?;
        let has_begun = claimed.is_some();
        if let Some(task) = claimed {
            let waiters = Arc::clone(&self.inner.waiters);
            place.begin(task, Box::new(move || waiters.wake(id)));
        } else {
            place.let_go();
        }
        Ok((submitted, has_begun))
    }

    /// The task that `submission` makes.
    fn named(&self, submission: Submission) -> NewTask {
        let inner = &self.inner;
        NewTask {
            fan_out: None,
            id: submission
                .id
                .unwrap_or_else(|| TaskId::new(inner.clock.now(), inner.clock.random())),
            origin: Some(inner.origin.clone()),
            submission,
        }
    }

    async fn explained(&self, refusal: crate::store::Refusal) -> SubmitError {
        let queues = self.inner.store.queues().await.unwrap_or_default();
        SubmitError::Refused {
            refusal,
            queues: queues.into_iter().map(|queue| queue.name).collect(),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.inner.id)
            .finish_non_exhaustive()
    }
}

/// Wakes waiters as results come in.
async fn hear(mut results: Deliveries, waiters: Arc<Waiters>, background: Background) {
    loop {
        let delivery = tokio::select! {
            biased; // A flood of results must not hold up the end.
            () = background.stopping() => None,
            delivery = results.next() => delivery,
        };
        let Some(delivery) = delivery else { return };
        match parse_events(&delivery.body) {
            Ok(events) => {
                let ends = |state: &str| state.parse().is_ok_and(TaskState::ends_a_wait);
                for event in events
                    .iter()
                    .filter(|event| event.data.state.as_deref().is_some_and(ends))
                {
                    waiters.wake(event.task);
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "A result message cannot be read; the store makes up for it");
            }
        }
        delivery.ack();
    }
}
