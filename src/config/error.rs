//! What can be wrong with the settings.

use std::path::PathBuf;

use super::Source;

/// What can be wrong with the settings. Nothing of it goes away by itself.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting that does not exist.
    #[error("there is no setting `{name}` ({origin}){}", suggested(*.nearest))]
    Unknown {
        /// What was set.
        name: String,
        /// Where.
        origin: Source,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// A value that cannot be.
    #[error("`{key}` ({origin}): {reason}")]
    Value {
        /// Of which setting.
        key: &'static str,
        /// Where it was set.
        origin: Source,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A setting that this command needs.
    #[error("`{key}` is not set; set `{env}`, for example `{env}={example}`")]
    Missing {
        /// Which.
        key: &'static str,
        /// The variable that sets it.
        env: &'static str,
        /// What it could be.
        example: &'static str,
    },
    /// A file that cannot be read.
    #[error("the settings cannot be read from `{}`", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file that is not TOML.
    #[error("{path}:{line}: {reason}")]
    Syntax {
        /// Which.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        reason: String,
    },
}

fn suggested(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}
