//! The ledger of documents: one record per source file or record, committed together with its points.

use serde::{Deserialize, Serialize};

/// What is known of a document. Kept in the same log and manifest as its points, so the two can't disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentRecord {
    /// The unit of replacement, 1 to 1,000 bytes.
    pub id: String,
    /// Where it came from.
    pub uri: String,
    /// Its title, or empty.
    pub title: String,
    /// Its media type, or empty.
    pub media_type: String,
    /// Hash of content, metadata and pipeline version; equal means that nothing has to be done again. Behind the first
    /// [`VERSION_DIGITS`] hexadecimal digits may stand [`CONTENT_DIGITS`] more, see [`DocumentRecord::content`].
    pub version: String,
    /// Size of the source in bytes.
    pub size_bytes: u64,
    /// Modification time of the source in nanoseconds since 1970, when it is a file.
    pub modified_ns: Option<i64>,
    /// Number of its points.
    pub chunks: u32,
    /// How ingestion ended.
    pub state: DocumentState,
    /// When it was indexed (or failed), in microseconds since 1970.
    pub indexed_at_us: i64,
    /// The source that brought it, or empty.
    pub source_id: String,
}

/// How the last try to ingest a document ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DocumentState {
    /// Its points are searchable.
    Indexed,
    /// It could not be read; points of an older version, if any, stay.
    Failed {
        /// Why.
        reason: String,
    },
    /// It is of no use here (empty, not a readable format).
    Skipped {
        /// Why.
        reason: String,
    },
    /// Its content is that of another document, whose points stand for it. When that one goes or changes, the points
    /// become those of a document that is linked to it.
    Linked {
        /// The document that holds the points. The engine finds it by the content, whatever a writer says.
        to: String,
        /// What makes the payload of those points this document's: a JSON object whose fields replace those of the
        /// payload, or take them away where they are null.
        payload_patch: String,
    },
}

/// Hexadecimal digits of a version that say when a document has to be made again.
pub const VERSION_DIGITS: usize = 64;
/// Hexadecimal digits behind them that say which documents have the same content.
pub const CONTENT_DIGITS: usize = 32;

impl DocumentRecord {
    /// What documents of the same content have in common: made of the same bytes in the same way, their points differ only in
    /// where they come from. `None` where the version does not tell.
    pub fn content(&self) -> Option<u128> {
        let digits = self.version.get(VERSION_DIGITS..).filter(|digits| digits.len() == CONTENT_DIGITS)?;
        u128::from_str_radix(digits, 16).ok()
    }

    /// The document that holds its points, when that is another one.
    pub fn linked_to(&self) -> Option<&str> {
        match &self.state {
            DocumentState::Linked { to, .. } => Some(to),
            _ => None,
        }
    }
}
