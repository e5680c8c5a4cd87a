//! A document made of documents: what containers (archives, mails) share. Each member is extracted by itself; its text
//! becomes a part.

use std::sync::Arc;

use bytes::Bytes;

use super::normalise::TextBuilder;
use super::scope::Scope;
use crate::document::{ExtractedDocument, IngestOptions, RawDocument};
use crate::error::{Error, Result};

/// Reasons that are kept; of more, only the number.
const MAX_REASONS: usize = 50;

/// Collects the members of a container.
pub(super) struct Members<'a> {
    inner: Scope,
    text: TextBuilder<'a>,
    options: Arc<IngestOptions>,
    left_out: Vec<String>,
    more_left_out: usize,
    read: usize,
}

impl<'a> Members<'a> {
    /// For the members of `container`.
    ///
    /// # Errors
    /// `BadContent` when containers are nested too deep.
    pub(super) fn new(scope: &'a Scope, container: &RawDocument) -> Result<Self> {
        let inner = scope.within();
        let inner =
            inner.ok_or_else(|| Error::bad_content("archives are nested too deep: it is not opened"))?;
        let text = TextBuilder::new(&scope.limits);
        let options = Arc::clone(&container.options);
        Ok(Self { inner, text, options, left_out: Vec::new(), more_left_out: 0, read: 0 })
    }

    /// The text of the container itself, before that of its members.
    pub(super) fn body(&mut self, document: &ExtractedDocument) -> Result<()> {
        self.read += 1;
        self.text.push_document("", document)
    }

    /// Extracts a member. One that can't be read is left out.
    ///
    /// # Errors
    /// When a limit of the whole document has been reached.
    pub(super) fn add(&mut self, name: &str, data: Bytes) -> Result<()> {
        self.add_typed(name, data, "")
    }

    /// As [`Self::add`], for a member whose container declares its media type.
    pub(super) fn add_typed(&mut self, name: &str, data: Bytes, media_type: &str) -> Result<()> {
        let raw = RawDocument {
            file_name: name.to_owned(),
            media_type: media_type.to_owned(),
            data,
            options: Arc::clone(&self.options),
            ..Default::default()
        };
        match super::extract_in(&raw, &self.inner) {
            Ok(document) => {
                self.read += 1;
                for reason in &document.left_out {
                    self.note(format!("{name}/{reason}"));
                }
                self.text.push_document(name, &document)
            }
            Err(error) if self.inner.is_used_up() => Err(error),
            Err(error) => {
                self.leave_out(name, &error);
                Ok(())
            }
        }
    }

    /// Tells of a member that can't be read.
    pub(super) fn leave_out(&mut self, name: &str, error: &Error) {
        self.note(format!("{name}: {}", error.message()));
    }

    fn note(&mut self, reason: String) {
        if self.left_out.len() < MAX_REASONS {
            self.left_out.push(reason);
        } else {
            self.more_left_out += 1;
        }
    }

    /// The whole.
    ///
    /// # Errors
    /// `BadContent` when not one member could be read.
    pub(super) fn finish(mut self, media_type: &str) -> Result<ExtractedDocument> {
        if self.read == 0 {
            return Err(Error::bad_content(match self.left_out.as_slice() {
                [] => "the archive holds no files".to_owned(),
                // The reason of the only member is that of the archive.
                [only] => only.clone(),
                [first, ..] => format!(
                    "nothing readable in {} members: {first}",
                    self.left_out.len() + self.more_left_out
                ),
            }));
        }
        if self.more_left_out > 0 {
            self.left_out.push(format!("and {} more", self.more_left_out));
        }
        let document = self.text.finish_document();
        Ok(ExtractedDocument { media_type: media_type.into(), left_out: self.left_out, ..document })
    }
}
