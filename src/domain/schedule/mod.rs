//! Schedules: tasks that time submits again and again.
//!
//! Pure like the rest of `domain`; what the clocks of a country do is data that `jiff` has at hand.

mod cron;
mod plan;
mod spec;
mod timing;
mod zone;

pub use cron::{Cron, CronError};
pub use plan::{Plan, Turn};
pub use spec::{
    CatchUp, Firing, FiringState, Overlap, SCHEDULE_LABEL, ScheduleError, ScheduleRecord,
    ScheduleSpec, ScheduleState,
};
pub use timing::Timing;
pub use zone::{Zone, ZoneError};
