//! Which beam reaches which recall: measured on a sample when a graph is built, so that a search can aim at a recall.
//!
//! Queries lie near vectors of the column, yet at no place that the graph knows: from a vector a step away from one of its
//! neighbours, so that they are no easier than those that users ask. Their true neighbours come from comparing all
//! vectors. It must not know files.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::schema::RecallTarget;
use crate::vector::Scored;
use crate::vector::codes::{Floats, Target, sample};
use crate::vector::distance;
use crate::vector::exact;
use crate::vector::graph::builder::Graph;
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
const NEAREST: usize = 10;
/// A query leads away from the neighbour of this rank, found with twice the beam...
const PARTNER_RANK: usize = 32;
/// ...by this part of its distance.
const STEP_AWAY: f32 = 1.0;
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

/// Beams and what recall they reach; empty when cancelled or when no query can be made of the vectors.
pub(crate) fn calibrate(column: &Column<'_>, cancel: &AtomicBool) -> CalibratedBeams {
    let mut beams = CalibratedBeams::default();
    let nodes = column.graph.upper_starts.len().saturating_sub(1);
    let wanted = (nodes / VECTORS_PER_QUERY).clamp(*QUERIES.start(), *QUERIES.end());
    let ask_all = |scratch: &mut Scratch, nodes: &[u32]| -> Vec<PreparedQuery> {
        let nodes = nodes.iter().filter(|_| !cancel.load(Ordering::Relaxed));
        let asked = nodes.filter_map(|node| asked_near(*node, column, scratch)).collect();
        (column.read)(0..column.walked.floats.rows());
        asked
    };
    let asked: Vec<PreparedQuery> = sample(nodes, wanted)
        .par_chunks(QUERIES_OF_A_PIECE)
        .map_init(Scratch::default, ask_all)
        .flatten()
        .collect();
    if cancel.load(Ordering::Relaxed) {
        return beams;
    }
    // All at once: the column is read from memory a single time.
    let nearest =
        exact::scan_through(&asked, column.walked.floats.vectors, column.present, NEAREST, column.read);
    let queries: Vec<Query> =
        asked.into_iter().zip(nearest).filter_map(|(asked, nearest)| Query::new(asked, &nearest)).collect();
    if queries.is_empty() || cancel.load(Ordering::Relaxed) {
        return beams;
    }
    for (place, ef) in beams.iter_mut().zip(BEAMS) {
        let recall = |scratch: &mut Scratch, query: &Query| query.recall(ef as usize, column, scratch);
        let mut recalls: Vec<f32> = queries.par_iter().map_init(Scratch::default, recall).collect();
        recalls.sort_unstable_by(f32::total_cmp);
        let counted = recalls.get(recalls.len() / LET_OFF..).unwrap_or_default();
        let recall = counted.iter().sum::<f32>() / counted.len().max(1) as f32;
        *place = (ef, recall);
        if recall >= ENOUGH {
            break;
        }
    }
    beams
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
}

/// What is asked near a node; `None` when the place is none for a query.
fn asked_near(node: u32, column: &Column<'_>, scratch: &mut Scratch) -> Option<PreparedQuery> {
    let Floats { distance, dimension, .. } = column.walked.floats;
    let here = column.walked.floats.vector(node);
    let prepared = PreparedQuery::new(distance, dimension, here).ok()?;
    // On codes this is near enough, and of the vectors that lie in a file just two are read.
    let mut memory = TargetMemory::default();
    let (target, _) = column.walked.target(&prepared, &mut memory);
    walk(column.graph, &target, 2 * PARTNER_RANK, scratch);
    let partner = scratch.pool.found().take(PARTNER_RANK).last()?.node;
    let there = column.walked.floats.vector(partner);
    let away: Vec<f32> = here.iter().zip(there).map(|(a, b)| a + (a - b) * STEP_AWAY).collect();
    PreparedQuery::new(distance, dimension, &away).ok()
}

impl Query {
    /// `None` when nothing is near.
    fn new(prepared: PreparedQuery, nearest: &[Scored]) -> Option<Self> {
        Some(Self { prepared, farthest: nearest.last()?.score, wanted: nearest.len() })
    }

    /// What share of its neighbours a beam finds.
    fn recall(&self, ef: usize, column: &Column<'_>, scratch: &mut Scratch) -> f32 {
        let Floats { distance, .. } = column.walked.floats;
        let mut memory = TargetMemory::default();
        let (target, _) = column.walked.target(&self.prepared, &mut memory);
        walk(column.graph, &target, ef, scratch);
        let compared = target.most_rescored(NEAREST);
        let found = scratch.pool.found().take(compared).map(|found| found.node);
        let mut scores: Vec<f32> = Vec::with_capacity(compared);
        column.walked.floats.each_of(found, column.read, |vector| {
            scores.push(distance::score(distance, self.prepared.vector(), vector));
        });
        scores.sort_unstable_by(|a, b| b.total_cmp(a));
        // By score, not by name: equal vectors stand for each other.
        let found = scores.iter().take(self.wanted).filter(|score| **score >= self.farthest).count();
        found as f32 / self.wanted.max(1) as f32
    }
}

fn walk(graph: &Graph, target: &Target<'_>, ef: usize, scratch: &mut Scratch) {
    let near = descend(graph, target, graph.entry, graph.highest_level(), 1, scratch);
    beam_search(graph, target, near, ef, 0, scratch);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

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
