//! How it looks: pure drawing of a model.

mod columns;
mod overlay;
mod panes;
mod theme;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use self::columns::{cut, wide};
pub(super) use self::theme::Theme;
use super::model::{Events, Mode, Model, Pane};
use super::rates::{PerSecond, SECONDS};
use super::words::{age, count, per_second, whole_age};
use crate::domain::ExecutorState;

/// What the screen must have at least.
const LEAST: (u16, u16) = (60, 14);

/// From this width on there are two columns of panes.
const TWO_COLUMNS: u16 = 140;

/// Lines above the panes: the title, and what concerns everything.
const TOP: u16 = 6;

/// How wide the table of rates is.
const RATES: u16 = 35;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let words = format!(
            "too small: {}x{}, needs {}x{}",
            area.width, area.height, LEAST.0, LEAST.1
        );
        frame.render_widget(Paragraph::new(words), area);
        return;
    }
    let parts = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(TOP - 1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    let [top, summary, middle, foot] = parts.areas(area);
    frame.render_widget(Paragraph::new(title(model, top.width.into(), theme)), top);
    draw_summary(frame, summary, model, theme);
    draw_panes(frame, middle, model, theme);
    frame.render_widget(
        Paragraph::new(footer(model, foot.width.into(), theme)),
        foot,
    );
    match &model.mode {
        Mode::Help => overlay::help(frame, middle, theme),
        Mode::Details { key, from, facts } => {
            overlay::details(frame, middle, model, (key, facts.as_ref(), *from), theme);
        }
        Mode::Watching | Mode::Asking(_) => {}
    }
}

/// The name, the store, the broker, and the time by the store's clock.
fn title(model: &Model, width: usize, theme: Theme) -> Line<'static> {
    let mut spans = vec![
        Span::styled("longshore top", theme.accent()),
        Span::raw("  "),
    ];
    match (model.store_away(), &model.overview) {
        (Some(since), _) => {
            let words = format!("store: away since {}", whole_age(since));
            spans.push(Span::styled(words, theme.bad()));
        }
        (None, Some(seen)) => {
            spans.push(Span::raw(seen.identity.version.clone()));
            let took = model.took().map_or_else(String::new, age);
            spans.push(Span::styled(format!(" {took}"), theme.dim()));
        }
        (None, None) => spans.push(Span::styled("store: asked", theme.dim())),
    }
    spans.push(Span::raw("  "));
    spans.push(match &model.events {
        Events::Come => Span::raw(format!("{} up", model.broker)),
        Events::Blocked(_) => Span::styled("broker: takes no messages", theme.bad()),
        Events::Away(since, _) => {
            let since = whole_age(model.now.saturating_sub(*since));
            Span::styled(format!("broker: away since {since}"), theme.bad())
        }
        Events::Never(_) => Span::styled("no events", theme.warning()),
    });
    let line = Line::from(spans);
    let time = model
        .store_now()
        .map_or_else(String::new, |now| now.strftime("%H:%M:%S UTC").to_string());
    ended(line, Span::styled(time, theme.dim()), width)
}

/// `line`, with `end` at its right edge if there is room.
fn ended(mut line: Line<'static>, end: Span<'static>, width: usize) -> Line<'static> {
    let used = line.width() + end.width();
    if used < width {
        line.spans.push(Span::raw(" ".repeat(width - used)));
        line.spans.push(end);
    }
    line
}

fn draw_summary(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let parts = Layout::horizontal([
        Constraint::Length(RATES),
        Constraint::Length(3),
        Constraint::Fill(1),
    ]);
    let [left, gap, right] = parts.areas(area);
    frame.render_widget(Paragraph::new(rates(model, theme)), left);
    let rule = vec![Line::styled(" │ ", theme.dim()); 4];
    frame.render_widget(Paragraph::new(rule), gap);
    frame.render_widget(
        Paragraph::new(facts(model, right.width.into(), theme)),
        right,
    );
}

/// Tasks a second, over one, ten and sixty seconds.
fn rates(model: &Model, theme: Theme) -> Vec<Line<'static>> {
    let row = |name: &str, cells: [String; 3], style, name_style| {
        let mut spans = vec![Span::styled(format!("{name:<11}"), name_style)];
        spans.extend(cells.map(|cell| Span::styled(format!("{cell:>8}"), style)));
        Line::from(spans)
    };
    let has_events = !matches!(model.events, Events::Never(_));
    let told = [1, 10, SECONDS].map(|seconds| {
        let told = model.rates.per_second(seconds);
        told.filter(|_| has_events)
    });
    let of = |which: fn(PerSecond) -> f64| {
        told.map(|told| told.map_or_else(|| "–".to_owned(), |told| per_second(which(told))))
    };
    let heading = ["1 s", "10 s", "60 s"].map(str::to_owned);
    let is_failing = told.iter().flatten().any(|told| told.failed > 0.0);
    let failed = if is_failing {
        theme.bad()
    } else {
        theme.plain()
    };
    vec![
        row("tasks/s", heading, theme.dim(), theme.dim()),
        row("in", of(|one| one.created), theme.bold(), theme.plain()),
        row(
            "succeeded",
            of(|one| one.succeeded),
            theme.good(),
            theme.plain(),
        ),
        row("failed", of(|one| one.failed), failed, theme.plain()),
    ]
}

/// Latency, the oldest ready task, what is open, and how many ended in each second of the last minute.
fn facts(model: &Model, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let name = |name: &str| Span::styled(format!("{name:<9}"), theme.dim());
    let room = width.saturating_sub(9);
    let mut lines = vec![Line::from(vec![
        name("latency"),
        latency(model, room, theme),
    ])];
    let oldest = model.oldest().map(|(queue, since, task)| {
        let action = task.map_or_else(String::new, |task| format!("{} in ", task.action));
        let age = whole_age(model.age(since));
        format!("{age}  {action}{}", queue.name)
    });
    let oldest = match oldest {
        Some(words) => Span::styled(cut(&words, room), theme.bold()),
        None => Span::styled("nothing is ready", theme.dim()),
    };
    lines.push(Line::from(vec![name("oldest"), oldest]));
    lines.push(open(model, name("open"), room, theme));
    let seconds = u32::try_from(room).unwrap_or(SECONDS).min(SECONDS);
    let ended = model.rates.ended(seconds);
    let most = ended.iter().copied().max().unwrap_or(0);
    let bars = if most == 0 {
        Span::styled("nothing within the last minute", theme.dim())
    } else {
        let bars: String = ended.iter().map(|ended| bar(*ended, most)).collect();
        Span::styled(bars, theme.good())
    };
    let bars = match &model.events {
        Events::Never(_) => Span::styled(cut("not known without events", room), theme.dim()),
        Events::Come | Events::Blocked(_) | Events::Away(..) => bars,
    };
    lines.push(Line::from(vec![name("ended/s"), bars]));
    lines
}

fn latency(model: &Model, room: usize, theme: Theme) -> Span<'static> {
    let words = match (&model.events, model.latencies.percentiles()) {
        (Events::Never(reason), _) => format!("not known: {reason}"),
        (_, None) => "nothing ended within the last minute".to_owned(),
        (_, Some(told)) => {
            let (p50, p99) = (age(told.p50), age(told.p99));
            let tasks = count(told.tasks);
            let said = format!("p50 {p50}  p99 {p99}  of {tasks} tasks");
            return Span::styled(cut(&said, room), theme.bold());
        }
    };
    Span::styled(cut(&words, room), theme.dim())
}

/// How many tasks are in which open state; what is none is left out, and so is what has no room.
fn open(model: &Model, name: Span<'static>, room: usize, theme: Theme) -> Line<'static> {
    let sum = |which: fn(&crate::store::QueueOverview) -> u64| -> u64 {
        model.queues().iter().map(which).sum()
    };
    let lost = model
        .executors()
        .iter()
        .filter(|one| one.state == ExecutorState::Lost)
        .count() as u64;
    let counts = [
        (sum(|one| one.paused), "paused", theme.warning()),
        (sum(|one| one.running), "running", theme.good()),
        (sum(|one| one.ready), "ready", theme.bold()),
        (sum(|one| one.suspended), "suspended", theme.plain()),
        (sum(|one| one.scheduled), "scheduled", theme.plain()),
        (sum(|one| one.blocked), "blocked", theme.plain()),
        (
            lost,
            if lost == 1 {
                "executor lost"
            } else {
                "executors lost"
            },
            theme.bad(),
        ),
    ];
    let mut line = Line::from(name);
    let mut left = room;
    for (number, state, style) in counts.into_iter().filter(|(number, ..)| *number > 0) {
        let words = format!("{} {state}", count(number));
        let gap = if left == room { 0 } else { 2 };
        if wide(&words) + gap > left {
            break;
        }
        left -= wide(&words) + gap;
        line.spans.push(Span::raw(" ".repeat(gap)));
        line.spans.push(Span::styled(words, style));
    }
    if left == room {
        let words = if model.overview.is_none() {
            ""
        } else {
            "nothing"
        };
        line.spans.push(Span::styled(words, theme.dim()));
    }
    line
}

/// A bar as high as `part` is of `most`: something is never drawn as nothing.
fn bar(part: u64, most: u64) -> char {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let height = (part * 8).div_ceil(most.max(1)).min(8);
    usize::try_from(height).map_or(' ', |height| BARS[height])
}

fn draw_panes(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let columns: Vec<(Rect, &[Pane])> = if area.width < TWO_COLUMNS {
        vec![(area, &Pane::ALL)]
    } else {
        let parts = Layout::horizontal([
            Constraint::Fill(1),
            Constraint::Length(2),
            Constraint::Fill(1),
        ]);
        let [left, _, right] = parts.areas(area);
        let (first, second) = Pane::ALL.split_at(2);
        vec![(left, first), (right, second)]
    };
    for (area, shown) in columns {
        let mut y = area.y;
        for (pane, height) in shown.iter().zip(heights(area.height, shown, model)) {
            let place = Rect { y, height, ..area };
            panes::draw(frame, place, model, *pane, theme);
            y += height;
        }
    }
}

/// How high each of `shown` is: a row at least; the one with the keys gets more than others; the last has the rest.
fn heights(height: u16, shown: &[Pane], model: &Model) -> Vec<u16> {
    let wanted: Vec<u16> = shown
        .iter()
        .map(|pane| {
            let rows = u16::try_from(model.rows(*pane)).unwrap_or(u16::MAX);
            rows.max(1).saturating_add(panes::HEAD)
        })
        .collect();
    let mut given: Vec<u16> = wanted.iter().map(|_| panes::HEAD + 1).collect();
    let mut left = height.saturating_sub(given.iter().sum());
    if let Some(n) = shown.iter().position(|pane| *pane == model.pane) {
        let more = (wanted[n] - given[n]).min(left * 2 / 3);
        given[n] += more;
        left -= more;
    }
    while left > 0 {
        let wants: Vec<usize> = (0..given.len())
            .filter(|n| given[*n] < wanted[*n])
            .collect();
        if wants.is_empty() {
            break;
        }
        for n in wants.into_iter().take(left.into()) {
            given[n] += 1;
            left -= 1;
        }
    }
    if let Some(last) = given.last_mut() {
        *last += left;
    }
    given
}

/// The question, the notice, or what the keys do.
fn footer(model: &Model, width: usize, theme: Theme) -> Line<'static> {
    if let Mode::Asking(deed) = &model.mode {
        let question = cut(&deed.question(), width.saturating_sub(13));
        return Line::from(vec![
            Span::styled(question, theme.warning().patch(theme.bold())),
            Span::raw("  "),
            Span::styled("y", theme.accent()),
            Span::raw(" yes  "),
            Span::styled("n", theme.accent()),
            Span::raw(" no"),
        ]);
    }
    if let Some(notice) = model.notice() {
        let style = if notice.is_bad {
            theme.bad()
        } else {
            theme.good()
        };
        return Line::styled(cut(&notice.words, width), style);
    }
    if let Some(trouble) = model.store_away().and(model.store_trouble.as_ref()) {
        return Line::styled(cut(trouble, width), theme.bad());
    }
    let keys: &[(&str, &str)] = match model.mode {
        Mode::Help => &[("Esc", "back")],
        Mode::Details { .. } => &[("Esc", "back"), ("↑↓", "scroll"), ("c", "cancel")],
        Mode::Watching | Mode::Asking(_) => &[
            ("Tab", "pane"),
            ("↑↓", "row"),
            ("Enter", "show"),
            ("d", "drain"),
            ("c", "cancel"),
            ("r", "resume"),
            ("?", "help"),
            ("q", "quit"),
        ],
    };
    // Where not all have room, those are left out that everybody tries.
    let used = |keys: &[(&str, &str)]| -> usize {
        let each = keys.iter().map(|(key, does)| wide(key) + wide(does) + 3);
        each.sum::<usize>().saturating_sub(2)
    };
    let left_out = (0..keys.len()).find(|n| used(&keys[*n..]) <= width);
    let mut spans = Vec::new();
    for (key, does) in &keys[left_out.unwrap_or(0)..] {
        spans.push(Span::styled(*key, theme.accent()));
        spans.push(Span::styled(format!(" {does}  "), theme.dim()));
    }
    Line::from(spans)
}
