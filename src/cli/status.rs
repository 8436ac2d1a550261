//! How a command ended.

use std::process::{ExitCode, Termination};

/// How a command ended, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done.
    Done,
    /// 1: what was asked for failed.
    Failed,
    /// 2: the command itself was wrong: a flag, a setting.
    Usage,
    /// 3: the task failed, or is paused.
    TaskFailed,
    /// 4: the task was cancelled.
    TaskCancelled,
    /// 124: the wait timed out and the task goes on.
    TimedOut,
}

impl ExitStatus {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TaskFailed => 3,
            Self::TaskCancelled => 4,
            Self::TimedOut => 124,
        }
    }
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
