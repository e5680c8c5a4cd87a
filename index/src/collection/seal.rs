//! Sealing: a frozen memtable becomes a segment, and the manifest moves on to the last write in it.
//!
//! The files are written without any lock. What was deleted meanwhile is carried over when the segment takes the place
//! of its memtable.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use roaring::RoaringBitmap;

use crate::collection::Collection;
use crate::collection::snapshot::PartView;
use crate::collection::state::State;
use crate::error::{Error, Result};
use crate::heap;
use crate::ledger::checkpoint;
use crate::maintenance::Task;
use crate::manifest::{ManifestV1, SegmentEntry};
use crate::memtable::Memtable;
use crate::schema::CollectionSchema;
use crate::segment::{LiveRows, Part, Segment, SegmentPlan, build_segment};
use crate::tombstones::write_tombstones;

/// Folder of the tombstones.
pub(super) const TOMBSTONES: &str = "tombstones";
/// Pause after a seal failed (the disk is full, say) before the next try.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Rows that the live graph takes in one go, between looks at whether there is something better to do.
const FEED_STEP: usize = 256;

impl Collection {
    /// Seals the memtable and waits until its segment is on disk. Returns the number of segments.
    pub fn flush(&self) -> Result<u64> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.failed {
            return Err(Error::LogFailed(reason.clone()));
        }
        if state.has_unsealed() {
            state.freeze(&mut self.ledger.write())?;
            self.publish(&state);
        }
        let last = state.frozen.back().map(|frozen| frozen.last_seq);
        if last.is_some() {
            self.maintenance.request(Task::Seal, self.this.clone());
        }
        while state.frozen.front().is_some_and(|frozen| Some(frozen.last_seq) <= last) {
            if let Some(error) = &state.seal_error {
                return Err(Error::LogFailed(format!("sealing fails: {error}")));
            }
            if self.closed.load(Ordering::Acquire) {
                return Err(Error::FailedPrecondition("the collection is closed".into()));
            }
            self.changed.wait_for(&mut state, Duration::from_millis(200));
        }
        Ok(state.manifest.segments.len() as u64)
    }

    /// Seals every memtable that waits; called by the sealing thread.
    pub(crate) fn seal_waiting(&self) {
        let _one_at_a_time = self.sealing.lock();
        self.freeze_if_full(&mut self.state.lock());
        while !self.closed.load(Ordering::Acquire) {
            match self.seal_oldest() {
                Ok(true) => {
                    heap::give_back();
                    self.maintenance.request(Task::Gather, self.this.clone());
                    self.maintenance.request(Task::Compact, self.this.clone());
                }
                Ok(false) => return,
                // Building was told to stop; the log has the rows.
                Err(_) if self.closed.load(Ordering::Acquire) => return,
                Err(error) => {
                    tracing::error!(collection = self.name, %error, "a memtable could not be sealed; it stays in memory and log");
                    self.state.lock().seal_error = Some(error.to_string());
                    self.changed.notify_all();
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// Seals one memtable; `false` when none waits.
    fn seal_oldest(&self) -> Result<bool> {
        let (memtable, live, schema, id) = {
            let mut state = self.state.lock();
            let Some(frozen) = state.frozen.front() else { return Ok(false) };
            let memtable = Arc::clone(&frozen.memtable);
            // Rows that only the clock ended go along: until a compaction they tell whose documents are gone.
            let view = view_of(&state, &memtable)?;
            let live = view.live() | &*view.expired;
            (memtable, live, Arc::clone(&state.tables.schema), state.manifest.take_segment_id())
        };
        let rows = LiveRows::new(vec![(Part::Memtable(Arc::clone(&memtable)), live)]);
        let started = Instant::now();
        let segment = self.build_segment(id, &schema, &rows, false)?;
        self.install_sealed(&memtable, &rows, segment, &schema)?;
        self.state.lock().pace.sealed(rows.len(), started.elapsed());
        Ok(true)
    }

    /// Builds a segment of these rows, if there are any; `grow`: its graphs may start from those of the first part. Takes no
    /// lock.
    pub(super) fn build_segment(
        &self,
        id: u64,
        schema: &CollectionSchema,
        rows: &LiveRows,
        grow: bool,
    ) -> Result<Option<Arc<Segment>>> {
        let built = build_segment(&SegmentPlan {
            directory: &*self.directory,
            id,
            schema,
            rows,
            vectors: &self.vectors_params(),
            grow,
            cancel: &self.closed,
        })?;
        if built.is_some() {
            self.health.is_whole(id);
        }
        Ok(built.map(Arc::new))
    }

    /// Puts the segment, of this schema, in the place of its memtable: manifest first, then memory.
    fn install_sealed(
        &self,
        memtable: &Arc<Memtable>,
        rows: &LiveRows,
        segment: Option<Arc<Segment>>,
        schema: &CollectionSchema,
    ) -> Result<()> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let view = view_of(state, memtable)?.clone();
        let frozen =
            state.frozen.front().ok_or_else(|| Error::Internal("no memtable waits to be sealed".into()))?;
        let (first_seq, last_seq) = (frozen.first_seq, frozen.last_seq);
        let mut parts = state.tables.parts.clone();
        let place = parts.iter().position(|part| part.is_memtable(memtable));
        let place = place.ok_or_else(|| Error::Internal("the sealed memtable is no part".into()))?;
        match &segment {
            None => {
                parts.remove(place);
            }
            Some(segment) => {
                let mut sealed = PartView::new(Part::Segment(Arc::clone(segment)), segment.rows);
                sealed.deleted = Arc::new(carried_over(&view.deleted, |row| rows.new_row(0, row)));
                if let Some(slot) = parts.get_mut(place) {
                    *slot = sealed;
                }
            }
        }
        let mut manifest = state.manifest.clone();
        manifest.schema = (*state.tables.schema).clone();
        manifest.applied_seq = last_seq;
        let file_id = manifest.take_file_id();
        let old_ledger = manifest.ledger.clone();
        manifest.ledger = checkpoint(&*self.directory, &old_ledger, &frozen.ledger, file_id)?;
        if let Some(segment) = &segment {
            manifest.segments.push(entry_of(segment, schema, (first_seq, last_seq)));
        }
        self.store_manifest(state, manifest, &parts)?;
        state.tables.parts = parts;
        state.frozen.pop_front();
        for file in old_ledger.iter().filter(|file| !state.manifest.ledger.contains(file)) {
            // Best effort: what stays is swept at the next start.
            let _ = self.directory.delete(file);
        }
        state.seal_error = None;
        if let Err(error) = state.log.remove_before(last_seq + 1) {
            tracing::warn!(collection = self.name, %error, "an old log file could not be deleted");
        }
        self.publish(state);
        Ok(())
    }

    /// Writes the tombstones that changed, then the manifest. The caller holds the writer lock; memory is unchanged when
    /// this fails.
    pub(super) fn store_manifest(
        &self,
        state: &mut State,
        mut manifest: ManifestV1,
        parts: &[PartView],
    ) -> Result<()> {
        let mut persisted = std::collections::HashMap::new();
        let mut obsolete = Vec::new();
        for view in parts {
            let Some(segment) = view.segment() else { continue };
            let unchanged =
                state.persisted.get(&segment.id).is_some_and(|known| Arc::ptr_eq(known, &view.deleted));
            if !unchanged && !view.deleted.is_empty() {
                let file = format!("{TOMBSTONES}/{}-{}", segment.id, manifest.take_file_id());
                self.directory.create_dir(TOMBSTONES)?;
                // A try that failed may have left it.
                self.directory.delete(&file)?;
                write_tombstones(&*self.directory, &file, &view.deleted)?;
                let entry = manifest.segments.iter_mut().find(|entry| entry.id == segment.id);
                obsolete.extend(entry.and_then(|entry| entry.tombstones.replace(file)));
            }
            persisted.insert(segment.id, Arc::clone(&view.deleted));
        }
        manifest.store(&*self.directory)?;
        state.manifest = manifest;
        state.persisted = persisted;
        for file in obsolete {
            // Best effort: what stays is swept at the next start.
            let _ = self.directory.delete(&file);
        }
        Ok(())
    }

    /// Lets the live graphs catch up with the newest memtable while somebody searches; called by the feeding thread.
    pub(crate) fn feed_live_graphs(&self) {
        while self.searches.searched_lately() && !self.closed.load(Ordering::Acquire) {
            let active = {
                let state = self.state.lock();
                if !state.frozen.is_empty() {
                    // Writers are faster than sealing: a graph that lives for seconds helps less than a seal that ends sooner.
                    return;
                }
                Arc::clone(&state.tables.active)
            };
            if active.all_vectors().iter().map(|vectors| vectors.feed(FEED_STEP)).sum::<usize>() == 0 {
                return;
            }
        }
    }
}

/// The manifest's entry of a segment that holds the rows of these writes.
pub(super) fn entry_of(
    segment: &Segment,
    schema: &CollectionSchema,
    (min_seq, max_seq): (u64, u64),
) -> SegmentEntry {
    SegmentEntry {
        id: segment.id,
        rows: segment.rows,
        min_seq,
        max_seq,
        bytes: segment.bytes,
        tombstones: None,
        vector_spaces: schema.vectors.iter().map(|space| space.name.clone()).collect(),
        schema_payload_fields: schema.payload.len(),
    }
}

fn view_of<'a>(state: &'a State, memtable: &Arc<Memtable>) -> Result<&'a PartView> {
    state
        .tables
        .parts
        .iter()
        .find(|part| part.is_memtable(memtable))
        .ok_or_else(|| Error::Internal("a memtable that waits to be sealed is no part".into()))
}

/// Deleted rows of an old part as rows of the new segment. Rows that were deleted before it was written aren't in it.
pub(super) fn carried_over(deleted: &RoaringBitmap, new_row: impl Fn(u32) -> Option<u32>) -> RoaringBitmap {
    deleted.iter().filter_map(new_row).collect()
}
