//! Messages that the broker gave up on: their tasks are flagged, so that whoever asks after one is told.
//!
//! Only hints. The messages themselves lie where people read them, and the tasks are found in the store.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::House;
use crate::background::Background;
use crate::broker::topology::DEAD;
use crate::broker::{Credit, Deliveries, Delivery};
use crate::clock::Pauses;
use crate::domain::{DeadLetter, Grave};

/// Messages that lie here while one is being noted.
pub(super) const CREDIT: Credit = 8;

/// The pause after each that was noted: a flood of them (a work queue is missing, and thousands of tasks come) shall not become
/// a flood of writes. What lies here too long goes: these are hints.
const PACE: Duration = Duration::from_millis(50);

/// Flags the task of each message, one after the other, until `background` stops.
pub(super) async fn flag(house: Arc<House>, mut letters: Deliveries, background: Background) {
    loop {
        let letter = tokio::select! {
            biased;
            () = background.stopping() => return,
            letter = letters.next() => letter,
        };
        let Some(letter) = letter else { return };
        if let Some(about) = read(&letter) {
            tokio::select! {
                biased;
                // Unsettled: another executor gets it.
                () = background.stopping() => return,
                () = note(&house, &about) => {}
            }
        }
        letter.ack();
    }
}

/// Notes that the broker gave up a message about a task. Tries until the store is there: meanwhile more come, and the oldest go.
async fn note(house: &House, letter: &DeadLetter) {
    let mut pauses = Pauses::new(&house.clock);
    loop {
        let pause = match house.store.note_dead_letter(letter).await {
            Ok(false) => return,
            Ok(true) => return house.clock.sleep(PACE).await,
            Err(error) if error.is_transient() => pauses.next(),
            Err(error) => {
                tracing::warn!(task.id = %letter.task, error = %error, "A dead letter could not be noted: {}", letter.note());
                return;
            }
        };
        house.clock.sleep(pause).await;
    }
}

/// Which task it is about: that of the event, or that of the key of a signal. `None` when it names none.
fn read(delivery: &Delivery) -> Option<DeadLetter> {
    #[derive(Deserialize)]
    struct Subject {
        subject: String,
    }
    let event: Option<Subject> = serde_json::from_slice(&delivery.body).ok();
    let of_event = event.and_then(|event| event.subject.parse().ok());
    let of_key = || delivery.key.split('.').nth(1)?.parse().ok();
    Some(DeadLetter {
        task: of_event.or_else(of_key)?,
        key: delivery.key.clone(),
        grave: if delivery.exchange == DEAD {
            Grave::Dead
        } else {
            Grave::Unrouted
        },
    })
}
