//! What flows through the pipeline: raw documents, their extracted text, their chunks.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::chunk::ChunkSettings;
use crate::error::{Error, Result};
pub use crate::pipeline::PathFields;

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
    /// How it is read, beyond what the pipeline is set to.
    pub options: Arc<IngestOptions>,
    /// Where the pipeline tells how far it is.
    pub progress: Progress,
}

/// What the pipeline does with a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// It waits for its turn.
    #[default]
    Waiting,
    /// Its text is read and cut.
    Extracting,
    /// Its chunks get their vectors and are written.
    Embedding,
}

/// How far a document is. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU8>);

impl Progress {
    /// Tells how far it is.
    pub fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Relaxed) {
            1 => Stage::Extracting,
            2 => Stage::Embedding,
            _ => Stage::Waiting,
        }
    }
}

/// How the documents of a source, or of a call, are read, beyond what the pipeline is set to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngestOptions {
    /// Tried on content that is encrypted. They come from the configuration or the call and are not stored.
    #[serde(skip)]
    pub passwords: Passwords,
    /// Payload fields that follow from the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_fields: Option<PathFields>,
    /// How text is cut.
    #[serde(skip_serializing_if = "ChunkSettings::is_empty")]
    pub chunk: ChunkSettings,
    /// What becomes of a document whose content is stored already; `None`: what the pipeline is set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<Duplicates>,
    /// Whether near-duplicates of earlier documents are marked; `None`: what the pipeline is set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicates: Option<bool>,
    /// Least resemblance of near-duplicates; `None`: what the pipeline is set to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near_duplicate_threshold: Option<Resemblance>,
    /// A file of a folder is no more when it has not changed for so many seconds; `None`: it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// Metadata of a document by which it expires: milliseconds since 1970. The sink takes it out; it is no payload, and no client
/// can give it.
pub const EXPIRES_AT_FIELD: &str = "_expires_at";

/// Longest life of a document, in seconds: a thousand years.
pub const MAX_TTL_SECONDS: u64 = 1_000 * 366 * 24 * 3_600;

/// # Errors
/// `InvalidArgument` on `field` when it is no time to live.
pub fn check_ttl(seconds: u64, field: &str) -> Result<()> {
    if seconds == 0 || seconds > MAX_TTL_SECONDS {
        return Err(Error::invalid(
            field,
            format!("{seconds} seconds are not between 1 and {MAX_TTL_SECONDS}"),
        ));
    }
    Ok(())
}

/// What becomes of a document whose content is stored already, under another id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// It is stored again, with a payload of its own: filters by path or name find each of the two.
    #[default]
    Keep,
    /// It is linked: its points are those of the other document, whose payload they have, until that one goes or changes.
    Link,
}

/// How much two texts must have in common to be near-duplicates: the share of their shingles, 0.5 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Resemblance(f32);

// It is a number.
impl Eq for Resemblance {}

impl Resemblance {
    /// # Errors
    /// `InvalidArgument` on `near_duplicate_threshold` when it is not between 0.5 and 1: texts that have less in common are
    /// hardly ever found.
    pub fn new(share: f32) -> Result<Self> {
        if !(0.5..=1.0).contains(&share) {
            let message = format!("{share} is not between 0.5 and 1");
            return Err(Error::invalid("near_duplicate_threshold", message));
        }
        Ok(Self(share))
    }

    /// The share.
    pub fn get(self) -> f32 {
        self.0
    }
}

impl TryFrom<f32> for Resemblance {
    type Error = Error;

    fn try_from(share: f32) -> Result<Self> {
        Self::new(share)
    }
}

impl From<Resemblance> for f32 {
    fn from(resemblance: Resemblance) -> Self {
        resemblance.0
    }
}

/// Passwords of encrypted documents. They are never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Passwords(Vec<String>);

impl Passwords {
    /// Most passwords that are tried on a document.
    pub const MAX: usize = 32;
    /// Longest password, in bytes.
    pub const MAX_BYTES: usize = 1_024;

    /// # Errors
    /// `InvalidArgument` on `passwords` when there are too many, or one is too long.
    pub fn new(passwords: Vec<String>) -> Result<Self> {
        if passwords.len() > Self::MAX || passwords.iter().any(|password| password.len() > Self::MAX_BYTES) {
            let message = format!("at most {} passwords of {} bytes each", Self::MAX, Self::MAX_BYTES);
            return Err(Error::invalid("passwords", message));
        }
        Ok(Self(passwords))
    }

    /// One a line; empty lines are none.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn from_lines(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty());
        Self::new(lines.take(Self::MAX + 1).map(str::to_owned).collect())
    }

    /// These, and then others.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn and(&self, others: &Self) -> Result<Self> {
        Self::new(self.0.iter().chain(&others.0).cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// In the order in which they are tried.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Passwords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passwords", self.0.len())
    }
}

/// The text of a document, with its structure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractedDocument {
    /// Detected media type.
    pub media_type: String,
    /// Title found in the content, or empty.
    pub title: String,
    /// The whole text. Markdown where `markup` says so.
    pub text: String,
    /// How `text` is written.
    pub markup: Markup,
    /// Byte ranges of `text` by page (slide, sheet), in order; empty where there are no pages. The pages of each member of
    /// an archive are counted from 1.
    pub pages: Vec<Page>,
    /// Named parts (members of an archive, attachments, chapters, sheets), in order, without overlap. Text between them
    /// belongs to the document itself.
    pub parts: Vec<Part>,
    /// What the content says of itself.
    pub properties: Properties,
    /// What was left out, and why: a sentence each, for the owner of the file.
    pub left_out: Vec<String>,
}

/// A named part of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Path of the member, name of the attachment or sheet; nested ones joined by `/`.
    pub name: String,
    /// How its text is written.
    pub markup: Markup,
    /// Bytes of the document's text.
    pub span: Range<usize>,
}

/// What a document says of itself. Everything may be missing, and wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Properties {
    /// Who wrote it.
    pub authors: Vec<String>,
    /// When it was made, RFC 3339 in UTC.
    pub created: Option<String>,
    /// When it was last changed, RFC 3339 in UTC.
    pub modified: Option<String>,
    /// Its language: two letters of ISO 639-1, else three of ISO 639-3.
    pub language: Option<String>,
    /// Subject words.
    pub keywords: Vec<String>,
}

/// A page of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// From 1.
    pub number: u32,
    /// Bytes of the document's text.
    pub span: Range<usize>,
}

/// How an extracted text is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Markup {
    /// Paragraphs split by empty lines.
    #[default]
    Plain,
    /// CommonMark with tables; headings give the heading path.
    Markdown,
    /// Source code: items start at the margin.
    Code,
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
    /// The part of the document that it is from; empty: the document itself.
    pub part: String,
    /// In parent mode: which of the document's parents it belongs to, from 0.
    pub parent: Option<u32>,
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

/// A failure that may pass, kept beside what the ledger knows of the document, which stays as it is: so a restart neither
/// tries everything at once nor forgets to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Why the last try failed.
    pub reason: String,
    /// Tries in a row that failed.
    pub tries: u32,
    /// When it is tried again, in milliseconds since 1970.
    pub due_ms: i64,
    /// Of the file that was tried: its size...
    pub size_bytes: u64,
    /// ...and its modification time, in nanoseconds since 1970. Another one is tried at once.
    pub modified_ns: i64,
}

impl Retry {
    /// Longest reason that is kept, in bytes.
    pub const MAX_REASON_BYTES: usize = 4_096;
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
    /// Its content is stored as another document's.
    Linked { to: String, payload_patch: String },
}
