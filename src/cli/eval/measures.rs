//! The measures: nDCG and recall as trec_eval computes them, and percentiles.

use std::collections::HashMap;
use std::time::Duration;

/// Normalised discounted cumulative gain of the first `depth` of a ranking (Järvelin and Kekäläinen, 2002), with the grade
/// as gain and log2 as discount: `sum(grade_i / log2(i + 1)) / the same of the best possible ranking`. Documents without a
/// grade count 0. Without a grade above 0 the measure is not defined; then this is 0.
pub(super) fn ndcg(ranking: &[String], grades: &HashMap<String, u32>, depth: usize) -> f64 {
    let gain = |gains: &mut dyn Iterator<Item = u32>| -> f64 {
        gains.take(depth).enumerate().map(|(rank, grade)| f64::from(grade) / (rank as f64 + 2.0).log2()).sum()
    };
    let mut best: Vec<u32> = grades.values().copied().collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let ideal = gain(&mut best.into_iter());
    if ideal == 0.0 {
        return 0.0;
    }
    gain(&mut ranking.iter().map(|id| grades.get(id).copied().unwrap_or(0))) / ideal
}

/// Share of the relevant documents (grade above 0) among the first `depth`.
pub(super) fn recall(ranking: &[String], grades: &HashMap<String, u32>, depth: usize) -> f64 {
    let relevant = grades.values().filter(|&&grade| grade > 0).count();
    if relevant == 0 {
        return 0.0;
    }
    let found =
        ranking.iter().take(depth).filter(|id| grades.get(*id).is_some_and(|&grade| grade > 0)).count();
    found as f64 / relevant as f64
}

/// The smallest value that `percent` of the values don't exceed (nearest rank), in milliseconds. `sorted` ascends.
pub(super) fn percentile_ms(sorted: &[Duration], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).map_or(0.0, |value| value.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn grades(grades: &[(&str, u32)]) -> HashMap<String, u32> {
        grades.iter().map(|(id, grade)| ((*id).to_owned(), *grade)).collect()
    }

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-4, "{value} is not {expected}");
    }

    #[test]
    fn ndcg_by_hand() {
        let one = grades(&[("a", 1)]);
        near(ndcg(&ids(&["a", "b"]), &one, 10), 1.0);
        // 1 / log2(3)
        near(ndcg(&ids(&["b", "a"]), &one, 10), 0.6309);
        near(ndcg(&ids(&["b", "c"]), &one, 10), 0.0);
        // Grades 3, 2, 3, 0, 1, 2: dcg 6.8611 of 7.1410.
        let six = grades(&[("1", 3), ("2", 2), ("3", 3), ("4", 0), ("5", 1), ("6", 2)]);
        near(ndcg(&ids(&["1", "2", "3", "4", "5", "6"]), &six, 10), 6.8611 / 7.1410);
    }

    #[test]
    fn ndcg_ends_at_its_depth_on_both_sides() {
        let many: Vec<(String, u32)> = (0..20).map(|i| (format!("d{i}"), 1)).collect();
        let many: HashMap<String, u32> = many.into_iter().collect();
        let ranking: Vec<String> = (0..20).map(|i| format!("d{i}")).collect();
        near(ndcg(&ranking, &many, 10), 1.0);
        let behind: Vec<String> = (0..10).map(|i| format!("x{i}")).chain(ranking).collect();
        near(ndcg(&behind, &many, 10), 0.0);
    }

    #[test]
    fn recall_by_hand() {
        let judged = grades(&[("a", 1), ("b", 2), ("c", 0), ("d", 1)]);
        near(recall(&ids(&["c", "a", "x", "b"]), &judged, 100), 2.0 / 3.0);
        near(recall(&ids(&["c", "a", "x", "b"]), &judged, 2), 1.0 / 3.0);
        near(recall(&ids(&["a"]), &grades(&[("a", 0)]), 100), 0.0);
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let values: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        near(percentile_ms(&values, 50.0), 50.0);
        near(percentile_ms(&values, 95.0), 95.0);
        near(percentile_ms(&values, 99.0), 99.0);
        near(percentile_ms(&values[..1], 99.0), 1.0);
        near(percentile_ms(&[], 99.0), 0.0);
    }
}
