//! Makes every node reachable from the entry on level 0.
//!
//! Pruning drops links one by one, and now and then all links to a node, most of all among equal vectors. Such a node would
//! never be found. Here each is linked from a near node that is reachable; where that node's list is full, it gives up its
//! last link that no other node depends on. It must not know how the graph was built.

use std::collections::VecDeque;

use crate::background::give_way;
use crate::vector::codes::Points;
use crate::vector::graph::builder::Graph;
use crate::vector::graph::walk::{Links, NO_NODE, Scratch, beam_search, descend};

/// Beam of the search for a near reachable node.
const SEARCH_BEAM: usize = 64;

/// Nodes that are visited before whoever waits gets the core.
const VISITED_PER_TURN: usize = 1_024;

/// Links every unreachable node; returns how many links that took.
pub(crate) fn connect(points: &Points<'_>, graph: &mut Graph) -> usize {
    let mut tree = Tree::new(graph);
    tree.grow(graph, graph.entry);
    let highest = graph.highest_level();
    let mut scratch = Scratch::default();
    let mut links = 0;
    for node in 0..graph.nodes() as u32 {
        if tree.reached(node) {
            continue;
        }
        let target = points.target(node);
        let near = descend(graph, &target, graph.entry, highest, 1, &mut scratch);
        let near = if tree.reached(near) { near } else { graph.entry };
        beam_search(graph, &target, near, SEARCH_BEAM, 0, &mut scratch);
        let found: Vec<u32> = scratch.pool.found().map(|found| found.node).collect();
        let far = 0..graph.nodes() as u32;
        let from =
            found.into_iter().chain(far).find(|&from| tree.reached(from) && tree.adopt(graph, from, node));
        if from.is_some() {
            links += 1;
            tree.grow(graph, node);
        }
    }
    links
}

/// A spanning tree of the nodes reached so far. A link that is not of the tree can go without anyone being lost.
struct Tree {
    parents: Vec<u32>,
}

impl Tree {
    fn new(graph: &Graph) -> Self {
        let mut parents = vec![NO_NODE; graph.nodes()];
        if let Some(entry) = parents.get_mut(graph.entry as usize) {
            *entry = graph.entry;
        }
        Self { parents }
    }

    fn reached(&self, node: u32) -> bool {
        self.parents.get(node as usize).is_some_and(|parent| *parent != NO_NODE)
    }

    /// Reaches what can be reached from a node that was reached.
    fn grow(&mut self, graph: &Graph, from: u32) {
        let mut queue = VecDeque::from([from]);
        let mut visited = 0_usize;
        while let Some(node) = queue.pop_front() {
            visited += 1;
            if visited.is_multiple_of(VISITED_PER_TURN) {
                give_way();
            }
            graph.for_each(node, 0, |neighbour| {
                if let Some(parent) = self.parents.get_mut(neighbour as usize)
                    && *parent == NO_NODE
                {
                    *parent = node;
                    queue.push_back(neighbour);
                }
            });
        }
    }

    /// Links `from` to `node`; false when every link of `from` is needed.
    fn adopt(&mut self, graph: &mut Graph, from: u32, node: u32) -> bool {
        let width = 2 * graph.m;
        let start = from as usize * width;
        let Some(list) = graph.level0.get_mut(start..start + width) else { return false };
        let needed = |neighbour: u32| self.parents.get(neighbour as usize) == Some(&from);
        let free = list.iter().position(|neighbour| *neighbour == NO_NODE);
        let place = free.or_else(|| list.iter().rposition(|neighbour| !needed(*neighbour)));
        let (Some(place), Some(parent)) = (place, self.parents.get_mut(node as usize)) else { return false };
        let Some(slot) = list.get_mut(place) else { return false };
        *slot = node;
        *parent = from;
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::schema::Distance;
    use crate::vector::codes::{Floats, RowMap};
    use crate::vector::graph::builder::{BuildOptions, build_graph};
    use crate::vector::samples::clustered;

    fn reachable(graph: &Graph) -> usize {
        let mut tree = Tree::new(graph);
        tree.grow(graph, graph.entry);
        (0..graph.nodes() as u32).filter(|node| tree.reached(*node)).count()
    }

    fn floats(vectors: &[f32]) -> Points<'_> {
        Points::Floats(Floats {
            distance: Distance::Euclidean,
            dimension: 8,
            vectors,
            rows: RowMap::Identity,
        })
    }

    #[test]
    fn nodes_cut_off_on_purpose_are_found_again() {
        let nodes = 600;
        let vectors = clustered(Distance::Euclidean, nodes, 8, 4);
        let points = floats(&vectors);
        let options = BuildOptions { m: 4, ef_construction: 20, threads: 1, seed: 1 };
        let mut graph = build_graph(&points, nodes, None, &options, &AtomicBool::new(false)).unwrap();
        // Every link to a node of the last third goes; full lists stay full.
        for neighbour in graph.level0.iter_mut().filter(|neighbour| **neighbour != NO_NODE) {
            if *neighbour as usize > nodes * 2 / 3 && *neighbour != graph.entry {
                *neighbour = graph.entry;
            }
        }
        assert!(reachable(&graph) < nodes);
        assert!(connect(&points, &mut graph) > 0);
        assert_eq!(reachable(&graph), nodes);
        assert_eq!(connect(&points, &mut graph), 0);
    }

    #[test]
    fn equal_vectors_are_all_reachable() {
        let nodes = 1_500;
        let mut vectors = clustered(Distance::Euclidean, nodes, 8, 5);
        vectors.truncate(500 * 8);
        vectors.extend([0.25; 8].repeat(1_000));
        let points = floats(&vectors);
        let options = BuildOptions { m: 8, ef_construction: 40, threads: 2, seed: 1 };
        let mut graph = build_graph(&points, nodes, None, &options, &AtomicBool::new(false)).unwrap();
        connect(&points, &mut graph);
        assert_eq!(reachable(&graph), nodes);
    }
}
