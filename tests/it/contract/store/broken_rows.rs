//! Rows that nobody could have written: each is named, and everything else goes on.

use longshore::domain::{Delivery, Ending, Failure, OnFailure, Submission, TaskState};
use longshore::store::{List, Renewal, Settled, StoreError};

use super::World;
use super::world::{LONG, below, echo, look, settlement, stored, succeeded};

/// The first of the tasks.
const FIRST: &str = "id = (select id from task order by id limit 1)";

fn reason(error: StoreError) -> (String, String) {
    let StoreError::Corrupt { row, reason } = error else {
        panic!("{error:?}");
    };
    (row, reason)
}

pub(crate) async fn a_row_that_cannot_be_read_is_named_and_hides_no_other(world: &World) {
    let root = world.ready(1).await[0];
    let broken = world.submit_one(below(root)).await;
    let leaf = world.submit_one(below(broken)).await;
    world
        .sql("update task set options = '{broken' where root <> id and parent = root")
        .await;
    let (row, why) = reason(world.store.task(broken).await.unwrap_err());
    assert_eq!(row, format!("`{broken}` of `task`"));
    assert!(why.starts_with("`options`: "), "{why}");
    let list = world.store.list(&super::reading::all()).await.unwrap();
    let tree = world.store.tree(root).await.unwrap();
    let tasks = world.store.tasks(&[leaf, broken, root]).await.unwrap();
    for listed in [list, tree, tasks] {
        let mut ids: Vec<_> = listed.tasks.iter().map(|task| task.id).collect();
        ids.sort();
        assert_eq!(ids, [root, leaf]);
        let [row] = listed.unreadable.as_slice() else {
            panic!("{listed:?}");
        };
        assert_eq!(row.id, broken);
        assert!(row.to_string().contains("`options`: "), "{row}");
    }
    let page = List {
        limit: 2,
        ..List::default()
    };
    let page = world.store.list(&page).await.unwrap();
    assert_eq!(page.next(2), Some(broken), "it is part of the page");
}

pub(crate) async fn a_task_whose_row_cannot_be_read_is_paused_when_it_is_claimed(world: &World) {
    let tasks = world.ready(3).await;
    world
        .sql(&format!(
            "update task set options = '{{broken' where {FIRST}"
        ))
        .await;
    let executor = world.executor().await;
    let claimed = world.claim(executor, &tasks).await;
    assert_eq!(claimed.len(), 2, "the others are not held up");
    world.sql("update task set options = null").await;
    let found = world.task(tasks[0]).await;
    assert_eq!((found.state, found.failures), (TaskState::Paused, 0));
    let message = found.error.unwrap().message;
    let place = format!("the row `{}` of `task` cannot be read: `options`", tasks[0]);
    assert!(message.starts_with(&place), "{message}");
}

pub(crate) async fn an_attempt_that_cannot_be_counted_on_pauses_the_task(world: &World) {
    for by_idle_look in [false, true] {
        let tasks = world.ready(2).await;
        world
            .sql("update task set attempt = 2147483647 where state = 'ready' and id = (select id from task where state = 'ready' order by id limit 1)")
            .await;
        let executor = world.executor().await;
        let claimed = if by_idle_look {
            world
                .store
                .claim_idle(executor, &look(9))
                .await
                .unwrap()
                .tasks
        } else {
            world.claim(executor, &tasks).await
        };
        let claimed: Vec<_> = claimed.iter().map(|task| task.id).collect();
        assert_eq!(claimed, [tasks[1]], "the others are not held up");
        let found = world.task(tasks[0]).await;
        assert_eq!(found.state, TaskState::Paused);
        let message = found.error.unwrap().message;
        assert!(
            message.ends_with("`attempt`: no attempt is counted after 2147483646"),
            "{message}"
        );
        let late = world.settle(executor, tasks[0], 2_147_483_647, succeeded());
        assert_eq!(late.await, Settled::Stale);
    }
}

pub(crate) async fn an_attempt_below_zero_pauses_the_task(world: &World) {
    let tasks = world.ready(2).await;
    world
        .sql(&format!("update task set attempt = -5 where {FIRST}"))
        .await;
    let executor = world.executor().await;
    assert_eq!(world.claim(executor, &tasks).await.len(), 1);
    world.sql("update task set attempt = 1").await;
    let found = world.task(tasks[0]).await;
    assert_eq!(found.state, TaskState::Paused);
    let message = found.error.unwrap().message;
    assert!(message.contains("cannot be read: `attempt`: "), "{message}");
}

pub(crate) async fn labels_that_are_no_json_hide_no_other_task(world: &World) {
    let broken = world.submit_one(echo().with_label("team", "red")).await;
    world.sql("update task set labels = '{\"team\":'").await;
    let right = world.submit_one(echo().with_label("team", "red")).await;
    let list = List {
        labels: vec![("team".to_owned(), "red".to_owned())],
        ..super::reading::all()
    };
    let listed = world.store.list(&list).await.unwrap();
    let ids: Vec<_> = listed.tasks.iter().map(|task| task.id).collect();
    assert_eq!(ids, [right]);
    let all = world.store.list(&super::reading::all()).await.unwrap();
    assert_eq!(all.unreadable[0].id, broken);
}

pub(crate) async fn a_wish_whose_reason_cannot_be_read_fails_no_renewal(world: &World) {
    let (executor, task) = world.running(echo()).await;
    drop(world.store.cancel(task, "enough").await.unwrap());
    world.sql("update task set cancel_cause = 'enough'").await;
    let renewal = world.store.renew(executor, LONG).await.unwrap();
    let Renewal::Held { cancels, .. } = renewal else {
        panic!("{renewal:?}");
    };
    assert_eq!(cancels[0].0, task, "the wish stands");
    assert_eq!(cancels.len(), 1);
}

pub(crate) async fn failures_at_their_end_hold_up_no_settlement(world: &World) {
    let tasks = world.ready(2).await;
    let executor = world.executor().await;
    world.claim(executor, &tasks).await;
    world
        .sql(&format!(
            "update task set failures = 2147483647 where {FIRST}"
        ))
        .await;
    let failed = Ending::Failed(Failure::fatal("no"));
    let batch = [
        settlement(tasks[0], 1, failed),
        settlement(tasks[1], 1, succeeded()),
    ];
    let settled = world.store.settle(executor, &batch).await.unwrap();
    assert_eq!(stored(&settled[0]), TaskState::Failed);
    assert_eq!(stored(&settled[1]), TaskState::Succeeded);
}

pub(crate) async fn a_lost_task_whose_options_cannot_be_read_is_paused(world: &World) {
    let mut once = echo();
    once.options.delivery = Delivery::Once;
    once.options.on_failure = OnFailure::Fail;
    let broken = world.submit_one(once).await;
    let other = world.submit_one(Submission { ..echo() }).await;
    world.lost_executor(&[broken, other]).await;
    world
        .sql(&format!("update task set options = '[]' where {FIRST}"))
        .await;
    let taken = world.store.take_over(None, 10).await.unwrap();
    assert_eq!(taken.released[0].id, other);
    assert_eq!(
        (taken.ended[0].id, taken.ended[0].state),
        (broken, TaskState::Paused)
    );
}

pub(crate) async fn counts_that_cannot_be_read_hold_up_no_end(world: &World) {
    for meddling in ["on_failure = 'x'", "open = -5"] {
        let (executor, parent) = world.running(echo()).await;
        let children = world.spawned(executor, parent, 3).await;
        assert_eq!(world.claim(executor, &children[..2]).await.len(), 2);
        world.sql(&format!("update fan_out set {meddling}")).await;
        // Settled.
        let other = world.ready(1).await;
        assert_eq!(world.claim(executor, &other).await.len(), 1);
        let ends = [children[0], other[0]].map(|task| settlement(task, 1, succeeded()));
        for settled in world.store.settle(executor, &ends).await.unwrap() {
            assert_eq!(stored(&settled), TaskState::Succeeded, "{meddling}");
        }
        // Late.
        world
            .sql(&format!(
                "insert into timer (task, kind, due_at) select id, 'deadline', created_at from task where id = {}",
                world.id(children[2].as_uuid())
            ))
            .await;
        let due = world.store.due(9).await.unwrap();
        assert_eq!(due.failed.len(), 1, "{meddling}");
        // Lost.
        let ended = Ending::Released;
        stored(&world.settle(executor, parent, 1, ended).await);
        let retired = world.store.retire(executor).await.unwrap();
        assert_eq!(retired.released.len(), 1, "{meddling}: {retired:?}");
        world
            .sql("delete from fan_out; delete from timer; delete from task")
            .await;
    }
}
