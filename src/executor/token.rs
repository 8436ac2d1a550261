//! The token that tells the others of this executor's death: held as long as its connection to the broker lives.
//!
//! Losing it is no death. Who has lost it shows in the store that it lives (`lease`), and gets another.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::Shared;
use crate::background::Background;
use crate::broker::{Credit, Deliveries, Delivery};

/// One for each connection; the one of the former connection may still be in hand.
pub(super) const CREDIT: Credit = 8;

/// The token in hand.
#[derive(Debug, Default)]
pub(super) struct Token {
    held: Mutex<Option<Delivery>>,
    /// How many were lost.
    lost: watch::Sender<u64>,
}

impl Token {
    /// Where it is heard that another token has come: so the one before is lost. The first is none that was lost.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    /// Gives it back: this executor ends in peace, and nobody needs to be told.
    pub(super) fn give_back(&self) {
        if let Some(token) = self.replace(None) {
            token.ack();
        }
    }

    fn replace(&self, token: Option<Delivery>) -> Option<Delivery> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *held, token)
    }
}

/// Takes each token that comes, and holds the last.
pub(super) async fn hold(shared: &Shared, mut tokens: Deliveries, background: &Background) {
    loop {
        let token = tokio::select! {
            biased;
            () = background.stopping() => return,
            token = tokens.next() => token,
        };
        let Some(token) = token else { return };
        // Not settled: the one before belongs to a connection that is gone.
        if shared.token.replace(Some(token)).is_some() {
            shared.token.lost.send_modify(|count| *count += 1);
        }
    }
}
