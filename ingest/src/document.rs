//! What flows through the pipeline: raw documents, their extracted text, their chunks.

use std::ops::Range;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A document as it arrives.
#[derive(Debug, Clone, Default)]
pub struct RawDocument {
    /// Unit of replacement; empty: made from `uri`, else from `file_name`.
    pub id: String,
    /// Name with extension; it helps to tell the format. May be empty.
    pub file_name: String,
    /// Where it comes from. May be empty.
    pub uri: String,
    /// Empty: detected.
    pub media_type: String,
    /// Empty: taken from the content.
    pub title: String,
    /// The content.
    pub data: Bytes,
    /// `data` is plain UTF-8 text that needs no extraction.
    pub is_text: bool,
    /// Copied to the payload of every chunk.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Modification time in nanoseconds since 1970, when it is a file.
    pub modified_ns: Option<i64>,
    /// The source that brought it, or empty.
    pub source_id: String,
}

/// The text of a document, with its structure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExtractedDocument {
    /// Detected media type.
    pub media_type: String,
    /// Title found in the content, or empty.
    pub title: String,
    /// The whole text. Markdown where `markup` says so.
    pub text: String,
    /// How `text` is written.
    pub markup: Markup,
    /// Byte ranges of `text` by page (slide, sheet), from page 1, in order; empty where there are no pages.
    pub pages: Vec<Page>,
}

/// A page of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub number: u32,
    /// Bytes of the document's text.
    pub span: Range<usize>,
}

/// How an extracted text is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Markup {
    /// Paragraphs split by empty lines.
    #[default]
    Plain,
    /// CommonMark with tables; headings give the heading path.
    Markdown,
}

/// A part of a document that fits an embedder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its text: `document.text[span]`, trimmed.
    pub text: String,
    /// Bytes of the document's text.
    pub span: Range<usize>,
    /// Headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Page on which it starts, from 1.
    pub page: Option<u32>,
}

/// A document's entry in the ledger. The same facts as the engine keeps; the server maps one to the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in RawDocument, plus version (a hash), chunks and state")]
pub struct DocumentEntry {
    pub id: String,
    pub uri: String,
    pub title: String,
    pub media_type: String,
    /// Hash of content, metadata and pipeline version; equal means that nothing has to be done again.
    pub version: String,
    pub size_bytes: u64,
    pub modified_ns: Option<i64>,
    pub chunks: u32,
    pub state: EntryState,
    pub source_id: String,
}

/// How the last try to ingest a document ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the reason is a sentence for the owner of the file")]
pub enum EntryState {
    /// Its points are searchable.
    Indexed,
    /// It could not be read; an older version's points stay.
    Failed { reason: String },
    /// Nothing to index (empty, not a readable format).
    Skipped { reason: String },
}
