//! Builds a graph by inserting nodes in parallel: those of the upper levels first, then the others in the order of their place
//! among them. When all are there, each is asked for, and gets one more link where a narrow beam doesn't find it.
//!
//! Neighbour lists are atomics: readers never lock, writers of one list exclude each other by a striped lock. A reader that
//! meets a list in the middle of a change sees old and new neighbours mixed, all of them nodes, which costs nothing but a
//! little recall. Levels and order come from a seed, so that with one thread the same input makes the same bytes.
//! It must not know files or rows.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::vector::codes::{Points, Target};
use crate::vector::graph::format::FlatLinks;
use crate::vector::graph::grow::{Inherited, mend_all};
use crate::vector::graph::place::places;
use crate::vector::graph::prune::keep_diverse;
use crate::vector::graph::turns::in_turns;
use crate::vector::graph::walk::{Candidate, Links, MAX_NODES, NO_NODE, Scratch, beam_search, descend};
use crate::vector::kernels;

/// Highest level of a graph. With 16 links a level has a sixteenth of the nodes of the one below.
pub(crate) const MAX_LEVEL: usize = 15;
/// Fewest links of a node.
pub(crate) const MIN_LINKS: usize = 4;
/// Most links of a node on an upper level; twice as many on level 0.
pub(crate) const MAX_LINKS: usize = 128;
/// Widest beam of an insertion.
pub(crate) const MAX_EF_CONSTRUCTION: usize = 4_096;
/// Locks that the lists share.
const STRIPES: usize = 4_096;
/// Twins whose neighbours a new node looks at.
const TWINS_ASKED: usize = 8;
/// A beam that is to find every node: about the narrowest that searches for ten hits have.
const ASKING_BEAM: usize = 12;

/// Shape of the graph, effort and chance of its construction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BuildOptions {
    /// Links of a node on upper levels; twice as many on level 0.
    pub(crate) m: usize,
    /// Beam of an insertion.
    pub(crate) ef_construction: usize,
    /// Threads; 1 makes the result a function of the input.
    pub(crate) threads: usize,
    /// Seed of levels and order.
    pub(crate) seed: u64,
}

/// A graph in memory, without anyone writing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Graph {
    /// Links per node and upper level.
    pub(crate) m: usize,
    /// Where every search starts; it is on the highest level.
    pub(crate) entry: u32,
    /// Nodes x 2m, filled from the front, [`NO_NODE`] behind.
    pub(crate) level0: Vec<u32>,
    /// Nodes + 1: the upper lists of node i are numbers `starts[i]..starts[i + 1]`, level 1 first.
    pub(crate) upper_starts: Vec<u32>,
    /// Upper lists x m.
    pub(crate) upper: Vec<u32>,
}

impl Graph {
    /// The highest level, where the entry is.
    pub(crate) fn highest_level(&self) -> usize {
        level(&self.upper_starts, self.entry)
    }

    /// The lists.
    pub(crate) fn flat(&self) -> FlatLinks<'_> {
        FlatLinks::of(self)
    }
}

/// Level of a node.
pub(crate) fn level(upper_starts: &[u32], node: u32) -> usize {
    let node = node as usize;
    match (upper_starts.get(node), upper_starts.get(node + 1)) {
        (Some(start), Some(end)) => end.saturating_sub(*start) as usize,
        _ => 0,
    }
}

impl Links for Graph {
    fn nodes(&self) -> usize {
        self.upper_starts.len().saturating_sub(1)
    }

    fn for_each(&self, node: u32, level: usize, visit: impl FnMut(u32)) {
        self.flat().for_each(node, level, visit);
    }

    fn prefetch(&self, node: u32) {
        self.flat().prefetch(node);
    }
}

/// Start and width of a neighbour list; width 0 when the node isn't on the level.
#[inline]
pub(crate) fn slot(upper_starts: &[u32], m: usize, node: u32, level: usize) -> (usize, usize) {
    let node = node as usize;
    if level == 0 {
        return (node * 2 * m, 2 * m);
    }
    match (upper_starts.get(node), upper_starts.get(node + 1)) {
        (Some(start), Some(end)) if *start as usize + level <= *end as usize => {
            ((*start as usize + level - 1) * m, m)
        }
        _ => (0, 0),
    }
}

/// Builds the graph of nodes `0..nodes` of `points`; goes on with the one that the first of them inherit.
///
/// # Errors
/// [`Error::FailedPrecondition`] when `cancel` became true; [`Error::LimitExceeded`] for too many nodes.
pub(crate) fn build_graph(
    points: &Points<'_>,
    nodes: usize,
    inherited: Option<&Inherited<'_>>,
    options: &BuildOptions,
    cancel: &AtomicBool,
) -> Result<Graph> {
    if nodes == 0 || nodes >= MAX_NODES {
        return Err(Error::LimitExceeded {
            what: "vectors of a graph",
            value: nodes as u64,
            limit: MAX_NODES as u64,
        });
    }
    let mut builder = Builder::new(points, nodes, inherited, options);
    let order = builder.prepare(inherited, options.seed, cancel);
    let threads = options.threads;
    // In order of their levels, hence one share for all.
    let upper = order.partition_point(|node| builder.level(*node) > 0);
    let on_upper = order.get(..upper).unwrap_or_default();
    in_turns(on_upper, 1, threads, cancel, |node, worker| builder.insert(*node, worker));
    let starts = builder.starts(&order, threads, cancel);
    in_turns(&starts, threads, threads, cancel, |start, worker| builder.insert_on_level0(start, worker));
    in_turns(&starts, threads, threads, cancel, |start, worker| builder.show_the_way_to(start, worker));
    if cancel.load(Ordering::Relaxed) {
        return Err(Error::FailedPrecondition("cancelled".into()));
    }
    Ok(builder.finish())
}

/// Where searches for a node begin on level 0.
struct Start {
    node: u32,
    /// The node of level 1 to which the way down leads.
    at: AtomicU32,
}

/// The graph while it grows.
struct Builder<'a> {
    points: &'a Points<'a>,
    m: usize,
    ef_construction: usize,
    entry: u32,
    level0: Vec<AtomicU32>,
    upper_starts: Vec<u32>,
    upper: Vec<AtomicU32>,
    stripes: Vec<Mutex<()>>,
}

/// What a thread needs to insert.
#[derive(Debug, Default)]
struct Worker {
    scratch: Scratch,
    found: Vec<Candidate>,
    kept: Vec<Candidate>,
    list: Vec<Candidate>,
    rekept: Vec<Candidate>,
}

impl<'a> Builder<'a> {
    fn new(
        points: &'a Points<'a>,
        nodes: usize,
        inherited: Option<&Inherited<'_>>,
        options: &BuildOptions,
    ) -> Self {
        let m = options.m.clamp(MIN_LINKS, MAX_LINKS);
        let mut upper_starts = Vec::with_capacity(nodes + 1);
        let mut lists = 0_u32;
        upper_starts.push(0);
        for node in 0..nodes as u32 {
            let level = match inherited.filter(|inherited| (node as usize) < inherited.len()) {
                Some(inherited) => inherited.level(node),
                None => level_of(options.seed, node, m),
            };
            lists = lists.saturating_add(level as u32);
            upper_starts.push(lists);
        }
        let empty = |lists: usize, width: usize| -> Vec<AtomicU32> {
            std::iter::repeat_with(|| AtomicU32::new(NO_NODE)).take(lists * width).collect()
        };
        Self {
            points,
            m,
            ef_construction: options.ef_construction.clamp(m, MAX_EF_CONSTRUCTION),
            entry: 0,
            level0: empty(nodes, 2 * m),
            upper_starts,
            upper: empty(lists as usize, m),
            stripes: std::iter::repeat_with(|| Mutex::new(())).take(STRIPES).collect(),
        }
    }

    /// Takes over what is inherited and puts the entry in its place; the nodes to insert, in order.
    fn prepare(&mut self, inherited: Option<&Inherited<'_>>, seed: u64, cancel: &AtomicBool) -> Vec<u32> {
        let (mut kept, mut order) = (0, Vec::new());
        if let Some(inherited) = inherited {
            kept = inherited.len() as u32;
            order = mend_all(inherited, self.points, self.m, cancel, |node, level, list| {
                self.store(node, level, list);
            });
        }
        let whole = (0..kept).filter(|node| order.binary_search(node).is_err());
        let start = self.first_of_highest(whole);
        order.extend(kept..self.nodes() as u32);
        let Some(top) = self.first_of_highest(order.iter().copied()) else {
            self.entry = start.unwrap_or_default();
            return order;
        };
        // High levels before low ones, and shuffled within a level: rows of one document, which are alike, would otherwise be
        // inserted side by side, and the first of the graph would all lie in one place.
        order.sort_by_cached_key(|node| {
            let level = std::cmp::Reverse(self.level(*node));
            (*node != top, level, mix(seed ^ 0x5EED ^ u64::from(*node)))
        });
        match start {
            Some(start) if self.level(start) >= self.level(top) => self.entry = start,
            start => {
                // Everything else is inserted below it, so it has to be there first.
                if let Some(start) = start {
                    self.entry = start;
                    self.insert(top, &mut Worker::default());
                }
                self.entry = top;
                order.remove(0);
            }
        }
        order
    }

    /// Of the nodes on the highest level the first.
    fn first_of_highest(&self, nodes: impl Iterator<Item = u32>) -> Option<u32> {
        nodes.max_by_key(|node| (self.level(*node), std::cmp::Reverse(*node)))
    }

    fn level(&self, node: u32) -> usize {
        level(&self.upper_starts, node)
    }

    /// Inserts a node, on all of its levels.
    fn insert(&self, node: u32, worker: &mut Worker) {
        let target = self.points.target(node);
        let (level, highest) = (self.level(node), self.level(self.entry));
        let mut at = descend(self, &target, self.entry, highest, level + 1, &mut worker.scratch);
        for level in (0..=level.min(highest)).rev() {
            at = self.insert_on(level, node, &target, at, worker);
        }
    }

    /// Inserts a node that is on level 0 alone, when all others are there.
    fn insert_on_level0(&self, start: &Start, worker: &mut Worker) {
        if self.level(start.node) == 0 {
            let target = self.points.target(start.node);
            self.insert_on(0, start.node, &target, start.at.load(Ordering::Relaxed), worker);
        }
    }

    /// Links a node and its neighbours on a level to each other; the nearest that a beam from `at` finds.
    fn insert_on(&self, level: usize, node: u32, target: &Target<'_>, at: u32, worker: &mut Worker) -> u32 {
        beam_search(self, target, at, self.ef_construction, level, &mut worker.scratch);
        worker.found.clear();
        worker.found.extend(worker.scratch.pool.found().filter(|found| found.node != node));
        self.look_past_twins(node, level, target, worker);
        let width = if level == 0 { 2 * self.m } else { self.m };
        keep_diverse(self.points, node, &worker.found, width, &mut worker.kept);
        {
            // A node that is inserted again may be linked back to meanwhile.
            let _writing = self.stripes.get(node as usize % STRIPES).map(Mutex::lock);
            self.store(node, level, &worker.kept);
        }
        for i in 0..worker.kept.len() {
            if let Some(neighbour) = worker.kept.get(i).copied() {
                let back = Candidate { node, ..neighbour };
                self.link_back(neighbour.node, back, level, &mut worker.list, &mut worker.rekept);
            }
        }
        worker.found.first().map_or(at, |nearest| nearest.node)
    }

    /// Where searches for nodes begin, in the order of the place on level 1: neighbours follow each other, so that what a
    /// search reads is in the caches when the next one wants it. The upper levels are complete.
    fn starts(&self, nodes: &[u32], threads: usize, cancel: &AtomicBool) -> Vec<Start> {
        let begin = |node: &u32| Start { node: *node, at: AtomicU32::new(self.entry) };
        let mut starts: Vec<Start> = nodes.iter().map(begin).collect();
        let highest = self.level(self.entry);
        in_turns(&starts, threads, threads, cancel, |start, worker: &mut Worker| {
            let target = self.points.target(start.node);
            let at = descend(self, &target, self.entry, highest, 1, &mut worker.scratch);
            start.at.store(at, Ordering::Relaxed);
        });
        let places = places(self, self.entry, 1);
        let place = |node: u32| places.get(node as usize).copied().unwrap_or(u32::MAX);
        starts.sort_by_cached_key(|start| (place(start.at.load(Ordering::Relaxed)), start.node));
        starts
    }

    /// Asks for a node as a search with a narrow beam would. Where that ends elsewhere, as it does before small clusters to
    /// which few links lead, the nearest node met that has room in its list links to it, and whoever asks for something
    /// near it finds the way. No link is given up for that.
    fn show_the_way_to(&self, start: &Start, worker: &mut Worker) {
        let node = start.node;
        let target = self.points.target(node);
        let scratch = &mut worker.scratch;
        beam_search(self, &target, start.at.load(Ordering::Relaxed), ASKING_BEAM, 0, scratch);
        let found = || scratch.pool.found();
        let (Some(nearest), Some(farthest)) = (found().next(), found().last()) else { return };
        // By product, others may be nearer to a node than it is itself; and twins stand for each other.
        let is_beyond = target.distance(node) >= farthest.distance;
        if is_beyond || self.points.same(node, nearest.node) || found().any(|found| found.node == node) {
            return;
        }
        for found in found() {
            let _writing = self.stripes.get(found.node as usize % STRIPES).map(Mutex::lock);
            let free = |slot: &&AtomicU32| slot.load(Ordering::Relaxed) == NO_NODE;
            if let Some(slot) = self.slots(found.node, 0).iter().find(free) {
                slot.store(node, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Where nodes equal to the new one fill most of the beam, adds what the first of them link to: the new node needs
    /// neighbours that are not its twins.
    fn look_past_twins(&self, node: u32, level: usize, target: &Target<'_>, worker: &mut Worker) {
        let found = &mut worker.found;
        let twins = found.iter().filter(|found| self.points.same(node, found.node));
        let twins: Vec<u32> = twins.map(|twin| twin.node).collect();
        if twins.len() * 2 < found.len() || found.len() < self.m {
            return;
        }
        for &twin in twins.iter().take(TWINS_ASKED) {
            self.for_each(twin, level, |neighbour| {
                if neighbour != node && !self.points.same(node, neighbour) {
                    found.push(Candidate { distance: target.distance(neighbour), node: neighbour });
                }
            });
        }
        found.sort_by(by_distance);
        found.dedup_by_key(|found| found.node);
    }

    /// Adds a link to the list of `node`; where it is full, prunes.
    fn link_back(
        &self,
        node: u32,
        new: Candidate,
        level: usize,
        list: &mut Vec<Candidate>,
        kept: &mut Vec<Candidate>,
    ) {
        let Some(stripe) = self.stripes.get(node as usize % STRIPES) else { return };
        let _writing = stripe.lock();
        let slots = self.slots(node, level);
        let used = slots.iter().take_while(|slot| slot.load(Ordering::Relaxed) != NO_NODE).count();
        if slots.iter().any(|slot| slot.load(Ordering::Relaxed) == new.node) {
            return;
        }
        if let Some(free) = slots.get(used) {
            free.store(new.node, Ordering::Relaxed);
            return;
        }
        let target = self.points.target(node);
        list.clear();
        list.push(new);
        list.extend(slots.iter().map(|slot| {
            let neighbour = slot.load(Ordering::Relaxed);
            Candidate { distance: target.distance(neighbour), node: neighbour }
        }));
        list.sort_by(by_distance);
        keep_diverse(self.points, node, list, slots.len(), kept);
        self.store(node, level, kept);
    }

    fn slots(&self, node: u32, level: usize) -> &[AtomicU32] {
        let (start, width) = slot(&self.upper_starts, self.m, node, level);
        let lists = if level == 0 { &self.level0 } else { &self.upper };
        lists.get(start..start + width).unwrap_or_default()
    }

    fn store(&self, node: u32, level: usize, neighbours: &[Candidate]) {
        let padded = neighbours.iter().map(|neighbour| neighbour.node).chain(std::iter::repeat(NO_NODE));
        for (slot, neighbour) in self.slots(node, level).iter().zip(padded) {
            slot.store(neighbour, Ordering::Relaxed);
        }
    }

    fn finish(self) -> Graph {
        let plain = |lists: Vec<AtomicU32>| lists.into_iter().map(AtomicU32::into_inner).collect();
        Graph {
            m: self.m,
            entry: self.entry,
            level0: plain(self.level0),
            upper_starts: self.upper_starts,
            upper: plain(self.upper),
        }
    }
}

impl Links for Builder<'_> {
    fn nodes(&self) -> usize {
        self.upper_starts.len().saturating_sub(1)
    }

    fn for_each(&self, node: u32, level: usize, mut visit: impl FnMut(u32)) {
        for slot in self.slots(node, level) {
            match slot.load(Ordering::Relaxed) {
                NO_NODE => return,
                neighbour => visit(neighbour),
            }
        }
    }

    fn prefetch(&self, node: u32) {
        kernels::prefetch(self.slots(node, 0));
    }
}

/// Nearest first; equal distances by node, so that the same node twice stands side by side.
pub(crate) fn by_distance(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    a.distance.total_cmp(&b.distance).then(a.node.cmp(&b.node))
}

/// Level of a node: geometric with ratio 1/m, a function of seed and node alone.
fn level_of(seed: u64, node: u32, m: usize) -> usize {
    // 53 random bits, moved off zero, whose logarithm is infinite.
    let uniform = ((mix(seed ^ u64::from(node)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    ((-uniform.ln() / (m as f64).ln()) as usize).min(MAX_LEVEL)
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): spreads a number over 64 bits.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::schema::Distance;
    use crate::vector::samples::{clustered, floats};

    fn build(nodes: usize, threads: usize, seed: u64) -> Graph {
        let vectors = clustered(Distance::Euclidean, nodes, 24, 3);
        let points = Points::Floats(floats(Distance::Euclidean, 24, &vectors));
        let options = BuildOptions { m: 8, ef_construction: 40, threads, seed };
        build_graph(&points, nodes, None, &options, &AtomicBool::new(false)).unwrap()
    }

    #[test]
    fn one_thread_and_one_seed_make_one_graph() {
        let graph = build(1_200, 1, 5);
        assert_eq!(graph, build(1_200, 1, 5));
        assert_ne!(graph, build(1_200, 1, 6));
    }

    #[test]
    fn lists_hold_other_nodes_once_and_within_their_level() {
        for threads in [1, 4] {
            let graph = build(1_200, threads, 7);
            for node in 0..1_200_u32 {
                for level in 0..=MAX_LEVEL {
                    let mut list = Vec::new();
                    graph.for_each(node, level, |neighbour| list.push(neighbour));
                    assert!(!list.contains(&node), "{node} links to itself");
                    let count = list.len();
                    for neighbour in &list {
                        let (_, width) = slot(&graph.upper_starts, graph.m, *neighbour, level);
                        assert!(width > 0, "{neighbour} is not on level {level}");
                    }
                    list.sort_unstable();
                    list.dedup();
                    assert_eq!(list.len(), count, "{node} links twice");
                }
            }
        }
    }

    /// Inserts the nodes of the upper levels; all nodes in order, and where searches for them begin.
    fn upper_levels<'a>(points: &'a Points<'a>, nodes: usize) -> (Builder<'a>, Vec<u32>, Vec<Start>) {
        let options = BuildOptions { m: 8, ef_construction: 40, threads: 1, seed: 5 };
        let never = AtomicBool::new(false);
        let mut builder = Builder::new(points, nodes, None, &options);
        let order = builder.prepare(None, options.seed, &never);
        for node in order.iter().filter(|node| builder.level(**node) > 0) {
            builder.insert(*node, &mut Worker::default());
        }
        let starts = builder.starts(&order, 1, &never);
        (builder, order, starts)
    }

    #[test]
    fn neighbours_are_inserted_one_after_the_other() {
        let vectors = clustered(Distance::Euclidean, 2_000, 24, 3);
        let points = Points::Floats(floats(Distance::Euclidean, 24, &vectors));
        let (_, mut order, starts) = upper_levels(&points, 2_000);
        let apart = |nodes: &[u32]| -> f32 {
            nodes.windows(2).map(|pair| points.target(pair[0]).distance(pair[1]).sqrt()).sum()
        };
        let mut nodes: Vec<u32> = starts.iter().map(|start| start.node).collect();
        let (of_starts, of_order) = (apart(&nodes), apart(&order));
        assert!(of_starts < 0.75 * of_order, "{of_starts}, at random {of_order}");
        nodes.sort_unstable();
        order.sort_unstable();
        assert_eq!(nodes, order);
    }

    #[test]
    fn a_narrow_beam_finds_what_it_would_miss() {
        // Small clusters, to which few links lead.
        let (nodes, clusters, dimension) = (8_000, 800, 24);
        let (centres, offsets) = (
            clustered(Distance::Euclidean, clusters, dimension, 3),
            clustered(Distance::Euclidean, nodes, dimension, 4),
        );
        let near =
            |i: usize| offsets[i] * 0.05 + centres[(i / dimension % clusters) * dimension + i % dimension];
        let vectors: Vec<f32> = (0..nodes * dimension).map(near).collect();
        let points = Points::Floats(floats(Distance::Euclidean, dimension, &vectors));
        let (builder, _, starts) = upper_levels(&points, nodes);
        let mut worker = Worker::default();
        starts.iter().for_each(|start| builder.insert_on_level0(start, &mut worker));
        let missed = |worker: &mut Worker| {
            let is_missed = |start: &&Start| {
                let target = points.target(start.node);
                beam_search(
                    &builder,
                    &target,
                    start.at.load(Ordering::Relaxed),
                    ASKING_BEAM,
                    0,
                    &mut worker.scratch,
                );
                worker.scratch.pool.found().all(|found| found.node != start.node)
            };
            starts.iter().filter(is_missed).count()
        };
        let before = missed(&mut worker);
        starts.iter().for_each(|start| builder.show_the_way_to(start, &mut worker));
        let after = missed(&mut worker);
        assert!(before > 0 && after * 4 < before, "{before} missed, then {after}");
    }

    #[test]
    fn a_cancelled_build_says_so() {
        let vectors = clustered(Distance::Euclidean, 100, 8, 3);
        let points = Points::Floats(floats(Distance::Euclidean, 8, &vectors));
        let options = BuildOptions { m: 8, ef_construction: 40, threads: 1, seed: 1 };
        let error = build_graph(&points, 100, None, &options, &AtomicBool::new(true)).unwrap_err();
        assert!(matches!(error, Error::FailedPrecondition(message) if message == "cancelled"));
    }

    #[test]
    fn levels_thin_out_geometrically() {
        let levels: Vec<usize> = (0..100_000).map(|node| level_of(1, node, 16)).collect();
        let above: usize = levels.iter().filter(|level| **level > 0).count();
        assert!((5_500..7_000).contains(&above), "{above} of 100,000 above level 0, expected a sixteenth");
        assert!(levels.iter().all(|level| *level <= MAX_LEVEL));
    }
}
