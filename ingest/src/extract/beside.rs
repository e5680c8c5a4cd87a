//! What stands beside the text of an Office document: headers and footers, comments, the notes of a speaker. The parser of
//! the text leaves them out, or finds them by their number only.
//!
//! **Invariant:** nothing here makes a document unreadable whose text can be read: a part that is broken gives what was read
//! before. Only limits are errors.

use std::collections::{HashMap, HashSet};

use quick_xml::events::{BytesStart, Event};

use super::markup;
use super::package::{Package, Relation, attribute, for_each_tag, prefixed};
use super::scope::Scope;
use crate::error::Result;

/// Name of the part that holds headers and footers.
pub(super) const HEADERS: &str = "headers and footers";
/// Name of the part that holds comments.
pub(super) const COMMENTS: &str = "comments";

/// A text that stands for itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    /// Its author, or the author's number.
    author: String,
    /// The cell that it belongs to, or the role of a shape.
    place: String,
    lines: Vec<Line>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    words: String,
    counts_pages: bool,
}

impl Entry {
    fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| line.words.as_str());
        lines.filter(|words| !words.is_empty()).collect::<Vec<_>>().join("\n")
    }

    fn signed(&self, author: &str) -> String {
        let text = self.text();
        if author.is_empty() || text.is_empty() { text } else { format!("{author}: {text}") }
    }
}

/// Headers and footers, and comments, of a Word document.
#[derive(Debug, Default)]
pub(super) struct OfText {
    pub headers: String,
    pub comments: String,
}

/// Reads what stands beside the text of a Word document.
pub(super) fn of_text(data: &[u8], scope: &Scope) -> Result<OfText> {
    let Ok(mut package) = Package::open(data, scope) else { return Ok(OfText::default()) };
    let Some(main) = package.main_part()? else { return Ok(OfText::default()) };
    let mut margins = Vec::new();
    for role in ["header", "footer"] {
        margins.extend(read_all(&mut package, &main, role, &["hdr", "ftr"], scope)?);
    }
    let comments = read_all(&mut package, &main, "comments", &["comment"], scope)?;
    let comments = comments.iter().map(|comment| comment.signed(&comment.author));
    Ok(OfText { headers: distinct_lines(&margins), comments: paragraphs(comments) })
}

/// Headers and footers of the page styles of an OpenDocument text.
pub(super) fn of_styles(styles: &str, scope: &Scope) -> Result<String> {
    let names = ["header", "header-left", "header-first", "footer", "footer-left", "footer-first"].as_slice();
    Ok(distinct_lines(&entries(styles, names, scope)?))
}

/// Notes and comments of a slide.
#[derive(Debug, Default)]
pub(super) struct OfSlide {
    pub notes: String,
    pub comments: String,
}

/// Reads what stands beside the slides of a presentation, in their order.
pub(super) fn of_slides(data: &[u8], scope: &Scope) -> Result<Vec<OfSlide>> {
    let Ok(mut package) = Package::open(data, scope) else { return Ok(Vec::new()) };
    let Some(main) = package.main_part()? else { return Ok(Vec::new()) };
    let slides = in_order(&mut package, &main, "slide", "sldId", scope)?;
    let mut authors = HashMap::new();
    for role in ["commentAuthors", "authors"] {
        for Relation { part, .. } in package.relations(&main, role)? {
            let xml = package.text(&part)?.unwrap_or_default();
            for_each_tag(&xml, scope, |tag| {
                if let (Some(id), Some(name)) = (attribute(tag, "id"), attribute(tag, "name")) {
                    authors.insert(id, name);
                }
            })?;
        }
    }
    let mut found = Vec::with_capacity(slides.len());
    for (slide, _) in slides {
        let shapes = read_all(&mut package, &slide, "notesSlide", &["sp"], scope)?;
        // Picture and number of the slide, and what the notes page has around it.
        let is_note = |shape: &&Entry| !["sldImg", "sldNum", "hdr", "ftr", "dt"].contains(&&*shape.place);
        let comments = read_all(&mut package, &slide, "comments", &["cm", "reply"], scope)?;
        let author = |comment: &Entry| authors.get(&comment.author).map_or("", String::as_str).to_owned();
        found.push(OfSlide {
            notes: paragraphs(shapes.iter().filter(is_note).map(Entry::text)),
            comments: paragraphs(comments.iter().map(|comment| comment.signed(&author(comment)))),
        });
    }
    Ok(found)
}

/// Comments of a workbook by the name of their sheet: cell and text.
pub(super) fn of_sheets(data: &[u8], scope: &Scope) -> Result<HashMap<String, Vec<(String, String)>>> {
    let Ok(mut package) = Package::open(data, scope) else { return Ok(HashMap::new()) };
    let Some(main) = package.main_part()? else { return Ok(HashMap::new()) };
    let mut found = HashMap::new();
    for (sheet, name) in in_order(&mut package, &main, "worksheet", "sheet", scope)? {
        let comments = read_all(&mut package, &sheet, "comments", &["comment"], scope)?;
        let comments = comments.into_iter().map(|comment| (comment.text(), comment.place));
        let comments = comments.map(|(text, cell)| (cell, without_notice(&text).to_owned()));
        found.insert(name, comments.filter(|(_, text)| !text.is_empty()).collect());
    }
    Ok(found)
}

/// A comment of a thread without what tells older programs that they can't show it.
pub(super) fn without_notice(comment: &str) -> &str {
    let Some(thread) = comment.strip_prefix("[Threaded comment]") else { return comment };
    let (_, text) = thread.split_once("linkid=870924").unwrap_or(("", thread));
    let text = text.trim_start();
    text.strip_prefix("Comment:").unwrap_or(text).trim_start()
}

/// Parts in the order in which elements of the main part name them, with the name that these give them.
fn in_order(
    package: &mut Package<'_>,
    main: &str,
    role: &str,
    element: &str,
    scope: &Scope,
) -> Result<Vec<(String, String)>> {
    let parts: HashMap<String, String> =
        package.relations(main, role)?.into_iter().map(|relation| (relation.id, relation.part)).collect();
    let xml = package.text(main)?.unwrap_or_default();
    let mut ordered = Vec::new();
    for_each_tag(&xml, scope, |tag| {
        if tag.local_name().as_ref() == element
            && let Some(part) = prefixed(tag, "id").and_then(|id| parts.get(&id))
        {
            ordered.push((part.clone(), attribute(tag, "name").unwrap_or_default()));
        }
    })?;
    Ok(ordered)
}

/// The entries of all parts that belong to one in a role.
fn read_all(
    package: &mut Package<'_>,
    part: &str,
    role: &str,
    elements: &[&str],
    scope: &Scope,
) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for Relation { part, .. } in package.relations(part, role)? {
        if let Some(xml) = package.text(&part)? {
            all.extend(entries(&xml, elements, scope)?);
        }
    }
    Ok(all)
}

/// Lines of headers and footers, each once. What only counts pages is no text.
fn distinct_lines(entries: &[Entry]) -> String {
    let mut seen = HashSet::new();
    let says_something = |line: &&Line| {
        let words = line.words.split_whitespace().filter(|word| word.contains(char::is_alphabetic)).count();
        // "Page 3 of 10", in any language.
        words > if line.counts_pages { 2 } else { 0 }
    };
    let lines = entries.iter().flat_map(|entry| &entry.lines).filter(says_something);
    let lines = lines.map(|line| line.words.clone()).filter(|words| seen.insert(words.clone()));
    paragraphs(lines)
}

fn paragraphs(texts: impl Iterator<Item = String>) -> String {
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// Reads the texts of these elements. One within another follows it.
fn entries(xml: &str, elements: &[&str], scope: &Scope) -> Result<Vec<Entry>> {
    let mut reader = markup::lenient(xml);
    let mut state = Entries { elements, ..Entries::default() };
    loop {
        scope.deadline.check()?;
        match reader.read_event() {
            Ok(Event::Start(tag)) => state.start(&tag),
            Ok(Event::Empty(tag)) => {
                state.start(&tag);
                state.end(tag.local_name().as_ref(), is_open_document(tag.name().0));
            }
            Ok(Event::End(tag)) => state.end(tag.local_name().as_ref(), is_open_document(tag.name().0)),
            Ok(Event::Text(text)) => state.words(&text.xml10_content()),
            Ok(Event::CData(text)) => state.words(&text.xml10_content()),
            Ok(Event::GeneralRef(reference)) => {
                if let Some(character) = markup::entity(&reference) {
                    state.words(character.encode_utf8(&mut [0; 4]));
                }
            }
            Ok(Event::Eof) | Err(_) => break,
            Ok(_) => {}
        }
        scope.limits.check_text(state.bytes)?;
    }
    state.end_line();
    Ok(state.found)
}

/// A field whose value an application puts in.
#[derive(Debug, Default)]
struct Field {
    instruction: String,
    /// Its value is read, no longer what it is.
    in_value: bool,
}

impl Field {
    fn counts_pages(&self) -> bool {
        let name = self.instruction.split_whitespace().next().unwrap_or_default();
        ["PAGE", "NUMPAGES", "SECTIONPAGES"].iter().any(|counts| name.eq_ignore_ascii_case(counts))
    }
}

#[derive(Debug, Default)]
struct Entries<'a> {
    elements: &'a [&'a str],
    found: Vec<Entry>,
    /// Numbers of those that are open.
    open: Vec<usize>,
    line: Line,
    /// Elements around whose characters are text: of Office only `t` and `text`, of OpenDocument whole paragraphs.
    in_text: usize,
    in_instruction: bool,
    /// Elements around whose content is left out.
    hidden: usize,
    fields: Vec<Field>,
    bytes: usize,
}

impl Entries<'_> {
    fn start(&mut self, tag: &BytesStart<'_>) {
        let name = tag.local_name();
        let name = name.as_ref();
        if self.elements.contains(&name) {
            self.end_line();
            self.open.push(self.found.len());
            let author = attribute(tag, "author").or_else(|| attribute(tag, "authorId"));
            let place = attribute(tag, "ref").unwrap_or_default();
            self.found.push(Entry { author: author.unwrap_or_default(), place, lines: Vec::new() });
        }
        match name {
            "t" | "text" => self.in_text += 1,
            "p" | "h" if is_open_document(tag.name().0) => self.in_text += 1,
            "instrText" => self.in_instruction = true,
            // The same again, for older programs; and when a comment was made.
            "Fallback" | "date" | "creator" => self.hidden += 1,
            "page-number" | "page-count" => {
                self.line.counts_pages = true;
                self.hidden += 1;
            }
            "fldSimple" => {
                let instruction = attribute(tag, "instr").unwrap_or_default();
                self.begin_value(Field { instruction, in_value: true });
            }
            "fldChar" => match attribute(tag, "fldCharType").as_deref() {
                Some("begin") => self.fields.push(Field::default()),
                Some("separate") => {
                    if let Some(mut field) = self.fields.pop() {
                        field.in_value = true;
                        self.begin_value(field);
                    }
                }
                Some("end") => {
                    if let Some(field) = self.fields.pop() {
                        // One without a value.
                        self.line.counts_pages |= field.counts_pages();
                    }
                }
                _ => {}
            },
            "tab" | "br" | "cr" | "s" | "line-break" => self.space(),
            "ph" => {
                if let Some(entry) = self.open.last().and_then(|entry| self.found.get_mut(*entry)) {
                    entry.place = attribute(tag, "type").unwrap_or_default();
                }
            }
            _ => {}
        }
    }

    fn end(&mut self, name: &str, is_open_document: bool) {
        if is_open_document && matches!(name, "p" | "h") {
            self.in_text = self.in_text.saturating_sub(1);
        }
        match name {
            "t" | "text" => self.in_text = self.in_text.saturating_sub(1),
            "p" | "h" => self.end_line(),
            "instrText" => self.in_instruction = false,
            "Fallback" | "date" | "creator" | "page-number" | "page-count" => {
                self.hidden = self.hidden.saturating_sub(1);
            }
            "fldSimple" => {
                self.fields.pop();
            }
            _ => {}
        }
        if self.elements.contains(&name) {
            self.end_line();
            self.open.pop();
        }
    }

    fn begin_value(&mut self, field: Field) {
        self.line.counts_pages |= field.counts_pages();
        self.fields.push(field);
    }

    fn words(&mut self, words: &str) {
        if self.in_instruction {
            if let Some(field) = self.fields.last_mut().filter(|field| field.instruction.len() < 256) {
                field.instruction.push_str(words);
            }
            return;
        }
        let is_number = self.fields.iter().any(|field| field.in_value && field.counts_pages());
        if self.in_text > 0 && self.hidden == 0 && !is_number && !self.open.is_empty() {
            self.bytes = self.bytes.saturating_add(words.len());
            self.line.words.push_str(words);
        }
    }

    fn space(&mut self) {
        if !self.open.is_empty() {
            self.line.words.push(' ');
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let words = line.words.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(entry) = self.open.last().and_then(|entry| self.found.get_mut(*entry))
            && !words.is_empty()
        {
            entry.lines.push(Line { words, ..line });
        }
    }
}

/// Whether a paragraph is one of OpenDocument (`text:p`), whose characters stand in it directly.
fn is_open_document(name: &str) -> bool {
    name.starts_with("text:")
}
