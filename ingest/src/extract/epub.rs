//! EPUB: the chapters of the spine in reading order, each read as the HTML that it is, as parts named by their files.

use std::collections::{HashMap, HashSet};

use quick_xml::Reader;
use quick_xml::events::Event;

use super::normalise::TextBuilder;
use super::scope::Scope;
use super::zip_parts::ZipParts;
use super::{dates, html, markup};
use crate::document::{ExtractedDocument, Markup, Properties};
use crate::error::{Error, Result};

/// Most items of a book.
const MAX_ITEMS: usize = 20_000;
/// What scrambles only fonts.
const FONT_ALGORITHMS: &[&str] = &["http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"];

/// Reads a book.
pub(super) fn read(data: &[u8], scope: &Scope) -> Result<ExtractedDocument> {
    let mut parts = ZipParts::open(data)?;
    let protection = parts.text("META-INF/encryption.xml", scope)?.unwrap_or_default();
    if is_protected(&protection) {
        return Err(Error::bad_content("the book is protected (DRM)"));
    }
    let container = parts.text("META-INF/container.xml", scope)?.unwrap_or_default();
    let package_path = package_path(&container)
        .ok_or_else(|| Error::bad_content("broken EPUB: it does not say where its contents are"))?;
    let package = parts.text(&package_path, scope)?;
    let package =
        package.ok_or_else(|| Error::bad_content("broken EPUB: its table of contents is missing"))?;
    let package = Package::of(&package);
    let mut text = TextBuilder::new(&scope.limits);
    let mut left_out = Vec::new();
    for href in package.reading_order() {
        scope.deadline.check()?;
        let path = resolve(&package_path, href);
        match parts.text(&path, scope)? {
            Some(chapter) => {
                let chapter = html::read(&chapter, &scope.limits)?;
                text.push_part(&path, Markup::Markdown, &chapter.text)?;
            }
            None => left_out.push(format!("{path}: it is missing")),
        }
    }
    let document = text.finish_document();
    let title = Some(package.title).filter(|title| !title.is_empty());
    let title = title.or_else(|| markup::first_heading(&document.text)).unwrap_or_default();
    Ok(ExtractedDocument {
        media_type: "application/epub+zip".into(),
        title,
        markup: Markup::Markdown,
        properties: package.properties,
        left_out,
        ..document
    })
}

/// What the package document says.
#[derive(Debug, Default)]
struct Package {
    title: String,
    properties: Properties,
    /// Files by their id; only pages.
    pages: HashMap<String, String>,
    /// Files in the order in which they are listed.
    listed: Vec<String>,
    spine: Vec<String>,
}

impl Package {
    /// Reads a package document. What is broken in it is missing.
    fn of(source: &str) -> Self {
        let mut package = Self::default();
        let mut reader = Reader::from_str(source);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        let mut open = String::new();
        let mut words = String::new();
        while let Ok(event) = reader.read_event() {
            match event {
                Event::Eof => break,
                Event::Start(tag) | Event::Empty(tag) => {
                    package.element(&tag);
                    open = tag.local_name().as_ref().to_owned();
                    words.clear();
                }
                Event::Text(text) => words.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => words.extend(markup::entity(&reference)),
                Event::End(_) => {
                    package.value(&std::mem::take(&mut open), words.trim());
                    words.clear();
                }
                _ => {}
            }
        }
        package
    }

    fn element(&mut self, tag: &quick_xml::events::BytesStart<'_>) {
        match tag.local_name().as_ref() {
            "item" if self.listed.len() < MAX_ITEMS => {
                let kind = markup::attribute(tag, "media-type").unwrap_or_default();
                let (Some(id), Some(href)) = (markup::attribute(tag, "id"), markup::attribute(tag, "href"))
                else {
                    return;
                };
                if kind == "application/xhtml+xml" || kind == "text/html" {
                    self.listed.push(href.clone());
                    self.pages.insert(id, href);
                }
            }
            "itemref" if self.spine.len() < MAX_ITEMS => self.spine.extend(markup::attribute(tag, "idref")),
            _ => {}
        }
    }

    fn value(&mut self, name: &str, words: &str) {
        if words.is_empty() {
            return;
        }
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        match name {
            "title" if self.title.is_empty() => self.title = words,
            "creator" if self.properties.authors.len() < 20 => self.properties.authors.push(words),
            "language" if self.properties.language.is_none() => self.properties.language = Some(words),
            "date" if self.properties.created.is_none() => self.properties.created = dates::parse(&words),
            "subject" if self.properties.keywords.len() < 50 => self.properties.keywords.push(words),
            _ => {}
        }
    }

    /// Files of the spine, each once; a book without one gives all pages.
    fn reading_order(&self) -> Vec<&String> {
        let mut seen = HashSet::new();
        let spine = self.spine.iter().filter_map(|id| self.pages.get(id));
        let spine: Vec<&String> = spine.filter(|page| seen.insert(*page)).collect();
        if spine.is_empty() { self.listed.iter().collect() } else { spine }
    }
}

/// The package document of the first rendition.
fn package_path(container: &str) -> Option<String> {
    let mut reader = Reader::from_str(container);
    loop {
        match reader.read_event().ok()? {
            Event::Eof => return None,
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == "rootfile" => {
                return markup::attribute(&tag, "full-path");
            }
            _ => {}
        }
    }
}

/// Whether something other than fonts is scrambled.
fn is_protected(encryption: &str) -> bool {
    encryption
        .match_indices("Algorithm=")
        .filter_map(|(at, name)| encryption.get(at + name.len() + 1..))
        .any(|value| !FONT_ALGORITHMS.iter().any(|algorithm| value.starts_with(algorithm)))
}

/// A path in the container, from one that is relative to the package document and percent-encoded.
fn resolve(package_path: &str, href: &str) -> String {
    let href = href.split('#').next().unwrap_or_default();
    let mut segments: Vec<String> = package_path.split('/').map(str::to_owned).collect();
    segments.pop();
    for segment in href.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(percent_decoded(segment)),
        }
    }
    segments.join("/")
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn paths_are_resolved() {
        assert_eq!(resolve("OEBPS/content.opf", "text/ch%201.xhtml#a"), "OEBPS/text/ch 1.xhtml");
        assert_eq!(resolve("content.opf", "../../ch1.xhtml"), "ch1.xhtml");
        assert_eq!(resolve("a/b/c.opf", "../d.html"), "a/d.html");
        assert_eq!(percent_decoded("%zz%4"), "%zz%4");
    }

    #[test]
    fn scrambled_fonts_are_no_protection() {
        assert!(!is_protected(""));
        assert!(!is_protected("<EncryptionMethod Algorithm=\"http://www.idpf.org/2008/embedding\"/>"));
        assert!(is_protected("<EncryptionMethod Algorithm='http://www.w3.org/2001/04/xmlenc#aes128-cbc'/>"));
    }
}
