//! XML documents: FictionBook, DocBook, JATS, TEI, feeds get headings from their sections; data gets the names of its
//! values; of others, the words.

use std::collections::HashMap;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::dates;
use super::json::{self, Node};
use super::markup::{entity, strip_tags, tag_content};
use super::normalise::TextBuilder;
use super::scope::Scope;
use crate::document::{ExtractedDocument, Markup, Properties};
use crate::error::Result;

/// Roots of the vocabularies whose sections are known.
const DOCUMENTS: &[&str] = &[
    "FictionBook",
    "book",
    "article",
    "chapter",
    "section",
    "part",
    "TEI",
    "TEI.2",
    "rss",
    "feed",
    "refentry",
    "appendix",
];
/// Elements that hold a heading and what belongs to it.
const SECTIONS: &[&str] = &[
    "section",
    "sect1",
    "sect2",
    "sect3",
    "sect4",
    "sect5",
    "sec",
    "chapter",
    "part",
    "appendix",
    "preface",
    "div",
    "div1",
    "div2",
    "div3",
    "item",
    "entry",
    "book",
    "article",
    "body",
    "glossary",
    "bibliography",
    "poem",
];
/// Elements that are a line or paragraph of their own.
const BLOCKS: &[&str] = &[
    "p",
    "para",
    "simpara",
    "formalpara",
    "li",
    "listitem",
    "v",
    "l",
    "lg",
    "stanza",
    "tr",
    "row",
    "cite",
    "epigraph",
    "text-author",
    "subtitle",
    "description",
    "summary",
    "content",
    "abstract",
    "annotation",
    "programlisting",
    "code",
    "note",
    "title",
    "head",
    "date",
    "pubDate",
    "link",
    "author",
    "name",
    "email",
    "item",
    "member",
    "term",
    "varlistentry",
];
/// Elements within a line: no blank is put around them.
const WITHIN_LINES: &[&str] =
    &["strong", "emphasis", "b", "i", "sub", "sup", "style", "a", "hi", "italic", "bold", "xref", "ref"];
/// Elements that hold no text.
const HIDDEN: &[&str] = &["binary", "script", "stylesheet", "description", "teiHeader", "front", "guid"];
/// Deepest nesting of elements that is told apart.
const MAX_DEPTH: usize = 2_000;

/// Reads a document.
pub(super) fn read(source: &str, scope: &Scope) -> Result<ExtractedDocument> {
    let title = ["book-title", "article-title", "title"].iter().find_map(|tag| tag_content(source, tag));
    let root = root(source).unwrap_or_default();
    let structured = DOCUMENTS.contains(&root.as_str()).then(|| sections(source, &root)).flatten();
    let (text, markup) = match structured.filter(|text| !text.trim().is_empty()) {
        Some(text) => (text, Markup::Markdown),
        None => match records(source) {
            Some(node) => {
                let mut text = String::new();
                json::write_document(&node, &mut text, scope)?;
                (text, Markup::Markdown)
            }
            None => (strip_tags(source), Markup::Plain),
        },
    };
    let text = TextBuilder::whole(&text, &scope.limits)?;
    let media_type = match root.as_str() {
        "FictionBook" => "application/x-fictionbook+xml",
        "rss" => "application/rss+xml",
        "feed" => "application/atom+xml",
        _ => "application/xml",
    };
    Ok(ExtractedDocument {
        media_type: media_type.into(),
        title: title.unwrap_or_default(),
        text,
        markup,
        properties: if markup == Markup::Markdown { properties(source) } else { Properties::default() },
        ..Default::default()
    })
}

/// Local name of the outermost element.
pub(super) fn root(source: &str) -> Option<String> {
    let mut reader = Reader::from_str(source);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) | Event::Empty(tag) => return Some(tag.local_name().as_ref().to_owned()),
            Event::Eof => return None,
            Event::Text(text) if !text.xml10_content().trim().is_empty() => return None,
            _ => {}
        }
    }
}

fn properties(source: &str) -> Properties {
    let person = tag_content(source, "first-name").zip(tag_content(source, "last-name"));
    let person = person.map(|(first, last)| format!("{first} {last}"));
    let author =
        person.or_else(|| tag_content(source, "dc:creator")).or_else(|| tag_content(source, "author"));
    let created = ["date", "pubDate", "published", "pubdate"];
    Properties {
        authors: author.into_iter().map(|author| author.chars().take(200).collect()).collect(),
        created: created.iter().find_map(|tag| dates::parse(&tag_content(source, tag)?)),
        language: tag_content(source, "lang").or_else(|| tag_content(source, "language")),
        ..Default::default()
    }
}

/// The text with headings. `None` when the XML is broken: then structure is a guess.
fn sections(source: &str, root: &str) -> Option<String> {
    let mut reader = Reader::from_str(source);
    reader.config_mut().allow_dangling_amp = true;
    let mut out = String::new();
    let mut open: Vec<String> = Vec::new();
    let mut hidden = 0usize;
    let mut heading: Option<(usize, String)> = None;
    loop {
        match reader.read_event().ok()? {
            Event::Eof => break,
            Event::Start(tag) => {
                let name = tag.local_name().as_ref().to_owned();
                if open.len() >= MAX_DEPTH {
                    return None;
                }
                let is_head = hidden == 0
                    && heading.is_none()
                    && matches!(name.as_str(), "title" | "head" | "article-title");
                let parent = open.last().map(String::as_str).unwrap_or_default();
                if is_head && (SECTIONS.contains(&parent) || parent == root || parent == "channel") {
                    let level = open.iter().filter(|name| SECTIONS.contains(&name.as_str())).count();
                    heading = Some((open.len(), "#".repeat(level.clamp(1, 6))));
                    end_block(&mut out);
                } else if is_block(&name) && heading.is_none() {
                    end_block(&mut out);
                }
                if hidden > 0 || is_hidden(&name, root) {
                    hidden += 1;
                }
                open.push(name);
            }
            Event::End(_) => {
                let name = open.pop().unwrap_or_default();
                hidden = hidden.saturating_sub(1);
                if let Some((_, words)) = heading.take_if(|(depth, _)| *depth == open.len()) {
                    if words.contains(' ') {
                        out.push_str(&words);
                    }
                    end_block(&mut out);
                } else if is_block(&name) && heading.is_none() {
                    end_block(&mut out);
                }
            }
            Event::Text(text) => push(&text.xml10_content(), hidden, &open, &mut heading, &mut out),
            Event::CData(text) => {
                // Feeds carry HTML in there.
                push(&strip_tags(&text.xml10_content()), hidden, &open, &mut heading, &mut out);
            }
            Event::GeneralRef(reference) if hidden == 0 => {
                let target = heading.as_mut().map_or(&mut out, |(_, words)| words);
                match entity(&reference) {
                    Some(character) => target.push(character),
                    None => target.push_str(&format!("&{};", reference.xml10_content())),
                }
            }
            _ => {}
        }
    }
    Some(out)
}

/// Values by name.
type Fields = Vec<(String, Node)>;
/// An open element: its name, its words, its fields.
type Element = (String, String, Fields);

/// The values of XML that is data: elements hold either elements or words, never both. `None`: it is a text, or broken.
fn records(source: &str) -> Option<Node> {
    /// Deeper data is no table that anybody reads.
    const MAX_DATA_DEPTH: usize = 50;
    let mut reader = Reader::from_str(source);
    let mut open: Vec<Element> = Vec::new();
    let attributes = |tag: &BytesStart<'_>| -> Fields {
        let pairs = tag.attributes().flatten().filter(|pair| !pair.key.as_ref().starts_with("xmlns"));
        let pairs = pairs.filter_map(|pair| {
            let value = pair.normalized_value(XmlVersion::Implicit1_0).ok()?;
            Some((pair.key.local_name().as_ref().to_owned(), Node::Scalar(value.into_owned())))
        });
        pairs.collect()
    };
    let words_of = |open: &mut Vec<Element>, words: &str| {
        if let Some((_, text, _)) = open.last_mut() {
            text.push_str(words);
        }
    };
    loop {
        let closed = match reader.read_event().ok()? {
            Event::Eof => return None,
            Event::Start(tag) => {
                if open.len() >= MAX_DATA_DEPTH {
                    return None;
                }
                open.push((tag.local_name().as_ref().to_owned(), String::new(), attributes(&tag)));
                continue;
            }
            Event::Empty(tag) => (tag.local_name().as_ref().to_owned(), String::new(), attributes(&tag)),
            Event::End(_) => open.pop()?,
            Event::Text(text) => {
                words_of(&mut open, &text.xml10_content());
                continue;
            }
            Event::CData(text) => {
                words_of(&mut open, &text.xml10_content());
                continue;
            }
            Event::GeneralRef(reference) => {
                words_of(&mut open, entity(&reference)?.encode_utf8(&mut [0; 4]));
                continue;
            }
            _ => continue,
        };
        let (name, words, mut fields) = closed;
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let node = match (fields.is_empty(), words.is_empty()) {
            (true, _) => Node::Scalar(words),
            (false, true) => grouped(fields),
            // Words beside attributes are data, words beside elements are text.
            (false, false) if fields.iter().all(|(_, node)| matches!(node, Node::Scalar(_))) => {
                fields.push(("text".into(), Node::Scalar(words)));
                Node::Object(fields)
            }
            (false, false) => return None,
        };
        match open.last_mut() {
            Some((_, words, fields)) if words.trim().is_empty() => fields.push((name, node)),
            Some(_) => return None,
            None => return matches!(node, Node::Object(_)).then_some(node),
        }
    }
}

/// Fields, with those of one name as a list.
fn grouped(fields: Vec<(String, Node)>) -> Node {
    let mut names: Vec<String> = Vec::new();
    let mut lists: HashMap<String, Vec<Node>> = HashMap::new();
    for (name, node) in fields {
        let list = lists.entry(name.clone()).or_default();
        if list.is_empty() {
            names.push(name);
        }
        list.push(node);
    }
    let field = |name: String| {
        let mut list = lists.remove(&name).unwrap_or_default();
        let node = match (list.pop(), list.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                list.extend(last);
                Node::List(list)
            }
        };
        (name, node)
    };
    Node::Object(names.into_iter().map(field).collect())
}

fn is_block(name: &str) -> bool {
    BLOCKS.contains(&name) || SECTIONS.contains(&name)
}

/// The `description` of a FictionBook is its metadata, that of a feed is text.
fn is_hidden(name: &str, root: &str) -> bool {
    HIDDEN.contains(&name)
        && !(name == "description" && root != "FictionBook")
        && !(name == "front" && root == "TEI")
}

fn push(
    words: &str,
    hidden: usize,
    open: &[String],
    heading: &mut Option<(usize, String)>,
    out: &mut String,
) {
    if hidden > 0 || words.is_empty() {
        return;
    }
    let verbatim =
        matches!(open.last().map(String::as_str), Some("programlisting" | "screen" | "literallayout"));
    if verbatim {
        out.push_str(&format!("\n```\n{}\n```\n", words.trim_matches('\n')));
        return;
    }
    let inner = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let target = heading.as_mut().map_or(out, |(_, words)| words);
    let starts_apart = words.starts_with(char::is_whitespace)
        || !open.last().is_some_and(|name| WITHIN_LINES.contains(&name.as_str()))
            && !target.ends_with(char::is_alphanumeric);
    let is_apart = target.is_empty() || target.ends_with(char::is_whitespace);
    if (starts_apart && !is_apart) || target.ends_with('#') {
        target.push(' ');
    }
    target.push_str(&inner);
    if !inner.is_empty() && words.ends_with(char::is_whitespace) {
        target.push(' ');
    }
}

fn end_block(out: &mut String) {
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push_str("\n\n");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::extract::ExtractLimits;

    fn document(source: &str) -> ExtractedDocument {
        read(source, &Scope::new(&ExtractLimits::default())).unwrap()
    }

    #[test]
    fn a_fiction_book_has_chapters() {
        let source = "<?xml version='1.0'?><FictionBook><description><title-info><author><first-name>Ada</first-name>\
                      <last-name>Stone</last-name></author><book-title>Hard &amp; soft</book-title><lang>en</lang><date>1999</date>\
                      </title-info></description><body><title><p>Hard</p></title><section><title><p>One</p></title><p>Granite is \
                      <strong>very</strong> hard.</p><p>Yes.</p></section></body><binary id='x'>AAAA</binary></FictionBook>";
        let document = document(source);
        assert_eq!(document.title, "Hard & soft");
        assert_eq!(document.text, "# Hard\n\n## One\n\nGranite is very hard.\n\nYes.");
        assert_eq!(document.properties.authors, ["Ada Stone"]);
        assert_eq!(document.properties.created.as_deref(), Some("1999-01-01T00:00:00Z"));
        assert_eq!(document.media_type, "application/x-fictionbook+xml");
    }

    #[test]
    fn feeds_and_books_have_sections() {
        let feed = document(
            "<rss><channel><title>News</title><item><title>Stones</title><description>All <![CDATA[<b>of</b>]]> them</description>\
                             </item></channel></rss>",
        );
        assert_eq!(feed.text, "# News\n\n# Stones\n\nAll of them");
        let book = document(
            "<article><title>T</title><section><title>S</title><para>x</para><programlisting>a\n b</programlisting></section></article>",
        );
        assert_eq!(book.text, "# T\n\n## S\n\nx\n\n```\na\n b\n```");
    }

    #[test]
    fn other_xml_gives_its_words() {
        let document = document("<note><to>Tove</to><body>Don't forget</body></note>");
        assert_eq!(document.text, "to: Tove\nbody: Don't forget");
        let mixed = super::tests::document("<note><to>Tove</to> and <b>Ada</b> go</note>");
        assert_eq!((mixed.text.as_str(), mixed.markup), ("Tove and Ada go", Markup::Plain));
        assert_eq!(super::root("text <a/>"), None);
        assert_eq!(super::root("<!DOCTYPE x><x:root/>").as_deref(), Some("root"));
    }

    #[test]
    fn data_becomes_tables() {
        let row = |n: u32| format!("<cd id='{n}'><title>T{n}</title><price cur='EUR'/></cd>");
        let document =
            document(&format!("<?xml version='1.0'?><catalog>\n{}\n</catalog>", [row(1), row(2)].concat()));
        assert_eq!(
            document.text,
            "cd:\n\nid: 1\ntitle: T1\nprice:\n  cur: EUR\n\nid: 2\ntitle: T2\nprice:\n  cur: EUR"
        );
        let flat = |n: u32| format!("<cd><title>T{n} &amp; co</title><year>19{n}0</year></cd>");
        let text = super::tests::document(&format!("<c>{}</c>", (1..4).map(flat).collect::<String>())).text;
        assert!(text.starts_with("cd:\n\n| title | year |\n|---|---|\n| T1 & co | 1910 |\n"), "{text}");
    }

    #[test]
    fn broken_books_are_plain() {
        assert!(document("<book><title>T</title><p>kept</q> and </book>").text.contains("kept"));
        assert!(document(&format!("<book>{}core", "<section>".repeat(5_000))).text.contains("core"));
    }
}
