//! apalis-amqp: a quorum queue, persistent messages, no results; its producer does not ask for confirms.

use std::pin::Pin;
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_amqp::{AmqpBackend, Config};
use futures_util::Sink;
use lapin::options::QueueDeclareOptions;
use lapin::{Connection, ConnectionProperties};

use crate::Failure;
use crate::task::{Input, swallow};

const QUEUE: &str = "echo";

/// Tasks at once in the worker, and messages ahead of it.
const SLOTS: u16 = 200;

/// Clients that submit at once, each one by one.
const SUBMITTERS: usize = 16;

/// How long the broker may take to count what was submitted.
const PATIENCE: Duration = Duration::from_secs(30);

fn backend() -> Result<AmqpBackend<Input>, Failure> {
    let config = Config::default()
        .queue(QUEUE)
        .quorum(true)
        .prefetch_count(SLOTS);
    Ok(AmqpBackend::new_from_addr(std::env::var("AMQP_URL")?)?.with_config(config))
}

pub(crate) async fn submit(count: usize) -> Result<Duration, Failure> {
    let (backend, input) = (backend()?, Input::new()?);
    let begun = Instant::now();
    let clients: Vec<_> = (0..SUBMITTERS)
        .map(|first| tokio::spawn(push(backend.clone(), input.clone(), first, count)))
        .collect();
    let mut done = Vec::with_capacity(clients.len());
    for client in clients {
        // Kept: what is on its way may be lost with the client.
        done.push(client.await??);
    }
    let took = begun.elapsed();
    until_queued(count).await?;
    Ok(took)
}

/// Pushes every task that is this client's: from the `first` on, one of each [`SUBMITTERS`].
async fn push(
    mut backend: AmqpBackend<Input>,
    input: Input,
    first: usize,
    count: usize,
) -> Result<AmqpBackend<Input>, Failure> {
    for _ in (first..count).step_by(SUBMITTERS) {
        let mut persistent = MetadataStore::default();
        persistent.insert("delivery_mode", "2")?;
        let task = TaskBuilder::new(input.clone()).with_metadata(persistent);
        backend.push_task(task.build()).await?;
    }
    Ok(backend)
}

/// Without confirms a push is over before the broker has the message; what ends before that takes it along.
async fn until_queued(count: usize) -> Result<(), Failure> {
    let url = std::env::var("AMQP_URL")?;
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions {
        passive: true,
        durable: true,
        ..Default::default()
    };
    let begun = Instant::now();
    loop {
        let queue = channel
            .queue_declare(QUEUE.into(), passive, Default::default())
            .await?;
        let queued = queue.message_count() as usize;
        if queued == count {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{queued} of {count} tasks reached the queue").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn work() -> Result<(), Failure> {
    let mut backend = backend()?;
    // A worker that has never been a producer panics: it polls its consumer before there is one.
    std::future::poll_fn(|context| Sink::poll_ready(Pin::new(&mut backend), context)).await?;
    WorkerBuilder::new("bench")
        .backend(backend)
        .concurrency(SLOTS.into())
        .parallelize(tokio::spawn)
        .build(swallow)
        .run()
        .await?;
    Ok(())
}
