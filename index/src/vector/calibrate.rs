//! Which beam reaches which recall, and how far neighbours spread: measured on a sample when a graph is built, so that a search
//! can aim at a recall, and knows which distances are about the same.
//!
//! Queries lie near vectors of the column, yet at no place that the graph knows: from a vector a step away from one of its
//! neighbours, so that they are no easier than those that users ask. Their true neighbours come from comparing all
//! vectors. It must not know files.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::background::give_way;
use crate::schema::RecallTarget;
use crate::vector::Scored;
use crate::vector::bits::{BitCodes, BitQuery, ERRORS_OF_TRUTH, ScanScratch, taking};
use crate::vector::codes::{Floats, Target, sample};
use crate::vector::distance;
use crate::vector::exact;
use crate::vector::graph::builder::{Graph, by_distance};
use crate::vector::graph::format::{CalibratedBeams, MAX_CALIBRATED};
use crate::vector::graph::walk::{Scratch, beam_search, descend};
use crate::vector::pass::Read;
use crate::vector::query::PreparedQuery;
use crate::vector::walked::{TargetMemory, Walked};

/// Beams that are measured, each twice as wide as the one before.
const BEAMS: [u32; MAX_CALIBRATED] = [16, 32, 64, 128, 256, 512];
/// Queries of the sample: one for so many vectors...
const VECTORS_PER_QUERY: usize = 100;
/// ...and no fewer or more than these: what is measured on a small segment counts for little.
const QUERIES: RangeInclusive<usize> = 50..=200;
/// Queries behind which the memory of the vectors that they were compared with is given back.
const QUERIES_OF_A_PIECE: usize = 2;
/// Of each so many queries, the one whose neighbours were found worst doesn't count: hardly any path leads to a few vectors
/// of most collections, and each of them would weigh as much as the half of the loss that is asked about.
const LET_OFF: usize = 100;
/// Neighbours that have to be found.
pub(crate) const NEAREST: usize = 10;
/// How many times as far as searches look behind the last neighbour by code the true ones are looked for...
const REACHES_OF_TRUTH: f32 = 2.0;
/// ...among so many, at most.
const MOST_COMPARED: usize = 1_000;
/// A query leads away from the neighbour of this rank, found with twice the beam...
const PARTNER_RANK: usize = 32;
/// ...by this part of its distance.
const STEP_AWAY: f32 = 1.0;
/// Of the sample, one vector of so many has neighbours that lie closer together than the spread says.
const CLOSE_ONE_OF: usize = 4;
/// A wider beam is not measured behind such a recall.
const ENOUGH: f32 = 0.9995;

/// What searches will compare with.
#[derive(Clone, Copy)]
pub(crate) struct Column<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) walked: Walked<'a>,
    /// Rows with a vector; `None`: all.
    pub(crate) present: Option<&'a RoaringBitmap>,
    /// Told which vectors were read.
    pub(crate) read: &'a Read<'a>,
}

/// What was measured on a graph; zeros where nothing was.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Calibration {
    /// Beams, without a slack, and what recall they reach.
    pub(crate) beams: CalibratedBeams,
    /// See [`Measured::spread`](crate::vector::graph::format::Measured::spread).
    pub(crate) spread: f32,
}

/// Measures a graph; nothing when cancelled or when no query can be made of the vectors.
pub(crate) fn calibrate(column: &Column<'_>, cancel: &AtomicBool) -> Calibration {
    let mut calibration = Calibration::default();
    let nodes = column.graph.upper_starts.len().saturating_sub(1);
    let wanted = (nodes / VECTORS_PER_QUERY).clamp(*QUERIES.start(), *QUERIES.end());
    let ask_all = |scratch: &mut Scratch, nodes: &[u32]| -> Vec<Asked> {
        let nodes = nodes.iter().filter(|_| !cancel.load(Ordering::Relaxed));
        let asked = nodes.filter_map(|node| asked_near(*node, column, scratch)).collect();
        (column.read)(0..column.walked.floats.rows());
        asked
    };
    let asked: Vec<Asked> = sample(nodes, wanted)
        .par_chunks(QUERIES_OF_A_PIECE)
        .map_init(Scratch::default, ask_all)
        .flatten()
        .collect();
    if cancel.load(Ordering::Relaxed) {
        return calibration;
    }
    calibration.spread = lower_quartile(asked.iter().filter_map(|asked| asked.spread).collect());
    let asked: Vec<PreparedQuery> = asked.into_iter().filter_map(|asked| asked.query).collect();
    let Column { walked, present, read, .. } = *column;
    let truth = Truth { walked: &walked, nodes, present, read };
    let mut queries = match truth.bits() {
        Some(bits) => {
            let ask = |memory: &mut BoundsMemory, asked| truth.by_bounds(asked, bits, memory);
            asked.into_par_iter().map_init(BoundsMemory::default, ask).flatten().collect()
        }
        None => truth.by_scan(asked),
    };
    if queries.is_empty() || cancel.load(Ordering::Relaxed) {
        return calibration;
    }
    for (place, ef) in calibration.beams.iter_mut().zip(BEAMS) {
        let recall = |scratch: &mut Scratch, query: &mut Query| {
            give_way();
            query.recall(ef as usize, column, scratch)
        };
        let mut recalls: Vec<f32> = queries.par_iter_mut().map_init(Scratch::default, recall).collect();
        recalls.sort_unstable_by(f32::total_cmp);
        let counted = recalls.get(recalls.len() / LET_OFF..).unwrap_or_default();
        let recall = counted.iter().sum::<f32>() / counted.len().max(1) as f32;
        *place = (ef, recall);
        if recall >= ENOUGH {
            break;
        }
    }
    calibration
}

fn lower_quartile(mut numbers: Vec<f32>) -> f32 {
    numbers.sort_unstable_by(f32::total_cmp);
    numbers.get(numbers.len() / CLOSE_ONE_OF).copied().unwrap_or_default()
}

/// The beam that should reach a recall, between those measured as far as the losses tell; `None` when none was measured.
pub(crate) fn beam_for(target: RecallTarget, beams: &CalibratedBeams) -> Option<usize> {
    // Doubling the beam divides the loss by about the same factor each time, so that the logarithms lie near a line.
    let loss = |recall: f32| (1.0 - recall).clamp(1e-4, 1.0).ln();
    let wanted = loss(target.get());
    let mut before: Option<(f32, f32)> = None;
    for (ef, recall) in beams.iter().take_while(|(ef, _)| *ef > 0) {
        let (here, beam) = (loss(*recall), (*ef as f32).ln());
        if here <= wanted {
            let beam = match before {
                Some((loss, narrower)) if loss > here => {
                    narrower + (beam - narrower) * (loss - wanted) / (loss - here)
                }
                _ => beam,
            };
            return Some(beam.exp().ceil() as usize);
        }
        before = Some((here, beam));
    }
    before.map(|(_, widest)| widest.exp().round() as usize)
}

/// A query of the sample and its true neighbours.
struct Query {
    prepared: PreparedQuery,
    /// Score of the last neighbour wanted.
    farthest: f32,
    wanted: usize,
    scores: Scores,
}

/// What a node of the sample is good for.
struct Asked {
    /// What is asked near it, if the place is one for a query.
    query: Option<PreparedQuery>,
    /// How its neighbours spread, where distances tell.
    spread: Option<f32>,
}

/// Looks around a node; `None` when it can't be asked for.
fn asked_near(node: u32, column: &Column<'_>, scratch: &mut Scratch) -> Option<Asked> {
    let Floats { distance, dimension, .. } = column.walked.floats;
    let here = column.walked.floats.vector(node);
    let prepared = PreparedQuery::new(distance, dimension, here).ok()?;
    // On codes this is near enough, and of the vectors that lie in a file just two are read.
    let mut memory = TargetMemory::default();
    let (target, unit) = column.walked.target(&prepared, &mut memory);
    walk(column.graph, &target, 2 * PARTNER_RANK, scratch);
    // The node itself is the nearest.
    let neighbour = |rank: usize| scratch.pool.found().nth(rank);
    let (hit, partner) = (neighbour(NEAREST), neighbour(PARTNER_RANK));
    let spread = distance::to_itself(distance).zip(hit).zip(partner).and_then(|((zero, hit), partner)| {
        let times = (partner.distance - zero / unit) / (hit.distance - zero / unit);
        let spread = times.ln() / (PARTNER_RANK as f32 / NEAREST as f32).ln();
        (spread.is_finite() && spread >= 0.0).then_some(spread)
    });
    let partner = scratch.pool.found().take(PARTNER_RANK).last()?.node;
    let there = column.walked.floats.vector(partner);
    let away: Vec<f32> = here.iter().zip(there).map(|(a, b)| a + (a - b) * STEP_AWAY).collect();
    Some(Asked { query: PreparedQuery::new(distance, dimension, &away).ok(), spread })
}

/// True neighbours among the nodes of a column.
struct Truth<'a> {
    walked: &'a Walked<'a>,
    nodes: usize,
    present: Option<&'a RoaringBitmap>,
    read: &'a Read<'a>,
}

/// Memory of [`Truth::by_bounds`], used again by the next.
#[derive(Debug, Default)]
struct BoundsMemory {
    bits: BitQuery,
    scan: ScanScratch,
    target: TargetMemory,
}

impl<'a> Truth<'a> {
    /// Bits that rule most nodes out, where there are other codes to compare the rest by: vectors read here and there would
    /// bring most of the column into memory.
    fn bits(&self) -> Option<&'a BitCodes<'a>> {
        let Walked { int4, int8, bits, .. } = self.walked;
        bits.as_ref().filter(|_| int4.is_some() || int8.is_some())
    }

    /// Those of one query, of whose nodes bits rule most out, the other codes most of the rest, and vectors decide between
    /// what is left. Neighbours that lie farther off than all that these are known to err count as none: one in thousands.
    /// `None` when nothing is near.
    fn by_bounds(
        &self,
        prepared: PreparedQuery,
        bits: &BitCodes<'_>,
        memory: &mut BoundsMemory,
    ) -> Option<Query> {
        let BoundsMemory { bits: query, scan, target } = memory;
        bits.prepare(prepared.rotated(), query);
        let (codes, unit) = self.walked.target(&prepared, target);
        let mut all = taking(0..self.nodes as u32);
        let next = |places: &mut [u32]| {
            give_way();
            all(places)
        };
        let mut found = bits.scan(query, ERRORS_OF_TRUTH, next, NEAREST, (&codes, unit), scan);
        found.sort_unstable_by(by_distance);
        let last = found.get(NEAREST - 1).or(found.last()).copied()?;
        let farthest = last.distance + REACHES_OF_TRUTH * codes.reach(last.node, last.distance);
        let near = found.iter().take(MOST_COMPARED).take_while(|found| found.distance <= farthest);
        let mut scores = Scores::default();
        scores.compare(near.map(|found| found.node), &prepared, self.walked.floats, self.read);
        let mut best: Vec<f32> = scores.0.values().copied().collect();
        best.sort_unstable_by(|a, b| b.total_cmp(a));
        best.truncate(NEAREST);
        Some(Query { prepared, farthest: *best.last()?, wanted: best.len(), scores })
    }

    /// Those of all queries at once: the column is read from memory a single time.
    fn by_scan(&self, asked: Vec<PreparedQuery>) -> Vec<Query> {
        let vectors = self.walked.floats.vectors;
        let queries: Vec<&PreparedQuery> = asked.iter().collect();
        let nearest = exact::scan_through(&queries, vectors, self.present, NEAREST, self.read);
        let query = |(prepared, nearest): (PreparedQuery, Vec<Scored>)| {
            let (farthest, wanted) = (nearest.last()?.score, nearest.len());
            Some(Query { prepared, farthest, wanted, scores: Scores::default() })
        };
        asked.into_iter().zip(nearest).filter_map(query).collect()
    }
}

/// Scores of the nodes that a query was compared with: one beam finds mostly what another found.
#[derive(Debug, Default)]
struct Scores(HashMap<u32, f32>);

impl Scores {
    /// Those of nodes, in some order; of which those that aren't known yet are read.
    fn compare(
        &mut self,
        nodes: impl Iterator<Item = u32>,
        query: &PreparedQuery,
        floats: Floats<'_>,
        read: &Read<'_>,
    ) -> Vec<f32> {
        let (known, new): (Vec<u32>, Vec<u32>) = nodes.partition(|node| self.0.contains_key(node));
        let mut scores: Vec<f32> = known.iter().filter_map(|node| self.0.get(node)).copied().collect();
        let first_new = scores.len();
        floats.each_of(new.iter().copied(), read, |vector| {
            scores.push(distance::score(floats.distance, query.vector(), vector));
        });
        self.0.extend(new.into_iter().zip(scores.iter().skip(first_new).copied()));
        scores
    }
}

impl Query {
    /// What share of its neighbours a beam finds.
    fn recall(&mut self, ef: usize, column: &Column<'_>, scratch: &mut Scratch) -> f32 {
        let Self { prepared, farthest, wanted, scores } = self;
        let mut memory = TargetMemory::default();
        let (target, _) = column.walked.target(prepared, &mut memory);
        walk(column.graph, &target, ef, scratch);
        let found = scratch.pool.found().take(target.most_rescored(NEAREST)).map(|found| found.node);
        let mut scores = scores.compare(found, prepared, column.walked.floats, column.read);
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        // By score, not by name: equal vectors stand for each other.
        let found = scores.iter().take(*wanted).filter(|score| **score >= *farthest).count();
        found as f32 / (*wanted).max(1) as f32
    }
}

fn walk(graph: &Graph, target: &Target<'_>, ef: usize, scratch: &mut Scratch) {
    let near = descend(graph, target, graph.entry, graph.highest_level(), 1, scratch);
    beam_search(graph, target, near, ef, 0, scratch);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::schema::Distance;
    use crate::vector::bits::encode_bits;
    use crate::vector::codes::{CheckTruth, Points};
    use crate::vector::distance::{CodeKernel, prepare_vector};
    use crate::vector::graph::builder::{BuildOptions, build_graph};
    use crate::vector::int4::encode_int4;
    use crate::vector::rotation::Frame;
    use crate::vector::samples::{clustered, floats};

    #[test]
    fn bounds_leave_the_truth_as_a_scan_finds_it() {
        let (dimension, nodes) = (96, 4_000);
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclidean] {
            let vectors = clustered(distance, nodes, dimension, 1);
            let floats = floats(distance, dimension, &vectors);
            let read: &Read<'_> = &|_| ();
            let (frame, check) = (Frame::of(floats, nodes, read), CheckTruth::of(floats, nodes, read));
            let int4 = encode_int4(floats, nodes, &frame, &check, read).expect("int4");
            let kernel = CodeKernel::of(distance);
            let int4 = Some(int4.codes(kernel, &frame.centre));
            let coded = Walked { floats, int4, int8: None, bits: None };
            let bits = encode_bits(&coded, nodes, &frame, &check, read).expect("bits");
            let walked = Walked { bits: Some(bits.codes(kernel, &frame.centre)), ..coded };
            let truth = Truth { walked: &walked, nodes, present: None, read };
            let asked = || {
                let queries = clustered(distance, 50, dimension, 9);
                let query = |vector: &[f32]| PreparedQuery::new(distance, dimension, vector).unwrap();
                queries.chunks(dimension).map(query).collect::<Vec<_>>()
            };
            let by_scan = truth.by_scan(asked());
            let mut memory = BoundsMemory::default();
            let bits = truth.bits().expect("other codes to compare by");
            for (query, scanned) in asked().into_iter().zip(by_scan) {
                let found = truth.by_bounds(query, bits, &mut memory).unwrap();
                assert_eq!(
                    (found.farthest, found.wanted),
                    (scanned.farthest, scanned.wanted),
                    "{distance:?}"
                );
                assert!(found.scores.0.len() < nodes / 10, "{} vectors were read", found.scores.0.len());
            }
            let alone = Walked { int4: None, ..walked };
            assert!(Truth { walked: &alone, ..truth }.bits().is_none(), "nothing but vectors to compare by");
        }
    }

    #[test]
    fn neighbours_spread_as_the_dimension_has_it() {
        let nodes = 4_000;
        let spread_of = |distance: Distance, vectors: &[f32]| {
            let floats = floats(distance, vectors.len() / nodes, vectors);
            let options = BuildOptions { m: 16, ef_construction: 100, threads: 1, seed: 1 };
            let never = AtomicBool::new(false);
            let graph = build_graph(&Points::Floats(floats), nodes, None, &options, &never).unwrap();
            let walked = Walked { floats, int4: None, int8: None, bits: None };
            calibrate(&Column { graph: &graph, walked, present: None, read: &|_| () }, &never).spread
        };
        let mut rng = StdRng::seed_from_u64(3);
        let mut spread = |distance: Distance, dimension: usize| {
            // Evenly in a cube; under cosine in a patch of a sphere.
            let mut vector = || -> Vec<f32> {
                let mut vector: Vec<f32> = (0..dimension).map(|_| rng.random::<f32>()).collect();
                if distance == Distance::Cosine {
                    vector.push(4.0);
                    prepare_vector(distance, &mut vector).unwrap();
                }
                vector
            };
            let vectors: Vec<f32> = (0..nodes).flat_map(|_| vector()).collect();
            spread_of(distance, &vectors)
        };
        for dimension in [2, 4, 8] {
            // Squares of distances grow like this; the borders of the cube blur it, and the quarter of the sample that lies closest
            // together is asked about.
            let expected = 2.0 / dimension as f32;
            for distance in [Distance::Euclidean, Distance::Cosine] {
                let found = spread(distance, dimension);
                assert!(
                    (0.6 * expected..1.1 * expected).contains(&found),
                    "{distance:?} in {dimension} dimensions: {found}, expected about {expected}"
                );
            }
        }
        assert_eq!(spread(Distance::Dot, 4), 0.0);
        // Places at which all vectors are equal tell nothing.
        assert_eq!(spread_of(Distance::Euclidean, &vec![1.0; nodes * 3]), 0.0);
    }

    #[test]
    fn a_beam_is_found_between_those_measured() {
        let target = |share| RecallTarget::new(share, "").unwrap();
        let beams = [(16, 0.90), (32, 0.95), (64, 0.975), (128, 0.9999), (0, 0.0), (0, 0.0)];
        assert_eq!(beam_for(target(0.8), &beams), Some(16));
        let between = beam_for(target(0.9647), &beams).unwrap();
        assert!((44..47).contains(&between), "half of the way in logarithms: {between}");
        assert!((64..128).contains(&beam_for(target(0.99), &beams).unwrap()));
        // No beam reached it: the widest is the best that is known.
        let poor = [(16, 0.5), (32, 0.6), (64, 0.7), (128, 0.8), (256, 0.85), (512, 0.9)];
        assert_eq!(beam_for(target(0.99), &poor), Some(512));
        // A wider beam that found less, by chance.
        let uneven = [(16, 0.97), (32, 0.96), (64, 0.999), (0, 0.0), (0, 0.0), (0, 0.0)];
        assert!((32..=64).contains(&beam_for(target(0.99), &uneven).unwrap()));
        assert_eq!(beam_for(target(0.99), &CalibratedBeams::default()), None);
    }
}
