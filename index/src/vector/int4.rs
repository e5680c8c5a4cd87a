//! Four-bit codes of vectors: half a byte a component, what the graph is walked on where they keep recall.
//!
//! A walk waits for memory more than it computes, so half the bytes of int8 codes spare up to a third of its time. Vectors are
//! rotated at random and seen from the mean of their column ([`rotation`](crate::vector::rotation)), which makes all
//! components alike; one step serves the column, `code = round(t x / step)` in -8..=7.
//!
//! **The factor `t`** is each vector's own, near 1, and nowhere stored: it, and at last a few single codes, are chosen so
//! that the code's product with the vector is the square of its length, `<o', o> = <o, o>`. Then nothing is lost along the
//! vector itself, and of a query that lies near it only the small part at a right angle meets the error of rounding.
//! (RaBitQ's codes of several bits, Gao et al., arXiv 2409.09913, store that factor beside each code; a second fetch from
//! memory is what is spared here.)
//!
//! **Error.** A product with a query of length 1 is off by `step / sqrt(12)` and a little more from components out of reach,
//! 0.11 of the spread of a component. Vectors much longer than the others don't fit the common step: a column that has some
//! gets no such codes, and so does one that loses neighbours on a sample. The final order always comes from f32.
//!
//! It must not know graphs or files.

use crate::vector::codes::{CHECK_CANDIDATES, CheckTruth, Floats, LEAST_RECALL, Target, nearest_byte};
use crate::vector::distance::CodeKernel;
use crate::vector::kernels::{self, INT4_BLOCK, Int4Weights};
use crate::vector::pass::Read;
use crate::vector::query::PreparedQuery;
use crate::vector::rotation::{Frame, RotatedQuery, product};

/// Width of a step in spreads of a component: of sixteen steps over a normal distribution, about the best (0.335; a
/// little wider, for vectors longer than the others).
const STEP: f32 = 0.345;
/// Smallest and largest code.
const CODES: (f32, f32) = (-8.0, 7.0);
/// What is added to a code to make it half a byte without a sign.
const ZERO: i32 = 8;
/// Rounds in which the factor of a vector is found...
const FACTOR_ROUNDS: usize = 12;
/// ...unless it leaves no more than this of the error along the vector, as a part of its length or, where that is more, of the
/// usual one: it works in jumps, and single codes do the rest.
const NEAR_LEFT: f32 = 0.003;
/// Components that are moved by one code each, at most.
const SINGLE_STEPS: usize = 6;
/// What may stay of the error along a vector.
const ENOUGH_LEFT: f32 = 0.000_3;
/// Where more than this stays, the vector is too long for the step.
const MOST_LEFT: f32 = 0.02;
/// The same of the error in all directions, in spreads of a component; usually 0.11.
const MOST_ERROR: f32 = 0.5;
/// The square of an error beyond that of rounding, for the components out of reach.
const BEYOND_ROUNDING: f32 = 1.15 / 12.0;
/// The square of the part of a query that meets the error, at least, as a part of its own or the usual length's: how long
/// codes are varies too.
const LEAST_ACROSS: f32 = 0.05;

/// Bytes of the code of a vector: whole cache lines.
pub(crate) fn code_bytes(dimension: usize) -> usize {
    dimension.div_ceil(INT4_BLOCK) * INT4_BLOCK / 2
}

/// Whether codes are enough smaller than those of a byte a component to be worth their error.
fn is_worth_it(dimension: usize) -> bool {
    4 * code_bytes(dimension) <= 3 * dimension
}

/// Four-bit codes of all nodes of a column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Int4Codes<'a> {
    pub(crate) kernel: CodeKernel,
    /// Dimension components: the rotated mean.
    pub(crate) centre: &'a [f32],
    /// Width of a step; positive and finite.
    pub(crate) step: f32,
    /// Nodes x [`code_bytes`]. Of each 64 bytes, the low halves are the codes of 64 components and the high halves those of
    /// the 64 behind them, each with 8 added; zeros behind the last component.
    pub(crate) codes: &'a [u8],
}

impl Int4Codes<'_> {
    /// Makes a [rotated](crate::vector::rotation::rotated) query ready, which has the column's dimension.
    pub(crate) fn prepare(&self, rotated: &[f32], query: &mut RotatedQuery) {
        query.prepare(self.kernel, self.centre, rotated, 2 * code_bytes(self.centre.len()));
    }

    /// How the sums over a code become a distance.
    #[inline]
    fn weights(&self, query: &RotatedQuery) -> Int4Weights {
        let RotatedQuery { total, scale, base, .. } = *query;
        let worth = self.step * scale;
        let zero = worth * (ZERO * total) as f32;
        match self.kernel {
            CodeKernel::Dot => Int4Weights { constant: base + zero, product: -worth, square: 0.0 },
            CodeKernel::SquaredEuclidean => {
                let square = self.step * self.step;
                // As nothing is lost along a vector, its code is longer by the error across.
                let each = (ZERO * ZERO) as f32 - BEYOND_ROUNDING;
                let zeros = self.centre.len() as f32 * square * each;
                Int4Weights { constant: base + zeros + 2.0 * zero, product: -2.0 * worth, square }
            }
        }
    }

    /// Distances to nodes, in their order; smaller is nearer. `out` is emptied first.
    #[inline]
    pub(crate) fn distances(&self, query: &RotatedQuery, nodes: &[u32], out: &mut Vec<f32>) {
        out.clear();
        out.resize(nodes.len(), 0.0);
        kernels::int4_distances(self.codes, &query.components, self.weights(query), nodes, out);
    }

    /// Distance to one node.
    pub(crate) fn distance(&self, query: &RotatedQuery, node: u32) -> f32 {
        let mut out = [0.0];
        kernels::int4_distances(self.codes, &query.components, self.weights(query), &[node], &mut out);
        let [distance] = out;
        distance
    }

    /// Standard error of a distance. Of a product, only the part of the query that stands at a right angle to the vector
    /// meets the error of rounding, and the vector is taken to be of the usual length: that of much longer ones is larger. Of
    /// a square, the difference of both meets it.
    pub(crate) fn error(&self, query: &RotatedQuery, distance: f32) -> f32 {
        let usual = (self.centre.len() as f32).sqrt() * self.step / STEP;
        let rounding = self.step * BEYOND_ROUNDING.sqrt();
        match self.kernel {
            CodeKernel::Dot => {
                let cosine = (query.base - distance) / (query.length * usual);
                query.length * (1.0 - cosine * cosine).max(LEAST_ACROSS).sqrt() * rounding
            }
            CodeKernel::SquaredEuclidean => {
                2.0 * distance.max(LEAST_ACROSS * usual * usual).sqrt() * rounding
            }
        }
    }

    /// Has the codes of nodes fetched.
    #[inline]
    pub(crate) fn prefetch(&self, nodes: &[u32]) {
        let stride = code_bytes(self.centre.len());
        for node in nodes {
            let start = *node as usize * stride;
            kernels::prefetch(self.codes.get(start..start + stride).unwrap_or_default());
        }
    }
}

/// Four-bit codes of a column while it is built.
#[derive(Debug)]
pub(crate) struct EncodedInt4 {
    /// Width of a step.
    pub(crate) step: f32,
    /// Nodes x [`code_bytes`], see [`Int4Codes`].
    pub(crate) codes: Vec<u8>,
    /// Share of the nearest neighbours that were among the candidates by code on a sample.
    pub(crate) recall: f32,
}

/// Encodes the vectors of the nodes; `None` where codes would lose neighbours or save little (see the module's text).
pub(crate) fn encode_int4(
    floats: Floats<'_>,
    nodes: usize,
    frame: &Frame,
    truth: &CheckTruth,
    read: &Read<'_>,
) -> Option<EncodedInt4> {
    let encoded = EncodedInt4::of(floats, nodes, frame, read)?;
    let codes = encoded.codes(CodeKernel::of(floats.distance), &frame.centre);
    let recall = truth.recall_by_code(floats, read, |node, others| {
        // As searches ask. A vector that can't be asked for is not among the queries.
        let vector = floats.vector(node);
        let Ok(query) = PreparedQuery::new(floats.distance, floats.dimension, vector) else {
            return Vec::new();
        };
        let mut prepared = RotatedQuery::default();
        codes.prepare(query.rotated(), &mut prepared);
        Target::Int4(codes, &prepared).nearest(others, CHECK_CANDIDATES)
    });
    (recall >= LEAST_RECALL).then_some(EncodedInt4 { recall, ..encoded })
}

impl EncodedInt4 {
    /// `None` when a vector doesn't fit the common step, or all of them no room.
    fn of(floats: Floats<'_>, nodes: usize, frame: &Frame, read: &Read<'_>) -> Option<Self> {
        let step = frame.spread * STEP;
        if !is_worth_it(floats.dimension) || !step.is_normal() {
            return None;
        }
        let stride = code_bytes(floats.dimension);
        let mut codes = vec![0; nodes.checked_mul(stride)?];
        let encode = |encoder: &mut Encoder, vector: &[f32], code: &mut [u8]| {
            encoder.encode(frame, step, vector, code)
        };
        let fit = floats.encode_nodes(&mut codes, stride, read, encode);
        fit.then_some(Self { step, codes, recall: 0.0 })
    }

    /// The codes as searches see them.
    pub(crate) fn codes<'a>(&'a self, kernel: CodeKernel, centre: &'a [f32]) -> Int4Codes<'a> {
        Int4Codes { kernel, centre, step: self.step, codes: &self.codes }
    }
}

/// Memory to encode a vector in.
#[derive(Debug, Default)]
struct Encoder {
    rest: Vec<f32>,
    /// Codes as numbers, those of this round and the best.
    steps: Vec<f32>,
    best: Vec<f32>,
}

impl Encoder {
    /// Writes the code of a vector; whether it fits.
    fn encode(&mut self, frame: &Frame, step: f32, vector: &[f32], code: &mut [u8]) -> bool {
        let Self { rest, steps, best } = self;
        frame.rotation.seen_from(&frame.centre, vector, rest);
        // In steps.
        rest.iter_mut().for_each(|x| *x /= step);
        let square = product(rest, rest);
        if !square.is_finite() {
            return false;
        }
        let usual = (rest.len() as f32).sqrt() / STEP;
        // An error along the vector counts by its own length or, where that is less, by the usual one.
        let scale = square.sqrt() * square.sqrt().max(usual);
        let enough = ENOUGH_LEFT * scale;
        let (mut factor, mut left) = (1.0, f32::INFINITY);
        for _ in 0..FACTOR_ROUNDS {
            steps.clear();
            let code = |x: &f32| f32::from(nearest_byte((x * factor).clamp(CODES.0, CODES.1)));
            steps.extend(rest.iter().map(code));
            let here = product(rest, steps) - square;
            // The product grows about as the factor does, in jumps.
            factor = (factor - here / square).clamp(0.1, 10.0);
            if here.abs() < left.abs() || left.is_infinite() {
                left = here;
                std::mem::swap(best, steps);
            }
            if left.abs() <= NEAR_LEFT * scale {
                break;
            }
        }
        for _ in 0..SINGLE_STEPS {
            if left.abs() <= enough || !single_step(rest, best, &mut left, enough) {
                break;
            }
        }
        let error = rest.iter().zip(best.iter()).map(|(x, code)| (x - code) * (x - code)).sum::<f32>();
        let most = MOST_ERROR / STEP;
        if left.abs() > MOST_LEFT * scale || error > most * most * rest.len() as f32 {
            return false;
        }
        let half = |code: &f32| (*code as i32 + ZERO) as u8;
        for (bytes, codes) in code.chunks_exact_mut(INT4_BLOCK / 2).zip(best.chunks(INT4_BLOCK)) {
            let (low, high) = codes.split_at(codes.len().min(INT4_BLOCK / 2));
            for (byte, code) in bytes.iter_mut().zip(low) {
                *byte = half(code);
            }
            for (byte, code) in bytes.iter_mut().zip(high) {
                *byte |= half(code) << 4;
            }
        }
        true
    }
}

/// Moves one component, rounded the other way so that the error across grows little, to the next code: the first that leaves
/// no more than `enough` of the error along the vector, or that which leaves least; false where none makes it less.
fn single_step(rest: &[f32], codes: &mut [f32], left: &mut f32, enough: f32) -> bool {
    let (mut best, mut least) = (None, left.abs());
    for (at, (x, code)) in rest.iter().zip(codes.iter()).enumerate() {
        let step = if (*left > 0.0) == (*x > 0.0) { -1.0 } else { 1.0 };
        let next = code + step;
        let after = (*left + step * x).abs();
        if after < least && step * (code - x) <= 0.0 && (CODES.0..=CODES.1).contains(&next) {
            (best, least) = (Some((at, step)), after);
            if after <= enough {
                break;
            }
        }
    }
    let Some((at, step)) = best else { return false };
    if let (Some(code), Some(x)) = (codes.get_mut(at), rest.get(at)) {
        *code += step;
        *left += step * x;
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::schema::Distance;
    use crate::vector::distance::{dot, float_distance};
    use crate::vector::rotation::rotated;
    use crate::vector::samples::{clustered, floats};

    #[test]
    fn distances_are_off_by_the_error_that_codes_name() {
        let nodes = 2_000;
        for dimension in [100, 128, 384] {
            for distance in [Distance::Cosine, Distance::Dot, Distance::Euclidean] {
                let vectors = clustered(distance, nodes, dimension, 1);
                let floats = floats(distance, dimension, &vectors);
                let frame = Frame::of(floats, nodes, &|_| ());
                let encoded = EncodedInt4::of(floats, nodes, &frame, &|_| ()).expect("codes");
                let codes = encoded.codes(CodeKernel::of(distance), &frame.centre);
                let query = clustered(distance, 1, dimension, 9);
                let mut prepared = RotatedQuery::default();
                codes.prepare(&rotated(&query), &mut prepared);
                let all: Vec<u32> = (0..nodes as u32).collect();
                let mut found = Vec::new();
                codes.distances(&prepared, &all, &mut found);
                let off = |(node, found): (&u32, &f32)| {
                    let vector = floats.vector(*node);
                    assert_eq!(codes.distance(&prepared, *node), *found);
                    let error = f64::from(codes.error(&prepared, *found));
                    (f64::from(*found) - f64::from(float_distance(distance, &query, vector))) / error
                };
                let squares: f64 = all.iter().zip(&found).map(off).map(|off| off * off).sum();
                let deviation = (squares / nodes as f64).sqrt();
                assert!((0.5..1.5).contains(&deviation), "{distance:?} of {dimension}: {deviation}");
            }
        }
    }

    #[test]
    fn nothing_is_lost_along_a_vector() {
        let (dimension, nodes) = (384, 500);
        let vectors = clustered(Distance::Cosine, nodes, dimension, 4);
        let floats = floats(Distance::Cosine, dimension, &vectors);
        let frame = Frame::of(floats, nodes, &|_| ());
        let encoded = EncodedInt4::of(floats, nodes, &frame, &|_| ()).expect("codes");
        let mut rest = Vec::new();
        for (vector, code) in vectors.chunks(dimension).zip(encoded.codes.chunks(code_bytes(dimension))) {
            frame.rotation.seen_from(&frame.centre, vector, &mut rest);
            let decoded = |at: usize| {
                let byte = code[at / INT4_BLOCK * 64 + at % 64];
                let half = if at % INT4_BLOCK < 64 { byte & 15 } else { byte >> 4 };
                (f32::from(half) - 8.0) * encoded.step
            };
            let decoded: Vec<f32> = (0..dimension).map(decoded).collect();
            assert!((dot(&rest, &decoded) / dot(&rest, &rest) - 1.0).abs() < 0.003);
            let error: f64 =
                rest.iter().zip(&decoded).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / 384.0;
            assert!(error.sqrt() < 0.2 * f64::from(frame.spread), "{}", error.sqrt());
        }
    }

    #[test]
    fn columns_that_a_common_step_does_not_fit_get_no_codes() {
        let (dimension, nodes) = (128, 2_000);
        let none = |vectors: &[f32], dimension: usize| {
            let floats = floats(Distance::Euclidean, dimension, vectors);
            let frame = Frame::of(floats, nodes, &|_| ());
            encode_int4(floats, nodes, &frame, &CheckTruth::of(floats, nodes, &|_| ()), &|_| ()).is_none()
        };
        let vectors = clustered(Distance::Euclidean, nodes, dimension, 2);
        assert!(!none(&vectors, dimension));
        for far in [20.0, 1e6, f32::MAX] {
            let mut vectors = vectors.clone();
            vectors[700 * dimension..701 * dimension].fill(far);
            assert!(none(&vectors, dimension), "{far}");
        }
        // A vector at the centre is no such vector, nor are equal ones.
        let mut central = vectors.clone();
        let mean: Vec<f32> = (0..dimension)
            .map(|at| central.iter().skip(at).step_by(dimension).sum::<f32>() / nodes as f32)
            .collect();
        central[..dimension].copy_from_slice(&mean);
        assert!(!none(&central, dimension));
        assert!(none(&vec![0.5; nodes * dimension], dimension), "no spread");
        assert!(none(&vectors, 64), "no fewer bytes than int8");
    }
}
