//! Codes of the rows of a memtable, in order of the rows: what a scan reads in place of vectors that lie scattered.
//!
//! Each row has an int8 code with a scale of its own, `largest component / 127`, because nobody knows the rows that are
//! still to come. A code moves a component by at most half a step, so that f32 decides among those rows whose products may
//! be off by more than they differ. Blocks that are full get bit codes as well (see [`bits`](crate::vector::bits)) while
//! somebody searches: a sixth of the bytes, which tell of most rows that they are too far. It must not know graphs, or
//! which rows may be returned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use crate::schema::Distance;
use crate::vector::bits::{BitCodes, BitQuery, each_below, encode_record, record_words};
use crate::vector::codes::{OrderedDistance, REACH_ERRORS, ROUNDING};
use crate::vector::distance::{CodeKernel, code_distance};
use crate::vector::query::PreparedQuery;
use crate::vector::rotation::Rotation;

/// Rows of a block: appends of a few rows are copied together up to here.
const BLOCK_ROWS: usize = 256;
/// Largest code.
const LARGEST_CODE: f32 = 127.0;
/// Dimension from which bit codes tell anything.
const BITS_FROM_DIMENSION: usize = 64;
/// Rows whose order f32 decides at most, per hit wanted and beside them.
const RESCORE_PER_HIT: usize = 4;
const RESCORE_AT_LEAST: usize = 40;
/// Rows found before those that are out of reach by then are dropped, at least.
const CUT_AT_LEAST: usize = 256;
/// Rows after which bits are judged...
const BITS_JUDGED_AFTER: usize = 1_024;
/// ...and left alone when more than this part of the rows had to be compared all the same.
const BITS_WORTH_SHARE: usize = 2;

/// Codes of some consecutive rows.
#[derive(Debug)]
pub(super) struct Block {
    first: u32,
    /// Rows x dimension.
    codes: Vec<i8>,
    scales: Vec<Scale>,
    /// Rows x [`record_words`].
    bits: OnceLock<Vec<u64>>,
}

/// What turns the product of two codes into a distance.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Width of a step; negative: the row has no vector.
    step: f32,
    /// Squared length of the vector.
    square: f32,
}

/// The codes of a memtable.
#[derive(Debug, Default)]
pub(super) struct LiveCodes {
    blocks: RwLock<Vec<Arc<Block>>>,
    /// What bits are relative to: the rotated mean of the first rows that got some.
    centre: OnceLock<Vec<f32>>,
    /// Blocks that were given bits, or can't have any.
    with_bits: AtomicUsize,
}

impl LiveCodes {
    /// Appends rows; only one caller at a time.
    pub(super) fn append(&self, first: u32, rows: &[Option<&[f32]>], dimension: usize) {
        let last = self.blocks.read().last().cloned();
        let joined = last.filter(|block| block.scales.len() + rows.len() <= BLOCK_ROWS);
        let mut block = match &joined {
            Some(last) => {
                let mut codes = Vec::with_capacity((last.scales.len() + rows.len()) * dimension);
                codes.extend_from_slice(&last.codes);
                Block { first: last.first, codes, scales: last.scales.clone(), bits: OnceLock::new() }
            }
            None => {
                let codes = Vec::with_capacity(rows.len() * dimension);
                Block { first, codes, scales: Vec::with_capacity(rows.len()), bits: OnceLock::new() }
            }
        };
        for row in rows {
            let scale = match row {
                Some(vector) => encode(vector, &mut block.codes),
                None => {
                    block.codes.resize(block.codes.len() + dimension, 0);
                    Scale { step: -1.0, square: 0.0 }
                }
            };
            block.scales.push(scale);
        }
        let mut blocks = self.blocks.write();
        if joined.is_some() {
            blocks.pop();
        }
        blocks.push(Arc::new(block));
    }

    /// The blocks now.
    pub(super) fn blocks(&self) -> Vec<Arc<Block>> {
        self.blocks.read().clone()
    }

    /// Gives bits to blocks that won't grow any more, the first without them first, until `most_rows` rows got some;
    /// `vector_of` has the vectors. Only one caller at a time.
    pub(super) fn give_bits<V: AsRef<[f32]>>(
        &self,
        most_rows: usize,
        dimension: usize,
        vector_of: impl Fn(u32) -> Option<V>,
    ) {
        let from = self.with_bits.load(Ordering::Relaxed);
        let waiting: Vec<Arc<Block>> = {
            let blocks = self.blocks.read();
            // All but the last won't grow, however few rows they have.
            let grows = blocks.last().is_some_and(|last| last.scales.len() < BLOCK_ROWS);
            let whole = blocks.len() - usize::from(grows);
            blocks.get(from..whole).unwrap_or_default().to_vec()
        };
        if waiting.is_empty() || dimension < BITS_FROM_DIMENSION {
            return;
        }
        let rotation = Rotation::of(dimension);
        let (mut rest, mut rows) = (Vec::with_capacity(dimension), 0);
        for block in waiting {
            let vectors: Vec<Option<V>> = block.rows().map(&vector_of).collect();
            let present = vectors.iter().flatten().map(AsRef::as_ref);
            let centre = self.centre.get_or_init(|| rotation.mean(present));
            let stride = record_words(dimension);
            let mut records = vec![0; vectors.len() * stride];
            let finite = vectors.iter().zip(records.chunks_exact_mut(stride)).all(|(vector, record)| {
                let Some(vector) = vector else { return true };
                encode_record(&rotation, centre, vector.as_ref(), &mut rest, record)
            });
            if finite {
                // Nobody else sets it.
                let _ = block.bits.set(records);
            }
            self.with_bits.fetch_add(1, Ordering::Relaxed);
            rows += vectors.len();
            if rows >= most_rows {
                return;
            }
        }
    }

    /// Makes ready for a scan of `blocks`.
    pub(super) fn scan_for<'a>(&'a self, query: &'a PreparedQuery, k: usize, floor: f32) -> CodeScan<'a> {
        let mut scan = CodeScan::new(query, k, floor);
        if let Some(centre) = self.centre.get() {
            let (kernel, dimension) = (CodeKernel::of(query.distance()), query.vector().len());
            let codes = BitCodes { kernel, dimension, centre, records: &[] };
            codes.prepare(query.rotated(), &mut scan.bit_query);
            scan.bits = Some(codes);
        }
        scan
    }

    #[cfg(test)]
    pub(super) fn blocks_with_bits(&self) -> usize {
        self.blocks().iter().filter(|block| block.bits.get().is_some()).count()
    }
}

impl Block {
    fn rows(&self) -> std::ops::Range<u32> {
        self.first..self.first.saturating_add(self.scales.len() as u32)
    }
}

/// A row that a scan found.
#[derive(Debug, Clone, Copy)]
struct Found {
    score: f32,
    /// What the score may be in truth, at the best.
    best: f32,
    row: u32,
}

/// A query as codes, and what it found.
#[derive(Debug)]
pub(super) struct CodeScan<'a> {
    query: &'a PreparedQuery,
    code: Vec<i8>,
    scale: Scale,
    k: usize,
    /// Scores of the `k` nearest so far, the lowest on top.
    highest: BinaryHeap<Reverse<OrderedDistance>>,
    /// A row that surely scores less is not wanted.
    bound: f32,
    found: Vec<Found>,
    /// Rows found at which those out of reach are dropped.
    cut_at: usize,
    /// The column's bits, without records.
    bits: Option<BitCodes<'a>>,
    bit_query: BitQuery,
    /// Rows looked at by bits, and of these, rows compared.
    judged: (usize, usize),
    rows: Vec<u32>,
    sums: Vec<f32>,
    lowest: Vec<f32>,
}

impl<'a> CodeScan<'a> {
    /// Will find the `k` nearest, less those that surely score less than `floor`.
    fn new(query: &'a PreparedQuery, k: usize, floor: f32) -> Self {
        let mut code = Vec::with_capacity(query.vector().len());
        let scale = encode(query.vector(), &mut code);
        let bound = match query.distance() {
            Distance::Cosine | Distance::Dot => floor,
            // Scores are negated distances; what is compared here lacks the square of the query's length.
            Distance::Euclidean if floor.is_finite() => scale.square - floor * floor,
            Distance::Euclidean => f32::NEG_INFINITY,
        };
        Self {
            query,
            code,
            scale,
            k,
            highest: BinaryHeap::with_capacity(k.min(CUT_AT_LEAST) + 1),
            bound,
            found: Vec::new(),
            cut_at: CUT_AT_LEAST,
            bits: None,
            bit_query: BitQuery::default(),
            judged: (0, 0),
            rows: Vec::new(),
            sums: Vec::new(),
            lowest: Vec::new(),
        }
    }

    /// Compares the rows of a block that lie in `from..to` and in `allow` (`None`: all).
    pub(super) fn scan(&mut self, block: &Block, (from, to): (u32, u32), allow: Option<&RoaringBitmap>) {
        let (from, to) = (from.max(block.first), to.min(block.rows().end));
        if from >= to || self.k == 0 || self.code.is_empty() {
            return;
        }
        if let Some((bits, records)) = self.bits.zip(block.bits.get()).filter(|_| self.bits_are_worth_it()) {
            return self.scan_bits(block, BitCodes { records, ..bits }, (from, to), allow);
        }
        let dimension = self.code.len();
        let skipped = (from - block.first) as usize;
        match allow {
            None => {
                let codes = block.codes.chunks_exact(dimension).skip(skipped);
                for ((row, scale), code) in (from..to).zip(block.scales.iter().skip(skipped)).zip(codes) {
                    self.offer(row, *scale, code);
                }
            }
            Some(allow) => allow.range(from..to).for_each(|row| self.compare(block, row)),
        }
    }

    fn bits_are_worth_it(&self) -> bool {
        let (looked_at, compared) = self.judged;
        looked_at < BITS_JUDGED_AFTER || compared * BITS_WORTH_SHARE <= looked_at
    }

    /// Compares those rows by code of which bits don't say that they are too far.
    fn scan_bits(
        &mut self,
        block: &Block,
        bits: BitCodes<'_>,
        (from, to): (u32, u32),
        allow: Option<&RoaringBitmap>,
    ) {
        let (mut rows, mut lowest) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.lowest));
        rows.clear();
        match allow {
            None => rows.extend(from - block.first..to - block.first),
            Some(allow) => rows.extend(allow.range(from..to).map(|row| row - block.first)),
        }
        bits.lowest(&self.bit_query, &rows, &mut self.sums, &mut lowest);
        self.judged.0 += rows.len();
        each_below(&lowest, self.farthest(), |at| {
            self.judged.1 += 1;
            if let Some(row) = rows.get(at) {
                self.compare(block, block.first + row);
            }
            self.farthest()
        });
        (self.rows, self.lowest) = (rows, lowest);
    }

    /// The bound, as a distance of bit codes.
    fn farthest(&self) -> f32 {
        match self.query.distance() {
            Distance::Cosine | Distance::Dot => -self.bound,
            Distance::Euclidean => self.scale.square - self.bound,
        }
    }

    fn compare(&mut self, block: &Block, row: u32) {
        let (at, dimension) = ((row - block.first) as usize, self.code.len());
        let code = block.codes.get(at * dimension..(at + 1) * dimension);
        if let (Some(scale), Some(code)) = (block.scales.get(at), code) {
            self.offer(row, *scale, code);
        }
    }

    #[inline]
    fn offer(&mut self, row: u32, scale: Scale, code: &[i8]) {
        if scale.step < 0.0 {
            return;
        }
        let product = -code_distance(CodeKernel::Dot, &self.code, code) * self.scale.step * scale.step;
        let (score, counts) = match self.query.distance() {
            Distance::Cosine | Distance::Dot => (product, 1.0),
            // The square of the query's length is the same for all rows.
            Distance::Euclidean => (2.0 * product - scale.square, 2.0),
        };
        // Of huge components the score may overflow: such a row is left to the vectors to judge.
        let score = if score.is_nan() { f32::MAX } else { score };
        let best = score + self.reach(scale, counts);
        if best < self.bound {
            return;
        }
        self.found.push(Found { score, best: if best.is_nan() { f32::MAX } else { best }, row });
        if self.highest.len() < self.k || self.highest.peek().is_some_and(|lowest| score > lowest.0.0) {
            self.highest.push(Reverse(OrderedDistance(score)));
            if self.highest.len() > self.k {
                self.highest.pop();
            }
            if let Some(lowest) = self.highest.peek().filter(|_| self.highest.len() == self.k) {
                self.bound = self.bound.max(lowest.0.0);
            }
        }
        if self.found.len() >= self.cut_at {
            self.cut();
            self.cut_at = (2 * self.found.len()).max(CUT_AT_LEAST);
        }
    }

    /// By how much the score of a row may be off: each code moves a component by an rms of `step / sqrt(12)`.
    #[inline]
    fn reach(&self, of_row: Scale, counts: f32) -> f32 {
        let (of_query, row_step, query_step) = (self.scale, of_row.step, self.scale.step);
        let square = of_query.square * row_step * row_step + of_row.square * query_step * query_step;
        REACH_ERRORS * counts * (square * ROUNDING).sqrt()
    }

    fn cut(&mut self) {
        let (bound, keep) =
            (self.bound, self.k.saturating_mul(RESCORE_PER_HIT).saturating_add(RESCORE_AT_LEAST));
        self.found.retain(|found| found.best >= bound);
        if self.found.len() > keep {
            self.found.select_nth_unstable_by(keep - 1, |a, b| b.score.total_cmp(&a.score));
            self.found.truncate(keep);
        }
    }

    /// The rows among which the nearest are, in no order.
    pub(super) fn into_rows(mut self) -> impl Iterator<Item = u32> {
        self.cut();
        self.found.into_iter().map(|found| found.row)
    }
}

fn encode(vector: &[f32], codes: &mut Vec<i8>) -> Scale {
    let largest = vector.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let step = largest / LARGEST_CODE;
    if !step.is_normal() {
        codes.resize(codes.len() + vector.len(), 0);
        return Scale { step: 0.0, square: 0.0 };
    }
    let inverse = 1.0 / step;
    codes.extend(vector.iter().map(|x| {
        let x = x * inverse;
        (x + 0.5_f32.copysign(x)) as i8
    }));
    Scale { step, square: vector.iter().map(|x| x * x).sum() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, reason = "tests")]

    use super::*;

    fn scan(
        codes: &LiveCodes,
        (distance, query): (Distance, &[f32]),
        keep: usize,
        range: (u32, u32),
        allow: Option<&RoaringBitmap>,
    ) -> Vec<u32> {
        let query = PreparedQuery::new(distance, query.len(), query).expect("finite");
        let mut scan = codes.scan_for(&query, keep, f32::NEG_INFINITY);
        codes.blocks().iter().for_each(|block| scan.scan(block, range, allow));
        let mut rows: Vec<u32> = scan.into_rows().collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn the_nearest_are_kept_and_rows_without_a_vector_left_out() {
        let near: &[f32] = &[3.0, 0.5];
        let rows = [Some(near), None, Some(&[0.0, 0.001]), Some(&[1000.0, 1000.0]), Some(&[0.0, 0.0])];
        let codes = LiveCodes::default();
        codes.append(0, &rows[..2], 2);
        codes.append(2, &rows[2..], 2);
        let query: &[f32] = &[1.0, 0.1];
        for (distance, best) in [(Distance::Dot, [0, 3]), (Distance::Euclidean, [2, 4])] {
            let scan = |keep, range, allow| scan(&codes, (distance, query), keep, range, allow);
            let found = scan(2, (0, 5), None);
            assert!(best.iter().all(|row| found.contains(row)), "{distance:?}: {found:?}");
            assert_eq!(scan(10, (0, 5), None), [0, 2, 3, 4]);
            assert_eq!(scan(0, (0, 5), None), [0; 0]);
            assert_eq!(scan(10, (1, 3), None), [2]);
            assert_eq!(scan(10, (0, 5), Some(&RoaringBitmap::from_iter([0, 1, 9]))), [0]);
        }
    }

    #[test]
    fn of_many_rows_the_best_stay_whatever_the_order() {
        let codes = LiveCodes::default();
        let vectors: Vec<[f32; 2]> = (0..1_000).map(|row| [1.0, ((row * 7_919) % 1_000) as f32]).collect();
        let rows: Vec<Option<&[f32]>> = vectors.iter().map(|vector| Some(vector.as_slice())).collect();
        rows.chunks(90).zip((0..).step_by(90)).for_each(|(rows, first)| codes.append(first, rows, 2));
        let best: Vec<u32> = (0..1_000).filter(|row| (row * 7_919) % 1_000 >= 990).collect();
        let found = scan(&codes, (Distance::Dot, &[0.0, 1.0]), 10, (0, 1_000), None);
        assert!(best.iter().all(|row| found.contains(row)), "{found:?}");
        assert!(found.len() <= 10 * RESCORE_PER_HIT + RESCORE_AT_LEAST, "{}", found.len());
    }

    #[test]
    fn blocks_grow_to_a_bound_and_keep_the_order_of_the_rows() {
        let codes = LiveCodes::default();
        let vector: &[f32] = &[1.0];
        for row in 0..600 {
            codes.append(row, &[Some(vector)], 1);
        }
        codes.append(600, &vec![Some(vector); 1_000], 1);
        let blocks = codes.blocks();
        let firsts: Vec<(u32, usize)> =
            blocks.iter().map(|block| (block.first, block.scales.len())).collect();
        assert_eq!(firsts, [(0, 256), (256, 256), (512, 88), (600, 1_000)]);
    }

    #[test]
    fn only_blocks_that_are_full_or_followed_get_bits_and_few_at_a_time() {
        let codes = LiveCodes::default();
        let vector: Vec<f32> = (0..64).map(|at| at as f32).collect();
        let append = |first, count: usize| codes.append(first, &vec![Some(vector.as_slice()); count], 64);
        let give = |most| codes.give_bits(most, 64, |_| Some(&vector));
        append(0, 200);
        give(1_000);
        assert_eq!(codes.blocks_with_bits(), 0);
        append(200, 100);
        give(1_000);
        assert_eq!(codes.blocks_with_bits(), 1, "the first can't grow: what came did not fit");
        append(300, 700);
        append(1_000, 256);
        give(1);
        assert_eq!(codes.blocks_with_bits(), 2);
        give(1_000);
        assert_eq!(codes.blocks_with_bits(), 4);
        give(1_000);
        assert_eq!(codes.blocks_with_bits(), 4);
    }

    #[test]
    fn overflow_is_left_to_the_vectors() {
        let codes = LiveCodes::default();
        codes.append(0, &[Some(&[f32::MAX, f32::MIN]), Some(&[1.0, 1.0])], 2);
        let query: &[f32] = &[f32::MAX, f32::MAX];
        assert_eq!(scan(&codes, (Distance::Euclidean, query), 2, (0, 2), None), [0, 1]);
    }
}
