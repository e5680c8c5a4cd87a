//! Takes a graph over for a new one: nodes that stay keep their levels and links, and lists that lost members are mended.
//!
//! After FreshDiskANN (Singh et al., arXiv 2105.09613, algorithm 4): where a link led to a node that is gone, that node's own
//! neighbours stand as candidates, chosen among by the rule that chooses every list. Unlike there the links that are left
//! stay, because lists also hold links back that no rule chose and that paths lead over. A node that lost most of a list and
//! found few others instead is broken: it is to be inserted again, like a new one. It must not know files or rows.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::background::give_way;
use crate::vector::codes::Points;
use crate::vector::graph::builder::by_distance;
use crate::vector::graph::format::FlatLinks;
use crate::vector::graph::prune::add_diverse;
use crate::vector::graph::walk::{Candidate, Links, NO_NODE};

/// A graph whose remaining nodes are the first of a new one, in their order.
#[derive(Debug)]
pub(crate) struct Inherited<'a> {
    links: FlatLinks<'a>,
    /// Old number of each node that stays.
    old: Vec<u32>,
    /// New number of each old node; [`NO_NODE`]: it is gone.
    new: Vec<u32>,
}

/// What mending needs from node to node.
#[derive(Debug, Default)]
pub(crate) struct Mender {
    /// The list that was mended last.
    pub(crate) kept: Vec<Candidate>,
    lost: Vec<u32>,
    near: Vec<u32>,
    distances: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl<'a> Inherited<'a> {
    /// The nodes of a graph that stay.
    pub(crate) fn new(links: FlatLinks<'a>, stays: impl Fn(u32) -> bool) -> Self {
        let nodes = links.nodes() as u32;
        let mut new = vec![NO_NODE; nodes as usize];
        let mut old = Vec::new();
        for (node, place) in (0..nodes).zip(&mut new) {
            if stays(node) {
                *place = old.len() as u32;
                old.push(node);
            }
        }
        Self { links, old, new }
    }

    /// Nodes that stay.
    pub(crate) fn len(&self) -> usize {
        self.old.len()
    }

    /// Nodes that are gone.
    pub(crate) fn lost(&self) -> usize {
        self.new.len() - self.old.len()
    }

    /// Old number of a node that stays.
    pub(crate) fn old(&self, node: u32) -> Option<u32> {
        self.old.get(node as usize).copied()
    }

    /// Level of a node that stays.
    pub(crate) fn level(&self, node: u32) -> usize {
        self.old(node).map_or(0, |old| self.links.level(old))
    }

    /// Makes the list of a node on a level, of at most `most` neighbours, in `mender.kept`. Whether it is broken.
    pub(crate) fn mend(
        &self,
        points: &Points<'_>,
        node: u32,
        level: usize,
        most: usize,
        mender: &mut Mender,
    ) -> bool {
        let Mender { kept, lost, near, distances, candidates } = mender;
        kept.clear();
        lost.clear();
        let Some(old) = self.old(node) else { return false };
        self.links.for_each(old, level, |neighbour| match self.new_number(neighbour) {
            NO_NODE => lost.push(neighbour),
            // How far those are that stay is not asked.
            neighbour => kept.push(Candidate { distance: 0.0, node: neighbour }),
        });
        if lost.is_empty() {
            return false;
        }
        let had = kept.len() + lost.len();
        near.clear();
        for &gone in lost.iter() {
            self.links.for_each(gone, level, |neighbour| near.push(self.new_number(neighbour)));
        }
        near.sort_unstable();
        near.dedup();
        near.retain(|&near| near != NO_NODE && near != node && kept.iter().all(|kept| kept.node != near));
        points.target(node).distances(near, distances);
        candidates.clear();
        let candidate = |(&node, &distance): (&u32, &f32)| Candidate { distance, node };
        candidates.extend(near.iter().zip(distances.iter()).map(candidate));
        candidates.sort_by(by_distance);
        add_diverse(points, node, candidates, most, kept);
        kept.len() * 2 < had
    }

    fn new_number(&self, old: u32) -> u32 {
        self.new.get(old as usize).copied().unwrap_or(NO_NODE)
    }
}

/// Hands the lists of the nodes that stay to `store` (node, level, neighbours), in no order; the broken nodes, ascending.
pub(crate) fn mend_all(
    inherited: &Inherited<'_>,
    points: &Points<'_>,
    m: usize,
    cancel: &AtomicBool,
    store: impl Fn(u32, usize, &[Candidate]) + Sync,
) -> Vec<u32> {
    use rayon::prelude::*;
    let mend = |mender: &mut Mender, node: u32| {
        let mut broken = false;
        for level in 0..=inherited.level(node) {
            let most = if level == 0 { 2 * m } else { m };
            broken |= inherited.mend(points, node, level, most, mender);
            store(node, level, &mender.kept);
        }
        give_way();
        broken.then_some(node)
    };
    let nodes = (0..inherited.len() as u32).into_par_iter();
    nodes.filter(|_| !cancel.load(Ordering::Relaxed)).map_init(Mender::default, mend).flatten().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::schema::Distance;
    use crate::vector::codes::{Floats, RowMap};
    use crate::vector::graph::builder::{BuildOptions, Graph, build_graph, slot};
    use crate::vector::graph::connect::connect;
    use crate::vector::samples::clustered;

    const DIMENSION: usize = 16;
    const OPTIONS: BuildOptions = BuildOptions { m: 8, ef_construction: 40, threads: 1, seed: 5 };

    fn points(vectors: &[f32]) -> Points<'_> {
        Points::Floats(Floats {
            distance: Distance::Euclidean,
            dimension: DIMENSION,
            vectors,
            rows: RowMap::Identity,
        })
    }

    fn build(vectors: &[f32]) -> Graph {
        let nodes = vectors.len() / DIMENSION;
        build_graph(&points(vectors), nodes, None, &OPTIONS, &AtomicBool::new(false)).unwrap()
    }

    /// The vectors that stay, with others behind them, and the graph grown from that of all.
    fn grown(vectors: &[f32], others: &[f32], stays: impl Fn(u32) -> bool) -> (Vec<f32>, Graph) {
        let graph = build(vectors);
        let rows = (0_u32..).zip(vectors.chunks(DIMENSION));
        let mut left: Vec<f32> = rows.filter(|(row, _)| stays(*row)).flat_map(|(_, v)| v.to_vec()).collect();
        left.extend_from_slice(others);
        let inherited = Inherited::new(graph.flat(), stays);
        let nodes = left.len() / DIMENSION;
        let grown =
            build_graph(&points(&left), nodes, Some(&inherited), &OPTIONS, &AtomicBool::new(false)).unwrap();
        (left, grown)
    }

    fn check(graph: &Graph) {
        let nodes = graph.nodes() as u32;
        let highest = (0..nodes).map(|node| graph.flat().level(node)).max().unwrap();
        assert_eq!(graph.highest_level(), highest, "the entry is on the highest level");
        for node in 0..nodes {
            for level in 0..=highest {
                let (start, width) = slot(&graph.upper_starts, graph.m, node, level);
                let list = if level == 0 { &graph.level0 } else { &graph.upper };
                let list = &list[start..start + width];
                let used = list.iter().take_while(|neighbour| **neighbour != NO_NODE).count();
                assert!(list[used..].iter().all(|neighbour| *neighbour == NO_NODE), "a gap in {list:?}");
                for (at, neighbour) in list[..used].iter().enumerate() {
                    assert!(*neighbour < nodes && *neighbour != node && !list[..at].contains(neighbour));
                    assert!(graph.flat().level(*neighbour) >= level);
                }
            }
        }
    }

    /// Share of the ten nearest that a walk finds.
    fn recall(graph: &Graph, vectors: &[f32]) -> f64 {
        use crate::vector::graph::walk::{Scratch, beam_search, descend};
        let points = points(vectors);
        let all: Vec<u32> = (0..graph.nodes() as u32).collect();
        let mut scratch = Scratch::default();
        let mut hits = 0;
        let asked: Vec<u32> = all.iter().copied().step_by(17).collect();
        for &node in &asked {
            let target = points.target(node);
            let wanted = points.target(node).nearest(&all, 10);
            let near = descend(graph, &target, graph.entry, graph.highest_level(), 1, &mut scratch);
            beam_search(graph, &target, near, 24, 0, &mut scratch);
            hits += scratch.pool.found().take(10).filter(|found| wanted.contains(&found.node)).count();
        }
        hits as f64 / (10 * asked.len()) as f64
    }

    #[test]
    fn a_graph_that_lost_nothing_and_gains_nothing_is_the_same() {
        let vectors = clustered(Distance::Euclidean, 1_500, DIMENSION, 1);
        let (_, grown) = grown(&vectors, &[], |_| true);
        let built = build(&vectors);
        assert_eq!((&grown.level0, &grown.upper), (&built.level0, &built.upper));
        assert_eq!(grown.entry, built.entry);
    }

    #[test]
    fn growing_is_a_function_of_its_input_with_one_thread() {
        let vectors = clustered(Distance::Euclidean, 1_500, DIMENSION, 1);
        let others = clustered(Distance::Euclidean, 700, DIMENSION, 2);
        let grow = || grown(&vectors, &others, |node| node % 5 != 0).1;
        assert_eq!(grow(), grow());
    }

    #[test]
    fn a_grown_graph_is_whole_and_finds_what_a_built_one_finds() {
        let vectors = clustered(Distance::Euclidean, 3_000, DIMENSION, 1);
        let others = clustered(Distance::Euclidean, 1_500, DIMENSION, 2);
        for lost in [0, 10, 25] {
            let (left, mut grown) = grown(&vectors, &others, |node| node * 37 % 100 >= lost);
            check(&grown);
            connect(&points(&left), &mut grown);
            check(&grown);
            let (grown, built) = (recall(&grown, &left), recall(&build(&left), &left));
            assert!(grown > built - 0.01, "{lost} % lost: {grown}, built {built}");
        }
    }

    #[test]
    fn nodes_whose_whole_neighbourhood_is_gone_are_inserted_again() {
        let vectors = clustered(Distance::Euclidean, 3_000, DIMENSION, 1);
        let whole = build(&vectors);
        // One node, the entry, stays of its neighbourhood of two steps.
        let centre = whole.entry;
        let mut gone = std::collections::BTreeSet::new();
        whole.for_each(centre, 0, |neighbour| {
            gone.insert(neighbour);
            whole.for_each(neighbour, 0, |next| {
                gone.insert(next);
            });
        });
        gone.remove(&centre);
        let stays = |node: u32| !gone.contains(&node);
        let inherited = Inherited::new(whole.flat(), stays);
        let node = (0..inherited.len() as u32).find(|node| inherited.old(*node) == Some(centre)).unwrap();
        let left: Vec<f32> = (0_u32..)
            .zip(vectors.chunks(DIMENSION))
            .filter(|(row, _)| stays(*row))
            .flat_map(|(_, vector)| vector.to_vec())
            .collect();
        let broken = mend_all(&inherited, &points(&left), 8, &AtomicBool::new(false), |_, _, _| ());
        assert!(broken.contains(&node));
        let (left, mut grown) = grown(&vectors, &[], stays);
        check(&grown);
        let mut links = 0;
        grown.for_each(node, 0, |_| links += 1);
        assert!(links >= 4, "{links} links");
        connect(&points(&left), &mut grown);
        assert!(recall(&grown, &left) > 0.9);
    }

    #[test]
    fn a_new_node_above_all_others_becomes_the_entry() {
        let vectors = clustered(Distance::Euclidean, 3_000, DIMENSION, 1);
        let whole = build(&vectors);
        // None of the upper levels stays.
        let (left, grown) = grown(&vectors, &vectors, |node| whole.flat().level(node) == 0);
        check(&grown);
        assert!(grown.highest_level() > 1);
        assert!(grown.entry as usize >= left.len() / DIMENSION - 3_000);
        assert!(recall(&grown, &left) > 0.9);
    }
}
