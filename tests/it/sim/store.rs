//! The store as one simulated process sees it: the real one, behind a network. What each call tells the model is in
//! `store_port`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use longshore::store::{Store, StoreError};

use super::hub::Hub;
use super::process::Process;

/// How long a call waits for a store that is away before it gives up.
const AWAY: Duration = Duration::from_millis(300);

/// The store of one process.
pub(super) struct SimStore {
    pub(super) hub: Arc<Hub>,
    pub(super) process: Arc<Process>,
}

impl SimStore {
    pub(super) fn new(hub: &Arc<Hub>, process: &Arc<Process>) -> Self {
        Self {
            hub: Arc::clone(hub),
            process: Arc::clone(process),
        }
    }

    fn is_away(&self) -> bool {
        self.hub.network().is_store_away || self.process.state().is_cut_from_store
    }

    /// Carries out one call. `note` tells the model what the store has answered, whether or not anybody hears it, and
    /// answers with a line for the trace when something came of it.
    pub(super) async fn call<T: Send>(
        &self,
        method: &'static str,
        carry_out: impl Future<Output = Result<T, StoreError>> + Send,
        note: impl FnOnce(&Hub, &T) -> Option<String> + Send,
    ) -> Result<T, StoreError> {
        let (hub, process) = (&self.hub, &self.process);
        let call = hub.call(process, method).await;
        let fate = {
            let mut chance = hub.chance().fork();
            hub.network().of_call(&mut chance)
        };
        hub.pause(fate.way_there).await;
        if fate.is_unheard || self.is_away() {
            hub.say(format_args!("{} {method}: unheard", process.name));
            hub.pause(AWAY).await;
            call.answered().await;
            return Err(lost(method));
        }
        let answer = {
            let _turn = hub.turn().await;
            let answer = carry_out.await;
            let noted = match &answer {
                Ok(answer) => note(hub, answer),
                Err(error) => Some(error.to_string()),
            };
            if let Some(noted) = noted {
                hub.changed();
                hub.say(format_args!("{} {method}: {noted}", process.name));
            }
            answer
        };
        hub.pause(fate.way_back).await;
        let is_lost = fate.is_unanswered || self.is_away() || call.is_unheard();
        if is_lost {
            hub.say(format_args!("{} {method}: unanswered", process.name));
            hub.pause(AWAY).await;
        }
        call.answered().await;
        if is_lost { Err(lost(method)) } else { answer }
    }

    /// A call that changes no task.
    pub(super) async fn read<T: Send>(
        &self,
        method: &'static str,
        carry_out: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.call(method, carry_out, |_, _| None).await
    }

    /// The store behind the network.
    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.hub.store
    }
}

fn lost(method: &str) -> StoreError {
    StoreError::Unavailable {
        reason: format!("`{method}` was lost on its way"),
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimStore").field(&self.process.name).finish()
    }
}
