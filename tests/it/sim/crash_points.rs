//! A process dies at each point of a task's path, one after the other: before a call of store or broker has left it,
//! and after the call was carried out but before the answer has come.

use super::process::Process;

/// Where the victim dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The call never leaves it.
    Before,
    /// The call is carried out, and it never hears so.
    After,
}

/// Who dies at which of its calls.
#[derive(Debug)]
pub(super) struct Crash {
    victim: String,
    point: Option<usize>,
    moment: Moment,
    /// The calls that the victim has made.
    pub(super) seen: Vec<&'static str>,
}

impl Crash {
    /// A process makes a call: tells whether it dies of it.
    pub(super) fn meets(&mut self, process: &Process, method: &'static str) -> Option<Moment> {
        if process.name != self.victim {
            return None;
        }
        self.seen.push(method);
        (self.point == Some(self.seen.len() - 1)).then_some(self.moment)
    }
}
