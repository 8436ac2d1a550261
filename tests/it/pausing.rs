//! A queue that an operator has paused: what runs goes on, nothing else begins, and nothing is forgotten.

use longshore::client::ClientSettings;
use longshore::domain::{Operator, QueueName, TaskState};
use serde_json::json;

use crate::support::eventually::eventually;
use crate::support::world::{World, gate, submission};

#[tokio::test]
async fn the_tasks_of_a_paused_queue_wait_and_go_on() {
    let (world, store) = World::flaky().await;
    let executor = world.executor(3).await;
    // Its tasks would begin in their own process, without the broker.
    let near = world
        .runtime
        .client(ClientSettings::default())
        .await
        .unwrap();
    let queue = QueueName::default_queue();
    let renewals = async || store.calls().get("renew").copied().unwrap_or(0);
    let renewed = async |times: usize| {
        let wanted = renewals().await + times;
        eventually("it renews", renewals, |count| *count >= wanted).await;
    };
    let runs = world.submit(gate()).await;
    world.wait_at_gate(1).await;
    let by = Operator::new("ann").unwrap();
    assert!(world.store().pause_queue(&queue, &by).await.unwrap());
    renewed(2).await;
    let far = world.submit(submission("echo", &json!(1))).await;
    let local = near.submit(submission("echo", &json!(2))).await.unwrap();
    let waiting = [far, local.task.id];
    // On this clock it would look for them ten times meanwhile.
    renewed(20).await;
    for task in waiting {
        assert_eq!(
            world.client.task(task).await.unwrap().state,
            TaskState::Ready
        );
        let (_, why) = world.client.why(task).await.unwrap();
        assert_eq!(why.verdict, "the queue `default` is paused");
    }
    world.gate.add_permits(1);
    assert_eq!(world.ended(runs).await.state, TaskState::Succeeded);
    // Whoever starts meanwhile takes none either.
    let late = world.executor(3).await;
    renewed(5).await;
    assert_eq!(
        world.client.task(far).await.unwrap().state,
        TaskState::Ready
    );
    assert!(world.store().resume_queue(&queue).await.unwrap());
    for task in waiting {
        let task = world.ended(task).await;
        assert_eq!((task.state, task.attempt.0), (TaskState::Succeeded, 1));
    }
    drop(near);
    world.stop([executor, late]).await;
}
