//! `sleep`: holds its slot for a while.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{duration, stopped};
use crate::action::{Action, Context};
use crate::clock::Clock;
use crate::domain::Failure;

/// The longest sleep: one day. A sleep holds a slot; for something later there is `run_at`.
pub const SLEEP_MAX: Duration = Duration::from_hours(24);

/// `sleep`: holds its slot for `{"seconds": 0.05}` and returns its input.
#[derive(Debug, Clone)]
pub struct Sleep {
    clock: Arc<dyn Clock>,
}

/// How long to sleep: `{"seconds": 0.05}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepInput {
    /// Unit: seconds, from 0 to [`SLEEP_MAX`].
    pub seconds: f64,
}

impl Sleep {
    /// The action, which takes its time from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl Action for Sleep {
    const NAME: &'static str = "sleep";
    type Input = SleepInput;
    type Output = SleepInput;

    async fn run(&self, context: Context, input: SleepInput) -> Result<SleepInput, Failure> {
        let length = duration("seconds", input.seconds, SLEEP_MAX)?;
        tokio::select! {
            () = self.clock.sleep(length) => Ok(input),
            stop = context.stopped() => Err(stopped("the sleep", &stop)),
        }
    }
}
