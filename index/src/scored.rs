//! A row and its score: what every retriever of a segment or memtable answers. It knows no collection, no point id.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row of one segment or memtable with its score; larger is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Row, from 0.
    pub row: u32,
    /// Score, never NaN.
    pub score: f32,
}

impl Scored {
    /// Best first: higher score, then lower row.
    pub fn best_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

/// Orders by [`Scored::best_first`], so that the top of a max-heap is the worst of those kept.
#[derive(Debug, Clone, Copy, PartialEq)]
struct WorstOnTop(Scored);

impl Eq for WorstOnTop {}

impl PartialOrd for WorstOnTop {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for WorstOnTop {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.best_first(&other.0)
    }
}

/// Keeps the best `k` of what it is shown.
#[derive(Debug)]
pub(crate) struct TopK {
    k: usize,
    heap: BinaryHeap<WorstOnTop>,
}

impl TopK {
    /// `rows` is the most that can be shown; it bounds what is allocated.
    pub(crate) fn new(k: usize, rows: u32) -> Self {
        let k = k.min(rows as usize);
        Self { k, heap: BinaryHeap::with_capacity(k) }
    }

    /// Shows a row; it stays if it is among the best so far.
    pub(crate) fn push(&mut self, candidate: Scored) {
        if self.heap.len() < self.k {
            self.heap.push(WorstOnTop(candidate));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate.best_first(&worst.0) == Ordering::Less
        {
            *worst = WorstOnTop(candidate);
        }
    }

    /// A row that comes after all rows shown so far must score more than this to be kept.
    pub(crate) fn threshold(&self) -> f32 {
        if self.heap.len() < self.k {
            return f32::MIN;
        }
        self.heap.peek().map_or(f32::MAX, |worst| worst.0.score)
    }

    /// The best, best first.
    pub(crate) fn into_sorted(self) -> Vec<Scored> {
        self.heap.into_sorted_vec().into_iter().map(|kept| kept.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Scored, TopK};

    #[test]
    fn keeps_the_best_and_the_lower_row_of_equals() {
        let mut top = TopK::new(2, 10);
        for (row, score) in [(5, 1.0), (4, 2.0), (3, 1.0), (9, 0.5)] {
            top.push(Scored { row, score });
        }
        assert_eq!(top.into_sorted(), [Scored { row: 4, score: 2.0 }, Scored { row: 3, score: 1.0 }]);
    }

    #[test]
    fn none_wanted_none_kept() {
        let mut top = TopK::new(0, 10);
        top.push(Scored { row: 1, score: 1.0 });
        assert_eq!(top.threshold(), f32::MAX);
        assert!(top.into_sorted().is_empty());
    }
}
