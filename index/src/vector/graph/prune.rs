//! Which neighbours a node keeps (Malkov & Yashunin, algorithm 4): a candidate stays when it is nearer to the node than
//! to every neighbour kept before it, so that links spread over directions instead of crowding into one cluster.
//!
//! It must not know locks or lists on disk.

use crate::vector::codes::Points;
use crate::vector::graph::walk::Candidate;

/// Keeps at most `most` of `candidates`, which are sorted by distance to the node, nearest first.
pub(crate) fn keep_diverse(
    points: &Points<'_>,
    candidates: &[Candidate],
    most: usize,
    kept: &mut Vec<Candidate>,
) {
    kept.clear();
    for candidate in candidates {
        if kept.len() >= most {
            return;
        }
        let target = points.target(candidate.node);
        if kept.iter().all(|neighbour| target.distance(neighbour.node) > candidate.distance) {
            kept.push(*candidate);
        }
    }
}
