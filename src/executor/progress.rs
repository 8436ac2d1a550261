//! How far an attempt says that it is, on its way into the store and to taps.
//!
//! An action may say so as often as it likes. The first word is stored at once, then one word an interval at most, and
//! the last one always: when the interval is over, or when the attempt ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use super::Shared;
use crate::domain::limits::PROGRESS_INTERVAL;
use crate::domain::{Progress, Task};
use crate::store::StoreError;

/// What one attempt says.
pub(super) struct ProgressKeeper {
    shared: Arc<Shared>,
    task: Arc<Task>,
    /// The last word, and which it is.
    said: watch::Sender<(u64, Option<Progress>)>,
    /// Which word is stored, or need not be any more.
    stored: AtomicU64,
}

impl ProgressKeeper {
    pub(super) fn new(shared: Arc<Shared>, task: Arc<Task>) -> Self {
        Self {
            shared,
            task,
            said: watch::Sender::new((0, None)),
            stored: AtomicU64::new(0),
        }
    }

    /// Takes a word. Never waits: the newest is what counts.
    pub(super) fn say(&self, counts: (u64, Option<u64>), message: &str) {
        let now = self.shared.clock.now();
        let progress = Progress::new(self.task.attempt, counts, message, now);
        self.said.send_modify(|(number, said)| {
            *number += 1;
            *said = Some(progress);
        });
    }

    /// Stores words as they come, for as long as it is polled.
    pub(super) async fn carry(&self) {
        let mut said = self.said.subscribe();
        loop {
            let is_new = |(number, _): &(u64, Option<Progress>)| {
                *number > self.stored.load(Ordering::Relaxed)
            };
            if said.wait_for(is_new).await.is_err() {
                return; // Nobody is left to say anything.
            }
            if let Err(error) = self.store().await {
                let task = self.task.id;
                tracing::debug!(task.id = %task, error = %error, "The progress of task `{task}` is not stored yet");
            }
            self.shared.clock.sleep(PROGRESS_INTERVAL).await;
        }
    }

    /// Stores the last word, if it is not stored. The attempt still has to run by its row, or it is written no more.
    pub(super) async fn finish(&self) {
        let store = || self.store();
        if let Some(Err(error)) = self.shared.until_answered(self.task.id, store).await {
            let task = self.task.id;
            tracing::error!(task.id = %task, error = %error, "The last progress of task `{task}` cannot be stored");
        }
    }

    async fn store(&self) -> Result<(), StoreError> {
        let (number, said) = self.said.borrow().clone();
        let Some(progress) = said.filter(|_| number > self.stored.load(Ordering::Relaxed)) else {
            return Ok(());
        };
        let word = (self.task.id, progress.clone());
        if self.shared.progress.call(word).await? {
            let outgoing = &self.shared.outgoing;
            let event = outgoing.speaker().progressed(&self.task.facts(), &progress);
            outgoing.say(event).await;
        }
        // After all of it: who was dropped in between begins again.
        self.stored.fetch_max(number, Ordering::Relaxed);
        Ok(())
    }
}
