//! The address at which the other side answers later, and who may.

use sha2::{Digest, Sha256};

use crate::domain::{
    NameError, SignalName, Step, StepKind, StepName, StepOutcome, StepProgress, TaskId,
};

/// The step that holds the token.
const STEP: &str = "callback";

/// Bytes of the token's hash in the name of the signal: 32 hexadecimal digits.
const HASH_BYTES: usize = 16;

/// The secret in the address of a callback. Who knows it may answer, once.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackToken(String);

impl CallbackToken {
    /// The token that was found in an address.
    pub fn given(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The token made of `random`: 32 hexadecimal digits.
    pub(super) fn new(random: u128) -> Self {
        Self(format!("{random:032x}"))
    }

    /// As the step stores it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }

    /// The signal by which the answer reaches the task. It does not tell the token.
    ///
    /// # Errors
    ///
    /// None in practice: the name is made here.
    pub fn signal(&self) -> Result<SignalName, NameError> {
        SignalName::new(&format!("callback.{}", self.hash()))
    }

    /// Where the answer goes: below `base`, the address of the web servers.
    pub(super) fn address(&self, base: &str, task: TaskId) -> String {
        let base = base.trim_end_matches('/');
        format!("{base}/v1/callbacks/{task}/{}", self.0)
    }

    /// Whether a task that has `steps` has asked to be called with this token.
    pub fn is_asked_for(&self, steps: &[Step]) -> bool {
        // Hashes are compared: how long that takes tells nothing of the token.
        steps.iter().any(|step| match (&step.kind, &step.progress) {
            (StepKind::Step, StepProgress::Ended { outcome, .. }) if step.name.as_str() == STEP => {
                match outcome {
                    StepOutcome::Done(stored) => stored
                        .decode::<String>()
                        .is_ok_and(|stored| Self(stored).hash() == self.hash()),
                    StepOutcome::Failed(_) | StepOutcome::Skipped(_) | StepOutcome::Expired => {
                        false
                    }
                }
            }
            _ => false,
        })
    }

    /// Whether a task that has `steps` has taken the answer.
    pub fn is_taken(&self, steps: &[Step]) -> bool {
        let Ok(signal) = self.signal() else {
            return false;
        };
        let name = StepName::numbered(&format!("signal:{signal}"), 1);
        steps.iter().any(|step| {
            step.name == name
                && match &step.progress {
                    StepProgress::Ended { outcome, .. } => matches!(outcome, StepOutcome::Done(_)),
                    StepProgress::Waiting { .. } => false,
                }
        })
    }

    /// The step that holds it.
    pub(super) const fn step() -> &'static str {
        STEP
    }

    fn hash(&self) -> String {
        let hash: [u8; 32] = Sha256::digest(self.0.as_bytes()).into();
        let half: u128 = hash
            .iter()
            .take(HASH_BYTES)
            .fold(0, |number, byte| number << 8 | u128::from(*byte));
        format!("{half:032x}")
    }
}

impl std::fmt::Debug for CallbackToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallbackToken(***)")
    }
}
