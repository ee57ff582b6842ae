//! Text for people: lines, tables and a little colour.

use std::{
    fmt,
    io::{self, Write},
};

use console::measure_text_width;

use crate::config::Fault;

/// A sheet to write on.
pub(crate) struct Page<'a> {
    to: &'a mut dyn Write,
    has_colour: bool,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Doubtful,
    Bad,
    Strong,
    Faint,
}

impl<'a> Page<'a> {
    pub(crate) fn new(to: &'a mut dyn Write, has_colour: bool) -> Self {
        Self { to, has_colour }
    }

    /// One line; control characters in it are shown, not sent.
    pub(crate) fn line(&mut self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(self.to, "{}", clean(&text.to_string()))
    }

    pub(crate) fn blank(&mut self) -> io::Result<()> {
        writeln!(self.to)
    }

    /// One line that begins with a word in a tone.
    pub(crate) fn toned_line(&mut self, tone: Tone, word: &str, rest: impl fmt::Display) -> io::Result<()> {
        let (on, off) = self.codes(tone);
        writeln!(self.to, "{on}{}{off}{}", clean(word), clean(&rest.to_string()))
    }

    /// A name and its value, the names in a column of this width.
    pub(crate) fn entry(&mut self, width: usize, name: &str, value: impl fmt::Display) -> io::Result<()> {
        let (on, off) = self.codes(Tone::Faint);
        writeln!(self.to, "{on}{name:<width$}{off}  {}", clean(&value.to_string()))
    }

    pub(crate) fn table(&mut self, table: &Table) -> io::Result<()> {
        let (on, off) = self.codes(Tone::Faint);
        let widths = table.widths();
        let header = row(&table.header, &widths);
        writeln!(self.to, "{on}{header}{off}")?;
        for cells in &table.rows {
            writeln!(self.to, "{}", row(cells, &widths))?;
        }
        Ok(())
    }

    fn codes(&self, tone: Tone) -> (&'static str, &'static str) {
        if !self.has_colour {
            return ("", "");
        }
        let on = match tone {
            Tone::Good => "\x1b[32m",
            Tone::Doubtful => "\x1b[33m",
            Tone::Bad => "\x1b[1;31m",
            Tone::Strong => "\x1b[1m",
            Tone::Faint => "\x1b[2m",
        };
        (on, "\x1b[0m")
    }
}

/// Rows under a header, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { header: header.map(str::to_owned).into(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: &[String; N]) {
        self.rows.push(cells.iter().map(|cell| clean(cell).replace('\n', " ")).collect());
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| {
            let cells = std::iter::once(&self.header).chain(&self.rows);
            cells.map(|row| measure_text_width(&row[column])).max().unwrap_or(0)
        };
        (0..self.header.len()).map(width).collect()
    }
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let padded = cells.iter().zip(widths).map(|(cell, width)| {
        let gap = width - measure_text_width(cell);
        format!("{cell}{}", " ".repeat(gap))
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// A text without control characters other than line breaks: a source must not steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// An error as it is told to people.
pub(super) fn error(
    page: &mut Page<'_>,
    message: &str,
    help: Option<&str>,
    faults: &[Fault],
) -> io::Result<()> {
    page.toned_line(Tone::Bad, "error: ", message)?;
    for fault in faults {
        page.line(format_args!("  {}: {}", fault.place, fault.what))?;
        page.toned_line(Tone::Strong, "    help: ", &fault.help)?;
    }
    help.map_or(Ok(()), |help| page.toned_line(Tone::Strong, "  help: ", help))
}

/// A span of time in seconds, in at most two units.
pub(crate) fn age(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what an u64 holds"
    )]
    let whole = seconds.clamp(0.0, 1e15) as u64;
    match whole {
        0..10 => format!("{:.1}s", seconds.max(0.0)),
        10..120 => format!("{whole}s"),
        120..7_200 => format!("{}m {}s", whole / 60, whole % 60),
        7_200..172_800 => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// A size in the unit that leaves one to four digits.
pub(crate) fn bytes(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes, 0);
    while size >= 10_000 && unit < 4 {
        (size, unit) = (size / 1024, unit + 1);
    }
    format!("{size} {}", ["B", "KiB", "MiB", "GiB", "TiB"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(table: &Table) -> String {
        let mut text = Vec::new();
        Page::new(&mut text, false).table(table).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn columns_line_up_whatever_the_script() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(&["Ā日本".into(), "1".into()]);
        table.row(&["a longer name".into(), "22".into()]);
        assert_eq!(printed(&table), "NAME           N\nĀ日本          1\na longer name  22\n");
    }

    #[test]
    fn a_source_cannot_steer_the_terminal() {
        let mut table = Table::new(["NAME"]);
        table.row(&["\x1b[2Jgone\nnext\u{9b}".into()]);
        assert_eq!(printed(&table), "NAME\n\u{fffd}[2Jgone next\u{fffd}\n");
    }

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!(
            [0.04, 9.96, 61.0, 3_725.0, 90_000.0, 1e6].map(age).join(", "),
            "0.0s, 10.0s, 61s, 62m 5s, 25h 0m, 11d 13h"
        );
        assert_eq!([0, 9_999, 10_000, 5_000_000].map(bytes).join(", "), "0 B, 9999 B, 9 KiB, 4882 KiB");
    }
}
