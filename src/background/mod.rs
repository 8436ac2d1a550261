//! Work in the background of a process: started in one place, so that shutting down can wait for it.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a process has started and must wait for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Background {
    tracker: TaskTracker,
    /// What the whole has started, when this is a part of it.
    whole: Option<TaskTracker>,
    stop: CancellationToken,
}

impl Background {
    /// Nothing started yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A part that stops with the whole, and can be stopped and waited for on its own.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            whole: Some(self.tracker.clone()),
            stop: self.stop.child_token(),
        }
    }

    /// Starts `future`. It ends by itself, or soon after [`Background::stopping`] resolves.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let future = self.tracker.track_future(future);
        drop(match &self.whole {
            Some(whole) => tokio::spawn(whole.track_future(future)),
            None => tokio::spawn(future),
        });
    }

    /// Resolves once the work shall stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the work shall stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// A token that is cancelled when the work shall stop.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Asks the work to stop, without waiting.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Resolves once everything that was started has ended, by its parts too.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped, the work goes on.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
