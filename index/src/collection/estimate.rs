//! What a search will cost, before it runs: for callers that must know whether they can wait for it.

use crate::collection::Collection;
use crate::collection::snapshot::PartView;
use crate::search::{MAX_EF, SearchRequest, VectorLeg};
use crate::segment::Part;

/// Nodes that a graph walk looks at, for each of its beam: the links of a node at the bottom of the graph.
const NODES_A_STEP: usize = 32;
/// Narrowest beam of a walk when the request says none, and per hit wanted.
const DEFAULT_BEAM: usize = 128;
const BEAM_PER_HIT: usize = 2;
/// Most hits whose rows are read in passing.
const MAX_HITS: usize = 100;

impl Collection {
    /// Vector components that a search will compare, at most, give or take a factor of two. `None`: it reads words,
    /// filters, documents or long rows, and what that takes isn't known before.
    pub fn search_work(&self, request: &SearchRequest) -> Option<usize> {
        let leg = request.vector.as_ref()?;
        let hits = request.limit.saturating_add(request.offset);
        let plain = request.keyword.is_none()
            && request.filter.is_none()
            && request.max_per_document.is_none_or(|most| most == 0)
            && hits <= MAX_HITS;
        if !plain {
            return None;
        }
        let snapshot = self.snapshot.load();
        let (space, definition) = snapshot.schema.vector_space(&leg.using).ok()?;
        let nodes = |view: &PartView| nodes_of(view, space, leg, hits);
        let nodes = snapshot.parts.iter().map(nodes).fold(0, usize::saturating_add);
        Some(nodes.saturating_mul(definition.dimension as usize))
    }
}

/// Vectors of a part that a search compares with.
fn nodes_of(view: &PartView, space: usize, leg: &VectorLeg, hits: usize) -> usize {
    let rows = view.rows as usize;
    let beam = leg.ef.unwrap_or(DEFAULT_BEAM.max(hits.saturating_mul(BEAM_PER_HIT)));
    let walk = beam.clamp(1, MAX_EF).max(hits).saturating_mul(NODES_A_STEP).min(rows);
    match &view.part {
        // What the live graph of a memtable has not reached is scanned.
        Part::Memtable(_) => rows,
        _ if leg.exact => rows,
        Part::Segment(segment) => match segment.vectors(space) {
            // The walk meets rows that are deleted, too.
            Some(vectors) if vectors.has_graph() && view.live_len() * 2 >= u64::from(view.rows) => {
                if view.deleted.is_empty() { walk } else { walk.saturating_mul(2).min(rows) }
            }
            Some(vectors) => vectors.len(),
            None => 0,
        },
    }
}
