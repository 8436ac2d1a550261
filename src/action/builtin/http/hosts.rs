//! Which hosts may be called.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use reqwest::Url;

/// Hosts that the action `http` may call: names with an optional port, and with a leading `*.` for all below them; `*` for
/// any. None by default. What a name resolves to is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hosts(Arc<[Rule]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    name: Name,
    /// Any when absent.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Any,
    Exactly(String),
    /// All below it, and not itself.
    Below(String),
}

impl Hosts {
    /// No host at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The hosts that `words` name.
    ///
    /// # Errors
    ///
    /// One is no host: the sentence says which, and what would be right.
    pub fn new<W: AsRef<str>>(words: impl IntoIterator<Item = W>) -> Result<Self, String> {
        let rules = words.into_iter().map(|word| word.as_ref().parse());
        Ok(Self(rules.collect::<Result<_, _>>()?))
    }

    /// Whether no host may be called.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the host of `url` may be called.
    pub fn allows(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else {
            return false;
        };
        let host = host.trim_end_matches('.');
        let port = url.port_or_known_default();
        self.0.iter().any(|rule| {
            let is_named = match &rule.name {
                Name::Any => true,
                Name::Exactly(name) => host == name,
                Name::Below(name) => host
                    .strip_suffix(name.as_str())
                    .is_some_and(|before| before.len() > 1 && before.ends_with('.')),
            };
            is_named && (rule.port.is_none() || rule.port == port)
        })
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "it names hosts such as `api.example`, `api.example:8443` or `*.example`, not `{word}`"
            )
        };
        let (name, port) = match word.rsplit_once(':') {
            // A colon in brackets is part of an address.
            Some((name, port)) if !port.contains(']') => {
                (name, Some(port.parse().map_err(|_| wrong())?))
            }
            _ => (word, None),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (bare, is_below) = match name.strip_prefix("*.") {
            Some(bare) => (bare, true),
            None => (name.as_str(), false),
        };
        if bare == "*" && !is_below {
            return Ok(Self {
                name: Name::Any,
                port,
            });
        }
        // As an address would have it: in lower case, and without anything that is no host.
        let url = Url::parse(&format!("http://{bare}/")).map_err(|_| wrong())?;
        let is_host = url.path() == "/"
            && url.username().is_empty()
            && url.password().is_none()
            && url.port().is_none();
        let host = url.host_str().filter(|host| is_host && !host.contains('*'));
        let host = host.ok_or_else(wrong)?.to_owned();
        Ok(Self {
            name: if is_below {
                Name::Below(host)
            } else {
                Name::Exactly(host)
            },
            port,
        })
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match &rule.name {
                Name::Any => write!(f, "{comma}*")?,
                Name::Exactly(name) => write!(f, "{comma}{name}")?,
                Name::Below(name) => write!(f, "{comma}*.{name}")?,
            }
            if let Some(port) = rule.port {
                write!(f, ":{port}")?;
            }
        }
        Ok(())
    }
}
