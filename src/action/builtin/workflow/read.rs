//! Reads a document, and says everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::document::{Block, Document, Problem, Rescue, Step};
use super::expression::{Expression, Scope, meant};
use super::{NESTING_MAX, STEP_NAME_BYTES_MAX, STEPS_MAX};
use crate::domain::limits::SUBTASKS_MAX;
use crate::domain::{ActionName, OnFailure, Payload, PayloadLimits, Submission};
use crate::wire::{SubmissionJson, WireError, parse};

const DOCUMENT_KEYS: [&str; 6] = [
    "description",
    "input",
    "sequence",
    "concurrence",
    "finally",
    "output",
];

/// What a step says of its task, as a submission does.
const OPTION_KEYS: [&str; 6] = [
    "queue", "priority", "labels", "timeout", "retry", "delivery",
];

const OWN_KEYS: [&str; 8] = [
    "name",
    "action",
    "description",
    "input",
    "if",
    "for_each",
    "in_flight",
    "rescue",
];

const BLOCK_KEYS: [&str; 2] = ["sequence", "concurrence"];

/// As [`Document::read`].
pub(super) fn document(document: &Value) -> Result<Document, Vec<Problem>> {
    let Value::Object(map) = document else {
        return Err(vec![Problem {
            path: String::new(),
            problem: "a workflow is an object with a \"sequence\" or a \"concurrence\"".to_owned(),
        }]);
    };
    let mut names = BTreeSet::new();
    let blocks = ["sequence", "concurrence", "finally"];
    for block in blocks.iter().filter_map(|key| map.get(*key)) {
        all_names(block, &mut names);
    }
    let mut reader = Reader {
        problems: Vec::new(),
        input: input(map),
        all: names,
        taken: BTreeMap::new(),
    };
    let read = reader.document(map);
    if reader.taken.len() > STEPS_MAX {
        let count = reader.taken.len();
        reader.wrong(
            "",
            format!(
                "it has {count} steps, more than {STEPS_MAX}; let a step run a workflow of its own"
            ),
        );
    }
    match read {
        Some(document) if reader.problems.is_empty() => Ok(document),
        _ => Err(reader.problems),
    }
}

fn input(map: &Map<String, Value>) -> BTreeMap<String, Value> {
    let input = map.get("input").and_then(Value::as_object);
    input
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// The names of all steps in `block`, right or wrong.
fn all_names(block: &Value, names: &mut BTreeSet<String>) {
    match block {
        Value::Array(list) => list.iter().for_each(|one| all_names(one, names)),
        Value::Object(map) => {
            let name = map.get("name").and_then(Value::as_str);
            names.extend(name.map(str::to_owned));
            for inner in BLOCK_KEYS.iter().filter_map(|key| map.get(*key)) {
                all_names(inner, names);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

struct Reader {
    problems: Vec<Problem>,
    input: BTreeMap<String, Value>,
    all: BTreeSet<String>,
    /// Where each name was given.
    taken: BTreeMap<String, String>,
}

/// Where a block stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    depth: usize,
    is_finally: bool,
}

impl Reader {
    fn wrong(&mut self, path: &str, problem: impl Into<String>) {
        self.problems.push(Problem {
            path: path.to_owned(),
            problem: problem.into(),
        });
    }

    /// Whether `map` has no other keys than `known`; `suggested` are those that may have been meant.
    fn has_only(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        known: &[&str],
        suggested: &[&str],
    ) -> bool {
        let mut is_right = true;
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            is_right = false;
            let near = meant(key, known.iter().chain(suggested).copied());
            self.wrong(&join(path, key), format!("there is no such key{near}"));
        }
        is_right
    }

    fn text(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> Option<String> {
        let text = map.get(key)?.as_str();
        if text.is_none() {
            self.wrong(&join(path, key), "it is a text");
        }
        text.map(str::to_owned)
    }

    fn document(&mut self, map: &Map<String, Value>) -> Option<Document> {
        let has_only = self.has_only(map, "", &DOCUMENT_KEYS, &[]);
        self.text(map, "", "description");
        if map.get("input").is_some_and(|input| !input.is_object()) {
            self.wrong(
                "input",
                "it is an object: the names of what is given to the workflow, with their values",
            );
        }
        let mut before = Vec::new();
        let has_steps = BLOCK_KEYS.iter().any(|key| map.contains_key(*key));
        let place = Place {
            path: "",
            depth: 0,
            is_finally: false,
        };
        let run = if has_steps {
            self.inner_block(map, place, &mut before)
        } else {
            if has_only {
                self.wrong(
                    "",
                    "a workflow has a \"sequence\" or a \"concurrence\" of steps",
                );
            }
            None
        };
        let finally = match map.get("finally") {
            None => Some(Vec::new()),
            Some(list) => {
                let place = Place {
                    path: "finally",
                    is_finally: true,
                    ..place
                };
                self.blocks(list, place, &mut before, true)
            }
        };
        let output = map
            .get("output")
            .map(|output| self.expression(output, "output", &before, (false, false)));
        Some(Document {
            input: self.input.clone(),
            run: run?,
            finally: finally?,
            output,
        })
    }

    fn expression(
        &mut self,
        value: &Value,
        path: &str,
        before: &[String],
        (has_item, has_error): (bool, bool),
    ) -> Expression {
        let scope = Scope {
            input: &self.input,
            before,
            all: &self.all,
            has_item,
            has_error,
        };
        Expression::read(value, path, scope, &mut self.problems)
    }

    /// A block or a step. `before` are the steps that end before it, and afterwards also its own.
    fn block(
        &mut self,
        value: &Value,
        place: Place<'_>,
        before: &mut Vec<String>,
    ) -> Option<Block> {
        let Value::Object(map) = value else {
            self.wrong(place.path, "it is an object: a step with \"name\" and \"action\", or a \"sequence\" or \"concurrence\"");
            return None;
        };
        if BLOCK_KEYS.iter().any(|key| map.contains_key(*key)) {
            self.has_only(map, place.path, &BLOCK_KEYS, &[]);
            return self.inner_block(map, place, before);
        }
        let step = self.step(map, place, before);
        // Also when it is wrong: who refers to it is right.
        let name = map.get("name").and_then(Value::as_str);
        before.extend(name.map(str::to_owned));
        step.map(|step| Block::Step(Box::new(step)))
    }

    /// The `sequence` or the `concurrence` of `map`.
    fn inner_block(
        &mut self,
        map: &Map<String, Value>,
        place: Place<'_>,
        before: &mut Vec<String>,
    ) -> Option<Block> {
        if place.depth >= NESTING_MAX {
            self.wrong(place.path, format!("blocks nest deeper than {NESTING_MAX} levels; let a step run a workflow of its own"));
            return None;
        }
        let (key, list, is_sequence) = match (map.get("sequence"), map.get("concurrence")) {
            (Some(_), Some(_)) => {
                self.wrong(
                    place.path,
                    "it is a \"sequence\" or a \"concurrence\", not both; put one into the other",
                );
                return None;
            }
            (Some(list), None) => ("sequence", list, true),
            (None, Some(list)) => ("concurrence", list, false),
            (None, None) => return None,
        };
        let path = join(place.path, key);
        let place = Place {
            path: &path,
            depth: place.depth + 1,
            ..place
        };
        let blocks = self.blocks(list, place, before, is_sequence)?;
        Some(if is_sequence {
            Block::Sequence(blocks)
        } else {
            Block::Concurrence(blocks)
        })
    }

    /// Blocks that run one after the other, or beside each other.
    fn blocks(
        &mut self,
        list: &Value,
        place: Place<'_>,
        before: &mut Vec<String>,
        is_sequence: bool,
    ) -> Option<Vec<Block>> {
        let Value::Array(list) = list else {
            self.wrong(place.path, "it is a list of steps");
            return None;
        };
        if list.is_empty() {
            self.wrong(place.path, "it has no step");
            return None;
        }
        let (outside, mut blocks) = (before.len(), Vec::new());
        let mut beside = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let path = format!("{}[{index}]", place.path);
            blocks.push(self.block(
                value,
                Place {
                    path: &path,
                    ..place
                },
                before,
            ));
            if !is_sequence {
                beside.extend(before.drain(outside..));
            }
        }
        before.append(&mut beside);
        blocks.into_iter().collect()
    }

    fn step(
        &mut self,
        map: &Map<String, Value>,
        place: Place<'_>,
        before: &[String],
    ) -> Option<Step> {
        let path = place.path;
        let known: Vec<&str> = OWN_KEYS.iter().chain(&OPTION_KEYS).copied().collect();
        let has_only = self.has_only(map, path, &known, &BLOCK_KEYS);
        for key in ["name", "action"]
            .iter()
            .filter(|key| !map.contains_key(**key))
        {
            if has_only {
                self.wrong(path, format!("\"{key}\" is missing"));
            }
        }
        self.text(map, path, "description");
        let name = self.name(map, path);
        let template = self.template(map, path);
        let is_each = map.contains_key("for_each");
        let mut expression = |key: &str, has_item: bool| {
            let value = map.get(key)?;
            let known = (has_item, place.is_finally);
            Some(self.expression(value, &join(path, key), before, known))
        };
        let condition = expression("if", false);
        let for_each = expression("for_each", false);
        let input = expression("input", is_each);
        let in_flight_max = self.in_flight(map, path);
        let rescue = self.rescue(map, path)?;
        let mut template = template?;
        if rescue == Rescue::Pause {
            template.options.on_failure = OnFailure::Pause;
        }
        Some(Step {
            name: name?,
            path: path.to_owned(),
            template,
            input: input.unwrap_or(Expression::Literal(Value::Null)),
            condition,
            for_each,
            in_flight_max,
            rescue,
        })
    }

    fn name(&mut self, map: &Map<String, Value>, path: &str) -> Option<String> {
        let name = self.text(map, path, "name")?;
        let place = join(path, "name");
        let is_right = (1..=STEP_NAME_BYTES_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if !is_right {
            self.wrong(&place, format!("a step's name has letters, digits, \"_\" and \"-\", at most {STEP_NAME_BYTES_MAX}"));
            return None;
        }
        if let Some(first) = self.taken.get(&name) {
            let problem = format!("the step at {first} has this name already");
            self.wrong(&place, problem);
            return None;
        }
        self.taken.insert(name.clone(), path.to_owned());
        Some(name)
    }

    /// The task of a step, without its input.
    fn template(&mut self, map: &Map<String, Value>, path: &str) -> Option<Submission> {
        let action = self.text(map, path, "action")?;
        let action = match ActionName::new(&action) {
            Ok(action) => action,
            Err(error) => {
                self.wrong(&join(path, "action"), error.to_string());
                return None;
            }
        };
        let mut said = json!({"action": action.as_str()});
        let mut is_right = true;
        for key in OPTION_KEYS {
            let Some(value) = map.get(key) else { continue };
            // One by one, so that each mistake has its path.
            let alone = json!({"action": action.as_str(), key: value});
            if let Err((part, problem)) = submission(&alone, key) {
                self.wrong(&join(path, &part), problem);
                is_right = false;
            } else if let Some(said) = said.as_object_mut() {
                said.insert(key.to_owned(), value.clone());
            }
        }
        if !is_right {
            return None;
        }
        match submission(&said, "action") {
            Ok(submission) => Some(Submission {
                input: Payload::null(),
                ..submission
            }),
            Err((part, problem)) => {
                self.wrong(&join(path, &part), problem);
                None
            }
        }
    }

    fn in_flight(&mut self, map: &Map<String, Value>, path: &str) -> Option<u32> {
        let value = map.get("in_flight")?;
        let path = join(path, "in_flight");
        if !map.contains_key("for_each") {
            self.wrong(
                &path,
                "it is only for a step with \"for_each\": how many of its tasks run at once",
            );
        }
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (1..=SUBTASKS_MAX).contains(number));
        if number.is_none() {
            self.wrong(&path, format!("it is a number from 1 to {SUBTASKS_MAX}"));
        }
        number
    }

    fn rescue(&mut self, map: &Map<String, Value>, path: &str) -> Option<Rescue> {
        match map.get("rescue").map(|value| value.as_str().unwrap_or("")) {
            None | Some("fail") => Some(Rescue::Fail),
            Some("skip") => Some(Rescue::Skip),
            Some("pause") => Some(Rescue::Pause),
            Some(other) => {
                let near = meant(other, ["fail", "skip", "pause"]);
                self.wrong(
                    &join(path, "rescue"),
                    format!("it is \"fail\", \"skip\" or \"pause\"{near}"),
                );
                None
            }
        }
    }
}

/// The submission that `said` says; an error has the path from the step, and what is wrong with its `key`.
fn submission(said: &Value, key: &str) -> Result<Submission, (String, String)> {
    let wrong = |error: WireError| match error {
        WireError::Shape { reason, path } => {
            // Where it stands in the text that was made here says nothing.
            let reason = reason.split(" at line ").next().unwrap_or_default();
            (path, reason.to_owned())
        }
        WireError::Refused(reason) | WireError::UnknownType(reason) => {
            let own = format!("`{key}`: ");
            let reason = reason.strip_prefix(&own).unwrap_or(&reason);
            (key.to_owned(), reason.to_owned())
        }
    };
    let json: SubmissionJson = parse(said.to_string().as_bytes()).map_err(wrong)?;
    json.into_domain(PayloadLimits::default()).map_err(wrong)
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
