//! The module as its users see it: recall, filters, determinism and damaged bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod floor;
mod growing;
mod int4;
mod slack;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use roaring::RoaringBitmap;

use crate::error::Error;
use crate::schema::{Distance, Quantization};
use crate::vector::samples::{clustered, recall};
use crate::vector::{
    ExactReason, PreparedQuery, Scored, SearchParams, SegmentVectors, Strategy, VectorColumn, VectorsParams,
    build_index,
};

const DIMENSION: usize = 32;
const DISTANCES: [Distance; 3] = [Distance::Cosine, Distance::Dot, Distance::Euclidean];

fn params(threads: usize) -> VectorsParams {
    VectorsParams { threads, ..VectorsParams::default() }
}

fn index_of(
    distance: Distance,
    dimension: usize,
    vectors: &[f32],
    present: Option<&RoaringBitmap>,
    threads: usize,
) -> Option<Vec<u8>> {
    bytes_of(distance, VectorColumn { dimension, data: vectors, present }, &params(threads))
}

fn bytes_of(distance: Distance, column: VectorColumn<'_>, params: &VectorsParams) -> Option<Vec<u8>> {
    let index = build_index(&column, distance, params, &AtomicBool::new(false)).unwrap();
    index.map(|index| {
        let mut bytes = Vec::new();
        index.write_to(&mut bytes).unwrap();
        bytes
    })
}

fn open(
    distance: Distance,
    vectors: &[f32],
    present: Option<RoaringBitmap>,
    index: Option<Vec<u8>>,
) -> crate::Result<SegmentVectors> {
    let rows = vectors.len() / DIMENSION;
    let bytes = Bytes::copy_from_slice(bytemuck::cast_slice(vectors));
    let index = index.map(Bytes::from);
    SegmentVectors::open(Path::new("vectors"), distance, DIMENSION, rows, bytes, present, index)
}

fn segment(distance: Distance, rows: usize) -> SegmentVectors {
    let vectors = clustered(distance, rows, DIMENSION, 1);
    let index = index_of(distance, DIMENSION, &vectors, None, 2);
    open(distance, &vectors, None, index).unwrap()
}

fn queries(distance: Distance, count: usize) -> Vec<PreparedQuery> {
    let vectors = clustered(distance, count, DIMENSION, 99);
    vectors.chunks(DIMENSION).map(|v| PreparedQuery::new(distance, DIMENSION, v).unwrap()).collect()
}

/// Mean recall@10 against the exact scan; checks that what comes back is allowed and in order.
fn mean_recall(
    segment: &SegmentVectors,
    queries: &[PreparedQuery],
    allow: Option<&RoaringBitmap>,
) -> (f64, Vec<Strategy>) {
    let mut strategies = Vec::new();
    let mut total = 0.0;
    for query in queries {
        let (expected, _) = segment.search(query, 10, &SearchParams::EXACT, allow);
        let (found, strategy) = segment.search(query, 10, &SearchParams::default(), allow);
        assert_eq!(found.len(), expected.len(), "{}", strategy.describe());
        assert!(found.iter().all(|hit| allow.is_none_or(|allow| allow.contains(hit.row))));
        assert!(found.is_sorted_by(|a, b| a.score >= b.score));
        total += recall(&found, &expected);
        strategies.push(strategy);
    }
    (total / queries.len() as f64, strategies)
}

#[test]
fn the_graph_finds_the_nearest_under_every_distance() {
    for distance in DISTANCES {
        let segment = segment(distance, 8_000);
        assert!(segment.has_graph());
        let (recall, strategies) = mean_recall(&segment, &queries(distance, 100), None);
        assert!(strategies.iter().all(|strategy| matches!(strategy, Strategy::Graph { .. })));
        assert!(recall >= 0.98, "{distance:?}: recall {recall}");
    }
}

#[test]
fn filters_hold_recall_at_every_selectivity() {
    let mut ways = std::collections::BTreeSet::new();
    for distance in DISTANCES {
        let segment = segment(distance, 12_000);
        let queries = queries(distance, 50);
        let mut rng = StdRng::seed_from_u64(5);
        for share in [0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99] {
            let allow: RoaringBitmap = (0..12_000).filter(|_| rng.random_bool(share)).collect();
            let (recall, strategies) = mean_recall(&segment, &queries, Some(&allow));
            assert!(recall >= 0.95, "{distance:?} at {share}: recall {recall}, {:?}", strategies.first());
            ways.extend(strategies.iter().map(|strategy| strategy.describe()[..15].to_owned()));
        }
    }
    assert!(ways.len() >= 3, "the planner went {ways:?} only");
}

#[test]
fn filters_that_follow_the_vectors_hold_recall() {
    let rows = 12_000;
    for distance in DISTANCES {
        let segment = segment(distance, rows);
        let queries = queries(distance, 40);
        // The nearest, the farthest, and a ring in between: what is near is allowed, or is not.
        for cut in [0..2_400, 9_600..rows, 4_000..7_000, 1_000..rows, 0..6_000, 6_000..rows, 100..1_500] {
            let mut total = 0.0;
            for query in &queries {
                let (ranked, _) = segment.search(query, rows, &SearchParams::EXACT, None);
                let allow: RoaringBitmap = ranked[cut.clone()].iter().map(|hit| hit.row).collect();
                total += mean_recall(&segment, std::slice::from_ref(query), Some(&allow)).0;
            }
            let recall = total / queries.len() as f64;
            assert!(recall >= 0.95, "{distance:?} {cut:?}: recall {recall}");
        }
    }
}

#[test]
fn filters_on_other_clusters_than_the_querys_hold_recall() {
    for distance in DISTANCES {
        let segment = segment(distance, 12_000);
        let queries = queries(distance, 100);
        // Rows near one vector pass, as those of one language or product would; the queries are anywhere.
        for (pivot, passing) in queries.iter().take(5).zip([600, 1_200, 2_400, 4_800, 8_000]) {
            let (ranked, _) = segment.search(pivot, passing, &SearchParams::EXACT, None);
            let allow: RoaringBitmap = ranked.iter().map(|hit| hit.row).collect();
            let (recall, _) = mean_recall(&segment, &queries, Some(&allow));
            assert!(recall >= 0.95, "{distance:?} {passing}: recall {recall}");
        }
    }
}

#[test]
fn rows_without_a_vector_are_never_found() {
    for distance in DISTANCES {
        let mut vectors = clustered(distance, 5_000, DIMENSION, 1);
        let present: RoaringBitmap = (0..5_000).filter(|row| row % 3 != 0).collect();
        for row in (0..5_000).step_by(3) {
            vectors[row * DIMENSION..(row + 1) * DIMENSION].fill(0.0);
        }
        let index = index_of(distance, DIMENSION, &vectors, Some(&present), 2);
        let segment = open(distance, &vectors, Some(present.clone()), index).unwrap();
        assert_eq!(segment.len(), 3_333);
        assert_eq!(segment.vector(3), None);
        assert_eq!(segment.vector(4), Some(&vectors[4 * DIMENSION..5 * DIMENSION]));
        assert_eq!(segment.vector(5_000), None);
        let half: RoaringBitmap = (0..2_500).collect();
        for allow in [None, Some(&half)] {
            let (recall, _) = mean_recall(&segment, &queries(distance, 50), allow);
            assert!(recall >= 0.95, "{distance:?}: recall {recall}");
        }
        let (all, _) = segment.search(&queries(distance, 1)[0], 5_000, &SearchParams::EXACT, None);
        assert_eq!(all.iter().map(|hit| hit.row).collect::<RoaringBitmap>(), present);
    }
}

#[test]
fn a_column_that_codes_would_spoil_is_still_searched_well() {
    let mut vectors = clustered(Distance::Euclidean, 3_000, DIMENSION, 1);
    vectors[5] = 1e7;
    let index = index_of(Distance::Euclidean, DIMENSION, &vectors, None, 2);
    let segment = open(Distance::Euclidean, &vectors, None, index).unwrap();
    let (recall, _) = mean_recall(&segment, &queries(Distance::Euclidean, 50), None);
    assert!(recall >= 0.95, "recall {recall}");
    // A query far outside the range of the codes of a sound column.
    let sound = self::segment(Distance::Euclidean, 3_000);
    let far = PreparedQuery::new(Distance::Euclidean, DIMENSION, &[50.0; DIMENSION]).unwrap();
    let (recall, _) = mean_recall(&sound, &[far], None);
    assert!(recall >= 0.9, "recall {recall}");
}

#[test]
fn every_row_is_its_own_nearest() {
    let vectors = clustered(Distance::Euclidean, 3_000, DIMENSION, 1);
    let segment = segment(Distance::Euclidean, 3_000);
    let lost = (0..3_000_u32)
        .filter(|row| {
            let start = *row as usize * DIMENSION;
            let query = &vectors[start..start + DIMENSION];
            let query = PreparedQuery::new(Distance::Euclidean, DIMENSION, query).unwrap();
            let (found, _) = segment.search(&query, 1, &SearchParams::default(), None);
            found.first() != Some(&Scored { row: *row, score: 0.0 })
        })
        .count();
    assert!(lost <= 3, "{lost} of 3,000 rows are not found by their own vector");
}

#[test]
fn many_equal_vectors_hide_nothing() {
    let mut vectors = clustered(Distance::Cosine, 4_000, DIMENSION, 1);
    let repeated = vectors[..DIMENSION].repeat(2_000);
    vectors[2_000 * DIMENSION..].copy_from_slice(&repeated);
    let index = index_of(Distance::Cosine, DIMENSION, &vectors, None, 2);
    let segment = open(Distance::Cosine, &vectors, None, index).unwrap();
    let mut queries = queries(Distance::Cosine, 60);
    queries.push(PreparedQuery::new(Distance::Cosine, DIMENSION, &vectors[..DIMENSION]).unwrap());
    let (recall, _) = mean_recall(&segment, &queries, None);
    assert!(recall >= 0.95, "recall {recall}");
    let unequal: RoaringBitmap = (1..2_000).collect();
    let (recall, _) = mean_recall(&segment, &queries, Some(&unequal));
    assert!(recall >= 0.95, "recall {recall} among those that differ");
}

#[test]
fn one_thread_makes_the_same_bytes() {
    let vectors = clustered(Distance::Cosine, 2_000, DIMENSION, 1);
    let build = || index_of(Distance::Cosine, DIMENSION, &vectors, None, 1).unwrap();
    assert!(build() == build());
}

#[test]
fn reports_tell_what_is_there() {
    let vectors = clustered(Distance::Cosine, 2_000, DIMENSION, 1);
    let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: None };
    let index = bytes_of(Distance::Cosine, column, &VectorsParams { m: 9, ..params(2) });
    let report = open(Distance::Cosine, &vectors, None, index).unwrap().report();
    assert_eq!((report.vectors, report.vector_bytes), (2_000, 2_000 * DIMENSION as u64 * 4));
    let graph = report.graph.unwrap();
    assert_eq!((graph.m, graph.quantization), (9, Quantization::Int8));
    assert!(graph.code_bytes >= 2_000 * DIMENSION as u64);
    assert_eq!(graph.ef_construct, Some(VectorsParams::default().ef_construction as u32));
    assert!(graph.code_recall.is_some_and(|recall| (0.98..=1.0).contains(&recall)));
    let beams = &graph.calibration;
    assert!(beams.first().is_some_and(|first| first.ef == 16 && first.recall > 0.5));
    assert!(beams.is_sorted_by(|a, b| a.ef < b.ef) && beams.last().unwrap().recall > 0.95, "{beams:?}");
    assert!(graph.graph_bytes >= 2_000 * 2 * 9 * 4);
    let small = open(Distance::Cosine, &vectors[..999 * DIMENSION], None, None).unwrap();
    assert_eq!(small.report().graph, None);
}

#[test]
fn small_columns_get_no_graph_and_are_scanned() {
    let vectors = clustered(Distance::Dot, 999, DIMENSION, 1);
    assert!(index_of(Distance::Dot, DIMENSION, &vectors, None, 1).is_none());
    let segment = open(Distance::Dot, &vectors, None, None).unwrap();
    assert!(!segment.has_graph());
    let (found, strategy) = segment.search(&queries(Distance::Dot, 1)[0], 10, &SearchParams::default(), None);
    assert_eq!(found.len(), 10);
    assert_eq!(strategy, Strategy::Exact { rows: 999, reason: ExactReason::NoGraph });
    let empty = open(Distance::Dot, &[], None, None).unwrap();
    assert!(empty.is_empty());
    assert!(empty.search(&queries(Distance::Dot, 1)[0], 10, &SearchParams::default(), None).0.is_empty());
}

#[test]
fn results_are_bounded_by_what_there_is() {
    let segment = segment(Distance::Cosine, 2_000);
    let query = &queries(Distance::Cosine, 1)[0];
    let search =
        |k, allow: Option<&RoaringBitmap>| segment.search(query, k, &SearchParams::default(), allow).0.len();
    assert_eq!(search(0, None), 0);
    assert_eq!(search(1_000_000, None), 2_000);
    assert_eq!(search(1_500, None), 1_500);
    let outside = RoaringBitmap::from_iter([1, 2_000, 4_000_000_000]);
    assert_eq!(search(10, Some(&outside)), 1);
    assert_eq!(search(10, Some(&RoaringBitmap::new())), 0);
    let other = PreparedQuery::new(Distance::Cosine, 2, &[1.0, 0.0]).unwrap();
    assert!(segment.search(&other, 10, &SearchParams::default(), None).0.is_empty());
}

#[test]
fn damaged_indexes_are_errors_or_answer_without_panic() {
    let vectors = clustered(Distance::Cosine, 1_500, DIMENSION, 1);
    let present: RoaringBitmap = (0..1_400).collect();
    let query = &queries(Distance::Cosine, 1)[0];
    let index = index_of(Distance::Cosine, DIMENSION, &vectors, Some(&present), 2).unwrap();
    let try_open = |bytes: Vec<u8>| {
        let opened = open(Distance::Cosine, &vectors, Some(present.clone()), Some(bytes));
        match opened {
            Ok(segment) => {
                let (found, _) = segment.search(query, 10, &SearchParams::default(), None);
                assert!(found.iter().all(|hit| present.contains(hit.row)));
                true
            }
            Err(Error::Corruption { path, .. }) => {
                assert_eq!(path, Path::new("vectors"));
                false
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert!(try_open(index.clone()));
    for length in (0..128).chain((128..index.len()).step_by(997)) {
        assert!(!try_open(index[..length].to_vec()), "cut at {length}");
    }
    for at in 0..128 {
        let mut bytes = index.clone();
        bytes[at] ^= 1;
        assert!(!try_open(bytes), "header byte {at}");
    }
    let mut rng = StdRng::seed_from_u64(9);
    for _ in 0..400 {
        let mut bytes = index.clone();
        let at = rng.random_range(128..bytes.len());
        bytes[at] ^= rng.random_range(1..=255_u8);
        try_open(bytes);
    }
    let mut longer = index.clone();
    longer.push(0);
    assert!(!try_open(longer));
}

/// Gives a header that was changed the checksum that fits.
fn make_checksum_right(index: &mut [u8]) {
    let checksum = crc32fast::hash(&index[..124]);
    index[124..128].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn forged_headers_do_not_pass_either() {
    let vectors = clustered(Distance::Cosine, 1_500, DIMENSION, 1);
    let index = index_of(Distance::Cosine, DIMENSION, &vectors, None, 2).unwrap();
    // Any number of the header replaced, with the checksum made right.
    for word in 2..12 {
        for value in [0, 1, 3, 7, 129, 1_499, 1_500, u32::MAX / 2, u32::MAX] {
            let mut bytes = index.clone();
            let at = word * 4;
            if bytes[at..at + 4] == u32::to_le_bytes(value) {
                continue;
            }
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            make_checksum_right(&mut bytes);
            if let Ok(segment) = open(Distance::Cosine, &vectors, None, Some(bytes)) {
                segment.search(&queries(Distance::Cosine, 1)[0], 10, &SearchParams::default(), None);
                // Only the code's scale may be any number; under cosine nothing depends on it.
                assert!(word >= 10, "word {word} = {value} was taken");
            }
        }
    }
}

#[test]
fn columns_that_do_not_fit_are_refused() {
    let vectors = clustered(Distance::Cosine, 1_500, DIMENSION, 1);
    let index = index_of(Distance::Cosine, DIMENSION, &vectors, None, 2);
    let corrupt = |opened: crate::Result<SegmentVectors>| matches!(opened, Err(Error::Corruption { .. }));
    assert!(corrupt(open(Distance::Dot, &vectors, None, index.clone())), "another distance");
    assert!(corrupt(open(Distance::Cosine, &vectors[DIMENSION..], None, index.clone())), "a row less");
    let present = RoaringBitmap::from_iter(0..1_499);
    assert!(corrupt(open(Distance::Cosine, &vectors, Some(present), index)), "a vector less");
    let behind = RoaringBitmap::from_iter([1_500]);
    assert!(corrupt(open(Distance::Cosine, &vectors, Some(behind.clone()), None)));
    let short = Bytes::from_static(&[0; 12]);
    let opened = SegmentVectors::open(Path::new("v"), Distance::Dot, DIMENSION, 1, short.clone(), None, None);
    assert!(corrupt(opened));
    assert!(corrupt(SegmentVectors::open(Path::new("v"), Distance::Dot, usize::MAX, 3, short, None, None)));
    let build = |data: &[f32], dimension, present| {
        let column = VectorColumn { dimension, data, present };
        build_index(&column, Distance::Dot, &params(1), &AtomicBool::new(false))
    };
    assert!(build(&vectors, 0, None).is_err());
    assert!(build(&vectors[1..], DIMENSION, None).is_err());
    assert!(build(&vectors, DIMENSION, Some(&behind)).is_err());
}

#[test]
fn bytes_that_lie_anywhere_in_memory_are_read() {
    let vectors = clustered(Distance::Euclidean, 1_200, DIMENSION, 1);
    let index = index_of(Distance::Euclidean, DIMENSION, &vectors, None, 2).unwrap();
    let shifted = |bytes: &[u8]| {
        let mut moved = vec![0; 1];
        moved.extend_from_slice(bytes);
        Bytes::from(moved).slice(1..)
    };
    let segment = SegmentVectors::open(
        Path::new("vectors"),
        Distance::Euclidean,
        DIMENSION,
        1_200,
        shifted(bytemuck::cast_slice(&vectors)),
        None,
        Some(shifted(&index)),
    )
    .unwrap();
    assert_eq!(segment.vector(1), Some(&vectors[DIMENSION..2 * DIMENSION]));
    let (recall, _) = mean_recall(&segment, &queries(Distance::Euclidean, 20), None);
    assert!(recall >= 0.95);
}

#[test]
fn a_cancelled_build_stops() {
    let vectors = clustered(Distance::Cosine, 1_500, DIMENSION, 1);
    let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: None };
    let error = build_index(&column, Distance::Cosine, &params(2), &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(error, Error::FailedPrecondition(message) if message == "cancelled"));
}
