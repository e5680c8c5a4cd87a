//! Files to text with structure. Synchronous and heavy: callers run it off the async threads.
//!
//! It doesn't know where a document comes from, how it will be chunked, or that there is a store. Nothing that a file
//! contains may panic or hang the caller: parsers that we didn't write run under a guard, behind checks of size.

mod archive;
mod beside;
mod csv;
mod dates;
mod decode;
mod detect;
mod epub;
mod guard;
mod html;
mod isolate;
mod json;
mod language;
mod lightweight;
mod limits;
mod mail;
mod markup;
mod members;
mod normalise;
mod office;
mod opendocument;
mod outlook;
mod package;
mod pdf;
mod pdf_rows;
mod rtf;
mod scope;
mod tables;
#[cfg(test)]
mod tests;
mod unpack;
mod xml;
mod zip_parts;

pub use isolate::{Isolation, serve};
pub use limits::ExtractLimits;

use crate::document::{ExtractedDocument, Markup, RawDocument};
use crate::error::{Error, Result};
use detect::{Detected, Format};
use normalise::TextBuilder;
use scope::Scope;

/// Extracts the text of a document.
///
/// The format is told by content first, then by the extension of `file_name`, then by `media_type`. The title of the
/// result is the one found in the content; [`RawDocument::title`] is for the caller to prefer.
///
/// # Errors
/// `BadContent` with a reason for the file's owner: broken, protected, of no readable format, without text;
/// `ResourceExhausted` when a limit was reached; `InvalidArgument` for `is_text` data that is not UTF-8.
pub fn extract(raw: &RawDocument, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    limits.check_source(raw.data.len())?;
    let scope = Scope::new(limits);
    let mut document = if raw.is_text { plain_text(raw, limits)? } else { extract_in(raw, &scope)? };
    let declared = document.properties.language.take();
    document.properties.language = language::of(&document.text, declared.as_deref());
    Ok(document)
}

/// Extracts a document, or a member of one, within what is left of the limits.
fn extract_in(raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    scope.deadline.check()?;
    scope.limits.check_source(raw.data.len())?;
    let format = match detect::detect(&raw.data, &raw.file_name, &raw.media_type)? {
        Detected::Format(format) => format,
        Detected::Container(container) => {
            let data = raw.data.clone();
            guard::run("container", scope.deadline.left(), move |_| detect::inside(container, &data))?
        }
    };
    scope.limits.check_format_source(format, raw.data.len())?;
    if let Some(isolation) = scope.limits.isolation.as_ref().filter(|_| format.is_risky()) {
        let limits = ExtractLimits { timeout: scope.deadline.left(), ..scope.limits.clone() };
        return isolate::run(isolation, raw, &limits);
    }
    let mut document = if format.is_plain() {
        guard::caught(format.name(), || read(format, raw, scope))
    } else {
        let (raw, within) = (raw.clone(), scope.clone());
        guard::run(format.name(), scope.deadline.left(), move |_| read(format, &raw, &within))
    }?;
    if document.text.trim().is_empty() {
        return Err(Error::bad_content("no text"));
    }
    if document.media_type.is_empty() {
        document.media_type = format.media_type().into();
    }
    document.title = normalise::title(&document.title);
    Ok(document)
}

/// Text that a client sent as such; only a Markdown name or type gives it structure.
fn plain_text(raw: &RawDocument, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    let text = std::str::from_utf8(&raw.data).map_err(|error| {
        Error::invalid("data", format!("text is not valid UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let format = detect::declared_text_format(&raw.file_name, &raw.media_type);
    let document = match format {
        Format::Markdown => {
            ExtractedDocument { media_type: format.media_type().into(), ..markup::markdown(text, limits)? }
        }
        _ => {
            let text = TextBuilder::whole(text, limits)?;
            ExtractedDocument { media_type: format.media_type().into(), text, ..Default::default() }
        }
    };
    if document.text.trim().is_empty() {
        return Err(Error::bad_content("no text"));
    }
    Ok(document)
}

fn read(format: Format, raw: &RawDocument, scope: &Scope) -> Result<ExtractedDocument> {
    let (data, limits) = (&raw.data, &scope.limits);
    let text = || decode::decode_text(data);
    let tagged = || decode::decode_markup(data);
    match format {
        Format::Pdf => pdf::read(data, &raw.options.passwords, limits, scope.deadline),
        Format::Office(kind) => office::read(kind, data, scope),
        Format::OpenDocument => opendocument::read(data, scope),
        Format::FlatOpenDocument => opendocument::read_flat(&tagged(), scope),
        Format::Epub => epub::read(data, scope),
        Format::Rtf => rtf::read(data, scope),
        Format::Html => html::read(&tagged(), limits),
        Format::Xml => xml::read(&tagged(), scope),
        Format::Markdown => markup::markdown(&text(), limits),
        Format::Rst => lightweight::read(&text(), scope),
        Format::Org => lightweight::org(&text(), scope),
        Format::Json => json::read(&text(), scope),
        Format::JsonLines => json::lines(&text(), scope),
        Format::Notebook => json::notebook(&text(), scope),
        Format::Csv => csv::read(&text(), b',', scope),
        Format::Tsv => csv::read(&text(), b'\t', scope),
        Format::Mail => mail::read(raw, scope),
        Format::Mailbox => mail::mailbox(raw, scope),
        Format::Message => outlook::read(raw, scope),
        Format::ZipArchive => unpack::zip(raw, scope),
        Format::Tar => unpack::tar(raw, scope),
        Format::Gzip => unpack::gzip(raw, scope),
        Format::Plain => {
            Ok(ExtractedDocument { text: TextBuilder::whole(&text(), limits)?, ..Default::default() })
        }
        Format::Code => Ok(ExtractedDocument {
            media_type: detect::code_media_type(&raw.file_name).into(),
            text: TextBuilder::whole(&text(), limits)?,
            markup: Markup::Code,
            ..Default::default()
        }),
    }
}
