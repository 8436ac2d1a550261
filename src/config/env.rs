//! The only place that reads the process's environment, and what else the machine says of itself.

use crate::domain::{ExecutorName, Operator};

use super::settings::SETTINGS;

/// The prefix of our variables.
pub(super) const PREFIX: &str = "LONGSHORE_";

/// The environment of this process, without variables that are not UTF-8.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Whether the variable `name` is one of ours: programs that tasks run do not get it, for it may be a secret.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || SETTINGS.iter().any(|setting| setting.env == name)
}

/// The name of the host, as an executor's name.
pub fn host_name() -> ExecutorName {
    let host = nix::unistd::gethostname().unwrap_or_default();
    executor_name(&host.to_string_lossy())
}

/// Who uses this process, and on which host: `ann@crane-7`.
#[expect(clippy::expect_used, reason = "the word is an operator's name")]
pub fn operator() -> Operator {
    let user = variables()
        .find(|(name, _)| name == "USER")
        .or_else(|| variables().find(|(name, _)| name == "LOGNAME"))
        .map_or_else(|| "somebody".to_owned(), |(_, user)| user);
    let host = nix::unistd::gethostname().unwrap_or_default();
    Operator::new(&format!("{user}@{}", host.to_string_lossy()))
        .or_else(|_| Operator::new("somebody"))
        .expect("`somebody` is an operator's name")
}

/// The nearest name of an executor to `host`.
#[expect(clippy::expect_used, reason = "the word is a name")]
fn executor_name(host: &str) -> ExecutorName {
    let is_right = |letter: &char| letter.is_ascii_alphanumeric() || "_-.".contains(*letter);
    let name: String = host.chars().filter(is_right).take(64).collect();
    let name = name.trim_start_matches(['_', '-', '.']);
    ExecutorName::new(name)
        .or_else(|_| ExecutorName::new("executor"))
        .expect("`executor` is a name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_has_a_name_for_its_executor() {
        assert_eq!(executor_name("x1.example").as_str(), "x1.example");
        assert_eq!(executor_name("-büro 7").as_str(), "bro7");
        assert_eq!(executor_name("").as_str(), "executor");
        assert_eq!(executor_name(&"a".repeat(80)).as_str().len(), 64);
    }
}
