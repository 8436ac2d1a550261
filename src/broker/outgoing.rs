//! What a process has to say, on its way to the broker: gathered while the previous batch is under way, packed,
//! and said in order. Nothing that matters waits for it: whatever is lost here is found in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::{Broker, Message, Speaker};
use crate::background::Background;
use crate::domain::TaskFacts;
use crate::domain::limits::BATCH_MAX;
use crate::wire::EventKind;

/// Things that may wait to be said. Enough for a second at full speed; beyond it announcements wait for a place,
/// and results are left to the store.
const WAITING_MAX: usize = 16 * 1024;

/// What a process has to say. Clones share it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    words: mpsc::Sender<Word>,
    speaker: Arc<Speaker>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Word {
    Result(EventKind, TaskFacts),
    Announcement(Message),
    Message(Message),
}

impl Outgoing {
    /// Starts the worker that says what `speaker` has to say through `broker`. It ends when the last clone is
    /// dropped, after the last word.
    pub fn start(background: &Background, broker: Arc<dyn Broker>, speaker: Arc<Speaker>) -> Self {
        let (words, waiting) = mpsc::channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        background.spawn(speak(
            waiting,
            broker,
            Arc::clone(&speaker),
            Arc::clone(&lost),
        ));
        Self {
            words,
            speaker,
            lost,
        }
    }

    /// Announces that a task is ready, or will be. Waits for a place, not for the broker's answer.
    pub async fn announce(&self, kind: EventKind, facts: &TaskFacts) {
        let announcement = self.speaker.announcement(kind, facts);
        self.send(Word::Announcement(announcement)).await;
    }

    /// Says `message` as it is. Waits for a place, not for the broker's answer.
    pub async fn say(&self, message: Message) {
        self.send(Word::Message(message)).await;
    }

    async fn send(&self, word: Word) {
        if self.words.send(word).await.is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reports what became of a task to its origin and to taps. Never waits: work must not.
    pub fn report(&self, facts: TaskFacts) {
        if let Some(kind) = EventKind::of_state(facts.state) {
            self.result(kind, facts);
        }
    }

    /// Tells taps that a task was created which begins in this process, so that it need not be announced to others. Never
    /// waits, as [`Outgoing::report`].
    pub fn tell_created(&self, facts: TaskFacts) {
        self.result(EventKind::Created, facts);
    }

    fn result(&self, kind: EventKind, facts: TaskFacts) {
        if self.words.try_send(Word::Result(kind, facts)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Who speaks.
    pub fn speaker(&self) -> &Speaker {
        &self.speaker
    }
}

async fn speak(
    mut waiting: mpsc::Receiver<Word>,
    broker: Arc<dyn Broker>,
    speaker: Arc<Speaker>,
    lost: Arc<AtomicU64>,
) {
    let mut words = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut words, BATCH_MAX).await > 0 {
        let (mut others, mut results) = (Vec::with_capacity(words.len()), Vec::new());
        let mut announcements = Vec::with_capacity(words.len() + 1);
        for word in words.drain(..) {
            match word {
                Word::Announcement(message) => announcements.push(message),
                Word::Message(message) => others.push(message),
                Word::Result(kind, facts) => results.push((kind, facts)),
            }
        }
        // Work before taps: a broker without the taps' exchange ends the channel, and with it what comes after.
        let told = speaker.announced(&announcements);
        let mut messages = announcements;
        messages.append(&mut others);
        messages.extend(speaker.results(&results));
        messages.extend(told);
        for error in broker
            .publish(messages)
            .await
            .into_iter()
            .filter_map(Result::err)
        {
            let before = lost.fetch_add(1, Ordering::Relaxed);
            // The first of its kind is worth a line; the connection's own state is logged by the broker.
            if before == 0 {
                tracing::warn!(error = %error, "A message was not taken by the broker; the store makes up for it");
            }
        }
    }
}
