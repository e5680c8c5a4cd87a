//! Which format a document has: by content first, then by extension, then by the declared media type.
//!
//! It looks at the first bytes only; what is inside a ZIP or OLE container is told by its reader, under the guard.

use super::decode;
use crate::error::{Error, Result};

/// Bytes that are searched for the header of a PDF, for NULs and for controls.
const PDF_HEADER_WITHIN: usize = 1024;
const SAMPLE_BYTES: usize = 64 << 10;
/// Bytes of the start that may come before the first tag of an HTML page.
const HTML_PROLOGUE: usize = 1024;

/// What holds an Office document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// docx, xlsx, pptx; also the formats of OpenDocument and EPUB, which are told apart and refused.
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
        }
    }

    /// Read by parsers that a crafted file may bring down together with their process.
    pub(super) fn is_risky(self) -> bool {
        matches!(self, Self::Pdf | Self::Office(_))
    }

    /// Read by code of linear time and shallow recursion: no thread of its own needed.
    pub(super) fn is_plain(self) -> bool {
        !matches!(self, Self::Html | Self::Pdf | Self::Office(_))
    }
}

/// Tells the format of a document.
pub(super) fn detect(data: &[u8], file_name: &str, media_type: &str) -> Result<Format> {
    let extension = extension(file_name);
    if data.is_empty() {
        return Err(Error::bad_content("the file is empty"));
    }
    if let Some(format) = by_magic(data, &extension)? {
        return Ok(format);
    }
    if is_binary(data) {
        return Err(unreadable("unknown binary content"));
    }
    if data.starts_with(b"{\\rtf") {
        return Err(unreadable("RTF"));
    }
    let head = decode::decode_markup(data.get(..data.len().min(PDF_HEADER_WITHIN)).unwrap_or_default());
    if BINARY_EXTENSIONS.contains(&extension.as_str()) {
        // Word processors do save HTML under their own extension.
        return if looks_like_html(&head) { Ok(Format::Html) } else { Err(misnamed(&extension, data.len())) };
    }
    if let Some(reason) = refused_text(&extension, media_type) {
        return Err(unreadable(reason));
    }
    Ok(match by_extension(&extension) {
        Some(Format::Plain) | None if looks_like_html(&head) => Format::Html,
        Some(format) => format,
        None if head.trim_start().starts_with("<?xml") => Format::Xml,
        None => by_media_type(media_type).unwrap_or(Format::Plain),
    })
}

/// The format that name and type declare, for text that needs no detection.
pub(super) fn declared_text_format(file_name: &str, media_type: &str) -> Format {
    by_media_type(media_type).or_else(|| by_extension(&extension(file_name))).unwrap_or(Format::Plain)
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

fn by_magic(data: &[u8], extension: &str) -> Result<Option<Format>> {
    let head = data.get(..data.len().min(PDF_HEADER_WITHIN)).unwrap_or(data);
    // Readers accept a header within the first kilobyte; text that only talks of one doesn't carry the extension.
    let pdf_at = head.windows(5).position(|window| window == b"%PDF-");
    if pdf_at == Some(0) || (pdf_at.is_some() && matches!(extension, "pdf" | "")) {
        return Ok(Some(Format::Pdf));
    }
    if data.starts_with(b"PK\x03\x04") || data.starts_with(b"PK\x05\x06") {
        return Ok(Some(Format::Office(Container::Zip)));
    }
    if data.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return Ok(Some(Format::Office(Container::Ole)));
    }
    let boxed = data.get(4..8) == Some(b"ftyp".as_slice());
    let riff = data.get(..4) == Some(b"RIFF".as_slice());
    let known = KNOWN_BINARY.iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, name)| *name);
    match known.or(boxed.then_some("a video or HEIF image")).or(riff.then_some("RIFF media")) {
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
    (b"\x1f\x8b", "a gzip archive"),
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
];

/// Extensions whose content is never text.
const BINARY_EXTENSIONS: &[&str] = &[
    "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "odt", "ods", "odp", "epub", "msg", "zip", "gz",
    "png", "jpg", "jpeg", "gif", "tif", "tiff", "bmp", "webp", "heic", "ico", "mp3", "mp4", "wav", "flac",
    "ogg", "m4a", "avi", "mov", "exe", "dll", "so", "class", "parquet", "arrow", "sqlite", "db",
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

/// Text that would only be noise as it stands.
fn refused_text(extension: &str, media_type: &str) -> Option<&'static str> {
    match (extension, media_type) {
        ("eml" | "mbox", _) | (_, "message/rfc822") => Some("mail"),
        ("svg" | "eps" | "ps", _) | (_, "image/svg+xml") => Some("a drawing"),
        _ => None,
    }
}

fn by_extension(extension: &str) -> Option<Format> {
    Some(match extension {
        "txt" | "text" | "log" | "rst" | "org" | "adoc" | "asciidoc" | "tex" | "srt" | "vtt" => Format::Plain,
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
        | "cs" | "go" | "rb" | "php" | "swift" | "scala" | "sh" | "bash" | "zsh" | "ps1" | "pl" | "lua"
        | "r" | "jl" | "sql" | "yaml" | "yml" | "toml" | "ini" | "cfg" | "conf" | "css" | "scss" | "vue"
        | "svelte" | "proto" | "cmake" | "dockerfile" | "typ" | "diff" | "patch" => Format::Code,
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
        assert_eq!(detect(data, name, media_type).unwrap(), expect, "{name} {media_type}");
    }

    fn refused(data: &[u8], name: &str, reason: &str) {
        let error = detect(data, name, "").unwrap_err();
        assert!(error.message().contains(reason), "{name}: {error}");
    }

    #[test]
    fn content_goes_before_name_and_type() {
        check(b"%PDF-1.7\n", "report.txt", "text/plain", Format::Pdf);
        check(b"\n\njunk %PDF-1.4", "a.pdf", "", Format::Pdf);
        check(b"PK\x03\x04....", "old.doc", "", Format::Office(Container::Zip));
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
        check(b"x", "Makefile", "text/markdown; charset=utf-8", Format::Markdown);
        check(b"x", "noext", "application/json", Format::Json);
    }

    #[test]
    fn what_can_t_be_read_says_what_it_is() {
        refused(b"", "a.txt", "empty");
        refused(b"this is not a pdf at all", "a.pdf", "named .pdf, but its 24 bytes are plain text");
        refused(b"fake", "document.docx", "named .docx");
        refused(b"\x89PNG\r\n\x1a\n", "a.md", "a PNG image");
        refused(b"\0\0\0\x18ftypheic", "a", "HEIF");
        refused(b"{\\rtf1 hello}", "a.rtf", "RTF");
        refused(b"From: a\nTo: b\n\nhello", "a.eml", "mail");
        refused(&[1, 2, 3, 4, 200, 5, 6, 0, 9, 7, 7, 1], "a.bin", "binary");
    }

    #[test]
    fn wide_text_is_not_binary() {
        let wide: Vec<u8> = "some plain text".encode_utf16().flat_map(u16::to_le_bytes).collect();
        check(&wide, "a.txt", "", Format::Plain);
    }
}
