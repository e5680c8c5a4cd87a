//! The vectors of a memtable: appended to by one, searched by many, without copies.
//!
//! Rows are searchable as soon as they are appended: a search walks the live graph for the rows it has reached and scans
//! the rest, by codes where they are many, with the order of the best settled by f32. The graph is fed by a thread of the
//! collection; nothing waits for it. It must not know the log, points or deletion: which rows a search may return comes as a number of visible rows and a bitmap.

mod codes;
mod graph;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rayon::prelude::*;
use roaring::RoaringBitmap;

use crate::background::give_way;
use crate::schema::Distance;
use crate::search::MAX_EF;
use crate::vector::distance;
use crate::vector::exact::TopK;
use crate::vector::kernels::prefetch;
use crate::vector::live::codes::LiveCodes;
use crate::vector::live::graph::LiveGraph;
use crate::vector::plan::{ExactReason, Strategy};
use crate::vector::query::PreparedQuery;
use crate::vector::{Scored, SearchParams};

/// Rows below which no graph is fed: scanning them is fast enough.
pub const LIVE_GRAPH_MIN_ROWS: usize = 5_000;
/// Rows of a chunk.
const CHUNK_ROWS: usize = 1_024;
/// Beam of a search when the request doesn't say, at least.
const DEFAULT_EF: usize = 128;
/// Widest beam by which a filter is compensated; a wider one costs more than a scan.
const MAX_FILTERED_EF: usize = 1_000;
/// Components (rows x dimension) from which an exact scan is spread over the cores.
const PARALLEL_COMPONENTS: usize = 8 << 20;
/// Rows from which a scan goes by codes; fewer are compared exactly.
const CODE_ROWS: u64 = 1_024;
/// Rows that get bit codes in one go, about: a few milliseconds.
const BIT_ROWS: usize = 1_024;

/// Set once, when the row is appended; `None` inside: the row has no vector.
type RowSlot = OnceLock<Option<Arc<[f32]>>>;

/// The vectors of one vector space of a memtable.
pub struct LiveVectors {
    distance: Distance,
    dimension: usize,
    chunks: RwLock<Vec<Arc<[RowSlot]>>>,
    codes: LiveCodes,
    /// Rows appended, with or without a vector. Written under `appending`, after the slots.
    rows: AtomicU32,
    /// Of these, rows with a vector.
    present: AtomicUsize,
    appending: Mutex<()>,
    graph: OnceLock<LiveGraph>,
    /// Rows below it are in the graph. Written under `feeding`, after the insertion.
    fed: AtomicU32,
    feeding: Mutex<()>,
}

impl std::fmt::Debug for LiveVectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveVectors")
            .field("distance", &self.distance)
            .field("dimension", &self.dimension)
            .field("rows", &self.len())
            .field("fed", &self.fed.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

impl LiveVectors {
    /// No rows yet.
    pub fn new(distance: Distance, dimension: usize) -> Self {
        Self {
            distance,
            dimension,
            chunks: RwLock::default(),
            codes: LiveCodes::default(),
            rows: AtomicU32::new(0),
            present: AtomicUsize::new(0),
            appending: Mutex::default(),
            graph: OnceLock::new(),
            fed: AtomicU32::new(0),
            feeding: Mutex::default(),
        }
    }

    /// Appends rows, numbered from [`Self::len`]; `None`: the row has no vector. They are searchable on return.
    ///
    /// Vectors must have passed [`prepare_vector`](crate::vector::prepare_vector) and have the space's dimension; one that
    /// isn't so is a defect of the caller: it is reported and taken for none.
    pub fn append(&self, rows: &[Option<&[f32]>]) {
        let _appending = self.appending.lock();
        let first = self.len();
        self.reserve(first + rows.len());
        let sound: Vec<Option<&[f32]>> = (first..)
            .zip(rows)
            .map(|(row, vector)| vector.filter(|vector| self.is_sound(row, vector)))
            .collect();
        self.codes.append(first as u32, &sound, self.dimension);
        let chunks = self.chunks.read();
        for (row, vector) in (first..).zip(sound) {
            let vector = vector.map(Arc::from);
            self.present.fetch_add(usize::from(vector.is_some()), Ordering::Relaxed);
            if let Some(slot) = slot(&chunks, row as u32)
                && slot.set(vector).is_err()
            {
                tracing::error!(row, "a row of a memtable was appended twice");
            }
        }
        self.rows.store((first + rows.len()) as u32, Ordering::Release);
    }

    fn is_sound(&self, row: usize, vector: &[f32]) -> bool {
        let sound = vector.len() == self.dimension && vector.iter().all(|component| component.is_finite());
        if !sound {
            tracing::error!(row, "a vector that was not checked reached a memtable; the row has none");
        }
        sound
    }

    fn reserve(&self, rows: usize) {
        let wanted = rows.div_ceil(CHUNK_ROWS);
        if self.chunks.read().len() < wanted {
            let mut chunks = self.chunks.write();
            while chunks.len() < wanted {
                chunks.push(std::iter::repeat_with(OnceLock::new).take(CHUNK_ROWS).collect());
            }
        }
    }

    /// Rows appended, with or without a vector.
    pub fn len(&self) -> usize {
        self.rows.load(Ordering::Acquire) as usize
    }

    /// Whether no row was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector of a row.
    pub fn vector(&self, row: u32) -> Option<Vec<f32>> {
        self.shared(row).map(|vector| vector.to_vec())
    }

    fn shared(&self, row: u32) -> Option<Arc<[f32]>> {
        vector_of(&self.chunks.read(), row).cloned()
    }

    /// Inserts at most `max_rows` more rows into the graph; returns how many. 0: nothing to do now, or another thread is at
    /// it. A row costs about half a millisecond.
    pub fn feed(&self, max_rows: usize) -> usize {
        let rows = self.len();
        if rows <= LIVE_GRAPH_MIN_ROWS {
            return 0;
        }
        let Some(_feeding) = self.feeding.try_lock() else { return 0 };
        let graph = self.graph.get_or_init(|| LiveGraph::new(self.distance));
        let first = self.fed.load(Ordering::Acquire);
        let last = rows.min((first as usize).saturating_add(max_rows)) as u32;
        for row in first..last {
            if let Some(vector) = self.shared(row)
                && !graph.insert(row, vector)
            {
                return (row - first) as usize;
            }
            self.fed.store(row + 1, Ordering::Release);
            give_way();
        }
        last.saturating_sub(first) as usize
    }

    /// Gives bit codes to some rows that have none, so that searches scan them faster. Worth it while somebody searches; one
    /// thread at a time.
    pub fn quicken_scans(&self) {
        let chunks = self.chunks.read();
        self.codes.give_bits(BIT_ROWS, self.dimension, |row| vector_of(&chunks, row));
    }

    /// The `k` nearest of the rows below `visible_rows` that `allow` holds (`None`: all), best first, and how they were
    /// found. A query made for another space finds nothing.
    pub fn search(
        &self,
        query: &PreparedQuery,
        k: usize,
        params: &SearchParams,
        allow: Option<&RoaringBitmap>,
        visible_rows: u32,
    ) -> (Vec<Scored>, Strategy) {
        let visible = visible_rows.min(self.len() as u32);
        let allowed = |below: u32| allow.map_or(u64::from(below), |allow| allow.range_cardinality(0..below));
        let rows = allowed(visible);
        let fits = query.vector().len() == self.dimension && query.distance() == self.distance;
        if !fits || k == 0 || rows == 0 {
            return (Vec::new(), Strategy::Exact { rows: 0, reason: ExactReason::FewRows });
        }
        let floor = params.floor.unwrap_or(f32::NEG_INFINITY);
        let snapshot = Snapshot { live: self, vectors: self.chunks.read().clone(), query, k, allow, floor };
        if params.exact {
            let reason = ExactReason::Requested;
            return (snapshot.scan(0, visible).into_sorted(), Strategy::Exact { rows, reason });
        }
        let all = |reason| {
            if rows < CODE_ROWS {
                (snapshot.scan(0, visible).into_sorted(), Strategy::Exact { rows, reason })
            } else {
                (snapshot.scan_codes(0, visible).into_sorted(), Strategy::Codes { rows })
            }
        };
        let fed = self.fed.load(Ordering::Acquire);
        let Some(graph) = self.graph.get().filter(|_| fed > 0) else { return all(ExactReason::NoGraph) };
        // Rows of the graph that a search may return, among all that it may meet.
        let reached = allowed(fed.min(visible));
        if reached <= LIVE_GRAPH_MIN_ROWS as u64 {
            return all(ExactReason::FewRows);
        }
        let wanted = params.ef.unwrap_or(DEFAULT_EF.max(2 * k.min(MAX_EF))).clamp(1, MAX_EF).max(k);
        let filtered = reached < u64::from(fed);
        let ef = if filtered { widened(wanted, reached, fed) } else { wanted };
        if (filtered && ef > MAX_FILTERED_EF) || ef as u64 * 20 > rows {
            return all(ExactReason::FewRows);
        }
        let Some(found) = graph.search(query.shared(), ef) else { return all(ExactReason::NoGraph) };
        let passes = |row: &u32| *row < fed.min(visible) && allow.is_none_or(|allow| allow.contains(*row));
        let scanned_rows = rows - reached;
        let mut top = if scanned_rows < CODE_ROWS {
            snapshot.scan(fed.min(visible), visible)
        } else {
            snapshot.scan_codes(fed.min(visible), visible)
        };
        let mut hits = 0;
        for row in found.into_iter().filter(passes).take(k) {
            hits += 1;
            snapshot.offer(row, &mut top);
        }
        // Rows without a vector count as reached; a scan settles whether there is more.
        if (hits as u64) < (k as u64).min(reached) {
            return all(ExactReason::WalkGivenUp);
        }
        (top.into_sorted(), Strategy::Live { ef, graph_rows: u64::from(fed), scanned_rows })
    }

    /// Memory in use, roughly.
    pub fn memory_bytes(&self) -> usize {
        let slots = self.chunks.read().len() * CHUNK_ROWS * size_of::<RowSlot>();
        let vectors = self.present.load(Ordering::Relaxed)
            * (self.dimension * (size_of::<f32>() + size_of::<i8>()) + 3 * size_of::<usize>());
        slots + vectors + self.fed.load(Ordering::Relaxed) as usize * graph::NODE_BYTES
    }
}

/// The beam that finds as many allowed rows as `ef` would without a filter, and a fifth more for luck.
fn widened(ef: usize, allowed: u64, rows: u32) -> usize {
    (ef as f64 * 1.2 * f64::from(rows) / allowed as f64) as usize
}

fn slot(chunks: &[Arc<[RowSlot]>], row: u32) -> Option<&RowSlot> {
    chunks.get(row as usize / CHUNK_ROWS)?.get(row as usize % CHUNK_ROWS)
}

fn vector_of(chunks: &[Arc<[RowSlot]>], row: u32) -> Option<&Arc<[f32]>> {
    slot(chunks, row)?.get()?.as_ref()
}

/// What one search looks at.
struct Snapshot<'a> {
    live: &'a LiveVectors,
    vectors: Vec<Arc<[RowSlot]>>,
    query: &'a PreparedQuery,
    k: usize,
    allow: Option<&'a RoaringBitmap>,
    floor: f32,
}

impl Snapshot<'_> {
    /// The best of the allowed rows in `from..to`.
    fn scan(&self, from: u32, to: u32) -> TopK {
        if to <= from {
            return TopK::new(self.k);
        }
        if (to - from) as usize * self.query.vector().len() < PARALLEL_COMPONENTS {
            return self.scan_piece(from, to);
        }
        let pieces: Vec<u32> = (from..to).step_by(CHUNK_ROWS).collect();
        pieces
            .into_par_iter()
            .map(|start| self.scan_piece(start, to.min(start.saturating_add(CHUNK_ROWS as u32))))
            .reduce(|| TopK::new(self.k), TopK::merge)
    }

    /// The best of the allowed rows in `from..to` by code, then by vector.
    fn scan_codes(&self, from: u32, to: u32) -> TopK {
        let mut scan = self.live.codes.scan_for(self.query, self.k, self.floor);
        self.live.codes.blocks().iter().for_each(|block| scan.scan(block, (from, to), self.allow));
        // All at once: fetched one after the other, each would be waited for.
        let vectors: Vec<(u32, &Arc<[f32]>)> = scan
            .into_rows()
            .filter_map(|row| Some((row, vector_of(&self.vectors, row)?)))
            .inspect(|(_, vector)| prefetch(vector))
            .collect();
        let mut top = TopK::new(self.k);
        vectors.into_iter().for_each(|(row, vector)| top.offer(row, self.score(vector)));
        top
    }

    fn scan_piece(&self, from: u32, to: u32) -> TopK {
        let mut top = TopK::new(self.k);
        match self.allow {
            Some(allow) => allow.range(from..to).for_each(|row| self.offer(row, &mut top)),
            None => (from..to).for_each(|row| self.offer(row, &mut top)),
        }
        top
    }

    fn offer(&self, row: u32, top: &mut TopK) {
        if let Some(vector) = vector_of(&self.vectors, row) {
            top.offer(row, self.score(vector));
        }
    }

    fn score(&self, vector: &[f32]) -> f32 {
        distance::score(self.query.distance(), self.query.vector(), vector)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::vector::samples::{clustered, recall};

    const DIMENSION: usize = 24;

    fn rows_of(vectors: &[f32]) -> Vec<Option<&[f32]>> {
        vectors.chunks(DIMENSION).map(Some).collect()
    }

    fn queries(distance: Distance) -> Vec<PreparedQuery> {
        let vectors = clustered(distance, 40, DIMENSION, 99);
        vectors.chunks(DIMENSION).map(|v| PreparedQuery::new(distance, DIMENSION, v).unwrap()).collect()
    }

    #[test]
    fn the_graph_and_the_rows_behind_it_answer_together() {
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclidean] {
            let vectors = clustered(distance, 7_000, DIMENSION, 1);
            let live = LiveVectors::new(distance, DIMENSION);
            live.append(&rows_of(&vectors));
            assert_eq!(live.feed(6_000), 6_000);
            let visible = 6_800;
            let odd: RoaringBitmap = (0..7_000).filter(|row| row % 10 != 0).collect();
            for allow in [None, Some(&odd)] {
                let mut total = 0.0;
                for query in queries(distance) {
                    let (expected, _) = live.search(&query, 10, &SearchParams::EXACT, allow, visible);
                    let (found, strategy) = live.search(&query, 10, &SearchParams::default(), allow, visible);
                    assert!(matches!(strategy, Strategy::Live { graph_rows: 6_000, .. }), "{strategy:?}");
                    assert!(found.iter().all(|hit| hit.row < visible));
                    assert!(found.iter().all(|hit| allow.is_none_or(|allow| allow.contains(hit.row))));
                    total += recall(&found, &expected);
                }
                assert!(total / 40.0 >= 0.95, "{distance:?}: recall {}", total / 40.0);
            }
        }
    }

    #[test]
    fn bits_lose_nothing_and_what_lies_below_the_floor_may_stay_away() {
        let (dimension, rows) = (96, 6_000);
        for distance in [Distance::Cosine, Distance::Dot, Distance::Euclidean] {
            let vectors = clustered(distance, rows, dimension, 1);
            let live = LiveVectors::new(distance, dimension);
            let mut all: Vec<Option<&[f32]>> = vectors.chunks(dimension).map(Some).collect();
            all.iter_mut().step_by(7).for_each(|vector| *vector = None);
            for batch in all.chunks(150) {
                live.append(batch);
                live.quicken_scans();
            }
            assert!(live.codes.blocks_with_bits() > 30);
            let some: RoaringBitmap = (0..rows as u32).filter(|row| row % 3 > 0).collect();
            let queries = clustered(distance, 40, dimension, 99);
            for allow in [None, Some(&some)] {
                let mut total = 0.0;
                for query in queries.chunks(dimension) {
                    let query = PreparedQuery::new(distance, dimension, query).unwrap();
                    let search = |params: &SearchParams| live.search(&query, 10, params, allow, rows as u32);
                    let search_above =
                        |floor| search(&SearchParams { floor: Some(floor), ..SearchParams::default() }).0;
                    let (expected, _) = search(&SearchParams::EXACT);
                    let (found, strategy) = search(&SearchParams::default());
                    assert!(matches!(strategy, Strategy::Codes { .. }), "{strategy:?}");
                    total += recall(&found, &expected);
                    let floor = expected[4].score;
                    let found = search_above(floor);
                    let above = expected.iter().take_while(|hit| hit.score >= floor).count();
                    total += recall(&found[..found.len().min(above)], &expected[..above]);
                    let out_of_reach = expected[0]
                        .score
                        .mul_add(0.5, if distance == Distance::Euclidean { 0.0 } else { 10.0 });
                    assert!(search_above(out_of_reach).is_empty(), "{distance:?}");
                }
                assert!(total / 80.0 >= 0.98, "{distance:?}: recall {}", total / 80.0);
            }
        }
    }

    #[test]
    fn only_visible_and_allowed_rows_come_back() {
        let vectors = clustered(Distance::Cosine, 300, DIMENSION, 2);
        let live = LiveVectors::new(Distance::Cosine, DIMENSION);
        let mut rows = rows_of(&vectors);
        rows[7] = None;
        live.append(&rows);
        assert_eq!(live.feed(1_000), 0, "below the size that needs a graph");
        let query = PreparedQuery::new(Distance::Cosine, DIMENSION, &vectors[..DIMENSION]).unwrap();
        let search = |allow: Option<&RoaringBitmap>, visible| {
            let (found, _) = live.search(&query, 500, &SearchParams::default(), allow, visible);
            let mut rows: Vec<u32> = found.iter().map(|hit| hit.row).collect();
            rows.sort_unstable();
            rows
        };
        assert_eq!(search(None, 10), [0, 1, 2, 3, 4, 5, 6, 8, 9]);
        assert_eq!(search(None, u32::MAX).len(), 299);
        let some = RoaringBitmap::from_iter([3, 7, 9, 250, 70_000]);
        assert_eq!(search(Some(&some), 200), [3, 9]);
        assert_eq!(search(Some(&RoaringBitmap::new()), 200), Vec::<u32>::new());
        assert_eq!(search(None, 0), Vec::<u32>::new());
        assert_eq!(live.vector(7), None);
        assert_eq!(live.vector(8).as_deref(), rows[8]);
        assert_eq!(live.vector(300), None);
        let other = PreparedQuery::new(Distance::Cosine, 2, &[1.0, 0.0]).unwrap();
        assert!(live.search(&other, 5, &SearchParams::default(), None, 10).0.is_empty());
    }

    #[test]
    fn unchecked_vectors_are_taken_for_none() {
        let live = LiveVectors::new(Distance::Euclidean, 2);
        live.append(&[Some(&[1.0]), Some(&[f32::NAN, 0.0]), Some(&[0.0, 1.0])]);
        let query = PreparedQuery::new(Distance::Euclidean, 2, &[0.0, 0.0]).unwrap();
        let (found, _) = live.search(&query, 5, &SearchParams::default(), None, 3);
        assert_eq!(found, [Scored { row: 2, score: -1.0 }]);
        assert_eq!(live.len(), 3);
    }

    #[test]
    fn searches_see_every_appended_row_while_others_append_and_feed() {
        let vectors = clustered(Distance::Euclidean, 6_400, DIMENSION, 3);
        let live = LiveVectors::new(Distance::Euclidean, DIMENSION);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for batch in rows_of(&vectors).chunks(160) {
                    live.append(batch);
                }
                done.store(true, Ordering::Release);
            });
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) || live.feed(100) > 0 {
                    live.feed(50);
                }
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Acquire) {
                        let visible = live.len() as u32;
                        if visible == 0 {
                            continue;
                        }
                        // The newest visible row is its own nearest.
                        let vector = live.vector(visible - 1).expect("appended");
                        let query = PreparedQuery::new(Distance::Euclidean, DIMENSION, &vector).unwrap();
                        let (found, strategy) =
                            live.search(&query, 3, &SearchParams::default(), None, visible);
                        let expected = Scored { row: visible - 1, score: 0.0 };
                        assert_eq!(found.first(), Some(&expected), "{}", strategy.describe());
                    }
                });
            }
        });
        assert_eq!(live.fed.load(Ordering::Relaxed), 6_400);
        assert!(live.memory_bytes() > 6_400 * DIMENSION * 4);
    }
}
