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
    /// Hash of content, metadata and pipeline version; equal means that nothing has to be done again.
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
}
