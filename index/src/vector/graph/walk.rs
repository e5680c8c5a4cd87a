//! The beam search that building and searching share (Malkov & Yashunin, arXiv 1603.09320, algorithm 2), with a sorted
//! candidate pool in place of two heaps, and the scratch memory that it needs.
//!
//! It must not know how a graph is stored: adjacency comes through [`Links`], distances through [`Target`].

use std::cell::Cell;

use crate::vector::bits::{BitQuery, ScanScratch};
use crate::vector::codes::Target;
use crate::vector::walked::TargetMemory;

/// Marks an empty place in a neighbour list; lists fill from the front.
pub(crate) const NO_NODE: u32 = u32::MAX;
/// Marks a pool entry whose neighbours were looked at. Node numbers stay below it.
const EXPANDED: u32 = 1 << 31;
/// However hard a question is, its walk holds no more nodes than this many beams.
const MOST_OF_BEAM: usize = 4;
/// Entries of a pool that are moved one by one, at most.
const SHIFTED_AT_MOST: usize = 64;
/// Most nodes of a graph.
pub(crate) const MAX_NODES: usize = EXPANDED as usize;

/// Neighbour lists.
pub(crate) trait Links {
    /// Number of nodes.
    fn nodes(&self) -> usize;

    /// Calls `visit` with each neighbour of a node on a level; nothing for a node that is not on it.
    fn for_each(&self, node: u32, level: usize, visit: impl FnMut(u32));

    /// Has the neighbours of a node on level 0 fetched.
    fn prefetch(&self, node: u32);
}

/// A node and its distance to what is searched; smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f32,
    pub(crate) node: u32,
}

/// A set of nodes that is emptied in time proportional to its size.
#[derive(Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    touched: Vec<u32>,
}

impl Visited {
    /// Empties it and makes room for nodes below `nodes`.
    pub(crate) fn reset(&mut self, nodes: usize) {
        for node in self.touched.drain(..) {
            if let Some(word) = self.words.get_mut(node as usize / 64) {
                *word = 0;
            }
        }
        let words = nodes.div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// Adds a node; whether it was not there. A node out of range counts as there.
    #[inline]
    pub(crate) fn insert(&mut self, node: u32) -> bool {
        let Some(word) = self.words.get_mut(node as usize / 64) else { return false };
        let bit = 1_u64 << (node % 64);
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        self.touched.push(node);
        true
    }

    /// Adds nodes, and leaves in the list those that were not there. Without a branch for each: whether a neighbour was met
    /// before is as good as chance, and a processor that guesses wrong starts again.
    #[inline]
    fn insert_all(&mut self, nodes: &mut Vec<u32>) {
        let places = Cell::from_mut(nodes.as_mut_slice()).as_slice_of_cells();
        let mut kept = 0;
        for node in places.iter().map(Cell::get) {
            let (Some(word), Some(place)) = (self.words.get_mut(node as usize / 64), places.get(kept)) else {
                continue;
            };
            let bit = 1_u64 << (node % 64);
            place.set(node);
            kept += usize::from(*word & bit == 0);
            *word |= bit;
        }
        nodes.truncate(kept);
        self.touched.extend_from_slice(nodes);
    }
}

/// How much farther than the hits that a walk has it looks, however narrow its beam: where nodes far more than a beam holds are
/// about as near as its hits, it may not have come near the right ones yet. (The rule is that of Al-Jazzazi et al., "Distance
/// adaptive beam search for provably accurate graph-based nearest neighbor search", 2025; here the beam is looked through in any
/// case, so that nothing is found less often.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slack {
    /// Hits that count: at least 1, at most the nodes of the beam.
    pub(crate) hits: usize,
    /// How many times as far as the last of them nodes are looked at; at least 1.
    pub(crate) factor: f32,
    /// The distance of a vector to itself, as the walk measures it.
    pub(crate) zero: f32,
}

impl Slack {
    /// The farthest distance to be looked at, where the last hit lies at `distance`.
    #[inline]
    fn limit(&self, distance: f32) -> f32 {
        // Codes may put a hit before the query itself.
        distance + (distance - self.zero).max(0.0) * (self.factor - 1.0)
    }
}

/// The nearest nodes seen, in order, and which of them were expanded.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    entries: Vec<Candidate>,
    capacity: usize,
    /// Of the capacity, so many places are for nodes however far; the rest is for those within the slack.
    beam: usize,
    slack: Option<Slack>,
    /// A node must be nearer than this to enter.
    bound: f32,
    /// No entry before it waits to be expanded.
    cursor: usize,
    /// What found no place, if it is kept: none of it is nearer than an entry.
    spilled: Vec<Candidate>,
    keeps_spilled: bool,
}

impl Pool {
    /// Empties it; of what is offered it keeps the `capacity` nearest.
    pub(crate) fn reset(&mut self, capacity: usize) {
        self.entries.clear();
        self.spilled.clear();
        self.keeps_spilled = false;
        self.capacity = capacity.max(1);
        self.beam = self.capacity;
        self.slack = None;
        self.bound = f32::INFINITY;
        self.cursor = 0;
    }

    /// Empties it; it keeps the `beam` nearest, and up to `capacity` within the slack.
    fn reset_with_slack(&mut self, beam: usize, capacity: usize, slack: Slack) {
        self.reset(capacity.max(beam));
        self.beam = beam.clamp(1, self.capacity);
        self.slack = Some(slack);
    }

    /// Empties it; what finds no place now gets one when it is [widened](Self::widen).
    fn reset_to_widen(&mut self, capacity: usize) {
        self.reset(capacity);
        self.keeps_spilled = true;
    }

    /// Makes room for `capacity` nodes, and lets in the nearest of those that found no place before.
    fn widen(&mut self, capacity: usize) {
        self.capacity = capacity.max(self.capacity);
        self.beam = self.capacity;
        let by_distance = |a: &Candidate, b: &Candidate| a.distance.total_cmp(&b.distance);
        let room = self.capacity - self.entries.len();
        if room < self.spilled.len() {
            self.spilled.select_nth_unstable_by(room, by_distance);
        }
        let from = self.entries.len();
        self.entries.extend(self.spilled.drain(..room.min(self.spilled.len())));
        self.entries.get_mut(from..).unwrap_or_default().sort_unstable_by(by_distance);
        self.cursor = self.cursor.min(from);
        self.bound = f32::INFINITY;
        self.draw_in();
    }

    /// Tells the bound from the entries, and drops those beyond it.
    #[inline]
    fn draw_in(&mut self) {
        let Some(last) = self.entries.get(self.beam - 1).map(|last| last.distance) else { return };
        self.bound = last;
        let Some(slack) = &self.slack else { return };
        let hit = self.entries.get(slack.hits - 1).map_or(last, |hit| hit.distance);
        let limit = slack.limit(hit).max(last);
        while self.entries.last().is_some_and(|farthest| farthest.distance > limit) {
            self.entries.pop();
        }
        let farthest = self.entries.last().filter(|_| self.entries.len() >= self.capacity);
        self.bound = farthest.map_or(limit, |farthest| farthest.distance);
    }

    /// Adds a node that is nearer than the bound.
    #[inline]
    fn insert(&mut self, candidate: Candidate) {
        if self.entries.len() >= self.capacity {
            let farthest = self.entries.pop();
            if self.keeps_spilled {
                self.spilled.extend(farthest);
            }
        }
        let at = if self.entries.len() >= SHIFTED_AT_MOST {
            let at = self.entries.partition_point(|entry| entry.distance <= candidate.distance);
            self.entries.insert(at, candidate);
            at
        } else {
            self.shift_in(candidate)
        };
        self.cursor = self.cursor.min(at);
        self.draw_in();
    }

    /// Adds a node, moving farther ones back one by one; where it lies then. For few entries that is quicker than moving
    /// them as a block: wide loads of what narrow stores have just written make the processor wait.
    #[inline]
    fn shift_in(&mut self, candidate: Candidate) -> usize {
        self.entries.push(candidate);
        let mut at = self.entries.len() - 1;
        while let Some([before, here]) = at.checked_sub(1).and_then(|i| self.entries.get_mut(i..=at)) {
            if before.distance <= candidate.distance {
                break;
            }
            std::mem::swap(before, here);
            at -= 1;
        }
        at
    }

    /// Adds a node if it is nearer than the bound.
    #[inline]
    pub(crate) fn offer(&mut self, candidate: Candidate) {
        if candidate.distance < self.bound {
            self.insert(candidate);
        } else if self.keeps_spilled {
            self.spilled.push(candidate);
        }
    }

    /// The nearest node that was not expanded; it counts as expanded from now on.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<u32> {
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            self.cursor += 1;
            if entry.node & EXPANDED == 0 {
                let node = entry.node;
                entry.node |= EXPANDED;
                return Some(node);
            }
        }
        None
    }

    /// The node that [`Pool::next`] would give if nothing nearer came.
    #[inline]
    fn peek(&self) -> Option<u32> {
        let waiting = self.entries.get(self.cursor..)?.iter().find(|entry| entry.node & EXPANDED == 0);
        waiting.map(|entry| entry.node)
    }

    /// What was found, nearest first.
    pub(crate) fn found(&self) -> impl Iterator<Item = Candidate> + '_ {
        self.entries.iter().map(|entry| Candidate { node: entry.node & !EXPANDED, ..*entry })
    }
}

/// Memory of one walk, used again by the next.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) visited: Visited,
    pub(crate) pool: Pool,
    pub(crate) fresh: Vec<u32>,
    /// Nodes that are looked through.
    pub(crate) bridges: Vec<u32>,
    pub(crate) distances: Vec<f32>,
    /// The query for walking...
    pub(crate) target: TargetMemory,
    /// ...and for scanning bit codes.
    pub(crate) bit_query: BitQuery,
    pub(crate) scan: ScanScratch,
}

/// Finds the `ef` nearest nodes of a level, starting at `entry`; they lie in `scratch.pool` afterwards.
pub(crate) fn beam_search(
    links: &impl Links,
    target: &Target<'_>,
    entry: u32,
    ef: usize,
    level: usize,
    scratch: &mut Scratch,
) {
    scratch.pool.reset(ef);
    search_from(links, target, entry, level, scratch);
}

/// [`beam_search`] on level 0 that goes on behind the beam within a slack.
pub(crate) fn beam_search_with_slack(
    links: &impl Links,
    target: &Target<'_>,
    entry: u32,
    ef: usize,
    slack: Slack,
    scratch: &mut Scratch,
) {
    scratch.pool.reset_with_slack(ef, ef.saturating_mul(MOST_OF_BEAM), slack);
    search_from(links, target, entry, 0, scratch);
}

/// [`beam_search`] on level 0 with a beam that can be [widened](widen_beam).
pub(crate) fn beam_search_to_widen(
    links: &impl Links,
    target: &Target<'_>,
    entry: u32,
    ef: usize,
    scratch: &mut Scratch,
) {
    scratch.pool.reset_to_widen(ef);
    search_from(links, target, entry, 0, scratch);
}

/// Goes on with a search as if its beam had been `ef` nodes wide: what it has seen is not looked at again.
pub(crate) fn widen_beam(links: &impl Links, target: &Target<'_>, ef: usize, scratch: &mut Scratch) {
    scratch.pool.widen(ef);
    expand_all(links, target, 0, scratch);
}

fn search_from(links: &impl Links, target: &Target<'_>, entry: u32, level: usize, scratch: &mut Scratch) {
    scratch.visited.reset(links.nodes());
    if scratch.visited.insert(entry) {
        scratch.pool.insert(Candidate { distance: target.distance(entry), node: entry });
        expand_all(links, target, level, scratch);
    }
}

/// Looks at the neighbours of the nearest nodes of the pool until all of its nodes were expanded.
#[inline]
fn expand_all(links: &impl Links, target: &Target<'_>, level: usize, scratch: &mut Scratch) {
    let Scratch { visited, pool, fresh, distances, .. } = scratch;
    while let Some(node) = pool.next() {
        fresh.clear();
        links.for_each(node, level, |neighbour| fresh.push(neighbour));
        visited.insert_all(fresh);
        target.prefetch(fresh);
        if let Some(next) = pool.peek() {
            links.prefetch(next);
        }
        target.distances(fresh, distances);
        for (&node, &distance) in fresh.iter().zip(distances.iter()) {
            pool.offer(Candidate { distance, node });
        }
    }
}

/// Walks downhill from `entry` on each level from `from` down to `to`, both included; where it ends.
pub(crate) fn descend(
    links: &impl Links,
    target: &Target<'_>,
    entry: u32,
    from: usize,
    to: usize,
    scratch: &mut Scratch,
) -> u32 {
    let Scratch { fresh, distances, .. } = scratch;
    let mut best = Candidate { distance: target.distance(entry), node: entry };
    for level in (to..=from).rev() {
        loop {
            let here = best.node;
            fresh.clear();
            links.for_each(here, level, |neighbour| fresh.push(neighbour));
            target.prefetch(fresh);
            target.distances(fresh, distances);
            for (&node, &distance) in fresh.iter().zip(distances.iter()) {
                if distance < best.distance {
                    best = Candidate { distance, node };
                }
            }
            if best.node == here {
                break;
            }
        }
    }
    best.node
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn the_pool_keeps_the_nearest_and_expands_each_once() {
        let mut pool = Pool::default();
        pool.reset(3);
        let mut expanded = Vec::new();
        for (distance, node) in [(5.0, 5), (3.0, 3), (4.0, 4)] {
            pool.insert(Candidate { distance, node });
        }
        expanded.extend(pool.next());
        assert_eq!(pool.bound, 5.0);
        pool.insert(Candidate { distance: 1.0, node: 1 });
        while let Some(node) = pool.next() {
            expanded.push(node);
        }
        assert_eq!(expanded, [3, 1, 4]);
        let found: Vec<u32> = pool.found().map(|candidate| candidate.node).collect();
        assert_eq!(found, [1, 3, 4]);
    }

    #[test]
    fn a_pool_that_is_widened_lets_in_the_nearest_that_had_no_place() {
        let offered = [5.0, 3.0, 9.0, 4.0, 1.0, 7.0, 8.0, 2.0, 6.0];
        let candidates = || offered.into_iter().map(|distance| Candidate { distance, node: distance as u32 });
        let distances = |pool: &Pool| pool.found().map(|found| found.distance).collect::<Vec<f32>>();
        let mut pool = Pool::default();
        pool.reset_to_widen(2);
        candidates().for_each(|candidate| pool.offer(candidate));
        assert_eq!([pool.next(), pool.next(), pool.next()], [Some(1), Some(2), None]);
        assert_eq!(distances(&pool), [1.0, 2.0]);
        pool.widen(5);
        assert_eq!(distances(&pool), [1.0, 2.0, 3.0, 4.0, 5.0]);
        pool.offer(Candidate { distance: 2.5, node: 25 });
        assert_eq!([pool.next(), pool.next(), pool.next(), pool.next()], [Some(25), Some(3), Some(4), None]);
        pool.widen(100);
        assert_eq!(distances(&pool), [1.0, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(pool.next(), Some(5));
        // One that isn't to be widened keeps nothing.
        pool.reset(2);
        candidates().for_each(|candidate| pool.offer(candidate));
        assert!(pool.spilled.is_empty());
        assert_eq!(distances(&pool), [1.0, 2.0]);
    }

    #[test]
    fn a_pool_with_a_slack_holds_its_beam_and_what_is_about_as_near_as_the_hits() {
        let distances = |pool: &Pool| pool.found().map(|found| found.distance).collect::<Vec<f32>>();
        let mut pool = Pool::default();
        let mut node = 0;
        let mut offer = |pool: &mut Pool, offered: &[f32]| {
            for distance in offered {
                pool.offer(Candidate { distance: *distance, node });
                node += 1;
            }
        };
        pool.reset_with_slack(3, 5, Slack { hits: 2, factor: 2.0, zero: -1.0 });
        offer(&mut pool, &[14.0, 7.0, 16.0]);
        assert_eq!(pool.bound, 29.0, "twice as far as the second");
        offer(&mut pool, &[28.0, 8.0, 30.0]);
        assert_eq!(distances(&pool), [7.0, 8.0, 14.0, 16.0]);
        offer(&mut pool, &[16.5, 15.0]);
        assert_eq!(distances(&pool), [7.0, 8.0, 14.0, 15.0, 16.0], "no more than the capacity");
        assert_eq!(pool.bound, 16.0);
        assert_eq!([pool.next(), pool.next()], [Some(1), Some(4)]);
        offer(&mut pool, &[1.0]);
        assert_eq!(distances(&pool), [1.0, 7.0, 8.0, 14.0, 15.0]);
        offer(&mut pool, &[0.0]);
        assert_eq!((distances(&pool), pool.bound), (vec![0.0, 1.0, 7.0], 7.0), "the beam, however far");
        assert_eq!([pool.next(), pool.next(), pool.next()], [Some(9), Some(8), None]);
        // Codes may put a node before the query itself.
        offer(&mut pool, &[-3.0, -2.0]);
        assert_eq!((distances(&pool), pool.bound), (vec![-3.0, -2.0, 0.0], 0.0));
        // Without one again.
        pool.reset(2);
        offer(&mut pool, &[3.0, 2.0, 2.5, 2.9]);
        assert_eq!((distances(&pool), pool.bound), (vec![2.0, 2.5], 2.5));
    }

    #[test]
    fn the_visited_set_forgets_and_refuses_what_is_out_of_range() {
        let mut visited = Visited::default();
        visited.reset(100);
        assert!(visited.insert(99) && !visited.insert(99) && visited.insert(0));
        assert!(!visited.insert(NO_NODE));
        visited.reset(100);
        assert!(visited.insert(99) && visited.insert(0));
        let mut nodes = vec![7, 99, 64, 7, NO_NODE, 0, 3];
        visited.insert_all(&mut nodes);
        assert_eq!(nodes, [7, 64, 3]);
        visited.insert_all(&mut nodes);
        assert!(nodes.is_empty());
        visited.reset(100);
        assert!([7, 64, 3, 99, 0].into_iter().all(|node| visited.insert(node)));
    }
}
