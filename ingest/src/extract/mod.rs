//! Files to text with structure. Synchronous and heavy: callers run it off the async threads.
//!
//! It doesn't know where a document comes from, how it will be chunked, or that there is a store. Nothing that a file
//! contains may panic or hang the caller: parsers that we didn't write run under a guard, behind checks of size.

mod archive;
mod decode;
mod detect;
mod guard;
mod html;
mod isolate;
mod limits;
mod markup;
mod normalise;
mod office;
mod pdf;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use isolate::{Isolation, serve};
pub use limits::ExtractLimits;

use crate::document::{ExtractedDocument, Markup, RawDocument};
use crate::error::{Error, Result};
use detect::Format;
use limits::Deadline;
use normalise::TextBuilder;

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
    if raw.is_text {
        return plain_text(raw, limits);
    }
    let format = detect::detect(&raw.data, &raw.file_name, &raw.media_type)?;
    limits.check_format_source(format, raw.data.len())?;
    if let Some(isolation) = limits.isolation.as_ref().filter(|_| format.is_risky()) {
        return isolate::run(isolation, raw, limits);
    }
    let document = if format.is_plain() {
        guard::caught(format.name(), || read(format, &raw.data, limits, Deadline::after(limits.timeout)))
    } else {
        let (data, limits) = (raw.data.clone(), limits.clone());
        guard::run(format.name(), limits.timeout, move |deadline| read(format, &data, &limits, deadline))
    }?;
    if document.text.trim().is_empty() {
        return Err(Error::bad_content("no text"));
    }
    Ok(document)
}

/// Text that a client sent as such; only a Markdown name or type gives it structure.
fn plain_text(raw: &RawDocument, limits: &ExtractLimits) -> Result<ExtractedDocument> {
    let text = std::str::from_utf8(&raw.data).map_err(|error| {
        Error::invalid("data", format!("text is not valid UTF-8 at byte {}", error.valid_up_to()))
    })?;
    let format = detect::declared_text_format(&raw.file_name, &raw.media_type);
    let document = match format {
        Format::Markdown => markup::markdown(text, limits)?,
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

fn read(
    format: Format,
    data: &Bytes,
    limits: &ExtractLimits,
    deadline: Deadline,
) -> Result<ExtractedDocument> {
    let mut document = match format {
        Format::Pdf => pdf::read(data, limits, deadline)?,
        Format::Office(kind) => office::read(kind, data, limits, deadline)?,
        Format::Html => html::read(&decode::decode_markup(data), limits)?,
        Format::Markdown => markup::markdown(&decode::decode_text(data), limits)?,
        Format::Xml => markup::xml(&decode::decode_markup(data), limits)?,
        Format::Json => markup::json(&decode::decode_text(data), limits)?,
        Format::Notebook => markup::notebook(&decode::decode_text(data), limits)?,
        Format::JsonLines | Format::Csv | Format::Tsv | Format::Plain | Format::Code => ExtractedDocument {
            text: TextBuilder::whole(&decode::decode_text(data), limits)?,
            markup: Markup::Plain,
            ..Default::default()
        },
    };
    if document.media_type.is_empty() {
        document.media_type = format.media_type().into();
    }
    document.title = normalise::title(&document.title);
    Ok(document)
}
