//! Schedules whose time has come. The store lets each firing be made once, whoever looks.

use super::House;
use crate::domain::limits::BATCH_MAX;
use crate::store::{Fired, StoreError};
use crate::wire::EventKind;

impl House {
    /// Lets schedules fire, at most a batch, and says what came of it.
    pub(super) async fn fire(&self) -> Result<Fired, StoreError> {
        let fired = self.store.fire_schedules(BATCH_MAX).await?;
        for facts in &fired.created {
            self.outgoing.announce(EventKind::Created, facts).await;
        }
        for facts in &fired.cancelled {
            self.outgoing.report(facts.clone());
        }
        for (task, executor) in &fired.running {
            let nudge = self
                .outgoing
                .speaker()
                .nudge(*executor, *task, Fired::CANCEL_REASON);
            self.outgoing.say(nudge).await;
        }
        Ok(fired)
    }
}
