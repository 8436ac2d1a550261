//! What each command says of itself.

use super::Shell;

/// The commands below `command`, as its help lists them.
fn listed(help: &str) -> impl Iterator<Item = &str> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    lines
        .take_while(|line| !line.is_empty())
        // Further lines of a description are set in farther.
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
}

#[tokio::test]
async fn each_command_explains_itself() {
    let shell = Shell::new();
    let mut said = String::new();
    let mut waiting = vec![String::new()];
    while let Some(command) = waiting.pop() {
        let ran = shell.run(&format!("{command} --help")).await.with_status(0);
        assert_eq!(ran.err, "", "help that was asked for is data");
        let below = listed(&ran.out).map(|name| format!("{command} {name}").trim().to_owned());
        let at = waiting.len();
        waiting.extend(below);
        waiting[at..].reverse();
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
