//! The processes of one command.

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

/// The process group that a program leads: itself and all that it starts. Dropped, it is killed, so that
/// nothing is left behind when an attempt is.
#[derive(Debug)]
pub(super) struct ProcessGroup {
    leader: Option<Pid>,
}

impl ProcessGroup {
    /// The group of `child`, which was started as the leader of its own.
    pub(super) fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            leader: leader.map(Pid::from_raw),
        }
    }

    /// Asks all of them to end.
    pub(super) fn terminate(&self) {
        self.send(Signal::SIGTERM);
    }

    /// Ends all of them that still live. The group is done afterwards: a number that is free again may be
    /// somebody else's.
    pub(super) fn kill(&mut self) {
        self.send(Signal::SIGKILL);
        self.leader = None;
    }

    fn send(&self, signal: Signal) {
        match self.leader.map_or(Ok(()), |leader| killpg(leader, signal)) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                tracing::warn!(%error, "A process group does not take {signal}: {error}");
            }
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
