//! A collection: the write path, the read path and the background work over one log and one manifest.
//!
//! * `commit` checks, logs, flushes, applies and publishes writes; `record` is the form of a log record; `links` keeps
//!   documents of the same content on one set of points;
//! * `state` is what the writer lock guards, `snapshot` what a reader sees;
//! * `pacing` says how much may wait to be sealed, and how fast writers may go;
//! * `seal` turns memtables into segments, `compaction` merges segments, and `gathering` the small ones while somebody
//!   searches; `recovery` opens what a crash left, `scrub` compares it with its checksums;
//! * `read` and `query` answer from one snapshot, `export` hands all of it out; `expire` leaves out what the clock ended; `shadow` is a search to be compared with the truth.

mod also_at;
mod commit;
mod compaction;
mod estimate;
mod expire;
mod export;
mod gathering;
mod links;
mod old_schema;
mod pacing;
mod query;
mod read;
mod record;
mod recovery;
mod scrub;
mod seal;
mod shadow;
pub(crate) mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod vector_leg;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, RwLock};

use self::commit::Pending;
pub use self::commit::{MAX_CHANGES, MAX_DELETE_IDS};
pub use self::export::{EXPORT_BATCH_BYTES, EXPORT_BATCH_ROWS, Export};
pub use self::links::{Copies, MAX_COPIES};
use self::pacing::{SearchClock, memtable_rows, small_segment_rows, small_segments};
use self::scrub::Health;
use self::snapshot::{PartView, Snapshot};
use self::state::State;
use crate::directory::Directory;
use crate::document::DocumentRecord;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::ledger::{Ledger, note_key};
use crate::log::GroupCommit;
use crate::maintenance::{Maintenance, Task};
use crate::memtable::Memtable;
use crate::recall::{RecallMeter, SampledRecall};
use crate::schema::{CollectionSchema, IndexChange, PayloadField, RecallTarget};
use crate::search::{PointData, Select};
use crate::segment::Part;
use crate::store::StoreOptions;
use crate::vector::{LiveVectors, VectorIndexReport, VectorsParams};
use crate::write::{WriteReceipt, WriteRequest};

/// Memtables that may wait to be sealed while writes go on; one more, and writers wait. More would only be memory: a
/// bulk load is as fast as its graphs are built.
const MAX_FROZEN: usize = 1;
/// Writes and bytes that share one flush of the log, at most.
const MAX_GROUP_WRITES: usize = 1_024;
const MAX_GROUP_BYTES: usize = 64 << 20;
/// How long a writer waits for a seal before it is told that the engine can't keep up.
const SEAL_PATIENCE: Duration = Duration::from_secs(300);

/// A collection that is open.
#[derive(Debug)]
pub struct Collection {
    name: String,
    directory: Arc<dyn Directory>,
    options: StoreOptions,
    snapshot: ArcSwap<Snapshot>,
    state: Mutex<State>,
    ledger: RwLock<Ledger>,
    commits: GroupCommit<Pending, Result<WriteReceipt>>,
    /// Signalled when a seal or a compaction ended, and when a write became visible.
    changed: Condvar,
    /// Held while a seal, a compaction or a gathering builds, so that each runs once at a time.
    sealing: Mutex<()>,
    compacting: Mutex<()>,
    gathering: Mutex<()>,
    /// Segments that a merge is at, so that two merges take none twice.
    merging: Mutex<BTreeSet<u64>>,
    closed: AtomicBool,
    recall: RecallMeter,
    searches: SearchClock,
    health: Health,
    maintenance: Arc<Maintenance>,
    this: Weak<Collection>,
}

/// What may change in a schema.
#[derive(Debug, Clone, Default)]
pub struct SchemaUpdate {
    /// Fields that join.
    pub add_payload: Vec<PayloadField>,
    /// New description.
    pub description: Option<String>,
    /// New setting.
    pub dynamic_payload: Option<bool>,
    /// How vectors are indexed from here on, by vector space.
    pub index: Vec<(String, IndexChange)>,
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
    /// Rows of segments that are deleted and still on disk.
    pub deleted_rows: u64,
    /// Bytes of the segments against those that their live rows would take, 1 or more; 1 without segments.
    pub space_amplification: f64,
    pub segments: Vec<SegmentStats>,
    /// By vector space.
    pub recall: Vec<SpaceRecall>,
}

impl CollectionStats {
    /// Share of the segments' rows that are deleted, 0 to 1.
    pub fn tombstone_share(&self) -> f64 {
        let rows: u64 = self.segments.iter().map(|segment| segment.rows).sum();
        self.deleted_rows as f64 / rows.max(1) as f64
    }
}

/// What searches of a vector space aim at, and what they reach.
#[derive(Debug, Clone)]
pub struct SpaceRecall {
    /// Its name.
    pub vector_space: String,
    /// Recall that searches aim at, unless they say otherwise.
    pub target: RecallTarget,
    /// Recall of the sampled searches.
    pub sampled: SampledRecall,
}

/// Counts and sizes of a segment.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "counts and bytes of what they name")]
pub struct SegmentStats {
    pub id: u64,
    pub rows: u64,
    pub deleted_rows: u64,
    pub bytes: u64,
    /// By vector space.
    pub vector_indexes: Vec<(String, VectorIndexReport)>,
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
        &self.name
    }

    /// Its schema now.
    pub fn schema(&self) -> Arc<CollectionSchema> {
        Arc::clone(&self.snapshot.load().schema)
    }

    /// Sequence number of the newest visible write.
    pub fn seq_no(&self) -> u64 {
        self.snapshot.load().seq_no
    }

    /// Changes the schema; durable when it returns.
    pub fn update_schema(&self, update: SchemaUpdate) -> Result<Arc<CollectionSchema>> {
        self.commit(Pending::schema(update, self.schema()))?;
        Ok(self.schema())
    }

    /// Writes; on return the changes are on disk and visible. Blocks while the log is flushed, and while memtables wait
    /// to be sealed.
    pub fn write(&self, request: WriteRequest) -> Result<WriteReceipt> {
        self.commit(Pending::check(request, self.schema())?)
    }

    fn commit(&self, pending: Pending) -> Result<WriteReceipt> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::FailedPrecondition(format!("collection \"{}\" is closed", self.name)));
        }
        self.wait_for_seal(pending.rows())?;
        let bytes = pending.bytes();
        self.commits.submit(pending, bytes, |group| self.commit_group(group))?
    }

    /// Memory and the time of a scan are bounded: a writer that is faster than sealing is slowed down here, and waits when
    /// that didn't suffice.
    fn wait_for_seal(&self, rows: u64) -> Result<()> {
        let deadline = Instant::now() + SEAL_PATIENCE;
        let mut state = self.state.lock();
        while state.frozen.len() > MAX_FROZEN {
            if let Some(error) = &state.seal_error {
                return Err(Error::LogFailed(format!("sealing fails: {error}")));
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                let (value, limit) = (state.frozen.len() as u64, MAX_FROZEN as u64);
                return Err(Error::LimitExceeded { what: "memtables that wait to be sealed", value, limit });
            }
        }
        let searched_lately = self.searches.searched_lately();
        let taken = self.room_taken(&state, searched_lately);
        let delay = state.pace.delay(rows, taken, searched_lately, Instant::now());
        drop(state);
        if delay > Duration::ZERO {
            std::thread::sleep(delay);
        }
        Ok(())
    }

    /// Share of the room for unsealed rows that is taken: that of the memtables which may wait, the active one included.
    /// While somebody searches, small segments take room as well.
    fn room_taken(&self, state: &State, searched_lately: bool) -> f64 {
        let most_rows = memtable_rows(&state.tables.schema, self.options.memtable_max_rows, searched_lately);
        let of_memtable = |table: &Memtable| {
            let rows = f64::from(table.len()) / most_rows.max(1) as f64;
            rows.max(table.bytes() as f64 / self.options.memtable_max_bytes.max(1) as f64)
        };
        let frozen = state.frozen.iter().map(|frozen| of_memtable(&frozen.memtable)).sum::<f64>();
        let unsealed = (frozen + of_memtable(&state.tables.active)) / (MAX_FROZEN + 1) as f64;
        if !searched_lately {
            return unsealed;
        }
        let segments = state.manifest.segments.iter().map(|entry| entry.rows);
        let small = small_segment_rows(&state.tables.schema, self.options.memtable_max_rows);
        unsealed.max(small_segments(segments, small))
    }

    /// Waits until a write is visible. [`Error::NotVisible`] when it isn't by the deadline.
    pub fn wait_for(&self, seq_no: u64, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        while state.tables.seq_no < seq_no {
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return Err(Error::NotVisible { wanted: seq_no, visible: state.tables.seq_no });
            }
        }
        Ok(())
    }

    /// Makes the state visible. The caller holds the writer lock.
    fn publish(&self, state: &State) {
        self.snapshot.store(Arc::new(state.tables.snapshot()));
        self.changed.notify_all();
        // While nobody searches, sealing has more use of the cores.
        if self.searches.searched_lately() {
            state.tables.active.all_vectors().iter().for_each(LiveVectors::quicken_scans);
            if state.tables.active.wants_feeding() {
                self.maintenance.request(Task::Feed, self.this.clone());
            }
        }
        let most = f64::from(self.options.compact_deleted_share);
        let is_holey = |view: &PartView| {
            view.segment().is_some() && view.deleted.len() as f64 > f64::from(view.rows) * most
        };
        if state.tables.parts.iter().any(is_holey) {
            self.maintenance.request(Task::Compact, self.this.clone());
        }
    }

    fn freeze_if_full(&self, state: &mut State) {
        let searched_lately = self.searches.searched_lately();
        let most_rows = memtable_rows(&state.tables.schema, self.options.memtable_max_rows, searched_lately);
        let full = state.tables.active.bytes() >= self.options.memtable_max_bytes
            || state.tables.active.len() as usize >= most_rows
            || state.log_bytes >= self.options.log_max_bytes;
        if !full || state.failed.is_some() {
            return;
        }
        match state.freeze(&mut self.ledger.write()) {
            Ok(()) => {
                self.publish(state);
                self.maintenance.request(Task::Seal, self.this.clone());
            }
            Err(error) => {
                tracing::error!(collection = self.name, %error, "the log could not begin a new file");
                state.failed = Some(error.to_string());
            }
        }
    }

    /// Notes that somebody searches; a memtable that grew large while nobody did is sealed now, or gets its graph.
    fn note_search(&self, snapshot: &Snapshot) {
        let is_first = !self.searches.searched_lately();
        self.searches.searched();
        let Some(last) = snapshot.parts.last() else { return };
        let most_rows = memtable_rows(&snapshot.schema, self.options.memtable_max_rows, true);
        if last.rows as usize >= most_rows {
            self.maintenance.request(Task::Seal, self.this.clone());
        } else if is_first && matches!(&last.part, Part::Memtable(active) if active.wants_feeding()) {
            self.maintenance.request(Task::Feed, self.this.clone());
        }
    }

    fn vectors_params(&self) -> VectorsParams {
        self.options.vectors_params()
    }

    /// A document's record.
    pub fn document(&self, id: &str) -> Option<DocumentRecord> {
        drop(self.current());
        self.ledger.read().document(id).map(|document| (**document).clone())
    }

    /// Records in id order whose id starts with `prefix`, behind `after`.
    pub fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<DocumentRecord> {
        drop(self.current());
        let documents = self.ledger.read().documents(prefix, after, limit);
        documents.iter().map(|document| (**document).clone()).collect()
    }

    /// All records that a source brought, in id order.
    pub fn documents_of_source(&self, source_id: &str) -> Vec<DocumentRecord> {
        drop(self.current());
        let documents = self.ledger.read().documents_of_source(source_id);
        documents.iter().map(|document| (**document).clone()).collect()
    }

    /// What is remembered of a document: its ledger entry `document/ID`.
    pub fn note(&self, document_id: &str) -> Option<Vec<u8>> {
        self.ledger(&note_key(document_id))
    }

    /// A ledger entry.
    pub fn ledger(&self, key: &str) -> Option<Vec<u8>> {
        self.ledger.read().entry(key).map(<[u8]>::to_vec)
    }

    /// Ledger entries whose key starts with `prefix`, in key order.
    pub fn ledger_prefix(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let ledger = self.ledger.read();
        ledger.entries(prefix).map(|(key, value)| (key.to_owned(), value.to_vec())).collect()
    }

    /// [`Collection::close`], and waits for a seal or compaction that runs.
    pub(crate) fn close_and_wait(&self) {
        self.close();
        let _sealing = self.sealing.lock();
        let _merging = self.merge_alone();
    }

    /// Adds nothing more: background work stops at its next step, writes are refused.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _state = self.state.lock();
        self.changed.notify_all();
    }
}
