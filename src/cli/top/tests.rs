//! The model, the keys and the screen, without a terminal, a store or a broker.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::deed::Deed;
use super::keys::{Command, intent};
use super::model::{EVENTS_MAX, Events, Key, Mode, Model, News, Notice, Pane};
use super::view::{self, Theme};
use crate::broker::Health;
use crate::domain::{
    Attempt, ExecutorId, ExecutorRecord, ExecutorState, Operator, Progress, QueueName, QueuePause,
    Slots, TaskFacts, TaskId, TaskState,
};
use crate::store::{OpenTask, Overview, QueueOverview, StoreIdentity};
use crate::wire::{Event, EventKind};

const SECOND: Duration = Duration::from_secs(1);

/// When the model begins, on the monotonic clock.
const BEGIN: Duration = Duration::from_secs(1_000);

fn time(seconds: i64) -> Timestamp {
    let noon: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
    noon + SignedDuration::from_secs(seconds)
}

fn task_id(number: u128) -> TaskId {
    TaskId::new(time(0), number << 20)
}

fn executor_id(number: u128) -> ExecutorId {
    ExecutorId::new(time(0), number)
}

fn queue(name: &str, ready: u64, running: u64) -> QueueOverview {
    QueueOverview {
        name: name.parse().unwrap(),
        scheduled: 3,
        blocked: 0,
        ready,
        running,
        suspended: 1_204,
        paused: u64::from(name == "default"),
        oldest_ready_at: (ready > 0).then(|| time(-250)),
        pause: None,
    }
}

fn executor(number: u128, name: &str, state: ExecutorState) -> ExecutorRecord {
    let queue: QueueName = "default".parse().unwrap();
    ExecutorRecord {
        id: executor_id(number),
        name: name.parse().unwrap(),
        host: "crane-7.harbour".to_owned(),
        pid: 4_711,
        version: "0.1.0".to_owned(),
        slots: Slots::from([(queue, 8)]),
        actions: vec!["echo".parse().unwrap(), "images.resize".parse().unwrap()],
        started_at: time(-7_500),
        lease_ends_at: time(13),
        state,
    }
}

fn open_task(number: u128, state: TaskState, age: i64) -> OpenTask {
    let runs = state == TaskState::Running;
    OpenTask {
        id: task_id(number),
        action: "images.resize".parse().unwrap(),
        queue: "default".parse().unwrap(),
        state,
        attempt: Attempt(1),
        executor: runs.then(|| executor_id(1)),
        since: time(-age),
        progress: runs.then(|| Progress::new(Attempt(1), (3, Some(10)), "copying", time(0))),
    }
}

fn overview() -> Overview {
    Overview {
        identity: StoreIdentity {
            version: "PostgreSQL 15.18".to_owned(),
            now: time(0),
        },
        queues: vec![queue("bulk", 0, 0), queue("default", 1_812, 8)],
        executors: vec![
            executor(1, "crane", ExecutorState::Live),
            executor(2, "derrick", ExecutorState::Lost),
        ],
        busy: BTreeMap::from([(executor_id(1), 8)]),
        tasks: vec![
            open_task(1, TaskState::Paused, 90_000),
            open_task(2, TaskState::Running, 12),
            open_task(3, TaskState::Running, 4),
            open_task(4, TaskState::Ready, 250),
        ],
    }
}

fn event(kind: EventKind, number: u128, state: TaskState) -> News {
    let facts = TaskFacts {
        id: task_id(number),
        action: "images.resize".parse().unwrap(),
        queue: "default".parse().unwrap(),
        state,
        attempt: Attempt(1),
        parent: None,
        origin: None,
    };
    let event = Event::of_task(kind, "1".to_owned(), "/x", time(1), &facts);
    News::Seen(Box::new(event))
}

fn model(events: Events) -> Model {
    Model::new(BEGIN, SECOND, "broker", events)
}

/// A model that has seen a busy system for three seconds.
fn busy() -> Model {
    let mut model = model(Events::Come);
    model.hear(
        News::Looked(Box::new(overview()), Duration::from_millis(3)),
        BEGIN,
    );
    let mut number = 100;
    for step in 0..30_u32 {
        let now = BEGIN + Duration::from_millis(100) * step;
        for _ in 0..=step / 10 {
            number += 1;
            model.hear(event(EventKind::Created, number, TaskState::Ready), now);
            let (kind, state) = if step == 25 {
                (EventKind::Failed, TaskState::Failed)
            } else {
                (EventKind::Succeeded, TaskState::Succeeded)
            };
            let later = now + Duration::from_millis(12);
            model.hear(event(kind, number, state), later);
        }
    }
    model.tick(BEGIN + SECOND * 3);
    model
}

fn press(model: &mut Model, keys: &str) -> Option<Command> {
    let mut last = None;
    for key in keys.split(' ') {
        let code = match key {
            "Tab" => KeyCode::Tab,
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Down" => KeyCode::Down,
            other => KeyCode::Char(other.chars().next().unwrap()),
        };
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        last = model.act(intent(key, &model.mode));
    }
    last
}

fn terminal(model: &Model, (width, height): (u16, u16), theme: Theme) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| view::draw(frame, model, theme))
        .unwrap();
    terminal
}

/// What is to be seen, without blanks at the ends of lines.
fn drawn(model: &Model, size: (u16, u16)) -> String {
    let terminal = terminal(model, size, Theme::new(true));
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..size.0).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..size.1).map(line).collect::<Vec<_>>().join("\n")
}

fn notice(model: &Model) -> &str {
    model.notice().map_or("", |notice| &notice.words)
}

#[test]
fn a_busy_system_on_a_small_screen() {
    insta::assert_snapshot!("small", drawn(&busy(), (80, 24)));
}

#[test]
fn a_busy_system_on_a_large_screen() {
    let mut model = busy();
    press(&mut model, "3");
    insta::assert_snapshot!("large", drawn(&model, (160, 40)));
}

#[test]
fn without_a_broker_it_says_why_rates_are_not_known() {
    let mut model = model(Events::Never("the broker is `none`".to_owned()));
    model.hear(
        News::Looked(Box::new(overview()), Duration::from_millis(3)),
        BEGIN,
    );
    model.tick(BEGIN + SECOND * 3);
    insta::assert_snapshot!("without_a_broker", drawn(&model, (80, 24)));
}

#[test]
fn nothing_is_known_at_first() {
    insta::assert_snapshot!("at_first", drawn(&model(Events::Come), (80, 24)));
}

#[test]
fn a_screen_that_is_too_small_is_told() {
    let seen = drawn(&busy(), (40, 10));
    assert_eq!(seen.trim_end(), "too small: 40x10, needs 60x14");
}

#[test]
fn help_lies_over_the_panes() {
    let mut model = busy();
    press(&mut model, "?");
    insta::assert_snapshot!("help", drawn(&model, (80, 24)));
    press(&mut model, "Esc");
    assert_eq!(model.mode, Mode::Watching);
}

#[test]
fn a_queue_and_an_executor_are_shown_in_full() {
    let mut model = busy();
    press(&mut model, "Down Enter");
    insta::assert_snapshot!("queue", drawn(&model, (80, 30)));
    press(&mut model, "Esc 2 Enter");
    insta::assert_snapshot!("executor", drawn(&model, (80, 30)));
}

#[test]
fn a_task_is_shown_when_the_store_has_told_it() {
    let mut model = busy();
    let asked = press(&mut model, "3 Enter");
    assert_eq!(asked, Some(Command::Explain(task_id(1))));
    assert!(drawn(&model, (80, 24)).contains("asking the store"));
    let why = ("why".to_owned(), "paused: it needs a human ".repeat(9));
    model.hear(News::Explained(task_id(2), vec![why.clone()]), model.now);
    assert!(!drawn(&model, (80, 24)).contains("a human"), "another task");
    model.hear(News::Explained(task_id(1), vec![why]), model.now);
    let seen = drawn(&model, (80, 24));
    assert_eq!(seen.matches("human").count(), 9, "{seen}");
}

#[test]
fn no_width_and_no_height_breaks_it() {
    let mut model = busy();
    for keys in ["1", "2", "3", "4", "?", "Esc Enter"] {
        press(&mut model, keys);
        for width in [60, 79, 80, 100, 139, 140, 250] {
            for height in [14, 24, 60] {
                terminal(&model, (width, height), Theme::new(false));
            }
        }
    }
}

#[test]
fn colours_are_used_where_they_may_be() {
    let model = busy();
    let has_colour = |theme| {
        let terminal = terminal(&model, (80, 24), theme);
        let cells = terminal.backend().buffer().content();
        cells.iter().any(|cell| cell.fg != Color::Reset)
    };
    assert!(has_colour(Theme::new(false)));
    assert!(!has_colour(Theme::new(true)));
}

#[test]
fn a_store_that_falls_silent_is_told_and_the_rest_stays() {
    let mut model = busy();
    model.tick(BEGIN + SECOND * 5);
    assert_eq!(model.store_away(), Some(SECOND * 5));
    let seen = drawn(&model, (80, 24));
    assert!(seen.contains("store: away since 5s"), "{seen}");
    assert!(seen.contains("default"), "{seen}");
    let reason = "the store does not answer: connection refused".to_owned();
    model.hear(News::StoreAway(reason), BEGIN + SECOND * 12);
    let seen = drawn(&model, (80, 24));
    assert!(seen.contains("store: away since 12s"), "{seen}");
    assert!(seen.ends_with("connection refused"), "{seen}");
    model.hear(
        News::Looked(Box::new(overview()), SECOND),
        BEGIN + SECOND * 13,
    );
    assert_eq!(model.store_away(), None);
    // One that takes a second is asked every four, and is not away between.
    model.tick(BEGIN + SECOND * 19);
    assert_eq!(model.store_away(), None);
}

#[test]
fn a_broker_that_is_away_is_told_and_what_comes_late_is_no_latency() {
    let mut model = busy();
    let told = model.latencies.percentiles().unwrap();
    assert_eq!(told.tasks, 60);
    model.hear(event(EventKind::Created, 7, TaskState::Ready), model.now);
    let down = Health::Down("refused".to_owned());
    model.hear(News::Broker(down), BEGIN + SECOND * 4);
    model.tick(BEGIN + SECOND * 8);
    let seen = drawn(&model, (80, 24));
    assert!(seen.contains("broker: away since 4s"), "{seen}");
    model.hear(News::Broker(Health::Up), BEGIN + SECOND * 20);
    let end = event(EventKind::Succeeded, 7, TaskState::Succeeded);
    model.hear(end, BEGIN + SECOND * 20);
    assert_eq!(model.latencies.percentiles().unwrap().tasks, 60);
}

#[test]
fn events_are_kept_up_to_a_limit() {
    let mut model = model(Events::Come);
    for number in 0..EVENTS_MAX as u128 + 7 {
        model.hear(event(EventKind::Created, number, TaskState::Ready), BEGIN);
    }
    assert_eq!(model.lines.len(), EVENTS_MAX);
    assert_eq!(model.heard, EVENTS_MAX as u64 + 7);
    model.hear(News::Missed(3), BEGIN);
    assert!(drawn(&model, (80, 24)).contains("Events 507, 3 missed"));
}

#[test]
fn a_selected_row_stays_selected_while_others_come_and_go() {
    let mut model = busy();
    press(&mut model, "3 Down Down");
    assert_eq!(model.selection(), Some(Key::Task(task_id(3))));
    let mut next = overview();
    next.tasks.remove(0);
    model.hear(News::Looked(Box::new(next.clone()), SECOND), model.now);
    assert_eq!(model.selection(), Some(Key::Task(task_id(3))));
    next.tasks.remove(1);
    model.hear(News::Looked(Box::new(next), SECOND), model.now);
    let next_one = Some(Key::Task(task_id(4)));
    assert_eq!(model.selection(), next_one, "the one in its place");
    press(&mut model, "4");
    let newest = model.heard - 1;
    assert_eq!(model.selection(), Some(Key::Event(newest)));
    model.hear(event(EventKind::Created, 1, TaskState::Ready), model.now);
    let followed = Some(Key::Event(newest + 1));
    assert_eq!(model.selection(), followed, "the newest is followed");
    press(&mut model, "Down");
    model.hear(event(EventKind::Created, 2, TaskState::Ready), model.now);
    assert_eq!(model.selection(), Some(Key::Event(newest)));
}

#[test]
fn nothing_is_done_before_it_was_agreed_to() {
    let mut model = busy();
    assert_eq!(press(&mut model, "3 c"), None);
    let cancel = Deed::Cancel(task_id(1));
    assert_eq!(model.mode, Mode::Asking(cancel.clone()));
    let seen = drawn(&model, (110, 24));
    assert!(seen.contains("and all below it?  y yes  n no"), "{seen}");
    assert_eq!(press(&mut model, "n"), None);
    assert_eq!(notice(&model), "nothing was changed");
    assert_eq!(press(&mut model, "c y"), Some(Command::Do(cancel)));
    let resume = Deed::Resume(task_id(1));
    assert_eq!(press(&mut model, "r y"), Some(Command::Do(resume)));
    let drain = Deed::Drain(executor_id(1), "crane".to_owned());
    assert_eq!(press(&mut model, "2 d y"), Some(Command::Do(drain)));
    assert!(!drawn(&model, (80, 24)).contains("draining"));
    let asked = News::Draining(executor_id(1), "crane".to_owned());
    model.hear(asked, model.now);
    assert!(drawn(&model, (80, 24)).contains("draining"));
    model.hear(News::Done(Notice::good("done")), model.now);
    assert_eq!(notice(&model), "done");
    model.tick(model.now + SECOND * 11);
    assert_eq!(notice(&model), "", "a notice goes away");
}

#[test]
fn a_queue_is_paused_and_goes_on() {
    let mut model = busy();
    let name = model.queues()[0].name.clone();
    let pause = Command::Do(Deed::PauseQueue(name.clone()));
    assert_eq!(press(&mut model, "1 p y"), Some(pause));
    let pause = QueuePause {
        at: time(-60),
        by: Operator::new("ann").unwrap(),
    };
    let mut overview = model.overview.clone().unwrap();
    overview.queues[0].pause = Some(pause);
    model.hear(News::Looked(Box::new(overview), SECOND), model.now);
    let seen = drawn(&model, (110, 24));
    assert!(seen.contains(&format!("{name} (paused)")), "{seen}");
    assert_eq!(press(&mut model, "p"), None);
    assert!(notice(&model).starts_with("the queue is paused already"));
    let resume = Command::Do(Deed::ResumeQueue(name));
    assert_eq!(press(&mut model, "r y"), Some(resume));
    press(&mut model, "Enter");
    let seen = drawn(&model, (110, 24));
    assert!(seen.contains("by ann for"), "{seen}");
}

#[test]
fn an_event_leads_to_its_task() {
    let mut model = busy();
    let newest = model.lines[0].task;
    assert_eq!(press(&mut model, "4 Enter"), Some(Command::Explain(newest)));
    let cancel = Command::Do(Deed::Cancel(newest));
    assert_eq!(press(&mut model, "c y"), Some(cancel));
}

#[test]
fn what_cannot_be_done_says_why() {
    let mut model = busy();
    for (keys, why) in [
        ("1 r", "the queue is not paused"),
        ("c", "`c` cancels a task"),
        ("d", "`d` drains an executor"),
        ("2 r", "`r` resumes a paused task"),
        ("p", "`p` pauses a queue"),
        ("Down d", "the executor is lost"),
        ("3 Down r", "only a paused task can be resumed"),
    ] {
        assert_eq!(press(&mut model, keys), None);
        assert!(
            notice(&model).starts_with(why),
            "{keys}: {}",
            notice(&model)
        );
        assert_eq!(model.mode, Mode::Watching);
    }
    model.events = Events::Never("the broker is `none`".to_owned());
    press(&mut model, "2 k d");
    assert!(notice(&model).contains("SIGTERM"), "{}", notice(&model));
}

#[test]
fn it_ends_when_it_shall_and_not_by_mistake() {
    let mut model = busy();
    assert_eq!(press(&mut model, "? q"), None);
    assert_eq!(press(&mut model, "3 c q"), None);
    assert_eq!(press(&mut model, "q"), Some(Command::Quit));
    assert_eq!(press(&mut model, "Esc"), Some(Command::Quit));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    for keys in ["?", "Esc Enter", "Esc 3 c"] {
        press(&mut model, keys);
        let command = model.act(intent(control_c, &model.mode));
        assert_eq!(command, Some(Command::Quit), "{:?}", model.mode);
    }
}

#[test]
fn panes_and_rows_go_round_and_stop_at_the_ends() {
    let mut model = busy();
    press(&mut model, "Tab Tab Tab Tab");
    assert_eq!(model.pane, Pane::Queues);
    press(&mut model, "h");
    assert_eq!(model.pane, Pane::Events);
    press(&mut model, "3 j j j j j j j");
    assert_eq!(model.selected(Pane::Tasks), Some(3));
    press(&mut model, "g k");
    assert_eq!(model.selected(Pane::Tasks), Some(0));
    press(&mut model, "G");
    assert_eq!(model.selected(Pane::Tasks), Some(3));
}
