//! The settings, and where each came from: flags over environment over `longshore.toml` over defaults.
//!
//! A variable that is empty counts as absent, so that `${NAME:-}` in a compose file does no harm.

pub mod env;
mod error;
mod file;
pub mod settings;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use error::ConfigError;
use settings::{CONFIG_ENV, CONFIG_FILE, SETTINGS, Setting, setting};
pub use value::{LogFilter, LogFormat, SecretUrl, duration};

use crate::action::builtin::{Allowed, Hosts};
use crate::broker::BrokerAddress;
use crate::domain::limits::PAYLOAD_BYTES_CEILING;
use crate::domain::{ExecutorName, PayloadLimits, Slots, masked_url};
use crate::store::StoreAddress;

/// The most that a stopping executor may be asked to wait: one day.
const DRAIN_MAX: Duration = Duration::from_hours(24);

/// The shortest retention: one minute. Whoever waits for a task must still find it.
const RETENTION_MIN: Duration = Duration::from_mins(1);

/// The longest retention: ten years.
const RETENTION_MAX: Duration = Duration::from_hours(24 * 3650);

/// The least that the limit for payloads may be: 1 KiB.
const PAYLOAD_BYTES_MIN: usize = 1024;

/// Every setting as a value of its type.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where tasks live.
    pub store: StoreConfig,
    /// What carries announcements.
    pub broker: BrokerConfig,
    /// The web server.
    pub web: WebConfig,
    /// The executor.
    pub executor: ExecutorConfig,
    /// Calls to others.
    pub http: HttpConfig,
    /// What is accepted.
    pub limits: LimitsConfig,
    /// What is kept.
    pub retention: RetentionConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// Where tasks live.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `store.url`; [`StoreConfig::address`] for commands that need it.
    pub url: Option<StoreAddress>,
}

/// What carries announcements.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `broker.url`; [`BrokerConfig::address`] for commands that need it.
    pub url: Option<BrokerAddress>,
    /// `broker.management_url`.
    pub management_url: Option<SecretUrl>,
}

/// The web server.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// `web.listen`.
    pub listen: SocketAddr,
    /// `web.strict_actions`.
    pub strict_actions: bool,
}

/// The executor.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    /// `executor.name`.
    pub name: ExecutorName,
    /// `executor.queues`.
    pub slots: Slots,
    /// `executor.allow_commands`, with the environment that programs get: this process's, without our own variables.
    pub allowed_commands: Allowed,
    /// `executor.http_hosts`.
    pub http_hosts: Hosts,
    /// `executor.drain_timeout`.
    pub drain_timeout: Duration,
    /// `executor.create_queues`.
    pub create_queues: bool,
}

/// Calls to others.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `http.callback_url`.
    pub callback_url: Option<SecretUrl>,
}

/// What is accepted.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// `limits.payload_bytes`.
    pub payload: PayloadLimits,
}

/// What is kept.
#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// `retention.final_tasks`.
    pub final_tasks: Duration,
}

/// What is logged.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `log.filter`.
    pub filter: LogFilter,
    /// `log.format`.
    pub format: LogFormat,
    /// Whether the variable `NO_COLOR` asks for none (see no-color.org).
    pub no_color: bool,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag(&'static str),
    /// A variable of the environment.
    Environment(String),
    /// A line of a file.
    File {
        /// Its path.
        path: String,
        /// Counted from 1.
        line: usize,
    },
    /// Nobody said anything.
    Default,
}

/// One setting, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Its name.
    pub key: &'static str,
    /// Its value as it was written, passwords masked; `None` when it has none.
    pub value: Option<String>,
    /// Where that came from.
    pub source: Source,
}

/// The settings, and where each came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    explained: Vec<Explained>,
}

impl Config {
    /// Reads all settings: `flags` by key, the environment, and the file `file`, or the one that the variable
    /// `LONGSHORE_CONFIG` names, or `longshore.toml` if that is there.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with the name of the setting, where it was set, and what would be right. Never
    /// [`ConfigError::Missing`], which only a command that needs the setting can tell.
    pub fn load(
        flags: &BTreeMap<&'static str, String>,
        env: impl Iterator<Item = (String, String)>,
        file: Option<&Path>,
    ) -> Result<Loaded, ConfigError> {
        let env: BTreeMap<_, _> = env.filter(|(_, value)| !value.is_empty()).collect();
        let named = file.or_else(|| env.get(CONFIG_ENV).map(Path::new));
        let text = read(named)?;
        let path = named
            .unwrap_or(Path::new(CONFIG_FILE))
            .display()
            .to_string();
        let file = text.map_or(Ok(Vec::new()), |text| file::parse(&path, &text))?;
        let values = Values::gather(flags, &env, file)?;
        let explained = SETTINGS
            .iter()
            .map(|setting| values.explain(setting))
            .collect();
        let config = values.config(env)?;
        Ok(Loaded { config, explained })
    }
}

impl Loaded {
    /// Every setting with its value and where that came from, in the order of the table.
    pub fn explain(&self) -> &[Explained] {
        &self.explained
    }
}

impl StoreConfig {
    /// The address of the store, for a command that needs one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`].
    pub fn address(&self) -> Result<&StoreAddress, ConfigError> {
        let example = "postgres://longshore:PASSWORD@localhost/longshore";
        self.url
            .as_ref()
            .ok_or_else(|| missing("store.url", example))
    }
}

impl BrokerConfig {
    /// The address of the broker, for a command that needs one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Missing`].
    pub fn address(&self) -> Result<&BrokerAddress, ConfigError> {
        let example = "amqp://longshore:PASSWORD@localhost:5672/%2f";
        self.url
            .as_ref()
            .ok_or_else(|| missing("broker.url", example))
    }
}

fn missing(key: &'static str, example: &'static str) -> ConfigError {
    let env = setting(key).map_or(key, |setting| setting.env);
    ConfigError::Missing { key, env, example }
}

fn read(named: Option<&Path>) -> Result<Option<String>, ConfigError> {
    let path = named.unwrap_or(Path::new(CONFIG_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => Ok(None),
        Err(cause) => Err(ConfigError::Unreadable {
            path: path.to_owned(),
            cause,
        }),
    }
}

/// What was set, as text, before it is understood.
struct Values(BTreeMap<&'static str, (String, Source)>);

impl Values {
    fn gather(
        flags: &BTreeMap<&'static str, String>,
        env: &BTreeMap<String, String>,
        file: Vec<file::Entry>,
    ) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            if let Some(text) = setting.default {
                values.insert(setting.key, (text.to_owned(), Source::Default));
            }
        }
        for entry in file {
            values.insert(entry.key, (entry.text, entry.source));
        }
        for (name, text) in env {
            let source = Source::Environment(name.clone());
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.env == name) {
                values.insert(setting.key, (text.clone(), source));
            } else if name.starts_with(env::PREFIX) && name != CONFIG_ENV {
                return Err(unknown_variable(name, source));
            }
        }
        for (key, text) in flags {
            let Some(setting) = setting(key) else {
                return Err(file::unknown((*key).to_owned(), Source::Flag(key)));
            };
            values.insert(
                setting.key,
                (
                    text.clone(),
                    Source::Flag(setting.flag.unwrap_or(setting.key)),
                ),
            );
        }
        Ok(Self(values))
    }

    fn explain(&self, setting: &Setting) -> Explained {
        let (value, source) = match self.0.get(setting.key) {
            Some((text, source)) if setting.is_secret => (Some(masked_url(text)), source.clone()),
            Some((text, source)) => (Some(text.clone()), source.clone()),
            None if setting.key == "executor.name" => {
                (Some(env::host_name().to_string()), Source::Default)
            }
            None => (None, Source::Default),
        };
        Explained {
            key: setting.key,
            value,
            source,
        }
    }

    fn config(&self, env: BTreeMap<String, String>) -> Result<Config, ConfigError> {
        let no_color = env.contains_key("NO_COLOR");
        let programs = self.need("executor.allow_commands", |text| Ok(value::list(text)))?;
        let inherited = env.into_iter().filter(|(name, _)| !env::is_ours(name));
        let drain = Duration::ZERO..=DRAIN_MAX;
        let retention = RETENTION_MIN..=RETENTION_MAX;
        let payload = PAYLOAD_BYTES_MIN..=PAYLOAD_BYTES_CEILING;
        Ok(Config {
            store: StoreConfig {
                url: self.may("store.url", parsed)?,
            },
            broker: BrokerConfig {
                url: self.may("broker.url", parsed)?,
                management_url: self.may("broker.management_url", parsed)?,
            },
            web: WebConfig {
                listen: self.need("web.listen", |text| {
                    let address = text.parse();
                    address.map_err(|_| {
                        format!("it is an address and port such as `127.0.0.1:7373`, not `{text}`")
                    })
                })?,
                strict_actions: self.need("web.strict_actions", value::switch)?,
            },
            executor: ExecutorConfig {
                name: self
                    .may("executor.name", parsed)?
                    .unwrap_or_else(env::host_name),
                slots: self.need("executor.queues", value::slots)?,
                allowed_commands: Allowed::new(programs, inherited),
                http_hosts: self
                    .need("executor.http_hosts", |text| Hosts::new(value::list(text)))?,
                drain_timeout: self.need("executor.drain_timeout", |text| duration(text, drain))?,
                create_queues: self.need("executor.create_queues", value::switch)?,
            },
            http: HttpConfig {
                callback_url: self.may("http.callback_url", parsed)?,
            },
            limits: LimitsConfig {
                payload: PayloadLimits {
                    bytes_max: self
                        .need("limits.payload_bytes", |text| value::size(text, payload))?,
                },
            },
            retention: RetentionConfig {
                final_tasks: self
                    .need("retention.final_tasks", |text| duration(text, retention))?,
            },
            log: LogConfig {
                filter: self.need("log.filter", parsed)?,
                format: self.need("log.format", parsed)?,
                no_color,
            },
        })
    }

    /// The value of a setting that may have none.
    fn may<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let Some((key, (text, origin))) = self.0.get_key_value(key) else {
            return Ok(None);
        };
        let wrong = |reason| {
            let doc = setting(key).map_or("", |setting| setting.doc);
            let reason = format!("{reason} ({doc})");
            ConfigError::Value {
                key,
                origin: origin.clone(),
                reason,
            }
        };
        parse(text).map(Some).map_err(wrong)
    }

    /// The value of a setting that always has one.
    #[expect(clippy::expect_used, reason = "its default is in the table")]
    fn need<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        Ok(self.may(key, parse)?.expect("the setting has a default"))
    }
}

/// What `text` is as a `T`.
fn parsed<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn unknown_variable(name: &str, origin: Source) -> ConfigError {
    let regular = SETTINGS
        .iter()
        .find(|setting| setting.regular_env() == name);
    // Without the prefix, which makes all of them alike.
    let bare = |name: &str| name.trim_start_matches(env::PREFIX).to_owned();
    let names: Vec<(String, &'static str)> = SETTINGS
        .iter()
        .flat_map(|setting| {
            [setting.regular_env(), setting.env.to_owned()].map(|name| (bare(&name), setting.env))
        })
        .chain([(bare(CONFIG_ENV), CONFIG_ENV)])
        .collect();
    let near = crate::wire::nearest(&bare(name), names.iter().map(|(bare, _)| bare.as_str()));
    let near = near.and_then(|near| names.iter().find(|(bare, _)| bare == near));
    let nearest = regular
        .map(|setting| setting.env)
        .or_else(|| near.map(|(_, env)| *env));
    ConfigError::Unknown {
        name: name.to_owned(),
        origin,
        nearest,
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.pad(&format!("flag `{flag}`")),
            Self::Environment(name) => f.pad(&format!("environment `{name}`")),
            Self::File { path, line } => f.pad(&format!("{path}:{line}")),
            Self::Default => f.pad("default"),
        }
    }
}

#[cfg(test)]
mod tests;
