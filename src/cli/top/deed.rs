//! What an operator can do from the screen, and how it is carried out.

use std::sync::Arc;

use super::model::{News, Notice};
use crate::broker::{Broker, BrokerError, Speaker};
use crate::client::Client;
use crate::domain::{ExecutorId, Operator, QueueName, TaskId, note};
use crate::store::{Cancelled, Operated, Store, StoreError};

/// Why tasks are cancelled from here.
const REASON: &str = "cancelled in `longshore top`";

/// What was agreed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// A task, and all below it.
    Cancel(TaskId),
    /// A paused task.
    Resume(TaskId),
    /// An executor, with its name.
    Drain(ExecutorId, String),
    /// A queue whose tasks are to wait.
    PauseQueue(QueueName),
    /// A paused queue.
    ResumeQueue(QueueName),
}

impl Deed {
    /// The question before it.
    pub(super) fn question(&self) -> String {
        match self {
            Self::Cancel(task) => format!("cancel task {task} and all below it?"),
            Self::Resume(task) => format!("resume task {task}: one more try?"),
            Self::Drain(_, name) => {
                format!("drain executor `{name}`: end what runs, then stop?")
            }
            Self::PauseQueue(queue) => {
                format!("pause queue `{queue}`: what runs goes on, no other task begins?")
            }
            Self::ResumeQueue(queue) => format!("resume queue `{queue}`?"),
        }
    }

    /// What is said while it is under way.
    pub(super) fn begun(&self) -> String {
        match self {
            Self::Cancel(task) => format!("cancelling {task} …"),
            Self::Resume(task) => format!("resuming {task} …"),
            Self::Drain(_, name) => format!("asking `{name}` to drain …"),
            Self::PauseQueue(queue) => format!("pausing `{queue}` …"),
            Self::ResumeQueue(queue) => format!("resuming `{queue}` …"),
        }
    }
}

/// What became of a change of a queue.
fn changed(is_there: Result<bool, StoreError>, queue: &QueueName, words: String) -> Notice {
    match is_there {
        Ok(true) => Notice::good(words),
        Ok(false) => Notice::bad(format!("there is no queue `{queue}` any more")),
        Err(error) => Notice::bad(error.to_string()),
    }
}

/// Whoever carries it out.
#[derive(Clone)]
pub(super) struct Hand {
    pub(super) client: Client,
    pub(super) store: Arc<dyn Store>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) speaker: Arc<Speaker>,
    pub(super) by: Operator,
}

impl Hand {
    /// Carries it out, and tells what became of it.
    pub(super) async fn carry_out(&self, deed: Deed) -> News {
        match deed {
            Deed::Cancel(task) => News::Done(self.cancel(task).await),
            Deed::Resume(task) => News::Done(self.resume(task).await),
            Deed::Drain(executor, name) => self.drain(executor, &name).await,
            Deed::PauseQueue(queue) => {
                let paused = self.store.pause_queue(&queue, &self.by).await;
                let words = format!("`{queue}` is paused, within 5 s everywhere");
                News::Done(changed(paused, &queue, words))
            }
            Deed::ResumeQueue(queue) => {
                let resumed = self.store.resume_queue(&queue).await;
                let words = format!("`{queue}` goes on, within 5 s everywhere");
                News::Done(changed(resumed, &queue, words))
            }
        }
    }

    async fn cancel(&self, task: TaskId) -> Notice {
        match self.client.cancel_by(task, &note(REASON), &self.by).await {
            Ok(Cancelled::Unknown) => Notice::bad(format!("there is no task {task} any more")),
            Ok(Cancelled::Final(state)) => {
                Notice::bad(format!("task {task} is final already: {state}"))
            }
            Ok(Cancelled::Accepted {
                cancelled, running, ..
            }) => Notice::good(format!(
                "cancelled {}, asked {} that run to stop",
                cancelled.len(),
                running.len()
            )),
            Err(error) => Notice::bad(error.to_string()),
        }
    }

    async fn resume(&self, task: TaskId) -> Notice {
        match self.client.resume(task, &self.by).await {
            Ok(Operated::Unknown) => Notice::bad(format!("there is no task {task} any more")),
            Ok(Operated::Refused(refusal)) => Notice::bad(refusal.to_string()),
            Ok(Operated::Moved { task, .. }) => {
                Notice::good(format!("resumed: task {} is {} now", task.id, task.state))
            }
            Ok(Operated::Copied(copy)) => Notice::good(format!("a copy runs: {}", copy.id)),
            Err(error) => Notice::bad(error.to_string()),
        }
    }

    async fn drain(&self, executor: ExecutorId, name: &str) -> News {
        let answers = self
            .broker
            .publish(vec![self.speaker.drain(executor)])
            .await;
        match answers
            .into_iter()
            .collect::<Result<Vec<()>, BrokerError>>()
        {
            Ok(_) => News::Draining(executor, name.to_owned()),
            Err(error) => News::Done(Notice::bad(format!("`{name}` was not asked: {error}"))),
        }
    }

    /// All that is known of a task, for people.
    pub(super) async fn explain(&self, task: TaskId) -> News {
        let facts = match self.client.why(task).await {
            Ok((found, why)) => super::details::of_task(&found, &why),
            Err(error) => vec![("error".to_owned(), error.to_string())],
        };
        News::Explained(task, facts)
    }
}
