//! A shop: an order and the task that ships it are stored in one transaction, so there is never one without the other.
//!
//! ```text
//! cargo run --example axum_transaction -- postgres://USER:PASSWORD@HOST/DATABASE
//! curl localhost:3000/orders -H 'Content-Type: application/json' -d '{"item": "anchor"}'
//! curl localhost:3000/orders/1
//! curl localhost:3000/orders -H 'Content-Type: application/json' -d '{"item": "unicorn"}'
//! ```
//!
//! The last one is refused, and leaves neither an order nor a task. With `amqp://…` as the second argument the tasks
//! travel through RabbitMQ, and the executor may as well be another process on another host.

use std::error::Error;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use longshore::action::Registry;
use longshore::client::{Client, ClientSettings};
use longshore::domain::{ActionName, Failure, Payload, Submission};
use longshore::runtime::Runtime;
use longshore::store::postgres::PostgresStore;
use longshore::store::postgres::sqlx::{self, PgPool};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What the shop sells, and what was ordered. A real application has migrations for this.
const SCHEMA: &str = "
    create table if not exists stock (item text primary key);
    create table if not exists orders (
        id bigint generated always as identity primary key, item text not null, shipped boolean not null default false
    );
    insert into stock values ('anchor'), ('rope') on conflict do nothing";

/// What every request works with.
#[derive(Clone)]
struct Shop {
    pool: PgPool,
    client: Client,
}

type Answer = Result<Json<Value>, Refused>;

/// Whatever goes wrong, as an answer. `?` makes one of any error.
struct Refused(StatusCode, String);

impl<E: Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl axum::response::IntoResponse for Refused {
    fn into_response(self) -> axum::response::Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// `POST /orders`: the order and its task, both or neither.
async fn take_order(State(shop): State<Shop>, Json(wish): Json<Value>) -> Answer {
    let item = wish["item"].as_str().unwrap_or_default();
    let mut transaction = shop.pool.begin().await?;

    let insert = sqlx::query_scalar("insert into orders (item) values ($1) returning id");
    let order: i64 = insert.bind(item).fetch_one(&mut *transaction).await?;

    let wanted = Submission::new(ActionName::new("ship")?, Payload::of(&order)?);
    let task = shop.client.prepare(wanted).await?;
    let receipts = PostgresStore::submit_in(&mut transaction, &[task]).await?;

    // Whoever returns before the commit takes back everything above, the task included.
    let stock = sqlx::query("select from stock where item = $1").bind(item);
    if stock.fetch_optional(&mut *transaction).await?.is_none() {
        let reason = format!("we do not sell `{item}`");
        return Err(Refused(StatusCode::NOT_FOUND, reason));
    }
    transaction.commit().await?;

    // Now it is true, and now it may be said. A crash just here costs seconds: executors look for what nobody announced.
    shop.client.announce(&receipts).await;
    let task = receipts[0].task.id.to_string();
    Ok(Json(json!({"order": order, "task": task})))
}

/// `GET /orders/{id}`: whether it is shipped.
async fn show_order(State(shop): State<Shop>, Path(order): Path<i64>) -> Answer {
    let select = sqlx::query_as("select item, shipped from orders where id = $1").bind(order);
    let found: Option<(String, bool)> = select.fetch_optional(&shop.pool).await?;
    let none = || Refused(StatusCode::NOT_FOUND, "no such order".to_owned());
    let (item, shipped) = found.ok_or_else(none)?;
    Ok(Json(json!({"item": item, "shipped": shipped})))
}

/// The action `ship`. It may run twice when an executor dies in the middle, and shipping twice changes nothing.
async fn ship(pool: PgPool, order: i64) -> Result<(), Failure> {
    let update = sqlx::query("update orders set shipped = true where id = $1").bind(order);
    update.execute(&pool).await?;
    Ok(())
}

/// The whole shop on one database: it serves requests and runs tasks until `stop` resolves.
pub(crate) async fn run(
    database: &str,
    broker: &str,
    listener: TcpListener,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::connect(&database.parse()?, &broker.parse()?, "shop").await?;
    runtime.store().migrate().await?;
    let pool = PgPool::connect(database).await?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;

    let orders = pool.clone();
    let actions = Registry::new().with_fn("ship", move |_, order| ship(orders.clone(), order));
    let executor = runtime.executor_with_slots(actions, 4).await?;
    let client = runtime.client(ClientSettings::default()).await?;
    let router = Router::new()
        .route("/orders", post(take_order))
        .route("/orders/{id}", get(show_order))
        .with_state(Shop { pool, client });
    let serving = axum::serve(listener, router);
    serving.with_graceful_shutdown(stop).await?;

    let _drained = executor.drain(Duration::from_secs(10)).await;
    drop(executor);
    runtime.stop().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let database = arguments.next().ok_or("give the address of a database")?;
    let broker = arguments.next().unwrap_or("embedded".to_owned());
    let listener = TcpListener::bind("localhost:3000").await?;
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    run(&database, &broker, listener, interrupted).await
}
