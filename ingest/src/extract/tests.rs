#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
//! Whole documents through [`extract`]: small ones made here, hostile ones, and the folder of test data if it is there.

use std::io::{Cursor, Write};
use std::time::Duration;

use bytes::Bytes;
use zip::write::SimpleFileOptions;

use super::*;
use crate::document::{IngestOptions, Passwords};
use crate::error::ErrorKind;
use crate::test_data::test_data;

mod beside;
mod containers;
mod formats;
mod hostile;

fn raw(file_name: &str, data: impl Into<Bytes>) -> RawDocument {
    RawDocument { file_name: file_name.into(), data: data.into(), ..Default::default() }
}

fn options(passwords: Passwords) -> std::sync::Arc<IngestOptions> {
    std::sync::Arc::new(IngestOptions { passwords, ..Default::default() })
}

fn read_ok(file_name: &str, data: impl Into<Bytes>) -> ExtractedDocument {
    extract(&raw(file_name, data), &ExtractLimits::default()).unwrap()
}

fn refused(file_name: &str, data: impl Into<Bytes>, kind: ErrorKind, reason: &str) {
    let error = extract(&raw(file_name, data), &ExtractLimits::default()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(reason), "{error}");
}

/// A PDF with a line of text on each page.
pub(super) fn pdf(title: &str, pages: &[&str]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects = vec![
        format!("<</Type/Catalog/Pages 2 0 R/Note({title})>>"),
        format!("<</Type/Pages/Kids[{}]/Count {}>>", kids.join(" "), pages.len()),
        "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_string(),
    ];
    for (page, text) in pages.iter().enumerate() {
        let content = format!("BT /F1 12 Tf 72 700 Td ({text}) Tj ET");
        let contents = 5 + 2 * page;
        objects.push(format!(
            "<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents {contents} 0 R>>"
        ));
        objects.push(format!("<</Length {}>>stream\n{content}\nendstream", content.len()));
    }
    objects.push(format!("<</Title({title})>>"));
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        writeln!(file, "{} 0 obj{object}endobj", index + 1).unwrap();
    }
    let xref = file.len();
    write!(file, "xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).unwrap();
    for offset in offsets {
        writeln!(file, "{offset:010} 00000 n ").unwrap();
    }
    let (size, info) = (objects.len() + 1, objects.len());
    write!(file, "trailer<</Size {size}/Root 1 0 R/Info {info} 0 R>>\nstartxref\n{xref}\n%%EOF").unwrap();
    file
}

/// A PDF whose page tree is packed in an object stream with this content.
pub(super) fn pdf_with_compressed_content(content: &[u8]) -> Vec<u8> {
    let content = [b"2 0 ".as_slice(), content].concat();
    // A ZIP member is a raw deflate stream; Flate of PDF wants the two bytes of zlib before it, and is lenient at its end.
    let packed = archive(&[("a", &content)]);
    let start = 30 + 1;
    let directory = packed.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    let stream = [b"\x78\x9c", &packed[start..directory]].concat();
    let head = format!(
        "%PDF-1.5\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n3 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length \
         {}>>stream\n",
        stream.len()
    );
    [head.as_bytes(), &stream, b"\nendstream endobj\ntrailer<</Root 1 0 R/Size 4>>\n%%EOF"].concat()
}

pub(super) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, data) in members {
        writer.start_file(*name, SimpleFileOptions::default()).unwrap();
        writer.write_all(data).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A Word document with this body.
fn docx(body: &str) -> Vec<u8> {
    let types = "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'><Override \
                 PartName='/word/document.xml' ContentType='application/vnd.openxmlformats-officedocument.\
                 wordprocessingml.document.main+xml'/></Types>";
    let relations = "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'><Relationship \
                     Id='rId1' Type='http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument' \
                     Target='word/document.xml'/></Relationships>";
    let document = format!(
        "<?xml version='1.0'?><w:document xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'><w:body>\
         {body}</w:body></w:document>"
    );
    archive(&[
        ("[Content_Types].xml", types.as_bytes()),
        ("_rels/.rels", relations.as_bytes()),
        ("word/document.xml", document.as_bytes()),
    ])
}

#[test]
fn a_pdf_gives_title_and_pages() {
    let document = read_ok("x.bin", pdf("On stones", &["Granite is hard", "Talc is not"]));
    assert_eq!((document.media_type.as_str(), document.title.as_str()), ("application/pdf", "On stones"));
    let pages: Vec<_> =
        document.pages.iter().map(|page| (page.number, &document.text[page.span.clone()])).collect();
    assert_eq!(pages, [(1, "Granite is hard"), (2, "Talc is not")]);
}

#[test]
fn a_pdf_without_text_says_so() {
    refused("a.pdf", pdf("x", &["", ""]), ErrorKind::BadContent, "no text layer");
}

#[test]
fn broken_pdfs_are_bad_content() {
    let whole = pdf("x", &["some text on a page"; 3]);
    for length in (6..whole.len()).step_by(37) {
        if let Err(error) = extract(&raw("a.pdf", whole[..length].to_vec()), &ExtractLimits::default()) {
            assert_eq!(error.kind(), ErrorKind::BadContent, "{error}");
        }
    }
    let looped = "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[2 0 R 2 0 R]/Count \
                  9>>endobj\ntrailer<</Root 1 0 R>>";
    refused("a.pdf", looped, ErrorKind::BadContent, "a loop");
    let depths = ["[", "<<", "<</K", "("].into_iter().flat_map(|open| [(open, 40_000), (open, 300_000)]);
    for (open, count) in depths {
        let deep = format!("%PDF-1.4\n1 0 obj{}", open.repeat(count));
        assert!(extract(&raw("a.pdf", deep), &ExtractLimits::default()).is_err());
    }
}

#[test]
fn pages_are_bounded() {
    let limits = ExtractLimits { max_pages: 2, ..Default::default() };
    let error = extract(&raw("a.pdf", pdf("x", &["a", "b", "c"])), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().contains("3 pages; at most 2"), "{error}");
}

#[test]
fn a_word_document_is_read_whatever_its_name() {
    let body = "<w:p><w:pPr><w:pStyle w:val='Heading1'/></w:pPr><w:r><w:t>Stones</w:t></w:r></w:p>\
                <w:p><w:r><w:t>Granite &amp; talc_one.</w:t></w:r></w:p>";
    for name in ["a.docx", "a.doc", "a.pdf", ""] {
        let document = read_ok(name, docx(body));
        assert_eq!(document.text, "Stones\n\nGranite & talc_one.");
        assert_eq!(document.markup, Markup::Markdown);
        assert!(document.media_type.ends_with("wordprocessingml.document"));
    }
}

#[test]
fn styles_are_no_words() {
    let run = |style: &str, text: &str| {
        format!("<w:r><w:rPr>{style}</w:rPr><w:t xml:space=\"preserve\">{text}</w:t></w:r>")
    };
    let paragraph = |runs: &str| format!("<w:p>{runs}</w:p>");
    let formula = [run("", "H"), run("<w:vertAlign w:val=\"subscript\"/>", "2"), run("", "O")].concat();
    let cell = paragraph(&run("<w:u w:val=\"single\"/>", "one")) + &paragraph(&run("", "two"));
    let body = paragraph(&formula)
        + &format!(
            "<w:tbl><w:tr><w:tc>{cell}</w:tc><w:tc>{}</w:tc></w:tr></w:tbl>",
            paragraph(&run("", "x"))
        );
    let document = read_ok("a.docx", docx(&body));
    assert!(document.text.starts_with("H2O\n"), "{}", document.text);
    assert!(document.text.contains("| one two | x |"), "{}", document.text);
}

#[test]
fn zip_bombs_are_refused_before_they_are_parsed() {
    let bomb = vec![b' '; 64 << 20];
    let bombs = archive(&[("word/document.xml", &bomb)]);
    assert!(bombs.len() < 1 << 20);
    refused("a.docx", bombs, ErrorKind::ResourceExhausted, "far more data");
    let limits = ExtractLimits { max_unpacked_bytes: 1 << 20, ..Default::default() };
    let media: Vec<u8> = (0..2_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let large = archive(&[("word/document.xml", b"<a/>"), ("word/media/a.png", &media)]);
    assert_eq!(extract(&raw("a.docx", large), &limits).unwrap_err().kind(), ErrorKind::ResourceExhausted);
    refused("a.docx", docx(&"<w:tbl>".repeat(100_000)), ErrorKind::ResourceExhausted, "nested deeper");
}

#[test]
fn other_containers_say_what_they_are() {
    refused("a.bmp", b"BM\x9a\0\0\0\0\0\0\0\x36\0\0\0".to_vec(), ErrorKind::BadContent, "a BMP image");
    let sealed = "-----BEGIN PGP MESSAGE-----\n\nhIwDY32hYGCE8MkBA\n-----END PGP MESSAGE-----\n";
    refused("a.txt", sealed, ErrorKind::BadContent, "encrypted");
    assert_eq!(read_ok("a.txt", "BMW makes cars.").text, "BMW makes cars.");
    refused("a.docx", b"PK\x03\x04 and then nothing".as_slice(), ErrorKind::BadContent, "broken ZIP");
    let ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and then nothing".as_slice();
    refused("a.doc", ole, ErrorKind::BadContent, "OLE container");
    refused("a.zip", archive(&[]), ErrorKind::BadContent, "holds no files");
    refused(
        "a.zip",
        archive(&[("a.png", b"\x89PNG\r\n\x1a\n")]),
        ErrorKind::BadContent,
        "a.png: not a readable",
    );
}

#[test]
fn truncated_office_files_are_bad_content() {
    let whole = docx("<w:p><w:r><w:t>text</w:t></w:r></w:p>");
    for length in (4..whole.len()).step_by(41) {
        let error = extract(&raw("a.docx", whole[..length].to_vec()), &ExtractLimits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadContent, "{error}");
    }
}

#[test]
fn sizes_are_bounded() {
    let limits = ExtractLimits { max_source_bytes: 10, ..Default::default() };
    let error = extract(&raw("a.txt", "eleven chars"), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    let limits = ExtractLimits { max_text_bytes: 10, ..Default::default() };
    for name in ["a.txt", "a.md", "a.html", "a.xml", "a.json"] {
        assert_eq!(
            extract(&raw(name, "eleven chars"), &limits).unwrap_err().kind(),
            ErrorKind::ResourceExhausted,
            "{name}"
        );
    }
}

#[test]
fn time_is_bounded() {
    let limits = ExtractLimits { timeout: Duration::ZERO, ..Default::default() };
    let error = extract(&raw("a.pdf", pdf("x", &["a"])), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
}

#[test]
fn nothing_to_read_says_so() {
    refused("a.txt", "", ErrorKind::BadContent, "empty");
    refused("a.txt", " \n\t", ErrorKind::BadContent, "no text");
    refused("a.html", "<script>x()</script>", ErrorKind::BadContent, "no text");
    refused("a.md", "\u{feff}", ErrorKind::BadContent, "no text");
}

#[test]
fn sent_text_needs_no_detection() {
    let sent = |file_name: &str, media_type: &str, data: &'static [u8]| {
        let raw = RawDocument {
            is_text: true,
            file_name: file_name.into(),
            media_type: media_type.into(),
            data: Bytes::from_static(data),
            ..Default::default()
        };
        extract(&raw, &ExtractLimits::default())
    };
    let document = sent("", "", b"%PDF-1.4 is how a PDF starts\r\n").unwrap();
    assert_eq!((document.text.as_str(), document.markup), ("%PDF-1.4 is how a PDF starts", Markup::Plain));
    assert_eq!(sent("", "text/markdown", b"# T\n\nx").unwrap().title, "T");
    assert_eq!(sent("a.pdf", "", b"text of a PDF").unwrap().media_type, "text/plain");
    assert_eq!(sent("", "", b"ab\xff").unwrap_err().field(), Some("data"));
    assert_eq!(sent("", "", b"  ").unwrap_err().kind(), ErrorKind::BadContent);
}

#[test]
fn random_bytes_are_no_danger() {
    let mut state = 1u64;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let starts = ["", "%PDF-1.7\n", "PK\u{3}\u{4}", "<html>", "{", "# x\n", "<?xml?>"];
    for (round, start) in starts.iter().cycle().take(70).enumerate() {
        let data: Vec<u8> = start.bytes().chain((0..round * 7).map(|_| next())).collect();
        for name in ["", "a.pdf", "a.docx", "a.html", "a.xml", "a.json", "a.ipynb", "a.md", "a.csv"] {
            // Whatever comes, it comes as a value.
            let _ = extract(&raw(name, data.clone()), &ExtractLimits::default());
        }
    }
}

/// Real files, many of them odd or broken: each is text or a reason, and none takes long.
#[test]
fn the_test_data_is_read_or_refused() {
    let Some(root) = test_data("data/docs") else {
        println!("skipped: no test data");
        return;
    };
    let mut folders = vec![root];
    let (mut read, mut files) = (0, 0);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { break };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match extract(&raw(&name, std::fs::read(&path).unwrap()), &ExtractLimits::default()) {
                Ok(document) => {
                    read += 1;
                    assert!(!document.text.trim().is_empty());
                    for part in &document.parts {
                        assert!(document.text.get(part.span.clone()).is_some(), "{}", path.display());
                    }
                    for page in &document.pages {
                        assert!(document.text.get(page.span.clone()).is_some(), "{}", path.display());
                    }
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::BadContent, "{}: {error}", path.display());
                    assert!(!error.message().contains("the parser gave up"), "{}: {error}", path.display());
                    let encrypted = ["user-password", "both-passwords", "encrypted"]
                        .iter()
                        .any(|word| name.contains(word));
                    let says_so =
                        error.message().contains("password") || error.message().contains("encrypted");
                    assert_eq!(says_so, encrypted, "{}: {error}", path.display());
                }
            }
        }
    }
    assert!(read * 2 > files, "{read} of {files} files read");
}
