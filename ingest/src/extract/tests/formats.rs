//! Small files of each format, made here, and broken variants of them.

use super::*;

/// An OpenDocument file of this type with this body.
pub(super) fn open_document(kind: &str, body: &str) -> Vec<u8> {
    let mime = format!("application/vnd.oasis.opendocument.{kind}");
    let names = "xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0' xmlns:text='t' xmlns:table='b' \
                 xmlns:draw='d' xmlns:style='s' xmlns:dc='c' xmlns:meta='m'";
    let content = format!(
        "<?xml version='1.0'?><office:document-content {names}><office:automatic-styles><style:style style:name='P1' \
         style:parent-style-name='Title'/></office:automatic-styles><office:body><office:{kind}>{body}</office:{kind}>\
         </office:body></office:document-content>"
    );
    let meta = format!(
        "<office:document-meta {names}><office:meta><meta:initial-creator>Ada</meta:initial-creator>\
         <meta:creation-date>2020-05-06T07:08:09.5</meta:creation-date><dc:language>de-DE</dc:language></office:meta>\
         </office:document-meta>"
    );
    archive(&[
        ("mimetype", mime.as_bytes()),
        ("content.xml", content.as_bytes()),
        ("meta.xml", meta.as_bytes()),
    ])
}

#[test]
fn open_document_text() {
    let body = "<text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:p text:style-name='P1'>On stones</text:p>\
                <text:h text:outline-level='2'>Hard</text:h><text:p>Granite<text:s text:c='2'/>is<text:tab/>hard<text:note>\
                <text:note-citation>1</text:note-citation><text:note-body><text:p>very</text:p></text:note-body></text:note>.</text:p>\
                <text:list><text:list-item><text:p>one</text:p><text:list><text:list-item><text:p>deep</text:p></text:list-item>\
                </text:list></text:list-item><text:list-item><text:p>two</text:p></text:list-item></text:list>\
                <table:table><table:table-row><table:table-cell><text:p>k</text:p></table:table-cell><table:table-cell><text:p>v</text:p>\
                </table:table-cell></table:table-row><table:table-row><table:table-cell table:number-columns-repeated='2'><text:p>1</text:p>\
                </table:table-cell></table:table-row></table:table><text:p>After &amp; more</text:p>";
    let document = read_ok("any.bin", open_document("text", body));
    assert_eq!(document.media_type, "application/vnd.oasis.opendocument.text");
    assert_eq!(document.title, "On stones");
    assert_eq!(
        document.text,
        "# On stones\n\n## Hard\n\nGranite  is\thard[1] (very).\n\n- one\n  - deep\n- two\n\n| k | v |\n|---|---|\n| 1 | 1 |\n\nAfter & more"
    );
    assert_eq!(document.properties.authors, ["Ada"]);
    assert_eq!(document.properties.created.as_deref(), Some("2020-05-06T07:08:09Z"));
    assert_eq!(document.properties.language.as_deref(), Some("de"));
}

#[test]
fn open_document_sheets_and_slides() {
    let cell = |text: &str| format!("<table:table-cell><text:p>{text}</text:p></table:table-cell>");
    let row = |cells: &[&str]| {
        let cells: String = cells.iter().map(|text| cell(text)).collect();
        format!(
            "<table:table-row>{cells}<table:table-cell table:number-columns-repeated='16000'/></table:table-row>"
        )
    };
    let sheet = |name: &str, rows: &str| format!("<table:table table:name='{name}'>{rows}</table:table>");
    let empty = "<table:table-row table:number-rows-repeated='1048576'><table:table-cell/></table:table-row>";
    let body = format!(
        "{}{}",
        sheet("Costs", &[row(&["item", "price"]), row(&["stone", "3"]), empty.to_owned()].concat()),
        sheet("Empty", empty)
    );
    let document = read_ok("a.ods", open_document("spreadsheet", &body));
    assert_eq!(document.text, "## Costs\n\n| item | price |\n|---|---|\n| stone | 3 |");
    let parts: Vec<_> = document.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!((parts, document.pages.len()), (vec!["Costs"], 2));

    let slides = "<draw:page draw:name='a'><draw:frame><draw:text-box><text:p>First slide</text:p></draw:text-box></draw:frame></draw:page>\
                  <draw:page draw:name='b'><draw:frame><draw:text-box><text:list><text:list-item><text:p>Point</text:p></text:list-item>\
                  </text:list></draw:text-box></draw:frame></draw:page>";
    let document = read_ok("a.odp", open_document("presentation", slides));
    let pages: Vec<_> =
        document.pages.iter().map(|page| (page.number, &document.text[page.span.clone()])).collect();
    assert_eq!(pages, [(1, "First slide"), (2, "- Point")]);
}

#[test]
fn hostile_open_documents() {
    let whole = open_document("text", "<text:p>text</text:p>");
    for length in (4..whole.len()).step_by(43) {
        assert_eq!(
            extract(&raw("a.odt", whole[..length].to_vec()), &ExtractLimits::default()).unwrap_err().kind(),
            ErrorKind::BadContent
        );
    }
    refused(
        "a.odt",
        open_document("text", &"<text:list>".repeat(10_000)),
        ErrorKind::ResourceExhausted,
        "nested deeper",
    );
    let repeated = "<table:table><table:table-row table:number-rows-repeated='999999999'><table:table-cell \
                    table:number-columns-repeated='999999999'><text:p>x</text:p></table:table-cell></table:table-row></table:table>";
    let limits = ExtractLimits { max_text_bytes: 1 << 20, ..Default::default() };
    let error =
        extract(&raw("a.ods", open_document("spreadsheet", &repeated.repeat(3))), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
    let manifest = b"<manifest:file-entry><manifest:encryption-data/></manifest:file-entry>";
    let mime = b"application/vnd.oasis.opendocument.text".as_slice();
    let locked =
        archive(&[("mimetype", mime), ("META-INF/manifest.xml", manifest), ("content.xml", b"\x93\xa0")]);
    refused("a.odt", locked, ErrorKind::BadContent, "needs a password");
    refused("a.odt", archive(&[("mimetype", mime)]), ErrorKind::BadContent, "no content.xml");
    let bomb = open_document("text", &format!("<text:p>{}</text:p>", " ".repeat(40 << 20)));
    assert_eq!(
        extract(&raw("a.odt", bomb), &ExtractLimits::default()).unwrap_err().kind(),
        ErrorKind::ResourceExhausted
    );
}

/// A book with these chapters.
pub(super) fn epub(chapters: &[(&str, &str)], more: &[(&str, &[u8])]) -> Vec<u8> {
    let container =
        b"<container><rootfiles><rootfile full-path='OEBPS/book.opf'/></rootfiles></container>".as_slice();
    let items: String = chapters
        .iter()
        .enumerate()
        .map(|(n, (name, _))| format!("<item id='c{n}' href='{name}' media-type='application/xhtml+xml'/>"))
        .collect();
    // Read in the order of the spine, which is the other way round here.
    let spine: String = (0..chapters.len()).rev().map(|n| format!("<itemref idref='c{n}'/>")).collect();
    let package = format!(
        "<package xmlns:dc='x'><metadata><dc:title>On stones</dc:title><dc:creator>Ada</dc:creator><dc:language>en</dc:language>\
         <dc:date>2020</dc:date></metadata><manifest>{items}<item id='s' href='style.css' media-type='text/css'/></manifest>\
         <spine>{spine}</spine></package>"
    );
    let pages: Vec<(String, String)> = chapters
        .iter()
        .map(|(name, body)| {
            (format!("OEBPS/{}", name.replace("%20", " ")), format!("<html><body>{body}</body></html>"))
        })
        .collect();
    let mut members = vec![
        ("mimetype", b"application/epub+zip".as_slice()),
        ("META-INF/container.xml", container),
        ("OEBPS/book.opf", package.as_bytes()),
    ];
    members.extend(pages.iter().map(|(name, body)| (name.as_str(), body.as_bytes())));
    members.extend(more);
    archive(&members)
}

#[test]
fn books_are_read_in_order() {
    let book = epub(
        &[("two.xhtml", "<h1>Soft</h1><p>Talc</p>"), ("ch%201.xhtml", "<h1>Hard</h1><p>Granite</p>")],
        &[],
    );
    let document = read_ok("", book);
    assert_eq!(
        (document.media_type.as_str(), document.title.as_str()),
        ("application/epub+zip", "On stones")
    );
    assert_eq!(document.text, "# Hard\n\nGranite\n\n# Soft\n\nTalc");
    let parts: Vec<_> = document.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(parts, ["OEBPS/ch 1.xhtml", "OEBPS/two.xhtml"]);
    assert_eq!(document.properties.authors, ["Ada"]);
    let protection: (&str, &[u8]) = (
        "META-INF/encryption.xml",
        b"<EncryptionMethod Algorithm='http://www.w3.org/2001/04/xmlenc#aes128-cbc'/>",
    );
    refused("a.epub", epub(&[("a.xhtml", "x")], &[protection]), ErrorKind::BadContent, "protected");
    refused(
        "a.epub",
        archive(&[("mimetype", b"application/epub+zip")]),
        ErrorKind::BadContent,
        "where its contents are",
    );
    let whole = epub(&[("a.xhtml", "<p>text")], &[]);
    for length in (4..whole.len()).step_by(47) {
        assert!(extract(&raw("a.epub", whole[..length].to_vec()), &ExtractLimits::default()).is_err());
    }
}

#[test]
fn text_in_old_encodings() {
    let check = |encoding: &'static encoding_rs::Encoding, text: &str| {
        let (data, _, lossy) = encoding.encode(text);
        assert!(!lossy);
        assert_eq!(read_ok("a.txt", data.into_owned()).text, text, "{}", encoding.name());
    };
    check(
        encoding_rs::SHIFT_JIS,
        "日本語の文章です。石は硬い。これは普通の文章であり、文字コードを判定するのに十分な長さがあります。",
    );
    check(encoding_rs::GB18030, "这是一个普通的中文文本，石头很硬，用来测试字符编码的检测是否正确。");
    check(encoding_rs::WINDOWS_1251, "Это обычный русский текст, в котором говорится о камнях и горах.");
    check(
        encoding_rs::EUC_KR,
        "이것은 돌에 관한 평범한 한국어 문장입니다. 인코딩을 알아내기에 충분히 깁니다.",
    );
    let table: Vec<u8> = "Name;Größe\nStein;3\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(
        read_ok("a.csv", [b"\xff\xfe".to_vec(), table].concat()).text,
        "| Name | Größe |\n|---|---|\n| Stein | 3 |"
    );
}

#[test]
fn content_goes_before_names() {
    let media_type = |name: &str, data: &[u8]| read_ok(name, data.to_vec()).media_type;
    assert_eq!(media_type("a.txt", br"{\rtf1 text}"), "application/rtf");
    assert_eq!(
        media_type("a.bin", &open_document("text", "<text:p>x</text:p>")),
        "application/vnd.oasis.opendocument.text"
    );
    assert_eq!(
        media_type("a.json", br#"{"nbformat": 4, "cells": [{"cell_type": "raw", "source": "x"}]}"#),
        "application/x-ipynb+json"
    );
    assert_eq!(media_type("a.txt", b"[1, 2]"), "application/json");
    assert_eq!(media_type("a.rs", b"{}"), "text/x-rust");
    assert_eq!(media_type("Dockerfile", b"FROM x"), "text/plain");
    assert_eq!(read_ok("main.py", "def f():\n    pass\n").markup, Markup::Code);
}

#[test]
fn passwords_open_and_are_not_shown() {
    let passwords = Passwords::new(vec!["secret-word".into()]).unwrap();
    assert!(!format!("{passwords:?}").contains("secret"));
    assert_eq!(Passwords::new(vec![String::new(); 100]).unwrap_err().field(), Some("passwords"));
    let Some(root) = test_data("data/docs") else { return };
    let check = |file: &str, given: &str, text: &str| {
        let path = root.join("pypdf/resources").join(file);
        let Ok(data) = std::fs::read(path) else { return };
        let passwords = Passwords::new(vec!["wrong".into(), given.into()]).unwrap();
        let raw = RawDocument {
            file_name: file.into(),
            data: data.into(),
            options: options(passwords),
            ..Default::default()
        };
        let read = extract(&raw, &ExtractLimits::default()).map(|document| document.text);
        match text {
            "" => assert!(read.unwrap_err().message().contains("none of those given")),
            text => assert!(read.unwrap().contains(text)),
        }
    };
    for file in [
        "r2-user-password",
        "r3-user-password",
        "r4-aes-user-password",
        "r5-user-password",
        "r6-user-password",
    ] {
        check(&format!("encryption/{file}.pdf"), "asdfzxcv", "encryption test");
        check(&format!("encryption/{file}.pdf"), "nonsense", "");
    }
}
