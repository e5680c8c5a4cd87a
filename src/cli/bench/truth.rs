//! What a search should have found: exact nearest rows, and the judgement of what was found instead.
//!
//! A hit is right when its exact score reaches that of the k-th nearest row, so equal vectors stand for each other. All
//! scores are computed here, from the file; what an engine says of its hits is not believed. The base passes by in
//! slices and is never in memory.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZero;

use anyhow::{Result, anyhow, ensure};
use numkong::{Dot as _, Euclidean as _};
use ragstone_index::schema::Distance;
use ragstone_index::vector::prepare_vector;
use tokio_util::sync::CancellationToken;

use super::filters::RowSet;
use super::vector_file::VectorFile;
use crate::cli::progress::Progress;

/// Rows that are compared with all queries before the next ones are: few enough to stay in the cache.
const TILE_ROWS: usize = 64;
/// Two scores that are nearer than this are equal: a truth that was computed elsewhere was rounded differently.
const TOLERANCE: f64 = 1e-6;

/// How near two vectors are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Cosine,
    Dot,
    Euclidean,
}

impl Metric {
    pub(super) fn distance(self) -> Distance {
        match self {
            Self::Cosine => Distance::Cosine,
            Self::Dot => Distance::Dot,
            Self::Euclidean => Distance::Euclidean,
        }
    }

    /// Larger is nearer.
    #[inline]
    pub(super) fn score(self, a: &[f32], b: &[f32]) -> f64 {
        match self {
            Self::Cosine | Self::Dot => f32::dot(a, b).unwrap_or(f64::MIN),
            Self::Euclidean => f32::sqeuclidean(a, b).map_or(f64::MIN, |square: f64| -square.sqrt()),
        }
    }

    /// Makes rows comparable: under cosine, of unit length.
    pub(super) fn prepare(self, rows: &mut [f32], width: usize, first: usize) -> Result<()> {
        for (at, row) in rows.chunks_exact_mut(width).enumerate() {
            prepare_vector(self.distance(), row)
                .map_err(|message| anyhow!("row {}: {message}", first + at))?;
        }
        Ok(())
    }
}

/// The vectors that are asked for.
#[derive(Debug)]
pub(super) struct Queries {
    vectors: Vec<f32>,
    width: usize,
}

impl Queries {
    pub(super) fn new(mut vectors: Vec<f32>, width: usize, metric: Metric) -> Result<Self> {
        metric.prepare(&mut vectors, width, 0)?;
        Ok(Self { vectors, width })
    }

    pub(super) fn len(&self) -> usize {
        self.vectors.len() / self.width.max(1)
    }

    pub(super) fn get(&self, query: usize) -> &[f32] {
        self.vectors.get(query * self.width..(query + 1) * self.width).unwrap_or_default()
    }
}

/// The nearest rows of each query among those that pass a filter.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// Best first; fewer than asked for where fewer rows pass.
    rows: Vec<Vec<u32>>,
    /// Score of the last of them.
    least: Vec<f64>,
}

/// A row and its score; the largest is the one to give up first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    score: f64,
    row: u32,
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A base, the queries to it, and how many rows each wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) base: &'a VectorFile,
    pub(super) queries: &'a Queries,
    pub(super) metric: Metric,
    pub(super) k: usize,
    pub(super) stop: &'a CancellationToken,
}

impl Judge<'_> {
    /// The truth of each filter, by comparing everything with everything. `None`: all rows pass.
    pub(super) fn nearest(&self, filters: &[Option<&RowSet>]) -> Result<Vec<Truth>> {
        let queries = self.queries.len();
        // By query, then by filter.
        let mut found: Vec<Vec<BinaryHeap<Candidate>>> =
            vec![vec![BinaryHeap::new(); filters.len()]; queries];
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let share = queries.div_ceil(threads).max(1);
        self.each_slice("exact search", |first, slice| {
            std::thread::scope(|scope| {
                for (at, found) in found.chunks_mut(share).enumerate() {
                    scope.spawn(move || self.compare(at * share, first, slice, filters, found));
                }
            });
        })?;
        let mut truths: Vec<Truth> = filters.iter().map(|_| Truth::default()).collect();
        for heaps in found {
            for (truth, heap) in truths.iter_mut().zip(heaps) {
                let sorted = heap.into_sorted_vec();
                truth.least.push(sorted.last().map_or(f64::MAX, |last| last.score));
                truth.rows.push(sorted.iter().map(|candidate| candidate.row).collect());
            }
        }
        Ok(truths)
    }

    /// Compares a slice of the base with some of the queries.
    fn compare(
        &self,
        first_query: usize,
        first_row: usize,
        slice: &[f32],
        filters: &[Option<&RowSet>],
        found: &mut [Vec<BinaryHeap<Candidate>>],
    ) {
        let width = self.base.width();
        for (tile, rows) in slice.chunks(TILE_ROWS * width).enumerate() {
            for (at, heaps) in found.iter_mut().enumerate() {
                let query = self.queries.get(first_query + at);
                for (in_tile, vector) in rows.chunks_exact(width).enumerate() {
                    let score = self.metric.score(query, vector);
                    let row = first_row + tile * TILE_ROWS + in_tile;
                    for (heap, filter) in heaps.iter_mut().zip(filters) {
                        let better =
                            heap.len() < self.k || heap.peek().is_some_and(|worst| score > worst.score);
                        if better && filter.is_none_or(|passing| passing.contains(row)) {
                            heap.push(Candidate { score, row: row as u32 });
                            if heap.len() > self.k {
                                heap.pop();
                            }
                        }
                    }
                }
            }
        }
    }

    /// A truth that was computed elsewhere: its first k columns, one row a query.
    pub(super) fn given(&self, file: &VectorFile) -> Result<Truth> {
        let path = file.path().display();
        let (queries, rows) = (self.queries.len(), self.base.rows());
        ensure!(file.rows() == queries, "{path}: has {} rows for {queries} queries", file.rows());
        ensure!(
            file.width() >= self.k,
            "{path}: has {} neighbours of each query; {} are needed",
            file.width(),
            self.k
        );
        let mut nearest = Vec::with_capacity(queries);
        for (query, ids) in file.read_all::<i64>()?.chunks_exact(file.width()).enumerate() {
            let ids = ids.iter().take(self.k).map(|&id| match u32::try_from(id) {
                Ok(row) if (row as usize) < rows => Ok(row),
                _ => Err(anyhow!("{path}: row {query} names {id}; the base has {rows} rows")),
            });
            nearest.push(ids.collect::<Result<Vec<u32>>>()?);
        }
        let pairs = nearest
            .iter()
            .enumerate()
            .flat_map(|(query, rows)| rows.iter().map(move |&row| (row, query as u32)));
        let scores = self.scores(pairs.collect())?;
        let score = |query: usize, row: u32| scores.get(&(row, query as u32)).copied().unwrap_or(f64::MAX);
        let least = nearest
            .iter()
            .enumerate()
            .map(|(query, rows)| rows.iter().map(|&row| score(query, row)).fold(f64::MAX, f64::min))
            .collect();
        Ok(Truth { rows: nearest, least })
    }

    /// Recall of each of `found`: the index of its truth and filter, and the rows found for each query.
    pub(super) fn recalls(
        &self,
        truths: &[Truth],
        filters: &[Option<&RowSet>],
        found: &[(usize, &[Vec<u32>])],
    ) -> Result<Vec<f64>> {
        let mut unsettled = Vec::new();
        for (at, hits) in found {
            let Some(truth) = truths.get(*at) else { continue };
            for (query, (rows, nearest)) in hits.iter().zip(&truth.rows).enumerate() {
                let others = rows.iter().filter(|row| !nearest.contains(row));
                unsettled.extend(others.map(|&row| (row, query as u32)));
            }
        }
        let scores = self.scores(unsettled)?;
        let recall = |(at, hits): &(usize, &[Vec<u32>])| {
            let (Some(truth), Some(filter)) = (truths.get(*at), filters.get(*at)) else { return 0.0 };
            let right = |query: usize, row: u32, nearest: &[u32], least: f64| {
                let reaches = || {
                    let score = scores.get(&(row, query as u32)).copied().unwrap_or(f64::MIN);
                    score >= least - TOLERANCE * least.abs().max(1.0)
                };
                filter.is_none_or(|passing| passing.contains(row as usize))
                    && (nearest.contains(&row) || reaches())
            };
            let mut sum = 0.0;
            for (query, (nearest, &least)) in truth.rows.iter().zip(&truth.least).enumerate() {
                let mut rows: Vec<u32> = hits.get(query).cloned().unwrap_or_default();
                rows.sort_unstable();
                rows.dedup();
                let count = rows.into_iter().filter(|&row| right(query, row, nearest, least)).count();
                sum += if nearest.is_empty() {
                    1.0
                } else {
                    count.min(nearest.len()) as f64 / nearest.len() as f64
                };
            }
            sum / truth.rows.len().max(1) as f64
        };
        Ok(found.iter().map(recall).collect())
    }

    /// Exact scores of pairs of row and query.
    fn scores(&self, mut pairs: Vec<(u32, u32)>) -> Result<HashMap<(u32, u32), f64>> {
        pairs.sort_unstable();
        pairs.dedup();
        let width = self.base.width();
        let mut scores = HashMap::with_capacity(pairs.len());
        let mut waiting = pairs.into_iter().peekable();
        if waiting.peek().is_none() {
            return Ok(scores);
        }
        self.each_slice("judging", |first, slice| {
            let behind = first + slice.len() / width;
            while let Some((row, query)) = waiting.next_if(|(row, _)| (*row as usize) < behind) {
                let at = (row as usize).saturating_sub(first) * width;
                let vector = slice.get(at..at + width).unwrap_or_default();
                scores.insert((row, query), self.metric.score(self.queries.get(query as usize), vector));
            }
        })?;
        Ok(scores)
    }

    fn each_slice(&self, stage: &str, mut visit: impl FnMut(usize, &[f32])) -> Result<()> {
        let mut progress = Progress::new(stage, "rows", Some(self.base.rows() as u64));
        self.base.each_slice::<f32>(|first, slice| {
            ensure!(!self.stop.is_cancelled(), "interrupted");
            self.metric.prepare(slice, self.base.width(), first)?;
            visit(first, slice);
            progress.set_done((first + slice.len() / self.base.width()) as u64);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::cli::bench::npy;

    fn vectors(name: &str, values: &[[f32; 2]]) -> (tempfile::TempDir, VectorFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mut content = Vec::new();
        npy::write_header(&mut content, values.len(), 2).unwrap();
        values.iter().flatten().for_each(|value| content.extend(value.to_le_bytes()));
        std::fs::write(&path, content).unwrap();
        let file = VectorFile::open::<f32>(&path, None).unwrap();
        (folder, file)
    }

    /// Rows 1 and 3 are equal in direction.
    const BASE: [[f32; 2]; 5] = [[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.0]];

    #[test]
    fn equal_vectors_stand_for_each_other_and_nothing_else_does() {
        let (_folder, base) = vectors("base.npy", &BASE);
        let queries = Queries::new(vec![5.0, 4.0], 2, Metric::Cosine).unwrap();
        let stop = CancellationToken::new();
        let judge = Judge { base: &base, queries: &queries, metric: Metric::Cosine, k: 1, stop: &stop };
        let mut passing = RowSet::empty(5);
        [0, 2, 4].into_iter().for_each(|row| passing.insert(row));
        let filters = [None, Some(&passing)];
        let truths = judge.nearest(&filters).unwrap();
        assert_eq!((truths[0].rows[0].as_slice(), truths[1].rows[0].as_slice()), (&[1][..], &[0][..]));
        let hits: Vec<Vec<Vec<u32>>> = [1, 3, 0, 1, 2].map(|row| vec![vec![row]]).into();
        let found: Vec<(usize, &[Vec<u32>])> =
            [0, 0, 0, 1, 1].into_iter().zip(&hits).map(|(at, hits)| (at, hits.as_slice())).collect();
        // The fourth is nearer than the truth, but doesn't pass.
        assert_eq!(judge.recalls(&truths, &filters, &found).unwrap(), [1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_row_counts_once_and_few_rows_are_enough_where_few_pass() {
        let (_folder, base) = vectors("base.npy", &BASE);
        let queries = Queries::new(vec![0.0, 1.9], 2, Metric::Euclidean).unwrap();
        let stop = CancellationToken::new();
        let judge = Judge { base: &base, queries: &queries, metric: Metric::Euclidean, k: 3, stop: &stop };
        let mut passing = RowSet::empty(5);
        passing.insert(4);
        let filters = [None, Some(&passing)];
        let truths = judge.nearest(&filters).unwrap();
        assert_eq!(truths[0].rows[0], [2, 1, 0]);
        let (twice, one) = (vec![vec![2, 2, 2]], vec![vec![4]]);
        let found = [(0, twice.as_slice()), (1, one.as_slice()), (1, &[])];
        assert_eq!(judge.recalls(&truths, &filters, &found).unwrap(), [1.0 / 3.0, 1.0, 0.0]);
    }

    #[test]
    fn a_given_truth_is_checked() {
        let (folder, base) = vectors("base.npy", &BASE);
        let queries = Queries::new(vec![0.0, 1.0], 2, Metric::Dot).unwrap();
        let stop = CancellationToken::new();
        let judge = Judge { base: &base, queries: &queries, metric: Metric::Dot, k: 2, stop: &stop };
        let given = |ids: &[i32]| {
            let path = folder.path().join("gt.ivecs");
            let length = i32::try_from(ids.len()).unwrap();
            let content: Vec<u8> =
                std::iter::once(&length).chain(ids).flat_map(|id| id.to_le_bytes()).collect();
            std::fs::write(&path, content).unwrap();
            judge.given(&VectorFile::open::<i64>(&path, None).unwrap())
        };
        let truth = given(&[3, 2, 0]).unwrap();
        assert_eq!((truth.rows[0].as_slice(), truth.least[0]), (&[3, 2][..], 2.0));
        for (ids, part) in [(&[3, 5][..], "names 5"), (&[3, -1], "names -1"), (&[3], "2 are needed")] {
            let error = given(ids).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("gt.ivecs"), "{error}");
        }
    }
}
