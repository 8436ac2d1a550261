//! Which tasks are meant: `--where 'state=paused action=images.*'`.

use std::str::FromStr;
use std::time::Duration;

use super::complaint::Complaint;
use crate::config;
use crate::domain::limits::DURATION_MAX;
use crate::store::{List, Store};
use crate::wire::nearest;

/// What can be asked for.
const KEYS: [&str; 6] = ["state", "action", "queue", "label.NAME", "parent", "older"];

/// Which tasks are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Condition {
    list: List,
    older: Option<Duration>,
    said: Vec<String>,
}

impl Condition {
    /// What to list, as of now by the store's clock.
    pub(super) async fn list(self, store: &dyn Store) -> Result<List, Complaint> {
        let created_before = match self.older {
            None => None,
            Some(age) => {
                let now = store.identity().await?.now;
                Some(now.saturating_sub(age).unwrap_or(jiff::Timestamp::MIN))
            }
        };
        Ok(List {
            created_before,
            ..self.list
        })
    }

    /// Whether states are named.
    pub(super) fn names_states(&self) -> bool {
        !self.list.states.is_empty()
    }

    /// The same for tasks in one of `states`.
    #[must_use]
    pub(super) fn in_states(mut self, states: &[crate::domain::TaskState]) -> Self {
        self.list.states = states.to_vec();
        self
    }

    fn enter(&mut self, key: &str, value: &str) -> Result<(), Complaint> {
        if self.said.iter().any(|said| said == key) {
            return Err(wrong(format!("`{key}` is named twice"))
                .with_hint("several states are joined by commas: `state=failed,paused`"));
        }
        self.said.push(key.to_owned());
        let list = &mut self.list;
        match key {
            "state" => {
                let words = value.split(',').map(|word| parsed(key, word));
                list.states = words.collect::<Result<_, _>>()?;
            }
            "queue" => list.queue = Some(parsed(key, value)?),
            "parent" => list.parent = Some(parsed(key, value)?),
            "older" => {
                let age = config::duration(value, Duration::ZERO..=DURATION_MAX);
                self.older = Some(age.map_err(|error| wrong(format!("`{key}`: {error}")))?);
            }
            "action" => match value.strip_suffix('*') {
                Some(prefix) if !prefix.contains('*') => {
                    list.action_prefix = Some(prefix.to_owned());
                }
                Some(_) => {
                    return Err(wrong(format!(
                        "`{key}`: a `*` stands at the end, not in `{value}`"
                    )));
                }
                None => list.action = Some(parsed(key, value)?),
            },
            _ => match key.strip_prefix("label.") {
                Some(name) if !name.is_empty() => {
                    list.labels.push((name.to_owned(), value.to_owned()));
                }
                _ => return Err(unknown(key)),
            },
        }
        Ok(())
    }
}

impl FromStr for Condition {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let mut condition = Self::default();
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                wrong(format!("`{word}` is no condition"))
                    .with_hint("conditions are `KEY=VALUE`, separated by blanks")
            })?;
            condition.enter(key, value)?;
        }
        if condition.said.is_empty() {
            return Err(wrong("it names no condition").with_hint(keys()));
        }
        Ok(condition)
    }
}

fn wrong(what: impl std::fmt::Display) -> Complaint {
    Complaint::usage(format!("`--where`: {what}"))
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(key: &str, text: &str) -> Result<T, Complaint> {
    text.parse()
        .map_err(|error| wrong(format!("`{key}`: {error}")))
}

fn unknown(key: &str) -> Complaint {
    let hint = if key.starts_with("label") {
        "a label is `label.NAME=VALUE`".to_owned()
    } else {
        nearest(key, KEYS).map_or_else(keys, |near| format!("did you mean `{near}`?"))
    };
    wrong(format!("there is no condition `{key}`")).with_hint(hint)
}

fn keys() -> String {
    format!("there are `{}`", KEYS.join("`, `"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ActionName, QueueName, TaskState};

    #[test]
    fn conditions_are_pairs_of_key_and_value() {
        let read = |text: &str| text.parse::<Condition>().unwrap();
        let all = read(" state=paused,failed  queue=bulk label.team=red label.a=b=c older=1h ");
        assert_eq!(all.list.states, [TaskState::Paused, TaskState::Failed]);
        assert_eq!(all.list.queue, Some(QueueName::new("bulk").unwrap()));
        let labels = [("team", "red"), ("a", "b=c")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(all.list.labels, labels);
        assert_eq!(all.older, Some(Duration::from_hours(1)));
        let action = |text: &str| {
            let list = read(text).list;
            (list.action, list.action_prefix)
        };
        let resize = Some(ActionName::new("images.resize").unwrap());
        assert_eq!(action("action=images.resize"), (resize, None));
        assert_eq!(
            action("action=images.*"),
            (None, Some("images.".to_owned()))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (text, expected) in [
            ("stat=paused", "no condition `stat`"),
            ("stat=paused", "did you mean `state`?"),
            ("label=red", "a label is `label.NAME=VALUE`"),
            ("x=1", "there are `state`, `action`, `queue`"),
            ("paused", "conditions are `KEY=VALUE`"),
            ("", "it names no condition"),
            ("state=done", "`state`: not a state (scheduled"),
            ("older=soon", "`older`: it is a duration such as"),
            ("action=*.resize*", "a `*` stands at the end"),
            ("queue=a queue=b", "`queue` is named twice"),
        ] {
            let complaint = text.parse::<Condition>().unwrap_err();
            let lines = complaint.lines().join("\n");
            assert!(lines.contains(expected), "{lines}");
        }
    }
}
