//! Tasks that are suspected of killing their executors run on trial: one begins at a time, and the store knows which. If the
//! executor dies, that one is to blame, and its neighbours are not.

use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Finished, TimeLimit, until_it_ends};
use super::running::Running;
use super::{Shared, attempt};
use crate::action::Stop;
use crate::domain::Task;

/// How long the next suspect waits for one that goes on: what kills, mostly kills soon, and innocent tasks of hours must
/// not queue up behind each other.
const TRIAL_DURATION: Duration = Duration::from_secs(10);

/// Runs a suspect to the end of its attempt, as [`until_it_ends`] does, after it was its turn.
pub(super) async fn run(
    shared: &Arc<Shared>,
    task: &Arc<Task>,
    running: &Running,
    limit: Option<TimeLimit>,
) -> Finished {
    let mut stop = running.stop();
    let begun = shared.clock.monotonic();
    let turn = async {
        let turn = shared.trial.acquire().await.ok()?;
        let noted = || shared.store.put_on_trial(shared.id, task.id, task.attempt);
        let noted = shared.until_answered(task.id, noted).await?;
        if let Err(error) = noted {
            tracing::error!(task.id = %task.id, error = %error, "The trial of task `{}` cannot be noted", task.id);
        }
        Some(turn)
    };
    let turn = tokio::select! {
        biased;
        _ = stop.wait_for(Option::is_some) => return Finished::Dropped,
        // A time limit counts from when it begins, a deadline does not wait.
        () = attempt::pass(shared, deadline(limit)) => {
            running.ask(Stop::TimeLimit);
            return Finished::Dropped;
        }
        turn = turn => turn,
    };
    tracing::info!(task.id = %task.id, task.crashes = task.crashes,
        "Task `{}` runs on trial: executors died while it ran", task.id);
    let waited = shared.clock.monotonic().saturating_sub(begun);
    let limit = limit.map(|limit| match limit {
        TimeLimit::Timeout(limit) => limit,
        TimeLimit::Deadline(limit) => limit.saturating_sub(waited),
    });
    let mut running = Box::pin(until_it_ends(shared, task, running, limit));
    tokio::select! {
        biased;
        result = &mut running => return result,
        () = shared.clock.sleep(TRIAL_DURATION) => drop(turn),
    }
    running.await
}

fn deadline(limit: Option<TimeLimit>) -> Option<Duration> {
    match limit {
        Some(TimeLimit::Deadline(limit)) => Some(limit),
        Some(TimeLimit::Timeout(_)) | None => None,
    }
}
