//! Why a task is where it is, over HTTP.

use longshore::broker::Broker as _;
use longshore::domain::QueueName;
use serde_json::json;

use super::{Server, text};
use crate::support::world::gate;

#[tokio::test]
async fn each_task_says_why_it_is_where_it_is() {
    let server = Server::start().await;
    let bulk = QueueName::new("bulk").unwrap();
    server.world.store().create_queue(&bulk).await.unwrap();
    server.world.broker.create_queue(&bulk).await.unwrap();
    let runs = server.world.submit(gate()).await.to_string();
    server.world.wait_at_gate(1).await;
    let mut asked = vec![("runs", runs)];
    for (what, body) in [
        ("first", json!({"action": "echo", "queue": "bulk"})),
        (
            "later",
            json!({"action": "echo", "run_at": "2100-01-01T00:00:00Z"}),
        ),
    ] {
        asked.push((
            what,
            text(&server.door.post("/v1/tasks", &body).await.body, "id"),
        ));
    }
    let ended = server
        .door
        .run(&json!({"action": "fail", "input": {"message": "no crane"}}))
        .await;
    asked.push(("ended", text(&ended, "id")));
    let mut said = Vec::new();
    for (what, id) in &asked {
        let answer = server.door.get(&format!("/v1/tasks/{id}/why")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(text(&answer.body, "id"), *id);
        let (state, verdict) = (text(&answer.body, "state"), text(&answer.body, "verdict"));
        let evidence = answer.body["evidence"].as_array().unwrap().len();
        said.push(format!(
            "{what}: {state}: {} ({evidence})",
            without_times(&verdict)
        ));
    }
    insta::assert_snapshot!(said.join("\n"), @r"
    runs: running: it runs: attempt 1 began [..] ago on `x` (host `localhost`, process [..] (1)
    first: ready: no live executor serves the queue `bulk` (1)
    later: scheduled: it waits for its time, which is due in [..] [..] (1)
    ended: failed: it failed [..] ago: no crane (3)
    ");
    server.world.gate.add_permits(1);
    server.stop().await;
}

/// The words without those that have a digit and a unit, and without the process: they differ each time.
fn without_times(said: &str) -> String {
    let is_time = |word: &&str| word.starts_with(|letter: char| letter.is_ascii_digit());
    let words = said.split(' ').map(|word| {
        if is_time(&word) && word.len() > 1 {
            "[..]"
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
