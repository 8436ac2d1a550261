//! Holding a store against its rules, and repairing it.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore::domain::limits::AUDIT_MAX;
use longshore::domain::{
    Audit, AuditDepth, Delivery, Ending, Failure, Subject, Submission, TaskId, TaskState,
    ViolationKind as Kind, unannounced,
};
use uuid::Uuid;

use super::World;
use super::world::{action, below, echo, failed, later, look, new, queue, record, succeeded};

async fn audit(world: &World) -> Audit {
    world.store.audit(AuditDepth::All).await.unwrap()
}

/// What is broken, as `rule: task`.
async fn broken(world: &World) -> Vec<(Kind, TaskId)> {
    let audit = audit(world).await;
    assert!(!audit.is_cut);
    let pair = |one: &longshore::domain::Violation| (one.kind, one.task().unwrap());
    audit.violations.iter().map(pair).collect()
}

fn with_deadline() -> Submission {
    Submission {
        deadline: Some(later(3600)),
        ..echo()
    }
}

fn scheduled() -> Submission {
    Submission {
        run_at: Some(later(3600)),
        ..with_deadline()
    }
}

/// A task in each state that can be reached, by each way that leads there.
async fn everything(world: &World) -> Vec<TaskId> {
    let executor = world.executor().await;
    let retried = Ending::RetryPlanned {
        failure: Failure::retry("later"),
        pause: Duration::from_hours(1),
    };
    let mut tasks = vec![
        world.submit_one(echo()).await,
        world.submit_one(scheduled()).await,
    ];
    for ending in [
        None,
        Some(succeeded()),
        Some(failed()),
        Some(Ending::Paused(Failure::fatal("look"))),
        Some(Ending::Cancelled(Failure::fatal("enough"))),
        Some(Ending::Released),
        Some(retried),
    ] {
        let task = world.submit_one(with_deadline()).await;
        world.claim(executor, &[task]).await;
        if let Some(ending) = ending {
            drop(world.settle(executor, task, 1, ending).await);
        }
        tasks.push(task);
    }
    // A tree that is cancelled while its root and a leaf run: one hears of it, the other ends before.
    let root = world.submit_one(scheduled()).await;
    world.submit_one(below(root)).await;
    drop(world.store.cancel(root, "enough").await.unwrap());
    let root = world.submit_one(echo()).await;
    world.claim(executor, &[root]).await;
    let children = [new(below(root)), new(below(root)), new(below(root))];
    let children = world.submit(&children).await;
    world.claim(executor, &children[..2]).await;
    drop(world.store.cancel(root, "enough").await.unwrap());
    drop(world.settle(executor, children[0], 1, succeeded()).await);
    drop(world.settle(executor, root, 1, Ending::Released).await);
    tasks.extend([root, children[0], children[1], children[2]]);
    // What time moves.
    let late = world.submit_one(with_deadline()).await;
    let due = world.submit_one(scheduled()).await;
    for (task, kind) in [(late, "deadline"), (due, "start")] {
        let sql = format!(
            "update timer set due_at = (select created_at from task where id = timer.task)
            where kind = '{kind}' and task = {}",
            world.id(task.as_uuid())
        );
        world.sql(&sql).await;
    }
    drop(world.store.due(10).await.unwrap());
    tasks.extend([late, due]);
    // What lost executors leave: one is taken over, one is about to be, one retired.
    let mut once = echo();
    once.options.delivery = Delivery::Once;
    let lost = [new(echo()), new(once.clone()), new(once)];
    let lost = world.submit(&lost).await;
    world.lost_executor(&lost[..2]).await;
    drop(world.store.take_over(None, 10).await.unwrap());
    world.lost_executor(&lost[2..]).await;
    let retiring = world.executor().await;
    let retired = world.ready(1).await;
    world.claim(retiring, &retired).await;
    drop(world.store.retire(retiring).await.unwrap());
    tasks.extend(lost);
    // A parent that is gone, while what it made goes on.
    let parent = world.submit_one(echo()).await;
    world.claim(executor, &[parent]).await;
    let orphan = world.submit_one(below(parent)).await;
    drop(world.settle(executor, parent, 1, succeeded()).await);
    let _pruned = world.store.prune(Duration::ZERO, 1000).await.unwrap();
    tasks.push(orphan);
    tasks
}

pub(crate) async fn what_the_store_itself_writes_breaks_no_rule(world: &World) {
    world.store.create_queue(&queue("bulk")).await.unwrap();
    everything(world).await;
    let finals = world.ready(2).await;
    let executor = world.executor().await;
    world.claim(executor, &finals).await;
    drop(world.settle(executor, finals[0], 1, succeeded()).await);
    drop(world.settle(executor, finals[1], 1, failed()).await);
    let listed = world.store.list(&super::reading::all()).await.unwrap();
    let states: BTreeSet<TaskState> = listed.tasks.iter().map(|task| task.state).collect();
    let unreachable = [
        TaskState::Blocked,
        TaskState::Suspended,
        TaskState::Cancelled,
    ];
    for state in TaskState::ALL {
        let is_there = states.contains(&state);
        assert!(
            is_there || unreachable.contains(&state),
            "no task is {state}"
        );
    }
    assert_eq!(broken(world).await, []);
}

/// What is made of one task, by hand, and the rule that it breaks.
const MEDDLING: &[(&str, &str, Kind)] = &[
    ("ready", "finished_at = created_at", Kind::End),
    ("succeeded", "finished_at = null", Kind::End),
    ("succeeded", "output = null", Kind::Outcome),
    (
        "succeeded",
        "error = '{\"message\":\"x\",\"retryable\":false}'",
        Kind::Outcome,
    ),
    ("failed", "error = null", Kind::Outcome),
    ("failed", "output = '1'", Kind::Outcome),
    ("paused", "error = null", Kind::Outcome),
    ("ready", "output = '1'", Kind::Outcome),
    ("ready", "attempt = -1", Kind::Unreadable),
    ("ready", "attempt = 1", Kind::Attempt),
    ("ready", "started_at = created_at", Kind::Attempt),
    ("running", "attempt = 0", Kind::Attempt),
    ("running", "attempt = 2147483647", Kind::Attempt),
    ("running", "started_at = null", Kind::Attempt),
    ("succeeded", "executor = null", Kind::Attempt),
    ("running", "executor = null", Kind::Owner),
    ("running", "executor = id", Kind::Owner),
    ("suspended", "waiting_for = ' fan_out:x '", Kind::Waker),
    ("ready", "ready_at = null", Kind::ReadyAt),
    ("scheduled", "run_at = null", Kind::Start),
    ("scheduled", "run_at = created_at", Kind::Start),
    ("scheduled", "deadline = created_at", Kind::Deadline),
    ("ready", "deadline = created_at", Kind::Deadline),
    ("scheduled", "deadline = null", Kind::StrayTimer),
    (
        "running",
        "cancel_requested_at = created_at, cancel_cause = '{\"message\":\"x\",\"retryable\":false}'",
        Kind::Request,
    ),
    ("ready", "cancel_requested_at = created_at", Kind::Wish),
    (
        "ready",
        "cancel_requested_at = created_at, cancel_cause = '{\"message\":\"x\",\"retryable\":false}'",
        Kind::Wish,
    ),
    ("ready", "state = 'blocked'", Kind::Waker),
    ("released", "state = 'suspended'", Kind::Waker),
    (
        "released",
        "state = 'suspended', waiting_for = ' timer '",
        Kind::Waker,
    ),
    ("ready", "waiting_for = ' timer '", Kind::Waker),
    ("ready", "root = executor", Kind::Tree),
    ("child", "root = id", Kind::Tree),
    (
        "below cancelled",
        "state = 'ready', finished_at = null, error = null, ready_at = created_at",
        Kind::Outlived,
    ),
    ("ready", "queue = 'nowhere'", Kind::Queue),
    ("paused", "failures = 2", Kind::Counts),
    ("ready", "crashes = -1", Kind::Unreadable),
    ("ready", "action = 'no action'", Kind::Unreadable),
    ("succeeded", "labels = '[1]'", Kind::Unreadable),
];

/// A task to meddle with.
async fn subject(world: &World, name: &str) -> TaskId {
    let settled = async |ending| {
        let (executor, task) = world.running(echo()).await;
        drop(world.settle(executor, task, 1, ending).await);
        task
    };
    match name {
        "ready" => world.ready(1).await[0],
        "running" => world.running(echo()).await.1,
        "scheduled" => world.submit_one(scheduled()).await,
        "succeeded" => settled(succeeded()).await,
        "failed" => settled(failed()).await,
        "paused" => settled(Ending::Paused(Failure::fatal("look"))).await,
        "released" => settled(Ending::Released).await,
        "child" => {
            let parent = world.ready(1).await[0];
            world.submit_one(below(parent)).await
        }
        _ => {
            let parent = world.ready(1).await[0];
            let child = world.submit_one(below(parent)).await;
            drop(world.store.cancel(parent, "enough").await.unwrap());
            world.sql("delete from ended_parent").await; // As if that had been forgotten.
            child
        }
    }
}

pub(crate) async fn each_violation_is_found_and_nothing_else(world: &World) {
    for (name, meddling, kind) in MEDDLING {
        let task = subject(world, name).await;
        let set = meddling.replace(
            "root = executor",
            &format!("root = {}", world.id(Uuid::nil())),
        );
        let id = world.id(task.as_uuid());
        world
            .sql(&format!("update task set {set} where id = {id}"))
            .await;
        assert_eq!(broken(world).await, [(*kind, task)], "{name}: {meddling}");
        world.sql("delete from timer; delete from task").await;
    }
}

pub(crate) async fn sub_tasks_that_are_counted_wrongly_are_found(world: &World) {
    let (executor, parent) = world.running(echo()).await;
    world.spawned(executor, parent, 2).await;
    assert_eq!(broken(world).await, []);
    for (wrong, right) in [
        ("open = open + 1", "open = open - 1"),
        ("open = open - 1", "open = open + 1"),
        ("stored = stored + 1", "stored = stored - 1"),
        ("in_flight = in_flight + 1", "in_flight = in_flight - 1"),
    ] {
        world.sql(&format!("update fan_out set {wrong}")).await;
        assert_eq!(broken(world).await, [(Kind::FanOut, parent)], "{wrong}");
        world.sql(&format!("update fan_out set {right}")).await;
    }
    assert_eq!(broken(world).await, []);
}

pub(crate) async fn a_stray_timer_or_request_is_found(world: &World) {
    let ready = world.ready(1).await[0];
    world
        .sql("insert into cancel_request (task) select id from task")
        .await;
    assert_eq!(broken(world).await, [(Kind::StrayRequest, ready)]);
    let (_, running) = world.running(echo()).await;
    world
        .sql("delete from cancel_request; insert into cancel_request (task) select id from task where state = 'running'")
        .await;
    assert_eq!(broken(world).await, [(Kind::StrayRequest, running)]);
    world
        .sql("delete from cancel_request; insert into timer (task, kind, due_at) select id, 'start', created_at from task where state = 'running'")
        .await;
    assert_eq!(broken(world).await, [(Kind::StrayTimer, running)]);
    world
        .sql("insert into cancel_request (task) select id from task where state = 'running'; delete from task where state = 'running'")
        .await;
    assert_eq!(
        broken(world).await,
        [(Kind::StrayTimer, running), (Kind::StrayRequest, running)]
    );
    let executor = world.executor().await;
    world
        .sql("delete from timer; delete from cancel_request; update executor set released_at = lease_ends_at")
        .await;
    let audit = audit(world).await;
    let is_it = |one: &longshore::domain::Violation| {
        one.kind == Kind::Executor && one.subject == Subject::Executor(executor)
    };
    assert!(audit.violations.iter().any(is_it), "{audit:?}");
}

pub(crate) async fn what_is_unreadable_is_found_with_its_column(world: &World) {
    let open = world.ready(1).await[0];
    let (executor, done) = world.running(echo()).await;
    drop(world.settle(executor, done, 1, failed()).await);
    world
        .sql("update task set options = '{}' where state = 'ready'; update task set error = 'no' where state = 'failed'")
        .await;
    let found = audit(world).await;
    let said: Vec<String> = found.violations.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].starts_with(&format!("unreadable {open}: `options`: missing field")),
        "{said:?}"
    );
    assert!(
        said[1].starts_with(&format!("unreadable {done}: `error`: ")),
        "{said:?}"
    );
    let open_only = world.store.audit(AuditDepth::Open).await.unwrap();
    assert_eq!(open_only.violations, found.violations[..1]);
    // A reason that only an executor would read.
    let (_, running) = world.running(echo()).await;
    drop(world.store.cancel(running, "enough").await.unwrap());
    world
        .sql("update task set options = null, error = null where state = 'ready'; delete from task where state = 'failed'; update task set cancel_cause = '?' where state = 'running'; update executor set slots = '?'")
        .await;
    let found = audit(world).await;
    let said: Vec<String> = found.violations.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|one| one.contains("`slots`: ")), "{said:?}");
    let cause = format!("unreadable {running}: `cancel_cause`: ");
    assert!(said.iter().any(|one| one.starts_with(&cause)), "{said:?}");
    assert_eq!(found.executors, [], "those that can be read");
}

pub(crate) async fn what_is_safe_is_repaired(world: &World) {
    let waiting = world.submit_one(scheduled()).await;
    let ready = world.submit_one(with_deadline()).await;
    let (executor, running) = world.running(echo()).await;
    drop(world.store.cancel(running, "enough").await.unwrap());
    world
        .sql("delete from timer; delete from cancel_request; update task set ready_at = null where state = 'ready'; insert into timer (task, kind, due_at) select id, 'start', created_at from task where state = 'ready'; insert into cancel_request (task) select id from task where state = 'scheduled'")
        .await;
    let expected = [
        (Kind::Start, waiting),
        (Kind::Deadline, waiting),
        (Kind::StrayRequest, waiting),
        (Kind::ReadyAt, ready),
        (Kind::Deadline, ready),
        (Kind::StrayTimer, ready),
        (Kind::Request, running),
    ];
    assert_eq!(broken(world).await, expected);
    let found = audit(world).await.violations;
    let taken = world.store.repair(&found).await.unwrap();
    assert_eq!(taken, longshore::store::TakenOver::default());
    assert_eq!(broken(world).await, []);
    let renewal = world
        .store
        .renew(executor, super::world::LONG)
        .await
        .unwrap();
    let longshore::store::Renewal::Held { cancels, .. } = renewal else {
        panic!("{renewal:?}");
    };
    assert_eq!(cancels, [(running, "enough".to_owned())]);
    let found = world
        .store
        .claim_idle(executor, &look(9))
        .await
        .unwrap()
        .tasks;
    assert_eq!(found[0].id, ready, "an idle executor finds it");
}

pub(crate) async fn what_runs_without_an_owner_is_released_as_from_a_lost_executor(world: &World) {
    let mut once = echo();
    once.options.delivery = Delivery::Once;
    let tasks = [new(echo()), new(echo()), new(once), new(echo())];
    let tasks = world.submit(&tasks).await;
    let gone = world.executor().await;
    world.claim(gone, &tasks).await;
    drop(world.store.cancel(tasks[3], "enough").await.unwrap());
    world.sql("delete from executor").await;
    world
        .sql("update task set executor = null where id = (select id from task order by id limit 1)")
        .await;
    let owners: Vec<_> = tasks.iter().map(|task| (Kind::Owner, *task)).collect();
    assert_eq!(broken(world).await, owners);
    let found = audit(world).await.violations;
    let taken = world.store.repair(&found).await.unwrap();
    let ids = |facts: &[longshore::domain::TaskFacts]| -> Vec<TaskId> {
        facts.iter().map(|facts| facts.id).collect()
    };
    assert_eq!(ids(&taken.released), tasks[..2]);
    assert_eq!(ids(&taken.ended), tasks[2..3]);
    assert_eq!(ids(&taken.cancelled), tasks[3..]);
    assert_eq!(broken(world).await, []);
    let failed = world.task(tasks[2]).await;
    assert_eq!((failed.state, failed.failures), (TaskState::Failed, 0));
    let stale = world.settle(gone, tasks[1], 1, succeeded()).await;
    assert_eq!(stale, longshore::store::Settled::Stale);
    let executor = world.executor().await;
    assert_eq!(world.claim(executor, &tasks).await.len(), 2);
}

pub(crate) async fn a_repair_leaves_alone_what_is_right_meanwhile(world: &World) {
    let (executor, running) = world.running(echo()).await;
    world
        .sql("update executor set released_at = lease_ends_at, lost_at = lease_ends_at")
        .await;
    let found = audit(world).await.violations;
    assert_eq!(found[0].kind, Kind::Owner);
    let mut enters = record("x1");
    enters.id = executor;
    world
        .store
        .enroll(&enters, super::world::LONG)
        .await
        .unwrap();
    let before = world.task(running).await;
    let taken = world.store.repair(&found).await.unwrap();
    assert_eq!(taken, longshore::store::TakenOver::default());
    assert_eq!(world.task(running).await, before);
    assert_eq!(broken(world).await, []);
}

pub(crate) async fn what_waits_for_long_is_told_with_who_could_run_it(world: &World) {
    let old = world.submit_one(echo()).await;
    let mut foreign = echo();
    foreign.action = action("foreign");
    let foreign = world.submit_one(foreign).await;
    let long_ago = later(-90);
    let sql = if world.is_postgres() {
        format!("update task set ready_at = '{long_ago}'")
    } else {
        format!("update task set ready_at = {}", long_ago.as_microsecond())
    };
    world.sql(&sql).await;
    let fresh = world.ready(1).await[0];
    assert_eq!(unannounced(&audit(world).await, None), [], "nobody lives");
    let executor = world.executor().await;
    let found = audit(world).await;
    let waiting: Vec<TaskId> = found.waiting.iter().map(|task| task.id).collect();
    assert_eq!(waiting.len(), 2);
    assert!(waiting.contains(&old) && waiting.contains(&foreign));
    let lost = unannounced(&found, None);
    assert_eq!(lost[0].task(), Some(old), "somebody has room");
    assert_eq!(lost.len(), 1, "nobody can run the other");
    let busy = world.ready(3).await;
    world.claim(executor, &busy).await;
    world.claim(executor, &[fresh]).await;
    let found = audit(world).await;
    assert_eq!((found.loads.len(), found.loads[0].running), (1, 4));
    assert_eq!(unannounced(&found, None), [], "all slots are taken");
}

pub(crate) async fn more_violations_than_can_be_told_are_cut(world: &World) {
    let batch: Vec<_> = (0..=AUDIT_MAX).map(|_| new(echo())).collect();
    world.submit(&batch).await;
    world.sql("update task set ready_at = null").await;
    let audit = audit(world).await;
    assert_eq!(audit.violations.len(), AUDIT_MAX);
    assert!(audit.is_cut);
}
