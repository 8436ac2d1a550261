//! Something that is stored of a task, and that nobody could have written: its task waits for an operator.

use longshore::action::Context;
use longshore::domain::{
    AuditDepth, Failure, FailurePolicy, FanOutPlan, Operator, StepName, TaskState,
};
use serde_json::{Value, json};

use crate::contract::store;
use crate::support::eventually::eventually;
use crate::support::world::{World, output, submission};

/// What is broken while the task waits, the table that the error names, and what mends it there.
const CASES: [(&str, &str, &str, &str, &str); 5] = [
    ("step", "output", "'{'", "step", "output = '1'"),
    (
        "step",
        "state",
        "'done', place = null",
        "step",
        "state = 'done', place = 0",
    ),
    (
        "fan_out",
        "on_failure",
        "'perhaps'",
        "fan_out",
        "on_failure = 'collect'",
    ),
    ("task", "options", "'{'", "task", "options = null"),
    // It is taken, and then it is the output of a step.
    ("signal", "payload", "'{'", "step", "output = '1'"),
];

/// Makes a step and a sub-task, and waits for `go`, for `note` and for the sub-task.
async fn parts(context: Context, (): ()) -> Result<u32, Failure> {
    let one: u32 = context.step("one", async || Ok(1)).await?;
    let plan = FanOutPlan {
        on_failure: FailurePolicy::Collect,
        ..FanOutPlan::default()
    };
    let parts = [submission("echo", &json!(2))];
    let parts = context.spawn_all("parts", parts, plan).await?;
    context.wait_for::<Value>("go").await?;
    context.wait_for::<Value>("note").await?;
    context.join(&parts).await?;
    let outputs: Vec<u32> = parts.outputs().await?;
    Ok(one + outputs[0])
}

#[tokio::test]
async fn a_task_of_which_something_stored_cannot_be_read_waits_for_an_operator() {
    for rows in [store::World::sqlite().await, store::World::postgres().await] {
        for (table, column, wrong, named, right) in CASES {
            let case = format!("{table}.{column}");
            let world = World::unhurried(rows.another().await).await;
            let registry = world.registry().with_fn("parts", parts);
            let executor = world.executor_with(registry, &[("default", 2)]).await;
            let task = world.submit(submission("parts", &json!(null))).await;
            let row = async || world.client.task(task).await.unwrap();
            eventually("it waits", row, |task| task.state == TaskState::Suspended).await;
            let name = StepName::new("parts").unwrap();
            let counts = async || world.store().fan_out(task, &name).await.unwrap().unwrap();
            eventually("the part has ended", counts, |counts| counts.open == 0).await;
            let id = rows.id(task.as_uuid());
            let set = async |table: &str, what: &str| {
                let which = if table == "task" { "parent" } else { "task" };
                rows.sql(&format!("update {table} set {what} where {which} = {id}"))
                    .await;
            };
            drop(world.signal(task, "note", &json!(null)).await); // It is kept until somebody waits for it.
            set(table, &format!("{column} = {wrong}")).await;
            drop(world.signal(task, "go", &json!(null)).await);
            let paused = world.ended(task).await;
            assert_eq!(paused.state, TaskState::Paused, "{case}: {paused:?}");
            let words = &paused.error.as_ref().unwrap().message;
            assert!(
                words.contains(&format!("of `{named}` cannot be read")),
                "{case}: {words}"
            );
            let other = world.run(submission("echo", &json!("others go on"))).await;
            assert_eq!(other.state, TaskState::Succeeded);
            set(named, right).await;
            let by = Operator::new("ann").unwrap();
            drop(world.client.resume(task, &by).await.unwrap());
            assert_eq!(output(&world.ended(task).await), json!(3), "{case}");
            let audit = world.store().audit(AuditDepth::All).await.unwrap();
            assert_eq!(audit.violations, [], "{case}");
            world.stop([executor]).await;
        }
        rows.end().await;
    }
}
