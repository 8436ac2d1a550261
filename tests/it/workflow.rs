//! Workflows on a whole system in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use longshore::action::Context;
use longshore::domain::{Failure, Operator, Payload, Task, TaskId, TaskState};
use longshore::store::List;
use serde_json::{Value, json};

use crate::support::eventually::eventually;
use crate::support::world::{World, error, output, submission};

async fn run(document: &Value) -> Task {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let task = world.run(submission("workflow", document)).await;
    let depth = longshore::domain::AuditDepth::All;
    let audit = world.store().audit(depth).await.unwrap();
    assert_eq!(audit.violations, []);
    world.stop([executor]).await;
    task
}

/// A step that returns `input`.
fn echo(name: &str, input: &Value) -> Value {
    json!({"name": name, "action": "echo", "input": input})
}

fn fail(name: &str, message: &str) -> Value {
    json!({"name": name, "action": "fail", "input": {"message": message, "detail": {"code": 7}}})
}

fn with(mut step: Value, key: &str, value: Value) -> Value {
    step[key] = value;
    step
}

#[tokio::test]
async fn steps_run_in_sequence_and_beside_each_other_and_refer_to_others() {
    let task = run(&json!({
        "input": {"host": "x"},
        "sequence": [
            echo("a", &json!({"x": 41})),
            {"concurrence": [
                echo("b", &json!({"$ref": "input.host"})),
                {"sequence": [
                    echo("c", &json!({"y": {"$ref": "steps.a.output.x"}})),
                    echo("d", &json!({"$text": "{steps.c.output.y}!"})),
                ]},
            ]},
            echo("e", &json!([{"$ref": "steps.b.output"}, {"$ref": "steps.d.output"}])),
        ],
    }))
    .await;
    assert_eq!(
        output(&task),
        json!({"a": {"x": 41}, "b": "x", "c": {"y": 41}, "d": "41!", "e": ["x", "41!"]})
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_runs() {
    let task = run(&json!({"sequence": [echo("a", &json!({"$ref": "steps.z.output"}))]})).await;
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(
        error(&task),
        "the workflow is not right: sequence[0].input.$ref: no step before it is named \"z\""
    );
}

#[tokio::test]
async fn a_condition_leaves_a_step_out_and_its_output_is_null() {
    let task = run(&json!({
        "input": {"kind": "service"},
        "sequence": [
            with(echo("a", &json!(1)), "if", json!({"$eq": [{"$ref": "input.kind"}, "library"]})),
            with(echo("b", &json!({"$ref": "steps.a.output.x"})), "if", json!({"$not": {"$ref": "steps.a.output"}})),
        ],
    }))
    .await;
    assert_eq!(output(&task), json!({"a": null, "b": null}));
}

#[tokio::test]
async fn a_step_has_a_task_for_each_of_a_list() {
    let task = run(&json!({
        "sequence": [
            echo("list", &json!([1, 2, 3])),
            with(
                with(echo("each", &json!({"n": {"$ref": "item"}})), "for_each", json!({"$ref": "steps.list.output"})),
                "in_flight", json!(1),
            ),
            with(echo("none", &json!(0)), "for_each", json!([])),
        ],
        "output": {"$ref": "steps.each.output"},
    }))
    .await;
    assert_eq!(output(&task), json!([{"n": 1}, {"n": 2}, {"n": 3}]));
}

#[tokio::test]
async fn a_failed_step_fails_the_workflow_and_what_is_finally_runs_all_the_same() {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let document = json!({
        "sequence": [fail("a", "the rope broke"), echo("never", &json!(1))],
        "finally": [
            fail("first", "this too"),
            echo("clean", &json!({"after": {"$ref": "error"}, "never": {"$ref": "steps.never.output"}})),
        ],
    });
    let task = world.run(submission("workflow", &document)).await;
    assert_eq!(task.state, TaskState::Failed);
    let steps = steps(&world, task.id).await;
    let names: Vec<&str> = steps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "clean", "first"]);
    let failed = &steps[0].1;
    assert_eq!(
        error(&task),
        format!("the step `a` failed (task `{}`): the rope broke", failed.id)
    );
    let said = output(&steps[1].1);
    assert_eq!(
        said["after"],
        json!({"step": "a", "task": failed.id.to_string(), "action": "fail", "state": "failed",
               "message": "the rope broke", "detail": {"code": 7}})
    );
    assert_eq!(said["never"], Value::Null);
    world.stop([executor]).await;
}

/// The tasks of the steps of a workflow, by the names of the steps.
async fn steps(world: &World, workflow: TaskId) -> Vec<(String, Task)> {
    let list = List {
        parent: Some(workflow),
        limit: 100,
        ..List::default()
    };
    let tasks = world.store().list(&list).await.unwrap().tasks;
    let mut named: Vec<_> = tasks
        .into_iter()
        .map(|task| (task.labels["step"].clone(), task))
        .collect();
    named.sort_by(|left, right| left.0.cmp(&right.0));
    named
}

#[tokio::test]
async fn beside_a_failed_step_nothing_new_begins_and_what_runs_goes_on() {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let document = json!({"concurrence": [
        {"sequence": [{"name": "gate", "action": "gate"}, echo("never", &json!(1))]},
        fail("a", "the rope broke"),
    ]});
    let task = world.submit(submission("workflow", &document)).await;
    world.wait_at_gate(1).await;
    eventually(
        "the other step has failed",
        async || steps(&world, task).await,
        |steps| {
            steps
                .iter()
                .any(|(_, task)| task.state == TaskState::Failed)
        },
    )
    .await;
    world.gate.add_permits(1);
    let task = world.ended(task).await;
    assert!(error(&task).starts_with("the step `a` failed"), "{task:?}");
    let steps = steps(&world, task.id).await;
    let states: Vec<_> = steps
        .iter()
        .map(|(name, task)| (name.as_str(), task.state))
        .collect();
    assert_eq!(
        states,
        [("a", TaskState::Failed), ("gate", TaskState::Succeeded)]
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_step_may_fail_without_harm() {
    let task = run(&json!({
        "sequence": [
            with(fail("a", "the rope broke"), "rescue", json!("skip")),
            with(with(with(
                json!({"name": "each", "action": "fail", "input": {"message": {"$ref": "item"}}}),
                "for_each", json!(["x", "y"])), "in_flight", json!(1)), "rescue", json!("skip")),
            echo("b", &json!([{"$ref": "steps.a.output"}, {"$ref": "steps.a.error.message"}])),
        ],
    }))
    .await;
    assert_eq!(
        output(&task),
        json!({"a": null, "each": [null, null], "b": [null, "the rope broke"]})
    );
}

#[tokio::test]
async fn a_step_that_failed_waits_for_a_person_who_may_say_its_output() {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let document = json!({"sequence": [
        with(fail("a", "the rope broke"), "rescue", json!("pause")),
        echo("b", &json!({"$ref": "steps.a.output.by"})),
    ]});
    let workflow = world.submit(submission("workflow", &document)).await;
    let step = paused(&world, workflow).await;
    assert_eq!(
        error(&world.client.task(step).await.unwrap()),
        "the rope broke"
    );
    let by_hand = json!({"by": "ann"});
    drop(world.signal(workflow, "skip.a", &by_hand).await);
    let task = world.ended(workflow).await;
    assert_eq!(output(&task), json!({"a": {"by": "ann"}, "b": "ann"}));
    assert_eq!(world.ended(step).await.state, TaskState::Cancelled);
    world.stop([executor]).await;
}

/// The task of the only step that is paused, once it is and the workflow waits for it.
async fn paused(world: &World, workflow: TaskId) -> TaskId {
    let found = eventually(
        "the step is paused, and the workflow waits",
        async || {
            let waits = world.client.task(workflow).await.unwrap().state == TaskState::Suspended;
            let mut steps = steps(world, workflow).await.into_iter();
            steps.find(|(_, step)| waits && step.state == TaskState::Paused)
        },
        Option::is_some,
    )
    .await;
    found.unwrap().1.id
}

#[tokio::test]
async fn a_paused_step_is_resumed_or_given_up_as_any_task() {
    let world = World::embedded().await;
    let tries = Arc::new(AtomicU32::new(0));
    let registry = world
        .registry()
        .with_fn("flaky", move |_: Context, (): ()| {
            let tries = Arc::clone(&tries);
            async move {
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 | 2 => Err(Failure::fatal("not now")),
                    done => Ok(done),
                }
            }
        });
    let executor = world.executor_with(registry, &[("default", 2)]).await;
    let ann = Operator::new("ann").unwrap();
    let document = json!({"sequence": [{"name": "a", "action": "flaky", "rescue": "pause"}]});
    let workflow = world.submit(submission("workflow", &document)).await;
    let step = paused(&world, workflow).await;
    drop(world.client.resume(step, &ann).await.unwrap());
    assert_eq!(output(&world.ended(workflow).await), json!({"a": 1}));

    let workflow = world.submit(submission("workflow", &document)).await;
    let step = paused(&world, workflow).await;
    let given_up = world.client.abandon(step, "nobody needs it", &ann).await;
    drop(given_up.unwrap());
    let task = world.ended(workflow).await;
    assert_eq!(
        error(&task),
        format!("the step `a` failed (task `{step}`): nobody needs it")
    );
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_paused_step_is_skipped_with_an_output_and_the_workflow_goes_on() {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let ann = Operator::new("ann").unwrap();
    let each = json!({"name": "each", "action": "fail", "input": {"message": {"$ref": "item"}},
        "for_each": ["x", "y"], "in_flight": 1, "rescue": "pause"});
    let document = json!({"sequence": [
        with(fail("a", "the rope broke"), "rescue", json!("pause")),
        each,
        echo("b", &json!({"$ref": "steps.a.output.by"})),
    ]});
    let workflow = world.submit(submission("workflow", &document)).await;
    let mut skipped = Vec::new();
    for said in [json!({"by": "ann"}), json!("for x"), json!("for y")] {
        let step = paused(&world, workflow).await;
        let said = Payload::of(&said).unwrap();
        drop(world.client.skip(step, said, &ann).await.unwrap());
        skipped.push(step);
    }
    let task = world.ended(workflow).await;
    let each = json!(["for x", "for y"]);
    assert_eq!(
        output(&task),
        json!({"a": {"by": "ann"}, "each": each, "b": "ann"})
    );
    for step in skipped {
        let step = world.client.task(step).await.unwrap();
        assert_eq!((step.state, step.attempt.0), (TaskState::Succeeded, 1));
    }
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_step_has_the_options_of_a_task() {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let document = json!({"concurrence": [{
        "name": "a", "action": "fail", "input": {"message": "no", "retryable": true}, "priority": 5,
        "labels": {"team": "red"}, "timeout": 2.5, "retry": {"attempts": 2, "delay": 0.001},
    }]});
    let workflow = world.run(submission("workflow", &document)).await;
    let (_, task) = steps(&world, workflow.id).await.remove(0);
    assert_eq!((task.failures, task.priority), (2, 5));
    assert_eq!(task.labels["team"], "red");
    assert_eq!(task.options.timeout.unwrap().as_millis(), 2500);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_step_that_cannot_begin_fails_the_workflow_and_says_why() {
    let task = run(&json!({
        "sequence": [with(echo("a", &json!(1)), "queue", json!("nowhere"))],
        "finally": [echo("clean", &json!({"$ref": "error"}))],
    }))
    .await;
    assert!(error(&task).contains("the step `a` failed: "), "{task:?}");
    assert!(error(&task).contains("nowhere"), "{task:?}");
    let task = run(&json!({"sequence": [
        echo("a", &json!({"image": 1})), echo("b", &json!({"$ref": "steps.a.output.imaeg"})),
    ]}))
    .await;
    assert_eq!(
        error(&task),
        "the step `b` failed: sequence[1].input: \"steps.a.output.imaeg\": there is no \"imaeg\"; did you mean \"image\"?"
    );
}

#[tokio::test]
async fn a_step_that_cannot_begin_is_rescued_as_one_that_has_failed() {
    let nowhere = |name: &str, rescue: &str| {
        let step = with(echo(name, &json!(1)), "queue", json!("nowhere"));
        with(step, "rescue", json!(rescue))
    };
    let missing = echo("lost", &json!({"$ref": "steps.a.output.imaeg"}));
    let list = json!({"name": "list", "action": "echo", "for_each": {"$ref": "steps.a.output"}});
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let document = json!({"sequence": [
        echo("a", &json!({"image": 1})),
        with(missing, "rescue", json!("skip")),
        with(list, "rescue", json!("skip")),
        nowhere("away", "skip"),
        nowhere("by_hand", "pause"),
        echo("b", &json!([{"$ref": "steps.lost.error.message"}, {"$ref": "steps.list.error.message"},
            {"$ref": "steps.away.output"}, {"$ref": "steps.by_hand.output.by"}])),
    ]});
    let workflow = world.submit(submission("workflow", &document)).await;
    let suspended = async || world.client.task(workflow).await.unwrap();
    let waits = |task: &Task| task.state == TaskState::Suspended;
    let waiting = eventually("it waits for a person", suspended, waits).await;
    let waits_for = waiting.waiting_for.unwrap().to_string();
    assert!(waits_for.contains("skip.by_hand"), "{waits_for}");
    let logs = world.client.logs(workflow, None, 10).await.unwrap();
    let said: String = logs.iter().map(|chunk| chunk.text.as_str()).collect();
    assert!(said.contains("`by_hand` cannot begin"), "{said}");
    let by_hand = json!({"by": "ann"});
    drop(world.signal(workflow, "skip.by_hand", &by_hand).await);
    let output = output(&world.ended(workflow).await);
    assert_eq!(
        output["b"],
        json!([
            "sequence[1].input: \"steps.a.output.imaeg\": there is no \"imaeg\"; did you mean \"image\"?",
            "sequence[2].for_each: it is not a list",
            null,
            "ann"
        ])
    );
    assert_eq!(output["lost"], Value::Null);
    world.stop([executor]).await;
}

#[tokio::test]
async fn a_workflow_goes_on_wherever_its_executor_dies() {
    let registry = longshore::action::builtin::registry(
        longshore::clock::SystemClock::shared(),
        longshore::action::builtin::Allowed::default(),
        longshore::action::builtin::HttpRights::default(),
    );
    let each = with(
        echo("each", &json!({"$ref": "item"})),
        "for_each",
        json!([1, 2, 3]),
    );
    let document = json!({
        "sequence": [
            echo("a", &json!(41)),
            {"concurrence": [
                with(each, "in_flight", json!(2)),
                with(fail("torn", "the rope broke"), "rescue", json!("skip")),
                with(echo("never", &json!(0)), "if", json!({"$eq": [{"$ref": "steps.a.output"}, 42]})),
            ]},
            echo("b", &json!([{"$ref": "steps.each.output"}, {"$ref": "steps.torn.error.message"}])),
            with(echo("lost", &json!({"$ref": "steps.b.output.nowhere"})), "rescue", json!("skip")),
        ],
        "finally": [echo("clean", &json!({"$ref": "steps.b.output"}))],
    });
    let rehearsal = || longshore::testing::Rehearsal::new(registry.clone(), "workflow", &document);
    let whole = rehearsal().run().await.unwrap();
    let output: Value = whole.output().unwrap();
    let said = json!([[1, 2, 3], "the rope broke"]);
    assert_eq!((&output["b"], &output["clean"]), (&said, &said));
    assert_eq!(
        (&output["never"], &output["lost"]),
        (&Value::Null, &Value::Null)
    );
    // It must come to the same each time, with the same tasks, and none of them twice.
    let report = rehearsal().crash_everywhere().await.unwrap();
    assert!(report.crashes.len() > 20, "{}", report.crashes.len());
}

#[tokio::test]
async fn a_cancelled_workflow_cancels_its_steps() {
    let world = World::embedded().await;
    let executor = world.executor(4).await;
    let document =
        json!({"sequence": [{"name": "gate", "action": "gate"}, echo("never", &json!(1))]});
    let workflow = world.submit(submission("workflow", &document)).await;
    world.wait_at_gate(1).await;
    drop(
        world
            .client
            .cancel(workflow, "changed my mind")
            .await
            .unwrap(),
    );
    assert_eq!(world.ended(workflow).await.state, TaskState::Cancelled);
    let steps = steps(&world, workflow).await;
    let [(_, step)] = steps.as_slice() else {
        panic!("{steps:?}");
    };
    assert_eq!(world.ended(step.id).await.state, TaskState::Cancelled);
    world.stop([executor]).await;
}

/// Wide enough that a combinator with wakers of its own would keep it loaded, and long enough to run over several attempts.
#[tokio::test]
async fn a_wide_workflow_waits_without_a_slot() {
    let world = World::embedded().await;
    let executor = world.executor(1).await;
    let beside: Vec<Value> = (0..40)
        .map(|number| {
            let first =
                json!({"name": format!("gate-{number}"), "action": "gate", "input": number});
            let name = format!("steps.gate-{number}.output");
            json!({"sequence": [first, echo(&format!("echo-{number}"), &json!({"$ref": name}))]})
        })
        .collect();
    let workflow = world
        .submit(submission("workflow", &json!({"concurrence": beside})))
        .await;
    // The only slot: who is here has let go of it.
    world.wait_at_gate(1).await;
    let waits = world.client.task(workflow).await.unwrap();
    assert_eq!(waits.state, TaskState::Suspended);
    world.gate.add_permits(40);
    let task = world.ended(workflow).await;
    assert_eq!(output(&task)["echo-39"], 39);
    assert!(task.attempt.0 > 1);
    world.stop([executor]).await;
}

fn example(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/workflows");
    let text = std::fs::read_to_string(path.join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[tokio::test]
async fn the_phases_of_dynflow_are_a_workflow() {
    let task = run(&example("dynflow.yaml")).await;
    let said = output(&task);
    assert_eq!(said["finalize"], "crane-7 has 10.0.0.7");
    assert_eq!(
        said["install"][1],
        json!({"host": "crane-7", "package": "redis"})
    );
    assert_eq!(said["create_volume"]["status"], 0);
}

#[tokio::test]
async fn the_steps_of_a_backstage_template_are_a_workflow() {
    let task = run(&example("backstage.yaml")).await;
    let url = "https://git.example/team-red/orders";
    assert_eq!(
        output(&task),
        json!({
            "links": [{"title": "Repository", "url": url}],
            "catalogue": "the catalogue is away",
            "deployed": [
                {"environment": "test", "repository": url},
                {"environment": "live", "repository": url},
            ],
        })
    );
}
