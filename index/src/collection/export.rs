//! Export: every live row of one snapshot with all its columns, batch by batch. Later writes, seals and compactions
//! don't show: the snapshot keeps what it needs. Rows of segments that lie together are not copied on their way out.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use roaring::RoaringBitmap;

use crate::batch;
use crate::collection::Collection;
use crate::collection::also_at::{self, Links};
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
    /// Links that are still to come.
    links: Links,
    /// Schema of the rows without them.
    row_schema: SchemaRef,
}

impl Collection {
    /// Begins to export the points that pass, as they are now.
    pub fn export(&self, filter: Option<&Filter>) -> Result<Export> {
        let (snapshot, links) = self.current_with_links();
        let filter = snapshot.check(filter)?;
        let rows_of = |view: &PartView| Ok(view.allowed(filter.as_ref())?.unwrap_or_else(|| view.live()));
        let rest: Vec<RoaringBitmap> = snapshot.parts.iter().map(rows_of).collect::<Result<_>>()?;
        let rows = rest.iter().map(RoaringBitmap::len).sum();
        let row_schema = batch::arrow_schema(&snapshot.schema);
        Ok(Export { schema: links.schema(&row_schema), row_schema, links, snapshot, rest, part: 0, rows })
    }

    /// The columns of an export that began now: those of a batch, and `also_at` where documents are linked.
    pub fn export_schema(&self) -> SchemaRef {
        let rows = batch::arrow_schema(&self.schema());
        if self.ledger.read().has_copies() { also_at::schema(&rows) } else { rows }
    }

    /// What is there now, both of the same moment.
    fn current_with_links(&self) -> (Arc<Snapshot>, Links) {
        if !self.ledger.read().has_copies() {
            return (self.current(), Links::default());
        }
        // Between two writes.
        let mut state = self.state.lock();
        self.expire_if_due(&mut state);
        (self.snapshot.load_full(), Links::of(&self.ledger.read()))
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

    /// Schema of every batch: [`batch::arrow_schema`], and `also_at` where documents are linked.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch, at most [`EXPORT_BATCH_ROWS`] rows and about [`EXPORT_BATCH_BYTES`] bytes; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut pieces = Vec::new();
        let mut room = Room { rows: EXPORT_BATCH_ROWS, bytes: EXPORT_BATCH_BYTES };
        // What fills a batch goes as it is; what came in small writes, or passes a filter here and there, is put together.
        while room.rows > 0 && room.bytes > EXPORT_BATCH_BYTES / 2 {
            let Some(piece) = self.next_piece(&mut room)? else { break };
            pieces.push(piece);
        }
        let rows = match pieces.as_slice() {
            [] => return Ok(None),
            [one] => one.clone(),
            _ => concat_batches(&self.row_schema, &pieces).map_err(defect)?,
        };
        self.links.add(&rows, &self.schema).map(Some)
    }

    /// The next rows that lie together, as many as there is room for.
    fn next_piece(&mut self, room: &mut Room) -> Result<Option<RecordBatch>> {
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
            let chosen = piece.choose(rest, vector_bytes(&self.snapshot), room);
            let Some(last) = chosen.last().copied() else { return Ok(None) };
            let batch = piece.batch(&self.snapshot, view, &self.row_schema, &chosen)?;
            rest.remove_range(..=last);
            return Ok(Some(batch));
        }
        Ok(None)
    }
}

/// What a batch may still take.
struct Room {
    rows: usize,
    bytes: usize,
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

    /// As many of the wanted rows as there is room for. The first row of a batch has room whatever its size.
    fn choose(&self, wanted: &RoaringBitmap, vector_bytes: usize, room: &mut Room) -> Vec<u32> {
        let end = self.base.saturating_add(self.fixed.num_rows() as u32);
        let empty = room.rows == EXPORT_BATCH_ROWS;
        let mut chosen = Vec::new();
        for row in wanted.range(self.base..end).take(room.rows) {
            let at = (row - self.base) as usize;
            let strings = [self.rows.text(at), self.rows.payload(at), self.rows.title(at), self.rows.uri(at)];
            let bytes =
                ROW_BYTES + vector_bytes + strings.iter().flatten().map(|text| text.len()).sum::<usize>();
            if bytes > room.bytes && !(empty && chosen.is_empty()) {
                break;
            }
            room.bytes = room.bytes.saturating_sub(bytes);
            chosen.push(row);
        }
        room.rows -= chosen.len();
        chosen
    }

    fn batch(
        &self,
        snapshot: &Snapshot,
        view: &PartView,
        schema: &SchemaRef,
        chosen: &[u32],
    ) -> Result<RecordBatch> {
        let fixed = match dense(chosen) {
            Some(first) => self.fixed.slice((first - self.base) as usize, chosen.len()),
            None => {
                let places: UInt32Array = chosen.iter().map(|row| row - self.base).collect::<Vec<_>>().into();
                take_record_batch(&self.fixed, &places).map_err(defect)?
            }
        };
        let mut columns: Vec<ArrayRef> = fixed.columns().to_vec();
        for (space, definition) in snapshot.schema.vectors.iter().enumerate() {
            columns.push(vector_column(view, space, definition.dimension, chosen)?);
        }
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(defect)
    }
}

/// The first of some rows that are one behind the other.
fn dense(rows: &[u32]) -> Option<u32> {
    let (first, last) = (*rows.first()?, *rows.last()?);
    ((last - first) as usize + 1 == rows.len()).then_some(first)
}

/// The vectors of some rows, which are in order. Those of a segment that lie together are shown where they are mapped, not
/// copied.
pub(super) fn vector_column(view: &PartView, space: usize, dimension: u32, rows: &[u32]) -> Result<ArrayRef> {
    let width = dimension as usize;
    let (values, present) = match mapped(view, space, width, rows) {
        Some(values) => {
            let has = |row: &u32| view.with_vector(space, *row, |vector| vector.is_some());
            (values, rows.iter().map(has).collect())
        }
        None => copied(view, space, width, rows),
    };
    let DataType::FixedSizeList(item, length) = batch::vector_type(dimension) else {
        return Err(Error::Internal("a vector column is no list".into()));
    };
    let values = Arc::new(Float32Array::new(values, None));
    FixedSizeListArray::try_new(item, length, values, Some(NullBuffer::from(present)))
        .map(|list| Arc::new(list) as ArrayRef)
        .map_err(defect)
}

fn mapped(view: &PartView, space: usize, width: usize, rows: &[u32]) -> Option<ScalarBuffer<f32>> {
    let bytes = view.segment()?.vector_bytes(space)?;
    let vector = width.checked_mul(size_of::<f32>())?;
    let start = (dense(rows)? as usize).checked_mul(vector)?;
    let end = start.checked_add(rows.len().checked_mul(vector)?)?;
    let readable = end <= bytes.len() && bytes.as_ptr().align_offset(align_of::<f32>()) == 0;
    let readable = readable && cfg!(target_endian = "little");
    readable.then(|| ScalarBuffer::new(Buffer::from(bytes.slice(start..end)), 0, rows.len() * width))
}

fn copied(view: &PartView, space: usize, width: usize, rows: &[u32]) -> (ScalarBuffer<f32>, Vec<bool>) {
    let mut values = Vec::with_capacity(rows.len() * width);
    let mut present = Vec::with_capacity(rows.len());
    for (count, row) in rows.iter().enumerate() {
        view.with_vector(space, *row, |vector| {
            present.push(vector.is_some());
            values.extend_from_slice(vector.unwrap_or_default());
        });
        values.resize((count + 1) * width, 0.0);
    }
    (values.into(), present)
}

pub(super) fn defect(error: arrow::error::ArrowError) -> Error {
    Error::Internal(error.to_string())
}
