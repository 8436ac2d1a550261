//! Values that refer to others: `{"$ref": "steps.build.output.image"}` and its like, anywhere in an input.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::document::Problem;
use crate::wire::nearest;

/// A value that may refer to others.
#[derive(Debug, Clone)]
pub(super) enum Expression {
    Literal(Value),
    Reference(Reference),
    Text(Vec<Piece>),
    Equal(Box<[Expression; 2]>),
    Not(Box<Expression>),
    List(Vec<Expression>),
    Object(BTreeMap<String, Expression>),
}

/// A piece of a text.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Plain(String),
    Reference(Reference),
}

/// What is referred to.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    root: Root,
    /// The way from there to a part of it.
    path: Vec<String>,
    /// As it was written.
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    Input,
    Output(String),
    StepError(String),
    Item,
    Error,
}

/// What an expression may refer to where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) input: &'a BTreeMap<String, Value>,
    /// The steps that end before it.
    pub(super) before: &'a [String],
    /// All steps there are.
    pub(super) all: &'a BTreeSet<String>,
    pub(super) has_item: bool,
    pub(super) has_error: bool,
}

/// What references stand for.
#[derive(Debug)]
pub(super) struct Values<'a> {
    pub(super) input: &'a BTreeMap<String, Value>,
    /// The steps that are referred to: output and error.
    pub(super) steps: BTreeMap<String, (Value, Value)>,
    pub(super) item: Option<&'a Value>,
    pub(super) error: &'a Value,
}

const KEYS: [&str; 5] = ["$ref", "$text", "$eq", "$not", "$literal"];

const ROOTS: [&str; 4] = ["steps", "input", "item", "error"];

impl Expression {
    /// Reads `value`, which stands at `path`; what is wrong goes into `problems`.
    pub(super) fn read(
        value: &Value,
        path: &str,
        scope: Scope<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let read = |value: &Value, part: &str, problems: &mut Vec<Problem>| {
            Self::read(value, &format!("{path}{part}"), scope, problems)
        };
        match value {
            Value::Object(map) => match map.iter().find(|(key, _)| key.starts_with('$')) {
                Some((key, inner)) => Self::special(map, (key, inner), path, scope, problems),
                None => Self::Object(
                    map.iter()
                        .map(|(key, value)| {
                            (key.clone(), read(value, &format!(".{key}"), problems))
                        })
                        .collect(),
                ),
            },
            Value::Array(list) => Self::List(
                list.iter()
                    .enumerate()
                    .map(|(index, value)| read(value, &format!("[{index}]"), problems))
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                Self::Literal(value.clone())
            }
        }
    }

    /// Reads an object whose key `key` says how it is meant.
    fn special(
        map: &Map<String, Value>,
        (key, value): (&String, &Value),
        path: &str,
        scope: Scope<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let path = format!("{path}.{key}");
        let mut wrong = |problem: String| {
            problems.push(Problem {
                path: path.clone(),
                problem,
            });
            Self::Literal(Value::Null)
        };
        if map.len() > 1 {
            return wrong(format!("an object with \"{key}\" has no other key"));
        }
        match (key.as_str(), value) {
            ("$literal", value) => Self::Literal(value.clone()),
            ("$ref", Value::String(text)) => match Reference::read(text, scope) {
                Ok(reference) => Self::Reference(reference),
                Err(problem) => wrong(problem),
            },
            ("$ref", _) => {
                wrong("a reference is a text such as \"steps.build.output.image\"".to_owned())
            }
            ("$text", Value::String(text)) => match pieces(text, scope) {
                Ok(pieces) => Self::Text(pieces),
                Err(problem) => wrong(problem),
            },
            ("$text", _) => {
                wrong("it is a text with references in braces: \"for {input.name}\"".to_owned())
            }
            ("$not", value) => Self::Not(Box::new(Self::read(value, &path, scope, problems))),
            ("$eq", Value::Array(pair)) if pair.len() == 2 => {
                let mut sides = pair.iter().enumerate().map(|(index, side)| {
                    Self::read(side, &format!("{path}[{index}]"), scope, problems)
                });
                match (sides.next(), sides.next()) {
                    (Some(left), Some(right)) => Self::Equal(Box::new([left, right])),
                    _ => Self::Literal(Value::Null),
                }
            }
            ("$eq", _) => wrong("it is a list of the two values to compare".to_owned()),
            (other, _) => {
                let near = meant(other, KEYS);
                wrong(format!(
                    "there is no such key; data that has it is wrapped in \"$literal\"{near}"
                ))
            }
        }
    }

    /// All that it refers to.
    pub(super) fn references(&self) -> Vec<&Reference> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Reference>) {
        match self {
            Self::Literal(_) => {}
            Self::Reference(reference) => found.push(reference),
            Self::Text(pieces) => found.extend(pieces.iter().filter_map(|piece| match piece {
                Piece::Plain(_) => None,
                Piece::Reference(reference) => Some(reference),
            })),
            Self::Equal(sides) => sides.iter().for_each(|side| side.collect(found)),
            Self::Not(inner) => inner.collect(found),
            Self::List(list) => list.iter().for_each(|one| one.collect(found)),
            Self::Object(map) => map.values().for_each(|one| one.collect(found)),
        }
    }

    /// The value that it stands for; an error says which reference leads nowhere.
    pub(super) fn value(&self, values: &Values<'_>) -> Result<Value, String> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Reference(reference) => reference.value(values)?,
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Plain(plain) => text.push_str(plain),
                        Piece::Reference(reference) => match reference.value(values)? {
                            Value::String(value) => text.push_str(&value),
                            Value::Null => {}
                            value @ (Value::Bool(_)
                            | Value::Number(_)
                            | Value::Array(_)
                            | Value::Object(_)) => text.push_str(&value.to_string()),
                        },
                    }
                }
                Value::String(text)
            }
            Self::Equal(sides) => {
                let [left, right] = sides.as_ref();
                Value::Bool(left.value(values)? == right.value(values)?)
            }
            Self::Not(inner) => Value::Bool(!is_true(&inner.value(values)?)),
            Self::List(list) => {
                let list: Result<_, _> = list.iter().map(|one| one.value(values)).collect();
                Value::Array(list?)
            }
            Self::Object(map) => {
                let map: Result<_, String> = map
                    .iter()
                    .map(|(key, one)| Ok((key.clone(), one.value(values)?)))
                    .collect();
                Value::Object(map?)
            }
        })
    }
}

/// Whether a condition holds: null, `false`, 0 and what is empty do not.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is_true) => *is_true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

impl Reference {
    fn read(text: &str, scope: Scope<'_>) -> Result<Self, String> {
        let mut words = text.split('.');
        let root = match words.next().unwrap_or_default() {
            "steps" => step_root(text, &mut words, scope)?,
            "input" => Root::Input,
            "item" if scope.has_item => Root::Item,
            "item" => {
                return Err(
                    "\"item\" is known only in the input of a step with \"for_each\"".into(),
                );
            }
            "error" if scope.has_error => Root::Error,
            "error" => return Err("\"error\" is known only in \"finally\"".into()),
            other => {
                let near = meant(other, ROOTS);
                return Err(format!(
                    "a reference begins with \"steps\", \"input\", \"item\" or \"error\", not with \"{other}\"{near}"
                ));
            }
        };
        let path: Vec<String> = words.map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err(format!("\"{text}\" has an empty word between dots"));
        }
        if let (Root::Input, Some(first)) = (&root, path.first())
            && !scope.input.contains_key(first)
        {
            let near = meant(first, scope.input.keys().map(String::as_str));
            return Err(format!("the workflow's \"input\" has no \"{first}\"{near}"));
        }
        Ok(Self {
            root,
            path,
            text: text.to_owned(),
        })
    }

    /// The step that it refers to.
    pub(super) fn step(&self) -> Option<&str> {
        match &self.root {
            Root::Output(step) | Root::StepError(step) => Some(step),
            Root::Input | Root::Item | Root::Error => None,
        }
    }

    fn value(&self, values: &Values<'_>) -> Result<Value, String> {
        let step = |name: &str| values.steps.get(name);
        if self.root == Root::Input && self.path.is_empty() {
            let input = values.input.iter();
            return Ok(Value::Object(
                input
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect(),
            ));
        }
        let mut path = self.path.iter();
        let found = match &self.root {
            Root::Input => path.next().and_then(|first| values.input.get(first)),
            Root::Output(name) => step(name).map(|(output, _)| output),
            Root::StepError(name) => step(name).map(|(_, error)| error),
            Root::Item => values.item,
            Root::Error => Some(values.error),
        };
        let mut value = found.unwrap_or(&Value::Null);
        for word in path {
            let Some(part) = part(value, word) else {
                return Err(self.leads_nowhere(value, word));
            };
            value = part;
        }
        Ok(value.clone())
    }

    fn leads_nowhere(&self, value: &Value, word: &str) -> String {
        let text = &self.text;
        match value {
            Value::Object(map) => {
                let near = meant(word, map.keys().map(String::as_str));
                format!("\"{text}\": there is no \"{word}\"{near}")
            }
            Value::Array(list) => {
                let count = list.len();
                format!("\"{text}\": \"{word}\" is no place in a list of {count}")
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                format!(
                    "\"{text}\": there is no \"{word}\" in what is neither an object nor a list"
                )
            }
        }
    }
}

/// A part of `value`. Nothing has nothing in it: what refers to a step that did not run is null.
fn part<'a>(value: &'a Value, word: &str) -> Option<&'a Value> {
    match value {
        Value::Null => Some(value),
        Value::Object(map) => map.get(word),
        Value::Array(list) => list.get(word.parse::<usize>().ok()?),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn step_root<'t>(
    text: &str,
    words: &mut impl Iterator<Item = &'t str>,
    scope: Scope<'_>,
) -> Result<Root, String> {
    let (Some(name), Some(what)) = (words.next(), words.next()) else {
        return Err(format!(
            "\"{text}\" is not all of it: \"steps.NAME.output\" and \"steps.NAME.error\" can be referred to"
        ));
    };
    if !scope.before.iter().any(|before| before == name) {
        if scope.all.contains(name) {
            return Err(format!(
                "the step \"{name}\" does not end before this one begins"
            ));
        }
        let near = meant(name, scope.before.iter().map(String::as_str));
        return Err(format!("no step before it is named \"{name}\"{near}"));
    }
    match what {
        "output" => Ok(Root::Output(name.to_owned())),
        "error" => Ok(Root::StepError(name.to_owned())),
        other => Err(format!(
            "a step has \"output\" and \"error\", not \"{other}\"{}",
            meant(other, ["output", "error"])
        )),
    }
}

/// The pieces of `text`: what stands in braces is a reference, doubled braces are braces.
fn pieces(text: &str, scope: Scope<'_>) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
            plain.push_str(&from[..1]);
            rest = after;
            continue;
        }
        let inner = from.strip_prefix('{').and_then(|from| from.split_once('}'));
        let Some((reference, after)) = inner else {
            return Err(
                "a brace stands alone; a brace that is meant as such is doubled".to_owned(),
            );
        };
        pieces.push(Piece::Plain(std::mem::take(&mut plain)));
        pieces.push(Piece::Reference(Reference::read(reference.trim(), scope)?));
        rest = after;
    }
    plain.push_str(rest);
    pieces.push(Piece::Plain(plain));
    Ok(pieces)
}

/// `; did you mean …`, or nothing. With few words to choose from, the only one is meant.
pub(super) fn meant<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let near = nearest(found, known.iter().copied());
    let near = near.or(match known.as_slice() {
        [only] => Some(*only),
        _ => None,
    });
    near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}
