//! The memtable: rows that are in the log and not yet in a segment, searchable from the moment they are applied.
//!
//! One writer (whoever holds the commit lock) appends; readers see a prefix of rows that their snapshot names, so a
//! change of several rows appears in one step. Nothing is ever removed: deleted rows are bits of the snapshot.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, RecordBatch};
use parking_lot::RwLock;
use roaring::RoaringBitmap;

use crate::background::give_way_within;
use crate::batch;
use crate::error::{Error, Result};
use crate::keyword::{IndexedText, MemPostings};
use crate::payload::{CheckedFilter, RowOrigin, TypedRow};
use crate::rows::{Rows, VectorRows};
use crate::schema::CollectionSchema;
use crate::segment::id_index::hash_id;
use crate::validate::ValidBatch;
use crate::vector::{LIVE_GRAPH_MIN_ROWS, LiveVectors};

/// No row.
const NONE: u32 = u32::MAX;
/// Bytes that a row costs beside its columns and vectors: ids in maps, postings' fixed part.
const ROW_OVERHEAD: usize = 256;

/// A batch of rows as it was written.
#[derive(Debug)]
pub(crate) struct MemBatch {
    /// Row number of its first row.
    pub(crate) base: u32,
    /// The canonical columns but the vectors.
    pub(crate) batch: RecordBatch,
    /// Its columns, downcast.
    pub(crate) rows: Rows,
    /// The payload of each row.
    pub(crate) typed: Vec<TypedRow>,
}

/// Rows that are not yet in a segment.
#[derive(Debug)]
pub(crate) struct Memtable {
    batches: RwLock<Vec<Arc<MemBatch>>>,
    lookup: RwLock<Lookup>,
    vectors: Vec<LiveVectors>,
    postings: MemPostings,
    bytes: AtomicUsize,
    rows: AtomicUsize,
}

#[derive(Debug, Default)]
struct Lookup {
    /// Newest row of a point id.
    ids: HashMap<Box<str>, u32>,
    /// Row before with the same point id, or `NONE`.
    previous: Vec<u32>,
    documents: HashMap<Box<str>, Vec<u32>>,
    /// (hash of the id, row): the order of scrolling.
    order: BTreeSet<(u64, u32)>,
    /// (milliseconds since 1970, row) of the rows that expire.
    expiry: BTreeSet<(i64, u32)>,
}

impl Memtable {
    /// An empty one.
    pub(crate) fn new(schema: &CollectionSchema) -> Self {
        let vectors = schema
            .vectors
            .iter()
            .map(|space| LiveVectors::new(space.distance, space.dimension as usize))
            .collect();
        Self {
            batches: RwLock::default(),
            lookup: RwLock::default(),
            vectors,
            postings: MemPostings::new(),
            bytes: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
        }
    }

    /// Rows appended, deleted ones included.
    pub(crate) fn len(&self) -> u32 {
        self.rows.load(Ordering::Acquire) as u32
    }

    /// Memory that its rows take, roughly: what lies beside the vectors, their codes and the live graph.
    pub(crate) fn bytes(&self) -> usize {
        let vectors: usize = self.vectors.iter().map(LiveVectors::memory_bytes).sum();
        self.bytes.load(Ordering::Relaxed) + vectors
    }

    /// Appends rows; they stay invisible until a snapshot names them. Only one caller at a time.
    pub(crate) fn append(&self, valid: ValidBatch) -> Result<()> {
        let ValidBatch { batch, typed, .. } = valid;
        let base = self.len();
        let count = batch.num_rows();
        let rows = Rows::new(&batch)?;
        for (live, column) in self.vectors.iter().zip(batch.columns().iter().skip(batch::FIXED_COLUMNS)) {
            let vectors = VectorRows::new(column, batch::VECTOR_PREFIX)?;
            let views: Vec<Option<&[f32]>> = (0..count).map(|row| vectors.get(row)).collect();
            live.append(&views);
            give_way_within(count);
        }
        let mut postings = self.postings.appender();
        for row in 0..count {
            let headings = rows.heading_path(row);
            let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
            postings.append(&IndexedText {
                title: rows.title(row),
                heading_path: &headings,
                text: rows.text(row),
            });
        }
        give_way_within(count);
        {
            let mut lookup = self.lookup.write();
            for (offset, number) in (base..).take(count).enumerate() {
                lookup.insert(rows.id(offset), rows.document_id(offset), number);
            }
            lookup.expiry.extend(rows.expiring().map(|(time, offset)| (time, base + offset as u32)));
        }
        let text_bytes = (0..count).map(|row| rows.text(row).map_or(0, str::len)).sum::<usize>();
        // Vectors live in `LiveVectors` alone; a second copy here would double the memtable.
        let fixed: Vec<usize> = (0..batch::FIXED_COLUMNS).collect();
        let batch = batch.project(&fixed).map_err(|error| Error::Internal(error.to_string()))?;
        let bytes: usize =
            batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        self.bytes.fetch_add(bytes + text_bytes + count * ROW_OVERHEAD, Ordering::Relaxed);
        self.batches.write().push(Arc::new(MemBatch { base, batch, rows, typed }));
        self.rows.store(base as usize + count, Ordering::Release);
        Ok(())
    }

    /// The newest row below `visible` with this point id, deleted or not.
    pub(crate) fn row_of(&self, id: &str, visible: u32) -> Option<u32> {
        let lookup = self.lookup.read();
        let mut row = *lookup.ids.get(id)?;
        while row >= visible {
            row = *lookup.previous.get(row as usize)?;
            if row == NONE {
                return None;
            }
        }
        Some(row)
    }

    /// Rows below `visible` of a document, deleted ones included.
    pub(crate) fn rows_of_document(&self, document_id: &str, visible: u32) -> Vec<u32> {
        let lookup = self.lookup.read();
        let rows = lookup.documents.get(document_id).map(Vec::as_slice).unwrap_or_default();
        rows.iter().copied().filter(|row| *row < visible).collect()
    }

    /// At most `limit` pairs of id hash and row from `from` on, in order, of rows below `visible` that pass.
    pub(crate) fn ordered(
        &self,
        from: (u64, u32),
        visible: u32,
        limit: usize,
        passes: impl Fn(u32) -> bool,
    ) -> Vec<(u64, u32)> {
        let lookup = self.lookup.read();
        let wanted = |entry: &&(u64, u32)| entry.1 < visible && passes(entry.1);
        lookup.order.range(from..).filter(wanted).take(limit).copied().collect()
    }

    /// Rows that expire behind `after` and not behind `until`.
    pub(crate) fn expiring_between(&self, after: i64, until: i64) -> Vec<u32> {
        let lookup = self.lookup.read();
        let range = (Bound::Excluded((after, u32::MAX)), Bound::Included((until, u32::MAX)));
        lookup.expiry.range(range).map(|(_, row)| *row).collect()
    }

    /// When the first row behind `after` expires.
    pub(crate) fn next_expiry(&self, after: i64) -> Option<i64> {
        let range = (Bound::Excluded((after, u32::MAX)), Bound::Unbounded);
        self.lookup.read().expiry.range(range).next().map(|(time, _)| *time)
    }

    /// The batch of a row, and the row's place in it.
    pub(crate) fn locate(&self, row: u32) -> Option<(Arc<MemBatch>, usize)> {
        let batches = self.batches.read();
        let index = batches.partition_point(|batch| batch.base <= row).checked_sub(1)?;
        let batch = batches.get(index)?;
        let offset = (row - batch.base) as usize;
        (offset < batch.batch.num_rows()).then(|| (Arc::clone(batch), offset))
    }

    /// All batches, in row order.
    pub(crate) fn batches(&self) -> Vec<Arc<MemBatch>> {
        self.batches.read().clone()
    }

    /// Rows below `visible` that pass a filter.
    pub(crate) fn filter(&self, filter: &CheckedFilter, visible: u32) -> RoaringBitmap {
        let mut passed = RoaringBitmap::new();
        for batch in self.batches() {
            for (row, (offset, typed)) in (batch.base..visible).zip(batch.typed.iter().enumerate()) {
                if filter.matches(batch.rows.id(offset), typed, &row_origin(&batch.rows, offset)) {
                    passed.insert(row);
                }
            }
        }
        passed
    }

    /// The live vectors of a space.
    pub(crate) fn vectors(&self, space: usize) -> Option<&LiveVectors> {
        self.vectors.get(space)
    }

    /// The live vectors of all spaces.
    pub(crate) fn all_vectors(&self) -> &[LiveVectors] {
        &self.vectors
    }

    /// Whether the live graph has reason to grow; below that a scan is as fast.
    pub(crate) fn wants_feeding(&self) -> bool {
        self.vectors.iter().any(|vectors| vectors.len() >= LIVE_GRAPH_MIN_ROWS)
    }

    /// The words.
    pub(crate) fn postings(&self) -> &MemPostings {
        &self.postings
    }
}

impl Lookup {
    fn insert(&mut self, id: &str, document_id: Option<&str>, row: u32) {
        self.order.insert((hash_id(id), row));
        let previous = match self.ids.get_mut(id) {
            Some(newest) => std::mem::replace(newest, row),
            None => {
                self.ids.insert(id.into(), row);
                NONE
            }
        };
        self.previous.push(previous);
        if let Some(document_id) = document_id {
            match self.documents.get_mut(document_id) {
                Some(rows) => rows.push(row),
                None => {
                    self.documents.insert(document_id.into(), vec![row]);
                }
            }
        }
    }
}

/// The built-in fields of a row.
pub(crate) fn row_origin(rows: &Rows, row: usize) -> RowOrigin<'_> {
    RowOrigin {
        document_id: rows.document_id(row),
        uri: rows.uri(row),
        title: rows.title(row),
        media_type: rows.media_type(row),
        page: rows.page(row),
        chunk_index: rows.chunk_index(row),
    }
}
