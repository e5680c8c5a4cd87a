//! Compaction: several segments become one without their deleted rows. Readers keep the old segments until they let go.
//!
//! Tiered: segments of one size class are merged once there are enough of them, so each row is written again a
//! logarithmic number of times; a segment with many deleted rows is rewritten alone.
//!
//! **Bounds.** With a fan-in of f there are at most f - 1 segments of a class left to wait, and f - 1 classes' worth of them
//! for each factor of f in the number of rows. No segment at rest has more than the share d of deleted rows
//! ([`StoreOptions::compact_deleted_share`]), so the segments take at most 1 / (1 - d) of what their live rows need: 1.25 by
//! default. While a merge runs its result lies beside its inputs, at most one segment of the largest size.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;
use roaring::RoaringBitmap;

use crate::background::{Urgency, step_back};
use crate::collection::seal::{carried_over, entry_of};
use crate::collection::snapshot::PartView;
use crate::collection::{Collection, CompactionReport};
use crate::error::{Error, Result};
use crate::heap;
use crate::schema::{CollectionSchema, HnswOptions, Quantization, VectorSpace};
use crate::segment::{LiveRows, Part, Segment, segment_dir};
use crate::store::StoreOptions;
use crate::vector::GROWN_DELETED_SHARE;

/// Rows of the smallest size class.
const SMALLEST_CLASS_ROWS: u64 = 4_096;

/// What the choice of segments depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: u64,
    pub(super) rows: u64,
    pub(super) live: u64,
    pub(super) bytes: u64,
    /// Whether its vectors are indexed otherwise than the schema asks by now.
    pub(super) outdated: bool,
}

/// Segments that one merge is at.
struct Claim<'a> {
    collection: &'a Collection,
    ids: Vec<u64>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut merging = self.collection.merging.lock();
        self.ids.iter().for_each(|id| {
            merging.remove(id);
        });
    }
}

impl Collection {
    /// Merges all segments into one, or as few as [`StoreOptions::compact_max_segment_bytes`] allows, without deleted
    /// rows and indexed as the schema asks, and waits for it.
    pub fn compact(&self) -> Result<CompactionReport> {
        self.flush()?;
        let _no_other = self.merge_alone();
        drop(self.current());
        let before = self.candidates();
        let groups = groups(&before, self.options.compact_max_segment_bytes);
        // Asked for or not, it gives way; the caller's thread could not raise its priority again.
        let merged = std::thread::scope(|scope| {
            let merge_all = || {
                step_back(Urgency::Soon);
                groups.iter().try_for_each(|group| self.merge(group))
            };
            scope.spawn(merge_all).join()
        });
        merged.map_err(|_| Error::Internal("a compaction panicked".into()))??;
        let after = self.candidates();
        let rows = |candidates: &[Candidate]| candidates.iter().map(|candidate| candidate.rows).sum::<u64>();
        Ok(CompactionReport {
            segments_before: before.len() as u64,
            segments_after: after.len() as u64,
            reclaimed_rows: rows(&before).saturating_sub(rows(&after)),
        })
    }

    /// Seals the memtable and merges what is due, as the background would in time, and waits for it.
    pub fn settle(&self) -> Result<()> {
        self.flush()?;
        self.compact_where_due();
        Ok(())
    }

    /// Merges whatever is due; called by the compacting thread.
    pub(crate) fn compact_where_due(&self) {
        let _one_at_a_time = self.compacting.lock();
        drop(self.current());
        self.merge_while_due(|candidates| choose(candidates, &self.options));
    }

    /// Waits until no merge runs; none begins while the guards live.
    pub(super) fn merge_alone(&self) -> (MutexGuard<'_, ()>, MutexGuard<'_, ()>) {
        (self.compacting.lock(), self.gathering.lock())
    }

    /// Merges what is due, of the whole segments that no other merge is at, until nothing is.
    pub(super) fn merge_while_due(&self, choose: impl Fn(&[Candidate]) -> Vec<u64>) {
        while !self.closed.load(Ordering::Acquire) {
            let due = self.claim(&choose);
            if due.ids.is_empty() {
                return;
            }
            if let Err(error) = self.merge(&due.ids) {
                if !self.closed.load(Ordering::Acquire) {
                    tracing::error!(collection = self.name, %error, "a compaction failed; the old segments stay");
                }
                return;
            }
        }
    }

    /// Takes what is chosen for one merge.
    fn claim(&self, choose: impl Fn(&[Candidate]) -> Vec<u64>) -> Claim<'_> {
        let mut merging = self.merging.lock();
        let mut candidates = self.candidates();
        candidates
            .retain(|candidate| !merging.contains(&candidate.id) && !self.health.is_damaged(candidate.id));
        let ids = choose(&candidates);
        merging.extend(&ids);
        Claim { collection: self, ids }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let snapshot = self.snapshot.load();
        let of_segment = |view: &PartView| {
            let segment = view.segment()?;
            Some(Candidate {
                id: segment.id,
                rows: u64::from(segment.rows),
                live: view.live_len(),
                bytes: segment.bytes,
                outdated: is_outdated(segment, &snapshot.schema),
            })
        };
        snapshot.parts.iter().filter_map(of_segment).collect()
    }

    /// Merges these segments. The caller has claimed them or holds the locks of all that merge, so they stay where they are.
    pub(super) fn merge(&self, ids: &[u64]) -> Result<()> {
        self.purge_expired()?;
        let snapshot = self.snapshot.load_full();
        let wanted = |view: &&PartView| view.segment().is_some_and(|segment| ids.contains(&segment.id));
        let mut inputs: Vec<&PartView> = snapshot.parts.iter().filter(wanted).collect();
        self.check_before_copy(ids, &snapshot.schema)?;
        let sizes: Vec<(u64, u64)> =
            inputs.iter().map(|view| (u64::from(view.rows), view.live_len())).collect();
        // The rows of the largest come first and in their order, so that what was built over them can be grown.
        let grown = grown(&sizes);
        if let Some(grown) = grown {
            inputs.get_mut(..=grown).unwrap_or_default().rotate_right(1);
        }
        let first = inputs.first().and_then(|view| view.segment()).map(|segment| segment.id);
        let grow = grown.is_some() && first.is_some_and(|id| self.health.is_known_whole(id));
        let rows = LiveRows::new(inputs.iter().map(|view| (view.part.clone(), view.live())).collect());
        // Fields that have joined since are in no sealed row, and a manifest with them can't be stored before they are.
        let (id, schema) = {
            let mut state = self.state.lock();
            (state.manifest.take_segment_id(), state.manifest.schema.clone())
        };
        let merged = self.build_segment(id, &schema, &rows, grow)?;
        let inputs: Vec<u64> =
            inputs.iter().filter_map(|view| view.segment().map(|segment| segment.id)).collect();
        let installed = self.install_merged(&inputs, &rows, merged, &schema);
        heap::give_back();
        installed
    }

    /// Puts the merged segment, of this schema, in the place of its inputs: manifest first, then memory, then the old files
    /// go. They are mapped, so readers that still hold them go on reading.
    fn install_merged(
        &self,
        inputs: &[u64],
        rows: &LiveRows,
        merged: Option<Arc<Segment>>,
        schema: &CollectionSchema,
    ) -> Result<()> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut deleted = RoaringBitmap::new();
        let mut parts = Vec::with_capacity(state.tables.parts.len());
        let mut place = None;
        for view in &state.tables.parts {
            match view.segment().and_then(|segment| inputs.iter().position(|id| *id == segment.id)) {
                None => parts.push(view.clone()),
                Some(input) => {
                    place = place.or(Some(parts.len()));
                    deleted |= carried_over(&view.deleted, |row| rows.new_row(input, row));
                }
            }
        }
        let place = place.ok_or_else(|| Error::Internal("the merged segments are gone".into()))?;
        let mut manifest = state.manifest.clone();
        let (old, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut manifest.segments).into_iter().partition(|entry| inputs.contains(&entry.id));
        manifest.segments = kept;
        let min_seq = old.iter().map(|entry| entry.min_seq).min().unwrap_or(1);
        let max_seq = old.iter().map(|entry| entry.max_seq).max().unwrap_or(min_seq);
        if let Some(segment) = merged {
            manifest.segments.push(entry_of(&segment, schema, (min_seq, max_seq)));
            let mut view = PartView::new(Part::Segment(Arc::clone(&segment)), segment.rows);
            view.deleted = Arc::new(deleted);
            parts.insert(place, view);
        }
        self.store_manifest(state, manifest, &parts)?;
        state.tables.parts = parts;
        self.publish(state);
        drop(guard);
        for file in old.into_iter().filter_map(|entry| entry.tombstones) {
            // Best effort: what stays is swept at the next start.
            let _ = self.directory.delete(&file);
        }
        for id in inputs {
            self.health.forget(*id);
            if let Err(error) = self.directory.delete_dir(&segment_dir(*id)) {
                tracing::warn!(collection = self.name, segment = id, %error, "an old segment could not be deleted");
            }
        }
        Ok(())
    }
}

/// Whether a graph of the segment has other links or codes than its space asks for; `auto` asks for what there is.
fn is_outdated(segment: &Segment, schema: &CollectionSchema) -> bool {
    let differs = |(space, definition): (usize, &VectorSpace)| {
        let Some(graph) = segment.vectors(space).and_then(|vectors| vectors.report().graph) else {
            return false;
        };
        let HnswOptions { m, ef_construct } = definition.index.hnsw;
        let wanted = definition.index.quantization;
        graph.m != m
            || graph.ef_construct.is_some_and(|built_with| built_with != ef_construct)
            || (wanted != Quantization::Auto && graph.quantization != wanted)
    };
    schema.vectors.iter().enumerate().any(differs)
}

/// Which of these inputs (rows, live rows) the merged segment grows from: the largest, unless too much of it is deleted.
fn grown(inputs: &[(u64, u64)]) -> Option<usize> {
    let (place, (rows, live)) = inputs.iter().enumerate().max_by_key(|(_, (_, live))| *live)?;
    ((rows - live) as f64 <= *rows as f64 * GROWN_DELETED_SHARE).then_some(place)
}

/// All segments in groups that are each worth a merge and stay within a size.
fn groups(candidates: &[Candidate], max_bytes: u64) -> Vec<Vec<u64>> {
    let mut groups: Vec<(u64, Vec<Candidate>)> = Vec::new();
    for candidate in candidates {
        match groups.last_mut() {
            Some((bytes, group)) if *bytes + candidate.bytes <= max_bytes => {
                *bytes += candidate.bytes;
                group.push(*candidate);
            }
            _ => groups.push((candidate.bytes, vec![*candidate])),
        }
    }
    let worth_it = |group: &[Candidate]| {
        group.len() > 1 || group.iter().any(|candidate| candidate.live < candidate.rows || candidate.outdated)
    };
    let due = groups.into_iter().filter(|(_, group)| worth_it(group));
    due.map(|(_, group)| group.iter().map(|candidate| candidate.id).collect()).collect()
}

/// Which segments to merge next; none when nothing is due.
fn choose(candidates: &[Candidate], options: &StoreOptions) -> Vec<u64> {
    let share =
        |candidate: &Candidate| (candidate.rows - candidate.live) as f32 / candidate.rows.max(1) as f32;
    if let Some(holey) = candidates.iter().find(|candidate| share(candidate) > options.compact_deleted_share)
    {
        return vec![holey.id];
    }
    let fan_in = options.compact_fan_in.max(2);
    let class = |candidate: &Candidate| {
        let mut class = 0u32;
        let mut bound = SMALLEST_CLASS_ROWS;
        while candidate.live > bound && class < 32 {
            bound = bound.saturating_mul(fan_in as u64);
            class += 1;
        }
        class
    };
    for wanted in 0..=32 {
        let mut bytes = 0;
        let fits = |candidate: &&Candidate| {
            bytes += candidate.bytes;
            bytes <= options.compact_max_segment_bytes
        };
        let same = candidates.iter().filter(|candidate| class(candidate) == wanted);
        let same: Vec<&Candidate> = same.take_while(fits).collect();
        // Fewer will do when no more can join them: two large segments are better as one of nearly the largest size.
        let total: u64 = same.iter().map(|candidate| candidate.bytes).sum();
        let enough = same.len() >= fan_in
            || (same.len() > 1
                && bytes > options.compact_max_segment_bytes
                && total > options.compact_max_segment_bytes / 2);
        if enough {
            return same.iter().map(|candidate| candidate.id).collect();
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(sizes: &[(u64, u64)]) -> Vec<u64> {
        let candidates: Vec<_> = (0..)
            .zip(sizes)
            .map(|(id, (rows, live))| Candidate {
                id,
                rows: *rows,
                live: *live,
                bytes: *rows,
                outdated: false,
            })
            .collect();
        choose(&candidates, &StoreOptions::default())
    }

    #[test]
    fn few_or_uneven_segments_stay() {
        assert!(choice(&[]).is_empty());
        assert!(choice(&[(100, 100), (100, 100), (100, 100)]).is_empty());
        assert!(choice(&[(100, 100), (100, 100), (100, 100), (1_000_000, 1_000_000)]).is_empty());
    }

    #[test]
    fn a_full_size_class_is_merged() {
        assert_eq!(choice(&[(900_000, 900_000), (10, 10), (20, 20), (30, 30), (4_000, 4_000)]), [1, 2, 3, 4]);
    }

    #[test]
    fn a_merge_stays_within_the_largest_size() {
        let segment = |id, bytes, live| Candidate { id, rows: 10, live, bytes, outdated: id == 5 };
        let all = [segment(1, 60, 10), segment(2, 30, 10), segment(3, 50, 9), segment(4, 200, 10)];
        assert_eq!(groups(&all, 100), [vec![1, 2], vec![3]]);
        assert_eq!(groups(&[segment(5, 100, 10)], 100), [vec![5]], "indexed otherwise");
        assert!(groups(&[], 100).is_empty());
        let options = StoreOptions { compact_max_segment_bytes: 100, ..StoreOptions::default() };
        assert!(choose(&[segment(1, 40, 10)], &options).is_empty());
        assert!(choose(&[segment(1, 60, 10), segment(2, 60, 10)], &options).is_empty());
    }

    #[test]
    fn segments_that_nearly_fill_the_largest_size_are_merged_before_there_are_many() {
        let segment = |id, bytes| Candidate { id, rows: 10, live: 10, bytes, outdated: false };
        let options = StoreOptions { compact_max_segment_bytes: 100, ..StoreOptions::default() };
        assert_eq!(choose(&[segment(1, 40), segment(2, 40), segment(3, 40)], &options), [1, 2]);
        assert!(choose(&[segment(1, 40), segment(2, 40)], &options).is_empty(), "more may come");
    }

    #[test]
    fn a_merge_grows_from_the_largest_input_unless_many_of_its_rows_are_deleted() {
        assert_eq!(grown(&[(10, 10), (100, 95), (50, 50)]), Some(1));
        assert_eq!(grown(&[(10, 10), (100, 75), (50, 50)]), Some(1));
        assert_eq!(grown(&[(10, 10), (100, 60), (50, 50)]), None);
        assert_eq!(grown(&[(10, 0)]), None);
        assert_eq!(grown(&[]), None);
    }

    #[test]
    fn a_segment_with_many_deleted_rows_is_rewritten() {
        assert_eq!(choice(&[(1_000, 1_000), (1_000, 700)]), [1]);
        assert_eq!(choice(&[(1_000, 0)]), [0]);
        assert!(choice(&[(1_000, 900)]).is_empty());
    }
}
