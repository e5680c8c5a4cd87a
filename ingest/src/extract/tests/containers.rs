//! Archives and mails: documents made of documents.

use std::io::Cursor;

use cfb::CompoundFile;
use zip::unstable::write::FileOptionsExt as _;

use super::formats::{epub, open_document};
use super::*;

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn parts(document: &ExtractedDocument) -> Vec<(&str, &str)> {
    document.parts.iter().map(|part| (part.name.as_str(), &document.text[part.span.clone()])).collect()
}

#[test]
fn members_are_parts() {
    let report = pdf("Report", &["First page", "Second page"]);
    let members: &[(&str, &[u8])] = &[
        ("notes/a.md", b"# Heading\n\ntext"),
        ("report.pdf", &report),
        ("__MACOSX/a", b"clutter"),
        (".DS_Store", b"clutter"),
        ("picture.png", b"\x89PNG\r\n\x1a\n"),
        ("b.txt", b"# plain"),
    ];
    let expect = [
        ("notes/a.md", "# Heading\n\ntext"),
        ("report.pdf", "First page\n\nSecond page"),
        ("b.txt", "# plain"),
    ];
    for (name, data) in [("a.zip", archive(members)), ("a.tar", tar(members)), ("x", gzip(&tar(members)))] {
        let document = read_ok(name, data);
        assert_eq!(parts(&document), expect, "{name}");
        assert_eq!(document.left_out, ["picture.png: not a readable format (a PNG image)"]);
        let pages: Vec<_> =
            document.pages.iter().map(|page| (page.number, &document.text[page.span.clone()])).collect();
        assert_eq!(pages, [(1, "First page"), (2, "Second page")]);
        let markup: Vec<_> = document.parts.iter().map(|part| part.markup).collect();
        assert_eq!(markup, [Markup::Markdown, Markup::Plain, Markup::Plain]);
    }
    let single = read_ok("log.txt.gz", gzip(b"one line"));
    assert_eq!(parts(&single), [("log.txt", "one line")]);
}

#[test]
fn archives_nest_to_a_depth() {
    let mut data = archive(&[("core.txt", b"core")]);
    for (level, expect) in ["core.txt", "in.zip/core.txt", "in.zip/in.zip/core.txt"].into_iter().enumerate() {
        assert_eq!(parts(&read_ok("a.zip", data.clone())), [(expect, "core")], "{level}");
        data = archive(&[("in.zip", &data)]);
    }
    refused("a.zip", data, ErrorKind::BadContent, "nested too deep");
    let mixed = archive(&[
        (
            "sheet.ods",
            &open_document(
                "spreadsheet",
                "<table:table table:name='S'><table:table-row>\
        <table:table-cell><text:p>x</text:p></table:table-cell></table:table-row></table:table>",
            ),
        ),
        ("b.epub", &epub(&[("c.xhtml", "chapter")], &[])),
    ]);
    let document = read_ok("a.zip", mixed);
    let names: Vec<_> = document.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["sheet.ods/S", "b.epub/OEBPS/c.xhtml"]);
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![b' '; 64 << 20];
    refused("a.zip", archive(&[("a.txt", &zeros)]), ErrorKind::ResourceExhausted, "far more data");
    refused("a.gz", gzip(&zeros), ErrorKind::ResourceExhausted, "far more data");
    refused("a.tgz", gzip(&tar(&[("a.txt", &zeros)])), ErrorKind::ResourceExhausted, "far more data");
    let limits = ExtractLimits { max_unpacked_bytes: 1 << 20, ..Default::default() };
    let noise: Vec<u8> = (0..60_000u32).map(|n| b'a' + (n.wrapping_mul(2_654_435_761) >> 28) as u8).collect();
    let names: Vec<String> = (0..30).map(|n| format!("{n}.txt")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), noise.as_slice())).collect();
    let error = extract(&raw("a.zip", archive(&members)), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "the members together: {error}");
    let nested = archive(&[("a.zip", &archive(&members[..10])), ("b.zip", &archive(&members[..10]))]);
    assert_eq!(extract(&raw("a.zip", nested), &limits).unwrap_err().kind(), ErrorKind::ResourceExhausted);
    let names: Vec<String> = (0..10_001).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    refused("a.zip", archive(&many), ErrorKind::ResourceExhausted, "members");
}

#[test]
fn broken_archives_give_what_they_have() {
    let whole = tar(&[("a.txt", b"first"), ("b.txt", b"second")]);
    assert_eq!(parts(&read_ok("a.tar", whole[..1_400].to_vec())), [("a.txt", "first")]);
    for data in [archive(&[("a.txt", b"some text")]), gzip(b"some text"), whole] {
        for length in (4..data.len()).step_by(97) {
            if let Err(error) = extract(&raw("a", data[..length].to_vec()), &ExtractLimits::default()) {
                assert_eq!(error.kind(), ErrorKind::BadContent, "{error}");
            }
        }
    }
}

#[test]
fn locked_archives_need_their_password() {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let locked = SimpleFileOptions::default().with_deprecated_encryption(b"open sesame").unwrap();
    writer.start_file("a.txt", locked).unwrap();
    writer.write_all(b"a treasure").unwrap();
    let data = writer.finish().unwrap().into_inner();
    refused("a.zip", data.clone(), ErrorKind::BadContent, "needs a password");
    let with = |passwords: &[&str]| {
        let passwords = Passwords::new(passwords.iter().map(ToString::to_string).collect()).unwrap();
        let raw = RawDocument { options: options(passwords), ..raw("a.zip", data.clone()) };
        extract(&raw, &ExtractLimits::default())
    };
    assert_eq!(with(&["wrong", "open sesame"]).unwrap().text, "a treasure");
    assert!(with(&["wrong"]).is_err());
}

pub(super) const MAIL: &str = "MIME-Version: 1.0\r\nDate: Fri, 16 Dec 2022 17:04:16 -0500\r\nMessage-ID: <a@b>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
    From: Ada <ada@x.org>\r\nTo: Bob <bob@x.org>, c@x.org\r\nContent-Type: multipart/mixed; boundary=B\r\n\r\n--B\r\n\
    Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nSch=F6ne Steine=2E\r\n--B\r\n\
    Content-Type: text/csv; name=\"a b.csv\"\r\nContent-Disposition: attachment; filename=\"a b.csv\"\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nayx2CjEsMgo=\r\n--B\r\nContent-Type: image/png\r\nContent-Disposition: attachment; \
    filename=p.png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--B--\r\n";

#[test]
fn mails_with_attachments() {
    let document = read_ok("any.txt", MAIL);
    assert_eq!((document.media_type.as_str(), document.title.as_str()), ("message/rfc822", "Grüße"));
    assert_eq!(
        document.text,
        "From: Ada <ada@x.org>\nTo: Bob <bob@x.org>, c@x.org\nDate: 2022-12-16T22:04:16Z\nSubject: Grüße\n\nSchöne Steine.\n\n\
         | k | v |\n|---|---|\n| 1 | 2 |"
    );
    assert_eq!(parts(&document), [("a b.csv", "| k | v |\n|---|---|\n| 1 | 2 |")]);
    assert_eq!(document.properties.authors, ["Ada <ada@x.org>"]);
    assert_eq!(document.left_out.len(), 1);
    let html =
        "From: a@b\nMIME-Version: 1.0\nSubject: s\nContent-Type: text/html\n\n<h1>Head</h1><p>word</p>";
    let document = read_ok("a.eml", html);
    assert!(document.text.ends_with("# Head\n\nword"), "{}", document.text);
    assert_eq!(document.markup, Markup::Markdown);
    let locked =
        "From: a@b\nMIME-Version: 1.0\nSubject: s\nContent-Type: multipart/encrypted; boundary=B\n\n--B--";
    refused("a.eml", locked, ErrorKind::BadContent, "encrypted");
}

#[test]
fn mailboxes_and_mails_within_mails() {
    let mailbox = format!(
        "From ada Fri Dec 16 17:04:16 2022\n{0}\nFrom bob Fri Dec 16 17:04:16 2022\n{0}",
        MAIL.replace("\r\n", "\n")
    );
    let document = read_ok("box", mailbox);
    let names: Vec<_> = document.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["mail 1", "mail 1/a b.csv", "mail 2", "mail 2/a b.csv"]);
    let outer = format!(
        "From: o@x\r\nMIME-Version: 1.0\r\nSubject: fwd\r\nContent-Type: multipart/mixed; boundary=O\r\n\r\n--O\r\nContent-Type: text/plain\r\n\r\n\
         See below.\r\n--O\r\nContent-Type: message/rfc822\r\n\r\n{MAIL}\r\n--O--\r\n"
    );
    let document = read_ok("a.eml", outer);
    assert!(
        document.text.contains("See below.") && document.text.contains("Schöne Steine."),
        "{}",
        document.text
    );
    assert!(document.parts.iter().any(|part| part.name == "attached mail 1/a b.csv"), "{:?}", document.parts);
    for length in (10..MAIL.len()).step_by(23) {
        let _ = extract(&raw("a.eml", MAIL[..length].to_owned()), &ExtractLimits::default());
    }
}

/// A message as Outlook saves it: properties by stream name.
pub(super) fn message(properties: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = CompoundFile::create(Cursor::new(Vec::new())).unwrap();
    let mut write = |path: &str, data: &[u8]| {
        let path = std::path::Path::new(path);
        if let Some(parent) = path.parent().filter(|parent| !file.exists(parent)) {
            file.create_storage_all(parent).unwrap();
        }
        file.create_stream(path).unwrap().write_all(data).unwrap();
    };
    for (path, data) in properties {
        write(path, data);
    }
    file.flush().unwrap();
    file.into_inner().into_inner()
}

#[test]
fn outlook_messages() {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let mut fixed = vec![0u8; 32];
    // Code page 1251, and when it was sent.
    for (tag, value) in [(0x3ffd_0003u32, 1251u64), (0x0039_0040, 133_000_000_000_000_000)] {
        fixed.extend(tag.to_le_bytes());
        fixed.extend([0; 4]);
        fixed.extend(value.to_le_bytes());
    }
    let (subject, name) = (wide("On stones"), wide("rows.csv"));
    let properties: &[(&str, &[u8])] = &[
        ("/__properties_version1.0", &fixed),
        ("/__substg1.0_0037001F", &subject),
        ("/__substg1.0_0C1A001E", b"\xc0\xe4\xe0"),
        ("/__substg1.0_5D01001F", &wide("ada@x.org")),
        ("/__substg1.0_0E04001F", &wide("Bob; Carl")),
        ("/__substg1.0_1000001F", &wide("Granite is hard.")),
        ("/__attach_version1.0_#00000000/__substg1.0_3707001F", &name),
        ("/__attach_version1.0_#00000000/__substg1.0_37010102", b"k,v\n1,2\n"),
        ("/__attach_version1.0_#00000001/__substg1.0_3701000D/__substg1.0_1000001F", &wide("inner words")),
        ("/__attach_version1.0_#00000001/__substg1.0_3701000D/__properties_version1.0", &[0; 24]),
    ];
    let whole = message(properties);
    let document = read_ok("a.doc", whole.clone());
    assert_eq!(
        (document.media_type.as_str(), document.title.as_str()),
        ("application/vnd.ms-outlook", "On stones")
    );
    assert!(
        document.text.starts_with("From: Ада <ada@x.org>\nTo: Bob, Carl\nDate: 2022-06-18T04:26:40Z\nSubject: On stones\n\nGranite is hard."),
        "{}",
        document.text
    );
    assert_eq!(parts(&document)[0], ("rows.csv", "| k | v |\n|---|---|\n| 1 | 2 |"));
    assert!(document.text.ends_with("inner words"), "{}", document.text);
    for length in (8..whole.len()).step_by(509) {
        // What is cut off may be no more than padding.
        let _ = extract(&raw("a.msg", whole[..length].to_vec()), &ExtractLimits::default());
    }
    // A sector that follows itself.
    let mut looped = whole;
    let table = 512;
    looped[table..table + 64].copy_from_slice(&0u32.to_le_bytes().repeat(16));
    let _ = extract(&raw("a.msg", looped), &ExtractLimits::default());
}
