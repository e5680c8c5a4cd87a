//! Which neighbours a node keeps (Malkov & Yashunin, algorithm 4): a candidate stays when it is nearer to the node than
//! to every neighbour kept before it, so that links spread over directions instead of crowding into one cluster.
//!
//! Equal vectors, which real collections hold by the thousand, break that rule: one of them is nearer to everything than
//! anything else, so a node would keep nothing but its twin, and twins would become an island. So a node keeps one twin,
//! and the twin has no say about the others. It must not know locks or lists on disk.

use crate::vector::codes::Points;
use crate::vector::graph::walk::Candidate;

/// Keeps at most `most` of `candidates`, which are sorted by distance to `node`, nearest first.
pub(crate) fn keep_diverse(
    points: &Points<'_>,
    node: u32,
    candidates: &[Candidate],
    most: usize,
    kept: &mut Vec<Candidate>,
) {
    kept.clear();
    let mut twin = None;
    for candidate in candidates {
        if kept.len() + usize::from(twin.is_some()) >= most {
            break;
        }
        if points.same(node, candidate.node) {
            twin = twin.or(Some(*candidate));
            continue;
        }
        let target = points.target(candidate.node);
        if kept.iter().all(|neighbour| target.distance(neighbour.node) > candidate.distance) {
            kept.push(*candidate);
        }
    }
    kept.extend(twin);
}

/// Adds candidates, sorted as above, to the neighbours that a node has: by the same rule, and until there are `most`.
pub(crate) fn add_diverse(
    points: &Points<'_>,
    node: u32,
    candidates: &[Candidate],
    most: usize,
    kept: &mut Vec<Candidate>,
) {
    let mut twins: Vec<bool> = kept.iter().map(|neighbour| points.same(node, neighbour.node)).collect();
    for candidate in candidates {
        if kept.len() >= most {
            break;
        }
        let twin = points.same(node, candidate.node);
        let target = points.target(candidate.node);
        let in_the_way = |(neighbour, twin): (&Candidate, &bool)| {
            !twin && target.distance(neighbour.node) <= candidate.distance
        };
        let wanted = match twin {
            true => !twins.contains(&true),
            false => !kept.iter().zip(&twins).any(in_the_way),
        };
        if wanted {
            kept.push(*candidate);
            twins.push(twin);
        }
    }
}
