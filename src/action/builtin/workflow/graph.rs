//! What runs after what, for people and for programs.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::document::{Block, Document, Rescue, Step};

/// What runs after what.
///
/// In JSON: `{"steps": [{"name": "b", "action": "echo", "path": "sequence[1]", "phase": "run", "after": ["a"], …}]}`. As text
/// it is a tree.
#[derive(Debug, Clone, Serialize)]
pub struct Graph {
    /// The steps, in the order of the document, those of `finally` last.
    pub steps: Vec<Node>,
    #[serde(skip)]
    text: String,
}

/// A step in the graph.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub action: String,
    /// Where it stands in the document.
    pub path: String,
    /// `run`, or `finally`.
    pub phase: &'static str,
    /// The steps whose ends it waits for: those that come just before it.
    pub after: Vec<String>,
    /// The steps that it refers to, sorted.
    pub uses: Vec<String>,
    /// Whether a condition decides whether it runs.
    pub is_conditional: bool,
    /// Whether it has a task for each of a list.
    pub is_for_each: bool,
    /// What becomes of the workflow when it has failed.
    pub rescue: Rescue,
}

impl Graph {
    /// The graph of `document`.
    pub fn of(document: &Document) -> Self {
        let mut steps = Vec::new();
        let mut after = nodes(&document.run, "run", Vec::new(), &mut steps);
        let mut text = String::new();
        match &document.run {
            Block::Sequence(blocks) => {
                text.push_str("sequence\n");
                draw(&mut text, "", blocks);
            }
            Block::Concurrence(blocks) => {
                text.push_str("concurrence\n");
                draw(&mut text, "", blocks);
            }
            step @ Block::Step(_) => draw(&mut text, "", std::slice::from_ref(step)),
        }
        for block in &document.finally {
            after = nodes(block, "finally", after, &mut steps);
        }
        if !document.finally.is_empty() {
            text.push_str("finally\n");
            draw(&mut text, "", &document.finally);
        }
        Self { steps, text }
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

/// Adds the steps of `block`, which begins after the ends of `after`; answers with those whose ends are its own.
fn nodes(
    block: &Block,
    phase: &'static str,
    after: Vec<String>,
    steps: &mut Vec<Node>,
) -> Vec<String> {
    match block {
        Block::Step(step) => {
            steps.push(Node {
                name: step.name.clone(),
                action: step.template.action.to_string(),
                path: step.path.clone(),
                phase,
                after,
                uses: uses(step).into_iter().map(str::to_owned).collect(),
                is_conditional: step.condition.is_some(),
                is_for_each: step.for_each.is_some(),
                rescue: step.rescue,
            });
            vec![step.name.clone()]
        }
        Block::Sequence(blocks) => blocks
            .iter()
            .fold(after, |after, block| nodes(block, phase, after, steps)),
        Block::Concurrence(blocks) => blocks
            .iter()
            .flat_map(|block| nodes(block, phase, after.clone(), steps))
            .collect(),
    }
}

fn uses(step: &Step) -> BTreeSet<&str> {
    let references = step.expressions().flat_map(|one| one.references());
    references
        .filter_map(|reference| reference.step())
        .collect()
}

fn draw(text: &mut String, indent: &str, blocks: &[Block]) {
    for (index, block) in blocks.iter().enumerate() {
        let (branch, below) = if index + 1 == blocks.len() {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        let (head, inner): (String, &[Block]) = match block {
            Block::Sequence(list) => ("sequence".to_owned(), list),
            Block::Concurrence(list) => ("concurrence".to_owned(), list),
            Block::Step(step) => (words(step), &[]),
        };
        for piece in [indent, branch, &head, "\n"] {
            text.push_str(piece);
        }
        draw(text, &format!("{indent}{below}"), inner);
    }
}

/// `build: command [if, for each, uses plan, rescue skip]`.
fn words(step: &Step) -> String {
    let mut notes: Vec<String> = Vec::new();
    if step.condition.is_some() {
        notes.push("if".to_owned());
    }
    if step.for_each.is_some() {
        notes.push("for each".to_owned());
    }
    let uses: Vec<&str> = uses(step).into_iter().collect();
    if !uses.is_empty() {
        notes.push(format!("uses {}", uses.join(" and ")));
    }
    match step.rescue {
        Rescue::Fail => {}
        Rescue::Skip => notes.push("rescue skip".to_owned()),
        Rescue::Pause => notes.push("rescue pause".to_owned()),
    }
    let head = format!("{}: {}", step.name, step.template.action);
    if notes.is_empty() {
        head
    } else {
        format!("{head} [{}]", notes.join(", "))
    }
}
