//! Whether the process lives, and whether it can work.

use std::sync::Arc;

use longshore::background::Background;
use longshore::broker::Broker;
use longshore::broker::amqp::AmqpBroker;
use longshore::client::ClientSettings;
use longshore::clock::SystemClock;
use longshore::http::App;
use longshore::runtime::Runtime;
use longshore::store::StoreAddress;
use serde_json::json;

use super::{Door, Server};

/// Nobody listens on it: ports below 1024 are taken by services with a name, and port 1 by none.
const REFUSED: &str = "amqp://user:hunter2@127.0.0.1:1/v";

#[tokio::test]
async fn a_healthy_server_is_ready() {
    let server = Server::start().await;
    assert_eq!(server.door.get("/livez").await.text, "live\n");
    let ready = server.door.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        ready.body,
        json!({"ready": true, "store": "up", "broker": "up"})
    );
    server.stop().await;
}

#[tokio::test]
async fn without_a_broker_it_is_not_ready_and_still_takes_tasks() {
    longshore::broker::install_tls();
    let address: StoreAddress = "sqlite::memory:".parse().unwrap();
    let store = address.open().await.unwrap();
    store.migrate().await.unwrap();
    let clock = SystemClock::shared();
    let background = Background::new();
    let broker: Arc<dyn Broker> =
        AmqpBroker::connect(REFUSED, "test", Arc::clone(&clock), &background)
            .await
            .unwrap();
    let runtime = Runtime::of(store, broker, clock, Background::new());
    let app = App {
        client: runtime.client(ClientSettings::default()).await.unwrap(),
        store: Arc::clone(runtime.store()),
        broker: Arc::clone(runtime.broker()),
    };
    let door = Door::open(app).await;
    let ready = door.get("/readyz").await;
    insta::assert_snapshot!(format!("{} {}", ready.status, ready.text), @r#"503 {"ready":false,"store":"up","broker":"it is away: Connection refused (os error 111)"}"#);
    let accepted = door.post("/v1/tasks", &json!({"action": "echo"})).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let tap = door.get("/v1/taps").await;
    insta::assert_snapshot!(format!("{} {}", tap.status, tap.text), @r#"503 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the broker does not answer: Connection refused (os error 111)","hint":"try again when `/readyz` says that the broker is up"}"#);
    assert_eq!(door.get("/livez").await.status, 200);
    door.close().await;
    runtime.broker().close().await;
    runtime.store().close().await;
}

#[tokio::test]
async fn without_its_store_it_lives_and_says_so_everywhere() {
    let mut server = Server::start().await;
    let executor = server.executors.pop().unwrap();
    assert_eq!(
        executor
            .drain(crate::support::world::PATIENCE)
            .await
            .given_back,
        0
    );
    server.world.store().close().await;
    let mut said = Vec::new();
    for path in ["/livez", "/readyz", "/v1/tasks", "/v1/queues"] {
        let answer = server.door.get(path).await;
        said.push(format!(
            "GET {path} {} {}",
            answer.status,
            answer.text.trim()
        ));
    }
    let body = json!({"action": "echo"});
    let answer = server.door.post("/v1/tasks", &body).await;
    said.push(format!("POST /v1/tasks {} {}", answer.status, answer.text));
    insta::assert_snapshot!(said.join("\n"), @r#"
    GET /livez 200 live
    GET /readyz 503 {"ready":false,"store":"the store does not answer: attempted to acquire a connection on a closed pool","broker":"up"}
    GET /v1/tasks 503 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the store does not answer: attempted to acquire a connection on a closed pool","hint":"try again; a submission with an `id` or an idempotency key stays one task"}
    GET /v1/queues 503 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the store does not answer: attempted to acquire a connection on a closed pool","hint":"try again; a submission with an `id` or an idempotency key stays one task"}
    POST /v1/tasks 503 {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the store does not answer: attempted to acquire a connection on a closed pool","hint":"try again; a submission with an `id` or an idempotency key stays one task"}
    "#);
    server.stop().await;
}
