//! What there is to do for housekeeping.

use std::time::Duration;

use uuid::Uuid;

#[cfg(doc)]
use super::Store;
use super::time::from_now;
use crate::domain::ExecutorId;

/// What there is to do for housekeeping, at a glance.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Glance {
    /// How long until [`Store::due`] moves something; zero when it would now, `None` when nothing waits for a time.
    pub due_in: Option<Duration>,
    /// How long until [`Store::fire_schedules`] has a schedule to look at, as `due_in`.
    pub schedules_in: Option<Duration>,
    /// Whether [`Store::take_over`] finds an executor to take over from.
    pub has_lost: bool,
    /// Whether [`Store::clear_below`] finds a task that has ended.
    pub has_below: bool,
    /// Executors without a token that are silent. None that was found lost or dead.
    pub silent: Vec<ExecutorId>,
}

/// The four columns that both stores answer with, in this order.
pub(super) type GlanceRow = (Option<i64>, Option<i64>, bool, bool);

impl Glance {
    /// What the rows say.
    pub(super) fn of(
        (due_in, schedules_in, has_lost, has_below): GlanceRow,
        silent: Vec<Uuid>,
    ) -> Self {
        Self {
            due_in: due_in.map(from_now),
            schedules_in: schedules_in.map(from_now),
            has_lost,
            has_below,
            silent: silent.into_iter().map(ExecutorId::from_uuid).collect(),
        }
    }
}
