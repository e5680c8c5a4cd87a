//! What no tool would write: every format cut off, with bytes changed, and in shapes that make careless readers descend,
//! repeat themselves or grow. Each has to end with a sound document or a reason.

use super::containers::{MAIL, gzip, message, tar};
use super::formats::{epub, open_document};
use super::*;
use crate::chunk::{ChunkerParams, chunk};

const NOTEBOOK: &str = r##"{"nbformat": 4, "metadata": {"kernelspec": {"language": "python"}}, "cells": [
    {"cell_type": "markdown", "source": ["# Stones\n", "hard"]},
    {"cell_type": "code", "source": "print(1)", "outputs": [{"output_type": "stream", "text": ["1\n"]}]}]}"##;
const RST: &str = "======\nStones\n======\n\n:Author: Ada\n\nHard\n----\n\nSee :ref:`talc <t>` and ``code``::\n\n    x = 1\n\n\
    .. note:: soft\n\n+---+---+\n| a | b |\n+===+===+\n| 1 | 2 |\n+---+---+\n\n== ==\na  b\n== ==\n1  2\n== ==\n";
const ORG: &str = "#+TITLE: Stones\n* Hard\n:PROPERTIES:\n:ID: 1\n:END:\nSee [[https://x.org][this]].\n#+begin_src rust\nfn f() {}\n\
    #+end_src\n| a | b |\n|---+---|\n| 1 | 2 |\n";
const RTF: &str = "{\\rtf1\\ansi\\ansicpg1252{\\info{\\title Stones}{\\author Ada}}\\pard\\s1 Hard\\par caf\\'e9 \\u8364?{\\b bold}\\par\
    \\trowd\\cellx1\\cellx2 a\\cell b\\cell\\row}";

/// A sound document of each format.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let text = |source: &str| source.as_bytes().to_vec();
    let sheet = "<table:table table:name='S'><table:table-row><table:table-cell><text:p>x</text:p></table:table-cell>\
                 </table:table-row></table:table>";
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mail = message(&[
        ("/__properties_version1.0", &[0; 32]),
        ("/__substg1.0_0037001F", &wide("On stones")),
        ("/__substg1.0_1000001F", &wide("Granite is hard.")),
    ]);
    vec![
        (
            "a.md",
            text(
                "---\ntitle: Stones\n---\n\n# Hard\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\ncode\n```\n",
            ),
        ),
        (
            "a.html",
            text("<!doctype html><title>Stones</title><h1>Hard</h1><table><tr><td>a<td>b</table><p>&auml;"),
        ),
        (
            "a.xml",
            text(
                "<?xml version='1.0'?><cds><cd a='1'><t>x</t></cd><cd><t>y &amp; z</t></cd><cd><t>w</t></cd></cds>",
            ),
        ),
        (
            "a.fb2",
            text(
                "<?xml version='1.0'?><FictionBook><body><section><title><p>One</p></title><p>text</p></section></body></FictionBook>",
            ),
        ),
        ("a.csv", text("name;town\nAda;\"Lon\ndon\"\nBob;Rome\n")),
        ("a.tsv", text("name\ttown\nAda\tLondon\n")),
        ("a.json", text("{\"title\": \"x\", \"rows\": [{\"a\": 1, \"b\": [1, 2]}, {\"a\": \"\\u00e9\"}]}")),
        ("a.jsonl", text("{\"a\": 1}\n{\"a\": \"two\"}\n")),
        ("a.ipynb", text(NOTEBOOK)),
        ("a.rst", text(RST)),
        ("a.org", text(ORG)),
        ("a.rtf", text(RTF)),
        ("a.py", text("@x\nclass A:\n    def f(self):\n        pass\n\nx = 1\n")),
        ("a.txt", wide("\u{feff}wide text, Ünïcode")),
        ("a.eml", text(MAIL)),
        (
            "a.mbox",
            text(
                "From a@b Thu Jan  1 00:00:00 1970\nSubject: one\n\nhello\n\nFrom a@b Thu Jan  1 00:00:00 1970\nSubject: two\n\nbye\n",
            ),
        ),
        ("a.msg", mail),
        ("a.odt", open_document("text", "<text:h>Stones</text:h><text:p>hard</text:p>")),
        ("a.ods", open_document("spreadsheet", sheet)),
        ("a.epub", epub(&[("c.xhtml", "<h1>One</h1><p>text</p>")], &[])),
        ("a.docx", docx("<w:p><w:r><w:t>Granite is hard</w:t></w:r></w:p>")),
        ("a.pdf", pdf("On stones", &["Granite is hard", "Talc is not"])),
        ("a.zip", archive(&[("a.txt", b"first"), ("b/c.csv", b"k,v\n1,2\n")])),
        ("a.tgz", gzip(&tar(&[("a.txt", b"first"), ("b.md", b"# second")]))),
    ]
}

/// Extracts and chunks; what comes out has to be sound.
fn survives(name: &str, data: Vec<u8>) {
    match extract(&raw(name, data), &ExtractLimits::default()) {
        Ok(document) => {
            assert!(!document.text.trim().is_empty(), "{name}");
            let spans = document.pages.iter().map(|page| &page.span);
            for span in spans.chain(document.parts.iter().map(|part| &part.span)) {
                assert!(document.text.get(span.clone()).is_some(), "{name}: {span:?}");
            }
            let chunks = chunk(&document, &document.title, None, &ChunkerParams::default()).unwrap();
            assert!(
                chunks.iter().all(|chunk| document.text.get(chunk.span.clone()) == Some(&chunk.text)),
                "{name}"
            );
        }
        Err(error) => {
            assert!(
                matches!(error.kind(), ErrorKind::BadContent | ErrorKind::ResourceExhausted),
                "{name}: {error}"
            );
            // Panics of parsers that we didn't write are caught; ours have none.
            let foreign = name.ends_with(".pdf") || name.ends_with(".docx");
            assert!(foreign || !error.message().contains("gave up"), "{name}: {error}");
        }
    }
}

#[test]
fn sound_documents_of_each_format_are_read() {
    for (name, data) in corpus() {
        assert!(!read_ok(name, data).text.is_empty(), "{name}");
    }
}

#[test]
fn formats_that_are_cut_off() {
    for (name, data) in corpus() {
        for length in (1..data.len()).step_by((data.len() / 25).max(1)) {
            survives(name, data[..length].to_vec());
        }
    }
}

#[test]
fn formats_with_changed_bytes() {
    let mut state = 7u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for (name, data) in corpus() {
        for _ in 0..30 {
            let mut changed = data.clone();
            for _ in 0..=random(4) {
                let at = random(changed.len());
                changed[at] = random(256) as u8;
            }
            survives(name, changed);
        }
    }
}

#[test]
fn shapes_that_descend_or_repeat() {
    let stairs =
        |line: &str| -> String { (0..1_500).map(|depth| format!("{}{line}\n", " ".repeat(depth))).collect() };
    let mails = "Content-Type: message/rfc822\n\n".repeat(3_000);
    let parts = "Content-Type: multipart/mixed; boundary=B\n\n--B\n".repeat(3_000);
    let shapes = [
        ("a.md", ">".repeat(5_000) + " x"),
        ("a.md", stairs("- x")),
        ("a.md", "[".repeat(50_000) + "x"),
        ("a.md", "*a_ ".repeat(30_000)),
        ("a.md", format!("{}\n{}\n", "|a".repeat(2_000), "|-".repeat(2_000)) + &"|\n".repeat(2_000)),
        ("a.rst", "`".repeat(50_001)),
        ("a.rst", "a `b ``c :d:`e <f ".repeat(20_000)),
        ("a.rst", "=\n-\n".repeat(30_000)),
        ("a.rst", "+-+\n".repeat(30_000)),
        ("a.rst", "== ==\n".repeat(30_000)),
        ("a.rst", stairs("x::")),
        ("a.rst", stairs(".. note::")),
        ("a.org", "*".repeat(100_000) + " x"),
        ("a.org", "#+begin_src a\n".repeat(30_000)),
        ("a.org", "[[".repeat(50_000) + "x"),
        ("a.rtf", "{\\rtf1 ".to_owned() + &"{\\b x".repeat(900)),
        ("a.rtf", "{\\rtf1 \\bin2147483647 x\\u-99999999?\\uc2147483647 \\'zz y}".to_owned()),
        ("a.rtf", "{\\rtf1 ".to_owned() + &"\\trowd\\cell".repeat(20_000) + " x}"),
        ("a.csv", "\"".repeat(100_001)),
        ("a.csv", "a,".repeat(20_000) + "\n" + &"1\n".repeat(20_000)),
        ("a.json", "{\"a\":".repeat(100_000)),
        ("a.json", format!("[{}0]", "{},".repeat(50_000))),
        ("a.jsonl", "{\"a\":1}\n".repeat(3) + &"[[[[".repeat(50_000)),
        ("a.ipynb", "{\"nbformat\": 4, \"cells\": [[], {}, 1, {\"cell_type\": 5, \"source\": {\"a\": []}, \"outputs\": 3}]}".to_owned()),
        ("a.xml", "<?xml version='1.0'?>".to_owned() + &"<a>".repeat(100_000)),
        ("a.xml", format!("<?xml version='1.0'?><a {}>x</a>", (0..20_000).map(|n| format!("b{n}='1' ")).collect::<String>())),
        ("a.xml", "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'xxxxxxxxxx'><!ENTITY c '&b;&b;&b;&b;'>]><a>&c; text</a>".to_owned()),
        ("a.eml", format!("Subject: x\n{mails}text")),
        ("a.eml", format!("Subject: x\n{parts}text")),
        ("a.eml", "Subject: x\n".repeat(50_000) + "\ntext"),
        ("a.eml", format!("Subject: {}\n\ntext", "=?utf-8?q?=41?= ".repeat(20_000))),
        ("a.mbox", "From a@b Thu Jan  1 00:00:00 1970\n\nx\n\n".repeat(12_000)),
        ("a.py", stairs("if x:")),
        ("a.py", "\n\n a\n\n  b\n".repeat(20_000)),
    ];
    for (name, source) in shapes {
        survives(name, source.into_bytes());
    }
}

#[test]
fn chapters_that_are_listed_again_come_once() {
    let chapter = format!("<p>{}</p>", "long ".repeat(1_000));
    let book = epub(&[("c.xhtml", &chapter)], &[]);
    let once = read_ok("a.epub", book).text.len();
    let package = "<package><manifest><item id='c' href='c.xhtml' media-type='application/xhtml+xml'/></manifest><spine>".to_owned()
        + &"<itemref idref='c'/>".repeat(9_000)
        + "</spine></package>";
    let page = format!("<html><body>{chapter}</body></html>");
    let again = archive(&[
        ("mimetype", b"application/epub+zip"),
        (
            "META-INF/container.xml",
            b"<container><rootfiles><rootfile full-path='book.opf'/></rootfiles></container>",
        ),
        ("book.opf", package.as_bytes()),
        ("c.xhtml", page.as_bytes()),
    ]);
    assert_eq!(read_ok("a.epub", again).text.len(), once);
}

#[test]
fn members_that_lead_elsewhere_are_only_names() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, link: &str, data: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, data).unwrap();
    };
    add(tar::EntryType::Symlink, "a.txt", "a.txt", b"");
    add(tar::EntryType::Link, "b.txt", "/etc/passwd", b"");
    add(tar::EntryType::Regular, "../../c.txt", "", b"text");
    let document = read_ok("a.tar", builder.into_inner().unwrap());
    assert_eq!(document.text, "text");
    assert_eq!(document.parts[0].name, "../../c.txt");
}
