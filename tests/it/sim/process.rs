//! A simulated process: everything it asks of the world passes a gate that can be shut.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// One start of one program.
pub(super) struct Process {
    pub(super) name: String,
    /// Cancelled when it dies.
    pub(super) dead: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(super) struct State {
    is_frozen: bool,
    /// What it hears when it goes on.
    late: Vec<oneshot::Sender<()>>,
    /// The connection to the broker; cancelled when it breaks.
    link: CancellationToken,
    pub(super) is_cut_from_store: bool,
    pub(super) is_cut_from_broker: bool,
}

impl Process {
    pub(super) fn new(name: String) -> Arc<Self> {
        let state = State {
            is_frozen: false,
            late: Vec::new(),
            link: CancellationToken::new(),
            is_cut_from_store: false,
            is_cut_from_broker: false,
        };
        Arc::new(Self {
            name,
            dead: CancellationToken::new(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on nothing that it waits for ever comes.
    pub(super) fn die(&self) {
        self.dead.cancel();
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    pub(super) fn freeze(&self) {
        self.state().is_frozen = true;
    }

    /// Goes on; what came meanwhile is heard now.
    pub(super) fn thaw(&self) {
        let mut state = self.state();
        state.is_frozen = false;
        let late = std::mem::take(&mut state.late);
        drop(state);
        for wake in late {
            self.wake(wake);
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.state().is_frozen
    }

    /// Wakes something of this process: now, when it goes on, or never.
    pub(super) fn wake(&self, wake: oneshot::Sender<()>) {
        if self.is_dead() {
            return; // Dropped: whoever waits for it does so for ever.
        }
        let mut state = self.state();
        if state.is_frozen {
            state.late.push(wake);
        } else {
            wake.send(()).unwrap_or_default(); // Dropped meanwhile: nobody waits for it.
        }
    }

    /// Resolves at once while the process runs, later while it is frozen, and never when it is dead.
    pub(super) async fn gate(&self) {
        loop {
            if self.is_dead() {
                return pending().await;
            }
            let (wake, woken) = oneshot::channel();
            {
                let mut state = self.state();
                if !state.is_frozen {
                    return;
                }
                state.late.push(wake);
            }
            if woken.await.is_err() {
                return pending().await;
            }
        }
    }

    /// The connection to the broker that it has now.
    pub(super) fn link(&self) -> CancellationToken {
        self.state().link.clone()
    }

    /// Breaks the connection to the broker; the next one is another.
    pub(super) fn break_link(&self) {
        let broken = std::mem::take(&mut self.state().link);
        broken.cancel();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Process").field(&self.name).finish()
    }
}
