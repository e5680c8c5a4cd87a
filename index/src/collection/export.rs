//! Export: every live row of one snapshot with all its columns, batch by batch. Later writes, seals and compactions
//! don't show: the snapshot keeps what it needs.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, SchemaRef};
use roaring::RoaringBitmap;

use crate::batch;
use crate::collection::Collection;
use crate::collection::snapshot::{PartView, Snapshot};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::rows::Rows;
use crate::segment::Part;

/// Rows of an exported batch, at most.
pub const EXPORT_BATCH_ROWS: usize = 8_192;
/// Bytes of an exported batch, roughly; a batch of one row may have more.
pub const EXPORT_BATCH_BYTES: usize = 2 << 20;
/// Bytes that a row has beside its strings and vectors, roughly.
const ROW_BYTES: usize = 64;

/// An export under way. Dropping it ends it.
#[derive(Debug)]
pub struct Export {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
    /// Rows that are still to come, by part.
    rest: Vec<RoaringBitmap>,
    part: usize,
    rows: u64,
}

impl Collection {
    /// Begins to export the points that pass, as they are now.
    pub fn export(&self, filter: Option<&Filter>) -> Result<Export> {
        let snapshot = self.current();
        let filter = snapshot.check(filter)?;
        let rows_of = |view: &PartView| Ok(view.allowed(filter.as_ref())?.unwrap_or_else(|| view.live()));
        let rest: Vec<RoaringBitmap> = snapshot.parts.iter().map(rows_of).collect::<Result<_>>()?;
        let rows = rest.iter().map(RoaringBitmap::len).sum();
        Ok(Export { schema: batch::arrow_schema(&snapshot.schema), snapshot, rest, part: 0, rows })
    }
}

impl Export {
    /// Rows of the whole export.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The write up to which everything is in it.
    pub fn seq_no(&self) -> u64 {
        self.snapshot.seq_no
    }

    /// Schema of every batch: [`batch::arrow_schema`].
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch, at most [`EXPORT_BATCH_ROWS`] rows and about [`EXPORT_BATCH_BYTES`] bytes; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        while let Some(rest) = self.rest.get_mut(self.part) {
            let Some(first) = rest.min() else {
                self.part += 1;
                continue;
            };
            let view = self
                .snapshot
                .parts
                .get(self.part)
                .ok_or_else(|| Error::Internal(format!("part {} is not there", self.part)))?;
            let piece = Piece::around(view, first)?;
            let chosen = piece.choose(rest, vector_bytes(&self.snapshot));
            let last = chosen.last().copied().unwrap_or(first);
            let batch = piece.batch(&self.snapshot, view, &self.schema, &chosen)?;
            rest.remove_range(..=last);
            return Ok(Some(batch));
        }
        Ok(None)
    }
}

fn vector_bytes(snapshot: &Snapshot) -> usize {
    snapshot.schema.vectors.iter().map(|space| space.dimension as usize * size_of::<f32>()).sum()
}

/// A stored batch of a part.
struct Piece {
    base: u32,
    fixed: RecordBatch,
    rows: Rows,
}

impl Piece {
    /// The one that a row lies in.
    fn around(view: &PartView, row: u32) -> Result<Self> {
        let missing = || Error::Internal(format!("row {row} is not there"));
        match &view.part {
            Part::Segment(segment) => {
                let batches = segment.batches();
                let index = batches.partition_point(|batch| batch.base <= row).checked_sub(1);
                let batch = index.and_then(|index| batches.get(index)).ok_or_else(missing)?;
                let decoded = batch.decoded()?;
                Ok(Self { base: batch.base, fixed: decoded.batch.clone(), rows: decoded.rows.clone() })
            }
            Part::Memtable(table) => {
                let (batch, _) = table.locate(row).ok_or_else(missing)?;
                Ok(Self { base: batch.base, fixed: batch.batch.clone(), rows: batch.rows.clone() })
            }
        }
    }

    /// As many of the wanted rows as fit one batch, at least one.
    fn choose(&self, wanted: &RoaringBitmap, vector_bytes: usize) -> Vec<u32> {
        let end = self.base.saturating_add(self.fixed.num_rows() as u32);
        let mut bytes = 0;
        let mut chosen = Vec::new();
        for row in wanted.range(self.base..end).take(EXPORT_BATCH_ROWS) {
            let at = (row - self.base) as usize;
            let strings = [self.rows.text(at), self.rows.payload(at), self.rows.title(at), self.rows.uri(at)];
            bytes +=
                ROW_BYTES + vector_bytes + strings.iter().flatten().map(|text| text.len()).sum::<usize>();
            if bytes > EXPORT_BATCH_BYTES && !chosen.is_empty() {
                break;
            }
            chosen.push(row);
        }
        chosen
    }

    fn batch(
        &self,
        snapshot: &Snapshot,
        view: &PartView,
        schema: &SchemaRef,
        chosen: &[u32],
    ) -> Result<RecordBatch> {
        let arrow = |error: arrow::error::ArrowError| Error::Internal(error.to_string());
        let places: UInt32Array = chosen.iter().map(|row| row - self.base).collect::<Vec<_>>().into();
        let fixed = take_record_batch(&self.fixed, &places).map_err(arrow)?;
        let mut columns: Vec<ArrayRef> = fixed.columns().to_vec();
        for (space, definition) in snapshot.schema.vectors.iter().enumerate() {
            columns.push(vector_column(view, space, definition.dimension, chosen)?);
        }
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(arrow)
    }
}

/// The vectors of some rows.
pub(super) fn vector_column(view: &PartView, space: usize, dimension: u32, rows: &[u32]) -> Result<ArrayRef> {
    let width = dimension as usize;
    let mut values = Vec::with_capacity(rows.len() * width);
    let mut present = Vec::with_capacity(rows.len());
    for (count, row) in rows.iter().enumerate() {
        view.with_vector(space, *row, |vector| {
            present.push(vector.is_some());
            values.extend_from_slice(vector.unwrap_or_default());
        });
        values.resize((count + 1) * width, 0.0);
    }
    let DataType::FixedSizeList(item, length) = batch::vector_type(dimension) else {
        return Err(Error::Internal("a vector column is no list".into()));
    };
    let values = Arc::new(Float32Array::from(values));
    FixedSizeListArray::try_new(item, length, values, Some(NullBuffer::from(present)))
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(|error| Error::Internal(error.to_string()))
}
