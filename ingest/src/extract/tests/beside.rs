//! Headers and footers, notes and comments of Office documents.

use super::formats::open_document;
use super::*;

const KINDS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

/// The relations of a part: role and target.
fn relations(of: &[(&str, &str)]) -> String {
    let one = |(n, (role, target)): (usize, &(&str, &str))| {
        format!("<Relationship Id='r{n}' Type='{KINDS}/{role}' Target='{target}'/>")
    };
    let all: String = of.iter().enumerate().map(one).collect();
    format!(
        "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>{all}</Relationships>"
    )
}

/// A package of parts as text, of this kind of document.
fn package(main: &str, parts: &[(&str, String)]) -> Vec<u8> {
    let root = relations(&[("officeDocument", main)]);
    let kind = match main.split('/').next().unwrap() {
        "word" => "wordprocessingml.document",
        "ppt" => "presentationml.presentation",
        _ => "spreadsheetml.sheet",
    };
    let types = format!(
        "<Types xmlns='http://schemas.openxmlformats.org/package/2006/content-types'><Override PartName='/{main}' \
         ContentType='application/vnd.openxmlformats-officedocument.{kind}.main+xml'/></Types>"
    );
    let mut members = vec![("[Content_Types].xml", types.as_bytes()), ("_rels/.rels", root.as_bytes())];
    members.extend(parts.iter().map(|(name, text)| (*name, text.as_bytes())));
    archive(&members)
}

const W: &str = "xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main' \
                 xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships'";

fn word(parts: &[(&str, String)], of_document: &[(&str, &str)]) -> Vec<u8> {
    let body = "<w:p><w:r><w:t>The body.</w:t></w:r><w:r><w:footnoteReference w:id='2'/></w:r></w:p>\
                <w:sectPr><w:headerReference r:id='r0'/></w:sectPr>";
    let document = format!("<w:document {W}><w:body>{body}</w:body></w:document>");
    let mut all =
        vec![("word/document.xml", document), ("word/_rels/document.xml.rels", relations(of_document))];
    all.extend_from_slice(parts);
    package("word/document.xml", &all)
}

fn parts(document: &ExtractedDocument) -> Vec<(&str, &str)> {
    document.parts.iter().map(|part| (part.name.as_str(), &document.text[part.span.clone()])).collect()
}

#[test]
fn word_documents_have_headers_notes_and_comments() {
    let run = |text: &str| format!("<w:r><w:t xml:space='preserve'>{text}</w:t></w:r>");
    let field = "<w:r><w:fldChar w:fldCharType='begin'/></w:r><w:r><w:instrText> PAGE \\* MERGEFORMAT </w:instrText></w:r>\
                 <w:r><w:fldChar w:fldCharType='separate'/></w:r><w:r><w:t>7</w:t></w:r><w:r><w:fldChar w:fldCharType='end'/></w:r>";
    let count = "<w:fldSimple w:instr=' NUMPAGES '><w:r><w:t>9</w:t></w:r></w:fldSimple>";
    let dated = "<w:fldSimple w:instr=' DATE '><w:r><w:t>1 May</w:t></w:r></w:fldSimple>";
    let paragraph = |content: &str| format!("<w:p>{content}</w:p>");
    let header = |content: String| format!("<w:hdr {W}>{content}</w:hdr>");
    let footer = |content: String| format!("<w:ftr {W}>{content}</w:ftr>");
    let boxed = format!(
        "<w:p><w:r><mc:AlternateContent><mc:Choice>{0}</mc:Choice><mc:Fallback>{0}</mc:Fallback></mc:AlternateContent></w:r></w:p>",
        paragraph(&run("In a box"))
    );
    let comment = |author: &str, content: &str| {
        format!("<w:comment w:id='1' w:author='{author}' w:date='2020-01-01T00:00:00Z'>{content}</w:comment>")
    };
    let comments = format!(
        "<w:comments {W}>{}{}{}</w:comments>",
        comment("Ada &amp; Co", &[paragraph(&run("Is this so?")), paragraph(&run("I doubt it."))].concat()),
        comment("", &paragraph(&run("42"))),
        comment("Bob", &paragraph(""))
    );
    let notes = format!(
        "<w:footnotes {W}><w:footnote w:id='2'>{}</w:footnote></w:footnotes>",
        paragraph(&run("A note at the foot."))
    );
    let data = word(
        &[
            ("word/header1.xml", header(paragraph(&run("ACME — Confidential")) + &boxed)),
            ("word/header2.xml", header(paragraph(&run("ACME — Confidential")))),
            (
                "word/footer1.xml",
                footer(paragraph(&format!("{}{field}{}{count}", run("Page "), run(" of ")))),
            ),
            (
                "word/footer2.xml",
                footer(paragraph(&format!("{}{field}", run("Printed by ACME in Ulm, page ")))),
            ),
            ("word/footer3.xml", footer(paragraph(dated) + &paragraph(&run("12")) + &paragraph(field))),
            ("word/comments.xml", comments),
            ("word/footnotes.xml", notes),
        ],
        &[
            ("header", "header1.xml"),
            ("header", "/word/header2.xml"),
            ("footer", "footer1.xml"),
            ("footer", "footer2.xml"),
            ("footer", "footer3.xml"),
            ("comments", "comments.xml"),
            ("footnotes", "footnotes.xml"),
            ("header", "missing.xml"),
        ],
    );
    let document = read_ok("a.docx", data);
    assert!(document.text.starts_with("The body.[^2]\n\n[^2]: A note at the foot."), "{}", document.text);
    let expect = [
        ("headers and footers", "ACME — Confidential\n\nIn a box\n\nPrinted by ACME in Ulm, page\n\n1 May"),
        ("comments", "Ada & Co: Is this so?\nI doubt it.\n\n42"),
    ];
    assert_eq!(parts(&document), expect);
    assert!(document.parts.iter().all(|part| part.markup == Markup::Plain));
}

#[test]
fn what_is_broken_beside_the_text_costs_itself_only() {
    let header = format!("<w:hdr {W}><w:p><w:r><w:t>Kept</w:t></w:r></w:p><w:p><w:r><w:t>cut o");
    let data = word(
        &[
            ("word/header1.xml", header),
            ("word/comments.xml", "no xml <<<".into()),
            ("word/footer1.xml", "<w:ftr><w:p><w:t>".repeat(100)),
        ],
        &[
            ("header", "header1.xml"),
            ("footer", "footer1.xml"),
            ("comments", "comments.xml"),
            ("comments", "../.."),
        ],
    );
    let document = read_ok("a.docx", data);
    assert_eq!(parts(&document), [("headers and footers", "Kept\n\ncut o")]);
    let line = |n: u32| {
        let noise = blake3::hash(&n.to_le_bytes()).to_hex();
        format!("<w:p><w:r><w:t>line {noise}</w:t></w:r></w:p>")
    };
    let many: String = (0..300).map(line).collect();
    let large =
        word(&[("word/header1.xml", format!("<w:hdr {W}>{many}</w:hdr>"))], &[("header", "header1.xml")]);
    let limits = ExtractLimits { max_text_bytes: 10_000, ..Default::default() };
    let error = extract(&raw("a.docx", large), &limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
}

#[test]
fn slides_have_their_own_notes_and_comments() {
    let names = "xmlns:a='http://schemas.openxmlformats.org/drawingml/2006/main' \
                 xmlns:p='http://schemas.openxmlformats.org/presentationml/2006/main' \
                 xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships'";
    let shape = |role: &str, text: &str| {
        format!(
            "<p:sp><p:nvSpPr><p:nvPr><p:ph type='{role}'/></p:nvPr></p:nvSpPr><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p>\
             </p:txBody></p:sp>"
        )
    };
    let slide = |text: &str| {
        format!("<p:sld {names}><p:cSld><p:spTree>{}</p:spTree></p:cSld></p:sld>", shape("body", text))
    };
    let notes = |text: &str| {
        let shapes = [shape("sldImg", ""), shape("body", text), shape("sldNum", "77")].concat();
        format!("<p:notes {names}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:notes>")
    };
    let presentation = format!(
        "<p:presentation {names}><p:sldIdLst><p:sldId id='256' r:id='r1'/><p:sldId id='257' r:id='r0'/></p:sldIdLst>\
         </p:presentation>"
    );
    let old = format!(
        "<p:cmLst {names}><p:cm authorId='0' dt='2020-01-01T00:00:00'><p:pos x='1' y='2'/><p:text>Too long.</p:text></p:cm></p:cmLst>"
    );
    let body =
        |text: &str| format!("<p188:txBody><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p188:txBody>");
    let new = format!(
        "<p188:cmLst><p188:cm id='x' authorId='guid-1'><p188:replyLst><p188:reply authorId='guid-2'>{}</p188:reply></p188:replyLst>{}\
         </p188:cm></p188:cmLst>",
        body("Done."),
        body("Add a picture.")
    );
    let data = package(
        "ppt/presentation.xml",
        &[
            ("ppt/presentation.xml", presentation),
            (
                "ppt/_rels/presentation.xml.rels",
                relations(&[
                    ("slide", "slides/slide1.xml"),
                    ("slide", "slides/slide2.xml"),
                    ("commentAuthors", "commentAuthors.xml"),
                    ("authors", "authors.xml"),
                ]),
            ),
            ("ppt/slides/slide1.xml", slide("Made first, shown last")),
            ("ppt/slides/slide2.xml", slide("Shown first")),
            (
                "ppt/slides/_rels/slide1.xml.rels",
                relations(&[("notesSlide", "../notesSlides/notesSlide2.xml"), ("comments", "../comments/c1.xml")]),
            ),
            (
                "ppt/slides/_rels/slide2.xml.rels",
                relations(&[("notesSlide", "../notesSlides/notesSlide1.xml"), ("comments", "../comments/c2.xml")]),
            ),
            ("ppt/notesSlides/notesSlide1.xml", notes("Say hello.")),
            ("ppt/notesSlides/notesSlide2.xml", notes("Say goodbye.")),
            ("ppt/comments/c1.xml", old),
            ("ppt/comments/c2.xml", new),
            ("ppt/commentAuthors.xml", "<p:cmAuthorLst><p:cmAuthor id='0' name='Ada'/></p:cmAuthorLst>".into()),
            (
                "ppt/authors.xml",
                "<p188:authorLst><p188:author id='guid-1' name='Bob'/><p188:author id='guid-2' name='Cleo'/></p188:authorLst>"
                    .into(),
            ),
        ],
    );
    let document = read_ok("a.pptx", data);
    let pages: Vec<_> =
        document.pages.iter().map(|page| (page.number, &document.text[page.span.clone()])).collect();
    let expect = [
        (1, "Shown first\n\nNotes:\n\nSay hello.\n\nComments:\n\nBob: Add a picture.\n\nCleo: Done."),
        (2, "Made first, shown last\n\nNotes:\n\nSay goodbye.\n\nComments:\n\nAda: Too long."),
    ];
    assert_eq!(pages, expect);
}

#[test]
fn sheets_have_comments_also_at_empty_cells() {
    let main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
    let workbook = format!(
        "<workbook xmlns='{main}' xmlns:r='http://schemas.openxmlformats.org/officeDocument/2006/relationships'><sheets>\
         <sheet name='Costs' sheetId='1' r:id='r0'/></sheets></workbook>"
    );
    let cell = |at: &str, text: &str| format!("<c r='{at}' t='inlineStr'><is><t>{text}</t></is></c>");
    let rows = format!(
        "<row r='1'>{}{}</row><row r='2'>{}{}</row>",
        cell("A1", "item"),
        cell("B1", "price"),
        cell("A2", "stone"),
        cell("B2", "3")
    );
    let sheet = format!("<worksheet xmlns='{main}'><sheetData>{rows}</sheetData></worksheet>");
    let comment = |at: &str, text: &str| {
        format!(
            "<comment ref='{at}' authorId='0'><text><r><t xml:space='preserve'>{text}</t></r></text></comment>"
        )
    };
    let notice = "[Threaded comment]\n\nYour version of Excel allows you to read this threaded comment; however, any edits \
                  to it will get removed. Learn more: https://go.microsoft.com/fwlink/?linkid=870924\n\nComment:\n    In euros?";
    let comments = format!(
        "<comments xmlns='{main}'><authors><author>Ada</author></authors><commentList>{}{}{}</commentList></comments>",
        comment("B1", notice),
        comment("A2", "Which one?"),
        comment("D9", "Nothing here yet.")
    );
    let data = package(
        "xl/workbook.xml",
        &[
            ("xl/workbook.xml", workbook),
            ("xl/_rels/workbook.xml.rels", relations(&[("worksheet", "worksheets/sheet1.xml")])),
            ("xl/worksheets/sheet1.xml", sheet),
            ("xl/worksheets/_rels/sheet1.xml.rels", relations(&[("comments", "../comments1.xml")])),
            ("xl/comments1.xml", comments),
        ],
    );
    let document = read_ok("a.xlsx", data);
    let text = &document.text;
    assert!(
        text.contains("stone *[Comment: Which one?]*") || text.contains("stone [Comment: Which one?]"),
        "{text}"
    );
    assert!(text.contains("[Comment: In euros?]") && !text.contains("linkid"), "{text}");
    assert!(text.ends_with("Comment at D9: Nothing here yet."), "{text}");
    assert_eq!(text.matches("Which one?").count(), 1);
    assert_eq!(parts(&document)[0].0, "Costs");
}

#[test]
fn open_documents_have_headers_and_comments() {
    let comment = |text: &str| {
        format!(
            "<office:annotation office:name='1'><dc:creator>Ada</dc:creator><dc:date>2020-01-01T00:00:00</dc:date>\
             <meta:creator-initials>A</meta:creator-initials>{text}</office:annotation>"
        )
    };
    let body = format!(
        "<text:list><text:list-item><text:p>{}First point<office:annotation-end/>, well put.</text:p></text:list-item></text:list>\
         <text:p>After.</text:p>",
        comment(
            "<text:list><text:list-item><text:p>Is it?</text:p></text:list-item></text:list><text:p>I <text:span>doubt</text:span> it.</text:p>"
        )
    );
    let styles = "<office:document-styles><office:master-styles><style:master-page style:name='Standard'>\
                  <style:header><text:p>ACME &amp; sons</text:p></style:header><style:header-left><text:p>ACME &amp; sons</text:p>\
                  </style:header-left><style:footer><text:p>Page <text:page-number>3</text:page-number> of \
                  <text:page-count>9</text:page-count></text:p><text:p>Ulm<text:tab/>Rome</text:p></style:footer></style:master-page>\
                  </office:master-styles><office:styles><text:p>no header</text:p></office:styles></office:document-styles>";
    let with_styles = |kind: &str, body: &str| {
        let whole = open_document(kind, body);
        let mut source = zip::ZipArchive::new(Cursor::new(whole)).unwrap();
        let mut members = vec![("styles.xml".to_owned(), styles.as_bytes().to_vec())];
        for index in 0..source.len() {
            let mut member = source.by_index(index).unwrap();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut member, &mut data).unwrap();
            members.push((member.name().unwrap().to_string(), data));
        }
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
        archive(&members)
    };
    let document = read_ok("a.odt", with_styles("text", &body));
    assert!(document.text.starts_with("- First point, well put.\n\nAfter."), "{}", document.text);
    let expect =
        [("headers and footers", "ACME & sons\n\nUlm Rome"), ("comments", "Ada: - Is it? I doubt it.")];
    assert_eq!(parts(&document), expect);

    let cell = |text: &str, comment: &str| {
        format!("<table:table-cell>{comment}<text:p>{text}</text:p></table:table-cell>")
    };
    let sheet = format!(
        "<table:table table:name='Costs'><table:table-row>{}{}</table:table-row></table:table>",
        cell("item", ""),
        cell("price", &comment("<text:p>In euros?</text:p>"))
    );
    let document = read_ok("a.ods", with_styles("spreadsheet", &sheet));
    assert!(document.text.contains("| item | price [Comment: Ada: In euros?] |"), "{}", document.text);
    assert_eq!(document.parts.len(), 1, "a sheet has no headers");

    let slide = format!(
        "<draw:page draw:name='a'>{}<draw:frame><draw:text-box><text:p>First slide</text:p></draw:text-box></draw:frame>\
         </draw:page><draw:page draw:name='b'><draw:frame><draw:text-box><text:p>Second</text:p></draw:text-box></draw:frame></draw:page>",
        comment("<text:p>Too short.</text:p>")
    );
    let document = read_ok("a.odp", with_styles("presentation", &slide));
    assert_eq!(document.text, "First slide\n\nComments:\n\nAda: Too short.\n\nSecond");
}
