//! A workflow as it was read: blocks of steps, and what each step says.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::expression::Expression;
use super::read;
use crate::domain::Submission;

/// A workflow that was read and found right.
#[derive(Debug, Clone)]
pub struct Document {
    /// What its steps may refer to as `input`.
    pub(super) input: BTreeMap<String, Value>,
    pub(super) run: Block,
    /// Run afterwards, whatever happened; each one, also when one before it has failed.
    pub(super) finally: Vec<Block>,
    /// What the workflow returns; the output of each step when absent.
    pub(super) output: Option<Expression>,
}

#[derive(Debug, Clone)]
pub(super) enum Block {
    Sequence(Vec<Block>),
    Concurrence(Vec<Block>),
    Step(Box<Step>),
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) name: String,
    /// Where it stands in the document.
    pub(super) path: String,
    /// Its task, as yet without its input.
    pub(super) template: Submission,
    pub(super) input: Expression,
    pub(super) condition: Option<Expression>,
    pub(super) for_each: Option<Expression>,
    pub(super) in_flight_max: Option<u32>,
    pub(super) rescue: Rescue,
}

/// What becomes of a workflow when a step has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rescue {
    /// It fails: no further step begins, and what runs already runs to its end.
    #[default]
    Fail,
    /// It goes on, and the output of the step is null.
    Skip,
    /// The task of the step is paused, and the workflow waits until a person has decided.
    Pause,
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: `sequence[1].concurrence[0].input`; empty for the whole document.
    pub path: String,
    /// What, and what would be right.
    pub problem: String,
}

impl Document {
    /// Reads `document`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, in the order of the document; at least one problem.
    ///
    /// ```
    /// use longshore::action::builtin::workflow::Document;
    /// use serde_json::json;
    ///
    /// let problems = Document::read(&json!({"sequence": [{"name": "a", "actoin": "echo"}]})).unwrap_err();
    /// assert_eq!(
    ///     problems[0].to_string(),
    ///     "sequence[0].actoin: there is no such key; did you mean \"action\"?"
    /// );
    /// ```
    pub fn read(document: &Value) -> Result<Self, Vec<Problem>> {
        read::document(document)
    }

    /// How many steps it has.
    pub fn step_count(&self) -> usize {
        self.steps().len()
    }

    /// What its steps may refer to as `input`, with the values of the document.
    pub fn input(&self) -> &BTreeMap<String, Value> {
        &self.input
    }

    /// All steps, in the order of the document, those of `finally` last.
    pub(super) fn steps(&self) -> Vec<&Step> {
        let mut steps = Vec::new();
        for block in std::iter::once(&self.run).chain(&self.finally) {
            block.collect(&mut steps);
        }
        steps
    }
}

impl Block {
    pub(super) fn collect<'a>(&'a self, steps: &mut Vec<&'a Step>) {
        match self {
            Self::Sequence(blocks) | Self::Concurrence(blocks) => {
                for block in blocks {
                    block.collect(steps);
                }
            }
            Self::Step(step) => steps.push(step),
        }
    }
}

impl Step {
    /// Everything that it refers to.
    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let others = [&self.condition, &self.for_each];
        others.into_iter().flatten().chain([&self.input])
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.problem),
            path => write!(f, "{path}: {}", self.problem),
        }
    }
}
