//! Comma, semicolon, tab or bar separated values, as Markdown tables.

use super::normalise::TextBuilder;
use super::scope::Scope;
use super::tables::TableWriter;
use crate::document::{ExtractedDocument, Markup};
use crate::error::Result;

const DELIMITERS: [u8; 4] = *b",;\t|";
/// Bytes of the start that decide about delimiter and header.
const SAMPLE_BYTES: usize = 64 << 10;
/// Records of the sample that are compared.
const SAMPLE_RECORDS: usize = 50;

/// Reads a table. `declared` is the delimiter that its name promises; the content may show another one.
pub(super) fn read(source: &str, declared: u8, scope: &Scope) -> Result<ExtractedDocument> {
    let delimiter = delimiter(source, declared);
    let mut reader = reader(source, delimiter);
    let mut records = reader.records();
    let cells = |record: Option<csv::Result<csv::StringRecord>>| -> Option<Vec<String>> {
        // The reader is lenient and the text is valid UTF-8: nothing is left to fail.
        record?.ok().map(|record| record.iter().map(str::to_owned).collect())
    };
    let first = cells(records.next()).unwrap_or_default();
    let named = is_header(&first);
    let header: Vec<String> =
        if named { first.clone() } else { (1..=first.len()).map(|n| format!("column {n}")).collect() };
    let mut writer = TableWriter::new(&header);
    if !named {
        writer.row(&first);
    }
    for record in records {
        scope.deadline.check()?;
        if let Some(row) = cells(Some(record)).filter(|row| row.iter().any(|cell| !cell.trim().is_empty())) {
            writer.row(&row);
            scope.limits.check_text(writer.len())?;
        }
    }
    let text = TextBuilder::whole(&writer.finish(), &scope.limits)?;
    Ok(ExtractedDocument { text, markup: Markup::Markdown, ..Default::default() })
}

/// Whether a text without a telling name is a table: several lines, each with the same number of fields.
pub(super) fn looks_like_table(head: &str) -> Option<u8> {
    DELIMITERS.into_iter().find(|delimiter| {
        let widths = widths(head, *delimiter);
        widths.len() >= 3 && widths.iter().all(|width| *width > 1 && Some(width) == widths.first())
    })
}

/// The delimiter by which most records have the same number of fields, several; the declared one when in doubt.
fn delimiter(source: &str, declared: u8) -> u8 {
    let sample = source.get(..source.floor_char_boundary(SAMPLE_BYTES)).unwrap_or(source);
    let score = |delimiter: u8| {
        let widths = widths(sample, delimiter);
        let first = widths.first().copied().unwrap_or(0);
        let agreeing = widths.iter().filter(|width| **width == first && first > 1).count();
        // Share of the records in hundredths, so that one odd record decides nothing.
        agreeing * 100 / widths.len().max(1)
    };
    let best = DELIMITERS.into_iter().max_by_key(|delimiter| (score(*delimiter), *delimiter == declared));
    best.filter(|best| score(*best) > score(declared)).unwrap_or(declared)
}

fn widths(sample: &str, delimiter: u8) -> Vec<usize> {
    let mut reader = reader(sample, delimiter);
    reader.records().take(SAMPLE_RECORDS).flatten().map(|record| record.len()).collect()
}

fn reader(source: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(source.as_bytes())
}

/// A header names its columns: words, not numbers.
fn is_header(first: &[String]) -> bool {
    let is_number = |cell: &String| cell.trim().trim_end_matches('%').parse::<f64>().is_ok();
    first.iter().any(|cell| !cell.trim().is_empty()) && !first.iter().any(is_number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::extract::ExtractLimits;

    fn text(source: &str) -> String {
        read(source, b',', &Scope::new(&ExtractLimits::default())).unwrap().text
    }

    #[test]
    fn fields_come_below_their_names() {
        assert_eq!(
            text("name,note\nAda,\"likes, commas\"\nBob,\"two\nlines\"\n"),
            "| name | note |\n|---|---|\n| Ada | likes, commas |\n| Bob | two lines |"
        );
        assert_eq!(text("a;b\n1,5;2\n3,5;4\n"), "| a | b |\n|---|---|\n| 1,5 | 2 |\n| 3,5 | 4 |");
        assert_eq!(text("a\tb\nc\td"), "| a | b |\n|---|---|\n| c | d |");
        assert_eq!(text("1,2\n3,4"), "| column 1 | column 2 |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |");
    }

    #[test]
    fn ragged_and_broken_records_are_kept() {
        assert_eq!(text("a,b\n1\n2,3,4\n"), "| a | b |\n|---|---|\n| 1 | |\n| 2 | 3 | 4 |");
        assert!(text("a,b\n\"open,1\n2,3").contains("open,1 2,3"));
        assert!(text(&"x,".repeat(5_000)).contains("| x"));
    }

    #[test]
    fn prose_is_no_table() {
        assert_eq!(looks_like_table("a,b\n1,2\n3,4\n"), Some(b','));
        assert_eq!(looks_like_table("One line, with a comma.\nAnother line.\nA third, and, more.\n"), None);
        assert_eq!(looks_like_table("a,b"), None);
    }

    #[test]
    fn the_text_is_bounded() {
        let limits = ExtractLimits { max_text_bytes: 1_000, ..Default::default() };
        assert!(read(&"a,b\n".repeat(1_000), b',', &Scope::new(&limits)).is_err());
    }
}
