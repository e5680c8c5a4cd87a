//! Counts of sampled recall, and where they steer searches. In memory only: after a restart they begin anew.

use parking_lot::Mutex;

use crate::recall::Steering;
use crate::schema::RecallTarget;

/// What one more sample leaves of the weight of those before: the newest hundred or so make the recent value.
const DECAY: f64 = 0.99;

/// Recall of the sampled searches of a vector space since the collection was opened.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SampledRecall {
    /// Searches that were compared with the truth.
    pub samples: u64,
    /// Samples that were left out because the comparison of others took all the time that it may.
    pub dropped: u64,
    /// Hits that the compared searches should have found.
    pub wanted: u64,
    /// Of these, hits that they found. An equal score is as good.
    pub found: u64,
    /// Recall of about the newest hundred samples; `None` before the first.
    pub recent: Option<f64>,
}

impl SampledRecall {
    /// Share that was found over all samples; `None` before the first.
    pub fn recall(&self) -> Option<f64> {
        (self.wanted > 0).then(|| self.found as f64 / self.wanted as f64)
    }
}

/// Counts of a collection, by vector space.
#[derive(Debug)]
pub(crate) struct RecallMeter {
    spaces: Vec<Space>,
}

#[derive(Debug, Default)]
struct Space {
    counts: Mutex<Counts>,
    steering: Steering,
}

#[derive(Debug, Default)]
struct Counts {
    samples: u64,
    dropped: u64,
    wanted: u64,
    found: u64,
    /// The same with older samples counting less.
    recent_wanted: f64,
    recent_found: f64,
}

impl RecallMeter {
    /// Zeros for so many vector spaces.
    pub(crate) fn new(spaces: usize) -> Self {
        Self { spaces: (0..spaces).map(|_| Space::default()).collect() }
    }

    /// Counts a compared search. One that had nothing to find says nothing. `aimed`: at what, where the engine chose how wide
    /// to walk.
    pub(crate) fn record(&self, space: usize, found: u64, wanted: u64, aimed: Option<RecallTarget>) {
        let Some(space) = self.spaces.get(space).filter(|_| wanted > 0) else { return };
        let mut counts = space.counts.lock();
        if let Some(target) = aimed {
            space.steering.learn(target, found, wanted);
        }
        counts.samples += 1;
        counts.wanted += wanted;
        counts.found += found;
        counts.recent_wanted = counts.recent_wanted * DECAY + wanted as f64;
        counts.recent_found = counts.recent_found * DECAY + found as f64;
    }

    /// Counts a sample that was left out.
    pub(crate) fn record_dropped(&self, space: usize) {
        if let Some(space) = self.spaces.get(space) {
            space.counts.lock().dropped += 1;
        }
    }

    /// What a search of a space has to aim at, as the samples tell, to reach a target.
    pub(crate) fn aim(&self, space: usize, target: RecallTarget) -> RecallTarget {
        self.spaces.get(space).map_or(target, |space| space.steering.aim(target))
    }

    /// The counts of a space.
    pub(crate) fn report(&self, space: usize) -> SampledRecall {
        let Some(space) = self.spaces.get(space) else { return SampledRecall::default() };
        let counts = space.counts.lock();
        SampledRecall {
            samples: counts.samples,
            dropped: counts.dropped,
            wanted: counts.wanted,
            found: counts.found,
            recent: (counts.samples > 0).then(|| counts.recent_found / counts.recent_wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn recent_follows_what_changes_and_the_mean_remembers() {
        let meter = RecallMeter::new(2);
        assert_eq!(meter.report(1), SampledRecall::default());
        (0..500).for_each(|_| meter.record(1, 10, 10, None));
        (0..500).for_each(|_| meter.record(1, 5, 10, None));
        let report = meter.report(1);
        assert_eq!((report.samples, report.wanted, report.found), (1_000, 10_000, 7_500));
        assert_eq!(report.recall(), Some(0.75));
        assert!((report.recent.unwrap() - 0.5).abs() < 0.01, "{report:?}");
        assert_eq!(meter.report(0), SampledRecall::default(), "another space");
    }

    #[test]
    fn the_first_sample_is_the_recent_value() {
        let meter = RecallMeter::new(1);
        meter.record(0, 9, 10, None);
        assert_eq!((meter.report(0).recent, meter.report(0).recall()), (Some(0.9), Some(0.9)));
    }

    #[test]
    fn what_had_nothing_to_find_or_has_no_space_is_not_counted() {
        let meter = RecallMeter::new(1);
        meter.record(0, 0, 0, None);
        meter.record(7, 1, 1, None);
        meter.record_dropped(7);
        assert_eq!(meter.report(0), SampledRecall::default());
        assert_eq!((meter.report(0).recall(), meter.report(7).samples), (None, 0));
        meter.record_dropped(0);
        assert_eq!(meter.report(0).dropped, 1);
    }
}
