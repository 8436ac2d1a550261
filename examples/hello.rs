//! A first task: an action, an executor that runs it, and a client that waits for the result, all in one process.

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
    let waited = client.submit_and_wait(submission, Duration::from_secs(10));
    println!(
        "{}",
        waited
            .await?
            .into_task()
            .output
            .unwrap_or_else(Payload::null)
            .as_str()
    );

    let _drained = executor.drain(Duration::from_secs(1)).await;
    drop((client, executor));
    runtime.stop().await;
    Ok(())
}
