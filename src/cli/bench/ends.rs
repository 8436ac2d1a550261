//! Counting tasks that end: by their events, or where there are none by their rows.

use std::time::Duration;

use super::stand::Stand;
use super::{Complaint, Output};
use crate::broker::Since;
use crate::domain::{ActionName, TaskState};
use crate::store::List;
use crate::tap::{Filter, Seen, Tap};

/// How long nothing may happen before a run is called broken.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How often rows are counted.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Counts the tasks of the queue of the benchmarks that succeed from now on.
pub(super) struct Ends<'stand> {
    stand: &'stand Stand,
    /// `None` where there are no events, or some were missed.
    tap: Option<Tap>,
    /// How many had succeeded before.
    base: u64,
    done: usize,
}

impl<'stand> Ends<'stand> {
    /// Begins to count.
    pub(super) async fn of(stand: &'stand Stand) -> Result<Self, Complaint> {
        let base = succeeded(stand).await?;
        Ok(Self {
            stand,
            tap: tap(stand).await?,
            base,
            done: 0,
        })
    }

    /// How many have ended, once there are more than before. `of` is for the words when nothing happens.
    pub(super) async fn more(&mut self, of: usize) -> Result<usize, Complaint> {
        let clock = self.stand.clock();
        if let Some(tap) = &mut self.tap {
            let seen = tokio::select! {
                biased;
                seen = tap.next() => seen,
                () = clock.sleep(SILENCE_MAX) => None,
            };
            match seen {
                Some(Seen::Event { .. }) => {
                    self.done += 1;
                    return Ok(self.done);
                }
                // What was missed is told by the rows.
                Some(Seen::Gap { .. }) => self.tap = None,
                None => return Err(self.silent(of)),
            }
        }
        let begun = clock.monotonic();
        while clock.monotonic().saturating_sub(begun) < SILENCE_MAX {
            let done = succeeded(self.stand).await?.saturating_sub(self.base);
            let done = usize::try_from(done).unwrap_or(usize::MAX);
            if done > self.done {
                self.done = done;
                return Ok(done);
            }
            clock.sleep(LOOK_INTERVAL).await;
        }
        Err(self.silent(of))
    }

    fn silent(&self, of: usize) -> Complaint {
        Complaint::failed(format!(
            "only {} of {of} tasks ended, then nothing happened",
            self.done
        ))
    }
}

/// Listens to what succeeds in the queue of the benchmarks; `None` where nobody says it.
pub(super) async fn tap(stand: &Stand) -> Result<Option<Tap>, Complaint> {
    let broker = stand.runtime.broker();
    if !broker.promises().announces {
        return Ok(None);
    }
    let filter = Filter::new([format!("succeeded.{}.echo", stand.queue)]);
    Ok(Some(Tap::open(broker, filter, Since::Next).await?))
}

async fn succeeded(stand: &Stand) -> Result<u64, Complaint> {
    let list = List {
        states: vec![TaskState::Succeeded],
        queue: Some(stand.queue.clone()),
        action: Some(ActionName::new("echo")?),
        limit: usize::MAX,
        ..List::default()
    };
    Ok(stand.runtime.store().count(&list).await?)
}

/// Says how far it is, at each tenth.
pub(super) struct Progress {
    output: Output,
    of: usize,
    next: usize,
}

impl Progress {
    pub(super) fn new(output: Output, of: usize) -> Self {
        Self {
            output,
            of,
            next: of / 10,
        }
    }

    pub(super) fn at(&mut self, done: usize) {
        if done >= self.next && self.of >= 10 {
            self.output.say(&format!("{done} of {}", self.of));
            self.next = done + self.of / 10;
        }
    }
}
