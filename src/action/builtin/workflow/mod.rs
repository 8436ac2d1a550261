//! `workflow`: runs steps that a document describes, each a task of its own.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `document` | a document that was found right, and what can be wrong with one |
//! | `read` | from JSON to a document, with everything that is wrong |
//! | `expression` | values that refer to others |
//! | `graph` | what runs after what, for people and programs |
//! | `run` | the steps as sub-tasks, begun and joined |
//! | `together` | futures side by side, with the driver's own waker |
//!
//! All but the last two are pure, so that the command line checks a document without any server.

mod document;
mod expression;
mod graph;
mod read;
mod run;
mod together;

use serde_json::Value;

pub use document::{Document, Problem, Rescue};
pub use graph::{Graph, Node};

use crate::action::{Action, Context};
use crate::domain::{Failure, Payload};

/// Steps of one document. Each has two stored steps of the task, of at most 10,000.
pub const STEPS_MAX: usize = 1_000;

/// How deep sequences and concurrences may nest. Enough for people; a payload nests 64 levels at most.
pub const NESTING_MAX: usize = 16;

/// Bytes of a step's name: with `skip.` before it, it is the name of a signal.
pub const STEP_NAME_BYTES_MAX: usize = 64;

/// Problems that a message tells; the failure's detail has all.
const TOLD_MAX: usize = 5;

/// `workflow`: runs the steps of a document, in sequence and beside each other. Each step is a sub-task. The output is the
/// output of each step by its name. `docs/workflows.md` has all that a document can say.
#[derive(Debug, Clone, Copy)]
pub struct Workflow;

impl Action for Workflow {
    const NAME: &'static str = "workflow";
    type Input = Payload;
    type Output = Value;

    async fn run(&self, context: Context, input: Payload) -> Result<Value, Failure> {
        let document: Value = input.decode().map_err(Failure::fatal)?;
        let document = Document::read(&document).map_err(|problems| invalid(&problems))?;
        run::run(&context, &document).await
    }
}

fn invalid(problems: &[Problem]) -> Failure {
    let told: Vec<String> = problems
        .iter()
        .take(TOLD_MAX)
        .map(ToString::to_string)
        .collect();
    let more = match problems.len().saturating_sub(TOLD_MAX) {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let told = told.join("; ");
    Failure::fatal(format_args!("the workflow is not right: {told}{more}")).with_detail(problems)
}

#[cfg(test)]
mod tests;
