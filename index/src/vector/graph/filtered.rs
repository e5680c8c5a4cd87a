//! The walk that may return only some of the nodes.
//!
//! Two ways, chosen by the planner. *Skipping* walks through all nodes and returns the allowed ones: as good as a search
//! without a filter, at a price that grows as fewer pass. *Two hops* looks through a neighbour that is not allowed at that
//! one's neighbours (ACORN-1: Patel et al., SIGMOD 2024, arXiv 2403.04871), so that distances are paid for allowed nodes
//! only. Both start from the graph's entry and from seeds spread over the allowed nodes: where the filter goes against the
//! query (nothing near it is allowed), the seeds lead to the allowed regions directly.
//!
//! It must not know bitmaps or costs: what is allowed comes as a function, the budget as a number.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::vector::codes::{OrderedDistance, Target};
use crate::vector::graph::walk::{Candidate, Links, Scratch};

/// Expansions after which it is judged whether the filter goes against the query.
const JUDGED_EXPANSIONS: usize = 64;
/// It does when fewer of the expanded nodes are allowed than this part of the expected.
const AGAINST_SHARE: f64 = 1.0 / 3.0;
/// Allowed nodes that one expansion gathers at the most, over two hops.
const HOP_LIMIT: usize = 48;

/// How to walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilteredWalk<'a> {
    /// Beam: allowed nodes that are kept.
    pub(crate) ef: usize,
    /// Look through nodes that are not allowed at their neighbours.
    pub(crate) two_hops: bool,
    /// Share of all nodes that is allowed.
    pub(crate) selectivity: f64,
    /// Distances that may be computed.
    pub(crate) budget: usize,
    /// Where to start, besides each other; need not be allowed.
    pub(crate) starts: &'a [u32],
}

/// The `ef` nearest allowed nodes, nearest first; `None` when the budget was spent before the walk ended.
pub(crate) fn filtered_search(
    links: &impl Links,
    target: &Target<'_>,
    walk: &FilteredWalk<'_>,
    allowed: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> Option<Vec<Candidate>> {
    scratch.visited.reset(links.nodes());
    let mut state = State {
        ef: walk.ef.max(1),
        expected_share: walk.selectivity * AGAINST_SHARE,
        against: false,
        expanded: 0,
        skipped: 0,
        frontier: BinaryHeap::new(),
        results: BinaryHeap::new(),
    };
    let mut spent = 0;
    for &start in walk.starts {
        if scratch.visited.insert(start) {
            state.offer(target.distance(start), start, &allowed);
        }
    }
    let mut bridges = Vec::new();
    while let Some(node) = state.next() {
        if spent > walk.budget {
            return None;
        }
        if !walk.two_hops {
            state.judge(allowed(node));
        }
        let Scratch { visited, fresh, distances, .. } = scratch;
        fresh.clear();
        bridges.clear();
        links.for_each(node, 0, |neighbour| {
            if visited.insert(neighbour) {
                if walk.two_hops && !allowed(neighbour) {
                    bridges.push(neighbour);
                } else {
                    fresh.push(neighbour);
                }
            }
        });
        for &bridge in &bridges {
            if fresh.len() >= HOP_LIMIT {
                break;
            }
            links.for_each(bridge, 0, |neighbour| {
                if allowed(neighbour) && visited.insert(neighbour) {
                    fresh.push(neighbour);
                }
            });
        }
        // While too few allowed nodes are known, the way leads over the others too.
        if !state.full() {
            fresh.extend_from_slice(&bridges);
        }
        spent += fresh.len();
        fresh.iter().for_each(|node| target.prefetch(*node));
        if let Some(next) = state.peek() {
            links.prefetch(next);
        }
        target.distances(fresh, distances);
        for (&neighbour, &distance) in fresh.iter().zip(distances.iter()) {
            state.offer(distance, neighbour, &allowed);
        }
    }
    let sorted = state.results.into_sorted_vec();
    Some(sorted.into_iter().map(|(distance, node)| Candidate { distance: distance.0, node }).collect())
}

/// Nodes to expand, nearest first, and allowed nodes found, farthest first.
struct State {
    ef: usize,
    expected_share: f64,
    /// The filter goes against the query: what is near is not allowed. The allowed nodes then begin at the rim of a ball of
    /// others, and at the rim of a beam recall is poor; so the beam grows with the ball.
    against: bool,
    expanded: usize,
    /// Of these, nodes that are not allowed.
    skipped: usize,
    frontier: BinaryHeap<Reverse<(OrderedDistance, u32)>>,
    results: BinaryHeap<(OrderedDistance, u32)>,
}

impl State {
    /// Counts an expanded node and widens the beam where the filter goes against the query.
    fn judge(&mut self, allowed: bool) {
        self.expanded += 1;
        self.skipped += usize::from(!allowed);
        let passed = (self.expanded - self.skipped) as f64;
        self.against |=
            self.expanded >= JUDGED_EXPANSIONS && passed < self.expected_share * self.expanded as f64;
        if self.against {
            self.ef = self.ef.max(self.skipped);
        }
    }

    fn full(&self) -> bool {
        self.results.len() >= self.ef
    }

    fn worst(&self) -> f32 {
        self.results.peek().map_or(f32::INFINITY, |(distance, _)| distance.0)
    }

    /// The nearest node to expand, while it may lead to something better.
    fn next(&mut self) -> Option<u32> {
        let Reverse((distance, node)) = self.frontier.pop()?;
        (!self.full() || distance.0 <= self.worst()).then_some(node)
    }

    /// The node that [`State::next`] would give if nothing nearer came.
    fn peek(&self) -> Option<u32> {
        self.frontier.peek().map(|Reverse((_, node))| *node)
    }

    /// Takes note of a node, unless it is farther than enough allowed ones.
    fn offer(&mut self, distance: f32, node: u32, allowed: &impl Fn(u32) -> bool) {
        if self.full() && distance >= self.worst() {
            return;
        }
        self.frontier.push(Reverse((OrderedDistance(distance), node)));
        if allowed(node) {
            self.results.push((OrderedDistance(distance), node));
            if self.results.len() > self.ef {
                self.results.pop();
            }
        }
    }
}
