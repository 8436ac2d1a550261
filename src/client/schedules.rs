//! Schedules: what a web server does for those who want tasks again and again.

use super::{Client, SubmitError};
use crate::domain::{Firing, ScheduleError, ScheduleName, ScheduleRecord, ScheduleSpec};
use crate::store::{
    Fired, Refusal, ScheduleCreated, ScheduleList, ScheduleRefusal, SchedulesListed, StoreError,
    Triggered,
};
use crate::wire::EventKind;

/// Why a schedule was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateScheduleError {
    /// What it asks for is out of bounds.
    #[error("the schedule is refused")]
    Spec(#[source] ScheduleError),
    /// Its task could not be submitted.
    #[error(transparent)]
    Task(#[from] SubmitError),
    /// The store does not take it.
    #[error("the schedule `{name}` is refused: {refusal}")]
    Refused {
        /// What it is called.
        name: ScheduleName,
        /// Why.
        refusal: ScheduleRefusal,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CreateScheduleError {
    /// What to do about it, for people.
    pub fn hint(&self) -> Option<String> {
        let words = match self {
            Self::Spec(error) => error.hint()?,
            Self::Task(error) => return error.hint(),
            Self::Refused { refusal, .. } => match refusal {
                ScheduleRefusal::Taken { .. } => {
                    "delete it first, or choose another name; a schedule is not changed"
                }
                ScheduleRefusal::Over(_) => "choose a time that is to come",
                ScheduleRefusal::Many => "delete those that ended",
                ScheduleRefusal::UnknownQueue(_) => return None,
            },
            Self::Store(error) if error.is_transient() => {
                "try again; the same schedule is made once"
            }
            Self::Store(_) => return None,
        };
        Some(words.to_owned())
    }
}

/// Why nothing could be said of a schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleClientError {
    /// There is no such schedule.
    #[error("there is no schedule `{0}`")]
    Unknown(ScheduleName),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Client {
    /// Makes a schedule; tells whether it is new. The same asked for twice is one.
    ///
    /// # Errors
    ///
    /// [`CreateScheduleError`]; with a store that does not answer it is unknown whether it was made: ask again.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have made it.
    pub async fn create_schedule(
        &self,
        spec: ScheduleSpec,
    ) -> Result<(ScheduleRecord, bool), CreateScheduleError> {
        let spec = spec
            .checked(self.limits())
            .map_err(CreateScheduleError::Spec)?;
        if self.inner.settings.refuses_unknown_actions {
            self.inner.known.check(&spec.task.action).await?;
        }
        let created_by = self.inner.outgoing.speaker().to_string();
        match self.inner.store.create_schedule(&spec, &created_by).await? {
            ScheduleCreated::Stored(record) => Ok((*record, true)),
            ScheduleCreated::Known(record) => Ok((*record, false)),
            ScheduleCreated::Refused(ScheduleRefusal::UnknownQueue(queue)) => {
                Err(self.explained(Refusal::UnknownQueue(queue)).await.into())
            }
            ScheduleCreated::Refused(refusal) => Err(CreateScheduleError::Refused {
                name: spec.name,
                refusal,
            }),
        }
    }

    /// Schedules, sorted by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn schedules(&self, list: &ScheduleList) -> Result<SchedulesListed, StoreError> {
        self.inner.store.schedules(list).await
    }

    /// One schedule.
    ///
    /// # Errors
    ///
    /// [`ScheduleClientError`].
    pub async fn schedule(
        &self,
        name: &ScheduleName,
    ) -> Result<ScheduleRecord, ScheduleClientError> {
        let found = self.inner.store.schedule(name).await?;
        found.ok_or_else(|| ScheduleClientError::Unknown(name.clone()))
    }

    /// The last firings of a schedule, the newest first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn firings(
        &self,
        name: &ScheduleName,
        limit: usize,
    ) -> Result<Vec<Firing>, StoreError> {
        self.inner.store.firings(name, limit).await
    }

    /// Stops a schedule from firing, until it is resumed.
    ///
    /// # Errors
    ///
    /// [`ScheduleClientError`].
    pub async fn pause_schedule(&self, name: &ScheduleName) -> Result<(), ScheduleClientError> {
        known(name, self.inner.store.pause_schedule(name).await?)
    }

    /// Lets a schedule fire again. What was due while it was paused is dropped.
    ///
    /// # Errors
    ///
    /// [`ScheduleClientError`].
    pub async fn resume_schedule(&self, name: &ScheduleName) -> Result<(), ScheduleClientError> {
        known(name, self.inner.store.resume_schedule(name).await?)
    }

    /// Deletes a schedule. The tasks that it has submitted stay.
    ///
    /// # Errors
    ///
    /// [`ScheduleClientError`].
    pub async fn delete_schedule(&self, name: &ScheduleName) -> Result<(), ScheduleClientError> {
        known(name, self.inner.store.delete_schedule(name).await?)
    }

    /// Lets a schedule fire now, out of turn, and announces what came of it.
    ///
    /// # Errors
    ///
    /// [`ScheduleClientError`]; with a store that does not answer it is unknown whether it fired.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have fired; then some executor finds the task.
    pub async fn trigger_schedule(
        &self,
        name: &ScheduleName,
    ) -> Result<Triggered, ScheduleClientError> {
        let triggered = self.inner.store.trigger_schedule(name).await?;
        let triggered = triggered.ok_or_else(|| ScheduleClientError::Unknown(name.clone()))?;
        let outgoing = &self.inner.outgoing;
        for facts in &triggered.fired.created {
            outgoing.announce(EventKind::Created, facts).await;
        }
        // An executor reports the ends and nudges whoever runs a task, as for any cancel.
        let cancelled = triggered.fired.cancelled.iter().map(|facts| facts.id);
        let running = triggered.fired.running.iter().map(|(task, _)| *task);
        for task in cancelled.chain(running) {
            let wish = outgoing.speaker().cancel(task, Fired::CANCEL_REASON);
            outgoing.say(wish).await;
            self.inner.waiters.wake(task);
        }
        Ok(triggered)
    }
}

fn known(name: &ScheduleName, is_known: bool) -> Result<(), ScheduleClientError> {
    if is_known {
        Ok(())
    } else {
        Err(ScheduleClientError::Unknown(name.clone()))
    }
}
