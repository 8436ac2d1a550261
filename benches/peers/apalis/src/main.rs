//! The task of the benchmark on apalis, over RabbitMQ or PostgreSQL.
//!
//!     apalis-peer amqp|postgres submit|worker|latency [COUNT]

mod amqp;
mod postgres;
mod task;

use std::time::Duration;

use serde_json::json;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["amqp", "submit", count] => submitted(amqp::submit(count.parse()?).await?),
        ["amqp", "worker"] => amqp::work().await?,
        ["postgres", "prepare"] => postgres::prepare().await?,
        ["postgres", "submit", count] => submitted(postgres::submit(count.parse()?).await?),
        ["postgres", "worker"] => postgres::work().await?,
        ["postgres", "latency", count] => {
            let waits_ms = postgres::latency(count.parse()?).await?;
            println!("{}", json!({ "waits_ms": waits_ms }));
        }
        _ => return Err("apalis-peer amqp|postgres prepare|submit|worker|latency [COUNT]".into()),
    }
    Ok(())
}

fn submitted(took: Duration) {
    println!("{}", json!({ "seconds": took.as_secs_f64() }));
}
