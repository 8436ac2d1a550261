//! apalis-postgres: tasks and results in tables; told of new tasks by NOTIFY, and looking each second besides.

use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use futures_util::StreamExt;
use ulid::Ulid;

use crate::Failure;
use crate::task::{Input, echo};

/// Tasks at once in the worker, and tasks that it fetches at once.
const SLOTS: usize = 200;

/// Tasks of one insert.
const BATCH: usize = 500;

/// The pause between two tasks, so that each finds the system at rest.
const PAUSE: Duration = Duration::from_millis(5);

/// Tasks before the first that counts.
const WARM_UP: usize = 3;

async fn pool() -> Result<PgPool, Failure> {
    Ok(PgPool::connect(&std::env::var("DATABASE_URL")?).await?)
}

fn backend(pool: &PgPool) -> PostgresStorage<Input> {
    let config = Config::default().queue("echo").batch_size(SLOTS);
    PostgresStorage::new(pool).with_config(config)
}

pub(crate) async fn prepare() -> Result<(), Failure> {
    Ok(PostgresStorage::setup(&pool().await?).await?)
}

pub(crate) async fn submit(count: usize) -> Result<Duration, Failure> {
    let mut backend = backend(&pool().await?);
    let inputs = vec![Input::new()?; count];
    let begun = Instant::now();
    for batch in inputs.chunks(BATCH) {
        backend.push_bulk(batch.to_vec()).await?;
    }
    Ok(begun.elapsed())
}

pub(crate) async fn work() -> Result<(), Failure> {
    let backend = backend(&pool().await?)
        .with_pubsub()
        .poll_with_interval(Duration::from_secs(1));
    WorkerBuilder::new("bench")
        .backend(backend)
        .concurrency(SLOTS)
        .parallelize(tokio::spawn)
        .build(echo)
        .run()
        .await?;
    Ok(())
}

pub(crate) async fn latency(count: usize) -> Result<Vec<f64>, Failure> {
    let mut backend = backend(&pool().await?);
    let input = Input::new()?;
    let mut waits_ms = Vec::with_capacity(count);
    for _ in 0..WARM_UP + count {
        let id = TaskId::Ulid(Ulid::generate());
        let begun = Instant::now();
        let task = TaskBuilder::new(input.clone()).task_id(id.clone()).build();
        backend.push_task(task).await?;
        let mut results = WaitForCompletion::<Input>::wait_for_single(&mut backend, id);
        let result = results.next().await.ok_or("the result does not come")??;
        result.take()?;
        waits_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(waits_ms.split_off(WARM_UP))
}
