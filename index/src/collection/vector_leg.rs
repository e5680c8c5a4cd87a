//! The vector leg of a query: each part of the snapshot is asked for what is nearest there. Exact legs of several queries
//! read the vectors of segments together.
//!
//! Of how much a search may miss, each segment gets its part by its rows, and is asked again in full when more of the hits
//! lie in it than that allows for.

use std::collections::BTreeSet;

use roaring::RoaringBitmap;

use crate::collection::snapshot::{PartView, Snapshot};
use crate::recall::Apportioned;
use crate::schema::RecallTarget;
use crate::segment::Part;
use crate::vector::{ExactReason, PreparedQuery, Scored, SearchParams, Strategy};

/// A row of a snapshot.
pub(super) type Place = (usize, u32);

/// A search for the nearest rows of a snapshot.
pub(super) struct VectorLegSearch<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Rows that may be found, by part; `None`: all of the part.
    pub(super) allowed: &'a [Option<RoaringBitmap>],
    pub(super) query: &'a PreparedQuery,
    pub(super) space: usize,
    /// Hits wanted.
    pub(super) count: usize,
    /// With the recall to aim at in all.
    pub(super) params: SearchParams,
    /// Whether to say how.
    pub(super) explain: bool,
}

/// Exact searches for the nearest rows of a snapshot that differ by nothing but their query.
pub(super) struct ExactSearches<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Rows that may be found, by part; `None`: all of the part.
    pub(super) allowed: &'a [Option<RoaringBitmap>],
    pub(super) queries: &'a [&'a PreparedQuery],
    pub(super) space: usize,
    /// Hits wanted.
    pub(super) count: usize,
    /// Whether to say how.
    pub(super) explain: bool,
}

/// What a vector leg found.
#[derive(Debug, Default)]
pub(super) struct FoundByVector {
    /// Best first.
    pub(super) scored: Vec<(Place, f32)>,
    /// Whether a graph was walked with a beam that follows the recall aimed at.
    pub(super) walked: bool,
    /// How, when asked.
    pub(super) steps: Vec<String>,
}

impl VectorLegSearch<'_> {
    /// Asks all parts.
    pub(super) fn run(&self) -> FoundByVector {
        let whole = self.params.recall_target;
        let parts = 0..self.snapshot.parts.len();
        let apportioned = Apportioned::new(whole, parts.clone().filter_map(|part| self.segment_rows(part)));
        let aim = |part| self.segment_rows(part).map(|rows| apportioned.aim_for(rows));
        let aims: Vec<Option<RecallTarget>> = parts.map(aim).collect();
        let aim_of = |part: usize| aims.get(part).copied().flatten();
        let mut found = FoundByVector::default();
        for (part, aim) in aims.iter().enumerate() {
            self.ask(part, aim.unwrap_or(whole), &mut found);
        }
        best_first(&mut found.scored, self.count);
        let chosen = found.walked && self.params.ef.is_none();
        if chosen && apportioned.misses(found.scored.iter().map(|((part, _), _)| aim_of(*part))) {
            let hits: BTreeSet<usize> = found.scored.iter().map(|((part, _), _)| *part).collect();
            for part in hits.into_iter().filter(|part| aim_of(*part).is_some_and(|aim| aim < whole)) {
                found.scored.retain(|((of, _), _)| *of != part);
                self.ask(part, whole, &mut found);
            }
            best_first(&mut found.scored, self.count);
        }
        found
    }

    /// Asks a part for its nearest, a segment with this aim.
    fn ask(&self, part: usize, aim: RecallTarget, found: &mut FoundByVector) {
        let Some(view) = self.snapshot.parts.get(part) else { return };
        let allowed = self.allowed_in(part);
        if is_empty(view, allowed) {
            return;
        }
        let floor = floor(&mut found.scored, self.count);
        let params = SearchParams { recall_target: aim, floor, ..self.params };
        let (nearest, strategy): (Vec<Scored>, Strategy) = match &view.part {
            Part::Segment(segment) => match segment.vectors(self.space) {
                Some(vectors) => vectors.search(self.query, self.count, &params, allowed),
                None => return,
            },
            Part::Memtable(table) => match table.vectors(self.space) {
                Some(vectors) => vectors.search(self.query, self.count, &params, allowed, view.rows),
                None => return,
            },
        };
        found.walked |= strategy.follows_a_target();
        if self.explain {
            found.steps.push(step(view, &strategy));
        }
        found.add(part, nearest);
    }

    /// Rows of a segment that may be found; `None` for a memtable, of which nothing is missed.
    fn segment_rows(&self, part: usize) -> Option<u64> {
        let view = self.snapshot.parts.get(part).filter(|view| view.segment().is_some())?;
        Some(self.allowed_in(part).map_or(view.live_len(), RoaringBitmap::len))
    }

    fn allowed_in(&self, part: usize) -> Option<&RoaringBitmap> {
        self.allowed.get(part).and_then(Option::as_ref)
    }
}

impl ExactSearches<'_> {
    /// Asks all parts; what each query finds. The vectors of a segment are read once for all of them.
    pub(super) fn run(&self) -> Vec<FoundByVector> {
        let mut found: Vec<FoundByVector> = self.queries.iter().map(|_| FoundByVector::default()).collect();
        for (part, view) in self.snapshot.parts.iter().enumerate() {
            let allowed = self.allowed.get(part).and_then(Option::as_ref);
            if is_empty(view, allowed) {
                continue;
            }
            let Some((rows, nearest)) = self.nearest_in(view, allowed) else { continue };
            let strategy = Strategy::Exact { rows, reason: ExactReason::Requested };
            let how = self.explain.then(|| {
                let together = self.queries.len();
                format!("{}, for {together} searches at once", step(view, &strategy))
            });
            for (found, nearest) in found.iter_mut().zip(nearest) {
                found.add(part, nearest);
                found.steps.extend(how.clone());
            }
        }
        found.iter_mut().for_each(|found| best_first(&mut found.scored, self.count));
        found
    }

    /// Rows of a part that are compared, and what each query finds; `None` where it has no vectors of the space.
    fn nearest_in(
        &self,
        view: &PartView,
        allowed: Option<&RoaringBitmap>,
    ) -> Option<(u64, Vec<Vec<Scored>>)> {
        match &view.part {
            Part::Segment(segment) => {
                let vectors = segment.vectors(self.space)?;
                let rows = vectors.len_among(allowed) as u64;
                Some((rows, vectors.nearest_exact(self.queries, self.count, allowed)))
            }
            Part::Memtable(table) => {
                let vectors = table.vectors(self.space)?;
                let one = |query: &&PreparedQuery| {
                    vectors.search(query, self.count, &SearchParams::EXACT, allowed, view.rows).0
                };
                let rows = allowed.map_or_else(|| view.live_len(), RoaringBitmap::len);
                Some((rows, self.queries.iter().map(one).collect()))
            }
        }
    }
}

impl FoundByVector {
    fn add(&mut self, part: usize, nearest: Vec<Scored>) {
        self.scored.extend(nearest.into_iter().map(|nearest| ((part, nearest.row), nearest.score)));
    }
}

/// Whether no row of a part may be found.
fn is_empty(view: &PartView, allowed: Option<&RoaringBitmap>) -> bool {
    allowed.map_or(view.rows == 0, RoaringBitmap::is_empty)
}

/// How a part was asked, for people.
fn step(view: &PartView, strategy: &Strategy) -> String {
    let name = match view.segment() {
        Some(segment) => format!("segment {}, {} rows", segment.id, segment.rows),
        None => format!("memtable, {} rows", view.rows),
    };
    format!("{name}: vectors by {}", strategy.describe())
}

/// The score of the last of the `count` best, in whatever order; none while there are fewer.
fn floor(scored: &mut [(Place, f32)], count: usize) -> Option<f32> {
    let last = count.checked_sub(1).filter(|last| *last < scored.len())?;
    Some(scored.select_nth_unstable_by(last, |a, b| b.1.total_cmp(&a.1)).1.1)
}

/// Puts the `count` best in order and leaves out the others.
pub(super) fn best_first(scored: &mut Vec<(Place, f32)>, count: usize) {
    scored.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scored.truncate(count);
}
