//! Work in the background of a process: started in one place, so that shutting down can wait for it.

use std::future::Future;
use std::sync::mpsc;
use std::{io, thread};

use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a process has started and must wait for. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Background {
    tracker: TaskTracker,
    /// What the whole has started, when this is a part of it.
    whole: Option<TaskTracker>,
    stop: CancellationToken,
    threads: Threads,
}

/// Whether work may have a thread of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Threads {
    #[default]
    Own,
    /// Everything on the thread of the one who starts it: for simulated time.
    One,
}

impl Background {
    /// Nothing started yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that starts no threads, for a simulation: whatever runs, runs in turn.
    pub fn on_one_thread() -> Self {
        Self {
            threads: Threads::One,
            ..Self::default()
        }
    }

    /// Another of the same kind, which is stopped and waited for on its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            threads: self.threads,
            ..Self::default()
        }
    }

    /// A part that stops with the whole, and can be stopped and waited for on its own.
    #[must_use]
    pub fn part(&self) -> Self {
        Self {
            tracker: TaskTracker::new(),
            whole: Some(self.tracker.clone()),
            stop: self.stop.child_token(),
            threads: self.threads,
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

    /// Starts `future` on a thread of its own, with timers and sockets of its own: it goes on while others block every
    /// thread that they share. For the little that must never be late.
    ///
    /// # Errors
    ///
    /// The machine gives no thread, or no sockets; nothing was started.
    pub fn spawn_apart<F>(&self, name: &str, future: F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.threads == Threads::One {
            self.spawn(future);
            return Ok(());
        }
        let future = self.tracker.track_future(future);
        let whole = self.whole.as_ref().map(TaskTracker::token);
        let (begun, outcome) = mpsc::sync_channel(1);
        let run = move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            // Whoever starts it waits for this.
            match runtime {
                Ok(runtime) => {
                    drop(begun.send(Ok(())));
                    runtime.block_on(future);
                }
                Err(error) => drop(begun.send(Err(error))),
            }
            drop(whole);
        };
        drop(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        outcome.recv().map_err(io::Error::other)?
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
