//! An action that creates sub-tasks. Prints the tree once all of them have ended.

#![expect(clippy::print_stdout, reason = "it shows its result")]

use std::time::Duration;

use longshore::action::{Context, Registry};
use longshore::client::ClientSettings;
use longshore::domain::{ActionName, Failure, Payload, Submission, Task};
use longshore::runtime::Runtime;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates one sub-task for each word; answers how many. It does not wait for them.
async fn count_text(context: Context, text: String) -> Result<usize, Failure> {
    let words: Vec<&str> = text.split_whitespace().collect();
    for word in &words {
        let submission = Submission::new(ActionName::new("count_word")?, Payload::of(word)?);
        context.spawn(submission).await?;
    }
    Ok(words.len())
}

fn line(task: &Task) -> String {
    let output = task.output.as_ref().map_or("-", Payload::as_str);
    format!(
        "{} {} {} -> {output}",
        task.action,
        task.input.as_str(),
        task.state
    )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = Runtime::in_memory().await?;
    let registry = Registry::new()
        .with_fn("count_text", count_text)
        .with_fn("count_word", |_context, word: String| async move {
            Ok(word.chars().count())
        });
    let executor = runtime.executor_with_slots(registry, 4).await?;
    let client = runtime.client(ClientSettings::default()).await?;

    let text = Payload::of("longshoremen unload whatever ship comes in")?;
    let submission = Submission::new(ActionName::new("count_text")?, text);
    let parent = client
        .submit_and_wait(submission, PATIENCE)
        .await?
        .into_task();
    // A parent ends on its own: whoever wants the sub-tasks waits for them too.
    for task in client.tree(parent.id).await?.tasks.iter().skip(1) {
        let _ended = client.wait(task.id, PATIENCE).await?;
    }
    for task in client.tree(parent.id).await?.tasks {
        let indent = if task.parent.is_some() { "  " } else { "" };
        println!("{indent}{}", line(&task));
    }

    let _drained = executor.drain(Duration::from_secs(1)).await;
    drop((client, executor));
    runtime.stop().await;
    Ok(())
}
