//! How much each segment of a collection may miss, so that all together reach what a search aims at for the least work.
//!
//! A segment with few of the rows has few of the hits, and what it misses counts for little. Twice the beam misses about a
//! quarter, so the work, which goes with the beams, is least where the loss of a segment goes with its share of the rows to
//! the power of -2/3. That holds for hits that lie where rows lie. Those of a question about what came in lately may all lie
//! in one small segment: [`Apportioned::misses`] tells from the hits. It must not know beams or segments.

use crate::schema::RecallTarget;

/// Times the loss aimed at that the hits may be expected to miss before a search looks again.
const MOST_LOSSES: f64 = 2.0;

/// The aims of the segments of one search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Apportioned {
    aim: RecallTarget,
    /// Rows of all segments.
    rows: f64,
    /// Sum of the cube roots of their shares.
    roots: f64,
}

impl Apportioned {
    /// For a search that aims at `aim` among segments of so many rows that may be found.
    pub(crate) fn new(aim: RecallTarget, rows: impl Iterator<Item = u64> + Clone) -> Self {
        let all = rows.clone().sum::<u64>().max(1) as f64;
        Self { aim, rows: all, roots: rows.map(|rows| (rows as f64 / all).cbrt()).sum() }
    }

    /// What to aim at in a segment of so many rows.
    pub(crate) fn aim_for(&self, rows: u64) -> RecallTarget {
        let root = (rows as f64 / self.rows).cbrt();
        let loss = loss_of(self.aim) / (root * root * self.roots);
        RecallTarget::nearest((1.0 - loss) as f32)
    }

    /// Whether hits may be missing because too many lie in segments that were asked for little: `hits` are the aims of
    /// the segment of each, `None` where nothing is missed.
    pub(crate) fn misses(&self, hits: impl Iterator<Item = Option<RecallTarget>>) -> bool {
        let (mut count, mut losses) = (0.0, 0.0);
        for aim in hits {
            count += 1.0;
            losses += aim.map_or(0.0, loss_of);
        }
        losses > MOST_LOSSES * loss_of(self.aim) * count
    }
}

fn loss_of(target: RecallTarget) -> f64 {
    1.0 - f64::from(target.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_segments_lose_together_is_the_loss_aimed_at() {
        for rows in [vec![1_000], vec![500, 500], vec![100_000, 16_000, 5_000, 5_000, 300], vec![7, 0]] {
            let all = rows.iter().sum::<u64>() as f64;
            let apportioned = Apportioned::new(RecallTarget::DEFAULT, rows.iter().copied());
            let losses: Vec<f64> = rows.iter().map(|rows| loss_of(apportioned.aim_for(*rows))).collect();
            let lost: f64 = rows.iter().zip(&losses).map(|(rows, loss)| *rows as f64 / all * loss).sum();
            assert!((lost / loss_of(RecallTarget::DEFAULT) - 1.0).abs() < 0.01, "{rows:?}: {losses:?}");
            assert!(losses.is_sorted(), "the smaller, the more: {rows:?}: {losses:?}");
        }
    }

    #[test]
    fn hits_that_lie_where_few_rows_lie_are_looked_for_again() {
        let rows = [100_000, 16_000, 5_000, 5_000];
        let apportioned = Apportioned::new(RecallTarget::DEFAULT, rows.into_iter());
        let hits = |counts: [usize; 4]| {
            let aims = rows.iter().map(|rows| Some(apportioned.aim_for(*rows)));
            apportioned.misses(aims.zip(counts).flat_map(|(aim, count)| std::iter::repeat_n(aim, count)))
        };
        assert!(!hits([8, 1, 1, 0]), "as the rows lie");
        assert!(!hits([7, 1, 1, 1]));
        assert!(hits([0, 0, 10, 0]));
        assert!(hits([2, 2, 0, 6]));
        assert!(!hits([10, 0, 0, 0]));
        assert!(!hits([0; 4]));
        assert!(!apportioned.misses([None; 10].into_iter()), "all in memtables");
    }
}
