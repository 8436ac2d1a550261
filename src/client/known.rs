//! Which actions exist, remembered so that a submission costs no query.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::SubmitError;
use crate::clock::Clock;
use crate::domain::ActionName;
use crate::store::Store;

/// How often unknown names may ask the store, together: many wrong submissions must not become many queries. The
/// longest that a wrong one waits for its refusal.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The actions that any executor ever offered. Names once offered stay, so a remembered name is never wrong.
pub(super) struct KnownActions {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    names: RwLock<BTreeSet<ActionName>>,
    refreshed_at: Mutex<Option<Duration>>,
}

impl KnownActions {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self {
            store,
            clock,
            names: RwLock::default(),
            refreshed_at: Mutex::new(None),
        }
    }

    /// Refuses an action that nobody ever offered.
    pub(super) async fn check(&self, action: &ActionName) -> Result<(), SubmitError> {
        if self.has(action) {
            return Ok(());
        }
        self.refresh().await?;
        if self.has(action) {
            return Ok(());
        }
        let known = self
            .names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect();
        Err(SubmitError::UnknownAction {
            action: action.clone(),
            known,
        })
    }

    fn has(&self, action: &ActionName) -> bool {
        self.names
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(action)
    }

    /// Asks the store, so that what was offered before this call is known after it.
    async fn refresh(&self) -> Result<(), SubmitError> {
        let asked_at = self.clock.monotonic();
        // Held across the pause and the query on purpose (an async mutex): those who come meanwhile share the answer.
        let mut refreshed_at = self.refreshed_at.lock().await;
        if let Some(at) = *refreshed_at {
            if at > asked_at {
                return Ok(());
            }
            // An executor may have started since: to refuse by an old answer would refuse what it offers.
            let since = self.clock.monotonic().saturating_sub(at);
            self.clock
                .sleep(REFRESH_INTERVAL.saturating_sub(since))
                .await;
        }
        let began_at = self.clock.monotonic();
        let names = self.store.known_actions().await?;
        self.names
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(names);
        *refreshed_at = Some(began_at);
        Ok(())
    }
}
