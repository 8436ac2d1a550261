//! `longshore workflow`: what needs no server, and one that runs.

use super::Shell;

const RIGHT: &str = r"
input: {host: x}
sequence:
  - {name: plan, action: echo, input: {on: {$ref: input.host}}}
  - concurrence:
      - {name: build, action: command, rescue: skip}
      - {name: tell, action: echo, if: {$ref: steps.plan.output.on}}
finally:
  - {name: clean, action: echo}
";

const WRONG: &str = r"
sequence:
  - {name: a, action: echo}
  - concurrence:
      - {name: b, action: echo, input: {y: {$ref: steps.z.output}}}
      - {name: a, actoin: echo}
";

#[tokio::test]
async fn a_workflow_is_checked_without_any_server() {
    let shell = Shell::new();
    shell.write("right.yaml", RIGHT);
    shell.write("wrong.yaml", WRONG);
    shell.write("broken.yaml", "sequence: [\n");
    shell.write(
        "right.json",
        r#"{"sequence": [{"name": "a", "action": "echo"}]}"#,
    );
    let said = shell
        .session(&[
            "workflow check right.yaml",
            "workflow check right.json",
            "workflow check wrong.yaml",
            "workflow check broken.yaml",
            "workflow check nowhere.yaml",
            "workflow check wrong.yaml -o jsonl",
            "workflow show wrong.yaml",
        ])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore workflow check right.yaml
    ! nothing is wrong; steps: 4
    = 0
    $ longshore workflow check right.json
    ! nothing is wrong; steps: 1
    = 0
    $ longshore workflow check wrong.yaml
    sequence[1].concurrence[0].input.y.$ref: no step before it is named "z"; did you mean "a"?
    sequence[1].concurrence[1].actoin: there is no such key; did you mean "action"?
    sequence[1].concurrence[1].name: the step at sequence[0] has this name already
    ! problems: 3
    = 1
    $ longshore workflow check broken.yaml
    ! error: `broken.yaml` cannot be read: unclosed bracket '[' at line 1, column 11
    = 1
    $ longshore workflow check nowhere.yaml
    ! error: `nowhere.yaml` cannot be read: No such file or directory (os error 2)
    = 2
    $ longshore workflow check wrong.yaml -o jsonl
    {"valid":false,"problems":[{"path":"sequence[1].concurrence[0].input.y.$ref","problem":"no step before it is named \"z\"; did you mean \"a\"?"},{"path":"sequence[1].concurrence[1].actoin","problem":"there is no such key; did you mean \"action\"?"},{"path":"sequence[1].concurrence[1].name","problem":"the step at sequence[0] has this name already"}]}
    ! problems: 3
    = 1
    $ longshore workflow show wrong.yaml
    ! error: `wrong.yaml` is no workflow
    !   cause: sequence[1].concurrence[0].input.y.$ref: no step before it is named "z"; did you mean "a"?
    !   cause: sequence[1].concurrence[1].actoin: there is no such key; did you mean "action"?
    !   cause: sequence[1].concurrence[1].name: the step at sequence[0] has this name already
    = 1
    "#);
}

#[tokio::test]
async fn a_workflow_is_shown_as_a_tree_or_as_json() {
    let shell = Shell::new();
    shell.write("right.yaml", RIGHT);
    let said = shell.session(&["workflow show right.yaml"]).await;
    insta::assert_snapshot!(said, @r"
    $ longshore workflow show right.yaml
    sequence
    ├─ plan: echo
    └─ concurrence
       ├─ build: command [rescue skip]
       └─ tell: echo [if, uses plan]
    finally
    └─ clean: echo
    = 0
    ");
    let read = shell
        .run_with(&["workflow", "show", "-", "-o", "json"], RIGHT)
        .await;
    let json: serde_json::Value = serde_json::from_str(&read.with_status(0).out).unwrap();
    assert_eq!(
        json["steps"][3]["after"],
        serde_json::json!(["build", "tell"])
    );
}

#[tokio::test]
async fn a_workflow_is_submitted_with_its_input() {
    let shell = Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false");
    shell.write("right.yaml", RIGHT);
    let ran = shell
        .run_words(&[
            "workflow",
            "run",
            "right.yaml",
            "--input",
            r#"{"host": "y"}"#,
            "-o",
            "json",
        ])
        .await
        .with_status(0);
    let task: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(task["action"], "workflow");
    assert_eq!(task["input"]["input"], serde_json::json!({"host": "y"}));
    let said = shell
        .run_words(&["workflow", "run", "right.yaml", "--input", r#"{"hots": 1}"#])
        .await
        .with_status(2);
    assert!(said.err.contains("has no `hots`"), "{}", said.err);
    assert!(said.err.contains("did you mean `host`?"), "{}", said.err);
}
