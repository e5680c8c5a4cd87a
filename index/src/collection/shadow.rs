//! A search that was answered, to be repeated by comparing the vectors of its snapshot: all of them, or where there are bit
//! codes those that their bounds, which one neighbour in millions breaks, don't rule out.
//!
//! Recall is by score: a hit counts when it is as good as the last of the true best, whichever of several equal rows it
//! is. It must not know how often searches are repeated.

use std::sync::{Arc, Weak};

use roaring::RoaringBitmap;

use crate::collection::Collection;
use crate::collection::snapshot::{PartView, Snapshot};
use crate::recall::{Pace, Sample};
use crate::schema::{RecallTarget, VectorStorage};
use crate::segment::Part;
use crate::vector::{PreparedQuery, SearchParams, SegmentVectors};

/// Vector components (rows x dimensions) compared between two rests: some 2 ms of work.
const COMPONENTS_AT_ONCE: usize = 4 << 20;
/// The same of components that are looked at by their bits first.
const COMPONENTS_BY_BITS_AT_ONCE: usize = 16 * COMPONENTS_AT_ONCE;
/// Scores that differ by less, relative to their size, are equal: sums may be taken in another order.
const SCORE_TOLERANCE: f32 = 1e-5;

/// The vector leg of a search, and what it found.
pub(super) struct Shadow {
    pub(super) collection: Weak<Collection>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) space: usize,
    pub(super) query: PreparedQuery,
    /// Rows that may be found, by part; `None`: all of the part.
    pub(super) allowed: Vec<Option<RoaringBitmap>>,
    /// Hits wanted.
    pub(super) wanted: usize,
    /// Scores of the hits.
    pub(super) found: Vec<f32>,
    /// What was aimed at, where the engine chose how wide to walk.
    pub(super) aimed: Option<RecallTarget>,
}

impl Sample for Shadow {
    fn compare(self: Box<Self>, pace: &mut Pace) {
        let Some(truth) = self.truth(pace) else { return };
        let Some(collection) = self.collection.upgrade() else { return };
        let found = found_of(&self.found, &truth);
        tracing::debug!(
            collection = collection.name(),
            space = self.space,
            found,
            of = truth.len(),
            "a search was compared with the truth"
        );
        collection.recall.record(self.space, found as u64, truth.len() as u64, self.aimed);
    }

    fn dropped(&self) {
        if let Some(collection) = self.collection.upgrade() {
            collection.recall.record_dropped(self.space);
        }
    }
}

impl Shadow {
    /// The scores of the true best, best first; `None` when it was given up.
    fn truth(&self, pace: &mut Pace) -> Option<Vec<f32>> {
        let mut best: Vec<f32> = Vec::new();
        for (view, allowed) in self.snapshot.parts.iter().zip(&self.allowed) {
            for piece in pieces(view.rows, allowed.as_ref(), self.rows_at_once(view)) {
                best.extend(self.scores(view, &piece));
                self.forget(view, &piece);
                best.sort_unstable_by(|a, b| b.total_cmp(a));
                best.truncate(self.wanted);
                if !pace.rest() || self.collection.strong_count() == 0 {
                    return None;
                }
            }
        }
        Some(best)
    }

    /// Rows compared between two rests.
    fn rows_at_once(&self, view: &PartView) -> u32 {
        let vectors = view.segment().and_then(|segment| segment.vectors(self.space));
        let by_bits = vectors.is_some_and(SegmentVectors::has_bits);
        let components = if by_bits { COMPONENTS_BY_BITS_AT_ONCE } else { COMPONENTS_AT_ONCE };
        u32::try_from(components / self.query.vector().len().max(1)).unwrap_or(u32::MAX).max(1)
    }

    /// What lives on disk was read for this comparison alone.
    fn forget(&self, view: &PartView, rows: &RoaringBitmap) {
        let Part::Segment(segment) = &view.part else { return };
        if let Some(vectors) = segment.vectors(self.space)
            && vectors.storage() == VectorStorage::Mapped
            && let (Some(first), Some(last)) = (rows.min(), rows.max())
        {
            vectors.release(first..last.saturating_add(1));
        }
    }

    fn scores(&self, view: &PartView, rows: &RoaringBitmap) -> Vec<f32> {
        let (query, wanted) = (&self.query, self.wanted);
        let found = match &view.part {
            Part::Segment(segment) => segment.vectors(self.space).map(|vectors| {
                let by_bounds = vectors.nearest_by_bounds(query, wanted, rows);
                by_bounds.unwrap_or_else(|| vectors.search(query, wanted, &SearchParams::EXACT, Some(rows)).0)
            }),
            Part::Memtable(table) => table
                .vectors(self.space)
                .map(|vectors| vectors.search(query, wanted, &SearchParams::EXACT, Some(rows), view.rows).0),
        };
        found.iter().flatten().map(|hit| hit.score).collect()
    }
}

/// The rows that may be found, so many at once.
fn pieces<'a>(
    rows: u32,
    allowed: Option<&'a RoaringBitmap>,
    at_once: u32,
) -> Box<dyn Iterator<Item = RoaringBitmap> + 'a> {
    match allowed {
        None => Box::new((0..rows).step_by(at_once as usize).map(move |start| {
            let mut piece = RoaringBitmap::new();
            piece.insert_range(start..rows.min(start.saturating_add(at_once)));
            piece
        })),
        Some(allowed) => {
            let mut left = allowed.iter();
            Box::new(std::iter::from_fn(move || {
                let piece: RoaringBitmap = left.by_ref().take(at_once as usize).collect();
                (!piece.is_empty()).then_some(piece)
            }))
        }
    }
}

/// How many hits are as good as the last of the truth.
fn found_of(found: &[f32], truth: &[f32]) -> usize {
    let Some(last) = truth.last() else { return 0 };
    let least = last - last.abs() * SCORE_TOLERANCE;
    found.iter().filter(|score| **score >= least).count().min(truth.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equal_score_is_as_good() {
        let truth = [0.9, 0.8, 0.8];
        assert_eq!(found_of(&[0.9, 0.8, 0.8], &truth), 3);
        assert_eq!(found_of(&[0.9, 0.8, 0.799_999_9], &truth), 3, "rounding");
        assert_eq!(found_of(&[0.8, 0.8, 0.7], &truth), 2);
        assert_eq!(found_of(&[], &truth), 0);
        assert_eq!(found_of(&[-2.0, -3.0], &[-1.0, -2.0]), 1, "negated distances");
        assert_eq!(found_of(&[1.0; 5], &truth), 3, "never more than there is to find");
        assert_eq!(found_of(&[1.0], &[]), 0);
    }

    #[test]
    fn pieces_hold_every_row_once() {
        let all: Vec<_> = pieces(10, None, 4).map(|piece| piece.iter().collect::<Vec<_>>()).collect();
        assert_eq!(all, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        let some = RoaringBitmap::from_iter([1, 5, 6, 70_000]);
        let some: Vec<_> = pieces(10, Some(&some), 3).map(|piece| piece.iter().collect::<Vec<_>>()).collect();
        assert_eq!(some, [vec![1, 5, 6], vec![70_000]]);
        assert_eq!(pieces(0, None, 4).count(), 0);
        assert_eq!(pieces(9, Some(&RoaringBitmap::new()), 4).count(), 0);
    }
}
