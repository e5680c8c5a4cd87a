//! Int8 codes of the rows of a memtable, in order of the rows: what a scan reads in place of vectors four times as long
//! that lie scattered.
//!
//! Each row has a scale of its own, `largest component / 127`, because nobody knows the rows that are still to come. A
//! code moves a component by at most half a step; a scan keeps some more rows than it wants, and f32 decides among them.
//! It must not know graphs, or which rows may be returned.

use std::sync::Arc;

use parking_lot::RwLock;
use roaring::RoaringBitmap;

use crate::schema::Distance;
use crate::vector::distance::{CodeKernel, code_distance};

/// Rows of a block: appends of a few rows are copied together up to here.
const BLOCK_ROWS: usize = 256;
/// Largest code.
const LARGEST_CODE: f32 = 127.0;

/// Codes of some consecutive rows.
#[derive(Debug)]
pub(super) struct Block {
    first: u32,
    /// Rows x dimension.
    codes: Vec<i8>,
    scales: Vec<Scale>,
}

/// What turns the product of two codes into a distance.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Width of a step; negative: the row has no vector.
    step: f32,
    /// Squared length of the vector, for Euclidean.
    square: f32,
}

/// The codes of a memtable.
#[derive(Debug, Default)]
pub(super) struct LiveCodes {
    blocks: RwLock<Vec<Arc<Block>>>,
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
                Block { first: last.first, codes, scales: last.scales.clone() }
            }
            None => {
                let codes = Vec::with_capacity(rows.len() * dimension);
                Block { first, codes, scales: Vec::with_capacity(rows.len()) }
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
}

/// A query as a code, and what it found.
#[derive(Debug)]
pub(super) struct CodeScan {
    distance: Distance,
    code: Vec<i8>,
    step: f32,
    keep: usize,
    /// At most twice as many as are kept, in no order.
    found: Vec<(f32, u32)>,
    /// What no longer gets in.
    worst: f32,
}

impl CodeScan {
    /// Will keep the `keep` nearest.
    pub(super) fn new(distance: Distance, vector: &[f32], keep: usize) -> Self {
        let mut code = Vec::with_capacity(vector.len());
        let Scale { step, .. } = encode(vector, &mut code);
        Self { distance, code, step, keep, found: Vec::new(), worst: f32::NEG_INFINITY }
    }

    /// Compares the rows of a block that lie in `from..to` and in `allow` (`None`: all).
    pub(super) fn scan(&mut self, block: &Block, (from, to): (u32, u32), allow: Option<&RoaringBitmap>) {
        let end = block.first.saturating_add(block.scales.len() as u32);
        let (from, to) = (from.max(block.first), to.min(end));
        if from >= to || self.keep == 0 || self.code.is_empty() {
            return;
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
            Some(allow) => {
                for row in allow.range(from..to) {
                    let at = (row - block.first) as usize;
                    let code = block.codes.get(at * dimension..(at + 1) * dimension);
                    if let (Some(scale), Some(code)) = (block.scales.get(at), code) {
                        self.offer(row, *scale, code);
                    }
                }
            }
        }
    }

    #[inline]
    fn offer(&mut self, row: u32, scale: Scale, code: &[i8]) {
        if scale.step < 0.0 {
            return;
        }
        let product = -code_distance(CodeKernel::Dot, &self.code, code) * self.step * scale.step;
        let score = match self.distance {
            Distance::Cosine | Distance::Dot => product,
            // The square of the query's length is the same for all rows.
            Distance::Euclidean => 2.0 * product - scale.square,
        };
        // Of huge components the score may overflow: such a row is left to the vectors to judge.
        let score = if score.is_nan() { f32::MAX } else { score };
        if score > self.worst || self.found.len() < self.keep {
            self.found.push((score, row));
            if self.found.len() >= 2 * self.keep {
                self.cut();
            }
        }
    }

    fn cut(&mut self) {
        if self.found.len() > self.keep {
            let (_, last, _) = self.found.select_nth_unstable_by(self.keep - 1, |a, b| b.0.total_cmp(&a.0));
            self.worst = last.0;
            self.found.truncate(self.keep);
        }
    }

    /// The nearest rows, in no order.
    pub(super) fn into_rows(mut self) -> impl Iterator<Item = u32> {
        self.cut();
        self.found.into_iter().map(|(_, row)| row)
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
    use super::*;

    fn scan(
        codes: &LiveCodes,
        (distance, query): (Distance, &[f32]),
        keep: usize,
        range: (u32, u32),
        allow: Option<&RoaringBitmap>,
    ) -> Vec<u32> {
        let mut scan = CodeScan::new(distance, query, keep);
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
            assert_eq!(scan(2, (0, 5), None), best, "{distance:?}");
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
        assert_eq!(scan(&codes, (Distance::Dot, &[0.0, 1.0]), 10, (0, 1_000), None), best);
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
    fn overflow_is_left_to_the_vectors() {
        let codes = LiveCodes::default();
        codes.append(0, &[Some(&[f32::MAX, f32::MIN]), Some(&[1.0, 1.0])], 2);
        let query: &[f32] = &[f32::MAX, f32::MAX];
        assert_eq!(scan(&codes, (Distance::Euclidean, query), 2, (0, 2), None), [0, 1]);
    }
}
