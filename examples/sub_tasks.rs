//! An action that creates sub-tasks, waits for them without a slot, and adds up what they return. Prints the tree.

#![expect(clippy::print_stdout, reason = "it shows its result")]

use std::time::Duration;

use longshore::action::{Context, Registry};
use longshore::client::ClientSettings;
use longshore::domain::{ActionName, Failure, FanOutPlan, Payload, Submission, Task};
use longshore::runtime::Runtime;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Creates one sub-task for each word; answers how many letters they found.
async fn count_text(context: Context, text: String) -> Result<usize, Failure> {
    let count_word = ActionName::new("count_word")?;
    let mut submissions = Vec::new();
    for word in text.split_whitespace() {
        submissions.push(Submission::new(count_word.clone(), Payload::of(word)?));
    }
    let plan = FanOutPlan::default();
    let words = context.spawn_all("words", submissions, plan).await?;
    context.join(&words).await?;
    let letters: Vec<usize> = words.outputs().await?;
    Ok(letters.into_iter().sum())
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
    for task in client.tree(parent.id).await?.tasks {
        let indent = if task.parent.is_some() { "  " } else { "" };
        println!("{indent}{}", line(&task));
    }

    let _drained = executor.drain(Duration::from_secs(1)).await;
    drop((client, executor));
    runtime.stop().await;
    Ok(())
}
