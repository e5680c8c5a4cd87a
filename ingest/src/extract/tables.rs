//! Tables as Markdown that stays readable in parts: long ones are written as groups of rows, each below the header again,
//! so that a chunk from the middle still says what its columns are. Rows too wide for a line become a list of fields.

use crate::error::Result;

/// What a group of rows costs at most, about tokens: with its header it fits into one chunk of a small embedder.
const GROUP_COST: usize = 150;
/// A row that costs more is written as a list of its fields.
const WIDE_ROW_COST: usize = 120;
/// A header that costs more is not repeated.
const LONG_HEADER_COST: usize = 60;
/// Most columns of a table. Spreadsheets may claim thousands of empty ones.
const MAX_COLUMNS: usize = 1_000;
/// Fewest bytes of a table that is laid out again.
const LONG_TABLE_BYTES: usize = 400;

/// Writes a table row by row.
pub(super) struct TableWriter {
    header: Vec<String>,
    header_line: String,
    header_cost: usize,
    out: String,
    /// Cost of the open group; `None` when the next row starts one.
    group: Option<usize>,
}

impl TableWriter {
    /// A table with these names of columns.
    pub(super) fn new(header: &[String]) -> Self {
        let header: Vec<String> = header.iter().take(MAX_COLUMNS).map(|cell| one_line(cell)).collect();
        let names: String = header.iter().map(|name| format!("| {name} ")).collect();
        let rule = "|---".repeat(header.len().max(1));
        let header_line = format!("{names}|\n{rule}|\n");
        let header_cost = cost(&names);
        Self { header, header_line, header_cost, out: String::new(), group: None }
    }

    /// Adds a row. Missing cells are empty, cells beyond the header are kept.
    pub(super) fn row(&mut self, cells: &[String]) {
        let cells: Vec<String> = cells.iter().take(MAX_COLUMNS).map(|cell| one_line(cell)).collect();
        let mut line: String = cells.iter().map(|cell| format!("| {cell} ")).collect();
        line.push_str(&"| ".repeat(self.header.len().saturating_sub(cells.len())));
        line.push_str("|\n");
        let cost = cost(&line);
        if cost > WIDE_ROW_COST {
            self.record(&cells);
            return;
        }
        let repeated = self.header_cost <= LONG_HEADER_COST;
        let fits = |spent: usize| !repeated || spent + cost <= GROUP_COST;
        let spent = match self.group {
            Some(spent) if fits(spent) => spent,
            _ => {
                self.separate();
                self.out.push_str(&self.header_line);
                self.header_cost
            }
        };
        self.group = Some(spent + cost);
        self.out.push_str(&line);
    }

    /// A row as a list of its fields.
    fn record(&mut self, cells: &[String]) {
        self.separate();
        for (index, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            match self.header.get(index).filter(|name| !name.is_empty()) {
                Some(name) => self.out.push_str(&format!("- {name}: {cell}\n")),
                None => self.out.push_str(&format!("- {cell}\n")),
            }
        }
        self.group = None;
    }

    fn separate(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// The Markdown. A table without rows is its header.
    pub(super) fn finish(self) -> String {
        if self.out.is_empty() && self.header.iter().any(|name| !name.is_empty()) {
            return self.header_line;
        }
        self.out
    }
}

/// A table of rows whose first one is the header. Empty rows, and columns that are empty in all rows, are left out.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let width = rows.iter().map(|row| row.len().min(MAX_COLUMNS)).max().unwrap_or(0);
    let mut used = vec![false; width];
    for row in rows {
        for (used, cell) in used.iter_mut().zip(row) {
            *used |= !cell.trim().is_empty();
        }
    }
    let kept = |row: &Vec<String>| -> Vec<String> {
        row.iter().zip(&used).filter(|(_, used)| **used).map(|(cell, _)| cell.clone()).collect()
    };
    let mut rows = rows.iter().filter(|row| row.iter().any(|cell| !cell.trim().is_empty())).map(kept);
    let Some(mut header) = rows.next() else { return String::new() };
    header.resize(used.iter().filter(|used| **used).count(), String::new());
    let mut writer = TableWriter::new(&header);
    rows.for_each(|row| writer.row(&row));
    writer.finish()
}

/// Lays out the long tables of a Markdown text in groups. `check` is asked about the size on the way.
pub(super) fn regroup(markdown: &str, check: impl Fn(usize) -> Result<()>) -> Result<String> {
    let mut out = String::with_capacity(markdown.len());
    let mut lines = markdown.split_inclusive('\n').peekable();
    let mut fence = false;
    while let Some(line) = lines.next() {
        let starts_fence = line.trim_start().starts_with("```");
        fence ^= starts_fence;
        let is_header =
            !fence && !starts_fence && is_row(line) && lines.peek().is_some_and(|next| is_rule(next));
        if !is_header {
            out.push_str(line);
            continue;
        }
        let mut source = line.to_owned();
        source.push_str(lines.next().unwrap_or_default());
        let header = cells(line);
        let mut rows = Vec::new();
        while let Some(row) = lines.next_if(|next| is_row(next)) {
            source.push_str(row);
            rows.push(row);
        }
        if source.len() < LONG_TABLE_BYTES {
            out.push_str(&source);
            continue;
        }
        let mut writer = TableWriter::new(&header);
        for row in rows {
            writer.row(&cells(row));
            check(out.len() + writer.len())?;
        }
        out.push_str(&writer.finish());
        if lines.peek().is_some_and(|next| !next.trim().is_empty()) {
            out.push('\n');
        }
    }
    Ok(out)
}

fn is_row(line: &str) -> bool {
    let line = line.trim();
    line.len() > 1 && line.starts_with('|') && line.ends_with('|')
}

fn is_rule(line: &str) -> bool {
    is_row(line) && line.contains('-') && line.trim().chars().all(|c| matches!(c, '|' | '-' | ':' | ' '))
}

/// Cells of a row; an escaped bar is no border.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for character in inner.chars() {
        match character {
            '|' if !escaped => cells.push(String::new()),
            _ => {
                if let Some(cell) = cells.last_mut() {
                    cell.push(character);
                }
            }
        }
        escaped = character == '\\' && !escaped;
    }
    cells.iter().map(|cell| cell.trim().replace("\\|", "|")).collect()
}

/// A cell on one line, in which a bar is no border.
fn one_line(cell: &str) -> String {
    let words: Vec<&str> = cell.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// Tokens that a text is likely to have: runs of letters and of digits by length, signs one by one.
fn cost(text: &str) -> usize {
    let (mut cost, mut letters, mut digits) = (0, 0usize, 0usize);
    for character in text.chars() {
        match character {
            c if c.is_ascii_alphabetic() => letters += 1,
            c if c.is_ascii_digit() => digits += 1,
            c => {
                cost += letters.div_ceil(4) + digits.div_ceil(2) + usize::from(!c.is_whitespace());
                (letters, digits) = (0, 0);
            }
        }
    }
    cost + letters.div_ceil(4) + digits.div_ceil(2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn short_tables_are_one() {
        let text = table(&rows(&[&["a", "b"], &["1", "x|y"], &["", ""], &["2\n3"]]));
        assert_eq!(text, "| a | b |\n|---|---|\n| 1 | x\\|y |\n| 2 3 | |\n");
        assert_eq!(table(&rows(&[&["a", "", "b"], &["1", "", "2"]])), "| a | b |\n|---|---|\n| 1 | 2 |\n");
        assert_eq!(table(&[]), "");
        assert_eq!(table(&rows(&[&["only", "header"]])), "| only | header |\n|---|---|\n");
    }

    #[test]
    fn long_tables_repeat_their_header() {
        let mut all = rows(&[&["city", "country"]]);
        all.extend((0..200).map(|n| vec![format!("city number {n}"), "somewhere".to_string()]));
        let text = table(&all);
        let groups: Vec<&str> = text.split("\n\n").collect();
        assert!(groups.len() > 5);
        for group in &groups {
            assert!(group.starts_with("| city | country |\n|---|---|\n| city number"), "{group}");
        }
        assert_eq!(text.matches("city number").count(), 200);
    }

    #[test]
    fn wide_rows_become_fields() {
        let long = "many words ".repeat(80);
        let text = table(&rows(&[&["id", "story"], &["7", &long], &["8", "short"]]));
        assert!(text.starts_with("- id: 7\n- story: many words"), "{text}");
        assert!(text.ends_with("| id | story |\n|---|---|\n| 8 | short |\n"), "{text}");
    }

    #[test]
    fn markdown_tables_are_regrouped() {
        let row = "| one and two | three \\| four |\n";
        let source = format!("text\n\n| a | b |\n|:---|---|\n{}\nafter\n", row.repeat(60));
        let text = regroup(&source, |_| Ok(())).unwrap();
        assert!(text.matches("| a | b |\n|---|---|\n").count() > 3, "{text}");
        assert_eq!(text.matches(row).count(), 60);
        assert!(text.starts_with("text\n\n| a") && text.ends_with("|\n\nafter\n"), "{text}");
        let short = "| a |\n|---|\n| b |\ntext\n```\n| a |\n|---|\n```\n";
        assert_eq!(regroup(short, |_| Ok(())).unwrap(), short);
        assert!(
            regroup(&source, |size| if size > 500 { Err(crate::Error::bad_content("x")) } else { Ok(()) })
                .is_err()
        );
    }
}
