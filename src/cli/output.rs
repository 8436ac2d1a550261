//! The only place that prints. stdout is data, stderr is for people.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::complaint::Complaint;
pub(super) use crate::domain::duration_words as duration;

/// How data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
}

/// Where a command writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) const fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) const fn format(self) -> Format {
        self.format
    }

    /// Writes data as a table, or the same data as JSON.
    pub(super) fn rows<T: Serialize>(
        self,
        header: &[&str],
        data: &[T],
        row: impl Fn(&T) -> Vec<String>,
    ) -> std::io::Result<()> {
        match self.format {
            Format::Table => self.table(header, data.iter().map(row)),
            Format::Json => self.json(&data),
            Format::Jsonl => data.iter().try_for_each(|one| self.jsonl(one)),
        }
    }

    /// Writes a table: no borders, so that it can be cut and sorted.
    pub(super) fn table(
        self,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> std::io::Result<()> {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(header.iter().copied());
        table.add_rows(rows);
        let last = table.column_count().saturating_sub(1);
        for column in table.column_iter_mut() {
            let right = if column.index == last { 0 } else { 2 };
            column.set_padding((0, right));
        }
        table
            .trim_fmt()
            .lines()
            .try_for_each(|line| self.line(line))
    }

    /// Writes one JSON document.
    pub(super) fn json<T: Serialize + ?Sized>(self, data: &T) -> std::io::Result<()> {
        self.line(&serde_json::to_string_pretty(data)?)
    }

    /// Writes one JSON document on one line, and sends it off: somebody may be listening.
    pub(super) fn jsonl<T: Serialize + ?Sized>(self, data: &T) -> std::io::Result<()> {
        self.line(&serde_json::to_string(data)?)
    }

    /// Writes a line of data.
    pub(super) fn line(self, line: &str) -> std::io::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Writes text as it is.
    #[expect(
        clippy::unused_self,
        reason = "what a command writes goes through its output"
    )]
    pub(super) fn text(self, text: &str) -> std::io::Result<()> {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Says something to people.
    #[expect(
        clippy::unused_self,
        reason = "what a command says goes through its output"
    )]
    pub(super) fn say(self, words: &str) {
        // Not `eprintln!`, which panics when nobody listens any more (`2>&1 | head`).
        drop(writeln!(std::io::stderr(), "{words}"));
    }

    /// Says what went wrong. A reader that went away (`| head`) is no error worth words.
    pub(super) fn complain(self, complaint: &Complaint) {
        if !complaint.is_reader_gone() {
            complaint.lines().iter().for_each(|line| self.say(line));
        }
    }
}
