//! The rules of the settings: which source wins, what is refused and how that reads.

use std::fmt::Write as _;

use super::*;

/// What a process is given.
#[derive(Default)]
struct Given {
    flags: BTreeMap<&'static str, String>,
    env: Vec<(String, String)>,
    file: String,
}

impl Given {
    fn flag(mut self, key: &'static str, value: &str) -> Self {
        self.flags.insert(key, value.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn file(mut self, text: &str) -> Self {
        self.file.push_str(text);
        self
    }

    fn load(self) -> Result<Loaded, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &self.file).unwrap();
        Config::load(&self.flags, self.env.into_iter(), Some(file.path()))
    }

    /// The error, with the file's path as `FILE`.
    fn error(self) -> String {
        let error = self.load().unwrap_err().to_string();
        match error.split_once("/tmp/") {
            Some((before, after)) => {
                let after = after.split_once(':').unwrap().1;
                format!("{before}FILE:{after}")
            }
            None => error,
        }
    }
}

fn given() -> Given {
    Given::default()
}

#[test]
fn without_any_word_there_are_defaults_and_no_store() {
    let config = given().load().unwrap().config;
    assert_eq!(config.web.listen.to_string(), "127.0.0.1:7373");
    assert!(config.web.strict_actions);
    assert_eq!(format!("{:?}", config.executor.slots), r#"{"default": 8}"#);
    assert_eq!(config.executor.name, env::host_name());
    assert_eq!(config.executor.allowed_commands, Allowed::none());
    assert_eq!(config.executor.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.limits.payload, PayloadLimits::default());
    assert_eq!(config.retention.final_tasks, Duration::from_hours(7 * 24));
    assert_eq!(
        config.store.address().unwrap_err().to_string(),
        "`store.url` is not set; set `DATABASE_URL`, for example \
         `DATABASE_URL=postgres://longshore:PASSWORD@localhost/longshore`"
    );
    assert_eq!(
        config.broker.address().unwrap_err().to_string(),
        "`broker.url` is not set; set `AMQP_URL`, for example \
         `AMQP_URL=amqp://longshore:PASSWORD@localhost:5672/%2f`"
    );
}

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file_and_that_over_the_default() {
    let port = |given: Given| given.load().unwrap().config.web.listen.port();
    let file = || given().file("[web]\nlisten = \"[::1]:1\"\n");
    let env = || file().env("LONGSHORE_WEB_LISTEN", "[::1]:2");
    assert_eq!(port(given()), 7373);
    assert_eq!(port(file()), 1);
    assert_eq!(port(env()), 2);
    assert_eq!(port(env().flag("web.listen", "[::1]:3")), 3);
}

#[test]
fn an_empty_variable_counts_as_absent() {
    let given = given()
        .env("LONGSHORE_WEB_LISTEN", "")
        .env("DATABASE_URL", "");
    assert!(given.load().unwrap().config.store.url.is_none());
}

#[test]
fn the_file_has_sections_lists_and_tables() {
    let loaded = given()
        .file("executor.allow_commands = [\"true\", \"/bin/sh\"]\nexecutor.create_queues = true\n")
        .file("[executor.queues]\ndefault = 4\nbulk = 1_0\n[limits]\npayload_bytes = \"2MiB\"\n");
    let config = loaded.load().unwrap().config;
    assert_eq!(
        config.executor.allowed_commands.programs(),
        ["true", "/bin/sh"]
    );
    assert_eq!(
        format!("{:?}", config.executor.slots),
        r#"{"bulk": 10, "default": 4}"#
    );
    assert!(config.executor.create_queues);
    assert_eq!(config.limits.payload.bytes_max, 2 << 20);
}

#[test]
fn every_setting_can_be_set_from_every_source() {
    let value = |setting: &Setting| match setting.key {
        "store.url" => "sqlite:tasks.db",
        "broker.url" => "embedded",
        "broker.management_url" => "http://localhost:15672",
        "executor.name" => "one",
        "executor.allow_commands" => "true",
        "executor.http_hosts" => "*.example",
        "http.callback_url" => "https://tasks.example",
        _ => setting.default.unwrap(),
    };
    let mut all = given();
    for setting in SETTINGS {
        writeln!(all.file, "{} = \"{}\"", setting.key, value(setting)).unwrap();
    }
    let is_from = |loaded: &Loaded, right: fn(&Source) -> bool| {
        loaded
            .explain()
            .iter()
            .all(|explained| right(&explained.source))
    };
    assert!(is_from(&all.load().unwrap(), |source| matches!(
        source,
        Source::File { .. }
    )));
    let env = SETTINGS.iter().fold(given(), |given, setting| {
        given.env(setting.env, value(setting))
    });
    assert!(is_from(&env.load().unwrap(), |source| matches!(
        source,
        Source::Environment(_)
    )));
    let flags = SETTINGS.iter().fold(given(), |given, setting| {
        given.flag(setting.key, value(setting))
    });
    assert!(is_from(&flags.load().unwrap(), |source| matches!(
        source,
        Source::Flag(_)
    )));
}

#[test]
fn what_does_not_exist_comes_with_what_was_meant() {
    assert_eq!(
        given().file("[executor]\nnmae = \"x\"\n").error(),
        "there is no setting `executor.nmae` (FILE:2), did you mean `executor.name`?"
    );
    assert_eq!(
        given().file("[exectuor]\nname = \"x\"\n").error(),
        "there is no setting `exectuor.name` (FILE:2), did you mean `executor.name`?"
    );
    assert_eq!(
        given().file("[zzz]\n").error(),
        "there is no setting `zzz` (FILE:1)"
    );
    assert_eq!(
        given().env("LONGSHORE_LOG_FORMATS", "text").error(),
        "there is no setting `LONGSHORE_LOG_FORMATS` (environment `LONGSHORE_LOG_FORMATS`), did you \
         mean `LONGSHORE_LOG_FORMAT`?"
    );
    let error = given().env("LONGSHORE_STORE_URL", "sqlite:x").error();
    assert!(error.ends_with("did you mean `DATABASE_URL`?"), "{error}");
    assert!(given().env("PATH", "/bin").load().is_ok());
}

#[test]
fn a_wrong_value_is_named_with_its_source_and_what_would_be_right() {
    assert_eq!(
        given().file("\nweb.listen = 7373").error(),
        "`web.listen` (FILE:2): it is an address and port such as `127.0.0.1:7373`, not `7373` (the \
         address and port that the web server listens on)"
    );
    let check = |key: &'static str, value: &str, expected: &str| {
        let error = given().flag(key, value).error();
        assert!(error.starts_with(&format!("`{key}` (flag `")), "{error}");
        assert!(error.contains(expected), "{error}");
    };
    check(
        "store.url",
        "mysql://me:hunter2@db",
        "its scheme is `mysql`",
    );
    check("broker.url", "kafka://x", "its scheme is `kafka`");
    check("broker.management_url", "host", "begins with `http://`");
    check(
        "web.strict_actions",
        "yes",
        "it is `true` or `false`, not `yes`",
    );
    check("executor.name", "a b", "not a name of an executor");
    check("executor.queues", "default", "such as `default=8`");
    check("executor.drain_timeout", "2d", "from 0s to 1d");
    check("limits.payload_bytes", "9MiB", "from 1KiB to 8MiB");
    check("retention.final_tasks", "1s", "from 1m to 3650d");
    check("log.filter", "a=b=c", "it is a level");
    check("log.format", "xml", "it is `text` or `json`, not `xml`");
    let error = given().file("web.listen = 1979-05-27").error();
    assert!(error.contains("it cannot hold such a value"), "{error}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = given().file("a = 1\nb = = 2\n").error();
    assert!(error.starts_with("FILE:2: "), "{error}");
    let missing = Path::new("/no/such/longshore.toml");
    let error = Config::load(&BTreeMap::new(), std::iter::empty(), Some(missing)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the settings cannot be read from `/no/such/longshore.toml`"
    );
    let named = [(CONFIG_ENV.to_owned(), "/no/such/other.toml".to_owned())];
    let error = Config::load(&BTreeMap::new(), named.into_iter(), None).unwrap_err();
    assert!(error.to_string().contains("other.toml"), "{error}");
}

#[test]
fn what_is_explained_tells_the_source_and_masks_every_password() {
    let loaded = given()
        .flag("broker.url", "amqp://me:hunter2@mq/v")
        .env("DATABASE_URL", "postgres://me:hunter2@db/tasks")
        .file("broker.management_url = \"http://me:hunter2@mq:15672\"\n")
        .load()
        .unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let line = |key: &str| {
        let explained = loaded
            .explain()
            .iter()
            .find(|explained| explained.key == key)
            .unwrap();
        let value = explained.value.as_deref().unwrap_or("-");
        let source = explained.source.to_string();
        format!(
            "{value} from {}",
            source
                .rsplit('/')
                .next()
                .unwrap()
                .split('.')
                .next()
                .unwrap()
        )
    };
    assert_eq!(
        line("broker.url"),
        "amqp://me:***@mq/v from flag `--broker`"
    );
    assert_eq!(
        line("store.url"),
        "postgres://me:***@db/tasks from environment `DATABASE_URL`"
    );
    assert!(line("broker.management_url").starts_with("http://me:***@mq:15672 from "));
    assert_eq!(line("log.format"), "text from default");
    let others = given().load().unwrap();
    assert_eq!(others.explain()[0].value, None, "nothing sets the store");
    assert_eq!(others.explain().len(), SETTINGS.len());
}

#[test]
fn programs_do_not_see_our_variables() {
    let given = given()
        .env("DATABASE_URL", "postgres://me:hunter2@db/tasks")
        .env("AMQP_URL", "amqp://me:hunter2@mq/v")
        .env("LONGSHORE_EXECUTOR_ALLOW_COMMANDS", "env")
        .env("PATH", "/bin");
    let allowed = given.load().unwrap().config.executor.allowed_commands;
    assert_eq!(
        allowed,
        Allowed::new(["env"], [("PATH".to_owned(), "/bin".to_owned())])
    );
}
