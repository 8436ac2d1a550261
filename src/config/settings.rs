//! Every setting there is, in one table. `docs/configuration.md` says more about each.

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name, with its section: `web.listen`.
    pub key: &'static str,
    /// The variable that sets it.
    pub env: &'static str,
    /// The flag that sets it, where a command has one.
    pub flag: Option<&'static str>,
    /// One sentence: what it is, its unit, its bounds.
    pub doc: &'static str,
    /// Its value when nothing sets it; `None` when it has none, or it is found out at the start.
    pub default: Option<&'static str>,
    /// Whether its value may hold a password.
    pub is_secret: bool,
}

/// The variable that names the file of settings.
pub const CONFIG_ENV: &str = "LONGSHORE_CONFIG";

/// Where the file of settings is when nobody says so; it may be missing there.
pub const CONFIG_FILE: &str = "longshore.toml";

/// Every setting, by section.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "store.url",
        env: "DATABASE_URL",
        flag: Some("--store"),
        doc: "the address of the store: `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH`",
        default: None,
        is_secret: true,
    },
    Setting {
        key: "broker.url",
        env: "AMQP_URL",
        flag: Some("--broker"),
        doc: "the address of the broker: `amqp://USER:PASSWORD@HOST/VHOST`, `embedded`, or `none`",
        default: None,
        is_secret: true,
    },
    Setting {
        key: "broker.management_url",
        env: "LONGSHORE_BROKER_MANAGEMENT_URL",
        flag: Some("--management-url"),
        doc: "the address of RabbitMQ's management API: `http://USER:PASSWORD@HOST:15672`",
        default: None,
        is_secret: true,
    },
    Setting {
        key: "web.listen",
        env: "LONGSHORE_WEB_LISTEN",
        flag: Some("--listen"),
        doc: "the address and port that the web server listens on",
        default: Some("127.0.0.1:7373"),
        is_secret: false,
    },
    Setting {
        key: "web.strict_actions",
        env: "LONGSHORE_WEB_STRICT_ACTIONS",
        flag: Some("--strict-actions"),
        doc: "whether a task is refused when no executor ever offered its action",
        default: Some("true"),
        is_secret: false,
    },
    Setting {
        key: "executor.name",
        env: "LONGSHORE_EXECUTOR_NAME",
        flag: Some("--name"),
        doc: "what people call the executor; the host's name when absent",
        default: None,
        is_secret: false,
    },
    Setting {
        key: "executor.queues",
        env: "LONGSHORE_EXECUTOR_QUEUES",
        flag: Some("--queue"),
        doc: "the queues that the executor serves, each with its slots, from 1 to 10000: `default=8,bulk=2`",
        default: Some("default=8"),
        is_secret: false,
    },
    Setting {
        key: "executor.allow_commands",
        env: "LONGSHORE_EXECUTOR_ALLOW_COMMANDS",
        flag: Some("--allow-command"),
        doc: "the programs that the action `command` may run, by name or path, joined by commas; `*` for all, none when empty",
        default: Some(""),
        is_secret: false,
    },
    Setting {
        key: "executor.http_hosts",
        env: "LONGSHORE_EXECUTOR_HTTP_HOSTS",
        flag: None,
        doc: "the hosts that the action `http` may call, such as `api.example`, `api.example:8443` or `*.example`, joined by commas; `*` for all, none when empty",
        default: Some(""),
        is_secret: false,
    },
    Setting {
        key: "executor.drain_timeout",
        env: "LONGSHORE_EXECUTOR_DRAIN_TIMEOUT",
        flag: Some("--drain-timeout"),
        doc: "how long a stopping executor lets its tasks run before others take them, from 0s to 1d",
        default: Some("30s"),
        is_secret: false,
    },
    Setting {
        key: "executor.create_queues",
        env: "LONGSHORE_EXECUTOR_CREATE_QUEUES",
        flag: Some("--create-queues"),
        doc: "whether the executor creates the queues it serves when they are not there",
        default: Some("false"),
        is_secret: false,
    },
    Setting {
        key: "http.callback_url",
        env: "LONGSHORE_HTTP_CALLBACK_URL",
        flag: None,
        doc: "the address of the web servers as others see it, for callbacks of the action `http`: `https://tasks.example`",
        default: None,
        is_secret: true,
    },
    Setting {
        key: "limits.payload_bytes",
        env: "LONGSHORE_LIMITS_PAYLOAD_BYTES",
        flag: None,
        doc: "bytes of a task's input or output at most, from 1KiB to 8MiB",
        default: Some("1MiB"),
        is_secret: false,
    },
    Setting {
        key: "retention.final_tasks",
        env: "LONGSHORE_RETENTION_FINAL_TASKS",
        flag: None,
        doc: "how long a task is kept after it became final, from 1m to 3650d",
        default: Some("7d"),
        is_secret: false,
    },
    Setting {
        key: "log.filter",
        env: "LONGSHORE_LOG_FILTER",
        flag: Some("--log"),
        doc: "what is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), and `MODULE=LEVEL` after commas",
        default: Some("info"),
        is_secret: false,
    },
    Setting {
        key: "log.format",
        env: "LONGSHORE_LOG_FORMAT",
        flag: Some("--log-format"),
        doc: "how the log is written: `text` for people, `json` for programs",
        default: Some("text"),
        is_secret: false,
    },
];

/// The setting that is named `key`.
pub fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

impl Setting {
    /// The variable that would set it if all were named alike: `LONGSHORE_STORE_URL` for `DATABASE_URL`.
    pub(super) fn regular_env(&self) -> String {
        format!("LONGSHORE_{}", self.key.replace('.', "_").to_uppercase())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_settings_share_a_name() {
        let names = SETTINGS
            .iter()
            .flat_map(|setting| [Some(setting.key), Some(setting.env), setting.flag])
            .flatten();
        let unique: BTreeSet<_> = names.clone().collect();
        assert_eq!(unique.len(), names.count());
    }

    #[test]
    fn variables_are_named_after_their_setting() {
        for setting in SETTINGS {
            let has_a_name_of_its_own = ["DATABASE_URL", "AMQP_URL"].contains(&setting.env);
            assert!(has_a_name_of_its_own || setting.env == setting.regular_env());
        }
    }
}
