//! Rows in columns that fit the width: what matters least is left out first, and what is too long ends in `…`.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Blanks between two columns.
const GAP: usize = 2;

/// Letters of a whole id.
const ID: usize = 36;

/// Letters of an id that tell it from others: its end is random, its beginning is the time.
const ID_END: usize = 9;

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Words,
    Number,
    Id,
}

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) title: &'static str,
    kind: Kind,
    /// What it takes at least, and at most.
    widths: (usize, usize),
    /// The higher, the sooner it is left out; 0 never is.
    rank: u8,
}

/// A column of words, from `least` to `most` wide.
pub(super) const fn words(title: &'static str, least: usize, most: usize, rank: u8) -> Column {
    Column {
        title,
        kind: Kind::Words,
        widths: (least, most),
        rank,
    }
}

/// A column of numbers.
pub(super) const fn number(title: &'static str, width: usize, rank: u8) -> Column {
    Column {
        title,
        kind: Kind::Number,
        widths: (width, width),
        rank,
    }
}

/// A column of ids: whole where there is room, or their ends.
pub(super) const fn id(title: &'static str) -> Column {
    Column {
        title,
        kind: Kind::Id,
        widths: (ID_END, ID_END),
        rank: 0,
    }
}

/// What stands in one column of a row.
pub(super) type Cell = (String, Style);

/// Columns as wide as they are drawn; 0 for those that are left out.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    columns: &'a [Column],
    widths: Vec<usize>,
}

impl<'a> Grid<'a> {
    /// As many of `columns` as fit into `width`. What is left over goes to those that may grow.
    pub(super) fn fit(columns: &'a [Column], width: usize) -> Self {
        let mut widths: Vec<usize> = columns.iter().map(|column| column.widths.0).collect();
        let total = |widths: &[usize]| -> usize {
            let shown = widths.iter().filter(|width| **width > 0);
            shown.map(|width| width + GAP).sum::<usize>()
        };
        // The last column has no gap behind it.
        let room = width + GAP;
        while total(&widths) > room {
            let shown = (0..columns.len()).filter(|n| widths[*n] > 0 && columns[*n].rank > 0);
            // Of equals the one to the right.
            let Some(least) = shown.max_by_key(|n| columns[*n].rank) else {
                break;
            };
            widths[least] = 0;
        }
        let mut left = room.saturating_sub(total(&widths));
        let is_id = |n: &usize| columns[*n].kind == Kind::Id;
        if let Some(id) = (0..columns.len()).find(is_id)
            && left >= ID - ID_END
        {
            widths[id] = ID;
            left -= ID - ID_END;
        }
        while left > 0 {
            let grows = |n: &usize| widths[*n] > 0 && widths[*n] < columns[*n].widths.1;
            let growing: Vec<usize> = (0..columns.len()).filter(grows).collect();
            if growing.is_empty() {
                break;
            }
            for n in growing.into_iter().take(left) {
                widths[n] += 1;
                left -= 1;
            }
        }
        Self { columns, widths }
    }

    /// The titles.
    pub(super) fn header(&self, style: Style) -> Line<'static> {
        let titles = self.columns.iter();
        self.row(
            titles
                .map(|column| (column.title.to_owned(), style))
                .collect(),
        )
    }

    /// One row; `cells` has one for each column, shown or not.
    pub(super) fn row(&self, cells: Vec<Cell>) -> Line<'static> {
        let mut spans = Vec::with_capacity(cells.len() * 2);
        let shown = self.columns.iter().zip(&self.widths).zip(cells);
        for ((column, width), (text, style)) in shown.filter(|((_, width), _)| **width > 0) {
            if !spans.is_empty() {
                spans.push(Span::raw(" ".repeat(GAP)));
            }
            let text = match column.kind {
                Kind::Id if text.len() > *width && text.is_ascii() => {
                    format!("…{}", &text[text.len() + 1 - *width..])
                }
                Kind::Id | Kind::Words | Kind::Number => cut(&text, *width),
            };
            let pad = " ".repeat(width.saturating_sub(wide(&text)));
            let text = match column.kind {
                Kind::Words | Kind::Id => text + &pad,
                Kind::Number => pad + &text,
            };
            spans.push(Span::styled(text, style));
        }
        Line::from(spans)
    }
}

/// How many columns of the terminal `text` takes.
pub(super) fn wide(text: &str) -> usize {
    Span::raw(text).width()
}

/// `text` in at most `width`, with `…` where something is missing; without what would move the cursor.
pub(super) fn cut(text: &str, width: usize) -> String {
    let text: String = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if wide(&text) <= width {
        return text;
    }
    let mut shown = String::new();
    for letter in text.chars() {
        shown.push(letter);
        if wide(&shown) >= width {
            shown.pop();
            break;
        }
    }
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_least_goes_first_and_the_rest_is_even() {
        let columns = [
            words("NAME", 6, 10, 0),
            number("READY", 5, 0),
            number("RUN", 4, 2),
            number("OLD", 4, 1),
        ];
        let drawn = |width: usize, cells: [&str; 4]| {
            let cells = cells.map(|text| (text.to_owned(), Style::new()));
            Grid::fit(&columns, width).row(cells.to_vec()).to_string()
        };
        let cells = ["thumbnails", "12", "3", "4s"];
        assert_eq!(drawn(40, cells), "thumbnails     12     3    4s");
        assert_eq!(drawn(25, cells), "thumb…     12     3    4s");
        assert_eq!(drawn(21, cells), "thumbna…     12    4s");
        assert_eq!(drawn(5, cells), "thumb…     12");
    }

    #[test]
    fn text_is_cut_by_what_is_seen() {
        assert_eq!(cut("häuser", 6), "häuser");
        assert_eq!(cut("häuser", 5), "häus…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("a\x1b[31m\nb", 20), "a [31m b");
    }
}
