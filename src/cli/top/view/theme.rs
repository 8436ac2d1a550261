//! A few colours, and none at all where `NO_COLOR` is set: then bold, dim and reversed letters say the same.

use ratatui::style::{Color, Modifier, Style};

/// How things look.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli::top) struct Theme {
    has_colours: bool,
}

#[expect(
    clippy::unused_self,
    reason = "a theme is asked for each look, also for those without a colour"
)]
impl Theme {
    pub(in crate::cli::top) const fn new(no_colour: bool) -> Self {
        Self {
            has_colours: !no_colour,
        }
    }

    const fn colour(self, colour: Color) -> Style {
        if self.has_colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    /// What is said beside the point: headings, units, borders.
    pub(super) const fn dim(self) -> Style {
        if self.has_colours {
            Style::new().fg(Color::DarkGray)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        }
    }

    /// What the keys are for just now.
    pub(super) const fn accent(self) -> Style {
        self.colour(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) const fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) const fn good(self) -> Style {
        self.colour(Color::Green)
    }

    pub(super) const fn bad(self) -> Style {
        self.colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What may want somebody.
    pub(super) const fn warning(self) -> Style {
        self.colour(Color::Yellow)
    }

    /// The selected row.
    pub(super) const fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) const fn plain(self) -> Style {
        Style::new()
    }
}
