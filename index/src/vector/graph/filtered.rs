//! The walk that knows only some of the nodes.
//!
//! Distances are paid for allowed nodes only, and only these are kept: a walk over the graph that the filter leaves. Where
//! it leaves a node too few neighbours, the walk looks through those that are not allowed at *their* neighbours (ACORN-1:
//! Patel et al., SIGMOD 2024, arXiv 2403.04871). It starts from allowed nodes: those that an unfiltered walk met, and some
//! spread over all, so that it gets to the allowed regions also where the filter goes against the query.
//!
//! It must not know bitmaps or costs: what is allowed comes as a function, the budget as a number.

use crate::vector::codes::Target;
use crate::vector::graph::walk::{Candidate, Links, Scratch};

/// With fewer allowed neighbours than this part of a node's links, a second hop is made.
const SPARSE_SHARE: usize = 2;
/// Allowed nodes that one expansion gathers at the most, over two hops.
const HOP_LIMIT: usize = 32;

/// The `ef` nearest allowed nodes that can be reached from the allowed of `starts`; they lie in `scratch.pool` afterwards.
/// False when more than `budget` nodes were compared or looked through before the walk ended.
pub(crate) fn search_among(
    links: &impl Links,
    target: &Target<'_>,
    starts: &[u32],
    ef: usize,
    budget: usize,
    allowed: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { visited, pool, fresh, distances, bridges, .. } = scratch;
    visited.reset(links.nodes());
    pool.reset(ef);
    fresh.clear();
    fresh.extend(starts.iter().filter(|start| allowed(**start) && visited.insert(**start)));
    let mut looked_at = 0;
    loop {
        target.prefetch(fresh);
        target.distances(fresh, distances);
        for (&node, &distance) in fresh.iter().zip(distances.iter()) {
            pool.offer(Candidate { distance, node });
        }
        let Some(node) = pool.next() else { return true };
        if looked_at > budget {
            return false;
        }
        fresh.clear();
        bridges.clear();
        let mut width = 0;
        links.for_each(node, 0, |neighbour| {
            width += 1;
            if !visited.insert(neighbour) {
                return;
            }
            if allowed(neighbour) {
                fresh.push(neighbour);
            } else {
                bridges.push(neighbour);
            }
        });
        looked_at += 1;
        if fresh.len() * SPARSE_SHARE >= width {
            looked_at += fresh.len();
            continue;
        }
        bridges.iter().for_each(|bridge| links.prefetch(*bridge));
        for &bridge in bridges.iter() {
            if fresh.len() >= HOP_LIMIT {
                break;
            }
            looked_at += 1;
            links.for_each(bridge, 0, |neighbour| {
                if allowed(neighbour) && visited.insert(neighbour) {
                    fresh.push(neighbour);
                }
            });
        }
        looked_at += fresh.len();
    }
}
