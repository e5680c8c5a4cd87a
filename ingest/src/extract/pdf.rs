//! PDF through pdf_oxide: plain text page by page.
//!
//! pdf_oxide bounds what it inflates (size and ratio per stream), the depth of objects and the operators of a page;
//! the guard adds the time. A page that fails is left out as long as others can be read.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use pdf_oxide::PdfDocument;
use pdf_oxide::object::{Object, ObjectRef};

use super::dates;
use super::limits::{Deadline, ExtractLimits, exhausted};
use super::normalise::TextBuilder;
use crate::document::{ExtractedDocument, Markup, Passwords, Properties};
use crate::error::{Error, Result};

/// Deepest nesting of arrays and dictionaries. Real files stay below twenty, but the brackets of compressed data look
/// like some hundreds; the stack of the guard holds this many. pdf_oxide itself descends without a limit.
const MAX_DEPTH: u32 = 50_000;

/// Most inner nodes of a page tree.
const MAX_BRANCHES: usize = 100_000;

/// Reads a PDF. The empty password is tried, then the given ones.
pub(super) fn read(
    data: &Bytes,
    passwords: &Passwords,
    limits: &ExtractLimits,
    deadline: Deadline,
) -> Result<ExtractedDocument> {
    if nesting(data) > MAX_DEPTH {
        return Err(exhausted(format!("objects nested deeper than {MAX_DEPTH}")));
    }
    let pdf = PdfDocument::from_bytes(data.to_vec()).map_err(|error| reason(&error))?;
    if !pdf.is_authenticated() {
        let opened =
            passwords.iter().any(|password| pdf.authenticate(password.as_bytes()).is_ok_and(|opened| opened));
        if !opened {
            return Err(needs_password(passwords));
        }
    }
    check_page_tree(&pdf, deadline)?;
    let count = pdf.page_count().map_err(|error| reason(&error))?;
    limits.check_pages(count)?;
    let mut text = TextBuilder::new(limits);
    let mut first_failure = None;
    for index in 0..count {
        deadline.check()?;
        let page = pdf.extract_text(index).unwrap_or_else(|error| {
            first_failure.get_or_insert((index + 1, error));
            String::new()
        });
        text.push_page(index + 1, &without_ligatures(&page))?;
    }
    let (text, pages) = text.finish();
    if text.is_empty() {
        return Err(match first_failure {
            Some((page, error)) => Error::bad_content(format!("broken PDF: page {page}: {error}")),
            None if count == 0 => Error::bad_content("the PDF has no pages"),
            None => Error::bad_content("no text layer (scanned pages?)"),
        });
    }
    let info = Info::of(&pdf).unwrap_or_default();
    Ok(ExtractedDocument {
        title: info.title,
        text,
        markup: Markup::Plain,
        pages,
        properties: info.properties,
        left_out: first_failure
            .into_iter()
            .map(|(page, error)| format!("page {page}, perhaps others: {error}"))
            .collect(),
        ..Default::default()
    })
}

/// Letters in place of the ligatures that fonts have for them, as people search for them.
fn without_ligatures(text: &str) -> Cow<'_, str> {
    const LIGATURES: [(char, &str); 7] = [
        ('\u{fb00}', "ff"),
        ('\u{fb01}', "fi"),
        ('\u{fb02}', "fl"),
        ('\u{fb03}', "ffi"),
        ('\u{fb04}', "ffl"),
        ('\u{fb05}', "st"),
        ('\u{fb06}', "st"),
    ];
    if !text.contains(|c| matches!(c, '\u{fb00}'..='\u{fb06}')) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match LIGATURES.iter().find(|(ligature, _)| *ligature == character) {
            Some((_, letters)) => plain.push_str(letters),
            None => plain.push(character),
        }
    }
    Cow::Owned(plain)
}

/// Walks the page tree once. pdf_oxide counts pages by recursion, and one node that holds itself twice keeps it busy for
/// ever. What can't be loaded is left to it: it knows how to mend trees.
fn check_page_tree(pdf: &PdfDocument, deadline: Deadline) -> Result<()> {
    let root = pdf.catalog().ok().and_then(|catalog| catalog.as_dict()?.get("Pages")?.as_reference());
    let mut open: Vec<ObjectRef> = root.into_iter().collect();
    let mut seen = HashSet::new();
    while let Some(node) = open.pop() {
        deadline.check()?;
        let Ok(object) = pdf.load_object(node) else { continue };
        let kids = object.as_dict().and_then(|node| node.get("Kids"));
        let Some(kids) = kids.and_then(|kids| pdf.resolve_references(kids, 1).ok()) else { continue };
        // A page may be listed twice, a branch may not.
        if !seen.insert(node) {
            return Err(Error::bad_content("broken PDF: its page tree has a loop"));
        }
        if seen.len() > MAX_BRANCHES {
            return Err(exhausted(format!("a page tree of more than {MAX_BRANCHES} branches")));
        }
        open.extend(kids.as_array().into_iter().flatten().filter_map(Object::as_reference));
    }
    Ok(())
}

/// Longest run of opened and not yet closed arrays and dictionaries in the bytes of the file. Compressed data looks like
/// noise, in which as many close as open; a closing one without an opening one is skipped.
fn nesting(data: &[u8]) -> u32 {
    let (mut arrays, mut dictionaries, mut deepest) = (0u32, 0u32, 0u32);
    let mut previous = 0u8;
    for byte in data {
        match (previous, *byte) {
            (_, b'[') => arrays += 1,
            (_, b']') => arrays = arrays.saturating_sub(1),
            (b'<', b'<') => dictionaries += 1,
            (b'>', b'>') => dictionaries = dictionaries.saturating_sub(1),
            // Objects don't nest: what was left open ends here.
            (b'b', b'j') => (arrays, dictionaries) = (0, 0),
            _ => {}
        }
        // `<<<<` are two dictionaries, not three.
        previous = if matches!((previous, *byte), (b'<', b'<') | (b'>', b'>')) { 0 } else { *byte };
        deepest = deepest.max(arrays + dictionaries);
    }
    deepest
}

/// The information dictionary.
#[derive(Debug, Default)]
struct Info {
    title: String,
    properties: Properties,
}

impl Info {
    fn of(pdf: &PdfDocument) -> Option<Self> {
        let resolve = |object: &Object| pdf.resolve_references(object, 2).ok();
        let info = resolve(pdf.trailer().as_dict()?.get("Info")?)?;
        let info = info.as_dict()?;
        let value = |key: &str| {
            let value = info.get(key).and_then(resolve);
            let text = value.as_ref().and_then(Object::as_string).map(text_string).unwrap_or_default();
            text.trim().to_owned()
        };
        let authors = Some(value("Author")).filter(|author| !author.is_empty()).into_iter().collect();
        let keywords = value("Keywords");
        let keywords = keywords.split([',', ';']).map(str::trim).filter(|word| !word.is_empty());
        Some(Self {
            title: title(value("Title")),
            properties: Properties {
                authors,
                created: dates::parse(&value("CreationDate")),
                modified: dates::parse(&value("ModDate")),
                keywords: keywords.take(50).map(str::to_owned).collect(),
                language: None,
            },
        })
    }
}

/// The declared title, unless an application made it up.
fn title(declared: String) -> String {
    let lower = declared.to_lowercase();
    let made_up = lower == "untitled"
        || lower.starts_with("microsoft word - ")
        || lower.starts_with("microsoft powerpoint - ")
        || [".doc", ".docx", ".pdf", ".tex", ".dvi", ".indd", ".qxd"].iter().any(|end| lower.ends_with(end));
    if made_up { String::new() } else { declared }
}

/// A PDF text string: UTF-16 or UTF-8 with a mark, else PDFDocEncoding, which is near enough to Windows-1252.
fn text_string(bytes: &[u8]) -> String {
    match bytes {
        [0xfe, 0xff, ..] => encoding_rs::UTF_16BE.decode(bytes).0,
        [0xff, 0xfe, ..] => encoding_rs::UTF_16LE.decode(bytes).0,
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        _ => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
    .into_owned()
}

fn needs_password(passwords: &Passwords) -> Error {
    Error::bad_content(match passwords.is_empty() {
        true => "the PDF needs a password",
        false => "the PDF needs a password, and none of those given opens it",
    })
}

fn reason(error: &pdf_oxide::Error) -> Error {
    match error {
        pdf_oxide::Error::EncryptedPdf => needs_password(&Passwords::default()),
        other => Error::bad_content(format!("broken PDF: {other}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn ligatures_become_letters() {
        assert_eq!(without_ligatures("di\u{fb00}erent \u{fb01}sh \u{fb04}"), "different fish ffl");
        assert!(matches!(without_ligatures("plain"), Cow::Borrowed("plain")));
    }
}
