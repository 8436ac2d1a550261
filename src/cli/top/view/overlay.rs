//! What is drawn over the panes: help, and one thing in full.

use ratatui::Frame;
use ratatui::layout::{Margin, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph};

use super::columns::wide;
use super::theme::Theme;
use crate::cli::top::details::{self, Facts};
use crate::cli::top::model::{Key, Model};

/// What each key does.
const KEYS: &[(&str, &str)] = &[
    ("Tab, ← →, 1 to 4", "go to another pane"),
    ("↑ ↓, j k, PgUp PgDn, g G", "go to another row"),
    ("Enter", "show it in full; of a task why it is where it is"),
    ("c", "cancel the selected task, and all below it"),
    ("r", "resume the selected paused task"),
    ("d", "drain the selected executor"),
    ("p", "pause the selected queue"),
    ("Esc", "back"),
    ("q, Ctrl-C", "quit"),
];

/// What the words mean.
const WORDS: &[(&str, &str)] = &[
    ("OLDEST, FOR", "since when it has been ready, or has run"),
    ("IN/S, OK/S, FAIL/S", "tasks a second over the last 10 s"),
    ("SLOTS", "tasks that live executors run at once"),
    ("latency", "from created to ended, as heard here, over 60 s"),
];

/// How wide the names of facts are.
const NAME: usize = 12;

/// How wide an overlay is at most.
const WIDTH_MAX: u16 = 100;

/// What each key does, and what the words mean.
pub(super) fn help(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let row = |(name, says): &(&'static str, &'static str)| {
        Line::from(vec![
            Span::styled(format!("{name:<26}"), theme.accent()),
            Span::raw(*says),
        ])
    };
    let mut lines: Vec<Line<'_>> = KEYS.iter().map(row).collect();
    lines.push(Line::raw(""));
    lines.extend(WORDS.iter().map(row));
    draw(frame, area, "help", lines, 0, theme);
}

/// One thing in full, from a line on.
pub(super) fn details(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    (key, found, from): (&Key, Option<&Facts>, u16),
    theme: Theme,
) {
    let title = match key {
        Key::Queue(_) => "queue",
        Key::Executor(_) => "executor",
        Key::Task(_) | Key::Event(_) => "task",
    };
    let room = inside(area).saturating_sub(NAME);
    let lines = match details::of(model, key, found) {
        Some(facts) => facts
            .into_iter()
            .flat_map(|(name, says)| fact(name, &says, room, theme))
            .collect(),
        None if title == "task" => vec![Line::styled("asking the store …", theme.dim())],
        None => vec![Line::styled("it is gone", theme.dim())],
    };
    draw(frame, area, title, lines, from, theme);
}

/// A name, and beside it what it says in as many lines as that takes.
fn fact(name: String, says: &str, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut name = Some(name);
    let lines = folded(says, room).into_iter();
    lines
        .map(|line| {
            let name = name.take().unwrap_or_default();
            Line::from(vec![
                Span::styled(format!("{name:<NAME$}"), theme.dim()),
                Span::raw(line),
            ])
        })
        .collect()
}

/// `text` in lines of at most `room`, broken between words where that can be.
fn folded(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut add = |piece: &str| {
        let fits = |line: &String| wide(line) + wide(piece) <= room;
        match lines.last_mut().filter(|line| fits(line)) {
            Some(line) => line.push_str(piece),
            None => lines.push(piece.trim_start().to_owned()),
        }
    };
    let text = text.replace(char::is_control, " ");
    for word in text.split_inclusive(' ') {
        if wide(word) <= room {
            add(word);
        } else {
            word.chars()
                .for_each(|letter| add(letter.encode_utf8(&mut [0; 4])));
        }
    }
    lines
}

/// How many letters a line of an overlay has.
fn inside(area: Rect) -> usize {
    usize::from(area.width.min(WIDTH_MAX).saturating_sub(4))
}

fn draw(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &'static str,
    lines: Vec<Line<'_>>,
    from: u16,
    theme: Theme,
) {
    let width = area.width.min(WIDTH_MAX);
    let high = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let height = high.saturating_add(2).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.accent())
        .title(format!(" {title} "));
    let inside = block.inner(place).inner(Margin::new(1, 0));
    frame.render_widget(Clear, place);
    frame.render_widget(block, place);
    let last = high.saturating_sub(inside.height);
    let words = Paragraph::new(lines).scroll((from.min(last), 0));
    frame.render_widget(words, inside);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_goes_on_in_the_next_line() {
        assert_eq!(folded("one two three", 8), ["one two ", "three"]);
        assert_eq!(folded("0123456789", 4), ["0123", "4567", "89"]);
        assert_eq!(folded("", 4), [""]);
    }
}
