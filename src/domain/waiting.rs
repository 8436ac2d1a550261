//! What wakes a suspended task.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::{IdError, SignalName, StepName};

/// What a suspended task waits for; any of it wakes the task.
///
/// As text, in a row: marks between blanks, so that a store finds one of them without reading the others.
///
/// ```
/// use longshore::domain::WaitingFor;
///
/// let waiting: WaitingFor = " fan_out:images signal:approved timer ".parse()?;
/// assert!(waiting.has_timer);
/// assert_eq!(waiting.to_string(), " fan_out:images signal:approved timer ");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WaitingFor {
    /// Signals.
    pub signals: BTreeSet<SignalName>,
    /// The ends of sub-tasks that were spawned by these names.
    pub fan_outs: BTreeSet<StepName>,
    /// A time: the task's timer says which.
    pub has_timer: bool,
}

/// The mark of a timer.
pub const TIMER_MARK: &str = " timer ";

impl WaitingFor {
    /// Whether nothing would ever wake the task.
    pub fn is_empty(&self) -> bool {
        self.signals.is_empty() && self.fan_outs.is_empty() && !self.has_timer
    }
}

/// The mark of a wait for the signal `name`.
pub fn signal_mark(name: &SignalName) -> String {
    format!(" signal:{name} ")
}

/// The mark of a wait for the sub-tasks that were spawned as `name`.
pub fn fan_out_mark(name: &StepName) -> String {
    format!(" fan_out:{name} ")
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(" ")?;
        for name in &self.fan_outs {
            write!(f, "fan_out:{name} ")?;
        }
        for name in &self.signals {
            write!(f, "signal:{name} ")?;
        }
        if self.has_timer {
            f.write_str("timer ")?;
        }
        Ok(())
    }
}

impl FromStr for WaitingFor {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::new("what a task waits for", text);
        let mut waiting = Self::default();
        for mark in text.split(' ').filter(|mark| !mark.is_empty()) {
            match mark.split_once(':') {
                None if mark == "timer" => waiting.has_timer = true,
                Some(("signal", name)) => {
                    let name = SignalName::new(name).map_err(|_| wrong())?;
                    waiting.signals.insert(name);
                }
                Some(("fan_out", name)) => {
                    let name = StepName::stored(name).map_err(|_| wrong())?;
                    waiting.fan_outs.insert(name);
                }
                None | Some(_) => return Err(wrong()),
            }
        }
        Ok(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_task_waits_for_is_read_back_from_its_text() {
        let waiting = WaitingFor {
            signals: [
                SignalName::new("a.b").unwrap(),
                SignalName::new("c").unwrap(),
            ]
            .into(),
            fan_outs: [StepName::numbered("spawn", 2)].into(),
            has_timer: true,
        };
        let text = waiting.to_string();
        assert_eq!(text.parse(), Ok(waiting));
        assert!(text.contains(&signal_mark(&SignalName::new("c").unwrap())));
        assert!(text.contains(&fan_out_mark(&StepName::numbered("spawn", 2))));
        assert!(text.contains(TIMER_MARK));
        assert!(!text.contains(&signal_mark(&SignalName::new("b").unwrap())));
        assert!("moon".parse::<WaitingFor>().is_err());
    }
}
