//! The live graph of a memtable: the only file that knows hnsw_rs.
//!
//! hnsw_rs inserts while others search, which is what a memtable needs, but it trusts its caller: it ends the process on
//! more than 256 links, panics on distances that are negative or no number, and checks no dimension. So everything is
//! checked before a call; its dump files, its filters (which lose results) and `set_keeping_pruned` (which cuts the graph
//! apart) stay unused; one thread inserts at a time; and should it still panic, the graph counts as broken and is left alone
//! from then on, while searches scan.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hnsw_rs::anndists::dist::distances::Distance as HnswDistance;
use hnsw_rs::hnsw::Hnsw;

use crate::schema::Distance;
use crate::vector::distance;

/// Links of a node.
const LINKS: usize = 16;
/// Beam of an insertion.
const EF_CONSTRUCTION: usize = 100;
/// Levels; hnsw_rs has at most 16.
const LEVELS: usize = 16;
/// Rows for which hnsw_rs reserves memory; a hint.
const EXPECTED_ROWS: usize = 10_000;
/// Memory of a node without its vector, roughly: 16 lists, 32 links of an `Arc` each, the point and its locks.
pub(super) const NODE_BYTES: usize = 2_200;

/// A vector that graph and memtable share; hnsw_rs copies the handle.
#[derive(Debug, Clone)]
struct Shared(Arc<[f32]>);

/// Distances that hnsw_rs can bear: not negative, never NaN.
struct Bearable(Distance);

impl HnswDistance<Shared> for Bearable {
    fn eval(&self, a: &[Shared], b: &[Shared]) -> f32 {
        let (Some(a), Some(b)) = (a.first(), b.first()) else { return f32::MAX };
        let near = distance::float_distance(self.0, &a.0, &b.0);
        match self.0 {
            Distance::Cosine => (1.0 + near).max(0.0),
            Distance::Euclidean => near,
            // Any growing function keeps the order, and hnsw_rs only compares: this one maps all numbers into 0..
            Distance::Dot if near >= 0.0 => 1.0 + near,
            Distance::Dot => 1.0 / (1.0 - near),
        }
    }
}

/// A graph that grows while it is searched.
pub(super) struct LiveGraph {
    hnsw: Hnsw<'static, Shared, Bearable>,
    broken: AtomicBool,
}

impl LiveGraph {
    pub(super) fn new(distance: Distance) -> Self {
        let hnsw = Hnsw::new(LINKS, EXPECTED_ROWS, LEVELS, EF_CONSTRUCTION, Bearable(distance));
        Self { hnsw, broken: AtomicBool::new(false) }
    }

    /// Adds a row; its vector is finite and as long as all others. One thread at a time. False: the graph is broken.
    pub(super) fn insert(&self, row: u32, vector: Arc<[f32]>) -> bool {
        if self.broken.load(Ordering::Acquire) {
            return false;
        }
        let shared = [Shared(vector)];
        self.guard(|| self.hnsw.insert_slice((&shared, row as usize))).is_some()
    }

    /// Rows near a vector, nearest first, at most `ef`; `None`: the graph is broken.
    pub(super) fn search(&self, vector: Arc<[f32]>, ef: usize) -> Option<Vec<u32>> {
        if self.broken.load(Ordering::Acquire) {
            return None;
        }
        let shared = [Shared(vector)];
        let found = self.guard(|| self.hnsw.search(&shared, ef, ef))?;
        Some(found.iter().filter_map(|neighbour| u32::try_from(neighbour.d_id).ok()).collect())
    }

    /// Calls hnsw_rs. Its locks are not poisoned by a panic; whether its lists still make sense nobody knows.
    fn guard<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let result = catch_unwind(AssertUnwindSafe(call));
        if result.is_err() {
            self.broken.store(true, Ordering::Release);
            tracing::error!("the live vector graph failed; the memtable is scanned until it is sealed");
        }
        result.ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn distances_keep_their_order_and_are_never_negative() {
        let shared = |vector: &[f32]| [Shared(vector.into())];
        let query = shared(&[1.0, 0.0]);
        for distance in [Distance::Dot, Distance::Cosine, Distance::Euclidean] {
            let distances: Vec<f32> = [1.0, 0.9, 0.5, 0.0, -0.5, -1.0]
                .iter()
                .map(|x: &f32| Bearable(distance).eval(&query, &shared(&[*x, (1.0 - x * x).sqrt()])))
                .collect();
            assert!(distances.is_sorted(), "{distance:?} {distances:?}");
            assert!(distances.iter().all(|distance| *distance >= 0.0));
        }
        let huge = shared(&[f32::MAX, f32::MAX]);
        for distance in [Distance::Dot, Distance::Euclidean] {
            assert!(Bearable(distance).eval(&huge, &shared(&[f32::MIN, f32::MIN])).is_finite());
            assert!(Bearable(distance).eval(&huge, &huge) >= 0.0);
        }
    }

    #[test]
    fn a_panic_inside_breaks_the_graph_and_nothing_else() {
        let graph = LiveGraph::new(Distance::Dot);
        assert!(graph.insert(0, [1.0].into()));
        assert!(graph.guard(|| panic!("on purpose")).is_none());
        assert!(!graph.insert(1, [1.0].into()));
        assert!(graph.search([1.0].into(), 1).is_none());
    }
}
