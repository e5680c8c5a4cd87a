//! Which format a document has: by content first, then by extension, then by the declared media type.
//!
//! It looks at the first bytes only; what is inside a ZIP or OLE container is told by its reader, under the guard.

use super::{archive, csv, decode, json, mail, outlook, unpack, xml};
use crate::error::{Error, Result};

/// Bytes that are searched for the header of a PDF, for NULs and for controls.
const PDF_HEADER_WITHIN: usize = 1024;
const SAMPLE_BYTES: usize = 64 << 10;
/// Bytes of the start of a text that are looked at.
const HEAD_BYTES: usize = 8 << 10;
/// Bytes of the start that may come before the first tag of an HTML page.
const HTML_PROLOGUE: usize = 1024;

/// What holds an Office document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// docx, xlsx, pptx.
    Zip,
    /// doc, xls, ppt, and protected documents of the newer kind.
    Ole,
}

/// A format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Code,
    Markdown,
    Html,
    Xml,
    Csv,
    Tsv,
    Json,
    JsonLines,
    Notebook,
    Pdf,
    Office(Container),
    /// odt, ods, odp, odg and their templates.
    OpenDocument,
    /// The same in one XML file.
    FlatOpenDocument,
    Epub,
    Rtf,
    Rst,
    Org,
    Mail,
    Mailbox,
    /// A mail that Outlook saved.
    Message,
    ZipArchive,
    Tar,
    Gzip,
}

/// What the first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detected {
    Format(Format),
    /// Many formats look like this from outside.
    Container(Container),
}

impl Format {
    /// As it is called in messages.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "text",
            Self::Code => "source text",
            Self::Markdown => "Markdown",
            Self::Html => "HTML",
            Self::Xml => "XML",
            Self::Csv => "CSV",
            Self::Tsv => "TSV",
            Self::Json => "JSON",
            Self::JsonLines => "JSON lines",
            Self::Notebook => "notebook",
            Self::Pdf => "PDF",
            Self::Office(_) => "Office file",
            Self::OpenDocument | Self::FlatOpenDocument => "OpenDocument file",
            Self::Epub => "EPUB",
            Self::Rtf => "RTF",
            Self::Rst => "reStructuredText",
            Self::Org => "Org",
            Self::Mail => "mail",
            Self::Mailbox => "mailbox",
            Self::Message => "Outlook message",
            Self::ZipArchive => "ZIP archive",
            Self::Tar => "tar archive",
            Self::Gzip => "gzip archive",
        }
    }

    /// The media type of the result. Readers of containers know a better one.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Plain | Self::Code => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Xml => "application/xml",
            Self::Csv => "text/csv",
            Self::Tsv => "text/tab-separated-values",
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonl",
            Self::Notebook => "application/x-ipynb+json",
            Self::Pdf => "application/pdf",
            Self::Office(_) => "application/octet-stream",
            Self::OpenDocument | Self::FlatOpenDocument => "application/vnd.oasis.opendocument.text",
            Self::Epub => "application/epub+zip",
            Self::Rtf => "application/rtf",
            Self::Rst => "text/x-rst",
            Self::Org => "text/org",
            Self::Mail => "message/rfc822",
            Self::Mailbox => "application/mbox",
            Self::Message => "application/vnd.ms-outlook",
            Self::ZipArchive => "application/zip",
            Self::Tar => "application/x-tar",
            Self::Gzip => "application/gzip",
        }
    }

    /// Read by parsers that a crafted file may bring down together with their process.
    pub(super) fn is_risky(self) -> bool {
        matches!(self, Self::Pdf | Self::Office(_))
    }

    /// Read by code of linear time and shallow recursion: no thread of its own needed.
    pub(super) fn is_plain(self) -> bool {
        matches!(
            self,
            Self::Plain
                | Self::Code
                | Self::Markdown
                | Self::Xml
                | Self::Csv
                | Self::Tsv
                | Self::Json
                | Self::JsonLines
                | Self::Notebook
                | Self::Rst
                | Self::Org
        )
    }
}

/// Tells the format of a document, or that it is a container that has to be opened to know.
pub(super) fn detect(data: &[u8], file_name: &str, media_type: &str) -> Result<Detected> {
    let extension = extension(file_name);
    if data.is_empty() {
        return Err(Error::bad_content("the file is empty"));
    }
    if let Some(detected) = by_magic(data, &extension)? {
        return Ok(detected);
    }
    if is_binary(data) {
        return Err(unreadable("unknown binary content"));
    }
    let head = decode::decode_markup(data.get(..data.len().min(HEAD_BYTES)).unwrap_or_default());
    by_text(data, &head, file_name, &extension, media_type).map(Detected::Format)
}

/// The format of a text.
fn by_text(data: &[u8], head: &str, file_name: &str, extension: &str, media_type: &str) -> Result<Format> {
    let named = by_name(file_name, extension);
    // Source code may begin like anything, and a Markdown file with HTML.
    let trusted = matches!(named, Some(Format::Code | Format::Markdown));
    if !trusted && let Some(format) = by_markup(head) {
        return Ok(format);
    }
    if BINARY_EXTENSIONS.contains(&extension) {
        return Err(misnamed(extension, data.len()));
    }
    if matches!(extension, "svg" | "eps" | "ps")
        || (named.is_none() && xml_root(head).as_deref() == Some("svg"))
    {
        return Err(unreadable("a drawing"));
    }
    if !trusted && mail::looks_like_mailbox(head) {
        return Ok(Format::Mailbox);
    }
    if !trusted && mail::looks_like_mail(head) {
        return Ok(Format::Mail);
    }
    Ok(match named {
        Some(Format::Plain) | None if json::is_json_lines(head) => Format::JsonLines,
        Some(Format::Plain) | None if json::is_json(&decode::decode_text(data)) => Format::Json,
        Some(format) => format,
        None => by_media_type(media_type).unwrap_or_else(|| by_habit(head)),
    })
}

/// Formats that begin with a tag.
fn by_markup(head: &str) -> Option<Format> {
    if head.starts_with("{\\rtf") {
        return Some(Format::Rtf);
    }
    if looks_like_html(head) {
        return Some(Format::Html);
    }
    let root =
        xml_root(head).filter(|_| head.trim_start_matches('\u{feff}').trim_start().starts_with("<?xml"));
    match root.as_deref() {
        Some("html") => Some(Format::Html),
        Some("document") if head.contains("urn:oasis:names:tc:opendocument") => {
            Some(Format::FlatOpenDocument)
        }
        Some("svg") | None => None,
        Some(_) => Some(Format::Xml),
    }
}

fn xml_root(head: &str) -> Option<String> {
    let head = head.trim_start_matches('\u{feff}');
    // Most texts don't begin with a tag; a parser need not look at them.
    head.trim_start().starts_with('<').then(|| xml::root(head)).flatten()
}

/// What a text without a telling name looks like.
fn by_habit(head: &str) -> Format {
    if head.starts_with("#!") {
        return Format::Code;
    }
    match csv::looks_like_table(head) {
        Some(b'\t') => Format::Tsv,
        Some(_) => Format::Csv,
        None => Format::Plain,
    }
}

/// What a ZIP or OLE container holds. Opens it: to be called under the guard.
pub(super) fn inside(container: Container, data: &[u8]) -> Result<Format> {
    match container {
        Container::Zip => archive::kind(data),
        Container::Ole if outlook::is_message(data) => Ok(Format::Message),
        Container::Ole => Ok(Format::Office(Container::Ole)),
    }
}

/// The media type of source code by its extension.
pub(super) fn code_media_type(file_name: &str) -> &'static str {
    match extension(file_name).as_str() {
        "rs" => "text/x-rust",
        "py" => "text/x-python",
        "js" | "jsx" | "mjs" => "text/javascript",
        "ts" | "tsx" => "text/x-typescript",
        "java" => "text/x-java",
        "kt" => "text/x-kotlin",
        "c" | "h" => "text/x-c",
        "cc" | "cpp" | "hpp" => "text/x-c++",
        "cs" => "text/x-csharp",
        "go" => "text/x-go",
        "rb" => "text/x-ruby",
        "php" => "text/x-php",
        "swift" => "text/x-swift",
        "scala" => "text/x-scala",
        "sh" | "bash" | "zsh" | "fish" => "text/x-shellscript",
        "sql" => "text/x-sql",
        "css" | "scss" => "text/css",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "diff" | "patch" => "text/x-diff",
        _ => "text/plain",
    }
}

/// The format that name and type declare, for text that needs no detection.
pub(super) fn declared_text_format(file_name: &str, media_type: &str) -> Format {
    by_media_type(media_type).or_else(|| by_name(file_name, &extension(file_name))).unwrap_or(Format::Plain)
}

/// The extension in lower case, without the dot; empty when there is none.
fn extension(file_name: &str) -> String {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or_default();
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 16 => {
            extension.to_ascii_lowercase()
        }
        _ => String::new(),
    }
}

fn by_magic(data: &[u8], extension: &str) -> Result<Option<Detected>> {
    let head = data.get(..data.len().min(PDF_HEADER_WITHIN)).unwrap_or(data);
    // Readers accept a header within the first kilobyte; text that only talks of one doesn't carry the extension.
    let pdf_at = head.windows(5).position(|window| window == b"%PDF-");
    if pdf_at == Some(0) || (pdf_at.is_some() && matches!(extension, "pdf" | "")) {
        return Ok(Some(Detected::Format(Format::Pdf)));
    }
    // An archive may be spanned, which only shows in its first mark.
    if [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"].iter().any(|magic| data.starts_with(*magic)) {
        return Ok(Some(Detected::Container(Container::Zip)));
    }
    if data.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return Ok(Some(Detected::Container(Container::Ole)));
    }
    if data.starts_with(b"\x1f\x8b") {
        return Ok(Some(Detected::Format(Format::Gzip)));
    }
    if unpack::is_tar(data) {
        return Ok(Some(Detected::Format(Format::Tar)));
    }
    let boxed = data.get(4..8) == Some(b"ftyp".as_slice());
    let riff = data.get(..4) == Some(b"RIFF".as_slice());
    // Two letters are little: its header has a reserved field of zeros, too.
    let bitmap = data.starts_with(b"BM") && data.get(6..10) == Some([0; 4].as_slice());
    let known = KNOWN_BINARY.iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, name)| *name);
    match known
        .or(boxed.then_some("a video or HEIF image"))
        .or(riff.then_some("RIFF media"))
        .or(bitmap.then_some("a BMP image"))
    {
        Some(name) => Err(unreadable(name)),
        None => Ok(None),
    }
}

/// What stands behind the first bytes of formats that hold no text for us.
const KNOWN_BINARY: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"\0\0\x01\0", "an icon"),
    (b"fLaC", "FLAC audio"),
    (b"OggS", "Ogg media"),
    (b"ID3", "MP3 audio"),
    (b"\x1a\x45\xdf\xa3", "Matroska media"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"\x7fELF", "a program"),
    (b"PAR1", "a Parquet file: import it"),
    (b"ARROW1", "an Arrow file: import it"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%!PS", "PostScript"),
    (b"-----BEGIN PGP MESSAGE-----", "a PGP encrypted message"),
];

/// Extensions whose content is never text.
const BINARY_EXTENSIONS: &[&str] = &[
    "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp", "epub", "msg", "zip", "gz",
    "tgz", "tar", "png", "jpg", "jpeg", "gif", "tif", "tiff", "bmp", "webp", "heic", "ico", "mp3", "mp4",
    "wav", "flac", "ogg", "m4a", "avi", "mov", "exe", "dll", "so", "class", "parquet", "arrow", "sqlite",
    "db",
];

/// NULs, or more controls than any text has, and no wide encoding.
fn is_binary(data: &[u8]) -> bool {
    if decode::wide(data).is_some() {
        return false;
    }
    let sample = data.get(..SAMPLE_BYTES).unwrap_or(data);
    let control = |byte: &&u8| matches!(**byte, 0..=8 | 14..=26 | 28..=31 | 127);
    let controls = sample.iter().filter(control).count();
    let zeros = sample.iter().filter(|byte| **byte == 0).count();
    // A stray NUL or two do occur in text that was recovered or logged.
    zeros * 1_000 > sample.len() || controls * 50 > sample.len()
}

fn looks_like_html(head: &str) -> bool {
    let head = head.trim_start_matches('\u{feff}').trim_start();
    if !head.starts_with('<') {
        return false;
    }
    let head: String = head.chars().take(HTML_PROLOGUE).collect::<String>().to_ascii_lowercase();
    head.starts_with("<html")
        || head.starts_with("<head")
        || head.contains("<!doctype html")
        || head.contains("<html")
}

/// The format that a name tells: by extension, or the whole name.
fn by_name(file_name: &str, extension: &str) -> Option<Format> {
    let name = file_name.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
    match name.as_str() {
        "makefile" | "dockerfile" | "containerfile" | "rakefile" | "gemfile" | "justfile"
        | "cmakelists.txt" | "build" | "workspace" | "jenkinsfile" => Some(Format::Code),
        _ => by_extension(extension),
    }
}

fn by_extension(extension: &str) -> Option<Format> {
    Some(match extension {
        "txt" | "text" | "log" | "adoc" | "asciidoc" | "tex" | "srt" | "vtt" => Format::Plain,
        "rst" | "rest" => Format::Rst,
        "org" => Format::Org,
        "eml" => Format::Mail,
        "mbox" => Format::Mailbox,
        "md" | "markdown" | "mdown" | "mkd" | "mdx" | "qmd" | "rmd" => Format::Markdown,
        "html" | "htm" | "xhtml" | "shtml" => Format::Html,
        "xml" | "fb2" | "dbk" | "docbook" | "rss" | "atom" | "xsd" | "xsl" | "tei" | "jats" | "nxml"
        | "opml" => Format::Xml,
        "csv" => Format::Csv,
        "tsv" | "tab" => Format::Tsv,
        "json" | "geojson" | "json5" => Format::Json,
        "jsonl" | "ndjson" => Format::JsonLines,
        "ipynb" => Format::Notebook,
        "rs" | "py" | "js" | "ts" | "tsx" | "jsx" | "java" | "kt" | "c" | "h" | "cc" | "cpp" | "hpp"
        | "cs" | "go" | "hs" | "ml" | "ex" | "exs" | "erl" | "clj" | "dart" | "groovy" | "gradle" | "zig"
        | "nim" | "m" | "mm" | "f90" | "pas" | "vb" | "bat" | "fish" | "tf" | "graphql" | "rb" | "php"
        | "swift" | "scala" | "sh" | "bash" | "zsh" | "ps1" | "pl" | "lua" | "r" | "jl" | "sql" | "yaml"
        | "yml" | "toml" | "ini" | "cfg" | "conf" | "css" | "scss" | "vue" | "svelte" | "proto" | "cmake"
        | "dockerfile" | "typ" | "diff" | "patch" => Format::Code,
        _ => return None,
    })
}

fn by_media_type(media_type: &str) -> Option<Format> {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Some(match essence.as_str() {
        "text/markdown" | "text/x-markdown" => Format::Markdown,
        "text/html" | "application/xhtml+xml" => Format::Html,
        "application/xml" | "text/xml" => Format::Xml,
        "text/csv" => Format::Csv,
        "text/x-rst" | "text/prs.fallenstein.rst" => Format::Rst,
        "text/org" | "text/x-org" => Format::Org,
        "message/rfc822" => Format::Mail,
        "application/mbox" => Format::Mailbox,
        "application/x-ipynb+json" => Format::Notebook,
        "text/tab-separated-values" => Format::Tsv,
        "application/json" => Format::Json,
        "application/jsonl" | "application/x-ndjson" => Format::JsonLines,
        "text/plain" => Format::Plain,
        _ => return None,
    })
}

fn unreadable(what: &str) -> Error {
    Error::bad_content(format!("not a readable format ({what})"))
}

fn misnamed(extension: &str, bytes: usize) -> Error {
    Error::bad_content(format!(
        "not a readable format (named .{extension}, but its {bytes} bytes are plain text)"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn check(data: &[u8], name: &str, media_type: &str, expect: Format) {
        let detected = detect(data, name, media_type).unwrap();
        assert_eq!(detected, Detected::Format(expect), "{name} {media_type}");
    }

    fn refused(data: &[u8], name: &str, reason: &str) {
        let error = detect(data, name, "").unwrap_err();
        assert!(error.message().contains(reason), "{name}: {error}");
    }

    #[test]
    fn content_goes_before_name_and_type() {
        check(b"%PDF-1.7\n", "report.txt", "text/plain", Format::Pdf);
        check(b"\n\njunk %PDF-1.4", "a.pdf", "", Format::Pdf);
        let zip = detect(b"PK\x03\x04....", "old.doc", "").unwrap();
        assert_eq!(zip, Detected::Container(Container::Zip));
        check(b"{\\rtf1 hello}", "a.doc", "", Format::Rtf);
        check(b"\x1f\x8b\x08", "a.txt", "", Format::Gzip);
        check(b"<?xml version='1.0'?>\n<html xmlns='x'/>", "a.xml", "", Format::Html);
        check(b"<?xml version='1.0'?><a/>", "a.txt", "", Format::Xml);
        let flat = b"<?xml version='1.0'?><office:document xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0'/>";
        check(flat, "a.xml", "", Format::FlatOpenDocument);
        check(b"Received: x\nFrom: a\nTo: b\nSubject: c\n\nhello", "mail.txt", "", Format::Mail);
        check(b"{\"a\": 1}", "data.txt", "", Format::Json);
        check(b"{\"a\": 1}\n{\"a\": 2}", "", "", Format::JsonLines);
        check(b"a\tb\n1\t2\n3\t4\n", "noext", "", Format::Tsv);
        check(b"#!/bin/sh\necho", "run", "", Format::Code);
        check(b"<!DOCTYPE html>\n<p>x", "page", "", Format::Html);
        check(b"\xef\xbb\xbf <!-- hi --> <html lang=en>", "saved.doc", "", Format::Html);
        check(b"<?xml version='1.0'?><a/>", "", "", Format::Xml);
    }

    #[test]
    fn names_tell_text_formats() {
        check(b"# x", "dir.d/README.MD", "", Format::Markdown);
        check(b"a,b", "x.csv", "", Format::Csv);
        check(b"The header of a file is %PDF-1.4", "note.txt", "", Format::Plain);
        check(b"<html> in a template", "view.php", "", Format::Code);
        check(b"x", ".gitignore", "", Format::Plain);
        check(b"x", "README", "text/markdown; charset=utf-8", Format::Markdown);
        check(b"x", "Makefile", "", Format::Code);
        check(b"x", "noext", "application/json", Format::Json);
    }

    #[test]
    fn what_can_t_be_read_says_what_it_is() {
        refused(b"", "a.txt", "empty");
        refused(b"this is not a pdf at all", "a.pdf", "named .pdf, but its 24 bytes are plain text");
        refused(b"fake", "document.docx", "named .docx");
        refused(b"\x89PNG\r\n\x1a\n", "a.md", "a PNG image");
        refused(b"\0\0\0\x18ftypheic", "a", "HEIF");
        refused(b"<?xml version='1.0'?><svg/>", "a.svg", "a drawing");
        refused(b"plain", "a.msg", "named .msg");
        refused(&[1, 2, 3, 4, 200, 5, 6, 0, 9, 7, 7, 1], "a.bin", "binary");
    }

    #[test]
    fn wide_text_is_not_binary() {
        let wide: Vec<u8> = "some plain text".encode_utf16().flat_map(u16::to_le_bytes).collect();
        check(&wide, "a.txt", "", Format::Plain);
    }
}
