//! The file of settings: TOML, as a list of keys with their text and line.

use toml::de::{DeTable, DeValue};

use super::settings::{SETTINGS, setting};
use super::{ConfigError, Source};

/// One value of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: &'static str,
    pub(super) text: String,
    pub(super) source: Source,
}

/// The settings in `text`, which was read from `path`.
pub(super) fn parse(path: &str, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line(text, error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
    let mut file = Reader {
        path,
        text,
        entries: Vec::new(),
    };
    file.table("", table.get_ref())?;
    Ok(file.entries)
}

struct Reader<'a> {
    path: &'a str,
    text: &'a str,
    entries: Vec<Entry>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let source = Source::File {
                path: self.path.to_owned(),
                line: line(self.text, name.span().start),
            };
            let value = value.get_ref();
            if let Some(setting) = setting(&key) {
                let text = plain(value).ok_or_else(|| ConfigError::Value {
                    key: setting.key,
                    origin: source.clone(),
                    reason: format!("it cannot hold such a value; it is {}", setting.doc),
                })?;
                self.entries.push(Entry {
                    key: setting.key,
                    text,
                    source,
                });
                continue;
            }
            let section = format!("{key}.");
            let is_section = SETTINGS
                .iter()
                .any(|setting| setting.key.starts_with(&section));
            // An unknown section is named by its first key, which is nearer to what was meant.
            if let DeValue::Table(table) = value
                && (is_section || !table.is_empty())
            {
                self.table(&section, table)?;
            } else {
                return Err(unknown(key, source));
            }
        }
        Ok(())
    }
}

/// The text that the same value would be as a flag: lists are joined by commas, tables are `name=value`.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().replace('_', "")),
        DeValue::Float(number) => Some(number.as_str().replace('_', "")),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Array(values) => {
            let values: Option<Vec<_>> =
                values.iter().map(|value| scalar(value.get_ref())).collect();
            Some(values?.join(","))
        }
        DeValue::Table(table) => {
            let pairs: Option<Vec<_>> = table
                .iter()
                .map(|(name, value)| {
                    Some(format!("{}={}", name.get_ref(), scalar(value.get_ref())?))
                })
                .collect();
            Some(pairs?.join(","))
        }
        DeValue::Datetime(_) => None,
    }
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Array(_) | DeValue::Table(_) => None,
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => plain(value),
    }
}

/// The line of the byte `at`, counted from 1.
fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The error for the setting `name`, which does not exist.
pub(super) fn unknown(name: String, origin: Source) -> ConfigError {
    let nearest = crate::wire::nearest(&name, SETTINGS.iter().map(|setting| setting.key));
    let nearest = nearest.and_then(setting).map(|setting| setting.key);
    ConfigError::Unknown {
        name,
        origin,
        nearest,
    }
}
