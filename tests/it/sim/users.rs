//! People and programs outside: they submit, wait and cancel through any web server that lives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore::client::{Client, ClientError, SubmitError, Waited};
use longshore::domain::{IdempotencyKey, NewSignal, Payload, SignalName, Submission, TaskId};
use longshore::store::Signalled;

use super::chance::Chance;
use super::fleet::Fleet;
use super::work::{GO, Spec};

/// How long a user waits before trying again.
const AGAIN: Duration = Duration::from_millis(200);

/// How long a user waits who asks only once: longer than any simulation.
const FOR_EVER: Duration = Duration::from_hours(2);

/// What one request to a web server came to.
enum Answer {
    Ended,
    Stored,
    Again,
}

/// Lets users submit `specs`, and wait for them and cancel them as they say.
pub(super) fn come(fleet: &Arc<Fleet>, specs: &[Spec], chance: &mut Chance) {
    for spec in specs {
        fleet.users.fetch_add(1, Ordering::Relaxed);
        let user = Box::pin(submit(Arc::clone(fleet), spec.clone(), chance.fork()));
        fleet.hub.background.spawn(user);
        if let Some(at) = spec.signalled_at {
            fleet.users.fetch_add(1, Ordering::Relaxed);
            let user = Box::pin(signal(Arc::clone(fleet), spec.id(), at));
            fleet.hub.background.spawn(user);
        }
        if let Some(at) = spec.cancelled_at {
            fleet.users.fetch_add(1, Ordering::Relaxed);
            let user = Box::pin(cancel(Arc::clone(fleet), spec.id(), at));
            fleet.hub.background.spawn(user);
        }
    }
}

async fn submit(fleet: Arc<Fleet>, spec: Spec, mut chance: Chance) {
    let hub = &fleet.hub;
    hub.pause(spec.submitted_at).await;
    let mut is_stored = false;
    loop {
        let (client, instance) = fleet.web().await;
        let dead = instance.process.dead.clone();
        let limit = if chance.hits(500) {
            FOR_EVER
        } else {
            chance.between(Duration::ZERO, Duration::from_mins(1))
        };
        let ask = async {
            if is_stored {
                wait(&fleet, &client, spec.id(), limit).await
            } else if chance.hits(700) {
                submit_and_wait(&fleet, &client, spec.submission.clone(), limit).await
            } else {
                let answer = client.submit(spec.submission.clone()).await;
                answer.map_or_else(|error| again(&fleet, &error), |_| Answer::Stored)
            }
        };
        let answer = tokio::select! {
            biased;
            answer = Box::pin(ask) => answer,
            () = dead.cancelled() => Answer::Again,
        };
        match answer {
            Answer::Ended => break,
            Answer::Stored => {
                is_stored = true;
                hub.model().promised(spec.id());
            }
            Answer::Again => hub.pause(AGAIN).await,
        }
    }
    hub.say(format_args!("{} is heard of", hub.name(spec.id())));
    fleet.users.fetch_sub(1, Ordering::Relaxed);
}

async fn submit_and_wait(
    fleet: &Fleet,
    client: &Client,
    submission: Submission,
    limit: Duration,
) -> Answer {
    match client.submit_and_wait(submission, limit).await {
        Ok(waited) => heard(fleet, &waited),
        Err(error) => again(fleet, &error),
    }
}

async fn wait(fleet: &Fleet, client: &Client, task: TaskId, limit: Duration) -> Answer {
    match client.wait(task, limit).await {
        Ok(waited) => heard(fleet, &waited),
        Err(ClientError::Store(error)) if error.is_transient() => Answer::Again,
        Err(error) => {
            fleet
                .hub
                .model()
                .violated(format!("a client cannot wait: {error}"));
            Answer::Again
        }
    }
}

fn heard(fleet: &Fleet, waited: &Waited) -> Answer {
    match waited {
        Waited::Ended(task) => {
            fleet.hub.model().heard(task);
            Answer::Ended
        }
        Waited::StillOpen(_) => Answer::Stored,
    }
}

fn again(fleet: &Fleet, error: &SubmitError) -> Answer {
    let is_transient = matches!(error, SubmitError::Store(error) if error.is_transient());
    if !is_transient {
        fleet
            .hub
            .model()
            .violated(format!("a task is refused: {error}"));
    }
    Answer::Again
}

/// Sends its signal to a task, again and again until a web server has answered that the task is known.
async fn signal(fleet: Arc<Fleet>, task: TaskId, at: Duration) {
    fleet.hub.pause(at).await;
    let signal = NewSignal {
        task,
        name: SignalName::new(GO).unwrap(),
        key: Some(IdempotencyKey::new("go").unwrap()),
        payload: Payload::of(&1).unwrap(),
    };
    loop {
        let (client, instance) = fleet.web().await;
        let dead = instance.process.dead.clone();
        let answer = tokio::select! {
            biased;
            answer = client.signal(signal.clone()) => answer.ok(),
            () = dead.cancelled() => None,
        };
        if answer.is_some_and(|answer| answer != Signalled::Unknown) {
            break;
        }
        fleet.hub.pause(AGAIN).await;
    }
    fleet.users.fetch_sub(1, Ordering::Relaxed);
}

async fn cancel(fleet: Arc<Fleet>, task: TaskId, at: Duration) {
    fleet.hub.pause(at).await;
    loop {
        let (client, instance) = fleet.web().await;
        let dead = instance.process.dead.clone();
        let answer = tokio::select! {
            biased;
            answer = client.cancel(task, "nobody needs it") => answer.ok(),
            () = dead.cancelled() => None,
        };
        if answer.is_some() {
            break;
        }
        fleet.hub.pause(AGAIN).await;
    }
    fleet.users.fetch_sub(1, Ordering::Relaxed);
}
