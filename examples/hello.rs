//! A first task: an action, an executor that runs it, and a client that waits for the result, all in one process.

#![expect(clippy::print_stdout, reason = "it shows its result")]

use std::time::Duration;

use longshore::action::Registry;
use longshore::client::ClientSettings;
use longshore::domain::{ActionName, Payload, Submission};
use longshore::runtime::Runtime;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::in_memory().await?;
    let registry = Registry::new().with_fn("greet", |_context, name: String| async move {
        Ok(format!("hello, {name}"))
    });
    let executor = runtime.executor_with_slots(registry, 4).await?;
    let client = runtime.client(ClientSettings::default()).await?;

    let submission = Submission::new(ActionName::new("greet")?, Payload::of("world")?);
    let limit = Duration::from_secs(10);
    let task = client.submit_and_wait(submission, limit).await?.into_task();
    println!("{}", task.output.ok_or("no output")?.as_str());

    let _drained = executor.drain(Duration::from_secs(1)).await;
    drop((client, executor));
    runtime.stop().await;
    Ok(())
}
