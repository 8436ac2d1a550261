//! One case for each thing that a verdict can say.

use std::collections::BTreeMap;

use super::*;
use crate::domain::limits::AHEAD_MAX;
use crate::domain::{
    Attempt, Delivery, ExecutorId, ExecutorName, Failure, FailurePolicy, FanOutPlace, FanOutPlan,
    OnFailure, Operator, Payload, RetryPolicy, Submission, TaskId,
};

/// Everything happens around this second.
const NOW: i64 = 1_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A task of the action `echo`, changed by `change`.
fn task(state: TaskState, change: impl FnOnce(&mut Task)) -> Task {
    let echo = Submission::new(ActionName::new("echo").unwrap(), Payload::null());
    let mut task = Task {
        state,
        created_at: at(NOW - 60),
        ready_at: Some(at(NOW - 60)),
        ..Task::stored(&echo)
    };
    change(&mut task);
    task
}

fn running(change: impl FnOnce(&mut Task)) -> Task {
    task(TaskState::Running, |task| {
        (task.attempt, task.executor) = (Attempt(1), Some(executor("x1", 4).id));
        task.started_at = Some(at(NOW - 12));
        change(task);
    })
}

/// A live executor of the queue `default` with the action `echo`.
fn executor(name: &str, slots: u16) -> ExecutorRecord {
    let number = name.bytes().map(u128::from).sum();
    ExecutorRecord {
        id: ExecutorId::new(at(0), number),
        name: ExecutorName::new(name).unwrap(),
        host: "pier-3".to_owned(),
        pid: 7,
        version: "0.1.0".to_owned(),
        slots: BTreeMap::from([(QueueName::default_queue(), slots)]),
        actions: vec![ActionName::new("echo").unwrap()],
        started_at: at(0),
        lease_ends_at: at(NOW + 10),
        state: ExecutorState::Live,
    }
}

fn lost(executor: ExecutorRecord) -> ExecutorRecord {
    ExecutorRecord {
        state: ExecutorState::Lost,
        lease_ends_at: at(NOW - 3),
        ..executor
    }
}

fn serving(executor: ExecutorRecord, queue: &str) -> ExecutorRecord {
    let slots = BTreeMap::from([(QueueName::new(queue).unwrap(), 4)]);
    ExecutorRecord { slots, ..executor }
}

fn offering(executor: ExecutorRecord, action: &str) -> ExecutorRecord {
    let actions = vec![ActionName::new(action).unwrap()];
    ExecutorRecord {
        actions,
        ..executor
    }
}

fn among(executors: impl IntoIterator<Item = ExecutorRecord>) -> Circumstances {
    Circumstances {
        now: at(NOW),
        executors: executors.into_iter().collect(),
        ahead: 0,
        running: 0,
        paused: None,
        announcements: Announcements::Travel,
        fan_outs: Vec::new(),
        wakes_at: None,
    }
}

/// One live executor, and nothing else.
fn calm() -> Circumstances {
    among([executor("x1", 4)])
}

/// The verdict, and the evidence below it.
fn said(task: &Task, circumstances: &Circumstances) -> String {
    let why = why(task, circumstances);
    let evidence = why.evidence.iter().map(|line| format!("\n  {line}"));
    std::iter::once(why.verdict.clone())
        .chain(evidence)
        .collect()
}

/// Cases one below the other.
fn all(cases: impl IntoIterator<Item = (Task, Circumstances)>) -> String {
    let cases = cases.into_iter();
    let said: Vec<_> = cases.map(|(task, around)| said(&task, &around)).collect();
    said.join("\n")
}

#[test]
fn a_scheduled_task_waits_for_its_time_or_its_next_attempt() {
    let scheduled = |change: fn(&mut Task)| task(TaskState::Scheduled, change);
    let retried = |task: &mut Task| {
        (task.attempt, task.failures) = (Attempt(2), 2);
        task.run_at = Some(at(NOW + 5));
        task.error = Some(Failure::retry("no crane\nat all"));
        task.options.retry =
            RetryPolicy::new(5, Duration::from_secs(1), Duration::from_secs(9)).unwrap();
    };
    insta::assert_snapshot!(all([
        (scheduled(|task| task.run_at = Some(at(NOW + 40))), calm()),
        (scheduled(|task| task.run_at = Some(at(NOW - 4))), calm()),
        (scheduled(|task| task.run_at = Some(at(NOW - 4))), among([lost(executor("x1", 4))])),
        (scheduled(retried), calm()),
    ]), @r"
    it waits for its time, which is due in 40s
      `run_at` is 1970-01-01T00:17:20Z
    its time came 4s ago: an executor is about to make it ready
      `run_at` is 1970-01-01T00:16:36Z
    its time came 4s ago, and no executor lives to make it ready
      `run_at` is 1970-01-01T00:16:36Z
    it waits for its next attempt, which is due in 5s
      attempt 2 failed: no crane
      2 of 5 attempts failed so far
      the next attempt is due at 1970-01-01T00:16:45Z
    ");
}

#[test]
fn a_ready_task_that_nobody_can_run_says_who_is_missing() {
    let ready = || task(TaskState::Ready, |_| {});
    insta::assert_snapshot!(all([
        (ready(), among([])),
        (ready(), among([lost(executor("x1", 4))])),
        (ready(), among([serving(executor("x1", 4), "bulk"), lost(executor("x2", 4))])),
        (ready(), among([
            offering(executor("x1", 4), "sleep"),
            lost(executor("x2", 4)),
            serving(executor("x3", 4), "bulk"),
        ])),
    ]), @r"
    no executor lives
    no executor lives
      `x1` was the last; it was lost 3s ago
    no live executor serves the queue `default`
      those that live serve `bulk`
      `x2` served it; it was lost 3s ago
    no live executor of the queue `default` offers the action `echo`
      those of the queue offer `sleep`
      `x3` offers it, and serves other queues
      `x2` offered it; it was lost 3s ago
    ");
}

#[test]
fn a_ready_task_of_a_paused_queue_says_who_has_paused_it() {
    let pause = QueuePause {
        at: at(NOW - 300),
        by: Operator::new("ann@crane-7").unwrap(),
    };
    let paused = Circumstances {
        paused: Some(pause),
        ahead: 7,
        ..calm()
    };
    insta::assert_snapshot!(said(&task(TaskState::Ready, |_| {}), &paused), @"
    the queue `default` is paused
      `ann@crane-7` has paused it 5m 0s ago
      let it go on: `longshore queue resume default`
    ");
}

#[test]
fn a_ready_task_that_somebody_can_run_says_what_is_before_it() {
    let ready = |seconds: i64| {
        task(TaskState::Ready, |task| {
            task.ready_at = Some(at(NOW - seconds));
        })
    };
    let crowd = |ahead, running| Circumstances {
        ahead,
        running,
        ..among([executor("x1", 4), executor("x2", 2)])
    };
    let held = || Announcements::Held("it takes no messages: low on memory".to_owned());
    let with = |announcements| Circumstances {
        announcements,
        ..calm()
    };
    insta::assert_snapshot!(all([
        (ready(9), crowd(812, 6)),
        (ready(9), crowd(1, 6)),
        (ready(9), crowd(AHEAD_MAX, 6)),
        (ready(9), crowd(0, 6)),
        (ready(0), calm()),
        (ready(9), calm()),
        (ready(9), with(held())),
        (ready(0), with(Announcements::Unused)),
        (ready(9), with(Announcements::Unused)),
        (task(TaskState::Ready, |task| task.attempt = Attempt(1)), Circumstances { announcements: held(), ..crowd(3, 6) }),
    ]), @r"
    812 tasks stand before it in the queue `default`
      6 slots of the queue `default`, on `x1`, `x2`: 6 in use
    1 task stands before it in the queue `default`
      6 slots of the queue `default`, on `x1`, `x2`: 6 in use
    10000 tasks or more stand before it in the queue `default`
      6 slots of the queue `default`, on `x1`, `x2`: 6 in use
    it is the next in the queue `default`, and all its slots are taken
      6 slots of the queue `default`, on `x1`, `x2`: 6 in use
    it has been ready for 0ms, and is about to be taken
      4 slots of the queue `default`, on `x1`: 0 in use
    it has been ready for 9s, and its announcement may be lost: executors look in the store themselves, within seconds
      4 slots of the queue `default`, on `x1`: 0 in use
    it has been ready for 9s, and the broker does not announce it: executors look in the store themselves, within seconds
      4 slots of the queue `default`, on `x1`: 0 in use
      the broker: it takes no messages: low on memory
    it has been ready for 0ms, and is about to be taken
      4 slots of the queue `default`, on `x1`: 0 in use
      this system has no broker
    it has been ready for 9s, and nobody has taken it: executors look in the store without a pause
      4 slots of the queue `default`, on `x1`: 0 in use
      this system has no broker
    3 tasks stand before it in the queue `default`
      6 slots of the queue `default`, on `x1`, `x2`: 6 in use
      attempt 1 was interrupted: it waited for something, or its executor stopped
      the broker: it takes no messages: low on memory
    ");
}

#[test]
fn a_task_that_is_ready_again_says_what_became_of_its_last_attempt() {
    let again = |change: fn(&mut Task)| {
        task(TaskState::Ready, |task| {
            (task.attempt, task.executor) = (Attempt(2), Some(executor("x2", 4).id));
            task.ready_at = Some(at(NOW));
            change(task);
        })
    };
    let with_lost = || among([executor("x1", 4), lost(executor("x2", 4))]);
    let last = |(task, circumstances): (Task, Circumstances)| {
        let evidence = why(&task, &circumstances).evidence;
        let mut lines = evidence.into_iter();
        lines.find(|line| line.starts_with("attempt")).unwrap()
    };
    let said = [
        (again(|_| {}), with_lost()),
        (again(|task| task.suspicions = 1), calm()),
        (
            again(|task| {
                task.failures = 1;
                task.error = Some(Failure::retry("no crane"));
            }),
            calm(),
        ),
        (again(|_| {}), calm()),
    ]
    .map(last);
    assert_eq!(
        said,
        [
            "attempt 2 did not end: its executor `x2` was lost 3s ago",
            "attempt 2 did not end: its executor was lost",
            "attempt 2 has ended; the last failure: no crane",
            "attempt 2 was interrupted: it waited for something, or its executor stopped",
        ]
    );
}

#[test]
fn a_running_task_says_who_runs_it_and_why_again() {
    let again = |task: &mut Task| {
        (task.attempt, task.failures) = (Attempt(4), 1);
        task.error = Some(Failure::retry("no crane"));
        (task.crashes, task.suspicions) = (1, 1);
        task.options.timeout = Some(Duration::from_secs(30));
    };
    let woken = |task: &mut Task| {
        (task.attempt, task.failures) = (Attempt(4), 1);
        task.error = Some(Failure::retry("no crane"));
    };
    insta::assert_snapshot!(all([
        (running(|_| {}), calm()),
        (running(again), calm()),
        (running(woken), calm()),
        (running(|task| task.options.timeout = Some(Duration::from_secs(10))), calm()),
        (running(|task| task.cancel_requested_at = Some(at(NOW - 2))), calm()),
        (running(|task| task.executor = None), calm()),
    ]), @r"
    it runs: attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
      the lease of its executor ends in 10s, and is renewed before
    it runs: attempt 4 began 12s ago on `x1` (host `pier-3`, process 7)
      1 attempt before it failed, the last: no crane
      2 attempts before it did not end: suspended, or the executor stopped or was lost
      its time limit ends in 18s
      the lease of its executor ends in 10s, and is renewed before
      1 executor died while nothing else can have killed it
      1 executor died while it ran beside others
      so it is on trial: an executor begins suspects one after the other
    it runs: attempt 4 began 12s ago on `x1` (host `pier-3`, process 7)
      1 attempt before it failed, the last: no crane
      2 attempts before it did not end: suspended, or given back
      the lease of its executor ends in 10s, and is renewed before
    its time limit ended 2s ago, and its action is being stopped
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
      the lease of its executor ends in 10s, and is renewed before
    somebody asked 2s ago to cancel it, and its action has not stopped yet
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
      the lease of its executor ends in 10s, and is renewed before
    it runs, and no executor is stored
    ");
}

#[test]
fn a_task_whose_executor_is_lost_says_what_follows() {
    let once = |on_failure| {
        running(move |task| {
            (task.options.delivery, task.options.on_failure) = (Delivery::Once, on_failure);
        })
    };
    let gone = || among([lost(executor("x1", 4)), executor("x2", 4)]);
    let late = || {
        among([
            ExecutorRecord {
                lease_ends_at: at(NOW - 1),
                ..executor("x1", 4)
            },
            executor("x2", 4),
        ])
    };
    insta::assert_snapshot!(all([
        (running(|_| {}), gone()),
        (running(|_| {}), late()),
        (running(|_| {}), among([lost(executor("x1", 4))])),
        (running(|_| {}), among([executor("x2", 4)])),
        (once(OnFailure::Fail), gone()),
        (once(OnFailure::Pause), gone()),
        (running(|task| task.cancel_requested_at = Some(at(NOW - 2))), gone()),
    ]), @r"
    its executor `x1` was lost 3s ago: it is about to be taken over by another
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
    its executor `x1` was lost 1s ago: it is about to be taken over by another
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
    its executor `x1` was lost 3s ago: no executor lives to take it over
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
    its executor is gone: it is about to be taken over by another
      attempt 1 began 12s ago on `00000000-0000-7000-8000-0000000000a9`, an executor that is gone
    its executor `x1` was lost 3s ago: it is about to fail, because it may run only once
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
    its executor `x1` was lost 3s ago: it is about to pause, because it may run only once
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
    its executor `x1` was lost 3s ago: it is about to be cancelled
      attempt 1 began 12s ago on `x1` (host `pier-3`, process 7)
    ");
}

#[test]
fn a_paused_task_says_why_and_what_a_person_can_do() {
    let paused = |change: fn(&mut Task)| {
        task(TaskState::Paused, |task| {
            (task.attempt, task.executor) = (Attempt(3), Some(executor("x1", 4).id));
            task.error = Some(Failure::fatal("no crane"));
            change(task);
        })
    };
    insta::assert_snapshot!(all([
        (paused(|task| (task.failures, task.options.on_failure) = (3, OnFailure::Pause)), calm()),
        (paused(|task| (task.crashes, task.suspicions) = (3, 1)), calm()),
        (paused(|task| (task.failures, task.crashes, task.options.on_failure) = (1, 1, OnFailure::Pause)), calm()),
    ]), @r"
    it waits for a person: no crane
      `on_failure` is `pause`: a person is to decide
      attempt 3 ran on `x1` (host `pier-3`, process 7)
      `longshore task resume 00000000-0000-7000-8000-000000000001` gives it one more try; `retry`, `skip`, `abandon` and `cancel` are the others
    it is quarantined: 3 executors died of it, and nobody runs it any more
      no crane
      attempt 3 ran on `x1` (host `pier-3`, process 7)
      `longshore task resume 00000000-0000-7000-8000-000000000001` gives it one more try; `retry`, `skip`, `abandon` and `cancel` are the others
      3 executors died while nothing else can have killed it
      1 executor died while it ran beside others
    it waits for a person: no crane
      `on_failure` is `pause`: a person is to decide
      attempt 3 ran on `x1` (host `pier-3`, process 7)
      `longshore task resume 00000000-0000-7000-8000-000000000001` gives it one more try; `retry`, `skip`, `abandon` and `cancel` are the others
      1 executor died while nothing else can have killed it
    ");
}

#[test]
fn a_task_that_waits_says_for_what() {
    let parts = StepName::new("parts").unwrap();
    let counts = FanOut {
        plan: FanOutPlan {
            in_flight_max: Some(10),
            on_failure: FailurePolicy::Collect,
        },
        stored: 40,
        is_complete: true,
        granted: 35,
        in_flight: 10,
        open: 15,
        failed: 2,
    };
    let circumstances = || Circumstances {
        fan_outs: vec![(parts.clone(), counts)],
        wakes_at: Some(at(NOW + 40)),
        ..calm()
    };
    let waits = |text: &'static str| {
        task(TaskState::Suspended, move |task| {
            task.waiting_for = Some(text.parse().unwrap());
        })
    };
    let place = FanOutPlace {
        parent: TaskId::new(at(0), 9),
        name: parts.clone(),
        place: 38,
    };
    let blocked = task(TaskState::Blocked, |task| {
        task.fan_out = Some(place.clone());
    });
    insta::assert_snapshot!(all([
        (waits(" fan_out:parts signal:approved timer "), circumstances()),
        (waits(" timer "), circumstances()),
        (blocked.clone(), circumstances()),
        (blocked, calm()),
        (task(TaskState::Blocked, |_| {}), calm()),
        (task(TaskState::Suspended, |_| {}), calm()),
    ]), @r"
    it waits for the signal `approved`, or the sub-tasks `parts`, or a time, which comes in 40s
      15 of 40 sub-tasks `parts` have not ended, 2 have failed or were cancelled
      send it: `longshore task signal 00000000-0000-7000-8000-000000000001 approved PAYLOAD`
    it waits for a time, which comes in 40s
    it waits for its turn: 10 of the sub-tasks `parts` may be in flight, and 10 are
      its parent is `00000000-0000-7000-8000-000000000009`
      3 of its siblings have their turn before it
    it waits for its turn among the sub-tasks `parts`
      its parent is `00000000-0000-7000-8000-000000000009`
    it is blocked, and what it waits for is not known to this version
      a newer version of longshore has put it there
    it is suspended, and its row does not say what it waits for: `longshore audit` tells more
    ");
}

#[test]
fn a_task_that_has_ended_says_how() {
    let ended = |state, change: fn(&mut Task)| {
        task(state, |task| {
            (task.attempt, task.executor) = (Attempt(2), Some(executor("x1", 4).id));
            (task.started_at, task.finished_at) = (Some(at(NOW - 50)), Some(at(NOW - 20)));
            change(task);
        })
    };
    insta::assert_snapshot!(all([
        (ended(TaskState::Succeeded, |_| {}), calm()),
        (ended(TaskState::Succeeded, |_| {}), among([])),
        (ended(TaskState::Failed, |task| {
            (task.failures, task.error) = (1, Some(Failure::fatal("no crane")));
        }), calm()),
        (ended(TaskState::Failed, |task| {
            (task.failures, task.error) = (1, Some(Failure::retry("no crane")));
        }), calm()),
        (ended(TaskState::Failed, |task| {
            (task.attempt, task.started_at, task.executor) = (Attempt(0), None, None);
            task.error = Some(Failure::fatal("its deadline passed"));
        }), calm()),
        (ended(TaskState::Cancelled, |task| {
            task.error = Some(Failure::fatal("changed my mind"));
            task.cancel_requested_at = Some(at(NOW - 25));
        }), calm()),
        (ended(TaskState::Cancelled, |task| {
            (task.attempt, task.started_at, task.executor) = (Attempt(0), None, None);
            task.error = Some(Failure::fatal("changed my mind"));
        }), calm()),
    ]), @r"
    it succeeded 20s ago
      attempt 2 ran on `x1` (host `pier-3`, process 7), and took 30s
      that attempt began 10s after the task was ready
    it succeeded 20s ago
      attempt 2 ran on `00000000-0000-7000-8000-0000000000a9`, an executor that is gone, and took 30s
      that attempt began 10s after the task was ready
    it failed 20s ago: no crane
      the error allows no other attempt
      attempt 2 ran on `x1` (host `pier-3`, process 7), and took 30s
      that attempt began 10s after the task was ready
    it failed 20s ago: no crane
      the error would have allowed another attempt; 1 of 1 attempt failed
      attempt 2 ran on `x1` (host `pier-3`, process 7), and took 30s
      that attempt began 10s after the task was ready
    it failed 20s ago: its deadline passed
      the error allows no other attempt
      it never ran
    it was cancelled 20s ago: changed my mind
      it ran then, and stopped 5s after it was asked to
      attempt 2 ran on `x1` (host `pier-3`, process 7), and took 30s
      that attempt began 10s after the task was ready
    it was cancelled 20s ago: changed my mind
      it never ran
    ");
}

#[test]
fn a_deadline_is_evidence_in_every_open_state_and_in_no_other() {
    for state in TaskState::ALL {
        let line = |deadline: i64| {
            let task = task(state, |task| task.deadline = Some(at(deadline)));
            let evidence = why(&task, &calm()).evidence;
            evidence.into_iter().find(|line| line.contains("deadline"))
        };
        let (coming, passed) = (line(NOW + 5), line(NOW - 5));
        if state.is_final() {
            assert_eq!((coming, passed), (None, None), "{state}");
        } else {
            let coming_words = "its deadline comes in 5s: open then, it fails";
            let passed_words = "its deadline passed 5s ago, and it is about to fail";
            assert_eq!(coming.as_deref(), Some(coming_words), "{state}");
            assert_eq!(passed.as_deref(), Some(passed_words), "{state}");
        }
    }
}
