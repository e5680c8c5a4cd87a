//! Int8 codes of vectors, a quarter of the bytes of f32: what graphs are built on, and walked on where four-bit codes
//! ([`int4`](crate::vector::int4)) don't fit.
//!
//! One scale (and, for Euclidean, one offset) serves a whole column, so that the integer kernels order codes without any
//! number beside them: `code = round((x - offset) / scale)` in -127..=127, where the range covers every component of the
//! column and nothing is clipped.
//!
//! **Error.** Rounding moves each component by at most `scale / 2` (rms `scale / sqrt(12)`), hence a product with a unit
//! vector by rms `scale / sqrt(12)`, at most 0.0023 under cosine, where `scale <= 1/127`. A column whose magnitudes differ
//! widely (one vector a thousand times longer than the rest) makes the scale coarse for all others. That is not guessed
//! but measured: [`encode`] searches a sample with the codes and with the vectors, and where the codes would lose
//! neighbours it gives no codes; the graph is then walked on f32, slower and right. The final order always comes from f32.
//!
//! It must not know graphs or files.

use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::background::give_way;
use crate::schema::Distance;
use crate::vector::Scored;
use crate::vector::bits::{BitCodes, BitQuery, candidates_for};
use crate::vector::distance::{self, CodeKernel};
use crate::vector::exact;
use crate::vector::int4::Int4Codes;
use crate::vector::kernels::{self, Codes};
use crate::vector::pass::{PASS_ROWS, Read, SCATTERED_VECTORS};
use crate::vector::query::PreparedQuery;
use crate::vector::rotation::RotatedQuery;

/// Largest code; -128 is never used, so that codes negate and their sums fit 32 bits.
const LARGEST_CODE: f32 = 127.0;
/// Vectors that are encoded before whoever waits gets the core.
const ENCODED_PER_TURN: usize = 64;
/// Vectors that stand as queries in the check of a column's codes.
const CHECK_QUERIES: usize = 24;
/// Vectors that they are compared with, at most.
const CHECK_VECTORS: usize = 20_000;
/// The neighbours that must be found in the check...
pub(crate) const CHECK_NEAREST: usize = 10;
/// ...among so many by code. The search rescores no fewer.
pub(crate) const CHECK_CANDIDATES: usize = 30;
/// Share of them that must be found.
pub(crate) const LEAST_RECALL: f32 = 0.98;

/// How components become codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CodeScale {
    /// Width of one step; positive and finite.
    pub(crate) scale: f32,
    /// The component that becomes 0; always 0 under cosine and dot.
    pub(crate) offset: f32,
}

impl CodeScale {
    /// Covers all components; `None` when they are all equal, or too large or too small for an f32 step.
    fn covering(floats: Floats<'_>, read: &Read<'_>) -> Option<Self> {
        let Floats { distance, dimension, vectors, .. } = floats;
        let (low, high) = vectors
            .par_chunks(dimension * PASS_ROWS)
            .enumerate()
            .map(|(piece, vectors)| {
                let ends =
                    vectors.iter().fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
                read(piece * PASS_ROWS..(piece + 1) * PASS_ROWS);
                ends
            })
            .reduce(|| (f32::MAX, f32::MIN), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (offset, reach) = match distance {
            Distance::Cosine | Distance::Dot => (0.0, low.abs().max(high.abs())),
            Distance::Euclidean => (low / 2.0 + high / 2.0, high / 2.0 - low / 2.0),
        };
        let scale = reach / LARGEST_CODE;
        (scale.is_normal() && offset.is_finite()).then_some(Self { scale, offset })
    }

    /// Code of a component, rounded; out of range: the nearest end.
    #[inline]
    fn code(self, component: f32) -> i8 {
        nearest_byte(((component - self.offset) / self.scale).clamp(-LARGEST_CODE, LARGEST_CODE))
    }

    /// Code of a query vector, for use against codes of this scale, and what one unit of such a distance is worth; `None`
    /// when the query reaches so far out of the column's range that its code would point elsewhere.
    pub(crate) fn encode_query(self, kernel: CodeKernel, query: &[f32], code: &mut Vec<i8>) -> Option<f32> {
        let scale = match kernel {
            // Any positive factor keeps the order of products: give the query its own, finest scale.
            CodeKernel::Dot => {
                // Without their sign, finite floats are ordered as their bits are, and integers are compared many at once.
                let reach = query.iter().fold(0, |reach: u32, x| reach.max(x.abs().to_bits()));
                let scale = f32::from_bits(reach) / LARGEST_CODE;
                Self { scale: if scale.is_normal() { scale } else { 1.0 }, offset: 0.0 }
            }
            CodeKernel::SquaredEuclidean => {
                let reach = self.scale * (LARGEST_CODE + 1.0);
                if query.iter().any(|x| (x - self.offset).abs() > reach) {
                    return None;
                }
                self
            }
        };
        code.clear();
        code.extend(query.iter().map(|x| scale.code(*x)));
        Some(scale.scale * self.scale)
    }
}

/// The whole number nearest to one in -128..=127.
#[inline]
pub(crate) fn nearest_byte(number: f32) -> i8 {
    // Adding 1.5 x 2^23 leaves a float no bits behind the point, so that its low bits are the rounded number: unlike
    // a call of `round`, this is done for many components at once.
    const ROUNDS: f32 = 12_582_912.0;
    (number + ROUNDS).to_bits() as i8
}

/// Codes of a column, and how they were made.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) scale: CodeScale,
    /// Rows x dimension.
    pub(crate) codes: Vec<i8>,
    /// Share of the nearest neighbours that were among the candidates by code on a sample.
    pub(crate) recall: f32,
}

/// Encodes the vectors of the nodes; `None` where codes would lose neighbours (see the module's text).
pub(crate) fn encode(
    floats: Floats<'_>,
    nodes: usize,
    truth: &CheckTruth,
    read: &Read<'_>,
) -> Option<Encoded> {
    let scale = CodeScale::covering(floats, read)?;
    let Floats { distance, dimension, .. } = floats;
    let mut codes = vec![0_i8; nodes.checked_mul(dimension)?];
    floats.encode_nodes(&mut codes, dimension, read, |_: &mut (), vector, code| {
        code.iter_mut().zip(vector).for_each(|(code, component)| *code = scale.code(*component));
        true
    });
    let points = Points::Codes(Codes { kernel: CodeKernel::of(distance), dimension, codes: &codes });
    let recall = truth
        .recall_by_code(floats, read, |node, others| points.target(node).nearest(others, CHECK_CANDIDATES));
    (recall >= LEAST_RECALL).then_some(Encoded { scale, codes, recall })
}

/// What the codes of a column are checked against: vectors of a sample, and the nearest to some of them.
#[derive(Debug)]
pub(crate) struct CheckTruth {
    /// The nodes of the sample.
    pub(crate) others: Vec<u32>,
    /// For each query: how far its [`CHECK_NEAREST`] nearest among the sample lie.
    pub(crate) nearest: Vec<NearestOf>,
}

impl CheckTruth {
    /// Made once for all kinds of codes of a column: it costs more than a check by it.
    pub(crate) fn of(floats: Floats<'_>, nodes: usize, read: &Read<'_>) -> Self {
        let others = sample(nodes, CHECK_VECTORS);
        let nearest = floats.nearest_of(&sample(nodes, CHECK_QUERIES), &others, CHECK_NEAREST, read);
        Self { others, nearest }
    }

    /// Share of the nearest by vector that are among the nearest by code. `by_code` gives those of some nodes that are nearest
    /// to a node by code.
    pub(crate) fn recall_by_code(
        &self,
        floats: Floats<'_>,
        read: &Read<'_>,
        by_code: impl Fn(u32, &[u32]) -> Vec<u32> + Sync,
    ) -> f32 {
        let found_of = |nearest: &NearestOf| {
            let by_code = by_code(nearest.to, &self.others);
            let found = floats.near(nearest, by_code.into_iter(), read);
            found.min(CHECK_NEAREST) + CHECK_NEAREST.saturating_sub(nearest.count)
        };
        let found: usize = self.nearest.par_iter().map(found_of).sum();
        found as f32 / (self.nearest.len() * CHECK_NEAREST).max(1) as f32
    }
}

/// At most `most` of the numbers below `count`, evenly spread.
pub(crate) fn sample(count: usize, most: usize) -> Vec<u32> {
    let wanted = count.min(most).max(1);
    (0..wanted.min(count)).map(|i| (i * count / wanted) as u32).collect()
}

/// What rounding adds to the square of a component's error, in steps of the code.
pub(crate) const ROUNDING: f32 = 1.0 / 12.0;
/// Standard errors of a code's distance within which a candidate may still be among the nearest: the difference of two
/// such distances has 1.4 standard errors, and three times that is passed by one in a thousand.
pub(crate) const REACH_ERRORS: f32 = 4.2;
/// The same of four-bit codes, whose error is larger: the reach of the others would compare a sixth more vectors, which are
/// the dearest part of a search, for less than a thousandth of recall.
const INT4_REACH_ERRORS: f32 = 3.0;
/// What is lost when a score is made of a distance and a distance of that, as a part of it.
const ROUNDED_TWICE: f32 = 4.0 * f32::EPSILON;
/// Candidates of a walk on int8 codes whose order f32 decides, per hit wanted...
const RESCORE_PER_HIT: usize = 3;
/// ...and at least.
const RESCORE_AT_LEAST: usize = 30;

/// Nodes of a list whose data are fetched at once.
const FETCHED_TOGETHER: usize = 64;

/// Which row of the column a node of the graph stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowMap<'a> {
    /// Every row has a vector: node = row.
    Identity,
    /// The rows that have one, ascending.
    Rows(&'a [u32]),
}

impl RowMap<'_> {
    /// The row of a node.
    #[inline]
    pub(crate) fn row(self, node: u32) -> u32 {
        match self {
            Self::Identity => node,
            Self::Rows(rows) => rows.get(node as usize).copied().unwrap_or(u32::MAX),
        }
    }

    /// Puts the nodes of ascending rows in their place, of those that have one below `nodes`; how many there are.
    pub(crate) fn to_nodes(self, rows: &mut [u32], nodes: u32) -> usize {
        match self {
            Self::Identity => rows.partition_point(|row| *row < nodes),
            Self::Rows(_) => {
                let mut count = 0;
                for at in 0..rows.len() {
                    let node = rows.get(at).and_then(|row| self.node(*row));
                    if let (Some(node), Some(place)) = (node, rows.get_mut(count)) {
                        *place = node;
                        count += 1;
                    }
                }
                count
            }
        }
    }

    /// The node of a row that has a vector.
    pub(crate) fn node(self, row: u32) -> Option<u32> {
        match self {
            Self::Identity => Some(row),
            Self::Rows(rows) => rows.binary_search(&row).ok().map(|node| node as u32),
        }
    }
}

/// Vectors of all nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floats<'a> {
    pub(crate) distance: Distance,
    pub(crate) dimension: usize,
    /// Rows x dimension.
    pub(crate) vectors: &'a [f32],
    pub(crate) rows: RowMap<'a>,
}

/// The nearest of a node by vector: not by name, for equal vectors stand for each other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NearestOf {
    /// The node.
    pub(crate) to: u32,
    /// Distance of the last of them.
    pub(crate) farthest: f32,
    /// How many there are.
    pub(crate) count: usize,
}

impl<'a> Floats<'a> {
    /// Vector of a node; empty when there is no such node.
    #[inline]
    pub(crate) fn vector(&self, node: u32) -> &'a [f32] {
        let start = self.rows.row(node) as usize * self.dimension;
        self.vectors.get(start..start + self.dimension).unwrap_or_default()
    }

    /// Calls `each` with the vectors of nodes, which lie here and there.
    pub(crate) fn each_of(
        &self,
        nodes: impl Iterator<Item = u32>,
        read: &Read<'_>,
        mut each: impl FnMut(&'a [f32]),
    ) {
        for (node, count) in nodes.zip(1..) {
            each(self.vector(node));
            if count % SCATTERED_VECTORS == 0 {
                read(0..self.rows());
            }
        }
        read(0..self.rows());
    }

    /// How many of `nodes` are no farther from a node than the last of its nearest.
    pub(crate) fn near(
        &self,
        nearest: &NearestOf,
        nodes: impl Iterator<Item = u32>,
        read: &Read<'_>,
    ) -> usize {
        let from = self.vector(nearest.to);
        let mut near = 0;
        self.each_of(nodes, read, |vector| {
            near += usize::from(distance::float_distance(self.distance, from, vector) <= nearest.farthest);
        });
        near
    }

    /// The `k` of `others` that are nearest to each of `nodes`, all of whose vectors are read in one pass.
    pub(crate) fn nearest_of(
        &self,
        nodes: &[u32],
        others: &[u32],
        k: usize,
        read: &Read<'_>,
    ) -> Vec<NearestOf> {
        let query = |&node: &u32| {
            let query = PreparedQuery::new(self.distance, self.dimension, self.vector(node));
            read(0..self.rows());
            // A vector that can't be asked for has no neighbours.
            query.ok().map(|query| (node, query))
        };
        let (nodes, queries): (Vec<u32>, Vec<PreparedQuery>) = nodes.iter().filter_map(query).unzip();
        let rows: RoaringBitmap = others.iter().map(|node| self.rows.row(*node)).collect();
        let queries: Vec<&PreparedQuery> = queries.iter().collect();
        let found = exact::scan_through(&queries, self.vectors, Some(&rows), k, read);
        let nearest = |(to, found): (u32, Vec<Scored>)| {
            let target = Points::Floats(*self).target(to);
            let last = found.last().and_then(|last| self.rows.node(last.row));
            let farthest = last.map_or(f32::INFINITY, |node| target.distance(node));
            read(0..self.rows());
            NearestOf { to, farthest, count: found.len() }
        };
        nodes.into_iter().zip(found).map(nearest).collect()
    }

    /// Makes a record of `stride` elements of the vector of each node, in pieces on all threads, each with memory of its own;
    /// false where one of them can't be made.
    pub(crate) fn encode_nodes<T: Send, M: Default>(
        &self,
        records: &mut [T],
        stride: usize,
        read: &Read<'_>,
        encode: impl Fn(&mut M, &[f32], &mut [T]) -> bool + Sync,
    ) -> bool {
        let encode_piece = |memory: &mut M, (piece, records): (usize, &mut [T])| {
            let nodes = piece * PASS_ROWS..;
            let mut each = nodes.clone().zip(records.chunks_exact_mut(stride));
            let all = each.all(|(node, record)| {
                if node % ENCODED_PER_TURN == 0 {
                    give_way();
                }
                encode(memory, self.vector(node as u32), record)
            });
            read(self.rows_of(nodes.start..nodes.start + PASS_ROWS));
            all
        };
        let pieces = records.par_chunks_mut(stride * PASS_ROWS).enumerate();
        pieces.map_init(M::default, encode_piece).reduce(|| true, |a, b| a && b)
    }

    /// Rows of the column, with or without a vector.
    pub(crate) fn rows(&self) -> usize {
        self.vectors.len() / self.dimension.max(1)
    }

    /// The rows from that of the first of these nodes to that of the last.
    pub(crate) fn rows_of(&self, nodes: Range<usize>) -> Range<usize> {
        let row = |node: usize| match self.rows {
            RowMap::Identity => node,
            RowMap::Rows(rows) => rows.get(node).map_or(usize::MAX, |row| *row as usize),
        };
        row(nodes.start)..row(nodes.end)
    }
}

/// What a graph is walked on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Points<'a> {
    Codes(Codes<'a>),
    Floats(Floats<'a>),
}

impl<'a> Points<'a> {
    /// Distances to a node.
    pub(crate) fn target(&self, node: u32) -> Target<'a> {
        match *self {
            Self::Codes(codes) => Target::Code(codes, codes.code(node)),
            Self::Floats(floats) => Target::Float(floats, floats.vector(node)),
        }
    }

    /// Whether two nodes lie at the same place.
    pub(crate) fn same(&self, a: u32, b: u32) -> bool {
        match self {
            Self::Codes(codes) => codes.code(a) == codes.code(b),
            Self::Floats(floats) => floats.vector(a) == floats.vector(b),
        }
    }
}

/// A distance with a total order, for heaps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OrderedDistance(pub(crate) f32);

impl Ord for OrderedDistance {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for OrderedDistance {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for OrderedDistance {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for OrderedDistance {}

/// Distances from one point, a node or a query, to all nodes; smaller is nearer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    Code(Codes<'a>, &'a [i8]),
    Float(Floats<'a>, &'a [f32]),
    Int4(Int4Codes<'a>, &'a RotatedQuery),
    Bits(BitCodes<'a>, &'a BitQuery),
}

impl Target<'_> {
    /// Distance to a node; the farthest when there is no such node.
    #[inline]
    pub(crate) fn distance(&self, node: u32) -> f32 {
        match self {
            Self::Code(codes, from) => distance::code_distance(codes.kernel, from, codes.code(node)),
            Self::Float(floats, from) => distance::float_distance(floats.distance, from, floats.vector(node)),
            Self::Int4(codes, query) => codes.distance(query, node),
            Self::Bits(bits, query) => bits.distance(query, node),
        }
    }

    /// The `k` of `others` that are nearest, nearest first.
    pub(crate) fn nearest(&self, others: &[u32], k: usize) -> Vec<u32> {
        let mut farthest_first: BinaryHeap<(OrderedDistance, u32)> = BinaryHeap::with_capacity(k + 1);
        let mut distances = Vec::with_capacity(FETCHED_TOGETHER);
        for others in others.chunks(FETCHED_TOGETHER) {
            self.prefetch(others);
            self.distances(others, &mut distances);
            for (other, distance) in others.iter().zip(&distances) {
                farthest_first.push((OrderedDistance(*distance), *other));
                if farthest_first.len() > k {
                    farthest_first.pop();
                }
            }
        }
        farthest_first.into_sorted_vec().into_iter().map(|(_, other)| other).collect()
    }

    /// How much farther than by its distance a node may lie: a few standard errors. Between int8 codes the error comes from
    /// the rounding of both, which moves each component by an rms of `1 / sqrt(12)`; between vectors there is none, and
    /// between bits it is unknown and hence infinite.
    pub(crate) fn reach(&self, node: u32, distance: f32) -> f32 {
        match self {
            Self::Float(..) => 0.0,
            Self::Bits(..) => f32::INFINITY,
            Self::Int4(codes, query) => codes.error(query, distance) * INT4_REACH_ERRORS,
            Self::Code(codes, from) => {
                let error = match codes.kernel {
                    CodeKernel::Dot => {
                        let square = |code: &[i8]| -distance::code_distance(CodeKernel::Dot, code, code);
                        ((square(from) + square(codes.code(node))) * ROUNDING).sqrt()
                    }
                    // Each difference is off by the error of two roundings, and counts twice in its square.
                    CodeKernel::SquaredEuclidean => (8.0 * distance.max(0.0) * ROUNDING).sqrt(),
                };
                error * REACH_ERRORS
            }
        }
    }

    /// How far a node that is like `near` may seem to lie if its vector is no farther than `distance`: a few standard errors
    /// farther. A unit of the distances between codes is worth `unit`.
    pub(crate) fn bound(&self, distance: f32, unit: f32, near: u32) -> f32 {
        let here = distance / unit;
        here + here.abs() * ROUNDED_TWICE + self.reach(near, here)
    }

    /// How many candidates of a walk may have to be compared by vector for `k` hits.
    pub(crate) fn most_rescored(&self, k: usize) -> usize {
        match self {
            Self::Code(..) | Self::Float(..) => k.saturating_mul(RESCORE_PER_HIT).max(RESCORE_AT_LEAST),
            Self::Int4(..) => k.saturating_mul(2 * RESCORE_PER_HIT).max(2 * RESCORE_AT_LEAST),
            Self::Bits(..) => candidates_for(k),
        }
    }

    /// Distances to many nodes, in their order; `out` is emptied first.
    #[inline]
    pub(crate) fn distances(&self, nodes: &[u32], out: &mut Vec<f32>) {
        match self {
            Self::Code(codes, from) => kernels::code_distances(*codes, from, nodes, out),
            Self::Float(floats, from) => {
                out.clear();
                let distance =
                    |node: &u32| distance::float_distance(floats.distance, from, floats.vector(*node));
                out.extend(nodes.iter().map(distance));
            }
            Self::Int4(codes, query) => codes.distances(query, nodes, out),
            Self::Bits(bits, query) => bits.distances(query, nodes, out),
        }
    }

    /// Has the data of nodes fetched that will be compared: so they come together instead of one after the other.
    #[inline]
    pub(crate) fn prefetch(&self, nodes: &[u32]) {
        match self {
            Self::Code(codes, _) => nodes.iter().for_each(|node| kernels::prefetch(codes.code(*node))),
            Self::Float(floats, _) => nodes.iter().for_each(|node| kernels::prefetch(floats.vector(*node))),
            Self::Int4(codes, _) => codes.prefetch(nodes),
            Self::Bits(bits, _) => bits.prefetch(nodes),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::vector::samples::{clustered, floats};

    fn checked(floats: Floats<'_>, nodes: usize) -> Option<Encoded> {
        encode(floats, nodes, &CheckTruth::of(floats, nodes, &|_| ()), &|_| ())
    }

    #[test]
    fn clustered_columns_get_codes_under_every_distance() {
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclidean] {
            let vectors = clustered(distance, 2_000, 48, 1);
            let encoded = checked(floats(distance, 48, &vectors), 2_000).expect("codes");
            for (component, code) in vectors.iter().zip(&encoded.codes) {
                let decoded = f32::from(*code) * encoded.scale.scale + encoded.scale.offset;
                assert!((decoded - component).abs() <= encoded.scale.scale * 0.501, "{component} {decoded}");
            }
        }
    }

    #[test]
    fn a_column_that_codes_would_spoil_is_walked_on_floats() {
        let mut vectors = clustered(Distance::Euclidean, 2_000, 48, 2);
        if let Some(outlier) = vectors.last_mut() {
            *outlier = 1e6;
        }
        assert!(checked(floats(Distance::Euclidean, 48, &vectors), 2_000).is_none());
        for constant in [0.0, 1e-44] {
            let vectors = vec![constant; 1_000 * 8];
            assert!(checked(floats(Distance::Dot, 8, &vectors), 1_000).is_none());
        }
    }

    #[test]
    fn a_query_far_outside_a_euclidean_column_has_no_code() {
        let scale = CodeScale { scale: 0.01, offset: 5.0 };
        let mut code = Vec::new();
        assert!(scale.encode_query(CodeKernel::SquaredEuclidean, &[5.0, 6.27], &mut code).is_some());
        assert_eq!(code, [0, 127]);
        assert!(scale.encode_query(CodeKernel::SquaredEuclidean, &[5.0, 7.0], &mut code).is_none());
        assert!(scale.encode_query(CodeKernel::Dot, &[500.0, -700.0], &mut code).is_some());
        assert_eq!(code, [91, -127]);
        assert!(scale.encode_query(CodeKernel::Dot, &[0.0, 0.0], &mut code).is_some());
        assert_eq!(code, [0, 0]);
    }
}
