//! What is wrong with documents, what references stand for, and graphs.

use serde_json::{Value, json};

use super::{Document, Graph, NESTING_MAX, STEPS_MAX};

fn problems(document: &Value) -> Vec<String> {
    match Document::read(document) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn check(document: &Value, expected: &[&str]) {
    assert_eq!(problems(document), expected, "{document}");
}

/// A workflow of one step, which says `more`.
fn step(more: &Value) -> Value {
    let mut step = json!({"name": "b", "action": "echo"});
    for (key, value) in more.as_object().unwrap() {
        step[key] = value.clone();
    }
    json!({"input": {"host": "x"}, "sequence": [{"name": "a", "action": "echo"}, step]})
}

#[test]
fn what_is_no_workflow_says_what_one_is() {
    check(
        &json!([]),
        &["a workflow is an object with a \"sequence\" or a \"concurrence\""],
    );
    check(
        &json!({}),
        &["a workflow has a \"sequence\" or a \"concurrence\" of steps"],
    );
    check(
        &json!({"sequnce": []}),
        &["sequnce: there is no such key; did you mean \"sequence\"?"],
    );
    check(&json!({"sequence": []}), &["sequence: it has no step"]);
    check(
        &json!({"sequence": 1}),
        &["sequence: it is a list of steps"],
    );
    check(
        &json!({"sequence": [{"name": "a", "action": "echo"}], "concurrence": []}),
        &["it is a \"sequence\" or a \"concurrence\", not both; put one into the other"],
    );
    check(
        &json!({"sequence": [1]}),
        &[
            "sequence[0]: it is an object: a step with \"name\" and \"action\", or a \"sequence\" or \"concurrence\"",
        ],
    );
    check(
        &json!({"sequence": [{"name": "a", "action": "echo"}], "input": [], "finally": []}),
        &[
            "input: it is an object: the names of what is given to the workflow, with their values",
            "finally: it has no step",
        ],
    );
}

#[test]
fn a_step_says_what_is_wrong_with_it_and_where() {
    check(
        &step(&json!({"actoin": "echo"})),
        &["sequence[1].actoin: there is no such key; did you mean \"action\"?"],
    );
    check(
        &json!({"sequence": [{"name": "a"}]}),
        &["sequence[0]: \"action\" is missing"],
    );
    check(
        &step(&json!({"name": "a b"})),
        &["sequence[1].name: a step's name has letters, digits, \"_\" and \"-\", at most 64"],
    );
    check(
        &step(&json!({"name": "a"})),
        &["sequence[1].name: the step at sequence[0] has this name already"],
    );
    check(
        &step(&json!({"action": "a b"})),
        &[
            "sequence[1].action: not a name of an action (letters, digits, `_`, `-`, in words joined by dots, at most 100): `a b`",
        ],
    );
    check(
        &step(&json!({"rescue": "skp"})),
        &["sequence[1].rescue: it is \"fail\", \"skip\" or \"pause\"; did you mean \"skip\"?"],
    );
    check(
        &step(&json!({"in_flight": 2})),
        &[
            "sequence[1].in_flight: it is only for a step with \"for_each\": how many of its tasks run at once",
        ],
    );
    check(
        &step(&json!({"for_each": [1], "in_flight": 0})),
        &["sequence[1].in_flight: it is a number from 1 to 100000"],
    );
    check(
        &step(&json!({"priority": 101, "retry": {"attemps": 2}, "queue": "A"})),
        &[
            "sequence[1].queue: not a name of a queue (lower-case letters, digits, `_`, `-`, beginning with a letter or digit, at most 64): `A`",
            "sequence[1].priority: `priority` is 101, it must be from -100 to 100",
            "sequence[1].retry.attemps: unknown field `attemps`, did you mean `attempts`?",
        ],
    );
}

#[test]
fn a_reference_leads_to_what_is_there_before_it() {
    let input = |input: Value| step(&json!({"input": input}));
    check(&input(json!({"y": {"$ref": "steps.a.output.x"}})), &[]);
    check(&input(json!({"$ref": "steps.a.error"})), &[]);
    check(
        &input(json!([{"$ref": "input"}, {"$ref": "input.host"}])),
        &[],
    );
    check(
        &json!({"sequence": [
            {"name": "a", "action": "echo"},
            {"concurrence": [{"name": "b", "action": "echo", "input": {"y": {"$ref": "steps.z.output"}}}]},
        ]}),
        &[
            "sequence[1].concurrence[0].input.y.$ref: no step before it is named \"z\"; did you mean \"a\"?",
        ],
    );
    check(
        &json!({"concurrence": [
            {"name": "a", "action": "echo", "input": {"$ref": "steps.b.output"}},
            {"name": "b", "action": "echo"},
        ]}),
        &["concurrence[0].input.$ref: the step \"b\" does not end before this one begins"],
    );
    check(
        &input(json!({"$ref": "steps.a.outptu"})),
        &[
            "sequence[1].input.$ref: a step has \"output\" and \"error\", not \"outptu\"; did you mean \"output\"?",
        ],
    );
    check(
        &input(json!({"$ref": "steps.a"})),
        &[
            "sequence[1].input.$ref: \"steps.a\" is not all of it: \"steps.NAME.output\" and \"steps.NAME.error\" can be referred to",
        ],
    );
    check(
        &input(json!({"$ref": "input.hots"})),
        &[
            "sequence[1].input.$ref: the workflow's \"input\" has no \"hots\"; did you mean \"host\"?",
        ],
    );
    check(
        &input(json!({"$ref": "step.a.output"})),
        &[
            "sequence[1].input.$ref: a reference begins with \"steps\", \"input\", \"item\" or \"error\", not with \"step\"; did you mean \"steps\"?",
        ],
    );
    check(
        &input(json!([{"$ref": "item"}, {"$ref": "error"}])),
        &[
            "sequence[1].input[0].$ref: \"item\" is known only in the input of a step with \"for_each\"",
            "sequence[1].input[1].$ref: \"error\" is known only in \"finally\"",
        ],
    );
    check(
        &input(json!({"$ref": 1})),
        &["sequence[1].input.$ref: a reference is a text such as \"steps.build.output.image\""],
    );
    check(
        &input(json!({"$ref": "item", "more": 1})),
        &["sequence[1].input.$ref: an object with \"$ref\" has no other key"],
    );
    check(
        &input(json!({"$reff": "item"})),
        &[
            "sequence[1].input.$reff: there is no such key; data that has it is wrapped in \"$literal\"; did you mean \"$ref\"?",
        ],
    );
}

#[test]
fn what_stands_for_something_else_is_written_as_it_should_be() {
    let input = |input: Value| step(&json!({"input": input}));
    check(&input(json!({"$literal": {"$ref": "nowhere"}})), &[]);
    check(
        &input(json!({"$text": "a {input.host"})),
        &[
            "sequence[1].input.$text: a brace stands alone; a brace that is meant as such is doubled",
        ],
    );
    check(&input(json!({"$text": "{{x}} {input.host}"})), &[]);
    check(
        &input(json!({"$eq": [1]})),
        &["sequence[1].input.$eq: it is a list of the two values to compare"],
    );
}

#[test]
fn a_step_that_is_wrong_makes_no_other_wrong() {
    let document = json!({"sequence": [
        {"name": "a", "action": "echo", "queue": "A"},
        {"name": "b", "action": "echo", "input": {"$ref": "steps.a.output"}},
    ]});
    assert_eq!(problems(&document).len(), 1);
}

#[test]
fn a_workflow_has_bounds() {
    let mut nested = json!({"name": "a", "action": "echo"});
    for _ in 0..NESTING_MAX {
        nested = json!({"sequence": [nested]});
    }
    check(&nested, &[]);
    let deeper = json!({"concurrence": [nested]});
    let said = problems(&deeper);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("deeper than 16 levels"), "{said:?}");
    let many = |count: usize| {
        let steps: Vec<Value> = (0..count)
            .map(|number| json!({"name": format!("s{number}"), "action": "echo"}))
            .collect();
        json!({ "concurrence": steps })
    };
    check(&many(STEPS_MAX), &[]);
    let said = problems(&many(STEPS_MAX + 1));
    assert_eq!(
        said,
        ["it has 1001 steps, more than 1000; let a step run a workflow of its own"]
    );
}

fn graph(document: &Value) -> Graph {
    Graph::of(&Document::read(document).unwrap())
}

#[test]
fn a_graph_is_a_tree_for_people() {
    let graph = graph(&json!({
        "sequence": [
            {"name": "plan", "action": "echo"},
            {"concurrence": [
                {"sequence": [
                    {"name": "build", "action": "command", "input": {"stdin": {"$ref": "steps.plan.output.x"}}},
                    {"name": "test", "action": "command", "rescue": "skip"},
                ]},
                {"name": "notify", "action": "http", "if": {"$ref": "steps.plan.output.loud"}},
            ]},
            {"name": "ship", "action": "echo", "for_each": {"$ref": "steps.build.output"}, "rescue": "pause",
             "input": {"$text": "{item} after {steps.test.output}"}},
        ],
        "finally": [{"name": "clean", "action": "echo", "input": {"$ref": "error"}}],
    }));
    insta::assert_snapshot!(graph, @r"
    sequence
    ├─ plan: echo
    ├─ concurrence
    │  ├─ sequence
    │  │  ├─ build: command [uses plan]
    │  │  └─ test: command [rescue skip]
    │  └─ notify: http [if, uses plan]
    └─ ship: echo [for each, uses build and test, rescue pause]
    finally
    └─ clean: echo
    ");
}

#[test]
fn a_graph_says_to_programs_what_waits_for_what() {
    let graph = graph(&json!({
        "sequence": [
            {"name": "a", "action": "echo"},
            {"concurrence": [
                {"name": "b", "action": "echo", "input": {"$ref": "steps.a.output"}},
                {"sequence": [{"name": "c", "action": "echo"}, {"name": "d", "action": "echo"}]},
            ]},
            {"name": "e", "action": "echo"},
        ],
        "finally": [{"name": "f", "action": "echo"}],
    }));
    let after: Vec<(String, String)> = graph
        .steps
        .iter()
        .map(|node| (node.name.clone(), node.after.join(" ")))
        .collect();
    let expected = [
        ("a", ""),
        ("b", "a"),
        ("c", "a"),
        ("d", "c"),
        ("e", "b d"),
        ("f", "e"),
    ];
    let expected = expected.map(|(name, after)| (name.to_owned(), after.to_owned()));
    assert_eq!(after, expected);
    let json = serde_json::to_value(&graph).unwrap();
    assert_eq!(
        json["steps"][1],
        json!({"name": "b", "action": "echo", "path": "sequence[1].concurrence[0]", "phase": "run", "after": ["a"],
               "uses": ["a"], "is_conditional": false, "is_for_each": false, "rescue": "fail"})
    );
    assert_eq!(json["steps"][5]["phase"], "finally");
}

mod values {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use crate::action::builtin::workflow::expression::{Expression, Scope, Values, is_true};

    #[track_caller]
    fn check(expression: &Value, expected: Result<Value, &str>) {
        let input = BTreeMap::from([
            ("host".to_owned(), json!("x")),
            ("port".to_owned(), json!(7)),
        ]);
        let before = ["a".to_owned(), "none".to_owned()];
        let all = before.iter().cloned().collect();
        let scope = Scope {
            input: &input,
            before: &before,
            all: &all,
            has_item: true,
            has_error: true,
        };
        let mut problems = Vec::new();
        let read = Expression::read(expression, "", scope, &mut problems);
        assert_eq!(problems, []);
        let output = json!({"image": {"tag": "v1"}, "list": [1, {"x": 2}]});
        let item = json!({"name": "i"});
        let values = Values {
            input: &input,
            steps: BTreeMap::from([("a".to_owned(), (output, Value::Null))]),
            item: Some(&item),
            error: &json!({"step": "a"}),
        };
        assert_eq!(
            read.value(&values),
            expected.map_err(str::to_owned),
            "{expression}"
        );
    }

    #[test]
    fn a_reference_stands_for_a_part_of_an_output() {
        let of = |path: &str| json!({"$ref": format!("steps.a.output.{path}")});
        check(&of("image.tag"), Ok(json!("v1")));
        check(&of("list.1.x"), Ok(json!(2)));
        check(&json!({"$ref": "steps.none.output.x.y"}), Ok(Value::Null));
        check(&json!({"$ref": "steps.a.error.message"}), Ok(Value::Null));
        check(
            &json!({"$ref": "input"}),
            Ok(json!({"host": "x", "port": 7})),
        );
        check(&json!({"$ref": "item.name"}), Ok(json!("i")));
        check(&json!({"$ref": "error.step"}), Ok(json!("a")));
        check(
            &of("image.tga"),
            Err("\"steps.a.output.image.tga\": there is no \"tga\"; did you mean \"tag\"?"),
        );
        check(
            &of("list.7"),
            Err("\"steps.a.output.list.7\": \"7\" is no place in a list of 2"),
        );
        check(
            &of("image.tag.x"),
            Err(
                "\"steps.a.output.image.tag.x\": there is no \"x\" in what is neither an object nor a list",
            ),
        );
    }

    #[test]
    fn values_are_made_of_others() {
        check(
            &json!({"$text": "{input.host}:{input.port} {{}} {steps.none.output}{steps.a.output.list}"}),
            Ok(json!("x:7 {} [1,{\"x\":2}]")),
        );
        check(
            &json!({"$eq": [{"$ref": "input.port"}, 7]}),
            Ok(json!(true)),
        );
        check(&json!({"$not": {"$ref": "input.port"}}), Ok(json!(false)));
        check(
            &json!({"a": [{"$literal": {"$ref": 1}}, {"$ref": "input.port"}]}),
            Ok(json!({"a": [{"$ref": 1}, 7]})),
        );
    }

    #[test]
    fn nothing_and_what_is_empty_is_not_true() {
        for value in [
            json!(null),
            json!(false),
            json!(0),
            json!(0.0),
            json!(""),
            json!([]),
            json!({}),
        ] {
            assert!(!is_true(&value), "{value}");
        }
        for value in [
            json!(true),
            json!(1),
            json!("false"),
            json!([0]),
            json!({"a": null}),
        ] {
            assert!(is_true(&value), "{value}");
        }
    }
}
