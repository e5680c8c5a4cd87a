//! Text formats that carry their structure in the text: Markdown, XML.

use std::borrow::Cow;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event as XmlEvent};

use super::limits::ExtractLimits;
use super::normalise::TextBuilder;
use crate::document::{ExtractedDocument, Markup};
use crate::error::Result;

/// Bytes of the start in which a title is searched.
const TITLE_WITHIN: usize = 64 << 10;

/// Markdown stays as it is; its first top heading, or the title of its front matter, is the title.
pub(super) fn markdown(source: &str, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    let text = TextBuilder::whole(source, limits)?;
    let title = front_matter_title(&text).or_else(|| first_heading(&text)).unwrap_or_default();
    Ok(ExtractedDocument { title, text, markup: Markup::Markdown, ..Default::default() })
}

/// The first level-1 heading near the start of a Markdown text, else the first heading.
pub(super) fn first_heading(markdown: &str) -> Option<String> {
    let mut end = markdown.len().min(TITLE_WITHIN);
    while !markdown.is_char_boundary(end) {
        end -= 1;
    }
    let mut first: Option<String> = None;
    let mut current: Option<(HeadingLevel, String)> = None;
    let start = markdown.get(..end).unwrap_or_default();
    for event in Parser::new_ext(start, Options::ENABLE_YAML_STYLE_METADATA_BLOCKS) {
        match event {
            Event::Start(Tag::Heading { level, .. }) => current = Some((level, String::new())),
            Event::Text(text) | Event::Code(text) => {
                if let Some((_, heading)) = &mut current {
                    heading.push_str(&text);
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let Some((level, heading)) = current.take() else { continue };
                if heading.trim().is_empty() {
                    continue;
                }
                if level == HeadingLevel::H1 {
                    return Some(heading);
                }
                first.get_or_insert(heading);
            }
            _ => {}
        }
    }
    first
}

/// `title:` of a YAML front matter.
fn front_matter_title(text: &str) -> Option<String> {
    let body = text.strip_prefix("---\n")?;
    let (matter, _) = body.split_once("\n---")?;
    let value = matter.lines().find_map(|line| line.strip_prefix("title:"))?.trim();
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    (!value.is_empty()).then(|| value.to_string())
}

/// The text of a short element near the start.
pub(super) fn tag_content(source: &str, tag: &str) -> Option<String> {
    let mut end = source.len().min(TITLE_WITHIN);
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    let (_, rest) = source.get(..end)?.split_once(&format!("<{tag}"))?;
    let (_, rest) = rest.split_once('>')?;
    let (content, _) = rest.split_once(&format!("</{tag}"))?;
    let words = strip_tags(content).split_whitespace().collect::<Vec<_>>().join(" ");
    (!words.is_empty()).then_some(words)
}

/// Text between tags, with blanks as the source has them and a line break where two elements touch. Broken markup costs
/// structure, never text: from the first error on, the rest is taken as it stands. Entities are never expanded further
/// than to one character, so there is nothing to explode.
pub(super) fn strip_tags(source: &str) -> String {
    let mut reader = lenient(source);
    let mut out = String::new();
    let mut hidden = false;
    loop {
        let at = reader.buffer_position();
        match reader.read_event() {
            Ok(XmlEvent::Eof) => break,
            Ok(XmlEvent::Start(tag)) => {
                let name = tag.local_name();
                hidden = is_hidden(name.as_ref());
                part(&mut out);
            }
            Ok(XmlEvent::End(_)) => {
                hidden = false;
                part(&mut out);
            }
            Ok(XmlEvent::Empty(_)) => part(&mut out),
            _ if hidden => {}
            Ok(XmlEvent::Text(text)) => join(&mut out, &text.xml10_content()),
            Ok(XmlEvent::CData(text)) => join(&mut out, &text.xml10_content()),
            Ok(XmlEvent::GeneralRef(reference)) => match entity(&reference) {
                Some(character) => join(&mut out, character.encode_utf8(&mut [0; 4])),
                None => join(&mut out, &format!("&{};", reference.xml10_content())),
            },
            Ok(_) => {}
            Err(_) => {
                let rest = usize::try_from(at).ok().and_then(|at| source.get(at..));
                join(&mut out, rest.unwrap_or_default());
                break;
            }
        }
    }
    out.replace(BREAK, "\n")
}

/// A reader of XML that makes the best of what is broken.
pub(super) fn lenient(source: &str) -> quick_xml::Reader<&[u8]> {
    let mut reader = quick_xml::Reader::from_str(source);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;
    reader
}

/// The character of a reference. Others than the predefined ones are not expanded.
pub(super) fn entity(reference: &BytesRef<'_>) -> Option<char> {
    match reference.xml10_content().as_ref() {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        "nbsp" => Some(' '),
        _ => reference.resolve_char_ref().ok().flatten(),
    }
}

/// The value of an attribute.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.try_get_attribute(name).ok()??;
    attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(Cow::into_owned)
}

/// Stands where elements touch until it is known whether text follows: a character that normalised text never has.
const BREAK: char = '\u{1}';

fn part(out: &mut String) {
    if !out.is_empty() && !out.ends_with([BREAK, '\n']) {
        out.push(BREAK);
    }
}

/// Appends text. Where elements touch within a line, a blank keeps their words apart; after a sentence, a line break.
fn join(out: &mut String, text: &str) {
    let Some(first) = text.chars().next() else { return };
    if out.ends_with(BREAK) {
        out.truncate(out.trim_end_matches(BREAK).len());
        let last = out.chars().next_back().unwrap_or('\n');
        if !first.is_whitespace() && !last.is_whitespace() {
            if matches!(last, '.' | ':' | '!' | '?') {
                out.push('\n');
            } else if first.is_alphanumeric() {
                out.push(' ');
            }
        }
    }
    out.push_str(text);
}

/// Elements whose content is no text: scripts, styles, and pictures in FictionBook.
fn is_hidden(name: impl AsRef<[u8]>) -> bool {
    [b"script".as_slice(), b"style", b"binary"]
        .iter()
        .any(|hidden| name.as_ref().eq_ignore_ascii_case(hidden))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn limits() -> ExtractLimits {
        ExtractLimits::default()
    }

    #[test]
    fn markdown_titles() {
        let title = |text: &str| markdown(text, &limits()).unwrap().title;
        assert_eq!(title("intro\n\n## Two\n\n# One `x`\n"), "One x");
        assert_eq!(title("## Two\n\ntext"), "Two");
        assert_eq!(title("---\nauthor: me\ntitle: \"The title\"\n---\n# Other"), "The title");
        assert_eq!(title("---\nlang: en\n---\ntext"), "");
        assert_eq!(title("```\n# no heading\n```"), "");
        assert_eq!(title(&format!("{}\n# late", "ä".repeat(TITLE_WITHIN))), "");
    }

    #[test]
    fn tags_are_taken_from_words() {
        let source = "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><x><title>On &amp; off</title>\n<p>One <b>two</b> \
                      three&#8212;four.</p><p>Five &unknown; <![CDATA[a < b]]></p><script>no()</script></x>";
        assert_eq!(tag_content(source, "title").as_deref(), Some("On & off"));
        assert_eq!(strip_tags(source).trim_end(), "On & off\nOne two three—four.\nFive &unknown; a < b");
    }

    #[test]
    fn broken_xml_keeps_its_text() {
        let text = strip_tags("<a><b>kept</c> and </a></a> <![CDATA[ open");
        assert!(text.contains("kept") && text.contains("and") && text.contains("open"), "{text}");
        assert_eq!(strip_tags("<a & b"), "<a & b");
    }

    #[test]
    fn a_million_laughs_stay_small() {
        let mut source = String::from("<!DOCTYPE l [<!ENTITY a0 'ha'>");
        for level in 1..30 {
            source.push_str(&format!("<!ENTITY a{level} '&a{0};&a{0};&a{0};'>", level - 1));
        }
        source.push_str("]><l>&a29;</l>");
        assert_eq!(strip_tags(&source).trim_end(), "&a29;");
    }
}
