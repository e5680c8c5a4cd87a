//! Segments that are walked on four-bit codes.

use super::*;

pub(super) const DIMENSION: usize = 128;

pub(super) fn build(
    distance: Distance,
    vectors: &[f32],
    quantization: Quantization,
) -> (SegmentVectors, Vec<u8>) {
    let column = VectorColumn { dimension: DIMENSION, data: vectors, present: None };
    let index = bytes_of(distance, column, &VectorsParams { quantization, ..params(2) }).unwrap();
    (open(distance, vectors, Some(index.clone())).unwrap(), index)
}

fn open(distance: Distance, vectors: &[f32], index: Option<Vec<u8>>) -> crate::Result<SegmentVectors> {
    let (rows, index) = (vectors.len() / DIMENSION, index.map(Bytes::from));
    let bytes = Bytes::copy_from_slice(bytemuck::cast_slice(vectors));
    SegmentVectors::open(Path::new("vectors"), distance, DIMENSION, rows, bytes, None, index)
}

pub(super) fn walked_on(segment: &SegmentVectors) -> Quantization {
    segment.report().graph.unwrap().quantization
}

pub(super) fn queries(distance: Distance) -> Vec<PreparedQuery> {
    let vectors = clustered(distance, 60, DIMENSION, 99);
    vectors.chunks(DIMENSION).map(|v| PreparedQuery::new(distance, DIMENSION, v).unwrap()).collect()
}

#[test]
fn recall_holds_under_every_distance_and_filter() {
    let rows = 8_000;
    for distance in DISTANCES {
        let vectors = clustered(distance, rows, DIMENSION, 1);
        let (segment, _) = build(distance, &vectors, Quantization::Int4);
        assert_eq!(walked_on(&segment), Quantization::Int4, "{distance:?}");
        let graph = segment.report().graph.unwrap();
        // Half a byte a component, and a line of bits.
        assert_eq!(graph.code_bytes, rows as u64 * (64 + 32), "{distance:?}");
        let queries = queries(distance);
        let (found, _) = mean_recall(&segment, &queries, None);
        assert!(found >= 0.98, "{distance:?}: recall {found}");
        let narrow = SearchParams { ef: Some(32), ..SearchParams::default() };
        let mut total = 0.0;
        for query in &queries {
            let (found, strategy) = segment.search(query, 10, &narrow, None);
            assert_eq!(strategy, Strategy::Graph { ef: 32 }, "{distance:?}");
            total += recall(&found, &segment.search(query, 10, &SearchParams::EXACT, None).0);
        }
        let found = total / queries.len() as f64;
        assert!(found >= 0.93, "{distance:?}: recall {found} with a narrow beam");
        let mut rng = StdRng::seed_from_u64(6);
        for share in [0.01, 0.1, 0.3, 0.6, 0.95] {
            let allow: RoaringBitmap = (0..rows as u32).filter(|_| rng.random_bool(share)).collect();
            let (recall, _) = mean_recall(&segment, &queries, Some(&allow));
            assert!(recall >= 0.95, "{distance:?} at {share}: recall {recall}");
        }
    }
}

#[test]
fn bounds_of_bits_give_the_true_nearest() {
    let rows = 8_000;
    for distance in DISTANCES {
        let vectors = clustered(distance, rows, DIMENSION, 1);
        let (segment, _) = build(distance, &vectors, Quantization::Auto);
        assert!(segment.has_bits(), "{distance:?}");
        for allow in [0..rows as u32, 7..5_000, 4..9, 3..3].map(RoaringBitmap::from_iter) {
            for query in &queries(distance) {
                let found = segment.nearest_by_bounds(query, 10, &allow);
                assert_eq!(
                    found,
                    Some(segment.search(query, 10, &SearchParams::EXACT, Some(&allow)).0),
                    "{distance:?}"
                );
            }
        }
        let other = PreparedQuery::new(distance, 3, &[1.0; 3]).unwrap();
        assert_eq!(segment.nearest_by_bounds(&other, 10, &RoaringBitmap::from_iter(0..9)), None);
        let plain = open(distance, &vectors, None).unwrap();
        let query = &queries(distance)[0];
        assert_eq!(plain.nearest_by_bounds(query, 10, &RoaringBitmap::from_iter(0..9)), None);
    }
}

#[test]
fn they_are_chosen_where_they_fit_and_int8_where_they_do_not() {
    let distance = Distance::Euclidean;
    let vectors = clustered(distance, 2_000, DIMENSION, 1);
    for (wanted, expected) in [
        (Quantization::Auto, Quantization::Int4),
        (Quantization::Int4, Quantization::Int4),
        (Quantization::Int8, Quantization::Int8),
        (Quantization::None, Quantization::None),
    ] {
        assert_eq!(walked_on(&build(distance, &vectors, wanted).0), expected);
    }
    // One vector that is three times as long as the others: a step for all of them would cut it off.
    let mut uneven = vectors;
    uneven[..DIMENSION].iter_mut().for_each(|x| *x = (*x - 3.0) * 3.0 + 3.0);
    for wanted in [Quantization::Auto, Quantization::Int4] {
        let (segment, _) = build(distance, &uneven, wanted);
        assert_eq!(walked_on(&segment), Quantization::Int8);
        assert!(mean_recall(&segment, &queries(distance), None).0 >= 0.98);
    }
}

#[test]
fn damaged_codes_are_errors_or_answer_without_panic() {
    let distance = Distance::Cosine;
    let vectors = clustered(distance, 1_500, DIMENSION, 1);
    let (_, index) = build(distance, &vectors, Quantization::Auto);
    let query = &queries(distance)[0];
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..200 {
        let mut damaged = index.clone();
        let at = rng.random_range(128..damaged.len());
        damaged[at] ^= 1 << rng.random_range(0..8);
        if let Ok(segment) = open(distance, &vectors, Some(damaged)) {
            let (found, _) = segment.search(query, 10, &SearchParams::default(), None);
            assert!(found.iter().all(|hit| hit.row < 1_500));
        }
    }
    // A header that promises both kinds of codes, with a checksum that fits.
    let mut both = index;
    both[16] |= 2;
    make_checksum_right(&mut both);
    let error = open(distance, &vectors, Some(both)).unwrap_err();
    assert!(error.to_string().contains("expected one kind"), "{error}");
}
