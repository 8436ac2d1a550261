//! What each command says of itself.

use super::Shell;

const COMMANDS: &[&str] = &[
    "",
    "demo",
    "dev",
    "web",
    "executor",
    "executor run",
    "executor list",
    "executor drain",
    "task",
    "task submit",
    "task show",
    "task list",
    "task wait",
    "task cancel",
    "task signal",
    "task resume",
    "task skip",
    "task retry",
    "task abandon",
    "task why",
    "task tree",
    "task logs",
    "workflow",
    "workflow check",
    "workflow show",
    "workflow run",
    "queue",
    "queue create",
    "queue list",
    "schedule",
    "schedule create",
    "schedule list",
    "schedule show",
    "schedule pause",
    "schedule resume",
    "schedule trigger",
    "schedule delete",
    "tap",
    "top",
    "db",
    "db migrate",
    "broker",
    "broker plan",
    "broker apply",
    "broker check",
    "broker definitions",
    "config",
    "config show",
    "audit",
    "doctor",
    "bench",
    "bench drain",
    "bench sustained",
    "bench latency",
    "bench fanout",
    "bench suspend",
    "bench idle",
    "bench takeover",
];

#[tokio::test]
async fn each_command_explains_itself() {
    let shell = Shell::new();
    let mut said = String::new();
    for command in COMMANDS {
        let ran = shell.run(&format!("{command} --help")).await.with_status(0);
        assert_eq!(ran.err, "", "help that was asked for is data");
        said.push_str(&ran.to_string());
    }
    insta::assert_snapshot!("help", said);
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_a_mistake_of_usage() {
    let shell = Shell::new();
    let said = shell
        .session(&[
            "taks list",
            "task lst",
            "task list --colour red",
            "task show",
        ])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore taks list
    ! error: unrecognized subcommand 'taks'
    !   tip: some similar subcommands exist: 'tap', 'task'
    ! Usage: longshore [OPTIONS] <COMMAND>
    ! For more information, try '--help'.
    = 2
    $ longshore task lst
    ! error: unrecognized subcommand 'lst'
    !   tip: a similar subcommand exists: 'list'
    ! Usage: longshore task [OPTIONS] <COMMAND>
    ! For more information, try '--help'.
    = 2
    $ longshore task list --colour red
    ! error: unexpected argument '--colour' found
    ! Usage: longshore task list [OPTIONS]
    ! For more information, try '--help'.
    = 2
    $ longshore task show
    ! error: the following required arguments were not provided:
    !   <ID>
    ! Usage: longshore task show <ID>
    ! For more information, try '--help'.
    = 2
    "#);
    let version = shell.run("--version").await.with_status(0);
    assert_eq!(
        version.out,
        format!("longshore {}\n", env!("CARGO_PKG_VERSION"))
    );
}
