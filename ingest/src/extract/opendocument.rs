//! OpenDocument: text, spreadsheets, presentations, drawings; in a ZIP container or as one flat XML file. One pass over
//! the elements of the content, to Markdown; sheets and slides are pages.

use std::collections::HashMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::beside::{self, COMMENTS, HEADERS};
use super::limits::exhausted;
use super::normalise::TextBuilder;
use super::scope::Scope;
use super::tables::table;
use super::zip_parts::ZipParts;
use super::{dates, markup};
use crate::document::{ExtractedDocument, Markup, Properties};
use crate::error::{Error, Result};

/// Deepest nesting of elements.
const MAX_DEPTH: usize = 400;
/// Most repetitions of a cell or row that is not empty. Empty ones are only counted.
const MAX_REPEATED: usize = 1_000;
/// Most cells of a row.
const MAX_CELLS: usize = 16_384;
/// Most automatic styles that are looked at.
const MAX_STYLES: usize = 50_000;

/// Reads a document in a container.
pub(super) fn read(data: &[u8], scope: &Scope) -> Result<ExtractedDocument> {
    let mut parts = ZipParts::open(data)?;
    let mime = parts.text("mimetype", scope)?.unwrap_or_default();
    let manifest = parts.text("META-INF/manifest.xml", scope)?.unwrap_or_default();
    if manifest.contains("encryption-data") {
        return Err(Error::bad_content("the document needs a password"));
    }
    let content = parts.text("content.xml", scope)?;
    let content =
        content.ok_or_else(|| Error::bad_content("broken OpenDocument file: it has no content.xml"))?;
    let meta = parts.text("meta.xml", scope)?.unwrap_or_default();
    let styles = parts.text("styles.xml", scope)?.unwrap_or_default();
    convert(&content, &styles, &meta, &mime, scope)
}

/// Reads a document in one XML file.
pub(super) fn read_flat(source: &str, scope: &Scope) -> Result<ExtractedDocument> {
    let (_, rest) = source.split_once("office:mimetype=").unwrap_or_default();
    let mime = rest.split(['"', '\'']).nth(1).unwrap_or_default();
    convert(source, source, source, mime, scope)
}

fn convert(content: &str, styles: &str, meta: &str, mime: &str, scope: &Scope) -> Result<ExtractedDocument> {
    let mut walker = Walker::new(scope);
    walker.walk(content)?;
    // Those of sheets and slides only count and name them.
    if mime.contains("opendocument.text") {
        walker.text.push_part(HEADERS, Markup::Plain, &beside::of_styles(styles, scope)?)?;
    }
    let comments = std::mem::take(&mut walker.comments).join("\n\n");
    walker.text.push_part(COMMENTS, Markup::Plain, &comments)?;
    let (meta_title, mut properties) = properties(meta);
    properties.authors.dedup();
    let document = walker.text.finish_document();
    let title = [meta_title, walker.title].into_iter().find(|title| !title.trim().is_empty());
    let title = title.or_else(|| markup::first_heading(&document.text)).unwrap_or_default();
    let mime = mime.trim();
    let media_type = if mime.starts_with("application/vnd.oasis.opendocument.") && mime.len() < 100 {
        mime.to_owned()
    } else {
        "application/vnd.oasis.opendocument.text".to_owned()
    };
    Ok(ExtractedDocument { media_type, title, markup: Markup::Markdown, properties, ..document })
}

/// What an element changes until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Paragraph,
    Heading,
    List,
    Item,
    Table,
    Row(usize),
    Cell(usize),
    Page,
    Skipped,
    Note,
    NoteBody,
    Comment,
    Creator,
    Other,
}

/// A table that is open.
#[derive(Debug, Default)]
struct OpenTable {
    name: String,
    rows: Vec<Vec<String>>,
    cells: Vec<String>,
    /// What was open outside, which the cells must not touch.
    outer: String,
    /// Comments of the open cell.
    comments: Vec<String>,
}

/// A comment that is open, and what it stands in.
#[derive(Debug, Default)]
struct OpenComment {
    author: String,
    outer: String,
    lists: usize,
    item_starts: bool,
}

struct Walker<'a> {
    scope: &'a Scope,
    text: TextBuilder<'a>,
    frames: Vec<Frame>,
    skipped: usize,
    /// Finished blocks of the open page, cell or note.
    blocks: String,
    /// Words of the open paragraphs; a text box stands within one.
    paragraphs: Vec<(String, Option<usize>)>,
    lists: usize,
    /// The next paragraph starts an item.
    item_starts: bool,
    tables: Vec<OpenTable>,
    notes: Vec<String>,
    open_comments: Vec<OpenComment>,
    /// Finished comments of the document, and of the open page.
    comments: Vec<String>,
    pages: usize,
    in_spreadsheet: bool,
    page_open: bool,
    styles: HashMap<String, String>,
    title: String,
}

impl<'a> Walker<'a> {
    fn new(scope: &'a Scope) -> Self {
        Self {
            scope,
            text: TextBuilder::new(&scope.limits),
            frames: Vec::new(),
            skipped: 0,
            blocks: String::new(),
            paragraphs: Vec::new(),
            lists: 0,
            item_starts: false,
            tables: Vec::new(),
            notes: Vec::new(),
            open_comments: Vec::new(),
            comments: Vec::new(),
            pages: 0,
            in_spreadsheet: false,
            page_open: false,
            styles: HashMap::new(),
            title: String::new(),
        }
    }

    fn walk(&mut self, source: &str) -> Result<()> {
        let mut reader = Reader::from_str(source);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        loop {
            match reader.read_event() {
                Ok(Event::Eof) => break,
                Ok(Event::Start(tag)) => self.start(&tag)?,
                Ok(Event::Empty(tag)) => {
                    self.start(&tag)?;
                    self.end()?;
                }
                Ok(Event::End(_)) => self.end()?,
                Ok(Event::Text(text)) => self.words(&text.xml10_content()),
                Ok(Event::CData(text)) => self.words(&text.xml10_content()),
                Ok(Event::GeneralRef(reference)) => {
                    if let Some(character) = markup::entity(&reference) {
                        self.words(character.encode_utf8(&mut [0; 4]));
                    }
                }
                Ok(_) => {}
                Err(error) => return Err(Error::bad_content(format!("broken OpenDocument file: {error}"))),
            }
        }
        while !self.frames.is_empty() {
            self.end()?;
        }
        self.end_page()
    }

    fn start(&mut self, tag: &BytesStart<'_>) -> Result<()> {
        if self.frames.len() >= MAX_DEPTH {
            return Err(exhausted(format!("elements nested deeper than {MAX_DEPTH}")));
        }
        let frame = if self.skipped > 0 { Frame::Skipped } else { self.open(tag.name().0, tag)? };
        self.skipped += usize::from(frame == Frame::Skipped);
        self.frames.push(frame);
        Ok(())
    }

    fn open(&mut self, name: &str, tag: &BytesStart<'_>) -> Result<Frame> {
        let number = |key: &str| markup::attribute(tag, key).and_then(|value| value.parse::<usize>().ok());
        Ok(match name {
            "text:tracked-changes"
            | "office:meta"
            | "office:settings"
            | "office:scripts"
            | "office:master-styles"
            | "office:styles"
            | "office:forms"
            | "office:binary-data"
            | "text:index-title-template"
            | "text:table-of-content-source"
            | "table:tracked-changes"
            | "svg:desc"
            | "svg:title"
            | "presentation:footer-decl"
            | "presentation:date-time-decl" => Frame::Skipped,
            "style:style" => {
                if let (Some(style), Some(parent)) =
                    (markup::attribute(tag, "style:name"), markup::attribute(tag, "style:parent-style-name"))
                    && self.styles.len() < MAX_STYLES
                {
                    self.styles.insert(style, parent);
                }
                Frame::Other
            }
            "text:p" => {
                let style = markup::attribute(tag, "text:style-name").unwrap_or_default();
                let style = self.styles.get(&style).unwrap_or(&style);
                let level = (style == "Title" && self.tables.is_empty()).then_some(1);
                self.paragraphs.push((String::new(), level));
                Frame::Paragraph
            }
            "text:h" => {
                self.paragraphs.push((String::new(), Some(number("text:outline-level").unwrap_or(1))));
                Frame::Heading
            }
            "text:list" => {
                self.lists += 1;
                Frame::List
            }
            "text:list-item" | "text:list-header" => {
                self.item_starts = true;
                Frame::Item
            }
            "office:annotation" | "officeooo:annotation" => {
                self.open_comments.push(OpenComment {
                    author: String::new(),
                    outer: std::mem::take(&mut self.blocks),
                    lists: std::mem::take(&mut self.lists),
                    item_starts: std::mem::take(&mut self.item_starts),
                });
                Frame::Comment
            }
            "dc:creator" if !self.open_comments.is_empty() => {
                self.paragraphs.push((String::new(), None));
                Frame::Creator
            }
            "dc:date" | "meta:date-string" | "meta:creator-initials" | "loext:sender-initials"
                if !self.open_comments.is_empty() =>
            {
                Frame::Skipped
            }
            "text:note" => Frame::Note,
            "text:note-citation" => {
                self.words("[");
                Frame::Other
            }
            "text:note-body" => {
                self.words("]");
                let outer = std::mem::take(&mut self.blocks);
                self.notes.push(outer);
                Frame::NoteBody
            }
            "text:s" => {
                self.words(&" ".repeat(number("text:c").unwrap_or(1).min(100)));
                Frame::Other
            }
            "text:tab" => {
                self.words("\t");
                Frame::Other
            }
            "text:line-break" => {
                self.words("\n");
                Frame::Other
            }
            "table:table" => {
                let outer = std::mem::take(&mut self.blocks);
                let name = markup::attribute(tag, "table:name").unwrap_or_default();
                self.tables.push(OpenTable { name, outer, ..Default::default() });
                Frame::Table
            }
            "table:table-row" => Frame::Row(number("table:number-rows-repeated").unwrap_or(1)),
            "table:table-cell" | "table:covered-table-cell" => {
                Frame::Cell(number("table:number-columns-repeated").unwrap_or(1))
            }
            "draw:page" => {
                self.end_page()?;
                self.pages += 1;
                self.page_open = true;
                Frame::Page
            }
            "office:spreadsheet" => {
                self.in_spreadsheet = true;
                Frame::Other
            }
            _ => Frame::Other,
        })
    }

    fn end(&mut self) -> Result<()> {
        self.scope.deadline.check()?;
        match self.frames.pop() {
            Some(Frame::Skipped) => self.skipped = self.skipped.saturating_sub(1),
            Some(Frame::Paragraph | Frame::Heading) => self.end_paragraph(),
            Some(Frame::List) => {
                self.lists = self.lists.saturating_sub(1);
                if self.lists == 0 {
                    self.blocks.push('\n');
                }
            }
            Some(Frame::Item) => self.item_starts = false,
            Some(Frame::NoteBody) => {
                let note = std::mem::replace(&mut self.blocks, self.notes.pop().unwrap_or_default());
                let note: Vec<&str> = note.split_whitespace().collect();
                self.words(&format!(" ({})", note.join(" ")));
            }
            Some(Frame::Creator) => {
                let (author, _) = self.paragraphs.pop().unwrap_or_default();
                if let Some(comment) = self.open_comments.last_mut() {
                    comment.author = author.trim().to_owned();
                }
            }
            Some(Frame::Comment) => self.end_comment(),
            Some(Frame::Cell(count)) => self.end_cell(count),
            Some(Frame::Row(count)) => self.end_row(count)?,
            Some(Frame::Table) => self.end_table()?,
            Some(Frame::Page) => self.end_page()?,
            Some(Frame::Note | Frame::Other) | None => {}
        }
        Ok(())
    }

    /// Text counts within paragraphs only; what stands between elements is layout of the XML.
    fn words(&mut self, words: &str) {
        if self.skipped > 0 {
            return;
        }
        if let Some((paragraph, _)) = self.paragraphs.last_mut() {
            paragraph.push_str(words);
        }
    }

    fn end_paragraph(&mut self) {
        let Some((words, heading)) = self.paragraphs.pop() else { return };
        let words = words.trim();
        if words.is_empty() {
            return;
        }
        if heading == Some(1) && self.title.is_empty() {
            self.title = words.to_owned();
        }
        let line = match heading {
            Some(level) => {
                let words: Vec<&str> = words.split_whitespace().collect();
                format!("{} {}\n\n", "#".repeat(level.clamp(1, 6)), words.join(" "))
            }
            None if self.lists > 0 => {
                let indent = "  ".repeat(self.lists - 1);
                let mark = if std::mem::take(&mut self.item_starts) { "- " } else { "  " };
                format!("{indent}{mark}{words}\n")
            }
            None => format!("{words}\n\n"),
        };
        self.blocks.push_str(&line);
    }

    /// A comment of a sheet stays in its cell, one of a slide on it; those of a text go behind it.
    fn end_comment(&mut self) {
        let Some(comment) = self.open_comments.pop() else { return };
        let text = std::mem::replace(&mut self.blocks, comment.outer);
        (self.lists, self.item_starts) = (comment.lists, comment.item_starts);
        let text: Vec<&str> = text.split_whitespace().collect();
        if text.is_empty() {
            return;
        }
        let text = text.join(" ");
        let text = if comment.author.is_empty() { text } else { format!("{}: {text}", comment.author) };
        match self.tables.last_mut().filter(|_| self.in_spreadsheet) {
            Some(table) => table.comments.push(text),
            None => self.comments.push(text),
        }
    }

    fn end_cell(&mut self, count: usize) {
        let Some(table) = self.tables.last_mut() else { return };
        let mut cell = std::mem::take(&mut self.blocks);
        for comment in table.comments.drain(..) {
            cell.truncate(cell.trim_end().len());
            cell.push_str(&format!(" [Comment: {comment}]"));
        }
        let room = MAX_CELLS.saturating_sub(table.cells.len());
        let count = if cell.is_empty() { count.min(room) } else { count.min(room).min(MAX_REPEATED) };
        table.cells.extend(std::iter::repeat_n(cell, count));
    }

    fn end_row(&mut self, count: usize) -> Result<()> {
        let Some(table) = self.tables.last_mut() else { return Ok(()) };
        let mut cells = std::mem::take(&mut table.cells);
        while cells.last().is_some_and(String::is_empty) {
            cells.pop();
        }
        if cells.is_empty() {
            return Ok(());
        }
        let bytes: usize = cells.iter().map(|cell| cell.len() + 3).sum();
        self.scope.limits.check_text(bytes.saturating_mul(count.min(MAX_REPEATED)))?;
        table.rows.extend(std::iter::repeat_n(cells, count.min(MAX_REPEATED)));
        Ok(())
    }

    fn end_table(&mut self) -> Result<()> {
        let Some(open) = self.tables.pop() else { return Ok(()) };
        let bytes: usize = open.rows.iter().flatten().map(String::len).sum();
        self.scope.limits.check_text(bytes)?;
        let markdown = table(&open.rows);
        self.blocks = open.outer;
        // A table that stands in no text is a sheet.
        let is_sheet = self.tables.is_empty() && self.in_spreadsheet && self.paragraphs.is_empty();
        if is_sheet {
            self.pages += 1;
            let text = format!("## {}\n\n{markdown}", open.name);
            let text = if markdown.is_empty() { String::new() } else { text };
            return self.text.push_sheet(self.pages, &open.name, &text);
        }
        self.blocks.push_str(&markdown);
        self.blocks.push('\n');
        Ok(())
    }

    fn end_page(&mut self) -> Result<()> {
        let mut blocks = std::mem::take(&mut self.blocks);
        if !std::mem::take(&mut self.page_open) {
            return if blocks.trim().is_empty() { Ok(()) } else { self.text.push(&blocks) };
        }
        if !self.comments.is_empty() {
            let comments = std::mem::take(&mut self.comments).join("\n\n");
            blocks.push_str(&format!("\n\nComments:\n\n{comments}\n"));
        }
        self.text.push_page(self.pages, &blocks)
    }
}

/// Title and properties of `meta.xml`.
fn properties(meta: &str) -> (String, Properties) {
    let value = |tag: &str| markup::tag_content(meta, tag).unwrap_or_default();
    let authors = [value("meta:initial-creator"), value("dc:creator")];
    let language = Some(value("dc:language")).filter(|language| !language.is_empty());
    let properties = Properties {
        authors: authors.into_iter().filter(|author| !author.is_empty()).take(1).collect(),
        created: dates::parse(&value("meta:creation-date")),
        modified: dates::parse(&value("dc:date")),
        language,
        keywords: Some(value("meta:keyword")).filter(|word| !word.is_empty()).into_iter().collect(),
    };
    (value("dc:title"), properties)
}
