//! The state that only the holder of the writer lock changes: the working copy of the parts, the ledger, the log.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use roaring::RoaringBitmap;

use crate::background::give_way_within;
use crate::collection::pacing::Pace;
use crate::collection::snapshot::{PartView, Snapshot, next_expiry};
use crate::document::{DocumentRecord, DocumentState};
use crate::error::Result;
use crate::ledger::{Delta, Ledger, note_key, retry_key};
use crate::log::Log;
use crate::manifest::ManifestV1;
use crate::memtable::Memtable;
use crate::rows::Rows;
use crate::schema::CollectionSchema;
use crate::segment::Part;
use crate::validate::ValidBatch;
use crate::write::WriteReceipt;

/// A memtable that waits to be sealed, with what else its writes changed.
#[derive(Debug)]
pub(crate) struct Frozen {
    /// Its rows.
    pub(crate) memtable: Arc<Memtable>,
    /// The first write in it.
    pub(crate) first_seq: u64,
    /// The last write in it.
    pub(crate) last_seq: u64,
    /// Ledger changes up to that write.
    pub(crate) ledger: Delta,
}

/// What writes change in memory.
#[derive(Debug)]
pub(crate) struct Tables {
    /// The newest applied write.
    pub(crate) seq_no: u64,
    /// The schema now.
    pub(crate) schema: Arc<CollectionSchema>,
    /// Segments, then memtables from old to new; the last one is the active memtable.
    pub(crate) parts: Vec<PartView>,
    /// Takes new rows.
    pub(crate) active: Arc<Memtable>,
}

/// Everything behind the writer lock.
#[derive(Debug)]
pub(crate) struct State {
    /// Where writes become durable.
    pub(crate) log: Box<dyn Log>,
    /// What is on disk beside the log.
    pub(crate) manifest: ManifestV1,
    /// What writes change.
    pub(crate) tables: Tables,
    /// Wait to be sealed, oldest first.
    pub(crate) frozen: VecDeque<Frozen>,
    /// The first write of the active memtable.
    pub(crate) active_since: u64,
    /// Bytes of the log since the active memtable began.
    pub(crate) log_bytes: u64,
    /// The tombstones of each segment as the manifest has them.
    pub(crate) persisted: HashMap<u64, Arc<RoaringBitmap>>,
    /// How fast memtables are sealed, and writers may go.
    pub(crate) pace: Pace,
    /// Documents whose last points expired; the log does not know yet.
    pub(crate) expired_documents: Vec<String>,
    /// Why the log accepts nothing any more.
    pub(crate) failed: Option<String>,
    /// Why the last try to seal failed.
    pub(crate) seal_error: Option<String>,
}

/// A change that was checked and resolved.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a few of them live, for the time of one write")]
pub(crate) enum Resolved {
    /// The schema from here on.
    Schema(Arc<CollectionSchema>),
    /// Rows.
    Upsert(ValidBatch),
    /// A document with its rows.
    PutDocument { document: DocumentRecord, points: Option<ValidBatch> },
    /// Point ids.
    DeletePoints(Vec<String>),
    /// Document ids.
    DeleteDocuments(Vec<String>),
    /// A ledger entry.
    PutLedger { key: String, value: Vec<u8> },
    /// A ledger key.
    DeleteLedger { key: String },
    /// Records beside points that are there, or of documents without.
    PutRecords(Vec<DocumentRecord>),
}

impl Tables {
    /// Segments, and an empty memtable behind them.
    pub(crate) fn new(seq_no: u64, schema: Arc<CollectionSchema>, mut parts: Vec<PartView>) -> Self {
        let active = Arc::new(Memtable::new(&schema));
        parts.push(PartView::new(Part::Memtable(Arc::clone(&active)), 0));
        Self { seq_no, schema, parts, active }
    }

    /// The view that readers get.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            seq_no: self.seq_no,
            schema: Arc::clone(&self.schema),
            parts: self.parts.clone(),
            next_expiry: next_expiry(&self.parts),
        }
    }

    /// Applies a durable write to memory. Readers see nothing of it before the next snapshot.
    pub(crate) fn apply(&mut self, ledger: &mut Ledger, changes: Vec<Resolved>) -> Result<WriteReceipt> {
        let mut receipt = WriteReceipt::default();
        for change in changes {
            match change {
                Resolved::Schema(schema) => self.schema = schema,
                Resolved::Upsert(points) => receipt.upserted += self.upsert(points)?,
                Resolved::PutDocument { document, points } => {
                    receipt.upserted += self.put_document(ledger, document, points)?;
                }
                Resolved::DeletePoints(ids) => {
                    receipt.deleted_points +=
                        ids.iter().map(|id| u64::from(self.delete_point(id))).sum::<u64>();
                }
                Resolved::DeleteDocuments(ids) => {
                    for id in ids {
                        let points = self.delete_rows_of(&id);
                        // Whoever could take the points over is linked to another document by now.
                        let known = forget_document(ledger, &id);
                        receipt.deleted_points += points;
                        receipt.deleted_documents += u64::from(known || points > 0);
                    }
                }
                Resolved::PutLedger { key, value } => ledger.put_entry(&key, &value)?,
                Resolved::DeleteLedger { key } => {
                    ledger.delete_entry(&key);
                }
                Resolved::PutRecords(records) => {
                    for record in records {
                        ledger.delete_entry(&retry_key(&record.id));
                        ledger.put_document(record);
                    }
                }
            }
        }
        Ok(receipt)
    }

    fn upsert(&mut self, points: ValidBatch) -> Result<u64> {
        let count = points.batch.num_rows();
        let first_expiry = Rows::new(&points.batch)?.expiring().map(|(time, _)| time).min();
        self.delete_ids_of(&points.batch)?;
        give_way_within(count);
        self.active.append(points)?;
        if let Some(view) = self.parts.last_mut() {
            view.rows = self.active.len();
            if let Some(time) = first_expiry {
                view.look_at_expiry_from(time);
            }
        }
        Ok(count as u64)
    }

    /// Older versions of these rows. A batch has each id once, so its own rows are no concern.
    fn delete_ids_of(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = Rows::new(batch)?;
        for row in 0..batch.num_rows() {
            self.delete_point(rows.id(row));
        }
        Ok(())
    }

    fn put_document(
        &mut self,
        ledger: &mut Ledger,
        document: DocumentRecord,
        points: Option<ValidBatch>,
    ) -> Result<u64> {
        if matches!(document.state, DocumentState::Indexed | DocumentState::Linked { .. }) {
            self.delete_rows_of(&document.id);
            ledger.delete_entry(&note_key(&document.id));
        }
        ledger.delete_entry(&retry_key(&document.id));
        ledger.put_document(document);
        points.map_or(Ok(0), |points| self.upsert(points))
    }

    /// Ends the rows that expire up to `now`, and the records of documents that have no others. Returns those.
    pub(crate) fn expire(&mut self, ledger: &mut Ledger, now: i64) -> Result<Vec<String>> {
        let mut documents = BTreeSet::new();
        for view in &mut self.parts {
            for row in view.expire(now) {
                let found = view.row(row)?;
                let (rows, at) = found.get();
                documents.extend(rows.document_id(at).map(str::to_owned));
            }
        }
        documents.retain(|id| {
            let had_points = ledger
                .document(id)
                .is_some_and(|document| document.state == DocumentState::Indexed && document.chunks > 0);
            had_points && self.has_no_points(id)
        });
        for id in &documents {
            forget_document(ledger, id);
        }
        Ok(documents.into_iter().collect())
    }

    /// Whether no live row belongs to a document.
    pub(crate) fn has_no_points(&self, document_id: &str) -> bool {
        self.parts.iter().all(|view| view.live_rows_of_document(document_id).is_empty())
    }

    fn delete_point(&mut self, id: &str) -> bool {
        for view in self.parts.iter_mut().rev() {
            if let Some(row) = view.live_row_of(id) {
                Arc::make_mut(&mut view.deleted).insert(row);
                return true;
            }
        }
        false
    }

    fn delete_rows_of(&mut self, document_id: &str) -> u64 {
        let mut deleted = 0;
        for view in &mut self.parts {
            let rows = view.live_rows_of_document(document_id);
            if !rows.is_empty() {
                deleted += rows.len() as u64;
                Arc::make_mut(&mut view.deleted).extend(rows);
            }
        }
        deleted
    }
}

/// Forgets a document whose points are gone, with its note and those that are linked to it: no record stands for points that
/// are not there. Whether it was known.
fn forget_document(ledger: &mut Ledger, id: &str) -> bool {
    let known = ledger.delete_document(id).is_some();
    ledger.delete_entry(&note_key(id));
    ledger.delete_entry(&retry_key(id));
    let copies: Vec<String> = ledger.copies_of(id).map(str::to_owned).collect();
    for copy in copies {
        ledger.delete_document(&copy);
    }
    known
}

impl State {
    /// Puts the active memtable in line to be sealed and begins a new one. The log goes on in a new file, so that the
    /// old one can go once the memtable is sealed.
    pub(crate) fn freeze(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.log.rotate(self.tables.seq_no + 1)?;
        let fresh = Arc::new(Memtable::new(&self.tables.schema));
        let memtable = std::mem::replace(&mut self.tables.active, Arc::clone(&fresh));
        let (first_seq, last_seq) = (self.active_since, self.tables.seq_no);
        self.frozen.push_back(Frozen { memtable, first_seq, last_seq, ledger: ledger.take_dirty() });
        self.active_since = self.tables.seq_no + 1;
        self.tables.parts.push(PartView::new(Part::Memtable(fresh), 0));
        self.log_bytes = 0;
        Ok(())
    }

    /// Whether there is anything that a seal would make permanent.
    pub(crate) fn has_unsealed(&self) -> bool {
        self.tables.active.len() > 0 || self.log_bytes > 0
    }
}
