//! `longshore schedule`.

use super::Shell;

async fn shell() -> Shell {
    Shell::migrated()
        .await
        .with("LONGSHORE_WEB_STRICT_ACTIONS", "false")
}

/// The same without the times that come, which differ each day.
fn steady(said: &str) -> String {
    let line = |line: &str| match line.split_once("fires next at ") {
        Some((before, _)) => format!("{before}fires next at [..]"),
        None => line.to_owned(),
    };
    said.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_schedule_is_made_once() {
    let shell = shell().await;
    let nightly = [
        "schedule",
        "create",
        "nightly",
        "--cron",
        "0 3 * * *",
        "--time-zone",
        "Europe/Prague",
        "echo",
        "{\"a\":1}",
        "--label",
        "team=red",
        "--retry",
        "3",
    ];
    let mut said = String::new();
    for _ in 0..2 {
        said.push_str(&shell.run_words(&nightly).await.to_string());
    }
    let rest = shell
        .session(&[
            "schedule create poll --every 15m --overlap queue --catch-up all echo",
            "schedule create poll --every 20m echo",
            "schedule create party --at 2100-12-24T18:00:00Z echo",
            "schedule list",
        ])
        .await;
    said.push_str(&rest);
    insta::assert_snapshot!(steady(&said), @r#"
    $ longshore schedule create nightly --cron 0 3 * * * --time-zone Europe/Prague echo {"a":1} --label team=red --retry 3
    ! the schedule `nightly` is made; it fires next at [..]
    = 0
    $ longshore schedule create nightly --cron 0 3 * * * --time-zone Europe/Prague echo {"a":1} --label team=red --retry 3
    ! the schedule `nightly` was there already; it fires next at [..]
    = 0
    $ longshore schedule create poll --every 15m --overlap queue --catch-up all echo
    ! the schedule `poll` is made; it fires next at [..]
    = 0
    $ longshore schedule create poll --every 20m echo
    ! error: the schedule `poll` is refused: there is a schedule of this name already, which differs in `timing`, `overlap`, `catch_up`
    ! hint: delete it first, or choose another name; a schedule is not changed
    = 1
    $ longshore schedule create party --at [time] echo
    ! the schedule `party` is made; it fires next at [..]
    = 0
    $ longshore schedule list
    SCHEDULE  STATE   WHEN                     ACTION  NEXT                  LAST TASK
    nightly   active  0 3 * * * Europe/Prague  echo    [time]  -
    party     active  at [time]  echo    [time]  -
    poll      active  every 15m 0s             echo    [time]  -
    = 0
    "#);
}

#[tokio::test]
async fn a_schedule_is_paused_and_resumed_and_deleted() {
    let shell = shell().await;
    for name in ["party", "poll"] {
        let create = format!("schedule create {name} --every 15m echo");
        shell.run(&create).await.with_status(0);
    }
    let said = shell
        .session(&[
            "schedule pause poll",
            "schedule list --limit 1 --cursor party",
            "schedule resume poll",
            "schedule delete party",
            "schedule delete party",
            "schedule pause party",
            "schedule show party",
            "schedule trigger party",
        ])
        .await;
    insta::assert_snapshot!(steady(&said), @r#"
    $ longshore schedule pause poll
    ! the schedule `poll` is paused
    = 0
    $ longshore schedule list --limit 1 --cursor party
    SCHEDULE  STATE   WHEN          ACTION  NEXT  LAST TASK
    poll      paused  every 15m 0s  echo    -     -
    ! there may be more: add `--cursor poll`
    = 0
    $ longshore schedule resume poll
    ! the schedule `poll` is resumed; it fires next at [..]
    = 0
    $ longshore schedule delete party
    ! the schedule `party` is deleted
    = 0
    $ longshore schedule delete party
    ! error: there is no schedule `party`
    ! hint: `longshore schedule list` tells those that there are
    = 1
    $ longshore schedule pause party
    ! error: there is no schedule `party`
    ! hint: `longshore schedule list` tells those that there are
    = 1
    $ longshore schedule show party
    ! error: there is no schedule `party`
    ! hint: `longshore schedule list` tells those that there are
    = 1
    $ longshore schedule trigger party
    ! error: there is no schedule `party`
    ! hint: `longshore schedule list` tells those that there are
    = 1
    "#);
}

#[tokio::test]
async fn show_tells_the_next_firings_and_the_last_ones() {
    let shell = shell().await;
    let create = "schedule create poll --every 900 --anchor 2026-01-01T00:00:00Z echo 7";
    shell.run(create).await.with_status(0);
    let said = shell
        .session(&[
            "schedule trigger poll",
            "schedule trigger poll",
            "schedule show poll",
        ])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore schedule trigger poll
    [id]
    = 0
    $ longshore schedule trigger poll
    ! error: the schedule `poll` is skipped, because its previous task `[id]` is open
    ! hint: wait for it, or type `longshore task cancel` with its id
    = 1
    $ longshore schedule show poll
    name        poll
    state       active
    when        every 15m 0s
    overlap     skip
    catch up    last
    action      echo
    queue       default
    input       7
    created     [time]
    created by  /longshore/web/[id]
    next        [time]
    next        [time]
    next        [time]
    next        [time]
    next        [time]

    DUE                   FIRING   TASK
    [time]  skipped  -
    [time]  fired    [id]
    = 0
    "#);
    let json = shell.run("schedule show poll -o json").await.json();
    assert_eq!(json["every"], 900.0);
    assert_eq!(json["upcoming"].as_array().unwrap().len(), 5);
    let firings = json["firings"].as_array().unwrap().iter();
    let states: Vec<_> = firings.map(|firing| &firing["state"]).collect();
    assert_eq!(states, ["skipped", "fired"]);
    let tasks = shell
        .run("task list --label schedule=poll -o json")
        .await
        .json();
    assert_eq!(tasks[0]["id"], json["last_task"]);
    assert_eq!(tasks[0]["input"], 7);
}

#[tokio::test]
async fn a_wrong_time_is_said_with_what_would_be_right() {
    let shell = shell().await;
    let mut said = String::new();
    for cron in ["0 25 * * *", "0 3 * *", "@dayly"] {
        let words = ["schedule", "create", "n", "--cron", cron, "echo"];
        said.push_str(&shell.run_words(&words).await.to_string());
    }
    let rest = shell
        .session(&[
            "schedule create n --cron @daily --time-zone Europe/Prag echo",
            "schedule create n --every 15m --time-zone UTC echo",
            "schedule create n --every soon echo",
            "schedule create n --every 0.5s echo",
            "schedule create n --at tomorrow echo",
            "schedule create n --at 2020-01-01T00:00:00Z echo",
            "schedule create n echo",
            "schedule create n --every 15m --at 2100-01-01T00:00:00Z echo",
        ])
        .await;
    said.push_str(&rest);
    insta::assert_snapshot!(said, @r#"
    $ longshore schedule create n --cron 0 25 * * * echo
    ! error: `cron`: the field `hour` is `*`, or numbers from 0 to 23 such as `3`, `8,20`, `9-17` or `*/2`, not `25`
    = 2
    $ longshore schedule create n --cron 0 3 * * echo
    ! error: `cron`: a cron expression has 5 fields (minute, hour, day of month, month, day of week), not 4: `0 3 * *`
    = 2
    $ longshore schedule create n --cron @dayly echo
    ! error: `cron`: there is no `@dayly`; there are `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly`
    = 2
    $ longshore schedule create n --cron @daily --time-zone Europe/Prag echo
    ! error: `time_zone`: there is no time zone `Europe/Prag`; it is a name such as `Europe/Prague` or `UTC`, did you mean `Europe/Prague`?
    = 2
    $ longshore schedule create n --every 15m --time-zone UTC echo
    ! error: `time_zone` belongs to `cron`, which is not there
    = 2
    $ longshore schedule create n --every soon echo
    ! error: `--every`: it is a duration such as `30s`, `5m` or `7d`, not `soon`, from 1s up
    = 2
    $ longshore schedule create n --every 0.5s echo
    ! error: `--every`: it is a duration such as `30s`, `5m` or `7d`, not `0.5s`, from 1s up
    = 2
    $ longshore schedule create n --at tomorrow echo
    ! error: `--at` is a time such as `[time]`, not `tomorrow`
    = 2
    $ longshore schedule create n --at [time] echo
    ! error: the schedule `n` is refused: it would never fire, because `[time]` has passed
    ! hint: choose a time that is to come
    = 1
    $ longshore schedule create n echo
    ! error: the following required arguments were not provided:
    !   <--cron <EXPRESSION>|--every <DURATION>|--at <TIME>>
    ! Usage: longshore schedule create <--cron <EXPRESSION>|--every <DURATION>|--at <TIME>> <NAME> <ACTION> [INPUT]
    ! For more information, try '--help'.
    = 2
    $ longshore schedule create n --every 15m --at [time] echo
    ! error: the argument '--every <DURATION>' cannot be used with '--at <TIME>'
    ! Usage: longshore schedule create <--cron <EXPRESSION>|--every <DURATION>|--at <TIME>> <NAME> <ACTION> [INPUT]
    ! For more information, try '--help'.
    = 2
    "#);
}

#[tokio::test]
async fn a_wrong_task_or_policy_is_said_with_what_would_be_right() {
    let shell = shell().await;
    let said = shell
        .session(&[
            "schedule create n --every 15m --catch-up all echo",
            "schedule create n --every 15m --overlap drop echo",
            "schedule create n --every 15m --queue defolt echo",
            "schedule create n --every 15m --label schedule=x echo",
            "schedule create n --every 15m --priority 101 echo",
            "schedule create a/b --every 15m echo",
        ])
        .await;
    insta::assert_snapshot!(said, @r#"
    $ longshore schedule create n --every 15m --catch-up all echo
    ! error: the schedule is refused
    !   cause: the catch-up policy `all` needs the overlap policy `queue`, not `skip`
    ! hint: what was missed is made up for one after the other; without a queue only one of it would run
    = 1
    $ longshore schedule create n --every 15m --overlap drop echo
    ! error: `overlap`: not an overlap policy (`skip`, `queue` or `cancel_previous`): `drop`
    = 2
    $ longshore schedule create n --every 15m --queue defolt echo
    ! error: there is no queue `defolt`
    ! hint: did you mean `default`?
    = 1
    $ longshore schedule create n --every 15m --label schedule=x echo
    ! error: the schedule is refused
    !   cause: the label `schedule` is set by the schedule itself; choose another name
    = 1
    $ longshore schedule create n --every 15m --priority 101 echo
    ! error: `task`: `priority` is 101, it must be from -100 to 100
    = 2
    $ longshore schedule create a/b --every 15m echo
    ! error: `name`: not a name of a schedule (letters, digits, `_`, `-`, `.`, beginning with a letter or digit, at most 64): `a/b`
    = 2
    "#);
    let strict = shell.with("LONGSHORE_WEB_STRICT_ACTIONS", "true");
    let said = strict.run("schedule create n --every 15m ecko").await;
    insta::assert_snapshot!(said, @r#"
    $ longshore schedule create n --every 15m ecko
    ! error: no executor has ever offered the action `ecko`
    ! hint: start an executor that has the action; none has run on this store yet
    = 1
    "#);
}
