//! Text formats that carry their structure in the text: Markdown, XML, JSON, notebooks.

use std::borrow::Cow;

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use quick_xml::events::Event as XmlEvent;
use serde_json::Value;

use super::limits::ExtractLimits;
use super::normalise::TextBuilder;
use crate::document::{ExtractedDocument, Markup};
use crate::error::{Error, Result};

/// JSON in lines longer than this was written by a machine and is laid out anew.
const LONG_JSON_LINE: usize = 1_000;
/// Largest JSON that is laid out anew; its tree takes about ten times the source.
const MAX_JSON_TREE_BYTES: usize = 16 << 20;
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

/// The words of an XML document. `<title>`, where there is one, is its title.
pub(super) fn xml(source: &str, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    let text = TextBuilder::whole(&strip_tags(source), limits)?;
    let title = tag_content(source, "title").or_else(|| tag_content(source, "book-title")).unwrap_or_default();
    Ok(ExtractedDocument { title, text, ..Default::default() })
}

/// The text of a short element near the start.
fn tag_content(source: &str, tag: &str) -> Option<String> {
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
    let mut reader = quick_xml::Reader::from_str(source);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;
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
            Ok(XmlEvent::GeneralRef(reference)) => {
                let name = reference.xml10_content();
                let named = match name.as_ref() {
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "amp" => Some('&'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    "nbsp" => Some(' '),
                    _ => reference.resolve_char_ref().ok().flatten(),
                };
                match named {
                    Some(character) => join(&mut out, character.encode_utf8(&mut [0; 4])),
                    None => join(&mut out, &format!("&{name};")),
                }
            }
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

/// Stands where elements touch until it is known whether text follows: a character that normalised text never has.
const BREAK: char = '\u{1}';

fn part(out: &mut String) {
    if !out.is_empty() && !out.ends_with([BREAK, '\n']) {
        out.push(BREAK);
    }
}

/// Appends text. A single tag between two pieces of text is inline markup; it leaves nothing behind.
fn join(out: &mut String, text: &str) {
    if out.ends_with(BREAK) {
        let inline = text.starts_with(|c: char| !c.is_whitespace())
            && out.trim_end_matches(BREAK).ends_with(|c: char| !matches!(c, '\n' | '.' | ':' | '!' | '?'));
        out.pop();
        if !inline && !text.starts_with(char::is_whitespace) {
            out.push('\n');
        } else if inline {
            out.push(' ');
        }
    }
    out.push_str(text);
}

/// Elements whose content is no text: scripts, styles, and pictures in FictionBook.
fn is_hidden(name: impl AsRef<[u8]>) -> bool {
    [b"script".as_slice(), b"style", b"binary"].iter().any(|hidden| name.as_ref().eq_ignore_ascii_case(hidden))
}

/// JSON as people would write it. What can't be parsed is kept as text.
pub(super) fn json(source: &str, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    let machine_made = source.lines().any(|line| line.len() > LONG_JSON_LINE);
    let laid_out = (machine_made && source.len() <= MAX_JSON_TREE_BYTES)
        .then(|| serde_json::from_str::<Value>(source).ok())
        .flatten()
        .and_then(|value| serde_json::to_string_pretty(&value).ok());
    let text: Cow<'_, str> = laid_out.map_or(Cow::Borrowed(source), Cow::Owned);
    Ok(ExtractedDocument { text: TextBuilder::whole(&text, limits)?, ..Default::default() })
}

/// The cells of a Jupyter notebook, without their outputs.
pub(super) fn notebook(source: &str, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    if source.len() > MAX_JSON_TREE_BYTES {
        return Err(super::limits::exhausted(format!("a notebook of {} bytes", source.len())));
    }
    let notebook: Value =
        serde_json::from_str(source).map_err(|error| Error::bad_content(format!("broken notebook: {error}")))?;
    let cells = notebook.get("cells").and_then(Value::as_array);
    let cells = cells.ok_or_else(|| Error::bad_content("a notebook without cells"))?;
    let language = notebook.pointer("/metadata/kernelspec/language").and_then(Value::as_str).unwrap_or_default();
    let mut text = TextBuilder::new(limits);
    for cell in cells {
        let source = match cell.get("source") {
            Some(Value::String(source)) => source.clone(),
            Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).collect(),
            _ => continue,
        };
        if cell.get("cell_type").and_then(Value::as_str) == Some("code") {
            text.push(&format!("```{language}\n{source}\n```"))?;
        } else {
            text.push(&source)?;
        }
    }
    let (text, _) = text.finish();
    let title = first_heading(&text).unwrap_or_default();
    Ok(ExtractedDocument { title, text, markup: Markup::Markdown, ..Default::default() })
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
    fn xml_gives_its_words() {
        let source = "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><book><title>On &amp; off</title>\n<p>One <b>two</b> \
                      three&#8212;four.</p><p>Five &unknown; <![CDATA[a < b]]></p><script>no()</script></book>";
        let document = xml(source, &limits()).unwrap();
        assert_eq!(document.title, "On & off");
        assert_eq!(document.text, "On & off\nOne two three—four.\nFive &unknown; a < b");
    }

    #[test]
    fn broken_xml_keeps_its_text() {
        let text = xml("<a><b>kept</c> and </a></a> <![CDATA[ open", &limits()).unwrap().text;
        assert!(text.contains("kept") && text.contains("and") && text.contains("open"), "{text}");
        assert_eq!(xml("<a & b", &limits()).unwrap().text, "<a & b");
    }

    #[test]
    fn a_million_laughs_stay_small() {
        let mut source = String::from("<!DOCTYPE l [<!ENTITY a0 'ha'>");
        for level in 1..30 {
            source.push_str(&format!("<!ENTITY a{level} '&a{0};&a{0};&a{0};'>", level - 1));
        }
        source.push_str("]><l>&a29;</l>");
        assert_eq!(xml(&source, &limits()).unwrap().text, "&a29;");
    }

    #[test]
    fn json_of_machines_is_laid_out() {
        let long = format!("{{\"key\":[{}1]}}", "\"word\",".repeat(300));
        assert!(json(&long, &limits()).unwrap().text.lines().count() > 300);
        assert_eq!(json("{\"a\": 1}", &limits()).unwrap().text, "{\"a\": 1}");
        let broken = format!("{{\"key\": {}", "x".repeat(2_000));
        assert_eq!(json(&broken, &limits()).unwrap().text, broken);
        let deep = "[".repeat(500_000);
        assert_eq!(json(&deep, &limits()).unwrap().text, deep);
    }

    #[test]
    fn notebooks_give_their_cells() {
        let source = r##"{"cells": [{"cell_type": "markdown", "source": ["# Intro\n", "text"]},
            {"cell_type": "code", "source": "print(1)", "outputs": [{"text": "secret"}]}, {"cell_type": "raw"}],
            "metadata": {"kernelspec": {"language": "python"}}}"##;
        let document = notebook(source, &limits()).unwrap();
        assert_eq!(document.title, "Intro");
        assert_eq!(document.text, "# Intro\ntext\n\n```python\nprint(1)\n```");
        assert!(notebook("{}", &limits()).is_err());
        assert!(notebook("not json", &limits()).is_err());
    }
}
