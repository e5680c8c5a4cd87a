//! Reading without ranking: by id, page by page, by document, and counts.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};

use crate::batch;
use crate::collection::export::vector_column;
use crate::collection::snapshot::{PartView, Snapshot};
use crate::collection::{Collection, CollectionStats, ScrollPage, ScrollRequest, SegmentStats, SpaceRecall};
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::rows::Rows;
use crate::schema::VectorSpace;
use crate::search::{MAX_LIMIT, PayloadSelect, PointData, Select};
use crate::segment::Part;

/// Most ids of one [`Collection::get`].
pub const MAX_GET_IDS: usize = 10_000;
/// A page of points ends before it would pass this many bytes, roughly: gRPC clients take replies of 4 MiB unless told
/// otherwise. A larger point is a page of its own.
const PAGE_BYTES: usize = 3 << 20;

impl Collection {
    /// The points of these ids that exist, in the order asked.
    pub fn get(&self, ids: &[String], select: &Select, min_seq_no: Option<u64>) -> Result<Vec<PointData>> {
        if ids.len() > MAX_GET_IDS {
            return Err(Error::LimitExceeded {
                what: "ids",
                value: ids.len() as u64,
                limit: MAX_GET_IDS as u64,
            });
        }
        let snapshot = self.snapshot_at(min_seq_no)?;
        let reader = PointReader::new(&snapshot, select)?;
        ids.iter().filter_map(|id| snapshot.find(id)).map(|(part, row)| reader.read(part, row)).collect()
    }

    /// A page of points.
    pub fn scroll(&self, request: &ScrollRequest) -> Result<ScrollPage> {
        if request.limit == 0 || request.limit > MAX_LIMIT {
            return Err(Error::invalid(
                "limit",
                format!("{} is not between 1 and {MAX_LIMIT}", request.limit),
            ));
        }
        let snapshot = self.current();
        let filter = snapshot.check(request.filter.as_ref())?;
        let reader = PointReader::new(&snapshot, &request.select)?;
        let after = request.after.as_deref().map(Cursor::parse).transpose()?;
        let start = after.as_ref().map_or(0, |cursor| cursor.hash);
        let mut found: Vec<(u64, String, usize, u32)> = Vec::new();
        for (part, view) in snapshot.parts.iter().enumerate() {
            let allowed = view.allowed(filter.as_ref())?;
            let passes = |row: u32| match &allowed {
                Some(allowed) => allowed.contains(row),
                None => row < view.rows,
            };
            let behind = |hash: u64, id: &str| after.as_ref().is_none_or(|cursor| cursor.is_before(hash, id));
            let mut from = (start, 0);
            let mut taken = 0;
            // Points of the cursor's own hash that came before were already sent, so one round may give too few.
            while taken <= request.limit {
                let wanted = request.limit + 1 - taken;
                let entries = match &view.part {
                    Part::Segment(segment) => segment.ordered(from, wanted, passes),
                    Part::Memtable(table) => table.ordered(from, view.rows, wanted, passes),
                };
                let Some((hash, row)) = entries.last().copied() else { break };
                let exhausted = entries.len() < wanted;
                for (hash, row) in entries {
                    let id = view.row(row)?.id().to_owned();
                    if behind(hash, &id) {
                        found.push((hash, id, part, row));
                        taken += 1;
                    }
                }
                let Some(next) = row.checked_add(1) else { break };
                from = (hash, next);
                if exhausted {
                    break;
                }
            }
        }
        found.sort_unstable();
        let (mut points, mut bytes) = (Vec::new(), 0);
        for (.., part, row) in found.iter().take(request.limit) {
            let point = reader.read(*part, *row)?;
            bytes += bytes_of(&point);
            if bytes > PAGE_BYTES && !points.is_empty() {
                break;
            }
            points.push(point);
        }
        let more = found.len() > points.len();
        let last = points.len().checked_sub(1).and_then(|last| found.get(last));
        let next = last.filter(|_| more).map(|(hash, id, ..)| Cursor { hash: *hash, id: id.clone() }.token());
        Ok(ScrollPage { points, next })
    }

    /// Number of points that pass.
    pub fn count(&self, filter: Option<&Filter>) -> Result<u64> {
        let snapshot = self.current();
        let filter = snapshot.check(filter)?;
        let mut count = 0;
        for view in &snapshot.parts {
            count += view.allowed(filter.as_ref())?.map_or_else(|| view.live_len(), |rows| rows.len());
        }
        Ok(count)
    }

    /// All points of a document with every column of [`crate::batch::arrow_schema`], in chunk order.
    pub fn document_points(&self, document_id: &str) -> Result<RecordBatch> {
        points_of_document(&self.current(), document_id)
    }

    /// Counts and sizes.
    pub fn stats(&self) -> CollectionStats {
        let snapshot = self.current();
        let memtables =
            || snapshot.parts.iter().filter_map(|view| view.memtable().map(|table| (view, table)));
        let segments: Vec<SegmentStats> =
            snapshot.parts.iter().filter_map(|view| segment_stats(&snapshot, view)).collect();
        let (documents, failed) = {
            let ledger = self.ledger.read();
            (ledger.document_count() as u64, ledger.failed_document_count() as u64)
        };
        let log_bytes = {
            let logs = self.directory.list("log").unwrap_or_default();
            logs.iter().filter_map(|name| self.directory.len(&format!("log/{name}")).ok()).sum()
        };
        let spaces = snapshot.schema.vectors.iter().enumerate();
        let recall = spaces.map(|(space, definition)| SpaceRecall {
            vector_space: definition.name.clone(),
            target: definition.index.recall_target,
            sampled: self.recall.report(space),
        });
        CollectionStats {
            points: snapshot.live_len(),
            documents,
            documents_failed: failed,
            seq_no: snapshot.seq_no,
            memtable_points: memtables().map(|(view, _)| view.live_len()).sum(),
            memtable_bytes: memtables().map(|(_, table)| table.bytes() as u64).sum(),
            log_bytes,
            deleted_rows: segments.iter().map(|segment| segment.deleted_rows).sum(),
            space_amplification: space_amplification(&segments),
            recall: recall.collect(),
            disk_bytes: log_bytes + segments.iter().map(|segment| segment.bytes).sum::<u64>(),
            segments,
        }
    }

    /// The newest snapshot, if it has the write that the caller wants to see.
    pub(super) fn snapshot_at(&self, min_seq_no: Option<u64>) -> Result<Arc<Snapshot>> {
        let snapshot = self.current();
        snapshot.check_visible(min_seq_no)?;
        Ok(snapshot)
    }
}

fn segment_stats(snapshot: &Snapshot, view: &PartView) -> Option<SegmentStats> {
    let segment = view.segment()?;
    let report = |(space, definition): (usize, &VectorSpace)| {
        Some((definition.name.clone(), segment.vectors(space)?.report()))
    };
    let spaces = snapshot.schema.vectors.iter().enumerate();
    Some(SegmentStats {
        id: segment.id,
        rows: u64::from(segment.rows),
        deleted_rows: view.deleted.len(),
        bytes: segment.bytes,
        vector_indexes: spaces.filter_map(report).collect(),
    })
}

/// How many times the room of their live rows segments take. A row's part of its segment stands for its size.
fn space_amplification(segments: &[SegmentStats]) -> f64 {
    let live = |segment: &SegmentStats| {
        let live = segment.rows.saturating_sub(segment.deleted_rows) as f64 / segment.rows.max(1) as f64;
        segment.bytes as f64 * live
    };
    let (all, live): (u64, f64) =
        (segments.iter().map(|segment| segment.bytes).sum(), segments.iter().map(live).sum());
    // With nothing live left there is no ratio: everything is too much.
    if all == 0 { 1.0 } else { all as f64 / live.max(1.0) }
}

/// As [`Collection::document_points`], of a snapshot.
pub(super) fn points_of_document(snapshot: &Snapshot, document_id: &str) -> Result<RecordBatch> {
    let schema = batch::arrow_schema(&snapshot.schema);
    let mut pieces = Vec::new();
    for view in &snapshot.parts {
        for row in view.live_rows_of_document(document_id) {
            pieces.push(whole_row(snapshot, view, row)?);
        }
    }
    let arrow = |error: arrow::error::ArrowError| Error::Internal(error.to_string());
    let all = concat_batches(&schema, &pieces).map_err(arrow)?;
    let rows = Rows::new(&all)?;
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_by_key(|row| (rows.chunk_index(*row as usize), *row));
    take_record_batch(&all, &UInt32Array::from(order)).map_err(arrow)
}

/// One row with all its columns.
fn whole_row(snapshot: &Snapshot, view: &PartView, row: u32) -> Result<RecordBatch> {
    let fixed = match &view.part {
        Part::Segment(segment) => segment.batch_of(row).map(|(batch, at)| batch.batch.slice(at, 1)),
        Part::Memtable(table) => table.locate(row).map(|(batch, at)| batch.batch.slice(at, 1)),
    };
    let fixed = fixed.ok_or_else(|| Error::Internal(format!("row {row} is not there")))?;
    let mut columns: Vec<ArrayRef> = fixed.columns().to_vec();
    for (space, definition) in snapshot.schema.vectors.iter().enumerate() {
        columns.push(vector_column(view, space, definition.dimension, &[row])?);
    }
    RecordBatch::try_new(batch::arrow_schema(&snapshot.schema), columns)
        .map_err(|error| Error::Internal(error.to_string()))
}

/// Where a page ended: points are scrolled in the order of (hash of the id, id), which no write changes.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    hash: u64,
    id: String,
}

impl Cursor {
    fn token(&self) -> String {
        format!("{:016x}:{}", self.hash, self.id)
    }

    fn parse(token: &str) -> Result<Self> {
        let parts =
            token.split_once(':').and_then(|(hash, id)| Some((u64::from_str_radix(hash, 16).ok()?, id)));
        let (hash, id) = parts.ok_or_else(|| {
            Error::invalid("page", format!("{token:?} is not the next page of an earlier reply"))
        })?;
        Ok(Self { hash, id: id.to_owned() })
    }

    fn is_before(&self, hash: u64, id: &str) -> bool {
        (self.hash, self.id.as_str()) < (hash, id)
    }
}

/// Reads points of a snapshot as a caller selected them.
pub(super) struct PointReader<'a> {
    snapshot: &'a Snapshot,
    select: &'a Select,
    spaces: Vec<usize>,
}

impl<'a> PointReader<'a> {
    /// Checks the names of vector spaces.
    pub(super) fn new(snapshot: &'a Snapshot, select: &'a Select) -> Result<Self> {
        let all = select.vectors.iter().any(|name| name == "*");
        let spaces = if all {
            (0..snapshot.schema.vectors.len()).collect()
        } else {
            let find = |name: &String| snapshot.schema.vector_space(name).map(|(space, _)| space);
            select.vectors.iter().map(find).collect::<Result<_>>()?
        };
        Ok(Self { snapshot, select, spaces })
    }

    /// Has what [`read`](Self::read) will need of some rows fetched from memory, all at once: they lie far apart, and one
    /// after the other each would be waited for.
    pub(super) fn prefetch(&self, places: impl Iterator<Item = (usize, u32)> + Clone) {
        let text = self.select.text;
        let payload = self.select.payload != PayloadSelect::None;
        let located = places.filter_map(|(part, row)| self.snapshot.parts.get(part)?.segment()?.locate(row));
        located.clone().for_each(|(rows, at)| rows.prefetch_offsets(at, text, payload));
        located.for_each(|(rows, at)| rows.prefetch_values(at, text, payload));
    }

    /// The point of a row.
    pub(super) fn read(&self, part: usize, row: u32) -> Result<PointData> {
        let view = self
            .snapshot
            .parts
            .get(part)
            .ok_or_else(|| Error::Internal(format!("part {part} is not there")))?;
        let found = view.row(row)?;
        let (rows, at) = found.get();
        let vector = |space: &usize| {
            let name = self.snapshot.schema.vectors.get(*space)?.name.clone();
            Some((name, view.vector(*space, row)?))
        };
        Ok(PointData {
            id: rows.id(at).to_owned(),
            text: if self.select.text { rows.text(at).unwrap_or_default().to_owned() } else { String::new() },
            payload: self.payload(rows, at),
            origin: rows.origin(at),
            expires_at_ms: rows.expires_at(at),
            vectors: self.spaces.iter().filter_map(vector).collect(),
        })
    }

    fn payload(&self, rows: &Rows, at: usize) -> Option<serde_json::Map<String, serde_json::Value>> {
        if self.select.payload == PayloadSelect::None {
            return None;
        }
        // It was checked when it was written.
        let mut payload: serde_json::Map<String, serde_json::Value> =
            rows.payload(at).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        match &self.select.payload {
            PayloadSelect::All | PayloadSelect::None => {}
            PayloadSelect::Include(names) => payload.retain(|name, _| names.contains(name)),
            PayloadSelect::Exclude(names) => payload.retain(|name, _| !names.contains(name)),
        }
        Some(payload)
    }
}

/// Bytes that a point takes in a reply, roughly.
fn bytes_of(point: &PointData) -> usize {
    /// What a field costs beside its content.
    const FIELD: usize = 8;
    fn of_value(value: &serde_json::Value) -> usize {
        use serde_json::Value::{Array, Object, String};
        FIELD
            + match value {
                String(text) => text.len(),
                Array(values) => values.iter().map(of_value).sum(),
                Object(fields) => fields.iter().map(|(name, value)| name.len() + of_value(value)).sum(),
                _ => 0,
            }
    }
    let PointData { id, text, payload, origin, expires_at_ms: _, vectors } = point;
    let strings =
        [id, text, &origin.document_id, &origin.uri, &origin.title, &origin.media_type, &origin.part];
    let strings = strings.into_iter().chain(&origin.heading_path).map(|text| text.len() + FIELD);
    let payload =
        payload.iter().flatten().map(|(name, value)| FIELD + name.len() + of_value(value)).sum::<usize>();
    let vectors = vectors.iter().map(|(name, vector)| FIELD + name.len() + size_of_val(vector.as_slice()));
    strings.sum::<usize>() + payload + vectors.sum::<usize>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_cursor_survives_its_token_and_nonsense_is_refused() {
        let cursor = Cursor { hash: 0xab, id: "a:b".into() };
        assert_eq!(Cursor::parse(&cursor.token()).unwrap(), cursor);
        assert!(
            cursor.is_before(0xab, "a:c") && cursor.is_before(0xac, "") && !cursor.is_before(0xab, "a:b")
        );
        for nonsense in ["", "zz:a", "12"] {
            assert!(Cursor::parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
