//! PDF through pdf_oxide: plain text page by page.
//!
//! pdf_oxide bounds what it inflates (size and ratio per stream), the depth of objects and the operators of a page;
//! the guard adds the time. A page that fails is left out as long as others can be read.

use bytes::Bytes;
use pdf_oxide::PdfDocument;
use pdf_oxide::object::Object;

use super::limits::{Deadline, ExtractLimits};
use super::normalise::TextBuilder;
use crate::document::{ExtractedDocument, Markup};
use crate::error::{Error, Result};

/// Reads a PDF. The empty password is tried; another one is a reason to give up.
pub(super) fn read(data: &Bytes, limits: &ExtractLimits, deadline: Deadline) -> Result<ExtractedDocument> {
    let pdf = PdfDocument::from_bytes(data.to_vec()).map_err(|error| reason(&error))?;
    if !pdf.is_authenticated() {
        return Err(needs_password());
    }
    let count = pdf.page_count().map_err(|error| reason(&error))?;
    limits.check_pages(count)?;
    let mut text = TextBuilder::new(limits);
    let mut first_failure = None;
    for index in 0..count {
        deadline.check()?;
        let page = pdf.extract_text(index).unwrap_or_else(|error| {
            first_failure.get_or_insert((index + 1, error));
            String::new()
        });
        text.push_page(index + 1, &page)?;
    }
    let (text, pages) = text.finish();
    if text.is_empty() {
        return Err(match first_failure {
            Some((page, error)) => Error::bad_content(format!("broken PDF: page {page}: {error}")),
            None if count == 0 => Error::bad_content("the PDF has no pages"),
            None => Error::bad_content("no text layer (scanned pages?)"),
        });
    }
    if let Some((page, error)) = first_failure {
        tracing::warn!(page, %error, "pages of a PDF were left out");
    }
    Ok(ExtractedDocument { title: title(&pdf).unwrap_or_default(), text, markup: Markup::Plain, pages, ..Default::default() })
}

/// `/Title` of the information dictionary, unless an application made it up.
fn title(pdf: &PdfDocument) -> Option<String> {
    let resolve = |object: &Object| pdf.resolve_references(object, 2).ok();
    let info = resolve(pdf.trailer().as_dict()?.get("Info")?)?;
    let value = resolve(info.as_dict()?.get("Title")?)?;
    let title = text_string(value.as_string()?);
    let title = title.trim();
    let lower = title.to_lowercase();
    let made_up = lower == "untitled"
        || lower.starts_with("microsoft word - ")
        || lower.starts_with("microsoft powerpoint - ")
        || [".doc", ".docx", ".pdf", ".tex", ".dvi", ".indd", ".qxd"].iter().any(|end| lower.ends_with(end));
    (!made_up && !title.is_empty()).then(|| title.to_string())
}

/// A PDF text string: UTF-16 or UTF-8 with a mark, else PDFDocEncoding, which is near enough to Windows-1252.
fn text_string(bytes: &[u8]) -> String {
    match bytes {
        [0xfe, 0xff, ..] => encoding_rs::UTF_16BE.decode(bytes).0,
        [0xff, 0xfe, ..] => encoding_rs::UTF_16LE.decode(bytes).0,
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        _ => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
    .into_owned()
}

fn needs_password() -> Error {
    Error::bad_content("the PDF needs a password")
}

fn reason(error: &pdf_oxide::Error) -> Error {
    match error {
        pdf_oxide::Error::EncryptedPdf => needs_password(),
        other => Error::bad_content(format!("broken PDF: {other}")),
    }
}
