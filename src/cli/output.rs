//! What reaches a person: emphasis, tables, durations and sizes in their readable form.

use std::io::{self, IsTerminal as _, Write};

use serde_json::Value as Json;

/// Whether `NO_COLOR` is set (to anything but the empty string, as no-color.org asks).
pub(super) fn colour_is_unwanted() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// How emphasis looks on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// ANSI escapes.
    Terminal,
    /// `*word*`
    Plain,
}

impl Style {
    /// The style that fits what stdout is.
    pub(super) fn of_stdout() -> Self {
        if io::stdout().is_terminal() && !colour_is_unwanted() { Self::Terminal } else { Self::Plain }
    }

    /// A word that was searched for.
    pub(super) fn mark(self, text: &str) -> String {
        match self {
            Self::Terminal => format!("\x1b[1m{text}\x1b[0m"),
            Self::Plain => format!("*{text}*"),
        }
    }

    /// A heading; plain text needs no sign for it.
    pub(super) fn heading(self, text: &str) -> String {
        match self {
            Self::Terminal => format!("\x1b[1;36m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }

    /// Something that matters less.
    pub(super) fn faint(self, text: &str) -> String {
        match self {
            Self::Terminal => format!("\x1b[2m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// Text without control characters (they could steer the terminal) and with each run of white space as one blank.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    push_one_line(&mut line, text);
    line
}

/// Appends text to a line as [`one_line`] does.
pub(super) fn push_one_line(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_whitespace() {
            if !line.is_empty() && !line.ends_with(' ') {
                line.push(' ');
            }
        } else if !c.is_control() {
            line.push(c);
        }
    }
}

/// Text of several lines without the control characters that could steer the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|&c| matches!(c, '\n' | '\t') || !c.is_control()).collect()
}

/// Prints JSON: indented for a terminal, else one line.
pub(super) fn print_json(value: &Json) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        serde_json::to_writer_pretty(&mut out, value)?;
    } else {
        serde_json::to_writer(&mut out, value)?;
    }
    writeln!(out)
}

/// Prints text and a line end.
pub(super) fn print_line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Rows of cells as lines: the first column to the left, the others, which are mostly numbers, as `right` says.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], right: bool) -> String {
    let all = || {
        std::iter::once(header.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>())
            .chain(rows.iter().cloned())
    };
    let mut widths = vec![0; header.len()];
    for row in all() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: Vec<String>| {
        let cells: Vec<String> = row
            .into_iter()
            .zip(&widths)
            .enumerate()
            .map(
                |(column, (cell, &width))| {
                    if column > 0 && right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    all().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes with a binary unit: `12.3 MiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A count with its noun: `1 file`, `3 files`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_never_reach_the_terminal() {
        assert_eq!(one_line("a\x1b[31mb\n\n  c\u{7}"), "a[31mb c");
        assert_eq!(printable("a\x1b[31mb\n\tc\r"), "a[31mb\n\tc");
    }

    #[test]
    fn tables_align() {
        let rows =
            vec![vec!["hybrid".to_owned(), "0.7".to_owned()], vec!["x".to_owned(), "10.25".to_owned()]];
        assert_eq!(table(&["mode", "value"], &rows, true), "mode    value\nhybrid    0.7\nx       10.25");
        assert_eq!(table(&["mode", "value"], &rows, false), "mode    value\nhybrid  0.7\nx       10.25");
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        assert_eq!((count(1, "file"), count(0, "file")), ("1 file".to_owned(), "0 files".to_owned()));
    }
}
