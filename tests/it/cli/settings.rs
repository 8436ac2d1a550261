//! Settings that are shown, and settings that are wrong.

use super::Shell;

#[tokio::test]
async fn the_settings_tell_where_they_came_from_and_hide_passwords() {
    let shell = Shell::new()
        .with("AMQP_URL", "amqp://me:hunter2@broker/longshore")
        .with(
            "LONGSHORE_BROKER_MANAGEMENT_URL",
            "http://me:hunter2@broker:15672",
        );
    shell.write(
        "longshore.toml",
        "[store]\nurl = \"postgres://me:hunter2@db/tasks\"\n\n[executor]\nqueues = { default = 4, bulk = 1 }\n",
    );
    let said = shell
        .session(&["config show --log debug", "config show -o jsonl"])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore config show --log debug
    SETTING                  VALUE                           SOURCE
    store.url                postgres://me:***@db/tasks      longshore.toml:2
    broker.url               amqp://me:***@broker/longshore  environment `AMQP_URL`
    broker.management_url    http://me:***@broker:15672      environment `LONGSHORE_BROKER_MANAGEMENT_URL`
    web.listen               127.0.0.1:7373                  default
    web.strict_actions       true                            default
    executor.name            crane                           environment `LONGSHORE_EXECUTOR_NAME`
    executor.queues          bulk=1,default=4                longshore.toml:5
    executor.allow_commands                                  default
    executor.http_hosts                                      default
    executor.drain_timeout   30s                             default
    executor.create_queues   false                           default
    http.callback_url        -                               default
    limits.payload_bytes     1MiB                            default
    retention.final_tasks    7d                              default
    log.filter               debug                           flag `--log`
    log.format               text                            default
    = 0
    $ longshore config show -o jsonl
    {"key":"store.url","value":"postgres://me:***@db/tasks","source":"longshore.toml:2"}
    {"key":"broker.url","value":"amqp://me:***@broker/longshore","source":"environment `AMQP_URL`"}
    {"key":"broker.management_url","value":"http://me:***@broker:15672","source":"environment `LONGSHORE_BROKER_MANAGEMENT_URL`"}
    {"key":"web.listen","value":"127.0.0.1:7373","source":"default"}
    {"key":"web.strict_actions","value":"true","source":"default"}
    {"key":"executor.name","value":"crane","source":"environment `LONGSHORE_EXECUTOR_NAME`"}
    {"key":"executor.queues","value":"bulk=1,default=4","source":"longshore.toml:5"}
    {"key":"executor.allow_commands","value":"","source":"default"}
    {"key":"executor.http_hosts","value":"","source":"default"}
    {"key":"executor.drain_timeout","value":"30s","source":"default"}
    {"key":"executor.create_queues","value":"false","source":"default"}
    {"key":"http.callback_url","source":"default"}
    {"key":"limits.payload_bytes","value":"1MiB","source":"default"}
    {"key":"retention.final_tasks","value":"7d","source":"default"}
    {"key":"log.filter","value":"info","source":"default"}
    {"key":"log.format","value":"text","source":"default"}
    = 0
    "#);
}

#[tokio::test]
async fn a_setting_that_does_not_exist_comes_with_the_one_that_was_meant() {
    let shell = Shell::new().with("LONGSHORE_STROE_URL", "sqlite:x");
    let mut said = shell.session(&["config show"]).await;
    let shell = Shell::new().with("LONGSHORE_WEB_LISTENER", "x");
    said.push_str(&shell.session(&["web"]).await);
    let shell = Shell::new();
    shell.write(
        "longshore.toml",
        "[store]\nurl = \"sqlite:x\"\n\n[executor]\nquues = \"a=1\"\n",
    );
    said.push_str(&shell.session(&["config show"]).await);
    shell.write("longshore.toml", "[store\n");
    said.push_str(&shell.session(&["task list"]).await);
    said.push_str(&shell.session(&["--config missing.toml config show"]).await);
    insta::assert_snapshot!(said, @r#"
    $ longshore config show
    ! error: there is no setting `LONGSHORE_STROE_URL` (environment `LONGSHORE_STROE_URL`), did you mean `DATABASE_URL`?
    = 2
    $ longshore web
    ! error: there is no setting `LONGSHORE_WEB_LISTENER` (environment `LONGSHORE_WEB_LISTENER`), did you mean `LONGSHORE_WEB_LISTEN`?
    = 2
    $ longshore config show
    ! error: there is no setting `executor.quues` (longshore.toml:5), did you mean `executor.queues`?
    = 2
    $ longshore task list
    ! error: longshore.toml:1: unclosed table, expected `]`
    = 2
    $ longshore --config missing.toml config show
    ! error: the settings cannot be read from `missing.toml`
    !   cause: No such file or directory (os error 2)
    = 2
    "#);
}

#[tokio::test]
async fn a_value_that_cannot_be_says_what_could() {
    let mut said = String::new();
    for (name, value) in [
        ("DATABASE_URL", "mysql://me:hunter2@db/tasks"),
        ("AMQP_URL", "kafka://me:hunter2@broker"),
        ("LONGSHORE_WEB_LISTEN", "everywhere"),
        ("LONGSHORE_WEB_STRICT_ACTIONS", "maybe"),
        ("LONGSHORE_EXECUTOR_QUEUES", "default=many"),
        ("LONGSHORE_EXECUTOR_DRAIN_TIMEOUT", "soon"),
        ("LONGSHORE_LIMITS_PAYLOAD_BYTES", "1GiB"),
        ("LONGSHORE_RETENTION_FINAL_TASKS", "1s"),
        ("LONGSHORE_LOG_FILTER", "loud=very"),
        ("LONGSHORE_LOG_FORMAT", "xml"),
    ] {
        let shell = Shell::new().with(name, value);
        let ran = shell.run("config show").await.with_status(2);
        assert_eq!(ran.out, "");
        said.push_str(&ran.err);
    }
    insta::assert_snapshot!(said, @r#"
    error: `store.url` (environment `DATABASE_URL`): not the address of a store: its scheme is `mysql`; it is `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH` (the address of the store: `postgres://USER:PASSWORD@HOST/DATABASE` or `sqlite:PATH`)
    error: `broker.url` (environment `AMQP_URL`): not the address of a broker: its scheme is `kafka`; it is `amqp://USER:PASSWORD@HOST/VHOST`, `embedded` or `none` (the address of the broker: `amqp://USER:PASSWORD@HOST/VHOST`, `embedded`, or `none`)
    error: `web.listen` (environment `LONGSHORE_WEB_LISTEN`): it is an address and port such as `127.0.0.1:7373`, not `everywhere` (the address and port that the web server listens on)
    error: `web.strict_actions` (environment `LONGSHORE_WEB_STRICT_ACTIONS`): it is `true` or `false`, not `maybe` (whether a task is refused when no executor ever offered its action)
    error: `executor.queues` (environment `LONGSHORE_EXECUTOR_QUEUES`): the slots of a queue are from 1 to 10000, not `default=many` (the queues that the executor serves, each with its slots, from 1 to 10000: `default=8,bulk=2`)
    error: `executor.drain_timeout` (environment `LONGSHORE_EXECUTOR_DRAIN_TIMEOUT`): it is a duration such as `30s`, `5m` or `7d`, not `soon` (how long a stopping executor lets its tasks run before others take them, from 0s to 1d)
    error: `limits.payload_bytes` (environment `LONGSHORE_LIMITS_PAYLOAD_BYTES`): it is a number of bytes such as `65536`, `64KiB` or `1MiB`, not `1GiB` (bytes of a task's input or output at most, from 1KiB to 8MiB)
    error: `retention.final_tasks` (environment `LONGSHORE_RETENTION_FINAL_TASKS`): it is a duration such as `30s`, `5m` or `7d`, not `1s` (how long a task is kept after it became final, from 1m to 3650d)
    error: `log.filter` (environment `LONGSHORE_LOG_FILTER`): it is a level or `MODULE=LEVEL`, joined by commas, not `loud=very` (what is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), and `MODULE=LEVEL` after commas)
    error: `log.format` (environment `LONGSHORE_LOG_FORMAT`): it is `text` or `json`, not `xml` (how the log is written: `text` for people, `json` for programs)
    "#);
}

#[tokio::test]
async fn an_address_that_is_missing_comes_with_an_example() {
    let mut said = Shell::new().session(&["db migrate", "task list"]).await;
    let shell = Shell::new().with("DATABASE_URL", "sqlite:tasks.db");
    said.push_str(&shell.session(&["web", "tap", "broker plan"]).await);
    insta::assert_snapshot!(said, @r#"
    $ longshore db migrate
    ! error: `store.url` is not set; set `DATABASE_URL`, for example `DATABASE_URL=postgres://longshore:PASSWORD@localhost/longshore`
    ! hint: `longshore config show` tells each setting and where it came from
    = 2
    $ longshore task list
    ! error: `store.url` is not set; set `DATABASE_URL`, for example `DATABASE_URL=postgres://longshore:PASSWORD@localhost/longshore`
    ! hint: `longshore config show` tells each setting and where it came from
    = 2
    $ longshore web
    ! error: `broker.url` is not set; set `AMQP_URL`, for example `AMQP_URL=amqp://longshore:PASSWORD@localhost:5672/%2f`
    ! hint: `longshore config show` tells each setting and where it came from
    = 2
    $ longshore tap
    ! error: `broker.url` is not set; set `AMQP_URL`, for example `AMQP_URL=amqp://longshore:PASSWORD@localhost:5672/%2f`
    ! hint: `longshore config show` tells each setting and where it came from
    = 2
    $ longshore broker plan
    ! error: `broker.management_url` is not set
    ! hint: set `LONGSHORE_BROKER_MANAGEMENT_URL`, for example `http://admin:PASSWORD@localhost:15672`, and enable the plugin: `rabbitmq-plugins enable rabbitmq_management`
    = 2
    "#);
}
