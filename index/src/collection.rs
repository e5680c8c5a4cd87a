//! A collection: the write path, the read path and the background work over one log and one manifest.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::document::DocumentRecord;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::schema::{CollectionSchema, PayloadField};
use crate::search::{PointData, SearchRequest, SearchResponse, Select};
use crate::write::{WriteReceipt, WriteRequest};

/// A collection that is open.
#[derive(Debug)]
pub struct Collection {}

/// What may change in a schema.
#[derive(Debug, Clone, Default)]
pub struct SchemaUpdate {
    /// Fields that join.
    pub add_payload: Vec<PayloadField>,
    /// New description.
    pub description: Option<String>,
    /// New setting.
    pub dynamic_payload: Option<bool>,
}

/// A page of points in a stable order.
#[derive(Debug, Clone)]
pub struct ScrollRequest {
    /// Passes the points wanted.
    pub filter: Option<Filter>,
    /// Points of a page, 1 to 10,000.
    pub limit: usize,
    /// [`ScrollPage::next`] of the page before.
    pub after: Option<String>,
    /// What the points carry.
    pub select: Select,
}

/// A page of points.
#[derive(Debug, Clone, Default)]
pub struct ScrollPage {
    /// The points.
    pub points: Vec<PointData>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

/// Counts and sizes.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "counts and bytes of what they name")]
pub struct CollectionStats {
    pub points: u64,
    pub documents: u64,
    pub documents_failed: u64,
    pub seq_no: u64,
    pub memtable_points: u64,
    pub memtable_bytes: u64,
    pub log_bytes: u64,
    pub disk_bytes: u64,
    pub segments: Vec<SegmentStats>,
}

/// Counts and sizes of a segment.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "counts and bytes of what they name")]
pub struct SegmentStats {
    pub id: u64,
    pub rows: u64,
    pub deleted_rows: u64,
    pub bytes: u64,
    /// By vector space: "graph" or "exact".
    pub vector_index: Vec<(String, &'static str)>,
}

/// What a compaction did.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "counts of what they name")]
pub struct CompactionReport {
    pub segments_before: u64,
    pub segments_after: u64,
    pub reclaimed_rows: u64,
}

impl Collection {
    /// Its name.
    pub fn name(&self) -> &str {
        ""
    }

    /// Its schema now.
    pub fn schema(&self) -> Result<Arc<CollectionSchema>> {
        Err(Error::Internal("open".into()))
    }

    /// Changes the schema; durable when it returns.
    pub fn update_schema(&self, _update: SchemaUpdate) -> Result<Arc<CollectionSchema>> {
        Err(Error::Internal("open".into()))
    }

    /// Writes; on return the changes are on disk and visible. Blocks while the log is flushed.
    pub fn write(&self, _request: WriteRequest) -> Result<WriteReceipt> {
        Err(Error::Internal("open".into()))
    }

    /// Sequence number of the newest visible write.
    pub fn seq_no(&self) -> u64 {
        0
    }

    /// Searches one snapshot.
    pub fn search(&self, _request: &SearchRequest) -> Result<SearchResponse> {
        Err(Error::Internal("open".into()))
    }

    /// The points of these ids that exist, in the order asked.
    pub fn get(&self, _ids: &[String], _select: &Select, _min_seq_no: Option<u64>) -> Result<Vec<PointData>> {
        Err(Error::Internal("open".into()))
    }

    /// A page of points.
    pub fn scroll(&self, _request: &ScrollRequest) -> Result<ScrollPage> {
        Err(Error::Internal("open".into()))
    }

    /// Number of points that pass.
    pub fn count(&self, _filter: Option<&Filter>) -> Result<u64> {
        Err(Error::Internal("open".into()))
    }

    /// All points of a document with every column of [`crate::batch::arrow_schema`], in chunk order.
    pub fn document_points(&self, _document_id: &str) -> Result<RecordBatch> {
        Err(Error::Internal("open".into()))
    }

    /// A document's record.
    pub fn document(&self, _id: &str) -> Option<DocumentRecord> {
        None
    }

    /// Records in id order whose id starts with `prefix`, behind `after`.
    pub fn documents(&self, _prefix: &str, _after: Option<&str>, _limit: usize) -> Vec<DocumentRecord> {
        Vec::new()
    }

    /// All records that a source brought, in id order.
    pub fn documents_of_source(&self, _source_id: &str) -> Vec<DocumentRecord> {
        Vec::new()
    }

    /// A ledger entry.
    pub fn ledger(&self, _key: &str) -> Option<Vec<u8>> {
        None
    }

    /// Ledger entries whose key starts with `prefix`, in key order.
    pub fn ledger_prefix(&self, _prefix: &str) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    /// Seals the memtable and waits until its segment is on disk. Returns the number of segments.
    pub fn flush(&self) -> Result<u64> {
        Err(Error::Internal("open".into()))
    }

    /// Merges all segments into one, without deleted rows, and waits for it.
    pub fn compact(&self) -> Result<CompactionReport> {
        Err(Error::Internal("open".into()))
    }

    /// Counts and sizes.
    pub fn stats(&self) -> CollectionStats {
        CollectionStats::default()
    }
}
