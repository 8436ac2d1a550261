//! Examples that need a server, run as they are.

use std::net::Ipv4Addr;

use longshore::background::Background;
use longshore::domain::TaskState;
use longshore::store::postgres::PostgresStore;
use longshore::store::{List, Store as _};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::database;
use crate::support::eventually::eventually;

#[path = "../../examples/axum_transaction.rs"]
#[expect(dead_code, reason = "a test calls `run` in the place of `main`")]
mod axum_transaction;

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn the_shop_has_an_order_and_its_task_or_neither() {
    longshore::broker::install_tls();
    let address = database::empty_database().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let orders = format!("http://{}/orders", listener.local_addr().unwrap());
    let background = Background::new();
    let stopping = background.stop_token();
    let database = address.clone();
    let run = async move {
        let stop = async move { stopping.cancelled().await };
        axum_transaction::run(&database, "embedded", listener, stop)
            .await
            .unwrap();
    };
    let ask = async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let order = |item: &str| client.post(&orders).json(&json!({"item": item}));
        let (status, refused) = answer(order("unicorn")).await;
        assert_eq!(
            (status, &refused["error"]),
            (404, &json!("we do not sell `unicorn`"))
        );
        let (status, taken) = answer(order("anchor")).await;
        assert_eq!(status, 200, "{taken}");
        let row = format!("{orders}/{}", taken["order"]);
        let shipped = eventually(
            "the order is shipped",
            async || answer(client.get(&row)).await,
            |(_, order)| order["shipped"] == true,
        );
        assert_eq!(shipped.await.1["item"], "anchor");
        // The order that was rolled back had the number before.
        let before = format!("{orders}/{}", taken["order"].as_i64().unwrap() - 1);
        assert_eq!(answer(client.get(&before)).await.0, 404);
        taken["task"].as_str().unwrap().to_owned()
    };
    let asked = async {
        let task = ask.await;
        background.stop();
        task
    };
    let ((), task) = tokio::join!(run, asked);

    let store = PostgresStore::connect(&address).await.unwrap();
    let all = List {
        limit: 10,
        ..List::default()
    };
    let tasks = store.list(&all).await.unwrap();
    let [only] = tasks.tasks.as_slice() else {
        panic!("{tasks:?}");
    };
    assert_eq!(
        (only.id.to_string(), only.state),
        (task, TaskState::Succeeded)
    );
    store.close().await;
    database::drop_database(&address).await;
}
