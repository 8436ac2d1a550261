//! Which programs may run.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::Failure;

/// The setting that names the programs, for messages.
const SETTING: &str = "`executor.allow_commands` (`--allow-command NAME`)";

/// Which programs the action `command` may run, and the environment they get.
///
/// Shape: names (`sha256sum`, found in `PATH`), absolute paths (`/usr/bin/sha256sum`), or `*` for all. A name
/// allows the program that `PATH` finds, by its name or by its path, and no other program of that name.
///
/// Whoever may submit a task chooses the arguments and the environment: allow a program only if everybody who
/// submits may run it with anything. A shell allows everything.
#[derive(Clone, Default)]
pub struct Allowed(Arc<Rules>);

#[derive(Default)]
struct Rules {
    programs: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Allowed {
    /// No program at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The programs `programs`, which run in `environment`. Leave out what they must not see, such as the
    /// password of the store; `PATH` in it is where names are looked up.
    pub fn new<P: Into<String>>(
        programs: impl IntoIterator<Item = P>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        Self(Arc::new(Rules {
            programs: programs.into_iter().map(Into::into).collect(),
            environment: environment.into_iter().collect(),
        }))
    }

    /// What was allowed, as it was said.
    pub fn programs(&self) -> &[String] {
        &self.0.programs
    }

    /// The environment that programs get.
    pub(super) fn environment(&self) -> &BTreeMap<String, String> {
        &self.0.environment
    }

    /// The file to run for `program`, if it may run. What is returned is run as it is: nothing looks the name
    /// up a second time, in another `PATH`.
    pub(super) async fn find(&self, program: &str) -> Result<PathBuf, Failure> {
        if self.0.programs.is_empty() {
            return Err(Failure::fatal(format!(
                "this executor runs no programs; the setting {SETTING} says which it may, not `{program}`"
            )));
        }
        let found = if program.contains('/') {
            Some(PathBuf::from(program))
        } else {
            self.in_path(program).await
        };
        if !self.allows(program, found.as_deref()).await {
            return Err(Failure::fatal(format!(
                "this executor may not run it; the setting {SETTING} names what it may: `{program}`"
            )));
        }
        // Another executor may have it.
        found.ok_or_else(|| {
            Failure::retry(format!(
                "this executor has no such program in its `PATH`: `{program}`"
            ))
        })
    }

    async fn allows(&self, program: &str, found: Option<&Path>) -> bool {
        for allowed in &self.0.programs {
            if allowed == "*" || allowed == program {
                return true;
            }
            // By name what was allowed by path, or the other way round: the same file.
            let allowed = if allowed.contains('/') {
                Some(PathBuf::from(allowed))
            } else {
                self.in_path(allowed).await
            };
            if allowed.is_some() && allowed.as_deref() == found {
                return true;
            }
        }
        false
    }

    async fn in_path(&self, name: &str) -> Option<PathBuf> {
        let path = self.0.environment.get("PATH")?;
        for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
            let file = folder.join(name);
            if is_program(&file).await {
                return Some(file);
            }
        }
        None
    }
}

async fn is_program(file: &Path) -> bool {
    match tokio::fs::metadata(file).await {
        Ok(facts) => facts.is_file() && facts.permissions().mode() & 0o111 != 0,
        Err(_) => false,
    }
}

impl fmt::Debug for Allowed {
    /// Only the programs: the environment may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Allowed").field(&self.0.programs).finish()
    }
}

impl PartialEq for Allowed {
    fn eq(&self, other: &Self) -> bool {
        self.0.programs == other.0.programs && self.0.environment == other.0.environment
    }
}

impl Eq for Allowed {}
