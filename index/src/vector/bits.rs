//! Bit codes of vectors: a bit a component, for scanning many rows cheaply and for walking where memory counts.
//!
//! After RaBitQ (Gao & Long, SIGMOD 2024, arXiv 2405.12497): vectors are rotated at random, which spreads what they say
//! evenly over all components, the mean of the column is taken off, and of the rest `o` only the signs `s` are kept. A
//! product with a query `q` is then estimated as `<s, q> |o|^2 / <s, o>`. The estimate has no bias, and its standard
//! error is known for each vector: `|q| sqrt((d |o|^4 / <s, o>^2 - |o|^2) / (d - 1))`. So a scan compares by better codes,
//! or by the vectors, just those rows that may be nearer than the nearest found so far. Whether that finds the neighbours
//! of a column, and whether it spares anything, is measured when it is encoded: where not, there are no bit codes.
//!
//! It must not know graphs or files.

use std::collections::BinaryHeap;

use crate::vector::codes::{
    CHECK_CANDIDATES, CHECK_NEAREST, CheckTruth, Floats, LEAST_RECALL, NearestOf, OrderedDistance, Target,
};
use crate::vector::distance::CodeKernel;
use crate::vector::graph::walk::Candidate;
use crate::vector::kernels;
use crate::vector::pass::Read;
use crate::vector::query::PreparedQuery;
use crate::vector::rotation::{Frame, RotatedQuery, Rotation, product};
use crate::vector::walked::{TargetMemory, Walked};

/// Bits of one word.
const WORD_BITS: usize = 64;
/// Words of a cache line.
const LINE_WORDS: usize = 8;
/// Sums side by side.
const LANES: usize = 16;
/// Standard errors by which an estimate may be wrong: one neighbour in two hundred lies farther off, and of those most are
/// near enough to be kept all the same.
pub(crate) const ERRORS: f32 = 1.9;
/// The same for the truth that searches are compared with: one neighbour in millions lies farther off.
pub(crate) const ERRORS_OF_TRUTH: f32 = 5.0;
/// Candidates per hit wanted that a walk on bits passes on...
const CANDIDATES_PER_HIT: usize = 12;
/// ...and at least.
const CANDIDATES_AT_LEAST: usize = 128;
/// Rows whose estimates are kept at once.
const BLOCK: usize = 1 << 14;
/// Rows whose codes are fetched together.
const STEP: usize = 64;
/// Rows with the best estimates that a scan compares first, per hit wanted.
const SEEDS_PER_HIT: usize = 2;
/// Estimates that are passed over together when none of them is low enough.
const GLANCED_AT: usize = 32;
/// Rows that a scan compares at once.
const COMPARED_AT_ONCE: usize = 32;
/// The share of the vectors that may have to be compared for the neighbours that the check of a column's codes wants...
const CHECK_COMPARED_SHARE: f32 = 0.1;
/// ...beyond so many.
const CHECK_COMPARED: f32 = 100.0;

/// How many candidates a walk on bits has to pass on for `k` hits.
pub(crate) fn candidates_for(k: usize) -> usize {
    k.saturating_mul(CANDIDATES_PER_HIT).max(CANDIDATES_AT_LEAST)
}

/// Bit codes of a column while it is built.
#[derive(Debug)]
pub(crate) struct EncodedBits {
    /// Nodes x [`record_words`], see [`BitCodes`].
    pub(crate) records: Vec<u64>,
    /// Share of the nearest neighbours that a scan found on a sample.
    pub(crate) recall: f32,
}

/// Words of the bits themselves.
fn words_of(dimension: usize) -> usize {
    dimension.div_ceil(WORD_BITS)
}

/// Words of what is kept of a vector: bits, factors, and zeros up to whole cache lines or a whole part of one, so that a
/// row of a scan costs as few lines as can be.
pub(crate) fn record_words(dimension: usize) -> usize {
    let words = words_of(dimension) + 1;
    if words > LINE_WORDS / 2 { words.next_multiple_of(LINE_WORDS) } else { words.next_power_of_two() }
}

/// The factors of a vector `o` (rotated, without the mean) with signs `s`, as they stand in the word behind the bits:
/// `|o|^2 / <s, o>`, which scales a sum over signs to a product, and the standard error of that product for a query of
/// length 1.
#[derive(Debug, Clone, Copy, Default)]
struct Factors {
    product: f32,
    error: f32,
}

impl Factors {
    fn of(rest: &[f32]) -> Self {
        let (square, signs) = (product(rest, rest), sum_of_magnitudes(rest));
        let product = square / signs;
        if !square.is_finite() {
            return Self { product: 0.0, error: f32::INFINITY };
        }
        if !product.is_finite() {
            // A vector at the centre: its signs say nothing, and its product is 0.
            return Self::default();
        }
        let (dimension, freedom) = (rest.len() as f32, rest.len().saturating_sub(1).max(1) as f32);
        Self { product, error: ((dimension * product * product - square).max(0.0) / freedom).sqrt() }
    }

    /// `|o|^2`.
    fn square(self, dimension: usize) -> f32 {
        let (dimension, freedom) = (dimension as f32, dimension.saturating_sub(1).max(1) as f32);
        dimension * self.product * self.product - freedom * self.error * self.error
    }

    fn to_word(self) -> u64 {
        u64::from(self.product.to_bits()) | u64::from(self.error.to_bits()) << 32
    }

    #[inline(always)]
    fn from_word(word: u64) -> Self {
        Self { product: f32::from_bits(word as u32), error: f32::from_bits((word >> 32) as u32) }
    }
}

fn sum_of_magnitudes(vector: &[f32]) -> f32 {
    // Several sums side by side: one would wait for each addition.
    let mut sums = [0.0_f32; LANES];
    let (whole, rest) = vector.as_chunks::<LANES>();
    for components in whole {
        sums.iter_mut().zip(components).for_each(|(sum, x)| *sum += x.abs());
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| x.abs()).sum::<f32>()
}

/// Bit codes of all nodes of a column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BitCodes<'a> {
    pub(crate) kernel: CodeKernel,
    pub(crate) dimension: usize,
    /// Dimension components: the rotated mean.
    pub(crate) centre: &'a [f32],
    /// Nodes x [`record_words`]: bit i of word w says that component 64 w + i is not negative; then the factors.
    pub(crate) records: &'a [u64],
}

/// A query made ready for bit codes of one column.
#[derive(Debug, Default, Clone)]
pub(crate) struct BitQuery {
    rotated: RotatedQuery,
    /// Bit planes of the components, eight words for each of theirs; for machines without a wide kernel.
    planes: Vec<u64>,
}

/// Memory of a scan, used again by the next.
#[derive(Debug, Default)]
pub(crate) struct ScanScratch {
    nodes: Vec<u32>,
    /// Of each node, how near it may be at the best.
    lowest: Vec<f32>,
    sums: Vec<f32>,
    compared: Vec<u32>,
    distances: Vec<f32>,
}

impl BitCodes<'_> {
    /// Makes a [rotated] query ready, which has the column's dimension.
    pub(crate) fn prepare(&self, rotated: &[f32], query: &mut BitQuery) {
        let places = words_of(self.dimension) * WORD_BITS;
        query.rotated.prepare(self.kernel, self.centre, rotated, places);
        if kernels::needs_planes() {
            kernels::bit_planes(&query.rotated.components, &mut query.planes);
        }
    }

    /// How near nodes may be at the best, in their order. `out` is emptied first.
    pub(crate) fn lowest(&self, query: &BitQuery, nodes: &[u32], sums: &mut Vec<f32>, out: &mut Vec<f32>) {
        out.clear();
        self.estimate(query, nodes, ERRORS, sums, out);
    }

    /// Appends the estimated distances to nodes less `errors` standard errors, in their order.
    fn estimate(
        &self,
        query: &BitQuery,
        nodes: &[u32],
        errors: f32,
        scratch: &mut Vec<f32>,
        out: &mut Vec<f32>,
    ) {
        let (words, stride) = (words_of(self.dimension), record_words(self.dimension));
        let layout = kernels::BitLayout { words, stride };
        kernels::bit_sums(self.records, layout, &query.rotated.components, &query.planes, nodes, scratch);
        // Bits are signs: a set one counts +1, the others -1.
        let RotatedQuery { total, scale, base, length, .. } = query.rotated;
        let (total, reach) = (total as f32, length * errors);
        let rows = nodes.iter().zip(scratch.iter()).map(|(node, sum)| {
            let word = self.records.get(*node as usize * stride + words).copied();
            let factors = Factors::from_word(word.unwrap_or_default());
            (factors, factors.product * scale * (2.0 * *sum - total) + factors.error * reach)
        });
        match self.kernel {
            CodeKernel::Dot => out.extend(rows.map(|(_, product)| base - product)),
            CodeKernel::SquaredEuclidean => {
                out.extend(
                    rows.map(|(factors, product)| base + factors.square(self.dimension) - 2.0 * product),
                );
            }
        }
    }

    /// Estimated distances to nodes, in their order; smaller is nearer. `out` is emptied first.
    pub(crate) fn distances(&self, query: &BitQuery, nodes: &[u32], out: &mut Vec<f32>) {
        out.clear();
        self.estimate(query, nodes, 0.0, &mut Vec::with_capacity(nodes.len()), out);
    }

    /// Estimated distance to one node.
    pub(crate) fn distance(&self, query: &BitQuery, node: u32) -> f32 {
        let mut out = Vec::with_capacity(1);
        self.distances(query, &[node], &mut out);
        out.first().copied().unwrap_or(f32::MAX)
    }

    /// Has the codes of nodes fetched.
    #[inline]
    pub(crate) fn prefetch(&self, nodes: &[u32]) {
        let stride = record_words(self.dimension);
        for node in nodes {
            let start = *node as usize * stride;
            if stride <= LINE_WORDS {
                // On one line: a loop over lines would cost more than what it does.
                kernels::prefetch(self.records.get(start..=start).unwrap_or_default());
            } else {
                kernels::prefetch(self.records.get(start..start + stride).unwrap_or_default());
            }
        }
    }

    /// Compares all nodes that may be among the `k` nearest by the distances of `target`, one unit of which is worth
    /// `unit`, when estimates are off by no more than `errors` standard errors. `next` puts more nodes into a slice and says
    /// how many, 0 at the end. Gives all that were compared, in no order.
    pub(crate) fn scan(
        &self,
        query: &BitQuery,
        errors: f32,
        mut next: impl FnMut(&mut [u32]) -> usize,
        k: usize,
        (target, unit): (&Target<'_>, f32),
        scratch: &mut ScanScratch,
    ) -> Vec<Candidate> {
        let k = k.max(1);
        let mut nearest = Nearest { k, target, found: Vec::new(), farthest_first: BinaryHeap::new() };
        let ScanScratch { nodes, lowest, sums, compared, distances } = scratch;
        nodes.resize(BLOCK, 0);
        loop {
            let count = next(nodes);
            let block = nodes.get(..count).unwrap_or_default();
            if block.is_empty() {
                return nearest.found;
            }
            lowest.clear();
            let mut ahead = block.chunks(STEP);
            self.prefetch(ahead.next().unwrap_or_default());
            for step in block.chunks(STEP) {
                self.prefetch(ahead.next().unwrap_or_default());
                self.estimate(query, step, errors, sums, lowest);
            }
            if nearest.bound().is_infinite() {
                // The most promising are compared first: they tell how near a row must be.
                for at in smallest(lowest, k.saturating_mul(SEEDS_PER_HIT)) {
                    if let (Some(node), Some(lowest)) = (block.get(at), lowest.get_mut(at)) {
                        compared.push(*node);
                        *lowest = f32::INFINITY;
                    }
                }
                nearest.compare(compared, distances);
            }
            each_below(lowest, nearest.bound() * unit, |at| {
                compared.extend(block.get(at));
                if compared.len() == COMPARED_AT_ONCE {
                    nearest.compare(compared, distances);
                }
                nearest.bound() * unit
            });
            nearest.compare(compared, distances);
        }
    }
}

/// Fills slices from an iterator.
pub(crate) fn taking(mut nodes: impl Iterator<Item = u32>) -> impl FnMut(&mut [u32]) -> usize {
    move |places| places.iter_mut().zip(nodes.by_ref()).map(|(place, node)| *place = node).count()
}

/// Calls `take` with the place of each number that is less than the bound, which is what the call before gave.
#[inline]
pub(crate) fn each_below(numbers: &[f32], mut bound: f32, mut take: impl FnMut(usize) -> f32) {
    for (numbers, first) in numbers.chunks(GLANCED_AT).zip((0..).step_by(GLANCED_AT)) {
        // Counted for many at once: a branch for each costs more than the number.
        if numbers.iter().map(|number| u32::from(*number < bound)).sum::<u32>() == 0 {
            continue;
        }
        for (number, at) in numbers.iter().zip(first..) {
            if *number < bound {
                bound = take(at);
            }
        }
    }
}

/// Where the `most` smallest of some numbers stand.
fn smallest(numbers: &[f32], most: usize) -> impl Iterator<Item = usize> + use<> {
    let mut largest_first: BinaryHeap<(OrderedDistance, usize)> = BinaryHeap::new();
    each_below(numbers, f32::INFINITY, |at| {
        let number = numbers.get(at).copied().unwrap_or(f32::INFINITY);
        largest_first.push((OrderedDistance(number), at));
        if largest_first.len() <= most {
            return f32::INFINITY;
        }
        largest_first.pop();
        largest_first.peek().map_or(f32::INFINITY, |(largest, _)| largest.0)
    });
    largest_first.into_iter().map(|(_, at)| at)
}

/// What a scan compared, and the distances of the nearest.
struct Nearest<'a> {
    k: usize,
    target: &'a Target<'a>,
    found: Vec<Candidate>,
    farthest_first: BinaryHeap<OrderedDistance>,
}

impl Nearest<'_> {
    /// Compares nodes, and empties their list.
    fn compare(&mut self, nodes: &mut Vec<u32>, distances: &mut Vec<f32>) {
        self.target.prefetch(nodes);
        self.target.distances(nodes, distances);
        for (node, distance) in nodes.drain(..).zip(distances.iter().copied()) {
            self.found.push(Candidate { distance, node });
            if self.farthest_first.len() < self.k || distance < self.bound() {
                self.farthest_first.push(OrderedDistance(distance));
                if self.farthest_first.len() > self.k {
                    self.farthest_first.pop();
                }
            }
        }
    }

    /// Distance of the last of the `k` nearest; infinite while there are fewer.
    fn bound(&self) -> f32 {
        match self.farthest_first.peek() {
            Some(farthest) if self.farthest_first.len() >= self.k => farthest.0,
            _ => f32::INFINITY,
        }
    }
}

/// Encodes the vectors of the nodes; `None` where bits would lose neighbours or save nothing (see the module's text). What a
/// scan by bits doesn't rule out it compares by the codes of `others`.
pub(crate) fn encode_bits(
    others: &Walked<'_>,
    nodes: usize,
    frame: &Frame,
    truth: &CheckTruth,
    read: &Read<'_>,
) -> Option<EncodedBits> {
    let bits = EncodedBits::of(others.floats, nodes, frame, read)?;
    let (recall, compared_share) = bits.measure(others, frame, truth, read);
    (recall >= LEAST_RECALL && compared_share <= 1.0).then_some(EncodedBits { recall, ..bits })
}

/// Writes the record of a vector; `rest` is memory to work in. False when the vector has no finite length.
pub(crate) fn encode_record(
    rotation: &Rotation,
    centre: &[f32],
    vector: &[f32],
    rest: &mut Vec<f32>,
    record: &mut [u64],
) -> bool {
    rotation.seen_from(centre, vector, rest);
    let (bits, behind) = record.split_at_mut(words_of(vector.len()));
    for (word, components) in bits.iter_mut().zip(rest.chunks(WORD_BITS)) {
        let bit = |(at, x): (usize, &f32)| u64::from(*x >= 0.0) << at;
        *word = components.iter().enumerate().map(bit).sum();
    }
    let factors = Factors::of(rest);
    if let Some(word) = behind.first_mut() {
        *word = factors.to_word();
    }
    factors.error.is_finite()
}

impl EncodedBits {
    /// `None` when a vector has no finite length, or all of them no room.
    fn of(floats: Floats<'_>, nodes: usize, frame: &Frame, read: &Read<'_>) -> Option<Self> {
        let stride = record_words(floats.dimension);
        let Frame { rotation, centre, .. } = frame;
        let mut records = vec![0; nodes.checked_mul(stride)?];
        let encode = |rest: &mut Vec<f32>, vector: &[f32], record: &mut [u64]| {
            encode_record(rotation, centre, vector, rest, record)
        };
        let finite = floats.encode_nodes(&mut records, stride, read, encode);
        finite.then_some(Self { records, recall: 0.0 })
    }

    /// The codes as searches see them.
    pub(crate) fn codes<'a>(&'a self, kernel: CodeKernel, centre: &'a [f32]) -> BitCodes<'a> {
        BitCodes { kernel, dimension: centre.len(), centre, records: &self.records }
    }

    /// What share of the nearest by vector a scan finds in a sample of the column, and how many vectors it compares for
    /// that, as a share of those that may be.
    fn measure(&self, walked: &Walked<'_>, frame: &Frame, truth: &CheckTruth, read: &Read<'_>) -> (f32, f32) {
        let floats = walked.floats;
        let codes = self.codes(CodeKernel::of(floats.distance), &frame.centre);
        let CheckTruth { others, nearest } = truth;
        let check = |nearest: &NearestOf| {
            let NearestOf { to, count, .. } = *nearest;
            // A vector that can't be asked for is not among the queries.
            let query = PreparedQuery::new(floats.distance, floats.dimension, floats.vector(to)).ok()?;
            let (mut memory, mut prepared) = (TargetMemory::default(), BitQuery::default());
            let (target, unit) = walked.target(&query, &mut memory);
            codes.prepare(query.rotated(), &mut prepared);
            let mut scratch = ScanScratch::default();
            let all = taking(others.iter().copied());
            let mut compared =
                codes.scan(&prepared, ERRORS, all, CHECK_NEAREST, (&target, unit), &mut scratch);
            compared.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance));
            let candidates = compared.iter().take(CHECK_CANDIDATES).map(|candidate| candidate.node);
            let found = floats.near(nearest, candidates, read);
            Some((found.min(count), count, compared.len()))
        };
        let sum = |a: (usize, usize, usize), b: (usize, usize, usize)| (a.0 + b.0, a.1 + b.1, a.2 + b.2);
        // One after the other: each leaves a part of the column in memory until it ends.
        let (found, wanted, compared) = nearest.iter().filter_map(check).fold((0, 0, 0), sum);
        let affordable = others.len() as f32 * CHECK_COMPARED_SHARE + CHECK_COMPARED;
        (found as f32 / wanted.max(1) as f32, compared as f32 / (nearest.len().max(1) as f32 * affordable))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::schema::Distance;
    use crate::vector::distance::{dot, squared_euclidean};
    use crate::vector::rotation::rotated;
    use crate::vector::samples::{clustered, floats};

    #[test]
    fn estimates_have_no_bias_and_the_error_that_they_name() {
        let (dimension, nodes) = (256, 3_000);
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclidean] {
            let vectors = clustered(distance, nodes, dimension, 1);
            let floats = floats(distance, dimension, &vectors);
            let frame = Frame::of(floats, nodes, &|_| ());
            let bits = EncodedBits::of(floats, nodes, &frame, &|_| ()).expect("finite");
            let codes = bits.codes(CodeKernel::of(distance), &frame.centre);
            let query = clustered(distance, 1, dimension, 9);
            let mut prepared = BitQuery::default();
            codes.prepare(&rotated(&query), &mut prepared);
            let all: Vec<u32> = (0..nodes as u32).collect();
            let truth = vectors.chunks(dimension).map(|vector| match distance {
                Distance::Euclidean => squared_euclidean(&query, vector),
                _ => -dot(&query, vector),
            });
            let estimate = |errors| {
                let mut out = Vec::new();
                codes.estimate(&prepared, &all, errors, &mut Vec::new(), &mut out);
                out
            };
            let (estimates, lower) = (estimate(0.0), estimate(1.0));
            // In standard errors.
            let error = |((estimate, lower), truth): ((&f32, &f32), f64)| {
                (f64::from(*estimate) - truth) / f64::from(estimate - lower)
            };
            let errors: Vec<f64> = estimates.iter().zip(&lower).zip(truth).map(error).collect();
            let mean = errors.iter().sum::<f64>() / nodes as f64;
            let deviation = (errors.iter().map(|error| error * error).sum::<f64>() / nodes as f64).sqrt();
            // Vectors of a cluster err together, so that the mean over few clusters is not near 0.
            assert!(mean.abs() < 0.6, "{distance:?}: {mean}");
            assert!((0.6..1.5).contains(&deviation), "{distance:?}: {deviation}");
        }
    }

    #[test]
    fn a_scan_compares_few_and_finds_the_nearest() {
        let (dimension, nodes, k) = (256, 40_000, 10);
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclidean] {
            let vectors = clustered(distance, nodes, dimension, 1);
            let floats = floats(distance, dimension, &vectors);
            let frame = Frame::of(floats, nodes, &|_| ());
            let bits = EncodedBits::of(floats, nodes, &frame, &|_| ()).expect("finite");
            let codes = bits.codes(CodeKernel::of(distance), &frame.centre);
            let queries = clustered(distance, 40, dimension, 9);
            // The odd rows only: over several blocks, with gaps.
            let allowed = || (0..nodes as u32).filter(|row| row % 2 == 1);
            let mut scratch = ScanScratch::default();
            let (mut found, mut compared) = ([0, 0], [0, 0]);
            let all_bounds = [(ERRORS, 0), (ERRORS_OF_TRUTH, 1)];
            for (query, (errors, at)) in
                queries.chunks(dimension).flat_map(|query| all_bounds.map(|bound| (query, bound)))
            {
                let mut prepared = BitQuery::default();
                codes.prepare(&rotated(query), &mut prepared);
                let target = Target::Float(floats, query);
                let scanned =
                    codes.scan(&prepared, errors, taking(allowed()), k, (&target, 1.0), &mut scratch);
                compared[at] += scanned.len();
                assert!(scanned.iter().all(|candidate| candidate.node % 2 == 1));
                let mut nodes: Vec<u32> = scanned.iter().map(|candidate| candidate.node).collect();
                nodes.sort_unstable();
                nodes.dedup();
                assert_eq!(nodes.len(), scanned.len(), "none twice");
                let mut distances: Vec<f32> = allowed().map(|node| target.distance(node)).collect();
                distances.sort_unstable_by(f32::total_cmp);
                let near = scanned.iter().filter(|candidate| candidate.distance <= distances[k - 1]).count();
                found[at] += near.min(k);
            }
            assert!(found[0] >= 40 * k * 98 / 100, "{distance:?}: {found:?}");
            assert!(compared[0] < 40 * nodes / 10, "{distance:?}: {compared:?}");
            assert_eq!(found[1], 40 * k, "{distance:?}");
            assert!(compared[1] < 40 * nodes / 4, "{distance:?}: {compared:?}");
        }
    }

    #[test]
    fn a_scan_gives_all_when_there_are_fewer_than_wanted() {
        let vectors = clustered(Distance::Dot, 50, 64, 1);
        let floats = floats(Distance::Dot, 64, &vectors);
        let frame = Frame::of(floats, 50, &|_| ());
        let bits = EncodedBits::of(floats, 50, &frame, &|_| ()).expect("finite");
        let codes = bits.codes(CodeKernel::Dot, &frame.centre);
        let mut prepared = BitQuery::default();
        codes.prepare(&rotated(&vectors[..64]), &mut prepared);
        let target = Target::Float(floats, &vectors[..64]);
        let scan = |nodes: Vec<u32>, k| {
            let found = codes.scan(
                &prepared,
                ERRORS,
                taking(nodes.into_iter()),
                k,
                (&target, 1.0),
                &mut ScanScratch::default(),
            );
            found.len()
        };
        assert_eq!(scan((0..50).collect(), 60), 50);
        assert_eq!(scan(vec![3, 4], 1_000), 2);
        assert_eq!(scan(vec![], 10), 0);
    }

    fn alone(floats: Floats<'_>) -> Walked<'_> {
        Walked { floats, int4: None, int8: None, bits: None }
    }

    #[test]
    fn a_column_for_which_bits_say_too_little_gets_none() {
        let none = |vectors: &[f32], dimension: usize| {
            let (floats, nodes) =
                (floats(Distance::Euclidean, dimension, vectors), vectors.len() / dimension);
            let (frame, truth) = (Frame::of(floats, nodes, &|_| ()), CheckTruth::of(floats, nodes, &|_| ()));
            encode_bits(&alone(floats), nodes, &frame, &truth, &|_| ()).is_none()
        };
        // Eight components: whatever is near has the same signs, and everything has to be compared.
        assert!(none(&clustered(Distance::Euclidean, 20_000, 8, 1), 8));
        let mut vectors = clustered(Distance::Euclidean, 2_000, 128, 1);
        vectors[1_000] = f32::MAX;
        assert!(none(&vectors, 128), "its length is not finite");
    }
}
