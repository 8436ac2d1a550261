//! The four parts of the screen that have rows.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::columns::{Cell, Column, Grid, id, number, words};
use super::theme::Theme;
use crate::cli::top::model::{Events, Model, Pane};
use crate::cli::top::rates::PerSecond;
use crate::cli::top::words::{count, per_second, whole_age};
use crate::domain::{ExecutorRecord, ExecutorState, Progress, TaskState};
use crate::store::{OpenTask, QueueOverview};
use crate::wire::EventKind;

/// Lines of a pane that are not rows: its title and the titles of its columns.
pub(super) const HEAD: u16 = 2;

/// Over how many seconds the rates of queues are told.
const RATE_SECONDS: u32 = 10;

const QUEUES: &[Column] = &[
    words("QUEUE", 12, 28, 0),
    number("READY", 7, 0),
    number("RUN", 5, 0),
    number("SLOTS", 5, 1),
    number("OLDEST", 7, 1),
    number("IN/S", 6, 2),
    number("OK/S", 6, 3),
    number("FAIL/S", 6, 4),
    number("PAUSED", 6, 5),
    number("SCHED", 6, 6),
    number("BLOCK", 6, 8),
    number("SUSP", 6, 7),
];

const EXECUTORS: &[Column] = &[
    words("EXECUTOR", 12, 28, 0),
    words("STATE", 8, 8, 0),
    number("RUN", 5, 0),
    number("SLOTS", 5, 0),
    number("UP", 7, 3),
    words("HOST", 8, 24, 2),
    number("PID", 7, 5),
    words("QUEUES", 10, 40, 1),
    words("VERSION", 7, 12, 6),
];

const TASKS: &[Column] = &[
    id("TASK"),
    words("ACTION", 12, 28, 0),
    words("STATE", 7, 7, 0),
    number("FOR", 7, 0),
    number("TRY", 3, 4),
    words("QUEUE", 8, 20, 2),
    words("EXECUTOR", 8, 20, 3),
    words("PROGRESS", 8, 40, 1),
];

const EVENTS: &[Column] = &[
    words("TIME", 12, 12, 0),
    words("EVENT", 10, 10, 0),
    words("ACTION", 12, 28, 0),
    words("QUEUE", 8, 20, 1),
    id("TASK"),
    number("TRY", 3, 4),
    words("", 8, 40, 3),
];

/// Draws one of them.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, model: &Model, pane: Pane, theme: Theme) {
    let has_keys = model.pane == pane;
    let width = usize::from(area.width);
    let grid = Grid::fit(columns(pane), width);
    let mut lines = vec![title(model, pane, width, theme), grid.header(theme.dim())];
    let room = usize::from(area.height.saturating_sub(HEAD));
    let rows = model.rows(pane);
    let selected = model.selected(pane).unwrap_or(0);
    let first = first_row(selected, rows, room);
    for row in first..rows.min(first + room) {
        let mut line = grid.row(cells(model, pane, row, theme));
        if has_keys && row == selected {
            let used = line.width();
            let rest = " ".repeat(width.saturating_sub(used));
            line.spans.push(Span::raw(rest));
            line = line.patch_style(theme.selected());
        }
        lines.push(line);
    }
    if rows == 0 {
        lines.push(Line::styled(nothing(model, pane), theme.dim()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// The first row that is drawn, so that the selected one is among those.
const fn first_row(selected: usize, rows: usize, room: usize) -> usize {
    if rows <= room || selected < room / 2 {
        return 0;
    }
    let middle = selected - room / 2;
    let last = rows - room;
    if middle < last { middle } else { last }
}

const fn columns(pane: Pane) -> &'static [Column] {
    match pane {
        Pane::Queues => QUEUES,
        Pane::Executors => EXECUTORS,
        Pane::Tasks => TASKS,
        Pane::Events => EVENTS,
    }
}

/// `── Queues 3 ─────────`.
fn title(model: &Model, pane: Pane, width: usize, theme: Theme) -> Line<'static> {
    let name = match pane {
        Pane::Queues => "Queues",
        Pane::Executors => "Executors",
        Pane::Tasks => "Tasks",
        Pane::Events => "Events",
    };
    let (style, rule) = if model.pane == pane {
        (theme.accent(), theme.accent())
    } else {
        (theme.bold(), theme.dim())
    };
    let said = format!(" {}", about(model, pane));
    let used = 3 + name.len() + said.chars().count() + 1;
    Line::from(vec![
        Span::styled("── ", rule),
        Span::styled(name, style),
        Span::styled(said, theme.dim()),
        Span::raw(" "),
        Span::styled("─".repeat(width.saturating_sub(used)), rule),
    ])
}

/// How many there are, and what else matters about all of them.
fn about(model: &Model, pane: Pane) -> String {
    let rows = model.rows(pane);
    match pane {
        Pane::Queues => rows.to_string(),
        Pane::Executors => {
            let lost = model.executors().iter();
            match lost.filter(|one| one.state == ExecutorState::Lost).count() {
                0 => rows.to_string(),
                lost => format!("{rows}, {lost} lost"),
            }
        }
        Pane::Tasks => {
            let open: u64 = model
                .queues()
                .iter()
                .map(|queue| queue.paused + queue.running + queue.ready)
                .sum();
            if open > rows as u64 {
                format!("{rows} of {}", count(open))
            } else {
                rows.to_string()
            }
        }
        Pane::Events if model.missed > 0 => {
            format!("{}, {} missed", count(model.heard), count(model.missed))
        }
        Pane::Events => count(model.heard),
    }
}

/// What is said where no row is.
fn nothing(model: &Model, pane: Pane) -> String {
    if model.overview.is_none() && pane != Pane::Events {
        return "waiting for the store".to_owned();
    }
    match (pane, &model.events) {
        (Pane::Queues, _) => "no queue: `longshore queue create NAME` makes one".to_owned(),
        (Pane::Executors, _) => {
            "no executor: nothing runs until `longshore executor` is started".to_owned()
        }
        (Pane::Tasks, _) => "nothing is running, ready or paused".to_owned(),
        (Pane::Events, Events::Never(reason)) => format!("no events: {reason}"),
        (Pane::Events, Events::Away(..)) => "no events while the broker is away".to_owned(),
        (Pane::Events, Events::Come | Events::Blocked(_)) => "nothing has happened yet".to_owned(),
    }
}

fn cells(model: &Model, pane: Pane, row: usize, theme: Theme) -> Vec<Cell> {
    match pane {
        Pane::Queues => queue(model, &model.queues()[row], theme),
        Pane::Executors => executor(model, &model.executors()[row], theme),
        Pane::Tasks => task(model, &model.tasks()[row], theme),
        Pane::Events => event(model, row, theme),
    }
}

/// A count: dim when it is none.
fn counted(number: u64, theme: Theme) -> Cell {
    let style = if number == 0 {
        theme.dim()
    } else {
        theme.plain()
    };
    (count(number), style)
}

/// A count of what wants somebody.
fn alarming(number: u64, theme: Theme) -> Cell {
    let style = if number == 0 {
        theme.dim()
    } else {
        theme.warning()
    };
    (count(number), style)
}

fn queue(model: &Model, queue: &QueueOverview, theme: Theme) -> Vec<Cell> {
    let slots = model.slots(queue);
    let has_events = !matches!(model.events, Events::Never(_));
    let rates = model.queue_rates(queue.name.as_str());
    let rates = rates.and_then(|rates| rates.per_second(RATE_SECONDS));
    let rate = |which: fn(PerSecond) -> f64, style| match rates.filter(|_| has_events).map(which) {
        Some(0.0) => ("0".to_owned(), theme.dim()),
        Some(rate) => (per_second(rate), style),
        None => ("–".to_owned(), theme.dim()),
    };
    let oldest = queue.oldest_ready_at.map_or_else(
        || ("–".to_owned(), theme.dim()),
        |since| (whole_age(model.age(since)), theme.plain()),
    );
    let slots = if slots == 0 && queue.ready > 0 {
        (count(slots), theme.bad()) // Nobody takes what is ready.
    } else {
        counted(slots, theme)
    };
    let name = if queue.pause.is_some() {
        (format!("{} (paused)", queue.name), theme.warning())
    } else {
        (queue.name.to_string(), theme.bold())
    };
    vec![
        name,
        counted(queue.ready, theme),
        counted(queue.running, theme),
        slots,
        oldest,
        rate(|one| one.created, theme.plain()),
        rate(|one| one.succeeded, theme.good()),
        rate(|one| one.failed, theme.bad()),
        alarming(queue.paused, theme),
        counted(queue.scheduled, theme),
        counted(queue.blocked, theme),
        counted(queue.suspended, theme),
    ]
}

fn executor(model: &Model, executor: &ExecutorRecord, theme: Theme) -> Vec<Cell> {
    let (state, style) = match executor.state {
        ExecutorState::Lost => ("lost", theme.bad()),
        ExecutorState::Live if model.is_draining(executor.id) => ("draining", theme.warning()),
        ExecutorState::Live => ("live", theme.good()),
    };
    let slots: u64 = executor.slots.values().map(|slots| u64::from(*slots)).sum();
    let busy = model.busy(executor.id);
    let queues: Vec<String> = executor
        .slots
        .iter()
        .map(|(queue, slots)| format!("{queue}={slots}"))
        .collect();
    let busy = if busy >= slots && busy > 0 {
        (count(busy), theme.warning())
    } else {
        counted(busy, theme)
    };
    vec![
        (executor.name.to_string(), theme.bold()),
        (state.to_owned(), style),
        busy,
        counted(slots, theme),
        (whole_age(model.age(executor.started_at)), theme.plain()),
        (executor.host.clone(), theme.plain()),
        (executor.pid.to_string(), theme.dim()),
        (queues.join(" "), theme.plain()),
        (executor.version.clone(), theme.dim()),
    ]
}

fn task(model: &Model, task: &OpenTask, theme: Theme) -> Vec<Cell> {
    let style = match task.state {
        TaskState::Paused => theme.warning(),
        TaskState::Running => theme.good(),
        TaskState::Ready
        | TaskState::Scheduled
        | TaskState::Blocked
        | TaskState::Suspended
        | TaskState::Succeeded
        | TaskState::Failed
        | TaskState::Cancelled => theme.plain(),
    };
    let runs = task.executor.filter(|_| task.state == TaskState::Running);
    let executor = runs.map(|id| model.executor_name(id)).unwrap_or_default();
    vec![
        (task.id.to_string(), theme.plain()),
        (task.action.to_string(), theme.bold()),
        (task.state.to_string(), style),
        (whole_age(model.age(task.since)), theme.plain()),
        (task.attempt.to_string(), theme.dim()),
        (task.queue.to_string(), theme.plain()),
        (executor, theme.plain()),
        (
            task.progress
                .as_ref()
                .map(Progress::sentence)
                .unwrap_or_default(),
            theme.plain(),
        ),
    ]
}

fn event(model: &Model, row: usize, theme: Theme) -> Vec<Cell> {
    let line = &model.lines[row];
    let style = match line.kind {
        EventKind::Succeeded => theme.good(),
        EventKind::Failed => theme.bad(),
        EventKind::Cancelled
        | EventKind::Paused
        | EventKind::Retried
        | EventKind::Released
        | EventKind::CancelRequested
        | EventKind::AbandonRequested => theme.warning(),
        EventKind::Created
        | EventKind::Suspended
        | EventKind::Skipped
        | EventKind::Woken
        | EventKind::Signal
        | EventKind::Signalled
        | EventKind::Progressed => theme.plain(),
    };
    vec![
        (line.time.strftime("%H:%M:%S%.3f").to_string(), theme.dim()),
        (line.kind.to_string(), style),
        (line.action.clone(), theme.bold()),
        (line.queue.clone(), theme.plain()),
        (line.task.to_string(), theme.plain()),
        (
            line.attempt.map_or_else(String::new, |n| n.to_string()),
            theme.dim(),
        ),
        (line.words.clone(), theme.plain()),
    ]
}
