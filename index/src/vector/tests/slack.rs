//! Walks that go on behind their beam, where nodes are about as near as the hits.

use super::*;

/// Where the header says how neighbours spread.
const SPREAD: std::ops::Range<usize> = 112..116;

fn spread_of(index: &[u8]) -> f32 {
    f32::from_le_bytes(index[SPREAD].try_into().unwrap())
}

fn with_spread(mut index: Vec<u8>, spread: f32) -> Vec<u8> {
    index[SPREAD].copy_from_slice(&spread.to_le_bytes());
    make_checksum_right(&mut index);
    index
}

#[test]
fn what_a_beam_finds_is_found_with_a_slack_and_more() {
    let rows = 12_000;
    for distance in DISTANCES {
        let vectors = clustered(distance, rows, DIMENSION, 1);
        let column = VectorColumn { dimension: DIMENSION, data: &vectors, present: None };
        // On vectors, so that no code decides which node is nearer; by one thread, so that the graph is always the same.
        let params = VectorsParams { quantization: Quantization::None, m: 4, ..params(1) };
        let index = bytes_of(distance, column, &params).unwrap();
        let spread = spread_of(&index);
        let with = open(distance, &vectors, None, Some(index.clone())).unwrap();
        // As indexes are that were written before there was a spread.
        let without = open(distance, &vectors, None, Some(with_spread(index, 0.0))).unwrap();
        let queries = queries(distance, 100);
        let mut gained = 0.0;
        for (k, ef) in [(1, 16), (10, 16), (10, 48), (30, 16), (30, 64)] {
            let case = format!("{distance:?}, {k} hits by a beam of {ef}");
            for query in &queries {
                let params = SearchParams { ef: Some(ef), ..SearchParams::default() };
                let (truth, _) = with.search(query, k, &SearchParams::EXACT, None);
                let [more, beam] = [&with, &without].map(|segment| {
                    let (found, strategy) = segment.search(query, k, &params, None);
                    assert_eq!(strategy, Strategy::Graph { ef: ef.max(k) }, "{case}");
                    recall(&found, &truth)
                });
                assert!(more >= beam, "{case}: {more} with a slack, {beam} without");
                assert!(
                    more == beam || ef > k,
                    "{case}: a beam that just holds the hits doesn't look behind them"
                );
                gained += more - beam;
            }
        }
        // Under dot there is no telling how far is far.
        let tells = distance != Distance::Dot;
        assert_eq!(
            (spread > 0.0, gained > 0.0),
            (tells, tells),
            "{distance:?}: {gained} more, spread {spread}"
        );
    }
}

#[test]
fn a_spread_that_is_none_is_refused() {
    let vectors = clustered(Distance::Cosine, 1_500, DIMENSION, 1);
    let index = index_of(Distance::Cosine, DIMENSION, &vectors, None, 2).unwrap();
    for spread in [f32::NAN, f32::INFINITY, -0.1] {
        let opened = open(Distance::Cosine, &vectors, None, Some(with_spread(index.clone(), spread)));
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("expected a number of at least 0"), "{error}");
    }
    // However far that is, no more nodes are held than a few beams.
    let segment = open(Distance::Cosine, &vectors, None, Some(with_spread(index, f32::MAX))).unwrap();
    let params = SearchParams { ef: Some(32), ..SearchParams::default() };
    for query in &queries(Distance::Cosine, 20) {
        assert_eq!(segment.search(query, 10, &params, None).0.len(), 10);
    }
}
