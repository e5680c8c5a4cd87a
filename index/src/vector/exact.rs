//! Brute force over f32 vectors, and the bounded heap that keeps the best.
//!
//! The truth that graph search is measured against, and the faster way where few rows may be returned. It must not know
//! graphs or codes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::vector::Scored;
use crate::vector::distance;
use crate::vector::query::PreparedQuery;

/// Components (rows x dimension) from which a scan is spread over the cores.
const PARALLEL_COMPONENTS: usize = 8 << 20;
/// Rows of one parallel piece.
const PARALLEL_ROWS: usize = 4_096;

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
    let dimension = query.vector().len();
    if k == 0 || dimension == 0 {
        return Vec::new();
    }
    let top = match rows {
        None if vectors.len() < PARALLEL_COMPONENTS => scan_piece(query, 0, vectors, k),
        None => vectors
            .par_chunks(PARALLEL_ROWS * dimension)
            .enumerate()
            .map(|(piece, chunk)| scan_piece(query, (piece * PARALLEL_ROWS) as u32, chunk, k))
            .reduce(|| TopK::new(k), TopK::merge),
        Some(rows) if (rows.len() as usize).saturating_mul(dimension) < PARALLEL_COMPONENTS => {
            scan_rows(query, vectors, rows.iter(), k)
        }
        Some(rows) => {
            let rows: Vec<u32> = rows.iter().collect();
            rows.par_chunks(PARALLEL_ROWS)
                .map(|piece| scan_rows(query, vectors, piece.iter().copied(), k))
                .reduce(|| TopK::new(k), TopK::merge)
        }
    };
    top.into_sorted()
}

fn scan_piece(query: &PreparedQuery, first_row: u32, vectors: &[f32], k: usize) -> TopK {
    let mut top = TopK::new(k);
    for (row, vector) in (first_row..).zip(vectors.chunks_exact(query.vector().len())) {
        top.offer(row, distance::score(query.distance(), query.vector(), vector));
    }
    top
}

fn scan_rows(query: &PreparedQuery, vectors: &[f32], rows: impl Iterator<Item = u32>, k: usize) -> TopK {
    let dimension = query.vector().len();
    let mut top = TopK::new(k);
    for row in rows {
        let start = row as usize * dimension;
        if let Some(vector) = vectors.get(start..start + dimension) {
            top.offer(row, distance::score(query.distance(), query.vector(), vector));
        }
    }
    top
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
        let mut plain = scan_piece(&query, 0, &vectors, 10).into_sorted();
        assert_eq!(all, plain);
        let every = RoaringBitmap::from_iter(0..rows as u32 + 100);
        assert_eq!(scan(&query, &vectors, Some(&every), 10), plain);
        let best = plain.remove(0);
        let mut others = every;
        others.remove(best.row);
        assert_eq!(scan(&query, &vectors, Some(&others), 9), plain);
    }
}
