//! Whether the server answers, said once when it does no longer and once when it does again.

use std::sync::{Mutex, PoisonError};

use crate::store::StoreError;

/// What is known of the server, shared by all connections of a process.
#[derive(Debug, Default)]
pub(super) struct Outage(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How often it has answered.
    answers: u64,
    is_away: bool,
}

/// When a call began, in answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun(u64);

impl Outage {
    /// A call begins.
    pub(super) fn begin(&self) -> Begun {
        Begun(self.state(|state| state.answers))
    }

    /// A call was answered.
    pub(super) fn answered(&self, address: &str) {
        let is_news = self.state(|state| {
            state.answers += 1;
            std::mem::take(&mut state.is_away)
        });
        if is_news {
            tracing::info!(store.address = address, "the store is back");
        }
    }

    /// A call that has `begun` so got no connection. When another was answered meanwhile that is no news.
    pub(super) fn unreached(&self, begun: Begun, address: &str, error: &StoreError) {
        let is_news = self.state(|state| {
            state.answers == begun.0 && !std::mem::replace(&mut state.is_away, true)
        });
        if is_news {
            tracing::warn!(
                store.address = address,
                error = %error,
                "the store is away; trying again"
            );
        }
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_without_a_connection_beside_one_that_is_answered_is_no_outage() {
        let outage = Outage::default();
        let refused = StoreError::Unavailable {
            reason: "refused".to_owned(),
        };
        let is_away = |outage: &Outage| outage.state(|state| state.is_away);
        let begun = outage.begin();
        outage.answered("x");
        outage.unreached(begun, "x", &refused);
        assert!(!is_away(&outage));
        outage.unreached(outage.begin(), "x", &refused);
        assert!(is_away(&outage));
        outage.answered("x");
        assert!(!is_away(&outage));
    }
}
