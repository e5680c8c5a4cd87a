//! Brute force over f32 vectors, and the bounded heap that keeps the best.
//!
//! The truth that graph search is measured against, and the faster way where few rows may be returned. It must not know
//! graphs or codes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Range;

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::vector::Scored;
use crate::vector::distance;
use crate::vector::pass::Read;
use crate::vector::query::PreparedQuery;

/// Components (rows x dimension) from which a scan is spread over the cores.
const PARALLEL_COMPONENTS: usize = 8 << 20;
/// Rows of one parallel piece.
const PARALLEL_ROWS: usize = 4_096;
/// Rows of which [`scan_through`] tells at once, at least; fewer than a piece has where many queries are compared with each.
const LEAST_TOLD_ROWS: usize = 64;
/// Rows that are compared with every query before the next are read: they stay in the cache meanwhile.
const BLOCK_ROWS: usize = 16;

/// The `k` best of what was offered; equal scores by row. `k` bounds its memory.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    worst_first: BinaryHeap<WorstFirst>,
}

impl TopK {
    /// Keeps at most `k`.
    pub(crate) fn new(k: usize) -> Self {
        Self { k, worst_first: BinaryHeap::with_capacity(k.min(PARALLEL_ROWS)) }
    }

    /// Keeps the row if it is among the best so far.
    #[inline]
    pub(crate) fn offer(&mut self, row: u32, score: f32) {
        let entry = WorstFirst(Scored { row, score });
        if self.worst_first.len() < self.k {
            self.worst_first.push(entry);
        } else if let Some(mut worst) = self.worst_first.peek_mut()
            && entry < *worst
        {
            *worst = entry;
        }
    }

    /// What was kept, best first.
    pub(crate) fn into_sorted(self) -> Vec<Scored> {
        self.worst_first.into_sorted_vec().into_iter().map(|entry| entry.0).collect()
    }

    /// The best of both.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        for WorstFirst(scored) in other.worst_first {
            self.offer(scored.row, scored.score);
        }
        self
    }
}

/// Best first: by score, then by row. The order of every result list.
pub(crate) fn best_first(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then(a.row.cmp(&b.row))
}

/// Orders by [`best_first`], so that a max-heap has the worst on top.
#[derive(Debug, Clone, Copy)]
struct WorstFirst(Scored);

impl Ord for WorstFirst {
    fn cmp(&self, other: &Self) -> Ordering {
        best_first(&self.0, &other.0)
    }
}

impl PartialOrd for WorstFirst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WorstFirst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for WorstFirst {}

/// The `k` nearest of all rows of `vectors` (rows x dimension), or of `rows` only. Rows out of range are left out.
pub(crate) fn scan(
    query: &PreparedQuery,
    vectors: &[f32],
    rows: Option<&RoaringBitmap>,
    k: usize,
) -> Vec<Scored> {
    scan_many(&[query], vectors, rows, k).pop().unwrap_or_default()
}

/// [`scan`] for several queries of one dimension, which share the reading of vectors: a block is compared with all of
/// them while it is in the cache.
pub(crate) fn scan_many(
    queries: &[&PreparedQuery],
    vectors: &[f32],
    rows: Option<&RoaringBitmap>,
    k: usize,
) -> Vec<Vec<Scored>> {
    scan_through(queries, vectors, rows, k, &|_| ())
}

/// [`scan_many`] that tells which rows it has read.
pub(crate) fn scan_through(
    queries: &[&PreparedQuery],
    vectors: &[f32],
    rows: Option<&RoaringBitmap>,
    k: usize,
    read: &Read<'_>,
) -> Vec<Vec<Scored>> {
    let dimension = queries.first().map_or(0, |query| query.vector().len());
    if k == 0 || dimension == 0 {
        return vec![Vec::new(); queries.len()];
    }
    let scan = Scan { queries, dimension, vectors, rows, k };
    let count = (vectors.len() / dimension) as u32;
    let compared = rows.map_or(u64::from(count), RoaringBitmap::len) as usize;
    let tops = if compared.saturating_mul(dimension).saturating_mul(queries.len()) < PARALLEL_COMPONENTS {
        let mut tops = scan.nothing();
        scan.range(0..count, &mut tops);
        tops
    } else {
        let told_rows = (PARALLEL_ROWS / queries.len()).max(LEAST_TOLD_ROWS);
        let pieces: Vec<u32> = (0..count).step_by(PARALLEL_ROWS).collect();
        pieces
            .into_par_iter()
            .map(|start| {
                let mut tops = scan.nothing();
                let end = count.min(start.saturating_add(PARALLEL_ROWS as u32));
                for first in (start..end).step_by(told_rows) {
                    let last = end.min(first.saturating_add(told_rows as u32));
                    scan.range(first..last, &mut tops);
                    read(first as usize..last as usize);
                }
                tops
            })
            .reduce(|| scan.nothing(), merge_all)
    };
    tops.into_iter().map(TopK::into_sorted).collect()
}

fn merge_all(a: Vec<TopK>, b: Vec<TopK>) -> Vec<TopK> {
    a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect()
}

/// A scan of several queries over one column.
struct Scan<'a> {
    queries: &'a [&'a PreparedQuery],
    dimension: usize,
    vectors: &'a [f32],
    rows: Option<&'a RoaringBitmap>,
    k: usize,
}

impl Scan<'_> {
    fn nothing(&self) -> Vec<TopK> {
        self.queries.iter().map(|_| TopK::new(self.k)).collect()
    }

    /// Offers the rows of a range.
    fn range(&self, range: Range<u32>, tops: &mut [TopK]) {
        match self.rows {
            None => self.blocks(range, tops),
            Some(rows) => self.blocks(rows.range(range), tops),
        }
    }

    fn blocks(&self, mut rows: impl Iterator<Item = u32>, tops: &mut [TopK]) {
        let mut block = [0; BLOCK_ROWS];
        loop {
            let mut filled = 0;
            for (place, row) in block.iter_mut().zip(&mut rows) {
                *place = row;
                filled += 1;
            }
            let block = block.get(..filled).unwrap_or_default();
            let dense = is_dense(block);
            for (query, top) in self.queries.iter().zip(tops.iter_mut()) {
                if dense {
                    self.offer_through(query, block, top);
                } else {
                    block.iter().for_each(|row| top.offer(*row, self.score(query, *row)));
                }
            }
            if filled < BLOCK_ROWS {
                return;
            }
        }
    }

    /// Compares the rows in between, too, and throws their scores away: a row left out costs the processor several times as
    /// much as a row read in order, because it no longer foresees what comes next.
    fn offer_through(&self, query: &PreparedQuery, block: &[u32], top: &mut TopK) {
        let (Some(first), Some(last)) = (block.first(), block.last()) else { return };
        let mut wanted = block.iter().peekable();
        for row in *first..=*last {
            let score = self.score(query, row);
            if wanted.next_if(|next| **next == row).is_some() {
                top.offer(row, score);
            }
        }
    }

    #[inline]
    fn score(&self, query: &PreparedQuery, row: u32) -> f32 {
        let start = row as usize * self.dimension;
        let vector = self.vectors.get(start..start + self.dimension).unwrap_or_default();
        distance::score(query.distance(), query.vector(), vector)
    }
}

/// Whether at least every other row between the first and the last is in the block.
fn is_dense(block: &[u32]) -> bool {
    let span = block.last().zip(block.first()).map_or(0, |(last, first)| last - first);
    (span as usize) < 2 * block.len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::schema::Distance;

    #[test]
    fn the_best_are_kept_in_order_and_ties_go_by_row() {
        let mut top = TopK::new(3);
        for (row, score) in [(4, 1.0), (9, 2.0), (1, 1.0), (7, 0.5), (2, 1.0)] {
            top.offer(row, score);
        }
        let rows: Vec<u32> = top.into_sorted().iter().map(|scored| scored.row).collect();
        assert_eq!(rows, [9, 1, 2]);
        let mut none = TopK::new(0);
        none.offer(1, 1.0);
        assert!(none.into_sorted().is_empty());
    }

    #[test]
    fn a_spread_scan_finds_what_a_plain_one_finds() {
        let dimension = 1_024;
        let rows = PARALLEL_COMPONENTS / dimension + 5;
        let vectors: Vec<f32> = (0..rows * dimension).map(|i| ((i * 7_919) % 1_000) as f32).collect();
        let query =
            PreparedQuery::new(Distance::Euclidean, dimension, &vectors[5 * dimension..6 * dimension])
                .unwrap();
        let all = scan(&query, &vectors, None, 10);
        let mut plain: Vec<Scored> = (0..rows)
            .map(|row| {
                let vector = &vectors[row * dimension..(row + 1) * dimension];
                Scored {
                    row: row as u32,
                    score: distance::score(Distance::Euclidean, query.vector(), vector),
                }
            })
            .collect();
        plain.sort_by(best_first);
        plain.truncate(10);
        assert_eq!(all, plain);
        let every = RoaringBitmap::from_iter(0..rows as u32 + 100);
        assert_eq!(scan(&query, &vectors, Some(&every), 10), plain);
        let best = plain.remove(0);
        let mut others = every;
        others.remove(best.row);
        assert_eq!(scan(&query, &vectors, Some(&others), 9), plain);
    }

    #[test]
    fn several_queries_find_what_each_finds_alone() {
        let (dimension, rows) = (7, 100);
        let vectors: Vec<f32> = (0..rows * dimension).map(|i| ((i * 7_919) % 1_000) as f32).collect();
        let query = |row: usize| {
            let vector = &vectors[row * dimension..(row + 1) * dimension];
            PreparedQuery::new(Distance::Euclidean, dimension, vector).unwrap()
        };
        let queries = [3, 99, 3, 50].map(query);
        let queries: Vec<&PreparedQuery> = queries.iter().collect();
        let odd: RoaringBitmap = (0..200).filter(|row| row % 2 == 1).collect();
        let most: RoaringBitmap = (0..200).filter(|row| row % 10 != 3).collect();
        for allow in [None, Some(&odd), Some(&most), Some(&RoaringBitmap::new())] {
            let together = scan_many(&queries, &vectors, allow, 5);
            let alone: Vec<_> = queries.iter().map(|query| scan(query, &vectors, allow, 5)).collect();
            assert_eq!(together, alone);
            assert!(together.iter().flatten().all(|hit| allow.is_none_or(|allow| allow.contains(hit.row))));
        }
        assert_eq!(scan_many(&queries, &vectors, None, 5)[1][0], Scored { row: 99, score: 0.0 });
        assert_eq!(scan_many(&queries, &vectors, None, 0), vec![Vec::new(); 4]);
        assert!(scan_many(&[], &vectors, None, 5).is_empty());
    }
}
