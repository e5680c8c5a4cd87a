//! A segment: an immutable set of rows, and what is derived from them to search them.
//!
//! **Invariant:** Arrow row = vector row = tantivy DocId. **Invariant:** rows and vectors are the truth; ids, graphs and
//! keywords are derived, and one that is missing or damaged is built again from the rows: while the segment is opened when its
//! form is wrong, soon after when only its checksum is (see `collection::scrub`).

mod build;
mod expiry;
pub(crate) mod id_index;
mod open;
mod rows_file;
mod source;
mod verify;
mod write;

use std::path::PathBuf;

use bytes::Bytes;

pub(crate) use self::build::build_segment;
pub(crate) use self::open::open_segment;
pub(crate) use self::rows_file::{Decoded, SegmentBatch};
pub(crate) use self::source::{LiveRows, Part};
pub(crate) use self::verify::{Findings, verify_segment};
pub(crate) use self::write::SegmentPlan;

use self::expiry::ExpiryIndex;
use self::id_index::{IdIndex, hash_id};
use crate::file_format::FileKind;
use crate::keyword::SegmentKeywords;
use crate::rows::Rows;
use crate::vector::SegmentVectors;

const ROWS: FileKind = FileKind { magic: *b"SEGMROWS", version: 2, name: "segment rows" };
/// Since version 2 of the rows, which have the times.
const EXPIRY: FileKind = FileKind { magic: *b"SEGMEXPI", version: 1, name: "segment expiry" };
const IDS: FileKind = FileKind { magic: *b"SEGM_IDS", version: 1, name: "segment ids" };
const VECTORS: FileKind = FileKind { magic: *b"SEGMVECT", version: 1, name: "segment vectors" };
const PRESENT: FileKind = FileKind { magic: *b"SEGMPRES", version: 1, name: "rows with a vector" };
const GRAPH: FileKind = FileKind { magic: *b"SEGMGRPH", version: 1, name: "segment graph" };
const KEYWORDS: FileKind = FileKind { magic: *b"SEGMWORD", version: 1, name: "segment keywords" };

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its number; also the name of its folder.
    pub(crate) id: u64,
    /// Rows, deleted ones included.
    pub(crate) rows: u32,
    /// Size of its files.
    pub(crate) bytes: u64,
    batches: Vec<SegmentBatch>,
    /// First row of each batch, close together: they are looked through for every hit.
    bases: Box<[u32]>,
    ids: IdIndex,
    documents: IdIndex,
    expiry: ExpiryIndex,
    vectors: Vec<SegmentVectors>,
    /// The files behind `vectors`: f32, little-endian, row by row.
    vector_bytes: Vec<Bytes>,
    keywords: SegmentKeywords,
}

impl Segment {
    /// The row of a point id.
    pub(crate) fn row_of(&self, id: &str) -> Option<u32> {
        self.ids
            .rows_of(hash_id(id))
            .find(|row| self.locate(*row).is_some_and(|(rows, at)| rows.id(at) == id))
    }

    /// The rows of a document, deleted ones included.
    pub(crate) fn rows_of_document(&self, document_id: &str) -> Vec<u32> {
        let same =
            |row: &u32| self.locate(*row).is_some_and(|(rows, at)| rows.document_id(at) == Some(document_id));
        self.documents.rows_of(hash_id(document_id)).filter(same).collect()
    }

    /// At most `limit` pairs of id hash and row from `from` on, in order, of rows that pass.
    pub(crate) fn ordered(
        &self,
        from: (u64, u32),
        limit: usize,
        passes: impl Fn(u32) -> bool,
    ) -> Vec<(u64, u32)> {
        (self.ids.lower_bound(from.0)..self.ids.len())
            .map(|entry| (self.ids.hash(entry), self.ids.row(entry)))
            .filter(|entry| *entry >= from && passes(entry.1))
            .take(limit)
            .collect()
    }

    /// The columns of a row, and its place in them.
    pub(crate) fn locate(&self, row: u32) -> Option<(&Rows, usize)> {
        let (batch, offset) = self.batch_of(row)?;
        Some((&batch.rows, offset))
    }

    /// The batch of a row, and the row's place in it.
    pub(crate) fn batch_of(&self, row: u32) -> Option<(&Decoded, usize)> {
        let index = self.bases.partition_point(|base| *base <= row).checked_sub(1)?;
        let batch = self.batches.get(index)?;
        let offset = row - batch.base;
        // What can't be decoded was reported when it was met first.
        let decoded = (offset < batch.count).then(|| batch.decoded().ok()).flatten()?;
        Some((decoded, offset as usize))
    }

    /// The rows that expire.
    pub(crate) fn expiry(&self) -> &ExpiryIndex {
        &self.expiry
    }

    /// All batches, in row order.
    pub(crate) fn batches(&self) -> &[SegmentBatch] {
        &self.batches
    }

    /// The vectors of a space.
    pub(crate) fn vectors(&self, space: usize) -> Option<&SegmentVectors> {
        self.vectors.get(space)
    }

    /// The vectors of a space as they lie in their file; those of rows without one are of no meaning.
    pub(crate) fn vector_bytes(&self, space: usize) -> Option<&Bytes> {
        self.vector_bytes.get(space)
    }

    /// The words and payload fields.
    pub(crate) fn keywords(&self) -> &SegmentKeywords {
        &self.keywords
    }
}

/// Folder of a segment, relative to its collection.
pub(crate) fn segment_dir(id: u64) -> String {
    format!("segments/{id:012}")
}

/// Files of a segment.
#[derive(Debug, Clone)]
pub(crate) struct SegmentFiles {
    dir: String,
}

impl SegmentFiles {
    pub(crate) fn new(id: u64) -> Self {
        Self { dir: segment_dir(id) }
    }

    fn rows(&self) -> String {
        format!("{}/rows.arrow", self.dir)
    }

    fn ids(&self) -> String {
        format!("{}/ids", self.dir)
    }

    fn documents(&self) -> String {
        format!("{}/documents", self.dir)
    }

    fn expiry(&self) -> String {
        format!("{}/expiry", self.dir)
    }

    fn vectors(&self, space: &str) -> String {
        format!("{}/{space}.vectors", self.dir)
    }

    fn present(&self, space: &str) -> String {
        format!("{}/{space}.present", self.dir)
    }

    fn graph(&self, space: &str) -> String {
        format!("{}/{space}.graph", self.dir)
    }

    fn keywords(&self) -> String {
        format!("{}/keywords", self.dir)
    }
}

fn as_path(path: &str) -> PathBuf {
    PathBuf::from(path)
}
