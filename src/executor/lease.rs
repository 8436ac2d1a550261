//! The lease of everything that runs here: one statement per interval, whatever the number of tasks.

use std::sync::Arc;

use super::Shared;
use crate::action::Stop;
use crate::background::Background;
use crate::clock::{Pauses, PausesKind};
use crate::domain::limits::{HEARTBEAT_INTERVAL, LEASE_DURATION};
use crate::store::{Renewal, StoreError};

/// Renews the lease until the executor is gone.
pub(super) async fn keep(shared: Arc<Shared>, background: Background) {
    let mut pauses = Pauses::new(PausesKind::Reconnect);
    let mut pause = HEARTBEAT_INTERVAL;
    let mut is_away = false;
    loop {
        tokio::select! {
            () = shared.clock.sleep(pause) => {}
            () = background.stopping() => return,
        }
        match renew(&shared).await {
            Ok(()) => {
                if std::mem::take(&mut is_away) {
                    tracing::info!("The store answers again; the lease is renewed");
                }
                pauses.reset();
                pause = HEARTBEAT_INTERVAL;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    tracing::warn!(error = %error, "The lease could not be renewed; trying again");
                }
                pause = pauses.next().min(HEARTBEAT_INTERVAL);
            }
        }
    }
}

async fn renew(shared: &Arc<Shared>) -> Result<(), StoreError> {
    match shared.store.renew(shared.id, LEASE_DURATION).await? {
        Renewal::Held { cancels } => {
            for (task, reason) in cancels {
                shared.running.stop(task, Stop::Cancelled(reason));
            }
        }
        Renewal::Fenced => {
            tracing::warn!(
                "The lease had ended: what ran here was taken over, its attempts are stopped"
            );
            shared.running.stop_all(&Stop::Released);
            // Safe under the same id: what is claimed from now on has a newer attempt, the token of every write.
            shared.store.enroll(&shared.record, LEASE_DURATION).await?;
        }
    }
    Ok(())
}
