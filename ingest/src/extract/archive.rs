//! Looks through a ZIP container before a parser sees it: which kind of document it is, and that unpacking it is
//! bounded. Sizes are those that inflating really gives; the declared ones may lie.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::detect::{Container, Format};
use super::limits::{Deadline, ExtractLimits, exhausted};
use crate::error::{Error, Result};

/// Most members of a document.
const MAX_MEMBERS: usize = 20_000;
/// Deepest nesting of elements in a part. Word nests tables in cells, a few dozen levels at most.
const MAX_XML_DEPTH: u32 = 400;
/// Unpacked bytes of a member that are never a bomb, whatever the ratio.
const SMALL_MEMBER: u64 = 16 << 20;
/// Deflate reaches 1032 at most; XML of real documents reaches 100.
const MAX_RATIO: u64 = 400;

/// An Office document in a ZIP container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ZipKind {
    Docx,
    Xlsx,
    Pptx,
}

/// Tells what a container holds, by its list of members and what the first of them declares.
pub(super) fn kind(data: &[u8]) -> Result<Format> {
    let mut archive = open(data)?;
    if office_kind(&archive).is_some() {
        return Ok(Format::Office(Container::Zip));
    }
    let mut declared = String::new();
    if let Ok(member) = archive.by_name("mimetype") {
        // A declaration that can't be read declares nothing.
        let _ = member.take(100).read_to_string(&mut declared);
    }
    Ok(match declared.trim() {
        "application/epub+zip" => Format::Epub,
        mime if mime.starts_with("application/vnd.oasis.opendocument") => Format::OpenDocument,
        // Some writers forget to declare.
        _ if has(&archive, "META-INF/container.xml") => Format::Epub,
        _ if has(&archive, "content.xml") && has(&archive, "META-INF/manifest.xml") => Format::OpenDocument,
        _ => Format::ZipArchive,
    })
}

/// Tells which Office document a container holds, and checks that it may be unpacked.
pub(super) fn inspect(data: &[u8], limits: &ExtractLimits, deadline: Deadline) -> Result<ZipKind> {
    let mut archive = open(data)?;
    if archive.len() > MAX_MEMBERS {
        return Err(exhausted(format!("{} members; at most {MAX_MEMBERS} are read", archive.len())));
    }
    let kind = office_kind(&archive);
    let kind = kind
        .ok_or_else(|| Error::bad_content("not a readable format (a ZIP archive that holds no document)"))?;
    let mut total = 0u64;
    let mut buffer = vec![0u8; 64 << 10];
    for index in 0..archive.len() {
        deadline.check()?;
        // A member that can't be opened is the parser's to judge: it may not need it.
        let Ok(member) = archive.by_index(index) else { continue };
        let name = member.name().map(|name| name.to_string()).unwrap_or_default();
        let xml = name.ends_with(".xml") || name.ends_with(".rels");
        let packed = member.compressed_size().max(1);
        total += measure(
            member,
            &name,
            packed,
            xml,
            limits.max_unpacked_bytes.saturating_sub(total),
            &mut buffer,
        )?;
    }
    Ok(kind)
}

/// Unpacked bytes of a member, read to its end or to the first limit.
fn measure(
    mut member: impl Read,
    name: &str,
    packed: u64,
    xml: bool,
    left: u64,
    buffer: &mut [u8],
) -> Result<u64> {
    let mut size = 0u64;
    let mut depth = XmlDepth::default();
    loop {
        let Ok(count) = member.read(buffer) else { return Ok(size) };
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { return Ok(size) };
        size += part.len() as u64;
        if size > left || (size > SMALL_MEMBER && size / packed > MAX_RATIO) {
            return Err(exhausted(format!(
                "unpacking it gives far more data than a document has (at {name:?})"
            )));
        }
        if xml && depth.feed(part) > MAX_XML_DEPTH {
            return Err(exhausted(format!("elements nested deeper than {MAX_XML_DEPTH} in {name:?}")));
        }
    }
}

fn open(data: &[u8]) -> Result<ZipArchive<Cursor<&[u8]>>> {
    ZipArchive::new(Cursor::new(data))
        .map_err(|error| Error::bad_content(format!("broken ZIP container: {error}")))
}

fn has(archive: &ZipArchive<Cursor<&[u8]>>, prefix: &str) -> bool {
    archive.file_names().flatten().any(|name| name.starts_with(prefix))
}

fn office_kind(archive: &ZipArchive<Cursor<&[u8]>>) -> Option<ZipKind> {
    // An archive may well have a folder of one of these names.
    if !has(archive, "[Content_Types].xml") && !has(archive, "_rels/.rels") {
        return None;
    }
    let folders = [("word/", ZipKind::Docx), ("xl/", ZipKind::Xlsx), ("ppt/", ZipKind::Pptx)];
    folders.into_iter().find(|(folder, _)| has(archive, folder)).map(|(_, kind)| kind)
}

/// Nesting depth of XML that arrives in pieces. Malformed text only makes the count wrong, not the scan slow.
#[derive(Default)]
struct XmlDepth {
    depth: u32,
    deepest: u32,
    state: TagState,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum TagState {
    #[default]
    Text,
    Opened,
    Start,
    StartSlash,
    Quoted(u8),
    End,
    Other,
}

impl XmlDepth {
    /// Reads on, and gives the deepest nesting so far.
    fn feed(&mut self, part: &[u8]) -> u32 {
        for byte in part {
            self.state = match (self.state, *byte) {
                (TagState::Text, b'<') => TagState::Opened,
                (TagState::Text, _) => TagState::Text,
                (TagState::Opened, b'/') => TagState::End,
                (TagState::Opened, b'!' | b'?') => TagState::Other,
                (TagState::Start | TagState::StartSlash, b'>') => {
                    if self.state == TagState::Start {
                        self.depth = self.depth.saturating_add(1);
                        self.deepest = self.deepest.max(self.depth);
                    }
                    TagState::Text
                }
                (TagState::Start | TagState::StartSlash, quote @ (b'"' | b'\'')) => TagState::Quoted(quote),
                (TagState::Quoted(quote), byte) if byte == quote => TagState::Start,
                (state @ TagState::Quoted(_), _) => state,
                (TagState::Start | TagState::StartSlash, b'/') => TagState::StartSlash,
                (TagState::Opened | TagState::Start | TagState::StartSlash, _) => TagState::Start,
                (TagState::End, b'>') => {
                    self.depth = self.depth.saturating_sub(1);
                    TagState::Text
                }
                (TagState::Other, b'>') => TagState::Text,
                (state @ (TagState::End | TagState::Other), _) => state,
            };
        }
        self.deepest
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    #[test]
    fn depth_counts_open_elements() {
        let check = |xml: &str, expect: u32| {
            assert_eq!(XmlDepth::default().feed(xml.as_bytes()), expect, "{xml}");
            let mut bytewise = XmlDepth::default();
            xml.bytes().for_each(|byte| {
                bytewise.feed(&[byte]);
            });
            assert_eq!(bytewise.deepest, expect, "{xml}");
        };
        check("<?xml version='1.0'?><a><b/><c x='/>'><d y=\"<\"/></c></a>", 2);
        check(r#"<a x="1"/><a/><a href="/x/"><b></b></a><!-- <q> -->"#, 2);
        check("", 0);
        check(&"<t>".repeat(1_000), 1_000);
    }
}
