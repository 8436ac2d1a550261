//! What calls read. A plan that was made while the tables were empty must not read all of them when they are full.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use longshore::domain::{
    Attempt, Ending, ExecutorId, Failure, NewSignal, SignalName, Step, StepKind, StepName,
    StepOutcome, StepProgress, StepRecord, TaskState, WaitingFor,
};
use longshore::store::{IdleLook, Signalled, TakeSignal, TookSignal};
use sqlx::{Connection as _, PgConnection};

use super::World;
use super::world::{LONG, below, echo, look, new, payload, stored, succeeded};
use crate::support::eventually::eventually;

/// Other tasks that are there, and as many signals, steps and timers of others.
const OTHERS: i64 = 3_000;

/// What all calls together may read, of tables and indexes: far less than the others.
const READ_MAX: i64 = 1_500;

/// Everything that happens to one task again and again, in batches of one.
async fn calls(world: &World) {
    let store = &world.store;
    let go = SignalName::new("go").unwrap();
    let (executor, task) = world.running(echo()).await;
    let step = StepRecord {
        task,
        attempt: Attempt(1),
        step: Step {
            name: StepName::new("first").unwrap(),
            kind: StepKind::Step,
            progress: StepProgress::Ended {
                place: 1,
                outcome: StepOutcome::Done(payload("1")),
            },
        },
    };
    let recorded = store.record(executor, &[step]).await.unwrap();
    assert_eq!(recorded.len(), 1);
    let waiting_for = WaitingFor {
        signals: [go.clone()].into(),
        ..WaitingFor::default()
    };
    let suspended = Ending::Suspended {
        waiting_for,
        wakes_at: None,
    };
    stored(&world.settle(executor, task, 1, suspended).await);
    let signal = NewSignal {
        task,
        name: go.clone(),
        key: None,
        payload: payload("1"),
    };
    let signalled = store.signal(&[signal]).await.unwrap();
    assert!(matches!(
        &signalled[0],
        Signalled::Stored { woken: Some(_), .. }
    ));
    assert_eq!(world.claim(executor, &[task]).await.len(), 1);
    let wish = TakeSignal {
        task,
        attempt: Attempt(2),
        signal: go,
        step: StepName::new("second").unwrap(),
        place: 2,
    };
    let taken = store.take_signal(executor, &wish).await.unwrap();
    assert_eq!(taken, TookSignal::Taken(payload("1")));
    assert_eq!(store.steps(task).await.unwrap().len(), 2);
    let child = world.submit_one(below(task)).await;
    assert_eq!(world.claim(executor, &[child]).await.len(), 1);
    stored(&world.settle(executor, child, 1, succeeded()).await);
    stored(&world.settle(executor, task, 2, succeeded()).await);
    assert_eq!(store.tasks(&[task, child]).await.unwrap().tasks.len(), 2);
    drop(store.tree(task).await.unwrap());
    more_calls(world, executor).await;
}

/// What happens to others, and to none.
async fn more_calls(world: &World, executor: ExecutorId) {
    let store = &world.store;
    let failing = world.submit(&[new(echo())]).await[0];
    let given = store
        .submit_and_claim(executor, &[new(echo())])
        .await
        .unwrap();
    let local = given[0].1.as_ref().unwrap().id;
    stored(&world.settle(executor, local, 1, succeeded()).await);
    assert_eq!(world.claim(executor, &[failing]).await.len(), 1);
    let retried = Ending::RetryPlanned {
        failure: Failure::retry("no"),
        pause: LONG,
    };
    stored(&world.settle(executor, failing, 1, retried).await);
    drop(store.cancel(failing, "enough").await.unwrap());
    let running = world.submit_one(echo()).await;
    assert_eq!(world.claim(executor, &[running]).await.len(), 1);
    drop(store.cancel(running, "enough").await.unwrap());
    drop(store.renew(executor, LONG).await.unwrap());
    let cancelled = Ending::Cancelled(Failure::fatal("enough"));
    let end = stored(&world.settle(executor, running, 1, cancelled).await);
    assert_eq!(end, TaskState::Cancelled);

    assert_eq!(store.ended(&[local, failing]).await.unwrap().len(), 2);
    drop(store.glance(Duration::from_secs(14)).await.unwrap());
    drop(store.due(10).await.unwrap());
    // A look that goes on where the last one ended.
    let since = Some(Timestamp::now() - SignedDuration::from_millis(1));
    let look = IdleLook { since, ..look(10) };
    drop(store.claim_idle(executor, &look).await.unwrap());
}

/// Rows and entries of indexes that were read of this database, once everybody else has left it: then all is counted.
async fn read(world: &World) -> i64 {
    let mut connection = PgConnection::connect(&world.address).await.unwrap();
    let others = "select count(*) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    eventually(
        "the connections of the store are closed",
        async || {
            let count: i64 = sqlx::query_scalar(others)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            count
        },
        |count| *count == 0,
    )
    .await;
    let sum = "select ((select sum(seq_tup_read) from pg_stat_user_tables)
        + (select sum(idx_tup_read) from pg_stat_user_indexes))::int8";
    let mut connection = PgConnection::connect(&world.address).await.unwrap();
    sqlx::query_scalar(sum)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

/// Fills the tables behind the store's back, reading none, and without telling the planner.
async fn fill(world: &World) {
    let others =
        format!("(select gen_random_uuid() as id from generate_series(1, {OTHERS})) as new");
    for insert in [
        "insert into task (id, action, queue, state, priority, root, created_at, ready_at, finished_at, input)
            select id, 'echo', 'default', 'succeeded', 0, id, now(), now() - interval '1 hour', now(), 'null'",
        "insert into signal (task, name, payload, at) select id, 'go', '1', now()",
        "insert into step (task, name, kind, state, place) select id, 'first', 'step', 'done', 1",
        "insert into timer (task, kind, due_at) select id, 'start', now() + interval '1 hour'",
    ] {
        world.sql(&format!("{insert} from {others}")).await;
    }
}

pub(crate) async fn no_call_about_one_task_reads_the_others(mut world: World) {
    calls(&world).await;
    fill(&world).await;
    calls(&world).await;
    world.store.close().await;
    let with_old_plans = read(&world).await;
    assert!(
        with_old_plans < READ_MAX,
        "plans of empty tables: {with_old_plans}"
    );
    world.store = world.another().await;
    calls(&world).await;
    world.store.close().await;
    let with_new_plans = read(&world).await - with_old_plans;
    assert!(
        with_new_plans < READ_MAX,
        "plans of full tables: {with_new_plans}"
    );
    world.end().await;
}
