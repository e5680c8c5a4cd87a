//! Word, Excel and PowerPoint, of both generations, through undoc: Markdown, with slides and sheets as pages.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use undoc::model::{Block, Paragraph, Table};
use undoc::render::{RenderOptions, render_section_to_string, to_markdown};
use undoc::{Document, FormatType};

use super::archive::{self, ZipKind};
use super::beside::{self, COMMENTS, HEADERS, OfSlide};
use super::detect::Container;
use super::markup::first_heading;
use super::normalise::TextBuilder;
use super::scope::Scope;
use super::{dates, tables::regroup};
use crate::document::{ExtractedDocument, Markup, Properties};
use crate::error::{Error, Result};

/// Reads an Office document.
pub(super) fn read(container: Container, data: &Bytes, scope: &Scope) -> Result<ExtractedDocument> {
    let (limits, deadline) = (&scope.limits, scope.deadline);
    let format = match container {
        Container::Zip => match archive::inspect(data, limits, deadline)? {
            ZipKind::Docx => FormatType::Docx,
            ZipKind::Xlsx => FormatType::Xlsx,
            ZipKind::Pptx => FormatType::Pptx,
        },
        Container::Ole => undoc::detect_format_from_bytes(data).map_err(|error| reason(&error))?,
    };
    let mut document = parse(format, data).map_err(|error| reason(&error))?;
    deadline.check()?;
    // Pictures are not read here, and may be most of the file.
    document.resources.clear();
    without_tags(&mut document);
    let options = RenderOptions {
        include_images: false,
        escape_special_chars: false,
        max_heading_level: 6,
        ..Default::default()
    };
    let mut text = TextBuilder::new(limits);
    match format {
        FormatType::Docx | FormatType::Doc => {
            let markdown = to_markdown(&document, &options).map_err(|error| reason(&error))?;
            text.push(&regroup(&cells_on_one_line(&markdown), |size| limits.check_text(size))?)?;
            if format == FormatType::Docx {
                let beside = beside::of_text(data, scope)?;
                text.push_part(HEADERS, Markup::Plain, &beside.headers)?;
                text.push_part(COMMENTS, Markup::Plain, &beside.comments)?;
            }
        }
        _ => {
            limits.check_pages(document.sections.len())?;
            let beside = BesidePages::read(format, data, &mut document, scope)?;
            for (index, section) in document.sections.iter_mut().enumerate() {
                deadline.check()?;
                section.name = section.name.take().filter(|name| !is_made_up(name));
                let name =
                    section.name.clone().filter(|_| matches!(format, FormatType::Xlsx | FormatType::Xls));
                // The first section of a call is rendered without the rule that parts it from its neighbour.
                let page = render_section_to_string(section, 0, format, &options, &HashMap::new());
                let mut page = regroup(&cells_on_one_line(&page), |size| limits.check_text(size))?;
                beside.append(index, name.as_deref(), &mut page, scope)?;
                match name {
                    Some(name) => text.push_sheet(index + 1, &name, &page)?,
                    None => text.push_page(index + 1, &page)?,
                }
            }
        }
    }
    let content = text.finish_document();
    let title = match format {
        FormatType::Xlsx | FormatType::Xls => title(&document),
        _ => Some(title(&document))
            .filter(|title| !title.is_empty())
            .or_else(|| first_heading(&content.text))
            .unwrap_or_default(),
    };
    Ok(ExtractedDocument {
        media_type: media_type(format).into(),
        title,
        markup: Markup::Markdown,
        properties: properties(&document),
        ..content
    })
}

/// What stands beside pages.
enum BesidePages {
    Nothing,
    Slides(Vec<OfSlide>),
    Sheets(HashMap<String, Vec<(String, String)>>),
}

impl BesidePages {
    fn read(format: FormatType, data: &[u8], document: &mut Document, scope: &Scope) -> Result<Self> {
        Ok(match format {
            FormatType::Pptx => {
                let slides = beside::of_slides(data, scope)?;
                if slides.len() != document.sections.len() {
                    return Ok(Self::Nothing);
                }
                // The parser takes the notes of the same number, which may be another slide's.
                document.sections.iter_mut().for_each(|section| section.notes = None);
                Self::Slides(slides)
            }
            FormatType::Xlsx => Self::Sheets(beside::of_sheets(data, scope)?),
            _ => Self::Nothing,
        })
    }

    fn append(&self, index: usize, name: Option<&str>, page: &mut String, scope: &Scope) -> Result<()> {
        match self {
            Self::Slides(slides) => {
                let Some(slide) = slides.get(index) else { return Ok(()) };
                for (title, text) in [("Notes", &slide.notes), ("Comments", &slide.comments)] {
                    if !text.is_empty() {
                        page.push_str(&format!("\n\n{title}:\n\n{text}\n"));
                    }
                }
            }
            Self::Sheets(sheets) => {
                let comments = name.and_then(|name| sheets.get(name)).map(Vec::as_slice).unwrap_or_default();
                append_comments(page, comments, scope)?;
            }
            Self::Nothing => {}
        }
        scope.limits.check_text(page.len())
    }
}

/// Comments stand in their cells already, unless these are empty.
fn append_comments(page: &mut String, comments: &[(String, String)], scope: &Scope) -> Result<()> {
    if page.contains("[Comment: [Threaded comment]") {
        *page = without_notices(page);
    }
    if page.matches("[Comment: ").count() >= comments.len() {
        return Ok(());
    }
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let there = words(page);
    for (cell, text) in comments {
        scope.deadline.check()?;
        if !there.contains(&words(text)) {
            page.push_str(&format!("\n\nComment at {cell}: {text}\n"));
        }
    }
    Ok(())
}

fn without_notices(page: &str) -> String {
    let mut parts = page.split("[Comment: ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("[Comment: ");
        out.push_str(beside::without_notice(part));
    }
    out
}

/// Drops the styles that Markdown has no marks for: they would be written as tags of HTML, which are no words.
fn without_tags(document: &mut Document) {
    fn plain(paragraphs: &mut [Paragraph]) {
        for run in paragraphs.iter_mut().flat_map(|paragraph| &mut paragraph.runs) {
            (run.style.underline, run.style.superscript, run.style.subscript) = (false, false, false);
        }
    }
    let mut tables: Vec<&mut Table> = Vec::new();
    for section in &mut document.sections {
        section.notes.iter_mut().for_each(|notes| plain(notes));
        for block in &mut section.content {
            match block {
                Block::Paragraph(paragraph) => plain(std::slice::from_mut(paragraph)),
                Block::Note { content, .. } => plain(content),
                Block::Table(table) => tables.push(table),
                _ => {}
            }
        }
    }
    while let Some(table) = tables.pop() {
        for cell in table.rows.iter_mut().flat_map(|row| &mut row.cells) {
            plain(&mut cell.content);
            tables.extend(&mut cell.nested_tables);
        }
    }
}

/// Rows of tables without the tags that part paragraphs of a cell.
fn cells_on_one_line(markdown: &str) -> Cow<'_, str> {
    if !markdown.contains("<br>") {
        return Cow::Borrowed(markdown);
    }
    let line = |line: &str| match line.starts_with('|') {
        true => line.replace("<br>", " "),
        false => line.to_owned(),
    };
    Cow::Owned(markdown.split_inclusive('\n').map(line).collect())
}

fn properties(document: &Document) -> Properties {
    let metadata = &document.metadata;
    // Names that libraries put there by themselves.
    let author = metadata.author.as_deref().map(str::trim).unwrap_or_default();
    let made_up =
        ["", "python-docx", "openpyxl", "unknown author", "author"].contains(&author.to_lowercase().as_str());
    let date = |text: &Option<String>| text.as_deref().and_then(dates::parse);
    Properties {
        authors: if made_up { Vec::new() } else { vec![author.to_owned()] },
        created: date(&metadata.created),
        modified: date(&metadata.modified),
        language: None,
        keywords: metadata.keywords.iter().take(50).cloned().collect(),
    }
}

/// The container was inspected; which parser reads it is no longer a guess.
fn parse(format: FormatType, data: &Bytes) -> undoc::Result<Document> {
    let data = data.to_vec();
    match format {
        FormatType::Docx => undoc::docx::DocxParser::from_bytes(data)?.parse(),
        FormatType::Xlsx => undoc::xlsx::XlsxParser::from_bytes(data)?.parse(),
        FormatType::Pptx => undoc::pptx::PptxParser::from_bytes(data)?.parse(),
        FormatType::Doc => undoc::doc::DocParser::from_bytes(data)?.parse(),
        FormatType::Xls => undoc::xls::XlsParser::from_bytes(data)?.parse(),
        FormatType::Ppt => undoc::ppt::PptParser::from_bytes(data)?.parse(),
    }
}

/// The declared title, unless it is what an application puts there by itself.
fn title(document: &Document) -> String {
    let declared = document.metadata.title.as_deref().map(str::trim).unwrap_or_default();
    match declared.to_lowercase().as_str() {
        "powerpoint presentation" | "slide 1" | "word document" | "untitled" | "presentation" | "title" => {
            String::new()
        }
        _ => declared.to_string(),
    }
}

/// `Slide 3`: a name that only counts, and that the page number says already.
fn is_made_up(name: &str) -> bool {
    let count = name.trim().strip_prefix("Slide ").unwrap_or_default();
    !count.is_empty() && count.bytes().all(|digit| digit.is_ascii_digit())
}

fn media_type(format: FormatType) -> &'static str {
    match format {
        FormatType::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        FormatType::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        FormatType::Pptx => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        FormatType::Doc => "application/msword",
        FormatType::Xls => "application/vnd.ms-excel",
        FormatType::Ppt => "application/vnd.ms-powerpoint",
    }
}

fn reason(error: &undoc::Error) -> Error {
    Error::bad_content(match error {
        undoc::Error::Encrypted => "the document needs a password".to_string(),
        undoc::Error::UnknownFormat => "not a readable format (unknown container)".to_string(),
        undoc::Error::UnsupportedFormat(_) => {
            "not a readable format (an OLE container, but not of Word, Excel or PowerPoint)".to_string()
        }
        other => format!("broken Office file: {other}"),
    })
}
