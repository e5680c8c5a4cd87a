//! Searches of a segment where hits are known from elsewhere.

use super::int4::{DIMENSION, build, queries, walked_on};
use super::*;

#[test]
fn what_lies_below_the_floor_may_stay_away_and_nothing_else() {
    let rows = 8_000;
    let odd: RoaringBitmap = (0..rows as u32).filter(|row| row % 2 == 1).collect();
    for (distance, quantization) in [Distance::Cosine, Distance::Euclidean].into_iter().flat_map(|distance| {
        [Quantization::Int4, Quantization::Int8, Quantization::Binary, Quantization::None]
            .map(|quantization| (distance, quantization))
    }) {
        let vectors = clustered(distance, rows, DIMENSION, 1);
        let (segment, _) = build(distance, &vectors, quantization);
        assert_eq!(walked_on(&segment), quantization, "{distance:?}");
        let case = format!("{distance:?} on {quantization:?}");
        let (mut above, mut of, mut below) = (0, 0, 0);
        for query in &queries(distance) {
            for allow in [None, Some(&odd)] {
                let search = |floor| {
                    let params = SearchParams { floor, ..SearchParams::default() };
                    segment.search(query, 10, &params, allow)
                };
                let (all, way) = search(None);
                for known in [0, 4, 9] {
                    let floor = all[known].score;
                    let (found, same_way) = search(Some(floor));
                    assert_eq!(way, same_way, "{case}");
                    let reaches = |hit: &&Scored| hit.score >= floor;
                    let reaching: Vec<&Scored> = found.iter().filter(reaches).collect();
                    assert!(reaching.iter().all(|hit| all.contains(hit)), "{case}");
                    above += reaching.len();
                    of += all.iter().filter(reaches).count();
                    below += found.len() - reaching.len();
                }
                let nearer = all[0].score.abs().mul_add(0.5, all[0].score);
                let (found, same_way) = search(Some(nearer));
                assert_eq!(way, same_way, "{case}: not taken for a walk that led nowhere");
                below += found.len();
            }
        }
        // Of these a fifth lies at the floor itself, where an error of a few standard errors is enough to lose one.
        assert!(above * 1_000 >= of * 995, "{case}: {above} of {of}");
        let most = match quantization {
            Quantization::Int4 => of * 3 / 5,
            Quantization::Int8 => of / 5,
            _ => 0,
        };
        assert!(below <= most, "{case}: {below} below beside {of} above");
    }
}

#[test]
fn under_dot_there_is_no_floor() {
    let vectors = clustered(Distance::Dot, 4_000, DIMENSION, 1);
    let (segment, _) = build(Distance::Dot, &vectors, Quantization::Auto);
    for query in &queries(Distance::Dot) {
        let search =
            |floor| segment.search(query, 10, &SearchParams { floor, ..SearchParams::default() }, None).0;
        let all = search(None);
        assert_eq!(search(Some(all[4].score)), all);
    }
}
