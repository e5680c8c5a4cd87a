//! Where the rows of a new segment come from: live rows of a memtable (seal) or of older segments (compaction).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::segment::Segment;

/// Rows of a batch in the file of a new segment, at most.
const FILE_BATCH_ROWS: usize = 8_192;
/// Bytes of a batch in the file of a new segment, roughly at most: far below the 2 GiB of a Utf8 column.
const FILE_BATCH_BYTES: usize = 32 << 20;

/// Rows of vectors after which the memory of mapped ones is given back.
const RELEASE_ROWS: u32 = 8_192;

/// A memtable or a segment.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Rows in memory.
    Memtable(Arc<Memtable>),
    /// Rows on disk.
    Segment(Arc<Segment>),
}

impl Part {
    /// Hands every batch with the number of its first row to `visit`.
    fn each_batch(&self, visit: &mut dyn FnMut(u32, &RecordBatch) -> Result<()>) -> Result<()> {
        match self {
            Self::Memtable(table) => {
                table.batches().iter().try_for_each(|batch| visit(batch.base, &batch.batch))
            }
            Self::Segment(segment) => {
                segment.batches().iter().try_for_each(|batch| visit(batch.base, &batch.decoded()?.batch))
            }
        }
    }

    /// Gives back the memory of mapped vectors.
    fn release(&self, space: usize, rows: Range<u32>) {
        if let Self::Segment(segment) = self
            && let Some(vectors) = segment.vectors(space)
        {
            vectors.release(rows);
        }
    }

    /// Calls `use_vector` with the vector of a row.
    pub(crate) fn with_vector<R>(
        &self,
        space: usize,
        row: u32,
        use_vector: impl FnOnce(Option<&[f32]>) -> R,
    ) -> R {
        match self {
            Self::Memtable(table) => {
                let vector = table.vectors(space).and_then(|vectors| vectors.vector(row));
                use_vector(vector.as_deref())
            }
            Self::Segment(segment) => {
                use_vector(segment.vectors(space).and_then(|vectors| vectors.vector(row)))
            }
        }
    }
}

/// The live rows of some parts, one part behind the other: the rows of the segment to be.
#[derive(Debug, Clone)]
pub(crate) struct LiveRows {
    parts: Vec<(Part, RoaringBitmap)>,
}

impl LiveRows {
    /// Parts with their live rows.
    pub(crate) fn new(parts: Vec<(Part, RoaringBitmap)>) -> Self {
        Self { parts }
    }

    /// The first part and its live rows, if it is a segment.
    pub(crate) fn first_segment(&self) -> Option<(&Segment, &RoaringBitmap)> {
        match self.parts.first()? {
            (Part::Segment(segment), live) => Some((segment, live)),
            (Part::Memtable(_), _) => None,
        }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|(_, live)| live.len()).sum()
    }

    /// The row of the new segment that a part's row became; `None` for a row that wasn't live.
    pub(crate) fn new_row(&self, part: usize, row: u32) -> Option<u32> {
        let (_, live) = self.parts.get(part)?;
        if !live.contains(row) {
            return None;
        }
        let before: u64 = self.parts.iter().take(part).map(|(_, live)| live.len()).sum();
        u32::try_from(before + live.rank(row) - 1).ok()
    }

    /// Hands the rows to `visit` in batches of a size that suits a file.
    pub(crate) fn each_batch(&self, visit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let mut pending = Pending::default();
        for (part, live) in &self.parts {
            part.each_batch(&mut |base, batch| {
                let count = match batch.num_rows() {
                    0 => 0,
                    rows => live.range_cardinality(base..=base + (rows as u32 - 1)),
                };
                if count == 0 {
                    return Ok(());
                }
                let kept = if count == batch.num_rows() as u64 {
                    batch.clone()
                } else {
                    let mask = BooleanArray::from_iter(
                        (base..).take(batch.num_rows()).map(|row| Some(live.contains(row))),
                    );
                    filter_record_batch(batch, &mask).map_err(|error| Error::Internal(error.to_string()))?
                };
                pending.push(kept, visit)
            })?;
        }
        pending.flush(visit)
    }

    /// Hands the vector of every row to `visit`, in order. The memory that mapped vectors take is given back on the way, or
    /// a merge would count all of its inputs.
    pub(crate) fn each_vector(
        &self,
        space: usize,
        visit: &mut dyn FnMut(Option<&[f32]>) -> Result<()>,
    ) -> Result<()> {
        for (part, live) in &self.parts {
            let mut released = 0;
            for row in live {
                part.with_vector(space, row, &mut *visit)?;
                if row - released >= RELEASE_ROWS {
                    part.release(space, released..row);
                    released = row;
                }
            }
            part.release(space, released..u32::MAX);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Pending {
    fn push(&mut self, batch: RecordBatch, visit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        use arrow::array::Array as _;
        let bytes: usize =
            batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
        if self.rows > 0
            && (self.rows + batch.num_rows() > FILE_BATCH_ROWS || self.bytes + bytes > FILE_BATCH_BYTES)
        {
            self.flush(visit)?;
        }
        self.rows += batch.num_rows();
        self.bytes += bytes;
        self.batches.push(batch);
        Ok(())
    }

    fn flush(&mut self, visit: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        (self.rows, self.bytes) = (0, 0);
        match batches.as_slice() {
            [] => Ok(()),
            [first, ..] => {
                let whole = concat_batches(&first.schema(), &batches)
                    .map_err(|error| Error::Internal(error.to_string()))?;
                visit(whole)
            }
        }
    }
}
