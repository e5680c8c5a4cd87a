//! What a reader sees: parts (segments, then memtables from old to new), how many of their rows, and which are deleted.
//!
//! **Invariant:** of all rows with one point id, at most one is live in a snapshot.

use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::memtable::{MemBatch, Memtable};
use crate::payload::{CheckedFilter, check_filter};
use crate::rows::Rows;
use crate::schema::CollectionSchema;
use crate::segment::{Part, Segment};

/// A part as a snapshot sees it.
#[derive(Debug, Clone)]
pub(crate) struct PartView {
    /// The data.
    pub(crate) part: Part,
    /// Rows below this number are visible.
    pub(crate) rows: u32,
    /// Rows that are not live any more.
    pub(crate) deleted: Arc<RoaringBitmap>,
    /// Those of them that nothing but the clock ended.
    pub(crate) expired: Arc<RoaringBitmap>,
    /// Rows that expire up to here are among them.
    expired_until: i64,
}

/// A consistent view of a collection.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// Every write up to this one is in it.
    pub(crate) seq_no: u64,
    /// The schema at that moment.
    pub(crate) schema: Arc<CollectionSchema>,
    /// Segments, then memtables from old to new.
    pub(crate) parts: Vec<PartView>,
    /// From this time on some of its rows are no more.
    pub(crate) next_expiry: Option<i64>,
}

/// The columns of one row, wherever they are.
pub(crate) enum RowRef<'a> {
    /// In a segment.
    Segment(&'a Rows, usize),
    /// In a memtable.
    Memtable(Arc<MemBatch>, usize),
}

impl RowRef<'_> {
    /// The columns, and the row's place in them.
    pub(crate) fn get(&self) -> (&Rows, usize) {
        match self {
            Self::Segment(rows, at) => (rows, *at),
            Self::Memtable(batch, at) => (&batch.rows, *at),
        }
    }

    /// The point id.
    pub(crate) fn id(&self) -> &str {
        let (rows, at) = self.get();
        rows.id(at)
    }
}

impl PartView {
    /// A new part of which everything is live.
    pub(crate) fn new(part: Part, rows: u32) -> Self {
        Self { part, rows, deleted: Arc::default(), expired: Arc::default(), expired_until: i64::MIN }
    }

    /// The segment, when it is one.
    pub(crate) fn segment(&self) -> Option<&Arc<Segment>> {
        match &self.part {
            Part::Segment(segment) => Some(segment),
            Part::Memtable(_) => None,
        }
    }

    /// The memtable, when it is one.
    pub(crate) fn memtable(&self) -> Option<&Arc<Memtable>> {
        match &self.part {
            Part::Segment(_) => None,
            Part::Memtable(table) => Some(table),
        }
    }

    /// Whether this part is that memtable.
    pub(crate) fn is_memtable(&self, table: &Arc<Memtable>) -> bool {
        self.memtable().is_some_and(|own| Arc::ptr_eq(own, table))
    }

    /// Ends the rows that expire up to `now`. Returns all rows that newly did, those that were deleted before included.
    pub(crate) fn expire(&mut self, now: i64) -> Vec<u32> {
        if now <= self.expired_until {
            return Vec::new();
        }
        let mut passed = match &self.part {
            Part::Segment(segment) => segment.expiry().between(self.expired_until, now),
            Part::Memtable(table) => table.expiring_between(self.expired_until, now),
        };
        passed.retain(|row| *row < self.rows);
        let fresh: Vec<u32> = passed.iter().copied().filter(|row| !self.deleted.contains(*row)).collect();
        if !fresh.is_empty() {
            Arc::make_mut(&mut self.deleted).extend(fresh.iter().copied());
            Arc::make_mut(&mut self.expired).extend(fresh);
        }
        self.expired_until = now;
        passed
    }

    /// Rows were added that expire from `time` on, which may have passed.
    pub(crate) fn look_at_expiry_from(&mut self, time: i64) {
        self.expired_until = self.expired_until.min(time.saturating_sub(1));
    }

    /// When the next row expires.
    pub(crate) fn next_expiry(&self) -> Option<i64> {
        match &self.part {
            Part::Segment(segment) => segment.expiry().next(self.expired_until),
            Part::Memtable(table) => table.next_expiry(self.expired_until),
        }
    }

    /// Number of live rows.
    pub(crate) fn live_len(&self) -> u64 {
        u64::from(self.rows).saturating_sub(self.deleted.len())
    }

    /// Rows that are live.
    pub(crate) fn live(&self) -> RoaringBitmap {
        let mut live = RoaringBitmap::new();
        live.insert_range(0..self.rows);
        live -= &*self.deleted;
        live
    }

    /// Whether a row is visible and live.
    pub(crate) fn is_live(&self, row: u32) -> bool {
        row < self.rows && !self.deleted.contains(row)
    }

    /// The live row of a point id.
    pub(crate) fn live_row_of(&self, id: &str) -> Option<u32> {
        let row = match &self.part {
            Part::Segment(segment) => segment.row_of(id),
            Part::Memtable(table) => table.row_of(id, self.rows),
        };
        row.filter(|row| self.is_live(*row))
    }

    /// The live rows of a document.
    pub(crate) fn live_rows_of_document(&self, document_id: &str) -> Vec<u32> {
        let mut rows = match &self.part {
            Part::Segment(segment) => segment.rows_of_document(document_id),
            Part::Memtable(table) => table.rows_of_document(document_id, self.rows),
        };
        rows.retain(|row| self.is_live(*row));
        rows
    }

    /// The columns of a row.
    pub(crate) fn row(&self, row: u32) -> Result<RowRef<'_>> {
        let found = match &self.part {
            Part::Segment(segment) => segment.locate(row).map(|(rows, at)| RowRef::Segment(rows, at)),
            Part::Memtable(table) => table.locate(row).map(|(batch, at)| RowRef::Memtable(batch, at)),
        };
        found.ok_or_else(|| Error::Internal(format!("row {row} is not there")))
    }

    /// Calls `use_vector` with the vector of a row.
    pub(crate) fn with_vector<R>(
        &self,
        space: usize,
        row: u32,
        use_vector: impl FnOnce(Option<&[f32]>) -> R,
    ) -> R {
        self.part.with_vector(space, row, use_vector)
    }

    /// The vector of a row.
    pub(crate) fn vector(&self, space: usize, row: u32) -> Option<Vec<f32>> {
        match &self.part {
            Part::Segment(segment) => segment.vectors(space)?.vector(row).map(<[f32]>::to_vec),
            Part::Memtable(table) => table.vectors(space)?.vector(row),
        }
    }

    /// Live rows that pass a filter; `None` when every row of the part does, which needs no bitmap.
    pub(crate) fn allowed(&self, filter: Option<&CheckedFilter>) -> Result<Option<RoaringBitmap>> {
        let Some(filter) = filter.filter(|filter| !filter.is_empty()) else {
            return Ok((!self.deleted.is_empty()).then(|| self.live()));
        };
        let mut passed = match &self.part {
            Part::Segment(segment) => segment.keywords().filter(filter)?,
            Part::Memtable(table) => table.filter(filter, self.rows),
        };
        passed -= &*self.deleted;
        Ok(Some(passed))
    }
}

impl Snapshot {
    /// Whether rows that it takes for live have expired.
    pub(crate) fn is_outlived(&self, clock: &Clock) -> bool {
        self.next_expiry.is_some_and(|next| next <= clock.now_ms())
    }

    /// The same without the rows that expire up to `now`.
    pub(crate) fn expired(&self, now: i64) -> Self {
        let mut later = self.clone();
        for view in &mut later.parts {
            view.expire(now);
        }
        later.next_expiry = next_expiry(&later.parts);
        later
    }

    /// Whether it has a write, if one is named.
    ///
    /// # Errors
    /// [`Error::NotVisible`] when it does not.
    pub(crate) fn check_visible(&self, min_seq_no: Option<u64>) -> Result<()> {
        match min_seq_no {
            Some(wanted) if wanted > self.seq_no => Err(Error::NotVisible { wanted, visible: self.seq_no }),
            _ => Ok(()),
        }
    }

    /// Number of live points.
    pub(crate) fn live_len(&self) -> u64 {
        self.parts.iter().map(PartView::live_len).sum()
    }

    /// Where the live row of a point id is.
    pub(crate) fn find(&self, id: &str) -> Option<(usize, u32)> {
        // Newest first: that is where an id is most likely looked for.
        let found = |(index, view): (usize, &PartView)| view.live_row_of(id).map(|row| (index, row));
        self.parts.iter().enumerate().rev().find_map(found)
    }

    /// Checks a filter against the schema of this snapshot.
    pub(crate) fn check(&self, filter: Option<&Filter>) -> Result<Option<CheckedFilter>> {
        filter.map(|filter| check_filter(filter, &self.schema)).transpose()
    }
}

/// When the next row of some parts expires.
pub(crate) fn next_expiry(parts: &[PartView]) -> Option<i64> {
    parts.iter().filter_map(PartView::next_expiry).min()
}
