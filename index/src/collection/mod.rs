//! A collection: the write path, the read path and the background work over one log and one manifest.
//!
//! * `commit` checks, logs, flushes, applies and publishes writes; `record` is the form of a log record;
//! * `state` is what the writer lock guards, `snapshot` what a reader sees;
//! * `seal` turns memtables into segments, `compaction` merges segments, `recovery` opens what a crash left;
//! * `read` and `query` answer from one snapshot.

mod commit;
mod compaction;
mod estimate;
mod query;
mod read;
mod record;
mod recovery;
mod seal;
pub(crate) mod snapshot;
mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Condvar, Mutex, RwLock};

pub use self::commit::{MAX_CHANGES, MAX_DELETE_IDS};
use self::commit::{Pending, SchemaChange};
use self::snapshot::Snapshot;
use self::state::State;
use crate::directory::Directory;
use crate::document::DocumentRecord;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::ledger::Ledger;
use crate::log::GroupCommit;
use crate::maintenance::{Maintenance, Task};
use crate::schema::{CollectionSchema, PayloadField};
use crate::search::{PointData, Select};
use crate::store::StoreOptions;
use crate::vector::VectorsParams;
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
    /// Held while a seal or a compaction builds, so that each runs once at a time.
    sealing: Mutex<()>,
    compacting: Mutex<()>,
    closed: AtomicBool,
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
        let SchemaUpdate { add_payload, description, dynamic_payload } = update;
        let change = SchemaChange { add_payload, description, dynamic_payload };
        self.commit(Pending::schema(change, self.schema()))?;
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
        self.wait_for_seal()?;
        let bytes = pending.bytes();
        self.commits.submit(pending, bytes, |group| self.commit_group(group))?
    }

    /// Memory is bounded: a writer that is faster than the disk waits here.
    fn wait_for_seal(&self) -> Result<()> {
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
        Ok(())
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
        if state.tables.active.wants_feeding() {
            self.maintenance.request(Task::Feed, self.this.clone());
        }
    }

    fn freeze_if_full(&self, state: &mut State) {
        let full = state.tables.active.bytes() >= self.options.memtable_max_bytes
            || state.tables.active.len() as usize >= self.options.memtable_max_rows
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

    fn vectors_params(&self) -> VectorsParams {
        VectorsParams { threads: self.options.build_threads, ..VectorsParams::default() }
    }

    /// A document's record.
    pub fn document(&self, id: &str) -> Option<DocumentRecord> {
        self.ledger.read().document(id).map(|document| (**document).clone())
    }

    /// Records in id order whose id starts with `prefix`, behind `after`.
    pub fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<DocumentRecord> {
        let documents = self.ledger.read().documents(prefix, after, limit);
        documents.iter().map(|document| (**document).clone()).collect()
    }

    /// All records that a source brought, in id order.
    pub fn documents_of_source(&self, source_id: &str) -> Vec<DocumentRecord> {
        let documents = self.ledger.read().documents_of_source(source_id);
        documents.iter().map(|document| (**document).clone()).collect()
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
        let _compacting = self.compacting.lock();
    }

    /// Adds nothing more: background work stops at its next step, writes are refused.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let _state = self.state.lock();
        self.changed.notify_all();
    }
}
