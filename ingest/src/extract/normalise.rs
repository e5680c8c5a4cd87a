//! One form for all extracted text, and the pages within it: LF line ends, no control characters, no trailing blanks,
//! at most one empty line in a row.

use crate::document::{ExtractedDocument, Markup, Page, Part};
use crate::error::Result;

use super::limits::ExtractLimits;

/// Most characters of a title.
const MAX_TITLE_CHARS: usize = 300;

/// Builds a document's text from parts, keeping the spans of pages right.
pub(super) struct TextBuilder<'a> {
    limits: &'a ExtractLimits,
    text: String,
    pages: Vec<Page>,
    parts: Vec<Part>,
}

impl<'a> TextBuilder<'a> {
    pub(super) fn new(limits: &'a ExtractLimits) -> Self {
        Self { limits, text: String::new(), pages: Vec::new(), parts: Vec::new() }
    }

    /// The normal form of one text.
    pub(super) fn whole(text: &str, limits: &ExtractLimits) -> Result<String> {
        // An encoded text may be larger than its normal form, but not by much.
        let mut builder = TextBuilder::new(limits);
        builder.push(text)?;
        Ok(builder.text)
    }

    /// Appends a part after an empty line.
    pub(super) fn push(&mut self, part: &str) -> Result<()> {
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        let start = self.text.len();
        normalise_into(part, &mut self.text);
        if self.text.len() == start {
            self.text.truncate(self.text.trim_end().len());
        }
        self.limits.check_text(self.text.len())
    }

    /// Appends a page. A page without text keeps its number and has an empty span.
    pub(super) fn push_page(&mut self, number: usize, part: &str) -> Result<()> {
        let before = self.text.len();
        self.push(part)?;
        // The separator belongs to no page.
        let start = if self.text.len() > before && before > 0 { before + 2 } else { before };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.pages.push(Page { number, span: start.min(self.text.len())..self.text.len() });
        self.limits.check_pages(self.pages.len())
    }

    /// Appends a page that has a name: a sheet.
    pub(super) fn push_sheet(&mut self, number: usize, name: &str, part: &str) -> Result<()> {
        self.push_page(number, part)?;
        if let Some(page) = self.pages.last().filter(|page| !page.span.is_empty()) {
            self.parts.push(Part { name: title(name), markup: Markup::Markdown, span: page.span.clone() });
        }
        Ok(())
    }

    /// Appends a text under a name.
    pub(super) fn push_part(&mut self, name: &str, markup: Markup, part: &str) -> Result<()> {
        let text = Self::whole(part, self.limits)?;
        self.push_document(name, &ExtractedDocument { text, markup, ..Default::default() })
    }

    /// Appends a document that was extracted, with its pages and parts. Without a name, what is no part of it stays none.
    pub(super) fn push_document(&mut self, name: &str, document: &ExtractedDocument) -> Result<()> {
        if document.text.is_empty() {
            return Ok(());
        }
        if !self.text.is_empty() {
            self.text.push_str("\n\n");
        }
        let base = self.text.len();
        self.limits.check_text(base + document.text.len())?;
        self.text.push_str(&document.text);
        let moved = |span: &std::ops::Range<usize>| base + span.start..base + span.end;
        self.pages.extend(document.pages.iter().map(|page| Page { span: moved(&page.span), ..page.clone() }));
        let mut at = base;
        let whole = |span: std::ops::Range<usize>| Part { name: name.into(), markup: document.markup, span };
        for part in &document.parts {
            let span = moved(&part.span);
            let is_gap = !self.text.get(at..span.start).unwrap_or_default().trim().is_empty();
            if is_gap && !name.is_empty() {
                self.parts.push(whole(at..span.start));
            }
            at = span.end;
            let name = if name.is_empty() { part.name.clone() } else { format!("{name}/{}", part.name) };
            self.parts.push(Part { name, span, ..*part });
        }
        if at < self.text.len() && !name.is_empty() {
            self.parts.push(whole(at..self.text.len()));
        }
        self.limits.check_pages(self.pages.len())
    }

    pub(super) fn finish(self) -> (String, Vec<Page>) {
        (self.text, self.pages)
    }

    /// Text, pages and parts as a document.
    pub(super) fn finish_document(self) -> ExtractedDocument {
        ExtractedDocument { text: self.text, pages: self.pages, parts: self.parts, ..Default::default() }
    }
}

/// Appends the normal form of `text`: leading empty lines and trailing blanks are dropped.
fn normalise_into(text: &str, out: &mut String) {
    out.reserve(text.len());
    let base = out.len();
    let mut empty_lines = 0;
    for line in lines(text) {
        let start = out.len();
        if out.len() > base {
            out.push('\n');
        }
        let content = out.len();
        out.extend(line.chars().filter_map(clean));
        out.truncate(content + out.get(content..).map_or(0, |line| line.trim_end().len()));
        if out.len() == content {
            empty_lines += 1;
            if empty_lines > 1 || start == base {
                out.truncate(start);
            }
        } else {
            empty_lines = 0;
        }
    }
    let kept = out.get(base..).map_or(0, |text| text.trim_end().len());
    out.truncate(base + kept);
}

/// Lines by LF, CRLF, CR, form feed, and the separators of Unicode.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\n', '\r', '\u{c}', '\u{b}', '\u{85}', '\u{2028}', '\u{2029}']) else {
            rest = None;
            return Some(text);
        };
        let (line, tail) = text.split_at(at);
        let width = if tail.starts_with("\r\n") { 2 } else { tail.chars().next().map_or(0, char::len_utf8) };
        rest = tail.get(width..);
        Some(line)
    })
}

/// Drops what is no text: controls, byte order marks, soft hyphens, zero-width spaces, noncharacters.
fn clean(character: char) -> Option<char> {
    match character {
        '\t' => Some('\t'),
        '\u{a0}' => Some(' '),
        '\u{ad}' | '\u{feff}' | '\u{200b}' | '\u{2060}' | '\u{fffe}' | '\u{ffff}' => None,
        other if other.is_control() => None,
        other => Some(other),
    }
}

/// A title on one line, of bounded length.
pub(super) fn title(raw: &str) -> String {
    let mut title = String::new();
    for word in raw.split_whitespace() {
        if !title.is_empty() {
            title.push(' ');
        }
        title.extend(word.chars().filter_map(clean));
        if title.chars().count() > MAX_TITLE_CHARS {
            return title.chars().take(MAX_TITLE_CHARS).collect();
        }
    }
    title
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn check(input: &str, expect: &str) {
        assert_eq!(TextBuilder::whole(input, &ExtractLimits::default()).unwrap(), expect, "{input:?}");
    }

    #[test]
    fn one_form_for_all() {
        check("", "");
        check(" \r\n\t\n", "");
        check("a\r\nb\rc\n", "a\nb\nc");
        check("\n\n  a  \n\n\n\n b\t\n", "  a\n\n b");
        check("a\0b\u{7}c\u{feff}\u{ad}d\u{a0}e", "abcd e");
        check("page one\u{c}page two", "page one\npage two");
        check("x\u{2028}y", "x\ny");
    }

    #[test]
    fn pages_keep_their_spans() {
        let limits = ExtractLimits::default();
        let mut builder = TextBuilder::new(&limits);
        for (index, page) in ["", "one\r\n", "  ", "zwölf\n\n\n\nx", ""].iter().enumerate() {
            builder.push_page(index + 1, page).unwrap();
        }
        let (text, pages) = builder.finish();
        let by_page: Vec<_> = pages.iter().map(|page| (page.number, &text[page.span.clone()])).collect();
        assert_eq!(by_page, [(1, ""), (2, "one"), (3, ""), (4, "zwölf\n\nx"), (5, "")]);
        assert_eq!(text, "one\n\nzwölf\n\nx");
    }

    #[test]
    fn text_and_pages_are_bounded() {
        let limits = ExtractLimits { max_text_bytes: 10, max_pages: 2, ..Default::default() };
        assert!(TextBuilder::whole("0123456789", &limits).is_ok());
        assert!(TextBuilder::whole("0123456789a", &limits).is_err());
        let mut builder = TextBuilder::new(&limits);
        builder.push_page(1, "a").unwrap();
        builder.push_page(2, "b").unwrap();
        assert!(builder.push_page(3, "c").is_err());
    }

    #[test]
    fn titles_are_one_bounded_line() {
        assert_eq!(title("  A\n title\0 "), "A title");
        assert_eq!(title(&"é".repeat(5_000)).chars().count(), MAX_TITLE_CHARS);
    }
}
