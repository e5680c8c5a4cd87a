//! From the rankings of two legs to one.
//!
//! Min-max: Lee, "Analyses of multiple evidence combination", SIGIR 1997. RRF: Cormack, Clarke, Buettcher, SIGIR 2009.

use std::collections::HashMap;
use std::hash::Hash;

use crate::search::{Fusion, Leg, LegScore};

/// A candidate after fusion.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fused<K> {
    /// What was ranked.
    pub(crate) key: K,
    /// The fused score.
    pub(crate) score: f32,
    /// What the vector leg gave.
    pub(crate) vector: Option<LegScore>,
    /// What the keyword leg gave.
    pub(crate) keyword: Option<LegScore>,
}

impl<K> Fused<K> {
    /// What no leg has given anything yet.
    pub(crate) fn new(key: K) -> Self {
        Self { key, score: 0.0, vector: None, keyword: None }
    }

    /// Notes what a leg gave.
    pub(crate) fn add(&mut self, given: LegScore) {
        match given.leg {
            Leg::Vector => self.vector = Some(given),
            Leg::Keyword => self.keyword = Some(given),
        }
    }

    /// What the legs gave, the vector leg first.
    pub(crate) fn legs(&self) -> impl Iterator<Item = &LegScore> {
        self.vector.iter().chain(&self.keyword)
    }
}

/// One leg's ranking, best first.
pub(crate) struct Ranking<'a, K> {
    /// Which leg.
    pub(crate) leg: Leg,
    /// Its share of the fused score.
    pub(crate) weight: f32,
    /// Candidates and raw scores.
    pub(crate) scored: &'a [(K, f32)],
}

/// Fuses; the result is not sorted. A candidate that a leg didn't bring gets nothing from it. Min-max scales by the
/// first `scale_over` candidates of a leg, so that looking further down a ranking doesn't change the scores above.
pub(crate) fn fuse<K: Copy + Eq + Hash>(
    method: Fusion,
    rankings: &[Ranking<'_, K>],
    scale_over: usize,
) -> Vec<Fused<K>> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut fused: Vec<Fused<K>> = Vec::new();
    for ranking in rankings {
        let scale = Scale::of(ranking.scored.get(..scale_over).unwrap_or(ranking.scored));
        for (position, (key, raw)) in ranking.scored.iter().enumerate() {
            let normalized = match method {
                Fusion::MinMax { .. } => scale.apply(*raw),
                Fusion::Rrf { k, .. } => 1.0 / (k + position as f32 + 1.0),
            };
            let place = *places.entry(*key).or_insert_with(|| {
                fused.push(Fused::new(*key));
                fused.len() - 1
            });
            if let Some(candidate) = fused.get_mut(place) {
                candidate.score += ranking.weight * normalized;
                let (leg, weight) = (ranking.leg, ranking.weight);
                candidate.add(LegScore { leg, rank: position + 1, raw: *raw, normalized, weight });
            }
        }
    }
    fused
}

/// Maps the scores of a leg to 0..1.
struct Scale {
    low: f32,
    width: f32,
}

impl Scale {
    fn of<K>(scored: &[(K, f32)]) -> Self {
        let low = scored.iter().map(|(_, score)| *score).fold(f32::INFINITY, f32::min);
        let high = scored.iter().map(|(_, score)| *score).fold(f32::NEG_INFINITY, f32::max);
        Self { low, width: high - low }
    }

    /// A leg whose candidates all score the same says that they are equally good: each gets 1.
    fn apply(&self, score: f32) -> f32 {
        if self.width > 0.0 {
            ((score - self.low) / self.width).max(0.0)
        } else if score < self.low {
            0.0
        } else {
            1.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fused(method: Fusion, vector: &[(u32, f32)], keyword: &[(u32, f32)]) -> Vec<(u32, f32)> {
        let weight = match method {
            Fusion::MinMax { vector_weight } | Fusion::Rrf { vector_weight, .. } => vector_weight,
        };
        let rankings = [
            Ranking { leg: Leg::Vector, weight, scored: vector },
            Ranking { leg: Leg::Keyword, weight: 1.0 - weight, scored: keyword },
        ];
        let mut all: Vec<_> =
            fuse(method, &rankings, 100).into_iter().map(|hit| (hit.key, hit.score)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all
    }

    #[test]
    fn min_max_scales_each_leg_and_counts_missing_as_nothing() {
        let all = fused(
            Fusion::MinMax { vector_weight: 0.5 },
            &[(1, 0.9), (2, 0.7), (3, 0.5)],
            &[(2, 12.0), (4, 2.0)],
        );
        let expected = [(2, 0.75), (1, 0.5), (3, 0.0), (4, 0.0)];
        for ((key, score), (expected_key, expected_score)) in all.iter().zip(expected) {
            assert_eq!(*key, expected_key);
            assert!((score - expected_score).abs() < 1e-5, "{key}: {score}");
        }
    }

    #[test]
    fn rrf_adds_reciprocal_ranks() {
        let all = fused(Fusion::Rrf { k: 60.0, vector_weight: 0.5 }, &[(1, 0.9), (2, 0.7)], &[(2, 12.0)]);
        assert_eq!(all.first().map(|hit| hit.0), Some(2));
        let expected = 0.5 / 62.0 + 0.5 / 61.0;
        assert!(all.first().is_some_and(|hit| (hit.1 - expected).abs() < 1e-7));
    }

    #[test]
    fn equal_scores_and_empty_legs_do_not_divide_by_zero() {
        let all = fused(Fusion::default(), &[(1, 0.5), (2, 0.5)], &[]);
        assert_eq!(all, [(1, 0.5), (2, 0.5)]);
        assert!(fused(Fusion::default(), &[], &[]).is_empty());
    }

    #[test]
    fn looking_further_down_leaves_the_scores_above_alone() {
        let scored = [(1u32, 0.9f32), (2, 0.5), (3, 0.1)];
        let scores = |scored: &[(u32, f32)]| {
            let ranking = Ranking { leg: Leg::Vector, weight: 1.0, scored };
            fuse(Fusion::default(), &[ranking], 2).into_iter().map(|hit| hit.score).collect::<Vec<_>>()
        };
        assert_eq!(scores(&scored[..2]), [1.0, 0.0]);
        assert_eq!(scores(&scored), [1.0, 0.0, 0.0]);
    }

    #[test]
    fn the_order_of_legs_does_not_matter() {
        let vector = [(1u32, 0.9f32), (2, 0.1)];
        let keyword = [(2u32, 3.0f32), (3, 1.0)];
        let a = Ranking { leg: Leg::Vector, weight: 0.5, scored: &vector };
        let b = Ranking { leg: Leg::Keyword, weight: 0.5, scored: &keyword };
        let one: HashMap<_, _> =
            fuse(Fusion::default(), &[a, b], 100).into_iter().map(|hit| (hit.key, hit.score)).collect();
        let a = Ranking { leg: Leg::Vector, weight: 0.5, scored: &vector };
        let b = Ranking { leg: Leg::Keyword, weight: 0.5, scored: &keyword };
        let two: HashMap<_, _> =
            fuse(Fusion::default(), &[b, a], 100).into_iter().map(|hit| (hit.key, hit.score)).collect();
        assert_eq!(one, two);
    }
}
