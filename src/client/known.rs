//! Which actions exist, remembered so that a submission costs no query.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::SubmitError;
use crate::clock::Clock;
use crate::domain::ActionName;
use crate::store::Store;

/// How often an unknown name may ask the store again: many wrong submissions must not become many queries.
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

    async fn refresh(&self) -> Result<(), SubmitError> {
        // Held across the query on purpose (an async mutex): those who come meanwhile share its answer.
        let mut refreshed_at = self.refreshed_at.lock().await;
        let now = self.clock.monotonic();
        if refreshed_at.is_some_and(|at| now.saturating_sub(at) < REFRESH_INTERVAL) {
            return Ok(());
        }
        let names = self.store.known_actions().await?;
        self.names
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(names);
        *refreshed_at = Some(now);
        Ok(())
    }
}
